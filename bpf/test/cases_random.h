// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Random events in random order, with random memory of the process. Each tick is counted once, no index leaves its
// table (the sanitizers and the test's maps check that), and every program ends.

static u64 random_state;

static u64 random_u64(void)
{
	// splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators"
	u64 z = random_state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static u32 below(u32 n)
{
	return random_u64() % n;
}

#define RANDOM_PS 6
#define RANDOM_MS 6

// A random action of the runtime. What the programs find need not make sense.
static void random_runtime_change(void)
{
	u32 n = 1 + below(RANDOM_MS), p = below(RANDOM_PS);

	switch (below(8)) {
	case 0:
		m_takes_p(n, p);
		break;
	case 1:
		m_gives_back_p(n, p);
		break;
	case 2:
		hand_p_to_m(n, p);
		break;
	case 3:
		set_m_nextp(n, -1);
		break;
	case 4:
		set_g_status(n, 2 + below(3));
		break;
	case 5:
		set_p_status(p, below(5));
		p_starts_goroutine(p);
		break;
	case 6:
		poke(PIDLE_AT, below(3) ? P_AT(p) : 0, 8);
		poke(P_AT(p) + usual_layout.p_link, below(3) ? P_AT(below(RANDOM_PS)) : 0, 8);
		break;
	case 7:
		set_m_oldp(n, below(2) ? (int)p : -1);
		poke(G0_AT(n) + usual_layout.g_m, M_AT(below(8) ? n : 1 + below(RANDOM_MS)), 8);
		break;
	}
}

// On a CPU, or in a switch onto or off one.
static bool on_cpu(u32 n)
{
	for (u32 c = 0; c < CPUS; c++)
		if (cpus[c].current == &tasks[n] || cpus[c].next == &tasks[n])
			return true;
	return false;
}

static bool coming(u32 n)
{
	for (u32 c = 0; c < CPUS; c++)
		if (cpus[c].next == &tasks[n])
			return true;
	return false;
}

static bool being_woken[RANDOM_MS + 1]; // the kernel lets one CPU at a time wake a thread
static bool processes_end;

// One random event on a CPU. The kernel's part of it is possible. The runtime's part need not be.
static void random_event(u32 cpu)
{
	static const u64 states[] = {0, PREEMPTED, ASLEEP, ASLEEP, IN_D, IN_D | 0x400, 0x4, 0x8, 0x80};
	u32 n = 1 + below(RANDOM_MS);
	u64 args[1] = {(u64)&tasks[n]};

	switch (below(12)) {
	case 0 ... 4:
		if (on_cpu(n) || being_woken[n])
			n = 0;
		if (cpus[cpu].current != &tasks[n])
			switch_to(cpu, n, states[below(sizeof(states) / sizeof(states[0]))]);
		break;
	case 5 ... 6:
		if (cpus[cpu].current == &tasks[n] || coming(n) || being_woken[n])
			break;
		being_woken[n] = true;
		wake(cpu, n);
		being_woken[n] = false;
		break;
	case 7:
		take_sample(cpu);
		break;
	case 8:
		if (cpus[cpu].current != &tasks[0])
			call_stop_world(cpu, below(4));
		break;
	case 9:
		if (cpus[cpu].current != &tasks[0])
			call_start_world(cpu, clock_ns - below(10000));
		break;
	case 10:
		if (cpus[cpu].current != &tasks[0])
			call_world_started(cpu, clock_ns - below(3000));
		break;
	case 11:
		if (processes_end && !below(8)) {
			signals.live.counter = 0;
			process_exit((struct bpf_raw_tracepoint_args *)args);
			signals.live.counter = 1;
			target->active = OBSERVED;
		} else {
			target->active = below(4) ? OBSERVED : STOPS_ONLY;
		}
		break;
	}
}

static void random_setup(u64 seed)
{
	random_state = seed;
	start_process(RANDOM_PS);
	memset(being_woken, 0, sizeof(being_woken));
	target->layout.fixed_m = below(2);
	target->layout.m_syscalltick = below(2) ? 64 : 0;
	target->layout.has_stop_start_arg = below(2);
	target->layout.stop_end_sp_offset = below(2) ? 24 : 0;
	target->end_probe_attached = below(2);
	target->intervals = below(2);
	target->no_gcstop_from = below(2) ? 0 : ~0ULL;
	target->marking_until = below(2) ? 0 : ~0ULL;
	target->stop_tid = tid_of(below(RANDOM_MS));
	for (u32 l = 0; l < LAGS; l++)
		target->lag[l] = below(400);
	for (u32 p = 0; p < RANDOM_PS; p++)
		if (below(2))
			enter_p_address(p);
	ring_capacity = below(RING);
	target->sent_limit = below(2 * RING);
	rdonly_cast = below(2) ? same_pointer : 0;
}

static void empty_ring(void)
{
	for (u32 i = 0; i < ring_used; i++)
		if (ring[i].kind == EVENT_INTERVAL)
			CHECK(ring[i].interval.end > ring[i].interval.start && ring[i].interval.state < P_STATES &&
				      ring[i].interval.thread < T_STATES && ring[i].interval.slot >= FIRST_SLOT,
			      "an interval of slot %u in %u, %u from %llu to %llu", ring[i].interval.slot,
				ring[i].interval.state,
			      ring[i].interval.thread, ring[i].interval.start, ring[i].interval.end);
	ring_used = 0;
	target->sent = 0;
}

static void advance_clock(void)
{
	clock_ns += below(8) ? below(2000) : below(2000000);
}

// The CPUs run their programs one after the other.
static void sequence(u64 seed, u32 events)
{
	static u64 totals[RANDOM_PS][P_STATES * T_STATES];

	random_setup(seed);
	memset(totals, 0, sizeof(totals));
	for (u32 i = 0; i < events; i++) {
		random_runtime_change();
		advance_clock();
		// Another CPU's clock may be a little behind.
		clock_ns -= below(4) ? 0 : below(300);
		random_event(below(CPUS));
		empty_ring();
		invariants();
		for (u32 p = 0; p < RANDOM_PS; p++)
			for (u32 c = 0; c < P_STATES * T_STATES; c++) {
				CHECK(record(p)->time[c] >= totals[p][c], "a total has shrunk");
				totals[p][c] = record(p)->time[c];
			}
		CHECK_EQ("contended, with one CPU at a time", target->lost[LOST_CONTENDED], 0);
	}
}

static u32 side_events;

static void events_of_cpu_0(void)
{
	for (u32 i = 0; i < side_events; i++)
		random_event(0);
}

static void events_of_cpu_1(void)
{
	for (u32 i = 0; i < side_events; i++)
		random_event(1);
}

// Two CPUs run their programs and are interrupted at random.
static void two_at_once(u64 seed, u32 rounds)
{
	random_setup(seed);
	side_events = 3;
	for (u32 i = 0; i < rounds; i++) {
		random_runtime_change();
		advance_clock();
		clock_step = below(2) ? below(50) : 0;
		start_side(&sides[0], 0, events_of_cpu_0);
		start_side(&sides[1], 1, events_of_cpu_1);
		while (!sides[0].ended || !sides[1].ended) {
			run_side(&sides[below(2)], below(30));
			if (!below(4))
				random_runtime_change();
		}
		clock_step = 0;
		empty_ring();
		invariants();
	}
}

static u64 garbage(void)
{
	// Some values are plausible, and some are not.
	switch (below(8)) {
	case 0:
		return 0;
	case 1:
		return below(MAX_PS + 2);
	case 2:
		return P_AT(below(RANDOM_PS));
	case 3:
		return M_AT(1 + below(RANDOM_MS));
	case 4:
		return tid_of(1 + below(RANDOM_MS));
	case 5:
		return (u64)below(7) << 32 | below(MAX_PS);
	case 6:
		return ~0ULL >> below(64);
	}
	return random_u64();
}

// Every other word that is read is random: m, p, g, lists and counters. Some offsets of the layout are random as well.
static void hostile_memory(u64 seed, u32 events)
{
	random_state = seed;
	hostile_word = garbage;
	for (u32 i = 0; i < events; i++) {
		if (!(i & 127)) {
			random_setup(random_u64());
			processes_end = true;
			hostile = true;
			hostile_faults_in_256 = below(64);
		}
		if (!(i & 31)) {
			u8 *bytes = (u8 *)&target->layout;

			target->layout = usual_layout;
			target->layout.fixed_m = below(2);
			for (u32 b = below(4); b; b--)
				bytes[below(sizeof(target->layout))] = random_u64();
		}
		advance_clock();
		user_reads = 0;
		random_event(below(CPUS));
		CHECK(user_reads < 200, "%llu reads in one event", user_reads);
		empty_ring();
		invariants();
	}
}

static u64 seed_of_run;

CASE(random_events_count_each_tick_once)
{
	processes_end = true;
	for (u32 i = 0; i < 40; i++)
		sequence(seed_of_run + i, 250);
}

CASE(random_events_of_two_CPUs_at_once_count_each_tick_once)
{
	for (u32 i = 0; i < 40; i++)
		two_at_once(seed_of_run + i, 100);
}

CASE(random_memory_of_the_process_leads_nowhere)
{
	hostile_memory(seed_of_run, 20000);
}
