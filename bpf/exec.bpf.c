// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// A process runs a new program: it may be a new target, or a target that no longer is the program it was.
SEC("raw_tp/sched_process_exec")
int exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct exec_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		lose_global(LOST_RING_FULL); // the agent's own scan of /proc finds it a second later
		return 0;
	}
	e->kind = EVENT_EXEC;
	e->tgid = bpf_get_current_pid_tgid() >> 32;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}
