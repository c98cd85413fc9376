// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Threads and the D counts of their Ps, how a target is found, and the reads of the process's memory.

// The D share is the share of time in which a thread of a P is in uninterruptible sleep. A thread is of a P if it
// carries it, or carried it last.

CASE(d_counts_a_thread_that_carries_its_P)
{
	start_process(1);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_clock(100);
	switch_out(0, IN_D);
	P_IS(0, P_RUNNING, T_UNINTERRUPTIBLE, 1);
	CHECK_EQ("in D", IN_D_COUNT(0), 1);
	switch_in(1, 2);
	set_clock(150);
	wake(1, 1);
	CHECK_EQ("in D", IN_D_COUNT(0), 0);
	CHECK_EQ("D time", record(0)->d_time, 50);
	set_clock(170);
	switch_in(0, 1);
	CHECK_EQ("in D", IN_D_COUNT(0), 0);
	CHECK_EQ("D time", record(0)->d_time, 50);
	P_TIME(0, P_RUNNING, T_UNINTERRUPTIBLE, 50);
	P_TIME(0, P_RUNNING, T_RUNNABLE, 20);
}

CASE(d_counts_a_thread_for_the_P_it_carried_last)
{
	start_process(2);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_g_status(1, G_IN_SYSCALL);
	set_clock(100);
	switch_out(0, IN_D);
	// sysmon takes the P from the call, and thread 2 runs it. Thread 1 still counts.
	switch_in(1, 2);
	set_m_p(1, -1);
	m_takes_p(2, 0);
	set_clock(200);
	take_sample(1);
	P_IS(0, P_RUNNING, T_ON_CPU, 2);
	CHECK_EQ("in D", IN_D_COUNT(0), 1);
	// Two threads at once count once.
	set_clock(220);
	switch_out(1, IN_D);
	CHECK_EQ("in D", IN_D_COUNT(0), 2);
	set_clock(250);
	switch_in(0, 1);
	CHECK_EQ("in D", IN_D_COUNT(0), 1);
	// It sleeps in D again, without a P. Its last P was P 0.
	set_clock(260);
	switch_out(0, IN_D);
	CHECK_EQ("in D", IN_D_COUNT(0), 2);
	set_clock(300);
	switch_in(1, 2);
	set_clock(330);
	switch_in(0, 1);
	CHECK_EQ("in D", IN_D_COUNT(0), 0);
	CHECK_EQ("D time", record(0)->d_time, 230);
	// Now it takes P 1, and counts for P 1.
	m_takes_p(1, 1);
	set_g_status(1, G_RUNNING);
	set_clock(400);
	switch_out(0, IN_D);
	CHECK_EQ("in D of P 0", IN_D_COUNT(0), 0);
	CHECK_EQ("in D of P 1", IN_D_COUNT(1), 1);
}

// A stopped, traced or frozen thread is neither in D nor asleep, whatever state the kernel gives it.
CASE(a_suspended_thread_is_in_no_D_count)
{
	static const struct {
		u64 state, jobctl;
		u32 thread;
	} ways[] = {
		{STOPPED, 0, T_STOPPED},
		{TRACED, 0, T_STOPPED},
		{STOPPED, JOBCTL_TRAP_FREEZE, T_STOPPED}, // stopped by a signal first, and then its cgroup is frozen
		{IN_FREEZER, 0, T_FROZEN}, // cgroup v1
		{ASLEEP | FREEZABLE, JOBCTL_TRAP_FREEZE, T_FROZEN}, // cgroup v2
		{ASLEEP | FREEZABLE, JOBCTL_TRAP_FREEZE >> 1, T_SLEEPING},
		{IN_D | FREEZABLE, 0, T_UNINTERRUPTIBLE},
		{IN_D, JOBCTL_TRAP_FREEZE, T_UNINTERRUPTIBLE}, // its cgroup freezes, and the thread is not frozen yet
	};

	for (u32 way = 0; way < 2 * sizeof(ways) / sizeof(ways[0]); way++) {
		u32 i = way / 2;

		start_process(1);
		rdonly_cast = way % 2 ? 0 : same_pointer; // null before Linux 6.2
		tasks[1].jobctl = ways[i].jobctl;
		switch_in(0, 1);
		m_takes_p(1, 0);
		set_clock(100);
		switch_out(0, ways[i].state);
		P_IS(0, P_RUNNING, ways[i].thread, 1);
		CHECK_EQ("in D", IN_D_COUNT(0), ways[i].thread == T_UNINTERRUPTIBLE);
		set_clock(150);
		tasks[1].jobctl = 0;
		wake(1, 1);
		P_IS(0, P_RUNNING, T_RUNNABLE, 1);
		P_TIME(0, P_RUNNING, ways[i].thread, 50);
		CHECK_EQ("in D", IN_D_COUNT(0), 0);
		CHECK_EQ("time of the thread", thread(1)->time[ways[i].thread - 1], 50);
	}
}

// A thread that is stopped before it takes the P in its nextp does not wait for a CPU.
CASE(a_P_handed_to_a_thread_that_is_stopped_is_idle)
{
	start_process(2);
	switch_in(0, 1);
	m_takes_p(1, 0);
	switch_in(1, 2);
	set_clock(100);
	switch_out(1, ASLEEP);
	set_clock(200);
	set_m_p(1, -1);
	hand_p_to_m(2, 0);
	wake(0, 2);
	P_IS(0, P_IDLE, T_RUNNABLE, 2);
	set_clock(210);
	switch_in(1, 2);
	set_clock(220);
	switch_out(1, STOPPED);
	P_IS(0, P_IDLE, T_NONE, 0);
	switch_out(0, ASLEEP);
	set_clock(1000);
	wake(0, 2);
	P_IS(0, P_IDLE, T_NONE, 0);
	set_clock(1010);
	switch_in(1, 2);
	m_takes_p(2, 0);
	set_clock(1100);
	switch_out(1, PREEMPTED);
	P_IS(0, P_RUNNING, T_RUNNABLE, 2);
	CHECK(record(0)->time[P_IDLE * T_STATES + T_NONE] >= 700, "not idle while its thread was stopped");
}

CASE(d_ends_with_its_thread)
{
	start_process(1);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_clock(100);
	switch_out(0, IN_D);
	set_clock(150);
	switch_in(0, 1); // killed
	set_clock(200);
	switch_out(0, IN_D);
	CHECK_EQ("in D", IN_D_COUNT(0), 1);
	CHECK_EQ("D time", record(0)->d_time, 50);
	tasks[1].signal->live.counter = 0;
	this_cpu = 1;
	set_clock(230);
	{
		u64 args[1] = {(u64)&tasks[1]};

		process_exit((struct bpf_raw_tracepoint_args *)args);
	}
	CHECK_EQ("in D", IN_D_COUNT(0), 0);
	CHECK_EQ("D time", record(0)->d_time, 80);
	CHECK(!thread(1), "the thread is still there");
	CHECK_EQ("active", target->active, NOT_OBSERVED);
}

CASE(a_thread_that_never_had_a_P_counts_in_no_D)
{
	start_process(1);
	switch_in(0, 1);
	set_clock(100);
	switch_out(0, IN_D);
	CHECK_EQ("in D", IN_D_COUNT(0), 0);
	THREAD_IS(1, T_UNINTERRUPTIBLE);
	set_clock(150);
	switch_in(0, 1);
	CHECK_EQ("time", thread(1)->time[T_UNINTERRUPTIBLE - 1], 50);
}

// The thread table.

CASE(a_thread_that_exits_is_forgotten)
{
	start_process(1);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_clock(100);
	switch_out(0, 0x80); // EXIT_DEAD
	CHECK(!thread(1), "the thread is still there");
	// Another event shows what becomes of its P.
	P_IS(0, P_IDLE, T_NONE, 0);
}

CASE(one_thread_of_many_that_exits_ends_no_process)
{
	u64 args[1] = {(u64)&tasks[1]};

	start_process(1);
	switch_in(0, 1);
	process_exit((struct bpf_raw_tracepoint_args *)args);
	CHECK_EQ("active", target->active, OBSERVED);
	CHECK(thread(1), "the thread is gone");
}

CASE(a_process_that_runs_another_program_is_no_target_any_more)
{
	start_process(1);
	switch_in(0, 1);
	this_cpu = 0;
	exec(0);
	CHECK_EQ("active", target->active, NOT_OBSERVED);
	CHECK_EQ("events", ring_used, 1);
	CHECK_EQ("kind", ring[0].kind, EVENT_EXEC);
	CHECK_EQ("tgid", ring[0].exec.tgid, TGID);
	m_takes_p(1, 0);
	set_clock(100);
	switch_out(0, ASLEEP);
	P_IS(0, P_IDLE, T_NONE, 0);

	// The ring is full, and the loss belongs to no target.
	ring_capacity = ring_used;
	exec(0);
	CHECK_EQ("lost", *(u64 *)value_at(&lost_global, LOST_RING_FULL), 1);
}

CASE(a_tid_that_another_process_had_before_is_another_thread)
{
	start_process(1);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_clock(100);
	switch_out(0, ASLEEP);
	thread(1)->target = TARGET + 1; // as if left over from another target
	set_clock(200);
	switch_in(0, 1);
	CHECK_EQ("target", thread(1)->target, TARGET);
	CHECK_EQ("time", thread(1)->time[T_ON_CPU - 1], 0);
	CHECK_EQ("slot", thread(1)->slot, 0);
	CHECK(!strcmp(thread(1)->comm, "m1"), "its name is %s", thread(1)->comm);
}

CASE(a_full_set_of_the_thread_table_is_counted)
{
	u32 set = tid_of(1) % THREAD_SETS;
	struct thread_set *keys;

	start_process(1);
	keys = value_at(&thread_sets, set);
	for (u32 way = 0; way < THREAD_WAYS; way++)
		keys->key[way] = THREAD_SETS * (1000 + way) + set;
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_clock(100);
	take_sample(0);
	switch_out(0, ASLEEP);
	CHECK_EQ("threads full", target->lost[LOST_THREADS_FULL], 3);
	P_IS(0, P_IDLE, T_NONE, 0);

	// Another set has room. This set has room as soon as one of its threads exits.
	switch_in(1, 2);
	THREAD_IS(2, T_ON_CPU);
	for (u32 way = 0; way < THREAD_WAYS; way++) {
		u32 was = keys->key[way];

		remove_thread(was);
		set_clock(200 + 100 * way);
		switch_in(0, 1);
		THREAD_IS(1, T_ON_CPU);
		CHECK_EQ("key", keys->key[way], tid_of(1));
		switch_out(0, 0x80);
		CHECK_EQ("key, after its end", keys->key[way], 0);
		keys->key[way] = was;
	}
	CHECK_EQ("threads full", target->lost[LOST_THREADS_FULL], 3);
}

CASE(a_thread_is_found_wherever_it_is_in_its_set)
{
	struct thread_set keys = {};

	for (u32 way = 0; way < THREAD_WAYS; way++)
		keys.key[way] = 100 + way;
	for (u32 way = 0; way < THREAD_WAYS; way++)
		CHECK_EQ("way", way_of(&keys, 100 + way), way);
	CHECK_EQ("way of what is not there", way_of(&keys, 99) >= THREAD_WAYS, true);
	keys.key[3] |= THREAD_ENTERING;
	CHECK_EQ("way of an incomplete entry", way_of(&keys, 103) >= THREAD_WAYS, true);
}

// Targets.

CASE(a_target_is_found_by_its_hint_or_by_the_table_that_two_share)
{
	u32 index = 0, other = TGID + HINTS, third = TGID + 1;

	start_process(1);
	CHECK(target_of(TGID, &index) == target && index == TARGET, "not found");
	CHECK(!target_of(third, &index), "a neighbour of its hint is found");
	CHECK(!target_of(other, &index), "another process of the same hint is found");

	enter_target(other, 2);
	*(u64 *)value_at(&target_hints, (TGID & (HINTS - 1)) >> 2) = (u64)HINT_SHARED << ((TGID & 3) * 16);
	CHECK(target_of(TGID, &index) == target && index == TARGET, "not found where two share a hint");
	CHECK(target_of(other, &index) == value_at(&targets, 2) && index == 2, "the other is not found");
	CHECK(!target_of(TGID + 2 * HINTS, &index), "a third process of the same hint is found");

	target->active = STOPS_ONLY;
	CHECK(!target_of(TGID, &index), "found where only stops are reported");
	CHECK(any_target_of(TGID, &index) == target, "any_target_of does not find it where only stops are reported");
	target->active = NOT_OBSERVED;
	CHECK(!any_target_of(TGID, &index), "found after its observation ended");
}

CASE(the_idle_task_and_processes_that_are_no_targets_cost_no_reads)
{
	static struct task_struct stranger = {.pid = 77, .tgid = 77};
	u64 args[4] = {0, (u64)&stranger, (u64)&tasks[0], 1};

	start_process(1);
	cpus[0].current = &stranger;
	user_reads = switch_points_passed = 0;
	sched_switch((struct bpf_raw_tracepoint_args *)args);
	args[0] = (u64)&stranger;
	sched_waking((struct bpf_raw_tracepoint_args *)args);
	sample(0);
	CHECK_EQ("reads", user_reads, 0);
	CHECK_EQ("look-ups besides the hint", switch_points_passed, 0);
}

// An agent that is stopped must cost nothing (bpf/heartbeat.h).
CASE(programs_do_nothing_while_the_agent_is_silent)
{
	u64 args[1] = {(u64)&tasks[1]}, word;

	start_process(1);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_clock(100);
	switch_out(0, PREEMPTED);
	word = record(0)->word;
	agent_alive_until = clock_ns;
	ring_used = 0;
	set_clock(200);
	user_reads = 0;
	switch_in(0, 1);
	take_sample(0);
	wake(0, 2);
	call_stop_world(0, 3);
	call_start_world(0, 0);
	call_world_started(0, 0);
	switch_out(0, IN_D);
	process_exit((struct bpf_raw_tracepoint_args *)args);
	exec(0);
	CHECK_EQ("reads", user_reads, 0);
	CHECK_EQ("events", ring_used, 0);
	CHECK_EQ("word", record(0)->word, word);
	THREAD_IS(1, T_RUNNABLE);
	CHECK(!thread(2), "a thread is entered");
	CHECK_EQ("stops", target->stops, 0);
	// The sample itself is counted.
	CHECK_EQ("samples of the CPU", ((struct cpu_samples *)value_at(&sampled_cpus, 0))->samples, 1);

	agent_alive_until = ~0ULL;
	set_clock(300);
	switch_in(0, 1);
	THREAD_IS(1, T_ON_CPU);
	P_IS(0, P_RUNNING, T_ON_CPU, 1);
}

CASE(threads_are_numbered_alike_whatever_the_kernel_offers)
{
	for (u32 way = 0; way < 2; way++) {
		start_process(1);
		rdonly_cast = way ? 0 : same_pointer; // null before Linux 6.2
		CHECK_EQ("ids", ids_of(&tasks[3]), (u64)TGID << 32 | tid_of(3));
		cpus[0].current = &tasks[3];
		CHECK_EQ("ids of the current task", current_ids(&tasks[3]), (u64)TGID << 32 | tid_of(3));
		switch_in(1, 1);
		m_takes_p(1, 0);
		set_clock(100);
		switch_out(1, ASLEEP);
		P_IS(0, P_RUNNING, T_SLEEPING, 1);
	}
}

// Reads of memory.

CASE(an_m_must_hold_the_tid_of_its_thread)
{
	static const struct {
		const char *what;
		bool nested;
		u32 outside, inside, procid;
		bool believed;
	} rows[] = {
		{"its number", false, 0, 0, TGID + 1, true},
		{"another one's", false, 0, 0, TGID + 2, false},
		{"its number inside of a PID namespace", true, TGID + 1, 7, 7, true},
		{"its number outside of it", true, TGID + 1, 7, TGID + 1, false},
	};
	static struct {
		unsigned int level;
		struct upid numbers[2];
	} two_levels;

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		case_detail = rows[i].what;
		start_process(1);
		target->layout.in_pid_namespace = rows[i].nested;
		two_levels.level = 1;
		two_levels.numbers[0].nr = rows[i].outside;
		two_levels.numbers[1].nr = rows[i].inside;
		if (rows[i].nested)
			tasks[1].thread_pid = (struct pid *)&two_levels;
		poke(M_AT(1) + usual_layout.m_procid, rows[i].procid, 8);
		switch_in(0, 1);
		m_takes_p(1, 0);
		set_clock(100);
		switch_out(0, ASLEEP);
		P_IS(0, rows[i].believed ? P_RUNNING : P_IDLE, rows[i].believed ? T_SLEEPING : T_NONE,
			rows[i].believed ? 1 : 0);
		CHECK_EQ("m", thread(1)->m, rows[i].believed ? M_AT(1) : 0);
	}
}

// Without cgo a thread keeps its m for life, and the m is then read from curg on.
CASE(a_verified_m_is_verified_again_only_with_cgo)
{
	for (u32 keeps = 0; keeps < 2; keeps++) {
		start_process(1);
		target->layout.fixed_m = keeps;
		switch_in(0, 1);
		m_takes_p(1, 0);
		set_clock(100);
		switch_out(0, ASLEEP);
		CHECK_EQ("named", thread(1)->m_verified, 1);
		poke(M_AT(1) + usual_layout.m_procid, 1, 8);
		poke(G0_AT(1) + usual_layout.g_m, M_AT(2), 8); // and its g leads to another thread's m
		switch_in(0, 1);
		m_takes_p(1, 0);
		set_clock(200);
		switch_out(0, PREEMPTED);
		P_IS(0, P_RUNNING, keeps ? T_RUNNABLE : T_ON_CPU, 1);
		invariants();
	}
}

// With cgo a thread may have another m every time it calls Go.
CASE(a_thread_that_has_another_m_is_found_with_that)
{
	start_process(2);
	switch_in(0, 1);
	m_takes_p(1, 0);
	set_clock(100);
	switch_out(0, PREEMPTED);
	switch_in(0, 1);
	m_gives_back_p(1, 0);
	poke(M_AT(1) + usual_layout.m_procid, tid_of(5), 8);
	poke(G0_AT(1) + usual_layout.g_m, M_AT(5), 8);
	poke(M_AT(5) + usual_layout.m_procid, tid_of(1), 8);
	m_takes_p(5, 1);
	set_clock(200);
	switch_out(0, ASLEEP);
	P_IS(1, P_RUNNING, T_SLEEPING, 1);
	P_IS(0, P_IDLE, T_NONE, 0);
	CHECK_EQ("m", thread(1)->m, M_AT(5));
}

CASE(memory_that_is_not_resident_is_counted_and_changes_nothing)
{
	static const struct {
		const char *what;
		u64 missing;
		u32 faults;
	} rows[] = {
		{"the m", M_AT(1), 1},
		{"the P", P_AT(0), 1},
	};

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		case_detail = rows[i].what;
		start_process(1);
		switch_in(0, 1);
		m_takes_p(1, 0);
		remove_region(rows[i].missing);
		set_clock(100);
		switch_out(0, ASLEEP);
		P_IS(0, P_IDLE, T_NONE, 0);
		THREAD_IS(1, T_SLEEPING);
		CHECK_EQ("read faults", target->lost[LOST_READ_FAULT], rows[i].faults);
	}
	case_detail = "the goroutine, which the state needs only";
	start_process(1);
	switch_in(0, 1);
	m_takes_p(1, 0);
	remove_region(G_AT(1));
	set_clock(100);
	switch_out(0, ASLEEP);
	P_IS(0, P_RUNNING, T_SLEEPING, 1);
	case_detail = "the idle list";
	start_process(1);
	switch_in(0, 1);
	remove_region(PIDLE_AT);
	set_clock(100);
	switch_out(0, ASLEEP);
	CHECK_EQ("read faults", target->lost[LOST_READ_FAULT], 1);
}

CASE(a_P_without_a_record_is_counted)
{
	start_process(8);
	target->chunk[0] = 0;
	switch_in(0, 1);
	m_takes_p(1, 3);
	set_clock(100);
	switch_out(0, ASLEEP);
	CHECK_EQ("no slot", target->lost[LOST_NO_SLOT], 1);

	// The slot holds another P.
	start_process(16);
	target->chunk[0] = target->chunk[1];
	switch_in(0, 1);
	m_takes_p(1, 3);
	set_clock(100);
	switch_out(0, ASLEEP);
	CHECK_EQ("no slot", target->lost[LOST_NO_SLOT], 1);
	P_IS(11, P_IDLE, T_NONE, 0);
}

CASE(impossible_values_of_a_P_are_counted)
{
	static const struct {
		const char *what;
		u64 offset;
		u32 value, bad;
	} rows[] = {
		{"an id beyond all Ps", 0, MAX_PS, 1},
		{"an id of all ones", 0, ~0U, 1},
		{"a status beyond dead", 4, P_DEAD + 1, 1},
		{"the highest id that there can be", 0, MAX_PS - 1, 0},
	};

	for (u32 i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		case_detail = rows[i].what;
		start_process(1);
		switch_in(0, 1);
		m_takes_p(1, 0);
		poke(P_AT(0) + rows[i].offset, rows[i].value, 4);
		set_clock(100);
		switch_out(0, ASLEEP);
		CHECK_EQ("bad memory", target->lost[LOST_BAD_MEMORY], rows[i].bad);
		CHECK_EQ("no slot", target->lost[LOST_NO_SLOT], !rows[i].bad);
		P_IS(0, P_IDLE, T_NONE, 0);
	}
}

CASE(a_P_s_record_is_found_by_its_address_in_the_places_that_its_hash_gives)
{
	u32 slot = 0, place = p_place_of(P_AT(2));

	start_process(4);
	CHECK(!record_by_known_address(target, P_AT(2), &slot), "found where it has not been entered");
	enter_p_address(2);
	CHECK(record_by_known_address(target, P_AT(2), &slot) == record(2) && slot == FIRST_SLOT + 2,
		"not found in its first place");
	target->p_places[place] = FIRST_SLOT + 3;
	target->p_places[(place + 1) & (P_PLACES - 1)] = FIRST_SLOT + 2;
	slot = 0;
	CHECK(record_by_known_address(target, P_AT(2), &slot) == record(2) && slot == FIRST_SLOT + 2,
		"not found in its second place");
	target->p_places[(place + 1) & (P_PLACES - 1)] = 0xffff; // beyond all records
	CHECK(!record_by_known_address(target, P_AT(2), &slot), "found where another one is");
	for (u64 addr = 0; addr < 100000; addr++)
		CHECK(p_place_of(addr * 0x9e3779b97f4a7c15ULL) < P_PLACES, "a place beyond the table for %llx", addr);
}
