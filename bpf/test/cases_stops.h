// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// bpf/world.bpf.c: the world stops and starts.

// Four Ps. Thread 1 runs P 0 and will stop the world. P 1 is idle. Thread 2 sleeps in a system call with P 2. Thread 3
// runs P 3.
static void four_ps(void)
{
	start_process(4);
	switch_in(0, 1);
	m_takes_p(1, 0);
	switch_in(2, 2);
	m_takes_p(2, 2);
	set_g_status(2, G_IN_SYSCALL);
	switch_in(1, 3);
	m_takes_p(3, 3);
	set_clock(50);
	switch_out(2, ASLEEP);
	take_sample(0);
	take_sample(1);
	P_IS(0, P_RUNNING, T_ON_CPU, 1);
	P_IS(2, P_SYSCALL, T_SLEEPING, 2);
	P_IS(3, P_RUNNING, T_ON_CPU, 3);
	ring_used = 0;
}

static struct stop_event *the_stop(void)
{
	for (u32 i = 0; i < ring_used; i++)
		if (ring[i].kind == EVENT_STOP)
			return &ring[i].stop;
	return 0;
}

CASE(a_stop_halts_what_does_not_run_and_waits_for_the_rest)
{
	struct stop_event *e;

	four_ps();
	set_clock(100);
	call_stop_world(0, 3);
	P_IS(0, P_RUNNING, T_ON_CPU, 1);
	P_IS(1, P_GCSTOP, T_NONE, 0);
	P_IS(2, P_GCSTOP, T_NONE, 0);
	P_IS(3, P_RUNNING, T_ON_CPU, 3);
	P_TIME(2, P_SYSCALL, T_SLEEPING, 50);
	// The last P halts.
	set_p_status(3, P_GCSTOP);
	set_clock(150);
	switch_out(1, ASLEEP);
	P_IS(3, P_GCSTOP, T_SLEEPING, 3);
	set_p_status(0, P_GCSTOP);
	set_clock(160);
	take_sample(0); // the thread that stops the world goes on
	P_IS(0, P_RUNNING, T_ON_CPU, 1);
	set_clock(200);
	call_start_world(0, 0);
	P_IS(0, P_RUNNING, T_ON_CPU, 1);
	for (u32 p = 1; p < 4; p++)
		P_IS(p, P_IDLE, T_NONE, 0);
	CHECK_EQ("halted time of P 0", record(0)->stop_time, 0);
	CHECK_EQ("halted time of P 1", record(1)->stop_time, 100);
	CHECK_EQ("halted time of P 2", record(2)->stop_time, 100);
	CHECK_EQ("halted time of P 3", record(3)->stop_time, 50);

	e = the_stop();
	CHECK(e, "the stop is not reported");
	if (!e)
		return;
	CHECK_EQ("target", e->target, TARGET);
	CHECK_EQ("reason", e->reason, 3);
	CHECK_EQ("start", e->start, BEGAN + 100);
	CHECK_EQ("end", e->end, BEGAN + 200);
	CHECK_EQ("start by the probe", e->start_by_probe, 1);
	CHECK_EQ("end by the probe", e->end_by_probe, 1);
	CHECK_EQ("Ps", e->n_ps, 4);
	CHECK_EQ("slowest", e->slowest, 3);
	CHECK_EQ("slowest after", e->slowest_after, 50);
	CHECK_EQ("arrival of P 0", e->after[0], 0);
	CHECK_EQ("arrival of P 1", e->after[1], 1);
	CHECK_EQ("arrival of P 3", e->after[3], 51);
	CHECK_EQ("stops", target->stops, 1);
	CHECK_EQ("stop_start", target->stop_start, 0);
	for (u32 p = 0; p < 4; p++)
		CHECK_EQ("arrived, after the report", record(p)->arrived, 0);
}

// The program takes time. The stop begins when the program ends, not when it begins.
CASE(a_stop_begins_when_the_program_of_its_probe_ends)
{
	four_ps();
	set_clock(100);
	clock_step = 64;
	call_stop_world(0, 3);
	CHECK(target->stop_start > BEGAN + 100, "start %llu", target->stop_start - BEGAN);
	CHECK_EQ("start", target->stop_start, clock_ns >> TICK_SHIFT);
	clock_step = 0;
}

CASE(a_stop_begins_and_ends_by_the_runtimes_clock_if_that_is_plausible)
{
	static const struct {
		const char *what;
		s64 begun, ended; // ticks; the probes ran at 100, 200 and 220
		bool has_begun, has_ended, late;
		u64 start, end;
		bool own_start, own_end;
	} rows[] = {
		{"neither is at hand", 120, 210, false, false, true, 100, 220, true, true},
		{"both", 120, 210, true, true, true, 120, 210, false, false},
		{"both at the edges", 100, 220, true, true, true, 100, 220, false, false},
		{"the other edges", 200, 200, true, true, true, 200, 200, false, false},
		{"a beginning before the probe", 99, 210, true, true, true, 100, 210, true, false},
		{"a beginning after the world was started", 201, 210, true, true, true, 100, 210, true, false},
		{"an end before the world was started: the GC's", 120, 199, true, true, true, 120, 220, false, true},
		{"an end after the probe", 120, 221, true, true, true, 120, 220, false, true},
		{"a beginning of zero", -5000000, 210, true, true, true, 100, 210, true, false},
		{"no probe at the end", 120, 210, true, true, false, 120, 200, false, true},
	};

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct stop_event *e;

		case_detail = rows[i].what;
		four_ps();
		target->layout.has_stop_start_arg = rows[i].has_begun;
		target->layout.stop_end_sp_offset = rows[i].has_ended ? 24 : 0;
		target->end_probe_attached = rows[i].late;
		set_clock(100);
		call_stop_world(0, 3);
		set_clock(200);
		call_start_world(0, (BEGAN + rows[i].begun) << TICK_SHIFT);
		if (rows[i].late) {
			CHECK(!the_stop(), "reported before its end is known");
			set_clock(220);
			call_world_started(0, (BEGAN + rows[i].ended) << TICK_SHIFT);
		}
		e = the_stop();
		CHECK(e, "the stop is not reported");
		if (!e)
			continue;
		CHECK_EQ("start", e->start - BEGAN, rows[i].start);
		CHECK_EQ("end", e->end - BEGAN, rows[i].end);
		CHECK_EQ("start by the probe", e->start_by_probe, rows[i].own_start);
		CHECK_EQ("end by the probe", e->end_by_probe, rows[i].own_end);
		invariants();
	}
}

CASE(a_stop_whose_end_cannot_be_read_ends_by_the_probes_clock)
{
	four_ps();
	target->layout.stop_end_sp_offset = 24;
	target->end_probe_attached = 1;
	set_clock(100);
	call_stop_world(0, 3);
	set_clock(200);
	call_start_world(0, 0);
	poke(STACK_AT + 24, 0, 8);
	set_clock(220);
	this_cpu = 0;
	remove_region(STACK_AT);
	argument(2, 0);
	world_started(&regs);
	CHECK(the_stop() && the_stop()->end == BEGAN + 220 && the_stop()->end_by_probe, "the stop is not reported");
}

CASE(a_stop_that_began_before_the_probes_were_attached_is_not_reported)
{
	four_ps();
	set_clock(200);
	call_start_world(0, 0);
	CHECK(!the_stop(), "a stop without a start is reported");
	CHECK_EQ("stops", target->stops, 0);
}

CASE(a_stop_for_which_the_ring_has_no_room_is_counted)
{
	four_ps();
	set_clock(100);
	call_stop_world(0, 3);
	target->intervals = 0;
	ring_capacity = ring_used;
	set_clock(200);
	call_start_world(0, 0);
	CHECK_EQ("ring full", target->lost[LOST_RING_FULL], 1);
	CHECK_EQ("stops", target->stops, 1);
	CHECK_EQ("stop_start", target->stop_start, 0);
	// The ring has room again, and the next stop is reported as usual.
	ring_capacity = RING;
	set_clock(300);
	call_stop_world(0, 3);
	set_clock(400);
	call_start_world(0, 0);
	CHECK(the_stop() && the_stop()->start == BEGAN + 300 && the_stop()->after[1] == 1,
		"the next stop is not reported correctly");
}

CASE(stops_only_reports_stops_and_changes_no_record)
{
	four_ps();
	target->active = STOPS_ONLY;
	set_clock(100);
	call_stop_world(0, 3);
	set_clock(200);
	call_start_world(0, 0);
	P_IS(1, P_IDLE, T_NONE, 0);
	P_SINCE(1, 0);
	CHECK_EQ("halted time", record(1)->stop_time, 0);
	CHECK(the_stop() && the_stop()->slowest == -1, "the stop is not reported, or with arrivals that were not seen");

	four_ps();
	target->active = NOT_OBSERVED;
	set_clock(100);
	call_stop_world(0, 3);
	set_clock(200);
	call_start_world(0, 0);
	CHECK(!the_stop(), "a stop of a process that is not observed is reported");
}

CASE(a_P_in_a_nextp_is_not_halted_by_the_thread_that_stops_the_world)
{
	before_wake();
	set_clock(200);
	wake(0, 2);
	set_clock(210);
	call_stop_world(0, 3);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	P_IS(2, P_GCSTOP, T_NONE, 0);
}

CASE(the_P_that_arrives_last_is_the_slowest_also_beyond_those_that_are_listed)
{
	start_process(STOP_ARRIVALS + 2);
	switch_in(0, 1);
	m_takes_p(1, 0);
	switch_in(1, 2);
	m_takes_p(2, STOP_ARRIVALS + 1);
	set_clock(50);
	take_sample(0);
	take_sample(1);
	set_clock(100);
	call_stop_world(0, 3);
	set_p_status(STOP_ARRIVALS + 1, P_GCSTOP);
	set_clock(170);
	switch_out(1, ASLEEP);
	set_clock(200);
	call_start_world(0, 0);
	CHECK(the_stop(), "the stop is not reported");
	CHECK_EQ("slowest", the_stop()->slowest, STOP_ARRIVALS + 1);
	CHECK_EQ("after", the_stop()->slowest_after, 70);
	CHECK_EQ("arrival of the last that is listed", the_stop()->after[STOP_ARRIVALS - 1], 1);
}

CASE(stops_bound_the_times_of_GC_and_gcstop)
{
	four_ps();
	target->no_gcstop_from = 0;
	target->marking_until = 0;
	set_clock(100);
	call_stop_world(0, STOP_SWEEP_TERMINATION);
	CHECK_EQ("no_gcstop_from", target->no_gcstop_from, ~0ULL);
	CHECK_EQ("marking", target->marking_until, ~0ULL);
	set_clock(200);
	call_start_world(0, 0);
	CHECK_EQ("no_gcstop_from", target->no_gcstop_from, BEGAN + 200 + GCSTOP_GRACE);
	CHECK_EQ("marking", target->marking_until, ~0ULL);
	set_clock(1000);
	call_stop_world(0, STOP_MARK_TERMINATION);
	CHECK_EQ("marking", target->marking_until, ~0ULL);
	set_clock(1100);
	call_start_world(0, 0);
	CHECK_EQ("no_gcstop_from", target->no_gcstop_from, BEGAN + 1100 + GCSTOP_GRACE);
	CHECK_EQ("marking", target->marking_until, BEGAN + 1100 + MARKING_GRACE);
	set_clock(2000);
	call_stop_world(0, 9);
	set_clock(2100);
	call_start_world(0, 0);
	CHECK_EQ("marking, after a stop that is no GC's", target->marking_until, BEGAN + 1100 + MARKING_GRACE);
}

// The reason is a uint8 in a register, so only its low byte counts.
CASE(a_reason_is_one_byte)
{
	four_ps();
	set_clock(100);
	call_stop_world(0, 0xdeadbeef00000004ULL);
	CHECK_EQ("reason", target->stop_reason, 4);
}
