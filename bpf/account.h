// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Words, their swaps, and the times behind them. types.h says why a word is swapped and never locked.
#ifndef PSCOPE_ACCOUNT_H
#define PSCOPE_ACCOUNT_H

#define SWAP_ATTEMPTS 4

#define READ_ONCE(p) (*(volatile typeof(*(p)) *)(p))

static __always_inline u64 tick_now(void)
{
	return bpf_ktime_get_ns() >> TICK_SHIFT;
}

static __always_inline u64 word_of(u64 tick, u32 owner, u32 state, u32 thread)
{
	return (tick & SINCE_MASK) | ((u64)(owner & OWNER_MASK) << OWNER_SHIFT) | ((u64)(state & 7) << STATE_SHIFT) |
	       ((u64)thread << THREAD_SHIFT);
}

static __always_inline u32 word_owner(u64 w)
{
	return (w >> OWNER_SHIFT) & OWNER_MASK;
}

static __always_inline u32 word_state(u64 w)
{
	return (w >> STATE_SHIFT) & 7;
}

static __always_inline u32 word_thread(u64 w)
{
	return w >> THREAD_SHIFT;
}

// Ticks from a word's since to now. Another CPU's clock may be a little ahead, so that its since lies in our future.
// Then no time has passed, and the caller keeps that since: time never runs backwards for a P.
static __always_inline u64 elapsed(u64 now, u64 w)
{
	u64 d = (now - w) & SINCE_MASK;
	return d > (SINCE_MASK >> 1) ? 0 : d;
}

static __always_inline void count_lost(struct target *t, u32 reason)
{
	if (t)
		__sync_fetch_and_add(&t->lost[reason & 7], 1);
}

static __always_inline void count_lost_global(u32 reason)
{
	u64 *n = bpf_map_lookup_elem(&lost_global, &reason);
	if (n)
		__sync_fetch_and_add(n, 1);
}

// A P's slot, state and thread state in one value, because a BPF function takes five arguments at most.
static __always_inline u64 pack_interval(u32 slot, u32 state, u32 thread)
{
	return slot | ((u64)state << 32) | ((u64)thread << 40);
}

static __noinline void send_interval(struct target *t, u64 packed, u64 end, u64 ticks)
{
	struct interval_event *e;

	if (!t)
		return;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_lost(t, LOST_RING_FULL);
		return;
	}
	__sync_fetch_and_add(&t->sent, 1);
	e->kind = EVENT_INTERVAL;
	e->state = packed >> 32;
	e->thread = packed >> 40;
	e->pad = 0;
	e->slot = packed;
	e->start = end - ticks;
	e->end = end;
	// No wake-up: the agent polls, so that the target does not pay for waking it.
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

// Each P counts its own intervals over the budget, because the P's cache line is at hand. A counter of the target would
// often have to come from another CPU.
static __always_inline void emit_interval(struct target *t, struct p_record *r, u64 packed, u64 end, u64 ticks)
{
	if (!READ_ONCE(&t->intervals) || !ticks)
		return;
	if (READ_ONCE(&t->sent) >= READ_ONCE(&t->sent_limit))
		__sync_fetch_and_add(&r->unsent, 1);
	else
		send_interval(t, packed, end, ticks);
}

// On a CPU, running, syscall and gc cannot be distinguished between two samples. So this time counts as running, and
// the agent splits it by the samples. Off the CPU, the state was read at the switch and is exact.
static __always_inline u32 time_index(u32 state, u32 thread)
{
	if (thread == T_ON_CPU && (state == P_SYSCALL || state == P_GC))
		state = P_RUNNING;
	if (state >= P_STATES)
		state = P_IDLE;
	if (thread >= T_STATES)
		thread = T_NONE;
	return state * T_STATES + thread;
}

static __always_inline void account(struct target *t, struct p_record *r, u64 packed, u64 end, u64 ticks)
{
	u32 c = time_index((u8)(packed >> 32), (u8)(packed >> 40));

	if (c >= P_STATES * T_STATES)
		return;
	__sync_fetch_and_add(&r->time[c], ticks);
	emit_interval(t, r, packed, end, ticks);
}

static __always_inline void count_move(struct p_record *r, u32 from, u32 to)
{
	u32 m = from * P_STATES + to;

	if (from != to && m < P_STATES * P_STATES)
		__sync_fetch_and_add(&r->moves[m], 1);
}

// The arguments of p_move.
struct move {
	u64 now;
	u64 unseen_from;	// not 0: if the P was not owner's before, owner has run it since this tick, unseen
	u64 old_word;	// out: the word that was replaced
	u64 unseen_ticks;	// out: ticks that were accounted as owner's since unseen_from
	u32 owner;
	u32 require_owner;	// not 0: do nothing unless this thread owns the P
	u8 state;
	u8 thread;
	u8 unseen_state;	// the P's state since unseen_from
	u8 require_idle;	// do nothing unless the P is idle
};

enum { MOVED = 1, NOT_MOVED = 0, CONTENDED = -1 };

// p_move and d_change are global functions, so that the verifier checks each of them once. It checks a static function
// anew for each call and each state (kernel/bpf/verifier.c, do_check_subprogs).

// Moves a P to m->state, carried by m->owner in m->thread, and accounts the time before.
__noinline int p_move(struct target *t, struct p_record *r, u32 slot, struct move *m)
{
	u64 old, new, now, gone, ran;
	u32 state, thread;

	if (!t || !r || !m)
		return NOT_MOVED;
	for (int i = 0; i < SWAP_ATTEMPTS; i++) {
		old = READ_ONCE(&r->word);
		state = word_state(old);
		thread = word_thread(old);
		if (m->require_owner && word_owner(old) != m->require_owner)
			return NOT_MOVED;
		if (m->require_idle && state != P_IDLE)
			return NOT_MOVED;
		gone = elapsed(m->now, old);
		// If no time has passed, the word's since may be ahead of now: keep it.
		now = gone ? m->now : m->now + ((old - m->now) & SINCE_MASK);
		// Nothing changes: leave the interval whole.
		if (word_owner(old) == m->owner && state == m->state && thread == m->thread)
			return MOVED;
		ran = 0;
		if (m->unseen_from && (word_owner(old) != m->owner || thread != T_ON_CPU) && now > m->unseen_from) {
			ran = now - m->unseen_from;
			if (ran > gone)
				ran = gone;
		}
		new = word_of(now, m->owner, m->state, m->thread);
		if (__sync_val_compare_and_swap(&r->word, old, new) == old) {
			m->old_word = old;
			m->unseen_ticks = ran;
			if (gone - ran)
				account(t, r, pack_interval(slot, state, thread), now - ran, gone - ran);
			if (ran) {
				account(t, r, pack_interval(slot, m->unseen_state, T_ON_CPU), now, ran);
				count_move(r, state, m->unseen_state);
				state = m->unseen_state;
			}
			count_move(r, state, m->state);
			return MOVED;
		}
	}
	count_lost(t, LOST_CONTENDED);
	return CONTENDED;
}

// Counts the threads of a P that are in uninterruptible sleep. The word is the number << 36, and since when it is not
// 0.
__noinline int d_change(struct target *t, struct p_record *r, u64 now, int by)
{
	u64 old, new, n, gone;

	if (!r)
		return 0;
	for (int i = 0; i < SWAP_ATTEMPTS; i++) {
		old = READ_ONCE(&r->d_word);
		n = old >> SINCE_BITS;
		if (by < 0 && n == 0)
			return 0;
		gone = n ? elapsed(now, old) : 0;
		if (n && by > 0) // since stays
			new = old + (1ULL << SINCE_BITS);
		else if (n > 1) // some are left: since stays
			new = old - (1ULL << SINCE_BITS);
		else
			new = ((n + by) << SINCE_BITS) | (now & SINCE_MASK);
		if (__sync_val_compare_and_swap(&r->d_word, old, new) == old) {
			if (n == 1 && by < 0)
				__sync_fetch_and_add(&r->d_time, gone);
			return 0;
		}
	}
	count_lost(t, LOST_CONTENDED);
	return 0;
}

// Moves a thread to a new state and accounts the time in the old one. Returns the old state.
static __always_inline u32 thread_move(struct target *t, struct thread *th, u64 now, u32 to)
{
	u64 old, new, gone;
	u32 from;

	for (int i = 0; i < SWAP_ATTEMPTS; i++) {
		old = READ_ONCE(&th->word);
		from = word_thread(old);
		if (from == to)
			return from;
		gone = elapsed(now, old);
		new = word_of(gone ? now : now + ((old - now) & SINCE_MASK), 0, 0, to);
		if (__sync_val_compare_and_swap(&th->word, old, new) == old) {
			if (from < T_STATES && from != T_NONE)
				__sync_fetch_and_add(&th->time[from - 1], gone);
			return from;
		}
	}
	count_lost(t, LOST_CONTENDED);
	return T_NONE;
}

#endif
