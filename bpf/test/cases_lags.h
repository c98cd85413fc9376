// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// The samples, and the lags between an action of the runtime and the tracepoint that shows it ("Lags" in
// docs/decisions/collector.md).

// The first tick, from this one on, whose event is one of the counted ones.
static u64 next_counted_tick(u64 tick)
{
	while (!event_sampled(BEGAN + tick))
		tick++;
	return tick;
}

CASE(a_sample_counts_for_the_state_of_its_P)
{
	static const struct {
		const char *what;
		u32 g_status;
		bool worker;
		u32 state, counter;
	} rows[] = {
		{"running", G_RUNNING, false, P_RUNNING, 0},
		{"in a call", G_IN_SYSCALL, false, P_SYSCALL, 1},
		{"a mark worker", G_RUNNING, true, P_GC, 2},
	};

	for (u32 i = 0; i < 3; i++) {
		case_detail = rows[i].what;
		start_process(1);
		target->marking_until = ~0ULL;
		switch_in(0, 1);
		m_takes_p(1, 0);
		set_g_status(1, rows[i].g_status);
		if (rows[i].worker)
			mark_worker(1);
		set_clock(100);
		take_sample(0);
		P_IS(0, rows[i].state, T_ON_CPU, 1);
		for (u32 c = 0; c < 3; c++)
			CHECK_EQ("samples", record(0)->samples[c], c == rows[i].counter ? 1000 : 0);
		invariants();
	}
	case_detail = 0;

	// A thread without a P, the idle task and another process count for nothing.
	start_process(1);
	switch_in(0, 1);
	take_sample(0);
	take_sample(1);
	for (u32 c = 0; c < 3; c++)
		CHECK_EQ("samples", record(0)->samples[c], 0);
}

CASE(lag_taken_the_samples_before_a_burst_took_its_P)
{
	u64 end = next_counted_tick(500);

	start_process(1);
	set_clock(100);
	switch_in(0, 1);
	set_clock(200);
	take_sample(0);
	m_takes_p(1, 0);
	set_clock(end);
	switch_out(0, ASLEEP);
	CHECK_EQ("bursts", target->lag_bursts[LAG_TAKEN], EVENT_SAMPLE);
	CHECK_EQ("ticks", target->lag_ticks[LAG_TAKEN], 1000);
	P_TIME(0, P_RUNNING, T_ON_CPU, end - 100);

	// A burst that begins and ends with its P has no lag to measure.
	set_clock(end + 10);
	switch_in(0, 1);
	set_clock(next_counted_tick(end + 20));
	switch_out(0, ASLEEP);
	CHECK_EQ("bursts", target->lag_bursts[LAG_TAKEN], EVENT_SAMPLE);
	CHECK_EQ("ticks", target->lag_ticks[LAG_TAKEN], 1000);
}

CASE(lag_given_a_P_given_back_before_its_thread_leaves)
{
	u64 end;

	for (u32 by_sample = 0; by_sample < 2; by_sample++) {
		case_detail = by_sample ? "a sample sees it" : "no sample sees it";
		start_process(1);
		switch_in(0, 1);
		m_takes_p(1, 0);
		set_clock(100);
		take_sample(0);
		target->lag[LAG_GIVEN] = 40;
		end = next_counted_tick(500);
		m_gives_back_p(1, 0);
		idle_list(0);
		if (by_sample) {
			set_clock(300);
			take_sample(0);
			P_IS(0, P_IDLE, T_NONE, 0);
		}
		set_clock(end + 40);
		switch_out(0, ASLEEP);
		P_IS(0, P_IDLE, T_NONE, 0);
		P_TIME(0, P_RUNNING, T_ON_CPU, by_sample ? 300 : end);
		CHECK_EQ("bursts", target->lag_bursts[LAG_GIVEN], EVENT_SAMPLE);
		CHECK_EQ("ticks", target->lag_ticks[LAG_GIVEN], by_sample ? 1000 : 0);
		invariants();
	}
}

CASE(lag_halted_a_P_given_back_because_the_world_is_being_stopped)
{
	u64 end;

	for (u32 by_sample = 0; by_sample < 2; by_sample++) {
		case_detail = by_sample ? "a sample sees it" : "no sample sees it";
		start_process(2);
		switch_in(0, 1);
		m_takes_p(1, 0);
		switch_in(1, 2);
		m_takes_p(2, 1);
		set_clock(100);
		take_sample(0);
		take_sample(1);
		target->lag[LAG_GIVEN] = 10;
		target->lag[LAG_HALTED] = 40;
		end = next_counted_tick(500);
		set_clock(200);
		call_stop_world(0, 3);
		m_gives_back_p(2, 1);
		set_p_status(1, P_GCSTOP);
		if (by_sample) {
			set_clock(300);
			take_sample(1);
			P_IS(1, P_GCSTOP, T_NONE, 0);
		}
		set_clock(end + 40);
		switch_out(1, ASLEEP);
		P_IS(1, P_GCSTOP, T_NONE, 0);
		P_TIME(1, P_RUNNING, T_ON_CPU, by_sample ? 300 : end);
		CHECK_EQ("bursts", target->lag_bursts[LAG_HALTED], EVENT_SAMPLE);
		CHECK_EQ("ticks", target->lag_ticks[LAG_HALTED], by_sample ? 1000 : 0);
		CHECK_EQ("bursts of the other kind", target->lag_bursts[LAG_GIVEN], 0);
		invariants();
	}
	case_detail = 0;

	// It does not halt before the stop began.
	start_process(2);
	switch_in(0, 1);
	m_takes_p(1, 0);
	switch_in(1, 2);
	m_takes_p(2, 1);
	set_clock(100);
	take_sample(1);
	target->lag[LAG_HALTED] = 40;
	set_clock(200);
	call_stop_world(0, 3);
	m_gives_back_p(2, 1);
	set_p_status(1, P_GCSTOP);
	set_clock(210);
	switch_out(1, ASLEEP);
	P_IS(1, P_GCSTOP, T_NONE, 0);
	P_TIME(1, P_RUNNING, T_ON_CPU, 200);
}

CASE(a_lag_does_not_reach_back_before_the_burst)
{
	start_process(2);
	// Thread 3 is in a system call with P 1. sysmon takes the P from it later.
	switch_in(1, 3);
	m_takes_p(3, 1);
	set_g_status(3, G_IN_SYSCALL);
	set_clock(50);
	switch_out(1, ASLEEP);
	set_clock(60);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_clock(100);
	switch_out(0, PREEMPTED);
	set_clock(200);
	switch_in(0, 1);
	target->lag[LAG_GIVEN] = 140;
	m_gives_back_p(1, 0);
	m_gives_back_p(3, 1);
	idle_list(1, 0);
	set_clock(300);
	switch_out(0, ASLEEP);
	P_IS(0, P_IDLE, T_NONE, 0);
	P_TIME(0, P_RUNNING, T_ON_CPU, 40);
	P_TIME(0, P_RUNNING, T_RUNNABLE, 100);
	P_SINCE(0, 200);
	P_IS(1, P_IDLE, T_NONE, 0);
	P_SINCE(1, 200);
}

CASE(lag_passed_a_P_that_a_sample_found_given_back_and_that_was_passed_on)
{
	u64 now = next_counted_tick(200 + 7);

	before_wake();
	set_m_nextp(2, -1);
	m_gives_back_p(1, 0);
	set_clock(now - 50);
	take_sample(0);
	P_IS(0, P_IDLE, T_NONE, 0);
	CHECK_EQ("released slot", thread(1)->released_slot, FIRST_SLOT + 1);
	hand_p_to_m(2, 0);
	target->lag[LAG_PASSED] = 7;
	set_clock(now);
	wake(0, 2);
	P_IS(0, P_IDLE, T_RUNNABLE, 2);
	CHECK_EQ("bursts", target->lag_bursts[LAG_PASSED], EVENT_SAMPLE);
	CHECK_EQ("ticks", target->lag_ticks[LAG_PASSED], 1000);
	CHECK_EQ("released slot", thread(1)->released_slot, 0);
	CHECK_EQ("ticks without a P", thread(1)->ticks_without_p, 0);
}

CASE(lag_handed_a_thread_takes_what_it_was_handed_a_while_after_it_came)
{
	u64 now = next_counted_tick(400);

	before_wake();
	set_clock(200);
	wake(0, 2);
	target->lag[LAG_HANDED] = 25;
	set_clock(now);
	switch_in(1, 2);
	CHECK_EQ("bursts", target->lag_bursts[LAG_HANDED], EVENT_SAMPLE);
	P_SINCE(1, now + 25);
	P_TIME(1, P_IDLE, T_RUNNABLE, now + 25 - 200);
	CHECK_EQ("wait, which ends when it runs", record(1)->wake_sum, (now - 200) << TICK_SHIFT);
	set_clock(now + 10);
	take_sample(1);
	CHECK_EQ("ticks", target->lag_ticks[LAG_HANDED], 1000);
	P_IS(1, P_RUNNING, T_ON_CPU, 2);
	m_takes_p(2, 1);
	set_clock(now + 30);
	take_sample(1);
	CHECK_EQ("ticks, once it has taken it", target->lag_ticks[LAG_HANDED], 1000);
}

CASE(lag_lost_a_P_lost_in_a_call_and_another_taken_after_it)
{
	u64 end = next_counted_tick(600);

	start_process(2);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_clock(100);
	take_sample(0);
	m_gives_back_p(1, 0);
	idle_list(0, 1);
	set_clock(200);
	take_sample(0); // it has no P
	CHECK_EQ("lost", thread(1)->lost_at, BEGAN + 200);
	target->lag[LAG_LOST] = 60;
	m_takes_p(1, 1);
	set_clock(end);
	switch_out(0, ASLEEP);
	P_TIME(1, P_RUNNING, T_ON_CPU, end - 260);
	CHECK_EQ("bursts", target->lag_bursts[LAG_LOST], EVENT_SAMPLE);
	CHECK_EQ("ticks", target->lag_ticks[LAG_LOST], 1000);
	CHECK_EQ("ticks without a P", thread(1)->ticks_without_p, 0);
}

CASE(lag_lost_a_thread_preempted_in_a_call_in_which_it_lost_its_P)
{
	start_process(2);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_g_status(1, G_IN_SYSCALL);
	set_clock(100);
	switch_out(0, PREEMPTED);
	P_IS(0, P_SYSCALL, T_RUNNABLE, 1);
	// sysmon, thread 2, takes its P and runs it.
	m_gives_back_p(1, 0);
	switch_in(1, 2);
	m_takes_p(2, 0);
	set_clock(200);
	take_sample(1);
	P_IS(0, P_RUNNING, T_ON_CPU, 2);
	set_clock(300);
	switch_in(0, 1);
	CHECK_EQ("slot", thread(1)->slot, 0);
	CHECK_EQ("lost", thread(1)->lost_at, BEGAN + 300);
	target->lag[LAG_LOST] = 60;
	m_takes_p(1, 1);
	set_g_status(1, G_RUNNING);
	set_clock(500);
	switch_out(0, ASLEEP);
	P_TIME(1, P_RUNNING, T_ON_CPU, 500 - 360);
}

// It was woken from sleep instead, so it is no longer in that call.
CASE(a_thread_woken_without_its_P_is_in_no_call)
{
	start_process(2);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_clock(100);
	switch_out(0, ASLEEP);
	m_gives_back_p(1, 0);
	switch_in(1, 2);
	m_takes_p(2, 0);
	set_clock(200);
	take_sample(1);
	wake(1, 1);
	set_clock(300);
	switch_in(0, 1);
	CHECK_EQ("lost", thread(1)->lost_at, 0);
	target->lag[LAG_LOST] = 60;
	m_takes_p(1, 1);
	set_clock(500);
	switch_out(0, ASLEEP);
	P_TIME(1, P_RUNNING, T_ON_CPU, 200);
}

CASE(one_event_in_16_is_measured_and_none_for_more_than_it_can_cost)
{
	u32 counted = 0;

	start_process(1);
	for (u32 i = 0; i < 1600; i++) {
		u64 began = BEGAN * 64 + i * 997, took = i & 1 ? 700 : MAX_EVENT_COST + 700;
		u64 ns = target->probe_ns, events = target->events;

		clock_ns = began + took;
		count_cost(target, began);
		counted += event_sampled(began);
		CHECK_EQ("events", target->events - events, event_sampled(began) ? EVENT_SAMPLE : 0);
		CHECK_EQ("ns", target->probe_ns - ns,
			 event_sampled(began) ? EVENT_SAMPLE * (i & 1 ? 700 : MAX_EVENT_COST) : 0);
	}
	CHECK(counted > 60 && counted < 140, "%u of 1600 events are measured", counted);
}
