// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
#ifndef PSCOPE_MAPS_H
#define PSCOPE_MAPS_H

// Which target has a tgid, by the tgid modulo 65536, four to a word: its index in targets, 0 for none, HINT_SHARED where target_index must be asked because
// two targets fall together. Every context switch and wake-up of the host looks here and nearly all leave again: the look-up in an array is inlined, where
// a hash table's costs more than all the rest for a process that is no target, and a tenth of it for one that is.
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

// The same without chance meetings.
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

// The agent maps this one into its memory: reading a P costs no system call, and the agent's repairs are the same
// compare-and-swap as the kernel's. Slot 0 is never used.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4096); // the agent sets it
	__type(key, u32);
	__type(value, struct p_record);
} p_records SEC(".maps");

// The keys of the table of threads (threads.h).
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); // the agent sets it, and that of the entries
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
