// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// bpf/account.h and bpf/wake.h: words, their swaps, and the times behind them.

CASE(a_word_keeps_its_parts)
{
	for (u32 state = 0; state < P_STATES; state++)
		for (u32 th = 0; th < T_STATES; th++) {
			u64 w = word_of((5ULL << SINCE_BITS) + 12345, OWNER_MASK, state, th);

			CHECK_EQ("owner", word_owner(w), OWNER_MASK);
			CHECK_EQ("state", word_state(w), state);
			CHECK_EQ("thread state", word_thread(w), th);
			CHECK_EQ("since", w & SINCE_MASK, 12345);
		}
	CHECK_EQ("owner, where more bits are given", word_owner(word_of(0, ~0U, 0, 0)), OWNER_MASK);
	CHECK_EQ("state, where more bits are given to the owner", word_state(word_of(0, ~0U, 0, 0)), 0);
}

CASE(time_passes_over_the_wrap_of_since_and_never_backwards)
{
	static const struct {
		const char *what;
		s64 since, now, want;
	} rows[] = {
		{"the same tick", 100, 100, 0},
		{"a tick later", 100, 101, 1},
		{"a since in the future", 101, 100, 0},
		{"over the wrap", -20, 10, 30},
		{"a since in the future, over the wrap", 10, -20, 0},
		{"half of what the word can hold", 0, SINCE_MASK >> 1, SINCE_MASK >> 1},
		{"more than half", 0, (SINCE_MASK >> 1) + 1, 0},
	};

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		case_detail = rows[i].what;
		CHECK_EQ("elapsed", elapsed((7ULL << SINCE_BITS) + rows[i].now,
			word_of((7ULL << SINCE_BITS) + rows[i].since, 3, P_GC, T_STOPPED)),
			 rows[i].want);
	}
}

CASE(states_that_cannot_be_distinguished_on_a_CPU_count_as_running)
{
	for (u32 state = 0; state < 256; state++)
		for (u32 th = 0; th < 256; th++) {
			u32 want_state = state, want_thread = th < T_STATES ? th : T_NONE;

			if (th == T_ON_CPU && (state == P_SYSCALL || state == P_GC))
				want_state = P_RUNNING;
			else if (state >= P_STATES)
				want_state = P_IDLE;
			CHECK_EQ("cell", time_index(state, th), want_state * T_STATES + want_thread);
		}
}

// Thread 1 runs a P since tick 100. Each row moves the P at a later tick.
CASE(a_move_accounts_what_came_before_it)
{
	static const struct {
		const char *what;
		u64 now, unseen_from;
		u32 require_owner, owner, state, thread;
		bool require_idle;
		int gives;
		u64 was_running, unseen; // ticks; unseen time is in gc, as the move says
		u64 since;
	} rows[] = {
		{"to another state", 150, 0, 0, 1, P_SYSCALL, T_SLEEPING, false, MOVED, 50, 0, 150},
		{"to another thread", 150, 0, 0, 2, P_RUNNING, T_ON_CPU, false, MOVED, 50, 0, 150},
		{"nothing new leaves the interval whole", 150, 0, 0, 1, P_RUNNING, T_ON_CPU, false, MOVED, 0, 0, 100},
		{"only if it is thread 1's; it is", 150, 0, 1, 1, P_IDLE, T_NONE, false, MOVED, 50, 0, 150},
		{"only if it is thread 2's; it is not", 150, 0, 2, 2, P_IDLE, T_NONE, false, NOT_MOVED, 0, 0, 100},
		{"only if it is idle, which it is not", 150, 0, 0, 2, P_IDLE, T_NONE, true, NOT_MOVED, 0, 0, 100},
		{"thread 2 took it at 120", 150, 120, 0, 2, P_IDLE, T_NONE, false, MOVED, 20, 30, 150},
		{"thread 2 took it before its last change", 150, 50, 0, 2, P_IDLE, T_NONE, false, MOVED, 0, 50, 150},
		{"thread 2 takes it in the future", 150, 160, 0, 2, P_IDLE, T_NONE, false, MOVED, 50, 0, 150},
		{"its own thread took nothing", 150, 120, 0, 1, P_SYSCALL, T_SLEEPING, false, MOVED, 50, 0, 150},
		{"a clock that is behind", 90, 0, 0, 2, P_IDLE, T_NONE, false, MOVED, 0, 0, 100},
		{"a clock that is behind, and unseen_from", 90, 80, 0, 2, P_IDLE, T_NONE, false, MOVED, 0, 0, 100},
	};

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct p_record *r;
		struct move m = {.now = BEGAN + rows[i].now,
				 .unseen_from = rows[i].unseen_from ? BEGAN + rows[i].unseen_from : 0,
				 .require_owner = tid_of(rows[i].require_owner),
				 .owner = tid_of(rows[i].owner),
				 .state = rows[i].state,
				 .thread = rows[i].thread,
				 .unseen_state = P_GC,
				 .require_idle = rows[i].require_idle};
		struct move first = {.now = BEGAN + 100, .owner = tid_of(1), .state = P_RUNNING, .thread = T_ON_CPU};

		case_detail = rows[i].what;
		start_process(1);
		r = record(0);
		CHECK_EQ("the first move", p_move(target, r, FIRST_SLOT, &first), MOVED);
		P_TIME(0, P_IDLE, T_NONE, 100);
		CHECK_EQ("the move", p_move(target, r, FIRST_SLOT, &m), rows[i].gives);
		// On a CPU, time in gc is accounted as running, so both are added.
		P_TIME(0, P_RUNNING, T_ON_CPU, rows[i].was_running + rows[i].unseen);
		P_SINCE(0, rows[i].since);
		if (rows[i].gives == MOVED && rows[i].since != 100)
			CHECK_EQ("ran", m.unseen_ticks, rows[i].unseen);
		if (rows[i].unseen)
			CHECK_EQ("moves to gc", r->moves[P_RUNNING * P_STATES + P_GC], 1);
		CHECK_EQ("lost", target->lost[LOST_CONTENDED], 0);
		invariants();
	}
}

CASE(a_burst_that_no_tracepoint_showed_is_two_intervals)
{
	struct move first = {.now = BEGAN + 100, .owner = tid_of(1), .state = P_IDLE, .thread = T_RUNNABLE};
	struct move m = {.now = BEGAN + 150, .unseen_from = BEGAN + 120, .owner = tid_of(2), .state = P_SYSCALL,
		.thread = T_SLEEPING, .unseen_state = P_RUNNING};

	start_process(1);
	p_move(target, record(0), FIRST_SLOT, &first);
	p_move(target, record(0), FIRST_SLOT, &m);
	CHECK_EQ("intervals", ring_used, 3);
	CHECK_EQ("sent", target->sent, 3);
	CHECK_EQ("state", ring[1].interval.state, P_IDLE);
	CHECK_EQ("thread", ring[1].interval.thread, T_RUNNABLE);
	CHECK_EQ("slot", ring[1].interval.slot, FIRST_SLOT);
	CHECK_EQ("start", ring[1].interval.start, BEGAN + 100);
	CHECK_EQ("end", ring[1].interval.end, BEGAN + 120);
	CHECK_EQ("state", ring[2].interval.state, P_RUNNING);
	CHECK_EQ("thread", ring[2].interval.thread, T_ON_CPU);
	CHECK_EQ("start", ring[2].interval.start, BEGAN + 120);
	CHECK_EQ("end", ring[2].interval.end, BEGAN + 150);
	CHECK_EQ("idle to running", record(0)->moves[P_IDLE * P_STATES + P_RUNNING], 1);
	CHECK_EQ("running to syscall", record(0)->moves[P_RUNNING * P_STATES + P_SYSCALL], 1);
}

// A swap fails where another CPU was faster. A move that failed must not be accounted.
CASE(a_word_that_changes_under_every_attempt_keeps_its_value_and_is_counted)
{
	for (u32 fails = 0; fails <= SWAP_ATTEMPTS; fails++) {
		struct move m = {.now = BEGAN + 40, .owner = tid_of(1), .state = P_RUNNING, .thread = T_ON_CPU};
		bool lost = fails == SWAP_ATTEMPTS;

		start_process(1);
		failing_swaps = fails;
		CHECK_EQ("the move", p_move(target, record(0), FIRST_SLOT, &m), lost ? CONTENDED : MOVED);
		P_TIME(0, P_IDLE, T_NONE, lost ? 0 : 40);
		P_IS(0, lost ? P_IDLE : P_RUNNING, lost ? T_NONE : T_ON_CPU, lost ? 0 : 1);
		CHECK_EQ("intervals", ring_used, lost ? 0 : 1);
		CHECK_EQ("lost", target->lost[LOST_CONTENDED], lost);
		invariants();

		failing_swaps = fails;
		d_change(target, record(0), BEGAN + 50, 1);
		CHECK_EQ("in D", IN_D_COUNT(0), lost ? 0 : 1);
		CHECK_EQ("lost", target->lost[LOST_CONTENDED], 2 * lost);
	}
}

CASE(a_thread_whose_word_is_contended_keeps_it)
{
	for (u32 fails = 0; fails <= SWAP_ATTEMPTS; fails++) {
		struct thread th = {.word = word_of(BEGAN, 0, 0, T_ON_CPU)};
		bool lost = fails == SWAP_ATTEMPTS;

		start_process(1);
		failing_swaps = fails;
		CHECK_EQ("state before", thread_move(target, &th, BEGAN + 30, T_SLEEPING), lost ? T_NONE : T_ON_CPU);
		CHECK_EQ("state", word_thread(th.word), lost ? T_ON_CPU : T_SLEEPING);
		CHECK_EQ("time", th.time[T_ON_CPU - 1], lost ? 0 : 30);
		CHECK_EQ("lost", target->lost[LOST_CONTENDED], lost);
	}
}

CASE(the_time_of_a_thread_goes_to_the_state_before)
{
	struct thread th = {.word = word_of(BEGAN, 0, 0, T_NONE)};

	start_process(1);
	thread_move(target, &th, BEGAN + 10, T_ON_CPU); // the time before it was first seen is not counted
	thread_move(target, &th, BEGAN + 30, T_ON_CPU); // nothing changes
	thread_move(target, &th, BEGAN + 35, T_UNINTERRUPTIBLE);
	thread_move(target, &th, BEGAN + 30, T_RUNNABLE); // by a clock that is behind
	thread_move(target, &th, BEGAN + 45, T_ON_CPU);
	CHECK_EQ("on CPU", th.time[T_ON_CPU - 1], 25);
	CHECK_EQ("uninterruptible", th.time[T_UNINTERRUPTIBLE - 1], 0);
	CHECK_EQ("runnable", th.time[T_RUNNABLE - 1], 10);
	CHECK_EQ("since", th.word & SINCE_MASK, (BEGAN + 45) & SINCE_MASK);
}

CASE(d_counts_wall_time_once_however_many_threads)
{
	struct p_record *r;

	start_process(1);
	r = record(0);
	d_change(target, r, BEGAN + 5, -1); // nothing to subtract
	CHECK_EQ("in D", IN_D_COUNT(0), 0);
	d_change(target, r, BEGAN + 10, 1);
	d_change(target, r, BEGAN + 20, 1);
	d_change(target, r, BEGAN + 30, 1);
	CHECK_EQ("in D", IN_D_COUNT(0), 3);
	d_change(target, r, BEGAN + 40, -1);
	d_change(target, r, BEGAN + 50, -1);
	CHECK_EQ("in D", IN_D_COUNT(0), 1);
	CHECK_EQ("time, while there is one", r->d_time, 0);
	d_change(target, r, BEGAN + 60, -1);
	CHECK_EQ("time", r->d_time, 50);
	d_change(target, r, BEGAN + 70, 1);
	d_change(target, r, BEGAN + 65, -1); // by a clock that is behind
	CHECK_EQ("time", r->d_time, 50);
	CHECK_EQ("in D", IN_D_COUNT(0), 0);
}

CASE(raw_intervals_end_where_the_budget_does)
{
	struct move m = {.thread = T_ON_CPU, .state = P_RUNNING};

	start_process(1);
	target->sent_limit = 2;
	for (u32 i = 1; i <= 5; i++) {
		m.now = BEGAN + 10 * i;
		m.owner = tid_of(i);
		p_move(target, record(0), FIRST_SLOT, &m);
	}
	CHECK_EQ("in the ring", ring_used, 2);
	CHECK_EQ("sent", target->sent, 2);
	CHECK_EQ("over the budget", record(0)->unsent, 3);
	P_TIME(0, P_RUNNING, T_ON_CPU, 40);

	// A full ring is another kind of loss.
	target->sent_limit = 100;
	ring_capacity = ring_used;
	m.now = BEGAN + 60;
	m.owner = tid_of(7);
	p_move(target, record(0), FIRST_SLOT, &m);
	CHECK_EQ("ring full", target->lost[LOST_RING_FULL], 1);
	CHECK_EQ("sent", target->sent, 2);
	P_TIME(0, P_RUNNING, T_ON_CPU, 50);

	// Without raw intervals, nothing is lost.
	target->intervals = 0;
	m.now = BEGAN + 70;
	m.owner = tid_of(8);
	p_move(target, record(0), FIRST_SLOT, &m);
	CHECK_EQ("ring full", target->lost[LOST_RING_FULL], 1);
	CHECK_EQ("over the budget", record(0)->unsent, 3);
	P_TIME(0, P_RUNNING, T_ON_CPU, 60);
}

CASE(a_wait_falls_into_the_bucket_whose_bound_it_does_not_pass)
{
	start_process(1);
	for (u32 i = 0; i < WAKE_BUCKETS; i++) {
		struct p_record *r = record(0);

		memset(r->wake, 0, sizeof(r->wake));
		count_wake_wait(r, wake_bounds[i]);
		CHECK_EQ("at the bound", r->wake[i], 1);
		count_wake_wait(r, wake_bounds[i] + 1);
		CHECK_EQ("above the bound", r->wake[i + 1 < WAKE_BUCKETS ? i + 1 : i], i + 1 < WAKE_BUCKETS ? 1 : 2);
	}
	memset(record(0)->wake, 0, sizeof(record(0)->wake));
	record(0)->wake_sum = 0;
	count_wake_wait(record(0), 0);
	count_wake_wait(record(0), ~0ULL >> 1);
	CHECK_EQ("first bucket", record(0)->wake[0], 1);
	CHECK_EQ("last bucket", record(0)->wake[WAKE_BUCKETS - 1], 1);
	CHECK_EQ("sum", record(0)->wake_sum, ~0ULL >> 1);
}
