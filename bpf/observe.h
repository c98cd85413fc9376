// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Finds the P of a thread, on that thread's CPU. docs/decisions/collector.md has the rules by their numbers.
#ifndef PSCOPE_OBSERVE_H
#define PSCOPE_OBSERVE_H

// IDLE_LIST_MAX is how many Ps of the idle list are read at most. The UNCHANGED bounds are how many Ps without news are
// passed before the search ends. A longer burst passes more of them, because other threads may meanwhile have put Ps in
// front of this thread's.
#define IDLE_LIST_MAX 32
#define IDLE_LIST_MIN_UNCHANGED 2
#define IDLE_LIST_MAX_UNCHANGED 8
#define IDLE_LIST_MORE_UNCHANGED (IDLE_LIST_MAX_UNCHANGED - IDLE_LIST_MIN_UNCHANGED)
#define IDLE_LIST_UNCHANGED_SHIFT 9 // one more for every 512 ticks, 33 µs

static __always_inline void note_schedtick(struct p_record *r, struct p_view *p)
{
	r->schedtick = p->schedtick;
	r->schedtick_stale = 0;
}

static __always_inline void d_leave(struct target *t, struct thread *th, u64 now)
{
	u32 slot = th->d_slot;
	struct p_record *r;

	// The CPU that the thread leaves and the CPU that wakes it may both find it counted. The swap lets one of them
	// subtract it.
	if (!slot || __sync_val_compare_and_swap(&th->d_slot, slot, 0) != slot)
		return;
	slot--;
	r = bpf_map_lookup_elem(&p_records, &slot);
	if (r)
		d_change(t, r, now, -1);
}

static __always_inline void d_enter(struct target *t, struct thread *th, u64 now)
{
	u32 slot = th->last_slot;
	struct p_record *r;

	if (!slot || th->d_slot)
		return;
	slot--;
	r = bpf_map_lookup_elem(&p_records, &slot);
	if (!r)
		return;
	// Another CPU may wake the thread meanwhile. Who finds d_slot set must find the thread counted, or the count
	// never returns to 0. So the count changes first. Where d_slot is set too late for the waker, the switch onto a
	// CPU subtracts the thread.
	d_change(t, r, now, 1);
	th->d_slot = slot + 1;
}

// The address of a slot's P in the target's memory.
static __always_inline u64 slot_address(u32 slot)
{
	struct p_record *r = bpf_map_lookup_elem(&p_records, &slot);

	return r ? READ_ONCE(&r->addr) : 0;
}

// The state of a P that no M has.
static __always_inline u32 state_without_owner(u32 status)
{
	return status == P_GCSTOP ? P_GCSTOP : status == P_DEAD ? P_DEAD : P_IDLE;
}

static __always_inline void note_arrival(struct target *t, struct p_record *r, u64 now)
{
	if (READ_ONCE(&t->stop_start) && !r->arrived)
		r->arrived = now;
}

// Counts a burst whose edge no tracepoint shows.
static __always_inline void count_lag(struct target *t, struct thread *th, u32 lag, u64 now)
{
	if (event_sampled(now))
		__sync_fetch_and_add(&t->lag_bursts[lag], EVENT_SAMPLE);
	if (th->ticks_without_p)
		__sync_fetch_and_add(&t->lag_ticks[lag], th->ticks_without_p);
}

// The tick at which a thread gave back the P that it is now found without, or that it passes on now. It is not before
// the burst.
static __always_inline u64 give_back_time(struct target *t, struct thread *th, u64 now, u32 kind)
{
	u64 on = elapsed(now, word_of(th->switch_in, 0, 0, 0)), lag = READ_ONCE(&t->lag[kind]);

	return now - (lag < on ? lag : on);
}

// Another thread took the P from the one that carried it. The runtime takes Ps from Ms in system calls
// (runtime/proc.go, retake and forEachP). That M stays on its CPU and will take another P, which no tracepoint shows.
static __always_inline void note_p_taken(u64 word, u64 now)
{
	u32 tid = word_owner(word);
	struct thread *th;

	if (!tid || tid == (u32)bpf_get_current_pid_tgid())
		return;
	th = thread_at(tid);
	if (th)
		th->lost_at = now;
}

// The tick of this burst at which the thread took its present P, which was not known to be its own. This is the
// beginning of the burst, unless the thread had another P in it or was seen without one. If it had another P, nothing
// shows when it changed over. The middle of the time between the two observations is right on average.
static __always_inline u64 take_time(struct target *t, struct thread *th, u64 now, bool other, bool *lost)
{
	u64 at = th->switch_in, held = th->held_at;

	*lost = false;
	if (!at)
		return 0;
	*lost = th->lost_at >= at && th->lost_at > held;
	if (*lost)
		return th->lost_at + READ_ONCE(&t->lag[LAG_LOST]);
	at += READ_ONCE(&t->lag[LAG_TAKEN]);
	if (other) {
		if (held < at)
			held = at;
		return now > held ? now - (now - held) / 2 : now;
	}
	return at;
}

// Brings the record of the thread's former P up to date from the P's memory. Returns 1 if the P was on the CPU and is
// idle or in gcstop now. It is a global function for the reason of check_idle_p.
__noinline int update_released_p(struct target *t, struct thread *th, u64 now)
{
	struct p_record *r;
	struct p_view p = {};
	u32 slot, tid;
	u64 w;

	if (!t || !th || !th->slot)
		return 0;
	tid = th->tid;
	slot = th->slot - 1;
	r = bpf_map_lookup_elem(&p_records, &slot);
	w = r ? READ_ONCE(&r->word) : 0;
	// The P was put into this thread's m.nextp after its m was read.
	if (word_owner(w) == tid && word_state(w) == P_IDLE && word_thread(w) == T_RUNNABLE)
		return 0;
	th->slot = 0;
	if (!r || word_owner(w) != tid)
		return 0;
	if (read_p(t, r->addr, &p))
		return 0;
	struct move mv = {.now = now, .require_owner = tid};
	int given;
	if (p.status == P_IDLE || p.status == P_GCSTOP || p.status == P_DEAD) {
		mv.state = state_without_owner(p.status);
		mv.thread = T_NONE;
		if (mv.state == P_GCSTOP)
			note_arrival(t, r, now);
	} else {
		// Another M has the P. It can only be on a CPU now. Its next switch, its next sample or the agent's
		// snapshot shows which M it is.
		mv.state = p.status == P_SYSCALL ? P_SYSCALL : P_RUNNING;
		mv.thread = T_ON_CPU;
	}
	given = p_move(t, r, slot, &mv) == MOVED && (mv.state == P_IDLE || mv.state == P_GCSTOP) &&
		word_thread(mv.old_word) == T_ON_CPU;
	note_schedtick(r, &p);
	return given;
}

// A walk along the idle list.
struct idle_walk {
	u64 next;	    // address of the P to read next
	u64 switch_in;	    // of the thread that walks, as a tick
	u64 now;
	u16 unchanged_left; // how many more Ps without news are passed
	bool found;	    // this thread gave back a P
	bool keeps_own_p;   // This thread has its own P. A P whose schedtick changed ran on another thread.
};

// Reads one P of the idle list. Returns 1 if the next P is to be read. It is a global function, so that the verifier
// checks it once and not for each call.
__noinline int check_idle_p(struct target *t, struct idle_walk *w)
{
	struct p_record *r;
	struct p_view p = {};
	u32 slot = 0;

	if (!t || !w || read_p(t, w->next, &p) || p.status != P_IDLE)
		return 0;
	r = record_by_id(t, p.id, &slot);
	if (!r)
		return 0;
	w->next = p.link;
	struct move mv = {.now = w->now, .state = P_IDLE, .thread = T_NONE};
	u64 word = READ_ONCE(&r->word);
	if (word_state(word) == P_IDLE && word_thread(word) == T_NONE) {
		if (w->keeps_own_p || r->schedtick == p.schedtick)
			return w->unchanged_left-- > 0;
		if (r->schedtick_stale) {
			note_schedtick(r, &p); // the time it ran is accounted for
			return 0;
		}
		// The P ran in this burst, at the earliest from its start. Move it to running and at once back to idle,
		// so that each move is one swap.
		if (elapsed(w->now, word_of(w->switch_in, 0, 0, 0))) {
			// One struct for both moves saves stack.
			mv.unseen_from = w->switch_in;
			mv.state = P_RUNNING;
			mv.thread = T_ON_CPU;
			mv.unseen_state = P_RUNNING;
			mv.require_idle = 1;
			if (p_move(t, r, slot, &mv) == MOVED) {
				mv.unseen_from = 0;
				mv.state = P_IDLE;
				mv.thread = T_NONE;
				mv.require_idle = 0;
				p_move(t, r, slot, &mv);
				w->found = true;
			}
		}
	} else if (word_thread(word) != T_RUNNABLE || word_state(word) != P_IDLE) {
		if (p_move(t, r, slot, &mv) == MOVED && word_thread(mv.old_word) == T_ON_CPU) {
			note_p_taken(mv.old_word, w->now);
			w->found = true;
		}
	}
	note_schedtick(r, &p);
	return 1;
}

// Rule 4: an M leaves the CPU without a P. The Ps at the head of the idle list were put there last. A P there whose
// record is busy has become idle. A P whose schedtick has changed since it was read ran in this burst, and no
// tracepoint showed it. Returns 1 if there was such a P.
//
// The walk ends at the P at the address known, which was read before. A thread without a known P may have put several
// Ps there that it took from others (runtime/proc.go, retake and forEachP), and others may lie in front of them. It is
// a global function for the reason of check_idle_p.
__noinline int check_idle_list(struct target *t, u64 switch_in, u64 now, u64 known, bool keeps_own_p)
{
	struct idle_walk w = {.switch_in = switch_in, .now = now, .keeps_own_p = keeps_own_p};

	if (!t || !t->layout.sched_pidle)
		return 0;
	if (read_user64(t->layout.sched_pidle, &w.next)) {
		count_lost(t, LOST_READ_FAULT);
		return 0;
	}
	if (!known) {
		u64 more = elapsed(w.now, word_of(w.switch_in, 0, 0, 0)) >> IDLE_LIST_UNCHANGED_SHIFT;

		w.unchanged_left = IDLE_LIST_MIN_UNCHANGED;
		w.unchanged_left += more < IDLE_LIST_MORE_UNCHANGED ? more : IDLE_LIST_MORE_UNCHANGED;
	}
	for (int i = 0; i < IDLE_LIST_MAX && w.next && w.next != known; i++)
		if (!check_idle_p(t, &w))
			break;
	return w.found;
}

// The thread exits. Another event shows what becomes of its P.
static __noinline void thread_exited(struct target *t, u32 tid, u64 now)
{
	struct thread *th = thread_at(tid);

	if (!t || !th)
		return;
	d_leave(t, th, now);
	remove_thread(tid);
}

// Up to Go 1.25 an M in a system call has its P in m.oldp and not in m.p. It takes the P back, unless another M took it
// meanwhile. A changed p.syscalltick shows that (runtime/proc.go, reentersyscall and exitsyscallfast).
static __always_inline u64 p_in_oldp(struct target *t, u64 m, u64 oldp)
{
	struct p_view p = {};
	u32 tick = 0;

	if (!oldp || !t->layout.m_syscalltick)
		return 0;
	if (read_p(t, oldp, &p) || p.status != P_SYSCALL)
		return 0;
	if (bpf_probe_read_user(&tick, sizeof(tick), (void *)(m + t->layout.m_syscalltick)) || tick != p.syscalltick)
		return 0;
	return oldp;
}

// The record of the P at an address in an m.nextp. If the waker or no thread has the P, the record says enough.
// Else the P's memory must say that it is idle.
static __noinline struct p_record *handed_p_record(struct target *t, u64 addr, u32 from, u32 *slot)
{
	struct p_record *r = record_by_known_address(t, addr, slot);
	struct p_view p = {};
	u64 w;

	if (r) {
		w = READ_ONCE(&r->word);
		if (word_owner(w) == from || (word_state(w) == P_IDLE && word_thread(w) == T_NONE))
			return r;
	}
	if (read_p(t, addr, &p) || p.status != P_IDLE)
		return 0;
	return record_by_id(t, p.id, slot);
}

// Reads the M and P of the current thread, and moves the P's record to its present state and to this thread state.
static __always_inline void observe(struct target *t, struct thread *th, struct task_struct *task, u64 now, u32 thread)
{
	struct m_view m = {};
	struct p_view p = {};
	struct p_record *r;
	u32 slot = 0, tid;

	tid = th->tid;
	if (!th->m || read_m(t, th->m, th, task, &m)) {
		th->m_verified = 0;
		th->m = current_m(t, task);
		if (!th->m)
			return;
		if (read_m(t, th->m, th, task, &m)) {
			th->m = 0;
			return;
		}
	}
	bool in_syscall = false, no_gcstop = thread != T_ON_CPU && now >= READ_ONCE(&t->no_gcstop_from);
	if (!m.p) {
		m.p = p_in_oldp(t, th->m, m.oldp);
		in_syscall = m.p;
	}
	if (!m.p) {
		if (thread == T_ON_CPU) {
			slot = th->slot;
			if (slot && m.nextp && m.nextp == slot_address(slot - 1)) {
				__sync_fetch_and_add(&t->lag_ticks[LAG_HANDED], th->sample_ticks);
				return; // it is about to take the P
			}
			if (update_released_p(t, th, now))
				th->released_slot = slot;
			if (slot)
				th->lost_at = now;
			th->ticks_without_p += th->sample_ticks;
			return;
		}
		// A P was put into m.nextp, and the thread leaves the CPU before it takes it. The thread was not
		// switched to for this P: the waker runs at this moment.
		if (m.nextp && (r = handed_p_record(t, m.nextp, tid, &slot))) {
			struct move mv = {.now = now, .owner = tid, .state = P_IDLE, .thread = T_RUNNABLE};

			// If it was stopped or frozen before it took the P, the thread does not wait for a CPU, however
			// long that lasts. When it runs again it takes the P, and no tracepoint shows it.
			bool suspended = thread == T_STOPPED || thread == T_FROZEN;
			if (suspended) {
				mv.owner = 0;
				mv.thread = T_NONE;
			}
			if (p_move(t, r, slot, &mv) != MOVED)
				return;
			r->schedtick_stale = 1;
			th->slot = suspended ? 0 : slot + 1;
			if (!suspended && (thread != T_RUNNABLE || th->woken))
				th->handed_at = now;
			return;
		}
		u64 stopping = READ_ONCE(&t->stop_start), since;
		u32 lag = stopping ? LAG_HALTED : LAG_GIVEN;

		since = give_back_time(t, th, now, lag);
		if (stopping && elapsed(stopping, since))
			since = stopping < now ? stopping : now; // no P halts before the stop begins
		now = since;
		// A sample may have found the P given back before. Such a burst counts too, and only there do the
		// samples measure the lag.
		u64 had = th->slot ? slot_address(th->slot - 1) : 0;
		int given = update_released_p(t, th, now);
		if (!given)
			had = 0;
		given |= !!th->released_slot | check_idle_list(t, th->switch_in, now, had, false);
		if (given)
			count_lag(t, th, lag, now);
		return;
	}
	// A P that an M has is in gcstop or dead only after a stop of the world. Else the P's memory need not be read.
	r = no_gcstop ? record_by_known_address(t, m.p, &slot) : 0;
	if (!r) {
		no_gcstop = false;
		if (read_p(t, m.p, &p))
			return;
		r = record_by_id(t, p.id, &slot);
		if (!r)
			return;
		in_syscall |= p.status == P_SYSCALL;
	}
	// Rule 1: the P in m.p is the thread's. If the thread had another P, it gave that up when it took this one.
	bool other = th->slot && th->slot != slot + 1;
	bool lost;
	struct move mv = {.now = now,
			  .owner = tid,
			  .thread = thread,
			  .unseen_from = take_time(t, th, now, other, &lost)};
	if (other)
		update_released_p(t, th, mv.unseen_from ? mv.unseen_from : now);
	mv.state = P_SYSCALL;
	if (!no_gcstop && p.status == P_GCSTOP) {
		// The M that stops the world keeps its P and runs on. Every other M has halted. It is still that M when
		// the world has started but its P does not have status running yet.
		if (READ_ONCE(&t->stop_tid) == tid) {
			mv.state = classify(t, m.p, m.curg, now);
		} else {
			mv.state = P_GCSTOP;
			note_arrival(t, r, now);
		}
	} else if (!no_gcstop && (p.status == P_IDLE || p.status == P_DEAD)) {
		mv.state = p.status; // read after the M took the P and before it set the status
	} else if (!in_syscall) {
		mv.state = classify(t, m.p, m.curg, now);
	}
	// Rule 3: if the P was idle or another thread's, this thread took it at the start of this burst, but not before
	// the P's last change.
	mv.unseen_state = mv.state == P_GC ? P_GC : P_RUNNING;
	if (p_move(t, r, slot, &mv) == MOVED && (lost || (mv.unseen_ticks && thread != T_ON_CPU))) {
		count_lag(t, th, lost ? LAG_LOST : LAG_TAKEN, now);
		th->ticks_without_p = 0;
	}
	if (no_gcstop)
		r->schedtick_stale = 1;
	else
		note_schedtick(r, &p);
	th->slot = slot + 1;
	th->last_slot = slot + 1;
	th->held_at = now;
	// At the end of marking, the GC runs a function on every P and takes the Ps that are in system calls
	// (runtime/proc.go, forEachP). The thread that does so is a worker, or it waits for the other Ps and keeps its
	// own.
	if (mv.state == P_GC ? thread != T_ON_CPU : mv.state == P_RUNNING && thread == T_SLEEPING)
		check_idle_list(t, th->switch_in, now, 0, true);
}

#endif
