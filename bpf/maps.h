// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
#ifndef PSCOPE_MAPS_H
#define PSCOPE_MAPS_H

// The target of a tgid, at the tgid modulo 65536. One word holds four hints of 16 bits: the index in targets, 0 for
// none, or HINT_SHARED where two targets have the same place. Then target_index has the index. Every context switch and
// wake-up of the host looks here, and nearly all of them leave again. The verifier inlines the look-up in an array. A
// look-up in a hash table costs more than all the rest for a process that is no target (docs/decisions/collector.md).
enum hints {
	HINTS = 65536,
	HINT_SHARED = 0xffff,
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HINTS / 4);
	__type(key, u32);
	__type(value, u64);
} target_hints SEC(".maps");

// The index of every target, by its tgid.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_TARGETS);
	__type(key, u32);   // tgid
	__type(value, u32); // index in targets
} target_index SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_TARGETS);
	__type(key, u32);
	__type(value, struct target);
} targets SEC(".maps");

// The agent maps this array into its memory. It reads a P without a system call, and repairs it by the same
// compare-and-swap as the programs. Slot 0 is not used.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4096); // the agent sets it
	__type(key, u32);
	__type(value, struct p_record);
} p_records SEC(".maps");

// The keys of the thread table (threads.h).
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); // the agent sets it, and that of threads
	__type(key, u32);
	__type(value, struct thread_set);
} thread_sets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, THREAD_WAYS);
	__type(key, u32); // set * THREAD_WAYS + way
	__type(value, struct thread);
} threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20); // the agent sets it
} events SEC(".maps");

// Losses that belong to no target.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LOST_REASONS);
	__type(key, u32);
	__type(value, u64);
} lost_global SEC(".maps");

#endif
