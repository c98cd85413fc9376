// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// A process executes another program: it may become a target, or cease to be the target it was. A process exits, and
// another process may get its number.

// From now on the layout is wrong for this process's memory. The agent learns of that later. Until then the target must
// not account what the new program does.
static __always_inline void stop_observing(u32 tgid)
{
	u32 index = 0;
	struct target *t = any_target_of(tgid, &index);

	if (t)
		t->active = 0;
}

SEC("raw_tp/sched_process_exec")
int exec(struct bpf_raw_tracepoint_args *ctx)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct exec_event *e;

	stop_observing(tgid);
	if (agent_silent(bpf_ktime_get_ns()))
		return 0; // an agent that resumes looks at all processes
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_lost_global(LOST_RING_FULL); // the agent's scan of /proc finds the process a second later
		return 0;
	}
	e->kind = EVENT_EXEC;
	e->tgid = tgid;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

// args: the thread that exits. The last thread of a process has decreased live before this (kernel/exit.c, do_exit).
SEC("raw_tp/sched_process_exit")
int process_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	u64 ids = ids_of(task);
	u32 index = 0, tgid = ids >> 32;
	struct target *t = any_target_of(tgid, &index);

	if (!t || BPF_CORE_READ(task, signal, live.counter) > 0)
		return 0;
	thread_exited(t, ids, tick_now());
	stop_observing(tgid);
	return 0;
}
