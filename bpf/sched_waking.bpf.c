// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// A thread of a target is about to be woken. The program runs on the waker's CPU, in the waker's memory.

// Rule 2: a waker of the same process has put a P into the woken M's nextp (runtime/proc.go, startm). From now until
// that M runs is wake wait, and the P counts as idle. If the M has not left its CPU yet, it takes the P at once.
// Returns 1 if there was a P.
static __always_inline int hand_over(struct target *t, struct thread *th, struct task_struct *task, u64 now, bool stays)
{
	struct m_view m = {};
	struct p_record *r;
	struct thread *waker;
	u32 slot = 0, tid, from = bpf_get_current_pid_tgid();
	u64 w, since = now;
	bool own;

	if (!th->m || read_m(t, th->m, th, task, &m) || !m.nextp)
		return 0;
	tid = th->tid;
	r = handed_p_record(t, m.nextp, from, &slot);
	if (!r)
		return 0;
	// It was the waker's own P. The waker gave it back a little earlier, as the samples that found it without show.
	w = READ_ONCE(&r->word);
	waker = word_owner(w) == from || elapsed(now, w) < MAX_LAG ? thread_at(from) : 0;
	own = waker && (word_owner(w) == from || waker->released_slot == slot + 1);
	if (own) {
		since = give_back_time(t, waker, now, LAG_PASSED);
		count_lag(t, waker, LAG_PASSED, now);
		waker->slot = 0;
		waker->released_slot = 0;
		waker->ticks_without_p = 0;
		waker->lost_at = since;
	}
	struct move mv = {.now = since,
			  .owner = tid,
			  .state = stays ? P_RUNNING : P_IDLE,
			  .thread = stays ? T_ON_CPU : T_RUNNABLE};
	if (p_move(t, r, slot, &mv) != MOVED)
		return 0;
	if (!own && word_thread(mv.old_word) == T_ON_CPU)
		note_p_taken(mv.old_word, since);
	r->schedtick_stale = 1;
	th->slot = slot + 1;
	if (!stays)
		th->handed_at = now;
	return 1;
}

// A thread puts a P into another M's nextp and is not known to have a P itself. It may have taken one in this burst,
// which no tracepoint showed: netpoll gave it work, and it wakes the next M (runtime/proc.go, resetspinning). This
// program can see that P now. When the thread leaves its CPU it is often too late: the thread gave the P back, another
// M took it from the idle list, and put it into a third M's nextp.
static __noinline int waker_took(struct target *t, u64 now)
{
	u32 tid = bpf_get_current_pid_tgid(), slot = 0;
	struct thread *th = thread_at(tid);
	struct m_view m = {};
	struct p_record *r;
	bool lost;

	if (!t || !th || !th->m || (th->slot && th->lost_at <= th->held_at))
		return 0;
	if (read_m(t, th->m, th, (struct task_struct *)bpf_get_current_task(), &m) || !m.p)
		return 0;
	r = record_by_known_address(t, m.p, &slot);
	if (!r)
		return 0;
	struct move mv = {.now = now,
			  .owner = tid,
			  .state = P_RUNNING,
			  .thread = T_ON_CPU,
			  .unseen_state = P_RUNNING,
			  .unseen_from = take_time(t, th, now, th->slot && th->slot != slot + 1, &lost)};
	if (p_move(t, r, slot, &mv) != MOVED)
		return 0;
	if (lost || mv.unseen_ticks) {
		count_lag(t, th, lost ? LAG_LOST : LAG_TAKEN, now);
		th->ticks_without_p = 0;
	}
	r->schedtick_stale = 1;
	th->slot = slot + 1;
	th->last_slot = slot + 1;
	th->held_at = now;
	return 1;
}

// The thread is woken. If it stays, it is on its CPU, else it is not. Returns 1 if a P was handed to it.
static __noinline int thread_woken(struct target *t, struct thread *th, struct task_struct *task, u64 now, bool stays)
{
	if (!t || !th)
		return 0;
	if (stays) {
		th->woken_on_cpu = now | 1;
	} else {
		thread_move(t, th, now, T_RUNNABLE);
		th->woken = 1;
		make_p_runnable(t, th, now);
	}
	if ((u32)(bpf_get_current_pid_tgid() >> 32) == t->tgid)
		return hand_over(t, th, task, now, stays);
	return 0;
}

// args: the task that is woken
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
	int handed;

	if (!t)
		return 0;
	began = bpf_ktime_get_ns();
	if (agent_silent(began))
		return 0;
	now = began >> TICK_SHIFT;
	th = thread_of(t, index, task, ids);
	if (!th)
		return 0;
	// A thread that is woken before it has left the CPU does not sleep at all. It stays there, and no context
	// switch follows.
	stays = word_thread(READ_ONCE(&th->word)) == T_ON_CPU;
	handed = thread_woken(t, th, task, now, stays);
	// The thread may have left meanwhile, or it may leave now and find that it was woken. The swap orders the
	// writes of both CPUs before their reads.
	if (stays && word_thread(__sync_val_compare_and_swap(&th->word, 0, 0)) != T_ON_CPU)
		handed |= thread_woken(t, th, task, now, false);
	if (handed)
		waker_took(t, now);
	count_cost(t, began);
	count_run_time(TIMED_WAKING, began);
	return 0;
}
