// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// What the samples see, and the lags between what the runtime does and what a tracepoint shows of it ("Lags" in
// docs/decisions/collector.md).

// The first tick from this one on whose burst is one of those that are counted.
static u64 counted_from(u64 tick)
{
	while (!chosen(BEGAN + tick))
		tick++;
	return tick;
}

CASE(a_sample_counts_for_what_it_found_its_P_doing)
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
		doing = rows[i].what;
		a_process(1);
		target->marking_until = ~0ULL;
		comes(0, 1);
		takes(1, 0);
		g_status(1, rows[i].g_status);
		if (rows[i].worker)
			mark_worker(1);
		at(100);
		sampled(0);
		P_IS(0, rows[i].state, T_ON_CPU, 1);
		for (u32 c = 0; c < 3; c++)
			CHECK_EQ("samples", record(0)->samples[c], c == rows[i].counter ? 1000 : 0);
		invariants();
	}
	doing = 0;

	// A thread without a P, the idle task, another process: nothing.
	a_process(1);
	comes(0, 1);
	sampled(0);
	sampled(1);
	for (u32 c = 0; c < 3; c++)
		CHECK_EQ("samples", record(0)->samples[c], 0);
}

CASE(lag_taken_what_the_samples_stand_for_before_a_burst_took_its_P)
{
	u64 end = counted_from(500);

	a_process(1);
	at(100);
	comes(0, 1);
	at(200);
	sampled(0);
	takes(1, 0);
	at(end);
	leaves(0, ASLEEP);
	CHECK_EQ("bursts", target->lag_bursts[LAG_TAKEN], CHOSEN);
	CHECK_EQ("ticks", target->lag_ticks[LAG_TAKEN], 1000);
	P_TIME(0, P_RUNNING, T_ON_CPU, end - 100);

	// A burst that goes on with its P teaches nothing.
	at(end + 10);
	comes(0, 1);
	at(counted_from(end + 20));
	leaves(0, ASLEEP);
	CHECK_EQ("bursts", target->lag_bursts[LAG_TAKEN], CHOSEN);
	CHECK_EQ("ticks", target->lag_ticks[LAG_TAKEN], 1000);
}

CASE(lag_given_a_P_given_back_before_its_thread_leaves)
{
	u64 end;

	for (u32 by_sample = 0; by_sample < 2; by_sample++) {
		doing = by_sample ? "a sample sees it" : "no sample sees it";
		a_process(1);
		comes(0, 1);
		takes(1, 0);
		at(100);
		sampled(0);
		target->lag[LAG_GIVEN] = 40;
		end = counted_from(500);
		gives_back(1, 0);
		idle_list(0);
		if (by_sample) {
			at(300);
			sampled(0);
			P_IS(0, P_IDLE, T_NONE, 0);
		}
		at(end + 40);
		leaves(0, ASLEEP);
		P_IS(0, P_IDLE, T_NONE, 0);
		P_TIME(0, P_RUNNING, T_ON_CPU, by_sample ? 300 : end);
		CHECK_EQ("bursts", target->lag_bursts[LAG_GIVEN], CHOSEN);
		CHECK_EQ("ticks", target->lag_ticks[LAG_GIVEN], by_sample ? 1000 : 0);
		invariants();
	}
}

CASE(lag_halted_a_P_given_back_because_the_world_is_being_stopped)
{
	u64 end;

	for (u32 by_sample = 0; by_sample < 2; by_sample++) {
		doing = by_sample ? "a sample sees it" : "no sample sees it";
		a_process(2);
		comes(0, 1);
		takes(1, 0);
		comes(1, 2);
		takes(2, 1);
		at(100);
		sampled(0);
		sampled(1);
		target->lag[LAG_GIVEN] = 10;
		target->lag[LAG_HALTED] = 40;
		end = counted_from(500);
		at(200);
		stops_world(0, 3);
		gives_back(2, 1);
		p_status(1, P_GCSTOP);
		if (by_sample) {
			at(300);
			sampled(1);
			P_IS(1, P_GCSTOP, T_NONE, 0);
		}
		at(end + 40);
		leaves(1, ASLEEP);
		P_IS(1, P_GCSTOP, T_NONE, 0);
		P_TIME(1, P_RUNNING, T_ON_CPU, by_sample ? 300 : end);
		CHECK_EQ("bursts", target->lag_bursts[LAG_HALTED], CHOSEN);
		CHECK_EQ("ticks", target->lag_ticks[LAG_HALTED], by_sample ? 1000 : 0);
		CHECK_EQ("bursts of the other kind", target->lag_bursts[LAG_GIVEN], 0);
		invariants();
	}
	doing = 0;

	// Not before the stop began.
	a_process(2);
	comes(0, 1);
	takes(1, 0);
	comes(1, 2);
	takes(2, 1);
	at(100);
	sampled(1);
	target->lag[LAG_HALTED] = 40;
	at(200);
	stops_world(0, 3);
	gives_back(2, 1);
	p_status(1, P_GCSTOP);
	at(210);
	leaves(1, ASLEEP);
	P_IS(1, P_GCSTOP, T_NONE, 0);
	P_TIME(1, P_RUNNING, T_ON_CPU, 200);
}

CASE(a_lag_does_not_reach_back_before_the_burst)
{
	a_process(2);
	// Thread 3 is in a call with P 1, which sysmon takes from it later.
	comes(1, 3);
	takes(3, 1);
	g_status(3, G_IN_SYSCALL);
	at(50);
	leaves(1, ASLEEP);
	at(60);
	comes(0, 1);
	takes(1, 0);
	at(100);
	leaves(0, PREEMPTED);
	at(200);
	comes(0, 1);
	target->lag[LAG_GIVEN] = 140;
	gives_back(1, 0);
	gives_back(3, 1);
	idle_list(1, 0);
	at(300);
	leaves(0, ASLEEP);
	P_IS(0, P_IDLE, T_NONE, 0);
	P_TIME(0, P_RUNNING, T_ON_CPU, 40);
	P_TIME(0, P_RUNNING, T_RUNNABLE, 100);
	P_SINCE(0, 200);
	P_IS(1, P_IDLE, T_NONE, 0);
	P_SINCE(1, 200);
}

CASE(lag_passed_a_P_that_a_sample_found_given_back_and_that_was_passed_on)
{
	u64 now = counted_from(200 + 7);

	about_to_wake();
	m_nextp(2, -1);
	gives_back(1, 0);
	at(now - 50);
	sampled(0);
	P_IS(0, P_IDLE, T_NONE, 0);
	CHECK_EQ("gave", thread(1)->gave, FIRST_SLOT + 1);
	hands_to(2, 0);
	target->lag[LAG_PASSED] = 7;
	at(now);
	wakes(0, 2);
	P_IS(0, P_IDLE, T_RUNNABLE, 2);
	CHECK_EQ("bursts", target->lag_bursts[LAG_PASSED], CHOSEN);
	CHECK_EQ("ticks", target->lag_ticks[LAG_PASSED], 1000);
	CHECK_EQ("gave", thread(1)->gave, 0);
	CHECK_EQ("unheld", thread(1)->unheld, 0);
}

CASE(lag_handed_a_thread_takes_what_it_was_handed_a_while_after_it_came)
{
	u64 now = counted_from(400);

	about_to_wake();
	at(200);
	wakes(0, 2);
	target->lag[LAG_HANDED] = 25;
	at(now);
	comes(1, 2);
	CHECK_EQ("bursts", target->lag_bursts[LAG_HANDED], CHOSEN);
	P_SINCE(1, now + 25);
	P_TIME(1, P_IDLE, T_RUNNABLE, now + 25 - 200);
	CHECK_EQ("wait, which ends when it runs", record(1)->wake_sum, (now - 200) << TICK_SHIFT);
	at(now + 10);
	sampled(1);
	CHECK_EQ("ticks", target->lag_ticks[LAG_HANDED], 1000);
	P_IS(1, P_RUNNING, T_ON_CPU, 2);
	takes(2, 1);
	at(now + 30);
	sampled(1);
	CHECK_EQ("ticks, once it has taken it", target->lag_ticks[LAG_HANDED], 1000);
}

CASE(lag_lost_a_P_lost_in_a_call_and_another_taken_after_it)
{
	u64 end = counted_from(600);

	a_process(2);
	comes(0, 1);
	takes(1, 0);
	at(100);
	sampled(0);
	gives_back(1, 0);
	idle_list(0, 1);
	at(200);
	sampled(0); // it has none
	CHECK_EQ("lost", thread(1)->lost, BEGAN + 200);
	target->lag[LAG_LOST] = 60;
	takes(1, 1);
	at(end);
	leaves(0, ASLEEP);
	P_TIME(1, P_RUNNING, T_ON_CPU, end - 260);
	CHECK_EQ("bursts", target->lag_bursts[LAG_LOST], CHOSEN);
	CHECK_EQ("ticks", target->lag_ticks[LAG_LOST], 1000);
	CHECK_EQ("unheld", thread(1)->unheld, 0);
}

CASE(lag_lost_a_thread_preempted_in_a_call_in_which_it_lost_its_P)
{
	a_process(2);
	comes(0, 1);
	takes(1, 0);
	g_status(1, G_IN_SYSCALL);
	at(100);
	leaves(0, PREEMPTED);
	P_IS(0, P_SYSCALL, T_RUNNABLE, 1);
	// sysmon, thread 2, takes its P and runs it.
	gives_back(1, 0);
	comes(1, 2);
	takes(2, 0);
	at(200);
	sampled(1);
	P_IS(0, P_RUNNING, T_ON_CPU, 2);
	at(300);
	comes(0, 1);
	CHECK_EQ("slot", thread(1)->slot, 0);
	CHECK_EQ("lost", thread(1)->lost, BEGAN + 300);
	target->lag[LAG_LOST] = 60;
	takes(1, 1);
	g_status(1, G_RUNNING);
	at(500);
	leaves(0, ASLEEP);
	P_TIME(1, P_RUNNING, T_ON_CPU, 500 - 360);
}

// Woken from sleep instead, it is not in that call any more.
CASE(a_thread_woken_without_its_P_is_in_no_call)
{
	a_process(2);
	comes(0, 1);
	takes(1, 0);
	at(100);
	leaves(0, ASLEEP);
	gives_back(1, 0);
	comes(1, 2);
	takes(2, 0);
	at(200);
	sampled(1);
	wakes(1, 1);
	at(300);
	comes(0, 1);
	CHECK_EQ("lost", thread(1)->lost, 0);
	target->lag[LAG_LOST] = 60;
	takes(1, 1);
	at(500);
	leaves(0, ASLEEP);
	P_TIME(1, P_RUNNING, T_ON_CPU, 200);
}

CASE(one_event_in_16_is_measured_and_none_for_more_than_it_can_cost)
{
	u32 counted = 0;

	a_process(1);
	for (u32 i = 0; i < 1600; i++) {
		u64 began = BEGAN * 64 + i * 997, took = i & 1 ? 700 : COSTS_MOST + 700;
		u64 ns = target->probe_ns, events = target->events;

		clock_ns = began + took;
		measured(target, began);
		counted += chosen(began);
		CHECK_EQ("events", target->events - events, chosen(began) ? CHOSEN : 0);
		CHECK_EQ("ns", target->probe_ns - ns, !chosen(began) ? 0 : CHOSEN * (i & 1 ? 700 : COSTS_MOST));
	}
	CHECK(counted > 60 && counted < 140, "%u of 1600 events are measured", counted);
}
