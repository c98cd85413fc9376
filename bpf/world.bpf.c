// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Tier 1: the world stops and starts (runtime/proc.go, stopTheWorldWithSema and startTheWorldWithSema). No probe is
// a uretprobe.

struct world_walk {
	struct target *t;
	struct stop_event *e;
	u64 now;
	u32 stopper;
};

static long halt_one(u32 id, struct world_walk *w)
{
	struct target *t = w->t;
	struct p_record *r;
	u32 slot = 0, state, thread;
	u64 word;

	if (!t)
		return 1;
	r = record_by_id(t, id, &slot);
	if (!r)
		return 0;
	r->arrived = 0;
	word = READ_ONCE(&r->word);
	state = word_state(word);
	thread = word_thread(word);
	// The M that stops the world halts idle Ps and those of threads that are blocked in a system call. Running Ps
	// halt themselves.
	if ((state == P_IDLE && thread == T_NONE) || (state == P_SYSCALL && thread != T_ON_CPU)) {
		struct move mv = {.now = w->now, .state = P_GCSTOP, .thread = T_NONE};
		if (p_move(t, r, slot, &mv) == MOVED)
			r->arrived = w->now;
	}
	return 0;
}

static long release_one(u32 id, struct world_walk *w)
{
	struct target *t = w->t;
	struct p_record *r;
	u32 slot = 0;

	if (!t)
		return 1;
	r = record_by_id(t, id, &slot);
	if (!r)
		return 0;
	if (word_state(READ_ONCE(&r->word)) == P_GCSTOP) {
		struct move mv = {.now = w->now, .state = P_IDLE, .thread = T_NONE};
		p_move(t, r, slot, &mv);
	}
	if (r->arrived && r->arrived < w->now)
		__sync_fetch_and_add(&r->stop_time, w->now - r->arrived);
	return 0;
}

static long report_arrival(u32 id, struct world_walk *w)
{
	struct target *t = w->t;
	struct stop_event *e = w->e;
	struct p_record *r;
	u64 arrived, after;
	u32 slot = 0;

	if (!t || !e)
		return 1;
	r = record_by_id(t, id, &slot);
	if (!r)
		return 0;
	arrived = r->arrived;
	r->arrived = 0;
	// Where only stops are reported, halt_one does not clear arrived. An older time belongs to another stop.
	if (!arrived || arrived > w->now || arrived < t->stop_requested)
		return 0;
	after = arrived > e->start ? arrived - e->start : 0;
	if (e->slowest < 0 || after > e->slowest_after) {
		e->slowest = id;
		e->slowest_after = after;
	}
	if (id < STOP_ARRIVALS)
		e->after[id & (STOP_ARRIVALS - 1)] = after + 1;
	return 0;
}

// Reports a stop that is over. ended is its end by the runtime's clock, or 0.
static __noinline void report_stop(struct target *t, u32 index, u64 now, u64 ended)
{
	struct world_walk w = {.t = t, .now = now};
	struct stop_event *e;

	// The probes were attached during a stop: its start is not known.
	if (!t || !t->stop_start)
		return;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (e) {
		__sync_fetch_and_add(&t->sent, 1);
		__builtin_memset(e, 0, sizeof(*e));
		e->kind = EVENT_STOP;
		e->target = index;
		e->start = t->stop_start_runtime ? t->stop_start_runtime : t->stop_start;
		e->end = ended ? ended : now;
		e->start_by_probe = !t->stop_start_runtime;
		e->end_by_probe = !ended;
		e->reason = t->stop_reason;
		e->n_ps = t->n_ps;
		e->slowest = -1;
		w.e = e;
		bpf_loop(t->n_ps, report_arrival, &w, 0);
		bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	} else {
		count_lost(t, LOST_RING_FULL);
	}
	__sync_fetch_and_add(&t->stops, 1);
	t->stop_start = 0;
	t->no_gcstop_from = now + GCSTOP_GRACE;
	if (t->stop_reason == STOP_MARK_TERMINATION)
		t->marking_until = now + MARKING_GRACE;
}

// Integer arguments by Go's ABIInternal (src/cmd/compile/abi-internal.md).
static __always_inline u64 first_argument(struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(ctx, ax);
#else
	return BPF_CORE_READ(ctx, regs[0]);
#endif
}

static __always_inline u64 third_argument(struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(ctx, cx);
#else
	return BPF_CORE_READ(ctx, regs[2]);
#endif
}

// The tick of a time by the runtime's clock, or 0 if it can't belong to this stop. A clock that is read after our
// probe's shows the same time or a later one.
static __always_inline u64 tick_in_stop(u64 ns, u64 from, u64 to)
{
	u64 tick = ns >> TICK_SHIFT;

	return tick >= from && tick <= to ? tick : 0;
}

SEC("uprobe/stop_world")
int stop_world(struct pt_regs *ctx)
{
	u64 id = bpf_get_current_pid_tgid(), began = bpf_ktime_get_ns();
	u32 index = 0;
	struct target *t = any_target_of(id >> 32, &index);

	if (!t || agent_silent(began))
		return 0;
	struct world_walk w = {.t = t, .now = began >> TICK_SHIFT};
	t->no_gcstop_from = ~0ULL;
	t->stop_reason = (u8)first_argument(ctx);
	if (t->stop_reason == STOP_SWEEP_TERMINATION)
		t->marking_until = ~0ULL;
	t->stop_tid = id;
	if (READ_ONCE(&t->active) == OBSERVED)
		bpf_loop(t->n_ps, halt_one, &w, 0);
	t->stop_requested = w.now;
	t->stop_start_runtime = 0;
	t->stop_start = tick_now(); // without the time that this probe takes
	count_cost(t, began);
	return 0;
}

SEC("uprobe/start_world")
int start_world(struct pt_regs *ctx)
{
	u64 id = bpf_get_current_pid_tgid(), began = bpf_ktime_get_ns();
	u32 index = 0;
	struct target *t = any_target_of(id >> 32, &index);

	if (!t || agent_silent(began))
		return 0;
	struct world_walk w = {.t = t, .now = began >> TICK_SHIFT};
	// The runtime reads its clock some microseconds after our probe does, because of the probe's trap and cold
	// code. With the probe's time, a short stop would seem much longer.
	if (t->layout.has_stop_start_arg)
		t->stop_start_runtime = tick_in_stop(third_argument(ctx), t->stop_start, w.now);
	t->start_requested = w.now;
	if (READ_ONCE(&t->active) == OBSERVED)
		bpf_loop(t->n_ps, release_one, &w, 0);
	if (!t->end_probe_attached)
		report_stop(t, index, w.now, 0);
	count_cost(t, began);
	return 0;
}

// In startTheWorldWithSema, after the runtime has read the clock for the end of the stop.
SEC("uprobe/world_started")
int world_started(struct pt_regs *ctx)
{
	u64 id = bpf_get_current_pid_tgid(), began = bpf_ktime_get_ns(), ended = 0;
	u32 index = 0;
	struct target *t = any_target_of(id >> 32, &index);

	if (!t || agent_silent(began))
		return 0;
	// After marking, the GC passes an earlier time, which it uses for its statistics (runtime/mgc.go,
	// gcMarkTermination). The world was still stopped then.
	if (t->layout.stop_end_sp_offset && !read_user64(BPF_CORE_READ(ctx, sp) + t->layout.stop_end_sp_offset, &ended))
		ended = tick_in_stop(ended, t->start_requested, began >> TICK_SHIFT);
	report_stop(t, index, began >> TICK_SHIFT, ended);
	count_cost(t, began);
	return 0;
}
