// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Two CPUs at once. Each case runs two programs in every order in which each of them is interrupted at most once ("Two
// CPUs at once" in docs/decisions/collector.md).

// Thread 2 runs P 1 on CPU 0 and is about to sleep. Thread 1 runs P 0 on CPU 1 and wakes it.
static void one_wakes_another(void)
{
	start_process(2);
	switch_in(0, 2);
	m_takes_p(2, 1);
	switch_in(1, 1);
	m_takes_p(1, 0);
	set_clock(100);
	take_sample(0);
	take_sample(1);
	set_clock(200);
}

static void thread_2_leaves_asleep(void)
{
	switch_out(0, ASLEEP);
}

static void thread_2_leaves_in_d(void)
{
	switch_out(0, IN_D);
}

static void thread_1_wakes_2(void)
{
	wake(1, 2);
}

static void thread_2_is_runnable(void)
{
	THREAD_IS(2, T_RUNNABLE);
	CHECK_EQ("woken", thread(2)->woken, 1);
	P_IS(1, P_RUNNING, T_RUNNABLE, 2);
	CHECK_EQ("in D", IN_D_COUNT(1), 0);
}

// The first sentence of that section. The clock moves between the steps of the programs, or it stands.
CASE(race_a_thread_woken_while_it_leaves_its_CPU_is_runnable)
{
	every_order_at_every_pace(one_wakes_another, thread_2_leaves_asleep, thread_1_wakes_2, thread_2_is_runnable);
}

CASE(race_a_thread_woken_while_it_leaves_its_CPU_in_D_is_counted_no_longer)
{
	every_order_at_every_pace(one_wakes_another, thread_2_leaves_in_d, thread_1_wakes_2, thread_2_is_runnable);
}

// Another thread of that P is in D as well. The first thread must not be subtracted twice.
static void one_wakes_one_of_two_in_d(void)
{
	start_process(2);
	switch_in(2, 3);
	m_takes_p(3, 1);
	set_clock(50);
	switch_out(2, IN_D);
	set_m_p(3, -1);
	switch_in(0, 2);
	m_takes_p(2, 1);
	switch_in(1, 1);
	m_takes_p(1, 0);
	set_clock(100);
	take_sample(0);
	take_sample(1);
	set_clock(200);
}

static void only_thread_3_is_in_d(void)
{
	THREAD_IS(2, T_RUNNABLE);
	CHECK_EQ("in D", IN_D_COUNT(1), 1);
	CHECK_EQ("slot of its D", thread(2)->d_slot, 0);
}

CASE(race_a_thread_woken_while_it_leaves_in_D_is_taken_back_once)
{
	every_order_at_every_pace(one_wakes_one_of_two_in_d, thread_2_leaves_in_d, thread_1_wakes_2,
		only_thread_3_is_in_d);
}

// Two CPUs see a thread for the first time. It leaves one of them, and the other wakes it.
static void an_unknown_thread(void)
{
	start_process(2);
	switch_in(1, 1);
	m_takes_p(1, 0);
	cpus[0].current = &tasks[2];
	set_clock(200);
}

static void thread_2_is_one_entry(void)
{
	// Where each CPU finds that the other is adding the thread, both leave it to a later event. That is a counted
	// loss.
	u64 lost = target->lost[LOST_CONTENDED];

	if (!thread(2)) {
		CHECK_EQ("contended", lost, 2);
		return;
	}
	CHECK(lost <= 1, "contended %llu times", lost);
	CHECK_EQ("tid", thread(2)->tid, tid_of(2));
	CHECK_EQ("tgid", thread(2)->tgid, TGID);
	CHECK_EQ("target", thread(2)->target, TARGET);
	CHECK(!strcmp(thread(2)->comm, "m2"), "its name is %s", thread(2)->comm);
	// The next event corrects the state. A waker that sees the thread for the first time can't know that it is on a
	// CPU.
	CHECK(word_thread(thread(2)->word) == T_RUNNABLE || word_thread(thread(2)->word) == T_SLEEPING,
		"thread 2 is %s",
	      thread_names[word_thread(thread(2)->word)]);
}

CASE(race_a_thread_that_two_CPUs_see_for_the_first_time_has_one_entry)
{
	every_order_at_every_pace(an_unknown_thread, thread_2_leaves_asleep, thread_1_wakes_2, thread_2_is_one_entry);
}

// Thread 2 has no P and looks for work on CPU 0. Thread 1 puts P 1 into its nextp and wakes it.
static void one_hands_over_to_another(void)
{
	start_process(2);
	switch_in(0, 2);
	switch_in(1, 1);
	m_takes_p(1, 0);
	set_clock(100);
	take_sample(0);
	take_sample(1);
	hand_p_to_m(2, 1);
	set_clock(200);
}

static void p_1_waits_for_thread_2(void)
{
	THREAD_IS(2, T_RUNNABLE);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	CHECK_EQ("slot", thread(2)->slot, FIRST_SLOT + 1 + 1);
	CHECK(thread(2)->handed_at, "its wait is not measured");
}

CASE(race_a_thread_that_leaves_asleep_with_a_P_in_nextp_has_been_handed_it)
{
	every_order_at_every_pace(one_hands_over_to_another, thread_2_leaves_asleep, thread_1_wakes_2,
		p_1_waits_for_thread_2);
}

// Thread 1 puts the P into nextp only then. The CPU that thread 2 leaves may have read its m before.
static void one_is_about_to_hand_over(void)
{
	one_hands_over_to_another();
	set_m_nextp(2, -1);
}

static void thread_1_hands_over_to_2(void)
{
	switch_point();
	hand_p_to_m(2, 1);
	switch_point();
	wake(1, 2);
}

CASE(race_a_P_is_put_into_nextp_while_its_thread_leaves_asleep)
{
	every_order_at_every_pace(one_is_about_to_hand_over, thread_2_leaves_asleep, thread_1_hands_over_to_2,
		p_1_waits_for_thread_2);
}

// Two CPUs swap the word of one P. Thread 1 leaves with P 0, and thread 2 has taken it.
static void two_want_one_P(void)
{
	start_process(1);
	switch_in(0, 1);
	switch_in(1, 2);
	m_takes_p(1, 0);
	set_clock(200);
}

static void thread_1_leaves(void)
{
	switch_out(0, PREEMPTED);
}

static void thread_2_has_taken_it(void)
{
	m_takes_p(2, 0);
	set_m_p(1, -1);
	switch_out(1, ASLEEP);
}

static void the_times_add_up(void)
{
	u64 intervals = 0;

	for (u32 i = 0; i < ring_used; i++) {
		struct interval_event *e = &ring[i].interval;

		CHECK(e->end > e->start && e->start >= BEGAN, "an interval from %llu to %llu", e->start - BEGAN,
			e->end - BEGAN);
		if (e->slot == FIRST_SLOT)
			intervals += e->end - e->start;
	}
	CHECK_EQ("the intervals' sum", intervals, (record(0)->word - BEGAN) & SINCE_MASK);
	CHECK_EQ("contended", target->lost[LOST_CONTENDED], 0);
}

CASE(race_two_CPUs_that_swap_one_word_count_each_tick_once)
{
	every_order_at_every_pace(two_want_one_P, thread_1_leaves, thread_2_has_taken_it, the_times_add_up);
}

// Another CPU swaps the word before each of our swaps.
static struct p_record *flipped;
static u32 flips;

static void flip(void)
{
	static bool within;
	struct move m = {.now = clock_ns >> TICK_SHIFT, .owner = tid_of(3 + flips % 2), .state = P_RUNNING,
		.thread = T_ON_CPU};

	if (within || !flips)
		return;
	flips--;
	within = true;
	p_move(target, flipped, FIRST_SLOT, &m);
	within = false;
}

CASE(race_a_word_that_others_swap_all_the_time_is_given_up_after_some_attempts)
{
	for (u32 n = 0; n < 30; n++) {
		struct move m = {.owner = tid_of(1), .state = P_SYSCALL, .thread = T_SLEEPING};
		int gives;

		start_process(1);
		flipped = record(0);
		clock_step = 64;
		flips = n;
		action_at_switch_point = flip;
		m.now = BEGAN + 1;
		gives = p_move(target, record(0), FIRST_SLOT, &m);
		action_at_switch_point = 0;
		CHECK(gives == MOVED || gives == CONTENDED, "gives %d", gives);
		CHECK_EQ("contended", target->lost[LOST_CONTENDED], gives == CONTENDED);
		if (gives == MOVED && !flips)
			CHECK(word_owner(record(0)->word) == tid_of(1) || n, "not moved");
		invariants();
	}
}

// Readers see one instant: while no swap waits for its addition the sum is right, and it is never too great. The
// agent's reader relies on this and has its own test.
static void sums_are_never_too_great(void)
{
	u64 sum = 0;

	for (u32 i = 0; i < P_STATES * T_STATES; i++)
		sum += record(0)->time[i];
	CHECK(((sum + record(0)->birth) & SINCE_MASK) <= (record(0)->word & SINCE_MASK),
		"%llu ticks are counted, and %lld have passed", sum,
	      (s64)((record(0)->word & SINCE_MASK) - (record(0)->birth & SINCE_MASK)));
}

CASE(race_a_reader_never_sees_more_time_than_has_passed)
{
	start_process(2);
	action_at_switch_point = sums_are_never_too_great;
	clock_step = 64;
	for (u32 i = 0; i < 20; i++) {
		switch_in(0, 1);
		m_takes_p(1, i & 1);
		take_sample(0);
		switch_out(0, i & 2 ? ASLEEP : PREEMPTED);
		switch_in(1, 2);
		m_gives_back_p(1, i & 1);
		idle_list(0, 1);
		switch_out(1, ASLEEP);
	}
	action_at_switch_point = 0;
}

// The thread is counted before d_slot is set, so that the waker finds it counted. Where d_slot is set too late for the
// waker, the switch onto a CPU subtracts the thread.
static void thread_2_comes_back(void)
{
	switch_in(0, 2);
	CHECK_EQ("in D", IN_D_COUNT(1), 0);
	CHECK_EQ("slot of its D", thread(2)->d_slot, 0);
}

CASE(race_a_D_count_comes_down_when_its_thread_runs_whenever_it_was_woken)
{
	every_order_at_every_pace(one_wakes_another, thread_2_leaves_in_d, thread_1_wakes_2, thread_2_comes_back);
}

// The world stops while a thread leaves its CPU with its P.
static void about_to_stop(void)
{
	start_process(2);
	switch_in(0, 2);
	m_takes_p(2, 1);
	switch_in(1, 1);
	m_takes_p(1, 0);
	set_clock(100);
	take_sample(0);
	take_sample(1);
	set_g_status(2, G_IN_SYSCALL);
	set_clock(200);
}

static void thread_1_stops_the_world(void)
{
	call_stop_world(1, 3);
}

static void p_1_is_of_thread_2_or_halted(void)
{
	u64 w = record(1)->word;

	CHECK(word_state(w) == P_GCSTOP ? word_owner(w) == 0 && record(1)->arrived
					: word_owner(w) == tid_of(2) && word_thread(w) == T_SLEEPING,
	      "P 1 is %s, %s, of thread %d, arrived %llu", state_names[word_state(w)], thread_names[word_thread(w)],
		(int)word_owner(w) - TGID,
	      record(1)->arrived);
}

CASE(race_a_thread_that_leaves_with_its_P_while_the_world_stops)
{
	every_order_at_every_pace(about_to_stop, thread_2_leaves_asleep, thread_1_stops_the_world,
		p_1_is_of_thread_2_or_halted);
}

// A P is handed over while a thread that had it leaves without it. In either order the P is the woken thread's.
static void passes_on_and_leaves(void)
{
	start_process(1);
	sleep_without_p(2);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_clock(100);
	take_sample(0);
	m_gives_back_p(1, 0);
	hand_p_to_m(2, 0);
	switch_in(1, 3);
	set_clock(200);
}

static void thread_1_leaves_without(void)
{
	switch_out(0, ASLEEP);
}

static void thread_3_wakes_2(void)
{
	wake(1, 2);
}

static void p_0_waits_for_thread_2(void)
{
	P_IS(0, P_IDLE, T_RUNNABLE, 2);
}

CASE(race_a_P_is_handed_over_while_the_thread_that_had_it_leaves)
{
	every_order_at_every_pace(passes_on_and_leaves, thread_1_leaves_without, thread_3_wakes_2,
		p_0_waits_for_thread_2);
}

// The process changes its memory between two words of a read.
static void tear(void)
{
	static u32 n;

	n++;
	set_p_status(0, n % 5);
	poke(M_AT(1) + usual_layout.m_p, n & 1 ? P_AT(0) : 0, 8);
	poke(M_AT(1) + usual_layout.m_nextp, n & 2 ? P_AT(0) : 0, 8);
	poke(PIDLE_AT, n & 4 ? P_AT(0) : P_AT(1), 8);
	poke(P_AT(1) + usual_layout.p_link, n & 8 ? P_AT(0) : 0, 8);
	p_starts_goroutine(0);
}

CASE(race_memory_that_changes_while_it_is_read_breaks_nothing)
{
	start_process(2);
	action_at_switch_point = tear;
	clock_step = 33;
	for (u32 i = 0; i < 200; i++) {
		switch_in(0, 1);
		take_sample(0);
		switch_in(1, 2);
		wake(1, 1);
		switch_out(0, i & 1 ? ASLEEP : PREEMPTED);
		wake(1, 1);
		switch_out(1, ASLEEP);
		invariants();
	}
	action_at_switch_point = 0;
}
