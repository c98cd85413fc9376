// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// The four rules of docs/decisions/collector.md by which an event says which P a thread has.

// A thread whose m has been seen, asleep without a P.
static void seen_asleep(u32 n)
{
	u64 now = clock_ns;

	m_p(n, -1);
	comes(3, n);
	leaves(3, ASLEEP);
	clock_ns = now;
}

// A goroutine that is one of the GC's mark workers, by where it was made.
static void mark_worker(u32 n)
{
	target->layout.worker_from = WORKER_FROM;
	target->layout.worker_to = WORKER_TO;
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
		{"idle in D, which is no load", IN_D | 0x400, P_RUNNING, G_RUNNING, .want = P_RUNNING,
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
		{"halted, but it is the one that stops the world", PREEMPTED, P_GCSTOP, G_RUNNING, .stopper = true,
		 .want = P_RUNNING,
		 .want_thread = T_RUNNABLE},
		{"taken and not yet marked", PREEMPTED, P_IDLE, G_RUNNING, .want = P_IDLE, .want_thread = T_RUNNABLE},
		{"no longer one of GOMAXPROCS", PREEMPTED, P_DEAD, G_RUNNING, .want = P_DEAD,
		 .want_thread = T_RUNNABLE},
	};

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		doing = rows[i].what;
		a_process(2);
		at(100);
		comes(0, 1);
		takes(1, 1);
		p_status(1, rows[i].p_status);
		g_status(1, rows[i].g_status);
		if (rows[i].worker_known) {
			target->layout.worker_from = WORKER_FROM;
			target->layout.worker_to = WORKER_TO;
		}
		poke(G_AT(1) + usual_layout.g_gopc, rows[i].worker ? WORKER_FROM : WORKER_TO, 8);
		poke(P_AT(1) + usual_layout.p_gcmode, rows[i].gc_mode, 4);
		target->marking_until = rows[i].marking ? ~0ULL : 0;
		target->stop_tid = rows[i].stopper ? tid_of(1) : tid_of(2);
		target->stop_start = rows[i].p_status == P_GCSTOP ? BEGAN + 150 : 0;
		at(300);
		leaves(0, rows[i].prev_state);
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

// Go up to 1.25: entersyscall takes the P out of m.p, and only m.oldp remembers it.
CASE(rule_1_up_to_Go_1_25_a_thread_in_a_call_has_left_its_P_in_oldp)
{
	static const struct {
		const char *what;
		u32 p_status, m_tick, p_tick;
		bool has_tick, found;
	} rows[] = {
		{"nobody has taken it", P_SYSCALL, 7, 7, true, true},
		{"it has been taken, given back and left in another call", P_SYSCALL, 7, 8, true, false},
		{"it has been taken", P_RUNNING, 7, 7, true, false},
		{"it is idle", P_IDLE, 7, 7, true, false},
		{"Go 1.26 or later, where it is not left", P_SYSCALL, 7, 7, false, false},
	};

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		doing = rows[i].what;
		a_process(1);
		target->layout.m_syscalltick = rows[i].has_tick ? 64 : 0;
		at(100);
		comes(0, 1);
		takes(1, 0);
		m_p(1, -1);
		m_oldp(1, 0);
		p_status(0, rows[i].p_status);
		poke(M_AT(1) + 64, rows[i].m_tick, 4);
		poke(P_AT(0) + usual_layout.p_syscalltick, rows[i].p_tick, 4);
		at(300);
		leaves(0, ASLEEP);
		if (rows[i].found)
			P_IS(0, P_SYSCALL, T_SLEEPING, 1);
		else
			CHECK_EQ("owner", word_owner(record(0)->word), 0);
		invariants();
	}
}

CASE(rule_1_another_P_that_the_thread_had_is_asked_what_became_of_it)
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
		doing = rows[i].what;
		a_process(2);
		at(100);
		comes(0, 1);
		takes(1, 0);
		at(200);
		sampled(0);
		P_IS(0, P_RUNNING, T_ON_CPU, 1);
		takes(1, 1);
		p_status(0, rows[i].status);
		at(300);
		leaves(0, ASLEEP);
		P_IS(0, rows[i].want, rows[i].want_thread, 0);
		P_IS(1, P_RUNNING, T_SLEEPING, 1);
		// When it changed over, between the sight of the one and of the other, is not known: half-way.
		P_SINCE(0, 250);
		P_TIME(1, P_RUNNING, T_ON_CPU, 50);
		P_TIME(1, P_IDLE, T_NONE, 250);
		CHECK_EQ("slot", thread(1)->slot, FIRST_SLOT + 1 + 1);
		invariants();
	}
}

// What probes tell need not be read: between stops, a P that is known by its address is left unread.
CASE(rule_1_between_two_stops_a_P_that_is_known_by_its_address_is_not_read)
{
	a_process(1);
	address_known(0);
	target->calm_from = BEGAN + 50;
	at(100);
	comes(0, 1);
	takes(1, 0);
	p_status(0, P_GCSTOP); // must not be seen
	at(300);
	leaves(0, ASLEEP);
	P_IS(0, P_RUNNING, T_SLEEPING, 1);
	CHECK_EQ("unread", record(0)->unread, 1);
	CHECK_EQ("schedtick", record(0)->schedtick, 0);

	// Within a stop, or soon after it, it is read.
	target->calm_from = BEGAN + 401;
	at(400);
	comes(0, 1);
	leaves(0, ASLEEP);
	P_IS(0, P_GCSTOP, T_SLEEPING, 1);
	CHECK_EQ("unread", record(0)->unread, 0);
	CHECK_EQ("schedtick", record(0)->schedtick, 1);
}

// Rule 2.

// Thread 1 runs P 0 on CPU 0, and puts the idle P 1 into the nextp of thread 2, which sleeps.
static void about_to_wake(void)
{
	a_process(3);
	at(10);
	seen_asleep(2);
	at(100);
	comes(0, 1);
	takes(1, 0);
	at(150);
	sampled(0);
	hands_to(2, 1);
}

CASE(rule_2_from_being_handed_over_until_its_thread_runs_a_P_waits)
{
	about_to_wake();
	at(200);
	wakes(0, 2);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	P_TIME(1, P_IDLE, T_NONE, 200);
	THREAD_IS(2, T_RUNNABLE);
	P_IS(0, P_RUNNING, T_ON_CPU, 1);
	at(1200);
	comes(1, 2);
	P_IS(1, P_RUNNING, T_ON_CPU, 2);
	P_TIME(1, P_IDLE, T_RUNNABLE, 1000);
	CHECK_EQ("wait", record(1)->wake_sum, 1000 << TICK_SHIFT);
	CHECK_EQ("waits of 61 to 86 µs", record(1)->wake[25], 1); // 64 µs
	takes(2, 1);
	at(1500);
	leaves(1, ASLEEP);
	P_IS(1, P_RUNNING, T_SLEEPING, 2);
	P_TIME(1, P_RUNNING, T_ON_CPU, 300);
	CHECK_EQ("it did not wait again", record(1)->wake_sum, 1000 << TICK_SHIFT);
}

CASE(rule_2_a_waker_may_pass_its_own_P_on)
{
	about_to_wake();
	m_nextp(2, -1);
	gives_back(1, 0);
	hands_to(2, 0);
	target->lag[LAG_PASSED] = 7;
	at(200);
	wakes(0, 2);
	P_IS(0, P_IDLE, T_RUNNABLE, 2);
	P_TIME(0, P_RUNNING, T_ON_CPU, 200 - 100 - 7); // it let go of it a little earlier
	P_SINCE(0, 193);
	CHECK_EQ("the waker's P", thread(1)->slot, 0);
	CHECK_EQ("the woken thread's P", thread(2)->slot, FIRST_SLOT + 1);
	// The waker goes to sleep without it, and must not touch it any more.
	at(250);
	leaves(0, ASLEEP);
	P_IS(0, P_IDLE, T_RUNNABLE, 2);
}

CASE(rule_2_a_P_that_the_waker_took_silently_is_seen_when_it_wakes)
{
	// Thread 1 comes without a P, takes P 0, hands P 1 to thread 2, gives P 0 back, and that is on its way to thread 3 when thread 1 leaves.
	for (u32 lost = 0; lost < 2; lost++) {
		u64 taken = lost ? 60 + 30 : 20;

		doing = lost ? "after it lost another one in a call" : "at the beginning of its burst";
		a_process(4);
		address_known(0);
		comes(0, 1);
		if (lost) {
			takes(1, 3);
			at(50);
			sampled(0);
			gives_back(1, 3);
			idle_list(3, 0, 1);
			at(60);
			sampled(0);
			CHECK_EQ("lost", thread(1)->lost, BEGAN + 60);
		} else {
			sampled(0); // so that its m is known
		}
		target->lag[LAG_TAKEN] = 20;
		target->lag[LAG_LOST] = 30;
		target->lag[LAG_GIVEN] = 5;
		takes(1, 0);
		idle_list(1);
		comes(1, 2);
		sampled(1);
		leaves(1, ASLEEP);
		hands_to(2, 1);
		at(200);
		wakes(0, 2);
		P_IS(1, P_IDLE, T_RUNNABLE, 2);
		P_IS(0, P_RUNNING, T_ON_CPU, 1);
		P_TIME(0, P_RUNNING, T_ON_CPU, 200 - taken);
		CHECK_EQ("the waker's P", thread(1)->slot, FIRST_SLOT + 1);
		gives_back(1, 0);
		hands_to(3, 0);
		at(400);
		leaves(0, ASLEEP);
		P_IS(0, P_IDLE, T_NONE, 0);
		P_TIME(0, P_RUNNING, T_ON_CPU, 395 - taken);
		invariants();
	}
}

CASE(rule_2_a_thread_that_is_woken_while_on_its_CPU_takes_the_P_at_once)
{
	about_to_wake();
	at(180);
	comes(1, 2); // it looks for work and is about to sleep
	at(200);
	wakes(0, 2);
	P_IS(1, P_RUNNING, T_ON_CPU, 2);
	THREAD_IS(2, T_ON_CPU);
	CHECK_EQ("handed", thread(2)->handed, 0);
	CHECK_EQ("waits", record(1)->wake_sum, 0);
}

// netpoll gave thread 1 work: it took P 0, which nothing announces, and wakes the next M.
CASE(rule_2_a_waker_that_took_its_P_silently_is_seen_when_it_hands_over_another)
{
	a_process(3);
	address_known(0);
	at(10);
	seen_asleep(2);
	seen_asleep(1);
	at(100);
	comes(0, 1);
	takes(1, 0);
	hands_to(2, 1);
	at(200);
	wakes(0, 2);
	P_IS(0, P_RUNNING, T_ON_CPU, 1);
	P_TIME(0, P_RUNNING, T_ON_CPU, 100);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	CHECK_EQ("slot", thread(1)->slot, FIRST_SLOT + 1);
	// It is given back, and taken by another, before this one leaves: the burst is known all the same.
	at(250);
	gives_back(1, 0);
	idle_list(0);
	at(260);
	leaves(0, ASLEEP);
	P_IS(0, P_IDLE, T_NONE, 0);
	P_TIME(0, P_RUNNING, T_ON_CPU, 160);

	// Without a hand-over the P is seen when the thread leaves.
	a_process(3);
	address_known(0);
	seen_asleep(2);
	seen_asleep(1);
	at(100);
	comes(0, 1);
	takes(1, 0);
	at(200);
	wakes(0, 2);
	P_IS(0, P_IDLE, T_NONE, 0);
}

CASE(rule_2_only_a_waker_of_the_same_process_and_only_a_P_that_is_handed_over)
{
	static struct task_struct stranger = {.pid = 77, .tgid = 77};

	about_to_wake();
	at(200);
	cpus[2].current = &stranger;
	wakes(2, 2);
	P_IS(1, P_IDLE, T_NONE, 0);
	THREAD_IS(2, T_RUNNABLE);
	invariants();

	about_to_wake();
	m_nextp(2, -1);
	wakes(0, 2);
	P_IS(1, P_IDLE, T_NONE, 0);
	invariants();

	// A P that another thread runs is believed to be handed over only if its memory says so.
	about_to_wake();
	comes(2, 3);
	takes(3, 1);
	at(200);
	leaves(2, PREEMPTED);
	P_IS(1, P_RUNNING, T_RUNNABLE, 3);
	address_known(1);
	m_nextp(2, 1);
	at(210);
	wakes(0, 2);
	P_IS(1, P_RUNNING, T_RUNNABLE, 3);
	p_status(1, P_IDLE);
	at(220);
	wakes(0, 2);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	invariants();

	// What is no P at all is counted.
	about_to_wake();
	poke(M_AT(2) + usual_layout.m_nextp, G_AT(1), 8);
	poke(G_AT(1), MAX_PS, 4);
	wakes(0, 2);
	CHECK_EQ("bad memory", target->lost[LOST_BAD_MEMORY], 1);
	THREAD_IS(2, T_RUNNABLE);
	invariants();
}

CASE(rule_2_a_P_that_was_taken_while_its_thread_was_in_a_call_is_lost_to_that)
{
	// Thread 3 is on its CPU in a call; sysmon (thread 1) takes P 1 from it and hands it to thread 2.
	about_to_wake();
	comes(2, 3);
	takes(3, 1);
	at(160);
	sampled(2);
	g_status(3, G_IN_SYSCALL);
	m_p(3, -1);
	hands_to(2, 1);
	at(200);
	wakes(0, 2);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	CHECK_EQ("lost", thread(3)->lost, BEGAN + 200);
	// It took another one when the call was over: from then on, plus the mean of such calls.
	target->lag[LAG_LOST] = 30;
	takes(3, 2);
	g_status(3, G_RUNNING);
	at(300);
	leaves(2, ASLEEP);
	P_IS(2, P_RUNNING, T_SLEEPING, 3);
	P_TIME(2, P_RUNNING, T_ON_CPU, 300 - 200 - 30);
}

CASE(rule_2_a_thread_that_keeps_its_P_through_sleep_is_runnable_with_it_when_woken)
{
	a_process(1);
	comes(0, 1);
	takes(1, 0);
	g_status(1, G_IN_SYSCALL);
	at(100);
	leaves(0, ASLEEP);
	P_IS(0, P_SYSCALL, T_SLEEPING, 1);
	comes(1, 2);
	at(150);
	wakes(1, 1);
	P_IS(0, P_SYSCALL, T_RUNNABLE, 1);
	P_TIME(0, P_SYSCALL, T_SLEEPING, 50);
	at(180);
	comes(0, 1);
	// Woken from sleep, it is about to leave the call.
	P_IS(0, P_RUNNING, T_ON_CPU, 1);
	P_TIME(0, P_SYSCALL, T_RUNNABLE, 30);
	CHECK_EQ("waits, of which this is none", record(0)->wake_sum, 0);
	// Preempted in the call, it goes on with it.
	at(200);
	leaves(0, PREEMPTED);
	P_IS(0, P_SYSCALL, T_RUNNABLE, 1);
	at(220);
	comes(0, 1);
	P_IS(0, P_SYSCALL, T_ON_CPU, 1);
}

CASE(rule_2_a_P_taken_away_while_its_thread_was_asleep_is_not_given_back_to_it)
{
	about_to_wake();
	at(200);
	wakes(0, 2);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	// Before thread 2 runs, thread 3 takes the P.
	comes(2, 3);
	takes(3, 1);
	at(300);
	leaves(2, ASLEEP);
	P_IS(1, P_RUNNING, T_SLEEPING, 3);
	at(400);
	comes(1, 2);
	P_IS(1, P_RUNNING, T_SLEEPING, 3);
	CHECK_EQ("slot", thread(2)->slot, 0);
	CHECK_EQ("waits", record(1)->wake_sum, 0);
}

CASE(rule_2_a_thread_that_leaves_before_it_takes_what_it_was_handed_goes_on_waiting)
{
	about_to_wake();
	at(200);
	wakes(0, 2);
	at(300);
	comes(1, 2);
	CHECK_EQ("waited", record(1)->wake_sum, 100 << TICK_SHIFT);
	at(310);
	leaves(1, PREEMPTED);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	P_TIME(1, P_RUNNING, T_ON_CPU, 10);
	at(350);
	comes(1, 2);
	P_IS(1, P_RUNNING, T_ON_CPU, 2);
	P_TIME(1, P_IDLE, T_RUNNABLE, 100 + 40);
}

// Rule 3.

CASE(rule_3_a_P_that_was_anothers_was_taken_at_the_burst_s_beginning_not_before_its_own_last_change)
{
	static const struct {
		const char *what;
		u64 taken_from_other; // the tick at which thread 2 left the CPU with it; 0: it was idle
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
		doing = rows[i].what;
		a_process(1);
		at(10);
		comes(1, 2);
		at(100);
		comes(0, 1);
		if (rows[i].taken_from_other) {
			takes(2, 0);
			at(rows[i].taken_from_other);
			leaves(1, ASLEEP);
			m_p(2, -1);
		}
		target->lag[LAG_TAKEN] = rows[i].lag;
		takes(1, 0);
		at(300);
		leaves(0, ASLEEP);
		P_IS(0, P_RUNNING, T_SLEEPING, 1);
		P_TIME(0, P_RUNNING, T_ON_CPU,
			rows[i].running + (rows[i].taken_from_other ? rows[i].taken_from_other - 10 : 0));
		invariants();
	}
}

CASE(rule_3_a_burst_that_goes_on_with_its_P_takes_nothing)
{
	a_process(1);
	at(100);
	comes(0, 1);
	takes(1, 0);
	at(200);
	leaves(0, PREEMPTED);
	at(260);
	comes(0, 1);
	target->lag[LAG_TAKEN] = 20;
	at(400);
	leaves(0, ASLEEP);
	P_TIME(0, P_RUNNING, T_ON_CPU, 100 + 140);
	P_TIME(0, P_RUNNING, T_RUNNABLE, 60);
}

// Rule 4.

CASE(rule_4_a_burst_that_took_and_gave_back_a_P)
{
	a_process(2);
	at(100);
	comes(0, 1);
	takes(1, 0);
	gives_back(1, 0);
	idle_list(0, 1);
	at(300);
	leaves(0, ASLEEP);
	P_IS(0, P_IDLE, T_NONE, 0);
	P_TIME(0, P_RUNNING, T_ON_CPU, 200);
	P_TIME(0, P_IDLE, T_NONE, 100);
	CHECK_EQ("idle to running", record(0)->moves[P_IDLE * P_STATES + P_RUNNING], 1);
	CHECK_EQ("running to idle", record(0)->moves[P_RUNNING * P_STATES + P_IDLE], 1);
	P_TIME(1, P_RUNNING, T_ON_CPU, 0);
	// It has been seen: the next burst does not count it again.
	at(400);
	comes(0, 1);
	at(500);
	leaves(0, ASLEEP);
	P_TIME(0, P_RUNNING, T_ON_CPU, 200);
	CHECK_EQ("schedtick", record(0)->schedtick, 1);
}

CASE(rule_4_a_P_that_we_hold_for_busy_is_idle_when_the_list_has_it)
{
	a_process(3);
	at(10);
	comes(2, 3);
	takes(3, 1);
	g_status(3, G_IN_SYSCALL);
	at(50);
	leaves(2, ASLEEP);
	P_IS(1, P_SYSCALL, T_SLEEPING, 3);
	at(100);
	comes(0, 1);
	gives_back(3, 1); // sysmon took it from the thread in its call
	idle_list(1, 0, 2);
	at(300);
	leaves(0, ASLEEP);
	P_IS(1, P_IDLE, T_NONE, 0);
	P_TIME(1, P_SYSCALL, T_SLEEPING, 250);
}

CASE(rule_4_a_P_that_waits_for_its_thread_is_left_to_that)
{
	about_to_wake();
	at(200);
	wakes(0, 2);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
	comes(2, 3);
	idle_list(1, 2);
	at(300);
	leaves(2, ASLEEP);
	P_IS(1, P_IDLE, T_RUNNABLE, 2);
}

// How far down the idle list a thread without a P looks: past two Ps with nothing new, and one more for each 512 ticks
// of its burst, up to eight.
CASE(rule_4_how_many_Ps_with_nothing_new_are_passed)
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
			doing = text;
			a_process(ps);
			at(100);
			comes(0, 1);
			for (u32 p = 0; p < ps; p++)
				list[p] = p;
			list[ps] = -1;
			set_idle_list(list);
			p_runs_another(place);
			at(100 + rows[i].burst);
			leaves(0, ASLEEP);
			P_TIME(place, P_RUNNING, T_ON_CPU, place <= rows[i].passed ? rows[i].burst : 0);
			invariants();
		}
}

CASE(rule_4_all_that_ran_are_found_one_behind_the_other_up_to_32)
{
	int list[41];

	a_process(40);
	at(100);
	comes(0, 1);
	for (u32 p = 0; p < 40; p++) {
		list[p] = p;
		p_runs_another(p);
	}
	list[40] = -1;
	set_idle_list(list);
	at(110);
	leaves(0, ASLEEP);
	for (u32 p = 0; p < 40; p++)
		P_TIME(p, P_RUNNING, T_ON_CPU, p < IDLE_LIST_LOOK ? 10 : 0);
}

CASE(rule_4_a_list_that_bites_its_tail_ends)
{
	a_process(2);
	at(100);
	comes(0, 1);
	idle_list(0, 1);
	poke(P_AT(1) + usual_layout.p_link, P_AT(0), 8);
	p_runs_another(0);
	p_runs_another(1);
	user_reads = 0;
	at(300);
	leaves(0, ASLEEP);
	P_TIME(0, P_RUNNING, T_ON_CPU, 200);
	P_TIME(1, P_RUNNING, T_ON_CPU, 200);
	CHECK(user_reads < IDLE_LIST_LOOK + 10, "%llu reads", user_reads);
}

// A thread that came with a P and leaves without it asks that P, and then the list only as far as that P.
CASE(rule_4_a_thread_that_had_a_P_looks_as_far_as_that)
{
	a_process(4);
	at(10);
	comes(0, 1);
	takes(1, 1);
	at(100);
	sampled(0);
	gives_back(1, 1);
	idle_list(0, 1, 2);
	p_runs_another(0); // it lies above: this thread had it later
	p_runs_another(2);
	at(300);
	leaves(0, ASLEEP);
	P_IS(1, P_IDLE, T_NONE, 0);
	P_TIME(1, P_RUNNING, T_ON_CPU, 290);
	P_TIME(0, P_RUNNING, T_ON_CPU, 290);
	P_TIME(2, P_RUNNING, T_ON_CPU, 0);
}

CASE(rule_4_a_P_that_was_left_unread_is_read_and_nothing_taken_from_its_schedtick)
{
	a_process(2);
	record(0)->unread = 1;
	at(100);
	comes(0, 1);
	idle_list(0, 1);
	p_runs_another(0);
	at(300);
	leaves(0, ASLEEP);
	P_TIME(0, P_RUNNING, T_ON_CPU, 0);
	CHECK_EQ("unread", record(0)->unread, 0);
	CHECK_EQ("schedtick", record(0)->schedtick, 1);
}

// The end of marking takes Ps from calls: a worker that leaves the CPU looks, though it keeps its P; what ran
// unannounced was others'.
CASE(rule_4_a_GC_worker_that_leaves_the_CPU_looks_as_well)
{
	a_process(3);
	target->marking_until = ~0ULL;
	at(10);
	comes(2, 3);
	takes(3, 1);
	g_status(3, G_IN_SYSCALL);
	at(50);
	leaves(2, ASLEEP);
	comes(0, 1);
	takes(1, 0);
	mark_worker(1);
	gives_back(3, 1);
	idle_list(2, 1);
	p_runs_another(2);
	at(300);
	leaves(0, PREEMPTED);
	P_IS(0, P_GC, T_RUNNABLE, 1);
	P_IS(1, P_IDLE, T_NONE, 0);
	P_TIME(2, P_RUNNING, T_ON_CPU, 0);
	CHECK_EQ("schedtick of the other", record(2)->schedtick, 0);
}

CASE(a_layout_without_the_idle_list_does_without_rule_4)
{
	a_process(2);
	target->layout.sched_pidle = 0;
	at(100);
	comes(0, 1);
	takes(1, 0);
	gives_back(1, 0);
	idle_list(0, 1);
	at(300);
	leaves(0, ASLEEP);
	P_TIME(0, P_RUNNING, T_ON_CPU, 0);
	CHECK_EQ("read faults", target->lost[LOST_READ_FAULT], 0);
}
