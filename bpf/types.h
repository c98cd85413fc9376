// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// What the programs and the agent share. bpf2go makes the Go types from these, so they are written once.
#ifndef PSCOPE_TYPES_H
#define PSCOPE_TYPES_H

#include "shared.h"

// Time inside the kernel side is counted in ticks of 64 ns of CLOCK_MONOTONIC.
//
// A word holds what must change together: since when (36 bits of ticks, wraps after 73 minutes; the agent writes a word
// anew that is ten minutes old), the thread that carries the P (22 bits: the kernel's PID_MAX_LIMIT is 4194304), its state and the P's. One compare-and-swap moves a P
// from one state to the next, and only the CPU whose swap succeeds accounts the time between: two CPUs can't count it twice or lose it.
// Nothing waits for a lock, which matters because a uprobe can be interrupted by the scheduler tracepoints at any instruction.
//
// Numbers that the agent needs as well are enumerators, here and in the other headers: those are in the object's BTF, from where bpf2go
// takes them.
enum word_bits {
	TICK_SHIFT = 6,
	SINCE_BITS = 36,
	OWNER_BITS = 22,
	OWNER_SHIFT = 36,
	STATE_SHIFT = 58,
	THREAD_SHIFT = 61,
};
#define SINCE_MASK ((1ULL << SINCE_BITS) - 1)
#define OWNER_MASK ((1ULL << OWNER_BITS) - 1)

// The records of a target's Ps lie in chunks of so many.
enum chunks {
	CHUNK_SHIFT = 3,
	CHUNK_PS = 1 << CHUNK_SHIFT,
};
#define MAX_CHUNKS 128
#define MAX_PS (MAX_CHUNKS * CHUNK_PS)
#define MAX_TARGETS 1024
#define STOP_ARRIVALS 64

// The table target.at.
enum p_place_bounds {
	P_PLACES_SHIFT = 8,
	P_PLACE_TRIES = 2,
};
#define P_PLACES (1 << P_PLACES_SHIFT)

// After the world has been started again an M may for a moment still have a P that is marked as halted.
#define GCSTOP_GRACE 15625 // ticks, 1 ms
// A mark worker may be off the CPU when the marking ends, and is one until it has parked.
#define MARKING_GRACE 15625000 // ticks, 1 s

enum lost_reason {
	LOST_RING_FULL = 0,	// the ring buffer was full: an interval or stop is missing from the raw record, not from the totals
	LOST_INTERVAL_BUDGET = 1, // raw intervals over the target's budget, likewise; counted in p_record.unsent
	LOST_THREADS_FULL = 2,	// a thread could not be tracked: the thread table is full
	LOST_READ_FAULT = 3,	// the target's memory was not resident at that moment
	LOST_CONTENDED = 4,	// a word changed under every attempt to swap it
	LOST_NO_SLOT = 5,	// a P the agent has not made room for yet
	LOST_BAD_MEMORY = 6,	// the target's memory made no sense there
	LOST_LAST_P = 7,	// tier 2: where a goroutine ran last had to be forgotten
	LOST_REASONS = 8,
};

// A thread takes its P a little after it has come onto the CPU and gives it back a little before it leaves; the tracepoints show only the latter
// two. How much lies between is measured: the samples that find a thread on the CPU without a P, divided by the bursts that end the same way.
enum lag_bounds {
	MAX_LAG = 312,	// ticks, 20 µs: what is more is no hand-over but a thread that works without a P
};

enum lag {
	LAG_TAKEN = 0,	// the burst took a P and left the CPU with it
	LAG_GIVEN = 1,	// the burst left the CPU without the P it had, whether it came with it or took it
	LAG_PASSED = 2,	// the burst gave its P to another M and woke that
	LAG_LOST = 3,	// the burst lost its P in a call, or began in one without a P, and took one later; that may be much later
	LAG_HANDED = 4,	// the burst began with a P that had been handed to its M, which has yet to take it
	LAG_HALTED = 5,	// the burst gave its P back because the world is being stopped: it wakes who waits for that, which takes longer
	LAGS = 6,
};

// What the programs do about a target.
enum activity {
	NOT_OBSERVED = 0,	// nothing
	OBSERVED = 1,	// everything
	STOPS_ONLY = 2,	// between two windows: stops are told of, but no record is touched, which the agent sees to then
};

// Where things are in this target's memory. Offsets are bytes from the start of the runtime's struct.
struct layout {
	s32 tls_g;	   // of the g slot from the thread pointer, on amd64
	u16 g_m;
	u16 g_atomicstatus;
	u16 g_gopc;
	u16 m_procid;
	u16 m_curg;
	u16 m_p;
	u16 m_nextp;
	u16 m_syscalltick;
	u16 p_status;	   // p.id is at 0 and all of these within the first 64 bytes
	u16 p_link;
	u16 p_schedtick;
	u16 p_syscalltick;
	u16 p_m;
	u16 fixed_m;	   // a thread's m is its own for life: no cgo (runtime/proc.go, needm)
	u16 in_pid_namespace;	   // the process lives in a PID namespace of its own: m.procid is the thread's number in there
	u16 has_stop_start_arg;	   // startTheWorldWithSema is called with the time at which the stop began (since Go 1.22)
	u16 stop_end_sp_offset;	   // where that keeps the time at which the stop ended, from the stack pointer at its call of wakep; 0: not known
	u32 p_gcmode;	   // gcMarkWorkerMode
	u64 sched_pidle;   // address of sched.pidle in this process
	u64 gc_worker_from;   // the code whose go statement starts the GC's mark workers; 0: not known
	u64 gc_worker_to;
};

// The stop_ fields are written without a swap by the probes: the runtime lets one thread at a time stop and start the
// world (worldsema). So are no_gcstop_from and marking_until; a benign race with the agent, because it moves them on by a
// swap, which fails where the probe was first.
struct target {
	u32 tgid;
	u32 active;	   // enum activity
	struct layout layout;
	u32 n_ps;	   // Ps that have a record
	u32 intervals;	   // send raw intervals
	u64 stop_start;	   // tick; 0: the world runs
	u64 stop_requested;	   // tick at which our program saw the stop asked for: no P came to rest for it before
	u64 stop_start_runtime;	   // likewise by the runtime's own clock reading; 0: not known
	u64 start_requested;   // tick at which the world began to be started again
	u32 stop_reason;
	u32 stop_tid;	   // of the M that stopped the world last
	u64 stops;
	u32 end_probe_attached;	   // world_started is attached and tells of the stop, not start_world
	u32 lag[LAGS];	   // ticks by which the edge of a burst is moved, set by the agent
	u64 sent_limit;	   // how far sent may go; the agent moves it on
	u64 no_gcstop_from;	   // tick from which on no P that an M has is halted: all ones during a stop, and where stops aren't seen
	u64 marking_until; // tick from which on no GC worker runs: all ones during a GC, and where it isn't known
	u16 chunk[MAX_CHUNKS]; // the slot of P i is chunk[i / 8] * 8 + i % 8; 0: no room yet
	u16 p_places[P_PLACES]; // slots of Ps, by a hash of where the runtime's p is (p_place_of); not all need be here
	u64 padding[8];	   // what follows is written all the time, by several CPUs; what comes before is not, and shares no cache line with it
	u64 sent;	   // intervals and stops in the ring; with those counted as lost, all that came to be
	u64 lag_bursts[LAGS]; // bursts with such an edge
	u64 lag_ticks[LAGS]; // what the samples stand for that found their thread on a CPU without a P
	u64 events;	   // and their time in programs: one in 16 is counted, times 16
	u64 probe_ns;
	u64 lost[LOST_REASONS];
};

// Fields that are written without a swap or an atomic addition:
// - schedtick and schedtick_stale: a benign race, because both are hints of rule 4; where two CPUs write them at once, one burst
//   may be counted or left out.
// - arrived: a benign race, because two CPUs that see the same P come to rest write times that lie less than an event
//   apart.
//
// What one event touches lies together, in lines of 64 bytes from the start: each line that another CPU wrote last costs as much as dozens of instructions.
struct p_record {
	u64 word;
	u64 birth;	   // tick at which the record began: the sum of time[][] is word.since - birth at any instant
	u64 addr;	   // of the runtime's p
	u32 target;
	u32 id;
	u32 schedtick;	   // as last seen
	u32 schedtick_stale;	   // it has run, as far as we know, since schedtick was read
	u64 arrived;	   // tick at which it came to rest in the present stop
	u64 unsent;	   // raw intervals over the target's budget
	u64 d_word;	   // threads in uninterruptible sleep: since (36 bits) and how many (low bits above)
	u64 time[P_STATES * T_STATES]; // ticks
	u64 d_time;	   // ticks with at least one
	u64 stop_time;	   // ticks halted in finished stops
	u64 samples[3];	   // ticks that on-CPU samples stand for which found it running, in a syscall, in a GC worker
	u64 moves[P_STATES * P_STATES];
	u64 wake_sum;	   // ns
	u64 wake[WAKE_BUCKETS];
	u64 padding[4];	   // up to the next line
};

// One set of the table of threads: the tids of those in it, 0 for a free place.
#define THREAD_WAYS 8
enum thread_key {
	THREAD_ENTERING_BIT = 31, // in a key: the entry is not complete yet
};
#define THREAD_ENTERING (1U << THREAD_ENTERING_BIT)
struct thread_set {
	u32 key[THREAD_WAYS];
};

// Most fields are written by the CPU that the thread is on, leaves or comes to: one at a time. A CPU that wakes it or
// takes its P writes some of them at the same moment, without a swap:
// - woken, woken_on_cpu: a benign race, because who wakes the thread and the one that it leaves each write before a swap of
//   word and look after it (sched_waking.bpf.c).
// - slot, handed: a benign race, because both CPUs then write the same hand-over; released leaves a P alone that is on
//   its way to the thread.
// - lost: a benign race, because both times are now.
//
// In lines of 64 bytes by what is used together: the first two by every event, the third when the thread is met and when it is shown.
struct thread {
	u64 word;	   // since and thread state; the owner bits are unused
	u64 m;		   // address of the runtime's m; 0: not known
	u64 switch_in;	   // tick of the last switch onto a CPU
	u64 handed_at;	   // tick at which a P was handed to it; 0: none or it has run since
	u64 held_at;	   // tick at which it was last seen on a CPU with the P it carries
	u64 lost_at;	   // tick at which it was last known to be without its P: that was taken from it in a call, or given back
	u32 target;
	u32 slot;	   // of the P it carries, plus one
	u32 last_slot;	   // of the P it last carried, plus one
	u8 woken;	   // it slept before it became runnable: it was not preempted
	u8 m_verified;	   // its m has been seen to name it
	u16 woken_on_cpu;	   // 0, or low bits of the tick, odd, at which it was last woken while on its CPU

	u64 time[T_STATES - 1]; // by thread state, less one: a thread is never T_NONE for a time that counts
	u32 tid;
	u32 d_slot;	   // of the P whose D count it is in, plus one
	u32 ticks_without_p;	   // ticks that the samples of this burst stand for which found it without a P
	u32 released_slot;	   // slot of the P, plus one, that a sample of this burst found given back

	u32 tgid;
	u32 sample_ticks;	   // ticks that the present sample stands for
	char comm[16];
	u64 padding[5];	   // up to the next line
};

// The samples of one CPU.
struct cpu_samples {
	u64 samples;	   // that came, whatever ran
	u32 ticks_each;	   // ticks that one stands for. The agent sets it: the time between two, or more where some of them don't come
	u32 pad;
};

// Where the tracepoint sched_switch has the state of the thread that leaves.
enum switch_order {
	STATE_LAST = 0,
	STATE_FIRST = 1,
	STATE_ABSENT = 2,
};

enum event_kind {
	EVENT_INTERVAL = 1,
	EVENT_STOP = 2,
	EVENT_EXEC = 3,
};

struct interval_event {
	u8 kind;
	u8 state;
	u8 thread;
	u8 pad;
	u32 slot;
	u64 start;	   // ticks
	u64 end;
};

struct stop_event {
	u8 kind;
	u8 start_by_probe;	   // start is when our program read the clock, not the runtime
	u8 end_by_probe;	   // likewise
	u8 pad;
	u32 target;
	u64 start;	   // ticks
	u64 end;
	u32 reason;
	u32 n_ps;
	s32 slowest;	   // P; -1: none known
	u32 slowest_after; // ticks
	u32 after[STOP_ARRIVALS]; // ticks from start, plus one; 0: did not arrive (it stopped the world itself)
};

struct exec_event {
	u8 kind;
	u8 pad[3];
	u32 tgid;
};

// Tier 2 (bpf/migration.bpf.c). A window in which the starts of goroutines are watched: the probe may be in the code for longer.
struct migration_window {
	u64 begin;	   // ns
	u64 end;	   // may be moved to an earlier time than begin + length
	u64 length;
	u32 number;	   // of the window: what was learnt in another must not be found
	u32 set_mask;	   // of last_ran
	u32 g_goid;	   // where goid is in the runtime's g
	u32 pad;
	u64 hits_without_p;	   // hits of which the P is not known
};

// By how much of the window, in eighths, a goroutine's start came after its last.
#define MIGRATION_GAPS 8

struct p_start_counts {
	u64 hits;	   // of the probe, also outside of the window
	u64 ns;		   // in the program, from one hit in 16
	u64 first;	   // starts in the window of goroutines that were not seen before in it
	u64 repeated;	   // starts of the others
	u64 migrated[MIGRATION_GAPS]; // those of them on another P than the last
	u64 gap_ns[MIGRATION_GAPS]; // the time since the last start that these took together, in ns
};

#define RAN_WAYS 8
struct ran_set {
	u64 way[RAN_WAYS];
};

#endif
