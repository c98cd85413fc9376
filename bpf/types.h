// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// The types that the programs and the agent share. bpf2go makes the Go types from them.
#ifndef PSCOPE_TYPES_H
#define PSCOPE_TYPES_H

#include "shared.h"

// The kernel side counts time in ticks of 64 ns of CLOCK_MONOTONIC.
//
// A word holds what must change together:
// - since when, in 36 bits of ticks. They wrap after 73 minutes; the agent writes a word of ten minutes' age anew.
// - the thread that carries the P, in 22 bits: PID_MAX_LIMIT is 4194304 (include/linux/threads.h).
// - the thread's state and the P's state.
//
// One compare-and-swap moves a P from one state to the next. Only the CPU whose swap succeeds accounts the time between
// the two words. So two CPUs neither count that time twice nor lose it. Nothing waits for a lock: the scheduler
// tracepoints can interrupt a uprobe at any instruction.
//
// Numbers that the agent needs as well are enumerators, here and in the other headers. bpf2go reads enumerators from
// the object's BTF.
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

// The records of a target's Ps lie in chunks of this size.
enum chunks {
	CHUNK_SHIFT = 3,
	CHUNK_PS = 1 << CHUNK_SHIFT,
};
#define MAX_CHUNKS 128
#define MAX_PS (MAX_CHUNKS * CHUNK_PS)
#define MAX_TARGETS 1024
#define STOP_ARRIVALS 64

// The table target.p_places.
enum p_place_bounds {
	P_PLACES_SHIFT = 8,
	P_PLACE_TRIES = 2,
};
#define P_PLACES (1 << P_PLACES_SHIFT)

// An M may have a P in gcstop for a moment after the world was started.
#define GCSTOP_GRACE 15625 // ticks, 1 ms
// A mark worker may be off its CPU when marking ends. It stays a worker until it has parked.
#define MARKING_GRACE 15625000 // ticks, 1 s

enum lost_reason {
	// The ring buffer was full. The totals are right, but the raw record lacks an interval or a stop.
	LOST_RING_FULL = 0,
	LOST_INTERVAL_BUDGET = 1, // Likewise, over the target's budget of raw intervals. p_record.unsent counts these.
	LOST_THREADS_FULL = 2,	// the thread table is full, so a thread is not tracked
	LOST_READ_FAULT = 3,	// the target's memory was not resident
	LOST_CONTENDED = 4,	// a word changed under every attempt to swap it
	LOST_NO_SLOT = 5,	// the P has no record yet
	LOST_BAD_MEMORY = 6,	// the target's memory held an impossible value
	LOST_LAST_P = 7,	// tier 2: the P on which a goroutine ran last was overwritten
	LOST_REASONS = 8,
};

// A thread takes its P a little after it has come onto the CPU, and gives it back a little before it leaves. The
// tracepoints show only when it comes and leaves. The lag between them is measured: it is the time of the samples that
// find a thread on the CPU without a P, divided by the number of bursts that end the same way. A burst is the time from
// one switch onto a CPU to the next switch off it.
enum lag_bounds {
	MAX_LAG = 312,	// ticks, 20 µs: a thread that has no P for longer works without one
};

enum lag {
	LAG_TAKEN = 0,	// the burst took a P and left the CPU with it
	LAG_GIVEN = 1,	// the burst had or took a P, and left the CPU without it
	LAG_PASSED = 2,	// the burst gave its P to another M and woke that M
	// The burst lost its P in a system call, or began in a call without a P. It took a P later, maybe much later.
	LAG_LOST = 3,
	LAG_HANDED = 4,	// the burst began with a P in m.nextp, and the M has yet to take it
	// The burst gave its P back because the world stops. Its thread wakes the thread that waits for that, which
	// takes longer.
	LAG_HALTED = 5,
	LAGS = 6,
};

// What the programs do for a target.
enum activity {
	NOT_OBSERVED = 0,	// nothing
	OBSERVED = 1,	// everything
	STOPS_ONLY = 2,	// They report stops but change no record. The agent updates the records.
};

// Where the fields are in this target's memory. An offset counts bytes from the start of the runtime's struct.
struct layout {
	s32 tls_g;	   // of the g slot, from the thread pointer; on amd64
	u16 g_m;
	u16 g_atomicstatus;
	u16 g_gopc;
	u16 m_procid;
	u16 m_curg;
	u16 m_p;
	u16 m_nextp;
	u16 m_syscalltick;
	u16 p_status;	   // p.id is at 0. All fields of p up to p_m lie within the first 64 bytes.
	u16 p_link;
	u16 p_schedtick;
	u16 p_syscalltick;
	u16 p_m;
	u16 fixed_m;	   // a thread keeps its m for life: no cgo (runtime/proc.go, needm)
	u16 in_pid_namespace; // the process has its own PID namespace, and m.procid is the thread's number in it
	u16 has_stop_start_arg; // startTheWorldWithSema gets the start of the stop as an argument (since Go 1.22)
	// Offset from the stack pointer to the end time of the stop, when startTheWorldWithSema calls wakep. 0: not
	// known
	u16 stop_end_sp_offset;
	u32 p_gcmode;	   // p.gcMarkWorkerMode
	u64 sched_pidle;   // address of sched.pidle in this process
	u64 gc_worker_from;   // the code whose go statement starts the GC's mark workers; 0: not known
	u64 gc_worker_to;
};

// The probes write the stop_ fields without a swap, because the runtime lets one thread at a time stop and start the
// world (worldsema). They also write no_gcstop_from and marking_until without a swap. That is a benign race because the
// agent moves these two on by a swap, which fails where the probe was first.
struct target {
	u32 tgid;
	u32 active;	   // enum activity
	struct layout layout;
	u32 n_ps;	   // number of Ps that have a record
	u32 intervals;	   // not 0: send raw intervals
	u64 stop_start;	   // tick; 0: the world runs
	u64 stop_requested; // tick at which stop_world ran: no P halted earlier for this stop
	u64 stop_start_runtime; // start of the stop by the runtime's clock, in ticks; 0: not known
	u64 start_requested;   // tick at which start_world ran
	u32 stop_reason;
	u32 stop_tid;	   // of the M that stopped the world last
	u64 stops;
	u32 end_probe_attached; // not 0: world_started reports the stop, not start_world
	u32 lag[LAGS];	   // ticks by which the edge of a burst is moved; the agent sets them
	u64 sent_limit;	   // sent may not pass this; the agent raises it
	// From this tick on no P that an M has is in gcstop. All ones during a stop, and where stops are not observed.
	u64 no_gcstop_from;
	u64 marking_until; // From this tick on no GC worker runs. All ones during a GC, and where GCs are not observed.
	u16 chunk[MAX_CHUNKS]; // the slot of P i is chunk[i / 8] * 8 + i % 8; 0: no slot yet
	// slots of Ps, by a hash of the address of the runtime's p (p_place_of). A P may be missing.
	u16 p_places[P_PLACES];
	// Several CPUs write all that follows, all the time. It shares no cache line with what stands before, which
	// changes rarely.
	u64 padding[8];
	u64 sent;	   // intervals and stops in the ring; sent and lost together are all there were
	u64 lag_bursts[LAGS]; // bursts of each kind
	u64 lag_ticks[LAGS]; // time of the samples that found their thread on a CPU without a P
	u64 events;	   // One event in 16 is counted, times 16. probe_ns is the programs' time for events.
	u64 probe_ns;
	u64 lost[LOST_REASONS];
};

// Some fields are written without a swap or an atomic addition:
// - schedtick and schedtick_stale: a benign race because rule 4 uses both as hints only. Where two CPUs write them at
//   once, one burst may be counted or left out.
// - arrived: a benign race because two CPUs that see the same P halt write times that lie less than an event apart.
//
// The order of the fields is by cache lines of 64 bytes, so that one event touches few lines. A line that another CPU
// wrote last is expensive to read.
struct p_record {
	u64 word;
	u64 birth;	   // tick at which the record began: at any instant, the sum of time[] is word.since - birth
	u64 addr;	   // of the runtime's p
	u32 target;
	u32 id;
	u32 schedtick;	   // the last value that was read
	u32 schedtick_stale; // not 0: the P has run since schedtick was read, as far as we know
	u64 arrived;	   // tick at which it halted in the present stop; 0: it has not
	u64 unsent;	   // raw intervals over the target's budget
	u64 d_word;	   // threads in uninterruptible sleep: since (36 bits), and their number above
	u64 time[P_STATES * T_STATES]; // ticks by P state and thread state (time_index)
	u64 d_time;	   // ticks with at least one such thread
	u64 stop_time;	   // ticks in gcstop, of stops that have ended
	u64 samples[3];	   // ticks of the on-CPU samples that found it running, in a syscall, in a GC worker
	u64 moves[P_STATES * P_STATES];
	u64 wake_sum;	   // ns
	u64 wake[WAKE_BUCKETS];
	u64 padding[4];	   // to the end of the cache line
};

// One set of the thread table: the tids of its threads, 0 for a free place.
#define THREAD_WAYS 8
enum thread_key {
	THREAD_ENTERING_BIT = 31, // set in a key until its entry is complete
};
#define THREAD_ENTERING (1U << THREAD_ENTERING_BIT)
struct thread_set {
	u32 key[THREAD_WAYS];
};

// Most fields are written by one CPU at a time: the CPU that the thread is on, leaves or comes to. A CPU that wakes the
// thread or takes its P writes some of them at the same moment, without a swap:
// - woken, woken_on_cpu: a benign race because the waker and the CPU that the thread leaves both write before a swap of
//   word, and read after it (sched_waking.bpf.c).
// - slot, handed_at: a benign race because both CPUs then write the same hand-over. update_released_p does not touch a
//   P in the thread's m.nextp.
// - lost_at: a benign race because both CPUs write the present time.
//
// The order of the fields is by cache lines of 64 bytes. Every event uses the first two lines. The third is used when
// the thread is first seen and when it is shown.
struct thread {
	u64 word;	   // since and thread state; the owner bits are 0
	u64 m;		   // address of the runtime's m; 0: not known
	u64 switch_in;	   // tick of the last switch onto a CPU
	u64 handed_at;	   // tick at which a P was put into its m.nextp; 0: none, or it has run since
	u64 held_at;	   // tick at which it was last seen on a CPU with its P
	// tick at which it was last known to have no P: another thread took it in a system call, or it gave it back
	u64 lost_at;
	u32 target;
	u32 slot;	   // of the P it carries, plus one; 0: none
	u32 last_slot;	   // of the P it carried last, plus one; 0: none
	u8 woken;	   // it slept before it became runnable: it was not preempted
	u8 m_verified;	   // its m has named this thread in m.procid
	u16 woken_on_cpu; // low bits of the tick, made odd, of the last wake-up while on its CPU; 0: none

	u64 time[T_STATES - 1]; // by thread state, less one: time in T_NONE is not counted
	u32 tid;
	u32 d_slot;	   // of the P that counts it as in D, plus one; 0: none
	u32 ticks_without_p; // ticks of this burst's samples that found it without a P
	u32 released_slot; // slot, plus one, of the P that a sample of this burst found given back

	u32 tgid;
	u32 sample_ticks; // ticks that the present sample represents
	char comm[16];
	u64 padding[5];	   // to the end of the cache line
};

// The samples of one CPU.
struct cpu_samples {
	u64 samples;	   // taken on this CPU, whatever ran
	// Ticks that one sample represents: the period, or more where samples are missing. The agent sets it.
	u32 ticks_each;
	u32 pad;
};

// The position of prev_state in the arguments of the tracepoint sched_switch.
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
	u8 start_by_probe; // not 0: start is our program's clock reading, not the runtime's
	u8 end_by_probe;	   // likewise for end
	u8 pad;
	u32 target;
	u64 start;	   // ticks
	u64 end;
	u32 reason;
	u32 n_ps;
	s32 slowest;	   // P; -1: none known
	u32 slowest_after; // ticks
	u32 after[STOP_ARRIVALS]; // ticks from start, plus one; 0: did not halt (its M stopped the world)
};

struct exec_event {
	u8 kind;
	u8 pad[3];
	u32 tgid;
};

// Tier 2 (bpf/migration.bpf.c). The starts of goroutines are counted in a window of time. The probe may be attached for
// longer.
struct migration_window {
	u64 begin;	   // ns
	u64 end;	   // may become earlier than begin + length
	u64 length;
	u32 number;	   // of the window: part of the hash, so that entries of other windows are not found
	u32 set_mask;	   // of last_ran
	u32 g_goid;	   // offset of goid in the runtime's g
	u32 pad;
	u64 hits_without_p; // hits of the probe where the P is not known
};

// The time between two starts of a goroutine is counted in eighths of the window.
#define MIGRATION_GAPS 8

struct p_start_counts {
	u64 hits;	   // of the probe, also outside of the window
	u64 ns;		   // time in the program, of one hit in 16, times 16
	u64 first;	   // starts in the window of goroutines that had not started in it before
	u64 repeated;	   // starts in the window of other goroutines
	u64 migrated[MIGRATION_GAPS]; // those of them that were on another P than the last
	u64 gap_ns[MIGRATION_GAPS]; // sum of the times between these starts and the last ones, in ns
};

#define RAN_WAYS 8
struct ran_set {
	u64 way[RAN_WAYS];
};

#endif
