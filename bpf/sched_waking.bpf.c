// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// A thread of a target is about to be woken, on the waker's CPU and in the waker's memory.

// Rule 2: a waker of the same process has put the P it hands over into the woken M's nextp (runtime/proc.go, startm); from now until
// that M runs is wake wait, and the P counts as idle. An M that has not left its CPU yet takes it up at once.
static __always_inline void hand_over(struct target *t, struct thread *th, struct task_struct *task, u64 now, bool stays)
{
	struct m_view m = {};
	struct p_record *r;
	struct thread *waker;
	u32 slot = 0, tid, from = bpf_get_current_pid_tgid();
	u64 w, since = now;
	bool own;

	if (!th->m || read_m(t, th->m, th, task, &m) || !m.nextp)
		return;
	tid = th->tid;
	r = handed_over(t, m.nextp, from, &slot);
	if (!r)
		return;
	// The waker's own P: it let go of it a little earlier, as the samples know that found it without.
	w = load(&r->word);
	waker = word_owner(w) == from || elapsed(now, w) < LAG_MOST ? thread_at(from) : 0;
	own = waker && (word_owner(w) == from || waker->gave == slot + 1);
	if (own) {
		since = given_back(t, waker, now, LAG_PASSED);
		lagged(t, waker, LAG_PASSED, now);
		waker->slot = 0;
		waker->gave = 0;
		waker->unheld = 0;
		waker->lost = since;
	}
	struct move mv = {.now = since, .owner = tid, .state = stays ? P_RUNNING : P_IDLE, .thread = stays ? T_ON_CPU : T_RUNNABLE};
	if (p_move(t, r, slot, &mv) != MOVED)
		return;
	if (!own && word_thread(mv.word) == T_ON_CPU)
		deprived(mv.word, since);
	r->unread = 1;
	th->slot = slot + 1;
	if (!stays)
		th->handed = now;
}

// The thread is woken, off its CPU or, if it stays, on it.
static __noinline void woken(struct target *t, struct thread *th, struct task_struct *task, u64 now, bool stays)
{
	if (!t || !th)
		return;
	if (stays) {
		th->stayed = now | 1;
	} else {
		thread_move(t, th, now, T_RUNNABLE);
		th->woken = 1;
		waits_with_its_p(t, th, now);
	}
	if ((u32)(bpf_get_current_pid_tgid() >> 32) == t->tgid)
		hand_over(t, th, task, now, stays);
}

// args: the woken task
SEC("raw_tp/sched_waking")
int sched_waking(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	u64 ids = ids_of(task);
	u32 index = 0;
	struct target *t = target_of(ids >> 32, &index);
	struct thread *th;
	u64 began, now;
	bool stays;

	if (!t)
		return 0;
	began = bpf_ktime_get_ns();
	if (agent_silent(began))
		return 0;
	now = began >> TICK_SHIFT;
	th = thread_of(t, index, task, ids);
	if (!th)
		return 0;
	// Woken before it has left the CPU, a thread does not sleep at all: it stays where it is, and no switch will say so.
	stays = word_thread(load(&th->word)) == T_ON_CPU;
	woken(t, th, task, now, stays);
	// Unless it has left meanwhile, or leaves now and finds that it has been woken. A swap, because it orders what both write before what they read.
	if (stays && word_thread(__sync_val_compare_and_swap(&th->word, 0, 0)) != T_ON_CPU)
		woken(t, th, task, now, false);
	measured(t, began);
	return 0;
}
