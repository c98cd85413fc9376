// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// The four rules of docs/decisions/collector.md that find the P of a thread at an event.

// A thread whose m is known sleeps without a P.
static void sleep_without_p(u32 n)
{
	u64 now = clock_ns;

	set_m_p(n, -1);
	switch_in(3, n);
	switch_out(3, ASLEEP);
	clock_ns = now;
}

// Makes a goroutine one of the GC's mark workers, by its go statement.
static void mark_worker(u32 n)
{
	target->layout.gc_worker_from = WORKER_FROM;
	target->layout.gc_worker_to = WORKER_TO;
	poke(G_AT(n) + usual_layout.g_gopc, WORKER_FROM + 8, 8);
}

// Rule 1.

CASE(rule_1_a_thread_that_leaves_its_CPU_names_its_P)
{
	static const struct {
		const char *what;
		u64 prev_state;
		u32 p_status, g_status;
		u32 gc_mode;
		bool marking, worker_known, worker, stopper;
		u32 want, want_thread;
	} rows[] = {
		{"asleep", ASLEEP, P_RUNNING, G_RUNNING, .want = P_RUNNING, .want_thread = T_SLEEPING},
		{"preempted", PREEMPTED, P_RUNNING, G_RUNNING, .want = P_RUNNING, .want_thread = T_RUNNABLE},
		{"preempted while it goes to sleep", PREEMPTED | ASLEEP, P_RUNNING, G_RUNNING, .want = P_RUNNING,
		 .want_thread = T_RUNNABLE},
		{"it yields", 0, P_RUNNING, G_RUNNING, .want = P_RUNNING, .want_thread = T_RUNNABLE},
		{"uninterruptible", IN_D, P_RUNNING, G_RUNNING, .want = P_RUNNING, .want_thread = T_UNINTERRUPTIBLE},
		{"idle in D, which does not count as load", IN_D | 0x400, P_RUNNING, G_RUNNING, .want = P_RUNNING,
		 .want_thread = T_SLEEPING},
		{"stopped", 0x4, P_RUNNING, G_RUNNING, .want = P_RUNNING, .want_thread = T_STOPPED},
		{"traced", 0x8, P_RUNNING, G_RUNNING, .want = P_RUNNING, .want_thread = T_STOPPED},
		{"in a call, as the P says (up to Go 1.25)", ASLEEP, P_SYSCALL, G_RUNNING, .want = P_SYSCALL,
		 .want_thread = T_SLEEPING},
		{"in a call, as the goroutine says", ASLEEP, P_RUNNING, G_IN_SYSCALL, .want = P_SYSCALL,
		 .want_thread = T_SLEEPING},
		{"in a call, its stack being scanned", IN_D, P_RUNNING, 0x1000 | G_IN_SYSCALL, .want = P_SYSCALL,
		 .want_thread = T_UNINTERRUPTIBLE},
		{"a mark worker by the P's mode", PREEMPTED, P_RUNNING, G_RUNNING, .gc_mode = 1, .marking = true,
		 .want = P_GC, .want_thread = T_RUNNABLE},
		{"a mark worker by its go statement", PREEMPTED, P_RUNNING, G_RUNNING, .marking = true,
		 .worker_known = true, .worker = true, .want = P_GC,
		 .want_thread = T_RUNNABLE},
		{"no worker by its go statement, whatever the mode", PREEMPTED, P_RUNNING, G_RUNNING, .gc_mode = 1,
		 .marking = true, .worker_known = true,
		 .want = P_RUNNING, .want_thread = T_RUNNABLE},
		{"no worker outside of a GC", PREEMPTED, P_RUNNING, G_RUNNING, .gc_mode = 1, .worker_known = true,
		 .worker = true, .want = P_RUNNING,
		 .want_thread = T_RUNNABLE},
		{"halted", ASLEEP, P_GCSTOP, G_RUNNING, .want = P_GCSTOP, .want_thread = T_SLEEPING},
		{"halted, but it stops the world", PREEMPTED, P_GCSTOP, G_RUNNING, .stopper = true,
		 .want = P_RUNNING,
		 .want_thread = T_RUNNABLE},
		{"taken and not yet marked", PREEMPTED, P_IDLE, G_RUNNING, .want = P_IDLE, .want_thread = T_RUNNABLE},
		{"no longer one of GOMAXPROCS", PREEMPTED, P_DEAD, G_RUNNING, .want = P_DEAD,
		 .want_thread = T_RUNNABLE},
	};

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		case_detail = rows[i].what;
		start_process(2);
		set_clock(100);
		switch_in(0, 1);
		m_takes_p(1, 1);
		set_p_status(1, rows[i].p_status);
		set_g_status(1, rows[i].g_status);
		if (rows[i].worker_known) {
			target->layout.gc_worker_from = WORKER_FROM;
			target->layout.gc_worker_to = WORKER_TO;
		}
		poke(G_AT(1) + usual_layout.g_gopc, rows[i].worker ? WORKER_FROM : WORKER_TO, 8);
		poke(P_AT(1) + usual_layout.p_gcmode, rows[i].gc_mode, 4);
		target->marking_until = rows[i].marking ? ~0ULL : 0;
		target->stop_tid = rows[i].stopper ? tid_of(1) : tid_of(2);
		target->stop_start = rows[i].p_status == P_GCSTOP ? BEGAN + 150 : 0;
		set_clock(300);
		switch_out(0, rows[i].prev_state);
		P_IS(1, rows[i].want, rows[i].want_thread, 1);
		THREAD_IS(1, rows[i].want_thread);
		P_SINCE(1, 300);
		P_IS(0, P_IDLE, T_NONE, 0);
		P_TIME(1, P_IDLE, T_NONE, 100);
		P_TIME(1, P_RUNNING, T_ON_CPU, 200);
		CHECK_EQ("arrived", record(1)->arrived, rows[i].want == P_GCSTOP ? BEGAN + 300 : 0);
		CHECK_EQ("thread's time on a CPU", thread(1)->time[T_ON_CPU - 1], 200);
		CHECK_EQ("in D", IN_D_COUNT(1), rows[i].want_thread == T_UNINTERRUPTIBLE);
		invariants();
	}
}

// Up to Go 1.25, entersyscall moves the P from m.p to m.oldp.
CASE(rule_1_up_to_Go_1_25_a_thread_in_a_call_has_left_its_P_in_oldp)
{
	static const struct {
		const char *what;
		u32 p_status, m_tick, p_tick;
		bool has_tick, found;
	} rows[] = {
		{"no M has taken it", P_SYSCALL, 7, 7, true, true},
		{"it has been taken, given back and left in another call", P_SYSCALL, 7, 8, true, false},
		{"it has been taken", P_RUNNING, 7, 7, true, false},
		{"it is idle", P_IDLE, 7, 7, true, false},
		{"Go 1.26 or later, where it is not left", P_SYSCALL, 7, 7, false, false},
	};

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		case_detail = rows[i].what;
		start_process(1);
		target->layout.m_syscalltick = rows[i].has_tick ? 64 : 0;
		set_clock(100);
		switch_in(0, 1);
		m_takes_p(1, 0);
		set_m_p(1, -1);
		set_m_oldp(1, 0);
		set_p_status(0, rows[i].p_status);
		poke(M_AT(1) + 64, rows[i].m_tick, 4);
		poke(P_AT(0) + usual_layout.p_syscalltick, rows[i].p_tick, 4);
		set_clock(300);
		switch_out(0, ASLEEP);
		if (rows[i].found)
			P_IS(0, P_SYSCALL, T_SLEEPING, 1);
		else
			CHECK_EQ("owner", word_owner(record(0)->word), 0);
		invariants();
	}
}

CASE(rule_1_the_state_of_the_former_P_is_read_from_its_memory)
{
	static const struct {
		const char *what;
		u32 status, want, want_thread;
	} rows[] = {
		{"idle", P_IDLE, P_IDLE, T_NONE},
		{"halted", P_GCSTOP, P_GCSTOP, T_NONE},
		{"gone", P_DEAD, P_DEAD, T_NONE},
		{"another thread has it", P_RUNNING, P_RUNNING, T_ON_CPU},
		{"another thread has it in a call", P_SYSCALL, P_SYSCALL, T_ON_CPU},
	};

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		case_detail = rows[i].what;
		start_process(2);
		set_clock(100);
		switch_in(0, 1);
		m_takes_p(1, 0);
		set_clock(200);
		take_sample(0);
		P_IS(0, P_RUNNING, T_ON_CPU, 1);
		m_takes_p(1, 1);
		set_p_status(0, rows[i].status);
		set_clock(300);
		switch_out(0, ASLEEP);
		P_IS(0, rows[i].want, rows[i].want_thread, 0);
		P_IS(1, P_RUNNING, T_SLEEPING, 1);
		// The time of the change is not known, so it is the middle between the two observations.
		P_SINCE(0, 250);
		P_TIME(1, P_RUNNING, T_ON_CPU, 50);
		P_TIME(1, P_IDLE, T_NONE, 250);
		CHECK_EQ("slot", thread(1)->slot, FIRST_SLOT + 1 + 1);
		invariants();
	}
}

// Between two stops, a P with a known address is not read. Its schedtick becomes stale.
CASE(rule_1_between_two_stops_a_P_that_is_known_by_its_address_is_not_read)
{
	start_process(1);
	enter_p_address(0);
	target->no_gcstop_from = BEGAN + 50;
	set_clock(100);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_p_status(0, P_GCSTOP); // must not be read
	set_clock(300);
	switch_out(0, ASLEEP);
	P_IS(0, P_RUNNING, T_SLEEPING, 1);
	CHECK_EQ("schedtick stale", record(0)->schedtick_stale, 1);
	CHECK_EQ("schedtick", record(0)->schedtick, 0);

	// Within a stop, or soon after it, the P is read.
	target->no_gcstop_from = BEGAN + 401;
	set_clock(400);
	switch_in(0, 1);
	switch_out(0, ASLEEP);
	P_IS(0, P_GCSTOP, T_SLEEPING, 1);
	CHECK_EQ("schedtick stale", record(0)->schedtick_stale, 0);
	CHECK_EQ("schedtick", record(0)->schedtick, 1);
}

// Rule 2.

// Thread 1 runs P 0 on CPU 0, and puts the idle P 1 into the nextp of thread 2, which sleeps.
static void before_wake(void)
{
	start_process(3);
	set_clock(10);
	sleep_without_p(2);
	set_clock(100);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_clock(150);
	take_sample(0);
	hand_p_to_m(2, 1);
}

CASE(rule_2_from_being_handed_over_until_its_thread_runs_a_P_waits)
{
	before_wake();
	set_clock(200);
	wake(0, 2);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	P_TIME(1, P_IDLE, T_NONE, 200);
	THREAD_IS(2, T_RUNNABLE);
	P_IS(0, P_RUNNING, T_ON_CPU, 1);
	set_clock(1200);
	switch_in(1, 2);
	P_IS(1, P_RUNNING, T_ON_CPU, 2);
	P_TIME(1, P_IDLE, T_RUNNABLE, 1000);
	CHECK_EQ("wait", record(1)->wake_sum, 1000 << TICK_SHIFT);
	CHECK_EQ("waits of 61 to 86 µs", record(1)->wake[25], 1); // 64 µs
	m_takes_p(2, 1);
	set_clock(1500);
	switch_out(1, ASLEEP);
	P_IS(1, P_RUNNING, T_SLEEPING, 2);
	P_TIME(1, P_RUNNING, T_ON_CPU, 300);
	CHECK_EQ("it did not wait again", record(1)->wake_sum, 1000 << TICK_SHIFT);
}

CASE(rule_2_a_waker_may_pass_its_own_P_on)
{
	before_wake();
	set_m_nextp(2, -1);
	m_gives_back_p(1, 0);
	hand_p_to_m(2, 0);
	target->lag[LAG_PASSED] = 7;
	set_clock(200);
	wake(0, 2);
	P_IS(0, P_IDLE, T_RUNNABLE, 2);
	P_TIME(0, P_RUNNING, T_ON_CPU, 200 - 100 - 7); // it gave the P back a little earlier
	P_SINCE(0, 193);
	CHECK_EQ("the waker's P", thread(1)->slot, 0);
	CHECK_EQ("the woken thread's P", thread(2)->slot, FIRST_SLOT + 1);
	// The waker goes to sleep without the P, and must not move it any more.
	set_clock(250);
	switch_out(0, ASLEEP);
	P_IS(0, P_IDLE, T_RUNNABLE, 2);
}

CASE(rule_2_a_P_that_the_waker_took_unseen_is_found_when_it_wakes)
{
	// Thread 1 comes without a P, takes P 0, hands P 1 to thread 2, and gives P 0 back. P 0 is in the nextp of
	// thread 3 when thread 1 leaves.
	for (u32 lost = 0; lost < 2; lost++) {
		u64 taken = lost ? 60 + 30 : 20;

		case_detail = lost ? "after it lost another one in a call" : "at the beginning of its burst";
		start_process(4);
		enter_p_address(0);
		switch_in(0, 1);
		if (lost) {
			m_takes_p(1, 3);
			set_clock(50);
			take_sample(0);
			m_gives_back_p(1, 3);
			idle_list(3, 0, 1);
			set_clock(60);
			take_sample(0);
			CHECK_EQ("lost", thread(1)->lost_at, BEGAN + 60);
		} else {
			take_sample(0); // so that its m is known
		}
		target->lag[LAG_TAKEN] = 20;
		target->lag[LAG_LOST] = 30;
		target->lag[LAG_GIVEN] = 5;
		m_takes_p(1, 0);
		idle_list(1);
		switch_in(1, 2);
		take_sample(1);
		switch_out(1, ASLEEP);
		hand_p_to_m(2, 1);
		set_clock(200);
		wake(0, 2);
		P_IS(1, P_IDLE, T_RUNNABLE, 2);
		P_IS(0, P_RUNNING, T_ON_CPU, 1);
		P_TIME(0, P_RUNNING, T_ON_CPU, 200 - taken);
		CHECK_EQ("the waker's P", thread(1)->slot, FIRST_SLOT + 1);
		m_gives_back_p(1, 0);
		hand_p_to_m(3, 0);
		set_clock(400);
		switch_out(0, ASLEEP);
		P_IS(0, P_IDLE, T_NONE, 0);
		P_TIME(0, P_RUNNING, T_ON_CPU, 395 - taken);
		invariants();
	}
}

CASE(rule_2_a_thread_that_is_woken_while_on_its_CPU_takes_the_P_at_once)
{
	before_wake();
	set_clock(180);
	switch_in(1, 2); // it looks for work and is about to sleep
	set_clock(200);
	wake(0, 2);
	P_IS(1, P_RUNNING, T_ON_CPU, 2);
	THREAD_IS(2, T_ON_CPU);
	CHECK_EQ("handed", thread(2)->handed_at, 0);
	CHECK_EQ("waits", record(1)->wake_sum, 0);
}

// netpoll gave thread 1 work. It took P 0, which no tracepoint showed, and wakes the next M.
CASE(rule_2_the_P_of_a_waker_is_found_when_it_hands_over_another)
{
	start_process(3);
	enter_p_address(0);
	set_clock(10);
	sleep_without_p(2);
	sleep_without_p(1);
	set_clock(100);
	switch_in(0, 1);
	m_takes_p(1, 0);
	hand_p_to_m(2, 1);
	set_clock(200);
	wake(0, 2);
	P_IS(0, P_RUNNING, T_ON_CPU, 1);
	P_TIME(0, P_RUNNING, T_ON_CPU, 100);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	CHECK_EQ("slot", thread(1)->slot, FIRST_SLOT + 1);
	// The P is given back before the thread leaves. The burst is known all the same.
	set_clock(250);
	m_gives_back_p(1, 0);
	idle_list(0);
	set_clock(260);
	switch_out(0, ASLEEP);
	P_IS(0, P_IDLE, T_NONE, 0);
	P_TIME(0, P_RUNNING, T_ON_CPU, 160);

	// Without a hand-over the P is found when the thread leaves.
	start_process(3);
	enter_p_address(0);
	sleep_without_p(2);
	sleep_without_p(1);
	set_clock(100);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_clock(200);
	wake(0, 2);
	P_IS(0, P_IDLE, T_NONE, 0);
}

CASE(rule_2_only_a_waker_of_the_same_process_and_only_a_P_that_is_handed_over)
{
	static struct task_struct stranger = {.pid = 77, .tgid = 77};

	before_wake();
	set_clock(200);
	cpus[2].current = &stranger;
	wake(2, 2);
	P_IS(1, P_IDLE, T_NONE, 0);
	THREAD_IS(2, T_RUNNABLE);
	invariants();

	before_wake();
	set_m_nextp(2, -1);
	wake(0, 2);
	P_IS(1, P_IDLE, T_NONE, 0);
	invariants();

	// If another thread runs the P, its memory must say that it was handed over.
	before_wake();
	switch_in(2, 3);
	m_takes_p(3, 1);
	set_clock(200);
	switch_out(2, PREEMPTED);
	P_IS(1, P_RUNNING, T_RUNNABLE, 3);
	enter_p_address(1);
	set_m_nextp(2, 1);
	set_clock(210);
	wake(0, 2);
	P_IS(1, P_RUNNING, T_RUNNABLE, 3);
	set_p_status(1, P_IDLE);
	set_clock(220);
	wake(0, 2);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	invariants();

	// An address that is no P's is counted.
	before_wake();
	poke(M_AT(2) + usual_layout.m_nextp, G_AT(1), 8);
	poke(G_AT(1), MAX_PS, 4);
	wake(0, 2);
	CHECK_EQ("bad memory", target->lost[LOST_BAD_MEMORY], 1);
	THREAD_IS(2, T_RUNNABLE);
	invariants();
}

CASE(rule_2_a_thread_whose_P_was_taken_in_a_call_has_lost_it)
{
	// Thread 3 is on its CPU in a system call. sysmon (thread 1) takes P 1 from it and hands it to thread 2.
	before_wake();
	switch_in(2, 3);
	m_takes_p(3, 1);
	set_clock(160);
	take_sample(2);
	set_g_status(3, G_IN_SYSCALL);
	set_m_p(3, -1);
	hand_p_to_m(2, 1);
	set_clock(200);
	wake(0, 2);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	CHECK_EQ("lost", thread(3)->lost_at, BEGAN + 200);
	// It took another P after the call. The call is assumed to last as long as the mean of such calls.
	target->lag[LAG_LOST] = 30;
	m_takes_p(3, 2);
	set_g_status(3, G_RUNNING);
	set_clock(300);
	switch_out(2, ASLEEP);
	P_IS(2, P_RUNNING, T_SLEEPING, 3);
	P_TIME(2, P_RUNNING, T_ON_CPU, 300 - 200 - 30);
}

CASE(rule_2_a_thread_that_keeps_its_P_through_sleep_is_runnable_with_it_when_woken)
{
	start_process(1);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_g_status(1, G_IN_SYSCALL);
	set_clock(100);
	switch_out(0, ASLEEP);
	P_IS(0, P_SYSCALL, T_SLEEPING, 1);
	switch_in(1, 2);
	set_clock(150);
	wake(1, 1);
	P_IS(0, P_SYSCALL, T_RUNNABLE, 1);
	P_TIME(0, P_SYSCALL, T_SLEEPING, 50);
	set_clock(180);
	switch_in(0, 1);
	// It was woken from sleep, so it is about to leave the call.
	P_IS(0, P_RUNNING, T_ON_CPU, 1);
	P_TIME(0, P_SYSCALL, T_RUNNABLE, 30);
	CHECK_EQ("waits, of which this is none", record(0)->wake_sum, 0);
	// It was preempted in the call, so it goes on with it.
	set_clock(200);
	switch_out(0, PREEMPTED);
	P_IS(0, P_SYSCALL, T_RUNNABLE, 1);
	set_clock(220);
	switch_in(0, 1);
	P_IS(0, P_SYSCALL, T_ON_CPU, 1);
}

CASE(rule_2_a_P_taken_away_while_its_thread_was_asleep_is_not_given_back_to_it)
{
	before_wake();
	set_clock(200);
	wake(0, 2);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	// Before thread 2 runs, thread 3 takes the P.
	switch_in(2, 3);
	m_takes_p(3, 1);
	set_clock(300);
	switch_out(2, ASLEEP);
	P_IS(1, P_RUNNING, T_SLEEPING, 3);
	set_clock(400);
	switch_in(1, 2);
	P_IS(1, P_RUNNING, T_SLEEPING, 3);
	CHECK_EQ("slot", thread(2)->slot, 0);
	CHECK_EQ("waits", record(1)->wake_sum, 0);
}

CASE(rule_2_a_thread_that_leaves_before_it_takes_what_it_was_handed_goes_on_waiting)
{
	before_wake();
	set_clock(200);
	wake(0, 2);
	set_clock(300);
	switch_in(1, 2);
	CHECK_EQ("waited", record(1)->wake_sum, 100 << TICK_SHIFT);
	set_clock(310);
	switch_out(1, PREEMPTED);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	P_TIME(1, P_RUNNING, T_ON_CPU, 10);
	set_clock(350);
	switch_in(1, 2);
	P_IS(1, P_RUNNING, T_ON_CPU, 2);
	P_TIME(1, P_IDLE, T_RUNNABLE, 100 + 40);
}

// Rule 3.

CASE(rule_3_a_P_that_was_anothers_was_taken_at_the_burst_s_beginning_not_before_its_own_last_change)
{
	static const struct {
		const char *what;
		u64 taken_from_other; // the tick at which thread 2 left the CPU with the P; 0: it was idle
		u64 lag, running;
	} rows[] = {
		{"idle since long", 0, 0, 200},
		{"idle since long, with the lag", 0, 9, 191},
		{"another's until before the burst", 80, 0, 200},
		{"another's until within the burst", 250, 0, 50},
		{"another's until within the burst, with the lag", 250, 9, 50},
		{"a lag that is longer than the burst", 0, 300, 0},
	};

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		case_detail = rows[i].what;
		start_process(1);
		set_clock(10);
		switch_in(1, 2);
		set_clock(100);
		switch_in(0, 1);
		if (rows[i].taken_from_other) {
			m_takes_p(2, 0);
			set_clock(rows[i].taken_from_other);
			switch_out(1, ASLEEP);
			set_m_p(2, -1);
		}
		target->lag[LAG_TAKEN] = rows[i].lag;
		m_takes_p(1, 0);
		set_clock(300);
		switch_out(0, ASLEEP);
		P_IS(0, P_RUNNING, T_SLEEPING, 1);
		P_TIME(0, P_RUNNING, T_ON_CPU,
			rows[i].running + (rows[i].taken_from_other ? rows[i].taken_from_other - 10 : 0));
		invariants();
	}
}

CASE(rule_3_a_burst_that_goes_on_with_its_P_takes_nothing)
{
	start_process(1);
	set_clock(100);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_clock(200);
	switch_out(0, PREEMPTED);
	set_clock(260);
	switch_in(0, 1);
	target->lag[LAG_TAKEN] = 20;
	set_clock(400);
	switch_out(0, ASLEEP);
	P_TIME(0, P_RUNNING, T_ON_CPU, 100 + 140);
	P_TIME(0, P_RUNNING, T_RUNNABLE, 60);
}

// Rule 4.

CASE(rule_4_a_burst_that_took_and_gave_back_a_P)
{
	start_process(2);
	set_clock(100);
	switch_in(0, 1);
	m_takes_p(1, 0);
	m_gives_back_p(1, 0);
	idle_list(0, 1);
	set_clock(300);
	switch_out(0, ASLEEP);
	P_IS(0, P_IDLE, T_NONE, 0);
	P_TIME(0, P_RUNNING, T_ON_CPU, 200);
	P_TIME(0, P_IDLE, T_NONE, 100);
	CHECK_EQ("idle to running", record(0)->moves[P_IDLE * P_STATES + P_RUNNING], 1);
	CHECK_EQ("running to idle", record(0)->moves[P_RUNNING * P_STATES + P_IDLE], 1);
	P_TIME(1, P_RUNNING, T_ON_CPU, 0);
	// The schedtick is known now, so the next burst does not count the P again.
	set_clock(400);
	switch_in(0, 1);
	set_clock(500);
	switch_out(0, ASLEEP);
	P_TIME(0, P_RUNNING, T_ON_CPU, 200);
	CHECK_EQ("schedtick", record(0)->schedtick, 1);
}

CASE(rule_4_a_P_whose_record_is_busy_is_idle_if_the_list_has_it)
{
	start_process(3);
	set_clock(10);
	switch_in(2, 3);
	m_takes_p(3, 1);
	set_g_status(3, G_IN_SYSCALL);
	set_clock(50);
	switch_out(2, ASLEEP);
	P_IS(1, P_SYSCALL, T_SLEEPING, 3);
	set_clock(100);
	switch_in(0, 1);
	m_gives_back_p(3, 1); // sysmon took it from the thread in its call
	idle_list(1, 0, 2);
	set_clock(300);
	switch_out(0, ASLEEP);
	P_IS(1, P_IDLE, T_NONE, 0);
	P_TIME(1, P_SYSCALL, T_SLEEPING, 250);
}

CASE(rule_4_a_P_that_waits_for_its_thread_does_not_change)
{
	before_wake();
	set_clock(200);
	wake(0, 2);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	switch_in(2, 3);
	idle_list(1, 2);
	set_clock(300);
	switch_out(2, ASLEEP);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
}

// A thread without a P passes two Ps without news on the idle list, and one more for each 512 ticks of its burst, up to
// eight.
CASE(rule_4_how_many_unchanged_Ps_are_passed)
{
	static const struct {
		u64 burst;
		u32 passed;
	} rows[] = {{10, 2}, {511, 2}, {512, 3}, {1024, 4}, {3 * 512, 5}, {5 * 512, 7}, {6 * 512, 8}, {100000, 8}};
	char text[64];

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (u32 place = 0; place < 12; place++) {
			int list[13];
			u32 ps = 12;

			snprintf(text, sizeof(text), "a burst of %llu ticks, the P in place %u", rows[i].burst, place);
			case_detail = text;
			start_process(ps);
			set_clock(100);
			switch_in(0, 1);
			for (u32 p = 0; p < ps; p++)
				list[p] = p;
			list[ps] = -1;
			set_idle_list(list);
			p_starts_goroutine(place);
			set_clock(100 + rows[i].burst);
			switch_out(0, ASLEEP);
			P_TIME(place, P_RUNNING, T_ON_CPU, place <= rows[i].passed ? rows[i].burst : 0);
			invariants();
		}
}

CASE(rule_4_all_Ps_in_sequence_that_ran_are_found_up_to_32)
{
	int list[41];

	start_process(40);
	set_clock(100);
	switch_in(0, 1);
	for (u32 p = 0; p < 40; p++) {
		list[p] = p;
		p_starts_goroutine(p);
	}
	list[40] = -1;
	set_idle_list(list);
	set_clock(110);
	switch_out(0, ASLEEP);
	for (u32 p = 0; p < 40; p++)
		P_TIME(p, P_RUNNING, T_ON_CPU, p < IDLE_LIST_MAX ? 10 : 0);
}

CASE(rule_4_the_walk_of_a_cyclic_list_ends)
{
	start_process(2);
	set_clock(100);
	switch_in(0, 1);
	idle_list(0, 1);
	poke(P_AT(1) + usual_layout.p_link, P_AT(0), 8);
	p_starts_goroutine(0);
	p_starts_goroutine(1);
	user_reads = 0;
	set_clock(300);
	switch_out(0, ASLEEP);
	P_TIME(0, P_RUNNING, T_ON_CPU, 200);
	P_TIME(1, P_RUNNING, T_ON_CPU, 200);
	CHECK(user_reads < IDLE_LIST_MAX + 10, "%llu reads", user_reads);
}

// A thread that came with a P and leaves without it reads that P, and then the list only as far as that P.
CASE(rule_4_a_thread_that_had_a_P_reads_the_list_up_to_that_P)
{
	start_process(4);
	set_clock(10);
	switch_in(0, 1);
	m_takes_p(1, 1);
	set_clock(100);
	take_sample(0);
	m_gives_back_p(1, 1);
	idle_list(0, 1, 2);
	p_starts_goroutine(0); // it lies in front: this thread had it later
	p_starts_goroutine(2);
	set_clock(300);
	switch_out(0, ASLEEP);
	P_IS(1, P_IDLE, T_NONE, 0);
	P_TIME(1, P_RUNNING, T_ON_CPU, 290);
	P_TIME(0, P_RUNNING, T_ON_CPU, 290);
	P_TIME(2, P_RUNNING, T_ON_CPU, 0);
}

CASE(rule_4_a_stale_schedtick_is_read_and_accounts_no_time)
{
	start_process(2);
	record(0)->schedtick_stale = 1;
	set_clock(100);
	switch_in(0, 1);
	idle_list(0, 1);
	p_starts_goroutine(0);
	set_clock(300);
	switch_out(0, ASLEEP);
	P_TIME(0, P_RUNNING, T_ON_CPU, 0);
	CHECK_EQ("schedtick stale", record(0)->schedtick_stale, 0);
	CHECK_EQ("schedtick", record(0)->schedtick, 1);
}

// At the end of marking the GC takes Ps from system calls. So a worker that leaves the CPU reads the list, though it
// keeps its P. A P there that ran was another thread's.
CASE(rule_4_a_GC_worker_that_leaves_the_CPU_reads_the_list_too)
{
	start_process(3);
	target->marking_until = ~0ULL;
	set_clock(10);
	switch_in(2, 3);
	m_takes_p(3, 1);
	set_g_status(3, G_IN_SYSCALL);
	set_clock(50);
	switch_out(2, ASLEEP);
	switch_in(0, 1);
	m_takes_p(1, 0);
	mark_worker(1);
	m_gives_back_p(3, 1);
	idle_list(2, 1);
	p_starts_goroutine(2);
	set_clock(300);
	switch_out(0, PREEMPTED);
	P_IS(0, P_GC, T_RUNNABLE, 1);
	P_IS(1, P_IDLE, T_NONE, 0);
	P_TIME(2, P_RUNNING, T_ON_CPU, 0);
	CHECK_EQ("schedtick of the other", record(2)->schedtick, 0);
}

CASE(without_the_address_of_the_idle_list_rule_4_does_nothing)
{
	start_process(2);
	target->layout.sched_pidle = 0;
	set_clock(100);
	switch_in(0, 1);
	m_takes_p(1, 0);
	m_gives_back_p(1, 0);
	idle_list(0, 1);
	set_clock(300);
	switch_out(0, ASLEEP);
	P_TIME(0, P_RUNNING, T_ON_CPU, 0);
	CHECK_EQ("read faults", target->lost[LOST_READ_FAULT], 0);
}
