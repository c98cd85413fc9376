// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// A cpu-clock sample on every CPU: what the scheduler tracepoints can't show because nothing was switched. It tells running from syscall
// and gc, and finds a P that was taken or given back by a thread that stays on its CPU.

// Ticks between two samples of a CPU. The agent sets it and samples more often for a while when it has something to learn; what the context
// says of the period stays what it was at first.
volatile u32 sample_period;

SEC("perf_event")
int sample(struct bpf_perf_event_data *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 index = 0, tid = id, slot, state;
	struct target *t = target_of(id >> 32, &index);
	struct p_record *r;
	struct task_struct *task;
	struct thread *th;
	u64 began;

	if (!t || !tid)
		return 0;
	began = bpf_ktime_get_ns();
	task = (struct task_struct *)bpf_get_current_task();
	th = thread_of(t, index, task, tid);
	if (!th)
		return 0;
	thread_move(t, th, began >> TICK_SHIFT, T_ON_CPU);
	th->weight = sample_period;
	observe(t, th, task, began >> TICK_SHIFT, T_ON_CPU);
	if (th->slot) {
		slot = th->slot - 1;
		r = bpf_map_lookup_elem(&p_records, &slot);
		if (r) {
			state = word_state(load(&r->word));
			if (state == P_RUNNING)
				__sync_fetch_and_add(&r->samples[0], sample_period);
			else if (state == P_SYSCALL)
				__sync_fetch_and_add(&r->samples[1], sample_period);
			else if (state == P_GC)
				__sync_fetch_and_add(&r->samples[2], sample_period);
		}
	}
	measured(t, began);
	return 0;
}
