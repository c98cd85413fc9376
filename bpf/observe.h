// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Which P a thread has, seen from that thread. The rules are numbered as in docs/decisions/collector.md.
#ifndef PSCOPE_OBSERVE_H
#define PSCOPE_OBSERVE_H

// How many Ps from the head of the idle list are looked at at most, and how many with nothing new are passed: more after a long burst, in which others may have put
// Ps on top of those that this thread did.
#define IDLE_LIST_MAX 32
#define IDLE_LIST_MIN_UNCHANGED 2
#define IDLE_LIST_MAX_UNCHANGED 8
#define IDLE_LIST_UNCHANGED_SHIFT 9 // one more every 512 ticks, 33 µs

// What an event is taken to cost at most, in ns. Where it takes longer the CPU was not there, by the hypervisor's choice or, in a uprobe, the scheduler's; and
// once in 16 times that would count 16 times.
#define MAX_EVENT_COST 20000

// Counts the cost of one event in 16, times 16. Which ones: those whose time of beginning hashes to it, because a counter that two CPUs share costs as
// much as a good part of the event. A hash, because clocks may tick in steps of which a power of two picks too many or too few.
#define EVENT_SAMPLE 16
static __always_inline bool event_sampled(u64 now)
{
	return !((now * 0x9e3779b97f4a7c15ULL) >> 60);
}

static __always_inline void count_cost_from(struct target *t, u64 event, u64 began)
{
	u64 ns;

	if (!event_sampled(event))
		return;
	ns = bpf_ktime_get_ns() - began;
	__sync_fetch_and_add(&t->events, EVENT_SAMPLE);
	__sync_fetch_and_add(&t->probe_ns, (ns < MAX_EVENT_COST ? ns : MAX_EVENT_COST) * EVENT_SAMPLE);
}

static __always_inline void count_cost(struct target *t, u64 began)
{
	count_cost_from(t, began, began);
}

static __always_inline struct target *target_at(u32 i, u32 tgid, u32 *index)
{
	struct target *t = bpf_map_lookup_elem(&targets, &i);

	if (!t || t->tgid != tgid)
		return 0;
	*index = i;
	return t;
}

// A target that is observed at the moment.
static __always_inline struct target *target_of(u32 tgid, u32 *index)
{
	u32 word = (tgid & (HINTS - 1)) >> 2, i, *shared;
	u64 *hint = bpf_map_lookup_elem(&target_hints, &word);
	struct target *t;

	if (!hint)
		return 0;
	i = (u16)(READ_ONCE(hint) >> ((tgid & 3) << 4));
	if (!i)
		return 0;
	if (i == HINT_SHARED) {
		shared = bpf_map_lookup_elem(&target_index, &tgid);
		if (!shared)
			return 0;
		i = *shared;
	}
	t = target_at(i, tgid, index);
	return t && READ_ONCE(&t->active) == OBSERVED ? t : 0;
}

// Any target, also one between two windows, for which there is no hint then.
static __always_inline struct target *any_target_of(u32 tgid, u32 *index)
{
	u32 *i = bpf_map_lookup_elem(&target_index, &tgid);
	struct target *t = i ? target_at(*i, tgid, index) : 0;

	return t && READ_ONCE(&t->active) ? t : 0;
}

static __always_inline void note_schedtick(struct p_record *r, struct p_view *p)
{
	r->schedtick = p->schedtick;
	r->schedtick_stale = 0;
}

static __always_inline void d_leave(struct target *t, struct thread *th, u64 now)
{
	u32 slot = th->d_slot;
	struct p_record *r;

	// The CPU that a thread leaves and the one that wakes it may both find it counted: one of them takes it back.
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
	// It may be woken meanwhile, on another CPU: who finds d_slot set must find it counted, or the count never comes down again. What
	// is set too late for that, its switch onto a CPU takes back.
	d_change(t, r, now, 1);
	th->d_slot = slot + 1;
}

// Where the P of a slot is in the target's memory.
static __always_inline u64 slot_address(u32 slot)
{
	struct p_record *r = bpf_map_lookup_elem(&p_records, &slot);

	return r ? READ_ONCE(&r->addr) : 0;
}

// A P as the idle list shows it: halted, idle or gone.
static __always_inline u32 state_without_owner(u32 status)
{
	return status == P_GCSTOP ? P_GCSTOP : status == P_DEAD ? P_DEAD : P_IDLE;
}

static __always_inline void note_arrival(struct target *t, struct p_record *r, u64 now)
{
	if (READ_ONCE(&t->stop_start) && !r->arrived)
		r->arrived = now;
}

// A burst with an edge that nothing announces has ended.
static __always_inline void count_lag(struct target *t, struct thread *th, u32 lag, u64 now)
{
	if (event_sampled(now))
		__sync_fetch_and_add(&t->lag_bursts[lag], EVENT_SAMPLE);
	if (th->ticks_without_p)
		__sync_fetch_and_add(&t->lag_ticks[lag], th->ticks_without_p);
}

// When a thread gave back the P that it is now found without, or passes on now; not before the thread came.
static __always_inline u64 give_back_time(struct target *t, struct thread *th, u64 now, u32 kind)
{
	u64 on = elapsed(now, word_of(th->switch_in, 0, 0, 0)), lag = READ_ONCE(&t->lag[kind]);

	return now - (lag < on ? lag : on);
}

// A P was moved away from the thread that carried it, by another one: the runtime takes it from an M in a call (runtime/proc.go, retake and forEachP).
// That M stays on its CPU and will silently take another one.
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

// When, in this burst, the thread took the P that it is now found with and that was not known to be its own: at the beginning of the burst, unless it had
// another or none since. Between the sight of the one and that of the other nothing says when it changed over; the middle is right on average.
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

// The thread no longer has the P it had: what has become of that P? Its memory says. Gives whether it was on the CPU and is idle or halted now.
// Global like check_idle_p.
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
	// Handed over to this thread after its m was read: it is on its way to it.
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
		// Another M has it already. Its own next switch, sample or the agent's snapshot tells which; it can only be on a CPU now.
		mv.state = p.status == P_SYSCALL ? P_SYSCALL : P_RUNNING;
		mv.thread = T_ON_CPU;
	}
	given = p_move(t, r, slot, &mv) == MOVED && (mv.state == P_IDLE || mv.state == P_GCSTOP) && word_thread(mv.old_word) == T_ON_CPU;
	note_schedtick(r, &p);
	return given;
}

// A walk along the idle list.
struct idle_walk {
	u64 next;      // of the P that is next
	u64 switch_in; // of the thread that walks
	u64 now;
	u32 unchanged_left;   // how many Ps with nothing new are passed
	u32 found;     // a P was given back by this thread
	bool keeps_own_p;   // this thread has a P of its own: one that ran unannounced was another's
};

// Looks at one P of the idle list, and gives whether to look at the next one. Global, so that the verifier follows it once and not as often as it is called.
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
			note_schedtick(r, &p); // when it ran is accounted for
			return 0;
		}
		// It ran from this burst's start at the earliest. Leave a mark in the word, then go back to idle at once:
		// two moves, so that each is one swap.
		if (elapsed(w->now, word_of(w->switch_in, 0, 0, 0))) {
			// One struct for both: the stack is short.
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
				w->found = 1;
			}
		}
	} else if (word_thread(word) != T_RUNNABLE || word_state(word) != P_IDLE) {
		if (p_move(t, r, slot, &mv) == MOVED && word_thread(mv.old_word) == T_ON_CPU) {
			note_p_taken(mv.old_word, w->now);
			w->found = 1;
		}
	}
	note_schedtick(r, &p);
	return 1;
}

// Rule 4: an M leaves the CPU without a P. The Ps at the head of the idle list are those just put there: one that we hold for busy has
// become idle, and one whose schedtick has moved since we last saw it ran in this burst, unannounced. Gives whether there was such a one. The P at
// the address known has just been looked at. A thread that had none may have put several there that it took from others (runtime/proc.go, retake and forEachP),
// below one that came later. Global like check_idle_p.
__noinline int check_idle_list(struct target *t, struct idle_walk *w, u64 known)
{
	if (!t || !w || !t->layout.sched_pidle)
		return 0;
	if (read_user64(t->layout.sched_pidle, &w->next)) {
		count_lost(t, LOST_READ_FAULT);
		return 0;
	}
	if (!known) {
		u64 more = elapsed(w->now, word_of(w->switch_in, 0, 0, 0)) >> IDLE_LIST_UNCHANGED_SHIFT;

		w->unchanged_left = IDLE_LIST_MIN_UNCHANGED;
		w->unchanged_left += more < IDLE_LIST_MAX_UNCHANGED - IDLE_LIST_MIN_UNCHANGED ? more : IDLE_LIST_MAX_UNCHANGED - IDLE_LIST_MIN_UNCHANGED;
	}
	for (int i = 0; i < IDLE_LIST_MAX && w->next && w->next != known; i++)
		if (!check_idle_p(t, w))
			break;
	return w->found;
}

// The thread exits: its P, if it had one, is somebody else's business from here on.
static __noinline void thread_exited(struct target *t, u32 tid, u64 now)
{
	struct thread *th = thread_at(tid);

	if (!t || !th)
		return;
	d_leave(t, th, now);
	remove_thread(tid);
}

// Up to Go 1.25 an M in a call has no P in name: it has left it in m.oldp, and takes it back unless somebody else took it meanwhile, which the tick tells
// (runtime/proc.go, reentersyscall and exitsyscallfast).
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

// The record of the P at an address that an M is handed: one that the thread had itself or that nobody has is it, of any other its memory has to say so.
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

// Looks from the current thread at its M and P, and brings the P's record to (its state, thread) at now.
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
				return; // it is about to take it
			}
			if (update_released_p(t, th, now))
				th->released_slot = slot;
			if (slot)
				th->lost_at = now;
			th->ticks_without_p += th->sample_ticks;
			return;
		}
		// It has been handed a P and leaves the CPU before it has taken it. Without having been switched to for it: the waker comes just now.
		if (m.nextp && (r = handed_p_record(t, m.nextp, tid, &slot))) {
			struct move mv = {.now = now, .owner = tid, .state = P_IDLE, .thread = T_RUNNABLE};

			// Stopped or frozen on the way to it, the thread does not wait for a CPU, however long that lasts. When it goes on
			// it takes the P silently.
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
			since = stopping < now ? stopping : now; // no P is halted before
		now = since;
		// A sample may already have found that it gave the P back: that burst is one of these, too, and the only kind whose
		// end the samples can measure.
		u64 had = th->slot ? slot_address(th->slot - 1) : 0;
		int given = update_released_p(t, th, now);
		if (!given)
			had = 0;
		struct idle_walk w = {.switch_in = th->switch_in, .now = now};
		given |= !!th->released_slot | check_idle_list(t, &w, had);
		if (given)
			count_lag(t, th, lag, now);
		return;
	}
	// A P that an M has is halted or gone only where the world has stopped: else its own memory need not be asked.
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
	// Rule 1: the P its M names is its P; another one it had was given up when it took this one.
	bool other = th->slot && th->slot != slot + 1;
	bool lost;
	struct move mv = {.now = now, .owner = tid, .thread = thread, .unseen_from = take_time(t, th, now, other, &lost)};
	if (other)
		update_released_p(t, th, mv.unseen_from ? mv.unseen_from : now);
	mv.state = P_SYSCALL;
	if (!no_gcstop && p.status == P_GCSTOP) {
		// The M that stops the world keeps its P and runs on; every other one has been halted. It is still that M when the world has
		// been started but its P not yet marked as running.
		if (READ_ONCE(&t->stop_tid) == tid) {
			mv.state = classify(t, m.p, m.curg, now);
		} else {
			mv.state = P_GCSTOP;
			note_arrival(t, r, now);
		}
	} else if (!no_gcstop && (p.status == P_IDLE || p.status == P_DEAD)) {
		mv.state = p.status; // caught between taking it and marking it
	} else if (!in_syscall) {
		mv.state = classify(t, m.p, m.curg, now);
	}
	// Rule 3: a P that was idle or another's was taken at the start of this burst, not before its own last change.
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
	// The end of a GC's marking asks every P for something and takes all that are in calls for it (runtime/proc.go, forEachP). Who does that is a worker or waits
	// for the other Ps, with its own.
	if (mv.state == P_GC ? thread != T_ON_CPU : mv.state == P_RUNNING && thread == T_SLEEPING) {
		struct idle_walk w = {.switch_in = th->switch_in, .now = now, .keeps_own_p = true};
		check_idle_list(t, &w, 0);
	}
}

#endif
