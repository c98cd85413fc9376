// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Every context switch of the host runs this program. It looks up both threads, and returns if neither is of a target.

// Task states as in the last argument of the tracepoint (include/linux/sched.h).
#define TASK_INTERRUPTIBLE 0x1
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_STOPPED 0x4
#define TASK_TRACED 0x8
#define TASK_EXITING (0x10 | 0x20 | 0x80)
#define TASK_WAKING 0x200
#define TASK_NOLOAD 0x400
#define TASK_FROZEN 0x8000 // since 6.1: in the freezer of cgroup v1 (kernel/freezer.c)

// A flag in task->jobctl since 5.2: the thread stays in the freezer of cgroup v2, in interruptible sleep
// (kernel/signal.c, do_freezer_trap). include/linux/sched/jobctl.h defines the number.
#define JOBCTL_TRAP_FREEZE (1UL << 23)

static __always_inline bool trapped_by_freezer(struct task_struct *task)
{
	if (bpf_rdonly_cast) {
		struct task_struct *known = bpf_rdonly_cast(task, bpf_core_type_id_kernel(struct task_struct));

		return known->jobctl & JOBCTL_TRAP_FREEZE;
	}
	return BPF_CORE_READ(task, jobctl) & JOBCTL_TRAP_FREEZE;
}

static __always_inline u32 state_after_switch(struct task_struct *task, bool preempt, u64 state)
{
	if (preempt || state == 0)
		return T_RUNNABLE;
	if (state & (TASK_STOPPED | TASK_TRACED))
		return T_STOPPED;
	if (state & TASK_FROZEN)
		return T_FROZEN;
	if ((state & TASK_UNINTERRUPTIBLE) && !(state & TASK_NOLOAD))
		return T_UNINTERRUPTIBLE;
	return trapped_by_freezer(task) ? T_FROZEN : T_SLEEPING;
}

// Another CPU may wake a thread that is leaving this one (kernel/sched/core.c, try_to_wake_up, waits for on_cpu). The
// waker's program then saw the thread on its CPU and expected it to stay there.
#define WOKEN_WITHIN 16 // ticks, 1 µs

static __always_inline bool already_woken(struct thread *th, struct task_struct *task, u64 now)
{
	u16 woken_on_cpu = READ_ONCE(&th->woken_on_cpu);

	// The waker may have read its clock after this CPU read its own.
	if (woken_on_cpu && (u16)((now | 1) - woken_on_cpu + WOKEN_WITHIN) < 2 * WOKEN_WITHIN)
		return true;
	if (bpf_rdonly_cast && bpf_core_field_exists(task->__state)) {
		struct task_struct *known = bpf_rdonly_cast(task, bpf_core_type_id_kernel(struct task_struct));

		return known->__state == TASK_WAKING;
	}
	return false;
}

// The thread has become runnable. If it still carries a P, the P waits with it for a CPU.
static __noinline void make_p_runnable(struct target *t, struct thread *th, u64 now)
{
	struct p_record *r;
	u32 slot, tid;

	if (!t || !th)
		return;
	d_leave(t, th, now);
	if (!th->slot)
		return;
	tid = th->tid;
	slot = th->slot - 1;
	r = bpf_map_lookup_elem(&p_records, &slot);
	if (r && word_owner(READ_ONCE(&r->word)) == tid) {
		struct move mv = {.now = now, .owner = tid, .require_owner = tid, .thread = T_RUNNABLE};

		mv.state = word_state(READ_ONCE(&r->word));
		p_move(t, r, slot, &mv);
	}
}

static __always_inline void switched_out(struct target *t, u32 index, struct task_struct *task, u64 began, u32 state)
{
	u64 now = began >> TICK_SHIFT;
	struct thread *th = thread_of(t, index, task, bpf_get_current_pid_tgid());

	if (!th)
		return;
	thread_move(t, th, now, state);
	if (state != T_RUNNABLE && already_woken(th, task, now)) {
		state = T_RUNNABLE;
		thread_move(t, th, now, state);
		th->woken = 1;
	}
	observe(t, th, task, now, state);
	if (state == T_UNINTERRUPTIBLE)
		d_enter(t, th, now);
	else
		d_leave(t, th, now); // it was woken before it left its CPU
	// The thread may have been woken after the swap of its word. Then the waker changed the P and the D count
	// first, and this program changed them last.
	if (state != T_RUNNABLE && word_thread(READ_ONCE(&th->word)) == T_RUNNABLE)
		make_p_runnable(t, th, now);
}

static __always_inline void switched_in(struct target *t, u32 index, struct task_struct *task, u64 began, u32 tid)
{
	u64 now = began >> TICK_SHIFT, handed;
	struct thread *th = thread_of(t, index, task, tid);
	struct p_record *r;
	bool woken, preempted;
	u32 slot;

	if (!th)
		return;
	preempted = th->switch_in && !th->woken;
	thread_move(t, th, now, T_ON_CPU);
	d_leave(t, th, now);
	th->switch_in = now;
	th->ticks_without_p = 0;
	th->released_slot = 0;
	th->woken_on_cpu = 0;
	handed = th->handed_at;
	th->handed_at = 0;
	woken = th->woken;
	th->woken = 0;
	if (!th->slot) {
		if (preempted)
			th->lost_at = now; // it is still in the call in which it lost its P
		return;
	}
	slot = th->slot - 1;
	r = bpf_map_lookup_elem(&p_records, &slot);
	if (!r)
		return;
	u64 w = READ_ONCE(&r->word);
	if (word_owner(w) != tid) {
		th->slot = 0; // another thread took it meanwhile
		if (preempted)
			th->lost_at = now;
		return;
	}
	struct move mv = {.now = now, .owner = tid, .require_owner = tid, .state = P_RUNNING, .thread = T_ON_CPU};
	// A thread that was preempted in a system call or as a GC worker goes on there. A thread that was woken from
	// sleep is about to leave the call.
	if (word_thread(w) == T_RUNNABLE && !handed && word_state(w) != P_IDLE && !woken)
		mv.state = word_state(w);
	if (handed) {
		mv.now += READ_ONCE(&t->lag[LAG_HANDED]);
		if (event_sampled(now))
			__sync_fetch_and_add(&t->lag_bursts[LAG_HANDED], EVENT_SAMPLE);
	}
	if (p_move(t, r, slot, &mv) == MOVED && handed && handed < now) {
		th->last_slot = th->slot;
		count_wake_wait(r, (now - handed) << TICK_SHIFT);
	}
}

// The order of the tracepoint's arguments in this kernel. The agent reads it from the kernel's BTF
// (pkg/collector/tracepoints_linux.go). Most kernels have preempt, prev, next and, since 5.19, prev_state. 5.18 has
// prev_state before prev (kernel commits fa2c3254d7cf and 9c2136be0878).
const volatile u32 switch_args_order;

struct switch_args {
	struct task_struct *prev;
	struct task_struct *next;
	u64 state; // of prev, with the flags of include/linux/sched.h
};

// Each argument is read at a constant offset, because the verifier accepts no other.
static __always_inline void read_switch_args(struct bpf_raw_tracepoint_args *ctx, struct switch_args *a)
{
	u64 first = ctx->args[1], second = ctx->args[2];

	asm volatile("" : "+r"(first), "+r"(second));
	if (switch_args_order == STATE_FIRST) {
		u64 third = ctx->args[3];

		asm volatile("" : "+r"(third));
		a->state = first;
		a->prev = (struct task_struct *)second;
		a->next = (struct task_struct *)third;
		return;
	}
	a->prev = (struct task_struct *)first;
	a->next = (struct task_struct *)second;
	a->state = 0;
	if (switch_args_order == STATE_LAST) {
		u64 third = ctx->args[3];

		asm volatile("" : "+r"(third));
		a->state = third;
	} else if (bpf_core_field_exists(a->prev->__state)) {
		a->state = BPF_CORE_READ(a->prev, __state);
	}
}

static __always_inline void thread_leaves(struct target *t, u32 index, struct switch_args *a, bool preempt, u32 tid,
					  u64 began)
{
	if (a->state & TASK_EXITING)
		thread_exited(t, tid, began >> TICK_SHIFT);
	else
		switched_out(t, index, a->prev, began, state_after_switch(a->prev, preempt, a->state));
	count_cost(t, began);
}

SEC("raw_tp/sched_switch")
int sched_switch(struct bpf_raw_tracepoint_args *ctx)
{
	struct switch_args a;
	u32 index = 0;
	u64 began = 0, from, ids;
	struct target *t;

	read_switch_args(ctx, &a);
	ids = current_ids(a.prev); // prev is still the current task
	t = ids >> 32 ? target_of(ids >> 32, &index) : 0; // the idle task has tgid 0
	if (t) {
		began = bpf_ktime_get_ns();
		if (agent_silent(began))
			return 0;
		thread_leaves(t, index, &a, ctx->args[0], ids, began);
	}
	ids = ids_of(a.next);
	t = ids >> 32 ? target_of(ids >> 32, &index) : 0;
	if (t) {
		// One thread leaves and the other comes at the same tick. Otherwise the time of this program would
		// belong to no thread.
		from = began && event_sampled(began) ? bpf_ktime_get_ns() : 0;
		if (!began)
			began = bpf_ktime_get_ns();
		if (agent_silent(began))
			return 0;
		switched_in(t, index, a.next, began, ids);
		count_cost_from(t, began, from ? from : began);
	}
	if (began)
		count_run_time(TIMED_SWITCH, began);
	return 0;
}
