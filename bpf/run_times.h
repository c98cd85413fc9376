// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// The durations of the runs of the scheduler's programs, for bench/cost. sched_switch runs with the run queue's lock
// held, so that its longest run matters. The kernel's own statistics have the mean only.
#ifndef PSCOPE_RUN_TIMES_H
#define PSCOPE_RUN_TIMES_H

// Whether runs are timed. The agent leaves it 0, and the verifier then removes the code.
const volatile u32 time_runs;

enum run_times_bounds {
	RUN_BUCKETS = 512,
	RUN_BUCKET_SHIFT = 6, // of 64 ns each
};

enum timed_program {
	TIMED_SWITCH = 0,
	TIMED_WAKING = 1,
	TIMED_CLOCK = 2, // no program: the time between two readings of the clock, which is what else delays a run
	TIMED_PROGRAMS = 3,
};

struct run_lengths {
	u64 count[RUN_BUCKETS]; // runs of targets by their duration; the last bucket has all longer ones
	u64 longest;		// ns
	u64 sum;		// ns
};

// By program, for each CPU.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TIMED_PROGRAMS);
	__type(key, u32);
	__type(value, struct run_lengths);
} run_times SEC(".maps");

static __always_inline void count_run(u32 program, u64 ns)
{
	struct run_lengths *r = bpf_map_lookup_elem(&run_times, &program);
	u64 bucket = ns >> RUN_BUCKET_SHIFT;

	if (!r)
		return;
	if (bucket >= RUN_BUCKETS)
		bucket = RUN_BUCKETS - 1;
	r->count[bucket & (RUN_BUCKETS - 1)]++;
	r->sum += ns;
	if (ns > r->longest)
		r->longest = ns;
}

// began is the time at which the run had found its target.
static __always_inline void count_run_time(u32 program, u64 began)
{
	u64 now;

	if (!time_runs)
		return;
	now = bpf_ktime_get_ns();
	count_run(program, now - began);
	count_run(TIMED_CLOCK, bpf_ktime_get_ns() - now);
}

#endif
