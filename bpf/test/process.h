// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// A Go process on the test's machine: its Ps, its threads with their Ms and goroutines in memory, and the kernel's
// actions on the threads. Threads are numbered from 1, Ps from 0. Times are ticks since the case began.
#ifndef PSCOPE_TEST_PROCESS_H
#define PSCOPE_TEST_PROCESS_H

#define PS 80
#define MS 8
#define TGID 1000
#define TARGET 1
#define FIRST_SLOT CHUNK_PS
#define BEGAN 5000000ULL // tick at which a case begins

// Addresses in the process.
#define P_AT(i) (0xc000000000ULL + (u64)(i) * 0x1000)
#define M_AT(n) (0xc100000000ULL + (u64)(n) * 0x1000)
#define G_AT(n) (0xc200000000ULL + (u64)(n) * 0x1000)
#define G0_AT(n) (0xc300000000ULL + (u64)(n) * 0x1000)
#define TLS_AT(n) (0x7f0000000000ULL + (u64)(n) * 0x1000)
#define PIDLE_AT 0x860000ULL
#define STACK_AT 0xc400000000ULL
#define WORKER_FROM 0x430000ULL
#define WORKER_TO 0x430100ULL

// The layout of Go 1.26 on amd64, except for p.gcMarkWorkerMode, whose real offset is larger.
static const struct layout usual_layout = {
	.tls_g = -8,
	.g_m = 48,
	.g_atomicstatus = 152,
	.g_gopc = 280,
	.m_procid = 72,
	.m_curg = 184,
	.m_p = 200,
	.m_nextp = 208,
	.p_status = 4,
	.p_link = 8,
	.p_schedtick = 16,
	.p_syscalltick = 20,
	.p_m = 48,
	.p_gcmode = 256,
	.sched_pidle = PIDLE_AT,
};

enum g_status { G_RUNNING = 2, G_IN_SYSCALL = 3, G_WAITING = 4 };

static struct task_struct tasks[MS + 1]; // 0: the idle task
static struct pid pids[MS + 1];
static struct signal_struct signals;

#if defined(__TARGET_ARCH_arm64)
static struct pt_regs user_regs[MS + 1]; // of a thread when it last entered the kernel

struct task_struct *bpf_get_current_task_btf(void)
{
	return cpus[this_cpu].current;
}

long bpf_task_pt_regs(struct task_struct *task)
{
	return (long)&user_regs[task - tasks];
}
#endif

static struct target *target;

static u32 tid_of(u32 n)
{
	return n ? TGID + n : 0;
}

static struct p_record *record(u32 p)
{
	u32 slot = FIRST_SLOT + p;

	return map_of(&p_records)->items[slot].value;
}

// The entry of a place in the thread table; null if it has none.
static struct thread *entry_at(u32 set, u32 way)
{
	struct thread_set *keys = map_of(&thread_sets)->items[set].value;
	u32 key = keys ? keys->key[way] : 0;

	return key && !(key & THREAD_ENTERING) ? map_of(&threads)->items[set * THREAD_WAYS + way].value : 0;
}

static struct thread *thread(u32 n)
{
	u32 tid = tid_of(n), set = tid & thread_set_mask;
	struct thread *found = 0;

	for (u32 way = 0; way < THREAD_WAYS; way++) {
		struct thread *th = entry_at(set, way);

		if (th && ((struct thread_set *)map_of(&thread_sets)->items[set].value)->key[way] == tid) {
			CHECK(!found, "thread %u has two entries", n);
			found = th;
		}
	}
	return found;
}

static void *value_at(void *map, u32 key)
{
	void *v = bpf_map_lookup_elem(map, &key);

	if (!v)
		abort();
	return v;
}

// --- time ----------------------------------------------------------------------------------------

static void set_clock(u64 ticks)
{
	clock_ns = (BEGAN + ticks) << TICK_SHIFT;
}

// --- the runtime ---------------------------------------------------------------------------------

static void set_p_status(u32 p, u32 status)
{
	poke(P_AT(p) + usual_layout.p_status, status, 4);
}

static u32 ticks_of[PS];

// The scheduler starts a goroutine on the P.
static void p_starts_goroutine(u32 p)
{
	poke(P_AT(p) + usual_layout.p_schedtick, ++ticks_of[p], 4);
}

static void set_m_p(u32 n, int p)
{
	poke(M_AT(n) + usual_layout.m_p, p < 0 ? 0 : P_AT(p), 8);
}

static void set_m_nextp(u32 n, int p)
{
	poke(M_AT(n) + usual_layout.m_nextp, p < 0 ? 0 : P_AT(p), 8);
}

static void set_m_oldp(u32 n, int p)
{
	poke(M_AT(n) + usual_layout.m_p + 16, p < 0 ? 0 : P_AT(p), 8);
}

static void set_g_status(u32 n, u32 status)
{
	poke(G_AT(n) + usual_layout.g_atomicstatus, status, 4);
}

// An M takes a P and starts a goroutine on it.
static void m_takes_p(u32 n, u32 p)
{
	set_m_p(n, p);
	set_m_nextp(n, -1);
	set_p_status(p, P_RUNNING);
	poke(P_AT(p) + usual_layout.p_m, M_AT(n), 8);
	p_starts_goroutine(p);
}

// An M gives its P back, and the P becomes idle.
static void m_gives_back_p(u32 n, u32 p)
{
	set_m_p(n, -1);
	set_p_status(p, P_IDLE);
	poke(P_AT(p) + usual_layout.p_m, 0, 8);
}

// An M puts an idle P into the nextp of another M, which it will wake.
static void hand_p_to_m(u32 n, u32 p)
{
	set_p_status(p, P_IDLE);
	set_m_nextp(n, p);
}

// Sets the list of idle Ps, from its head on. -1 ends it.
#define idle_list(...) set_idle_list((const int[]){__VA_ARGS__, -1})
static void set_idle_list(const int *p)
{
	u64 link = PIDLE_AT;

	for (; *p >= 0; p++) {
		poke(link, P_AT(*p), 8);
		set_p_status(*p, P_IDLE);
		link = P_AT(*p) + usual_layout.p_link;
	}
	poke(link, 0, 8);
}

// --- the kernel ----------------------------------------------------------------------------------

#define ASLEEP 0x1 // TASK_INTERRUPTIBLE
#define IN_D 0x2   // TASK_UNINTERRUPTIBLE
#define STOPPED (0x4 | 0x100) // TASK_STOPPED
#define TRACED 0x8 // TASK_TRACED
#define IN_FREEZER 0x8000 // TASK_FROZEN, cgroup v1
#define FREEZABLE 0x2000 // TASK_FREEZABLE
#define PREEMPTED 0x10000 // of the test: preempt is set

static void switch_to(u32 cpu, u32 next, u64 state)
{
	struct task_struct *prev = cpus[cpu].current;
	u64 args[4] = {!!(state & PREEMPTED), (u64)prev, (u64)&tasks[next], state & 0xffff};

	this_cpu = cpu;
	prev->__state = state & 0xffff;
	cpus[cpu].next = &tasks[next];
	sched_switch((struct bpf_raw_tracepoint_args *)args);
	cpus[cpu].current = &tasks[next];
	cpus[cpu].next = 0;
	tasks[next].__state = 0;
}

// A thread comes onto a CPU that is idle.
static void switch_in(u32 cpu, u32 n)
{
	switch_to(cpu, n, 0);
}

// A thread leaves its CPU, which becomes idle.
static void switch_out(u32 cpu, u64 state)
{
	switch_to(cpu, 0, state);
}

static void wake(u32 cpu, u32 n)
{
	u64 args[1] = {(u64)&tasks[n]};

	this_cpu = cpu;
	sched_waking((struct bpf_raw_tracepoint_args *)args);
	// The kernel sets its own mark a little after the tracepoint (kernel/sched/core.c, try_to_wake_up).
	if (tasks[n].__state) {
		switch_point();
		tasks[n].__state = TASK_WAKING;
	}
}

static void take_sample(u32 cpu)
{
	this_cpu = cpu;
	sample(0);
}

// Registers at a probe: integer arguments by Go's ABIInternal (src/cmd/compile/abi-internal.md), and the stack pointer.
static struct pt_regs regs;

static void argument(u32 which, u64 v)
{
#if defined(__TARGET_ARCH_x86)
	*(which == 1 ? &regs.ax : &regs.cx) = v;
#else
	regs.regs[which - 1] = v;
#endif
}

static void call_stop_world(u32 cpu, u64 reason)
{
	this_cpu = cpu;
	argument(1, reason);
	stop_world(&regs);
}

static void call_start_world(u32 cpu, u64 begun_ns)
{
	this_cpu = cpu;
	argument(3, begun_ns);
	start_world(&regs);
}

static void call_world_started(u32 cpu, u64 ended_ns)
{
	this_cpu = cpu;
	regs.sp = STACK_AT;
	poke(STACK_AT + 24, ended_ns, 8);
	world_started(&regs);
}

// --- the beginning of a case ---------------------------------------------------------------------

static void enter_target(u32 tgid, u32 index)
{
	struct target *t = value_at(&targets, index);
	u64 *hint = value_at(&target_hints, (tgid & (HINTS - 1)) >> 2);

	t->tgid = tgid;
	t->active = OBSERVED;
	bpf_map_update_elem(&target_index, &tgid, &index, BPF_ANY);
	*hint |= (u64)index << ((tgid & 3) * 16);
}

// The agent has found a process with this number of Ps, all of them idle.
static void start_process(u32 ps)
{
	clear_maps();
	*(u32 *)&thread_set_mask = THREAD_SETS - 1; // the agent sets it before it loads the programs
	clock_step = 0;
	set_clock(0);
	n_regions = 0;
	hostile = false;
	ring_used = 0;
	ring_capacity = RING;
	failing_swaps = 0;
	failing_word = 0;
	action_at_switch_point = 0;
	rdonly_cast = same_pointer;
	kernel_has_fields = true;
	memset(&regs, 0, sizeof(regs));
	agent_alive_until = ~0ULL;
	for (u32 c = 0; c < CPUS; c++)
		((struct cpu_samples *)value_at(&sampled_cpus, c))->ticks_each = 1000;

	enter_target(TGID, TARGET);
	target = value_at(&targets, TARGET);
	target->layout = usual_layout;
	target->n_ps = ps;
	target->intervals = 1;
	target->sent_limit = RING;
	target->no_gcstop_from = ~0ULL;
	target->marking_until = ~0ULL;
	add_region(PIDLE_AT, 8);
	add_region(STACK_AT, 64);
	for (u32 i = 0; i < ps; i++) {
		struct p_record *r = value_at(&p_records, FIRST_SLOT + i);

		target->chunk[i >> CHUNK_SHIFT] = (FIRST_SLOT + i) >> CHUNK_SHIFT;
		r->id = i;
		r->addr = P_AT(i);
		r->target = TARGET;
		r->birth = BEGAN;
		r->word = word_of(BEGAN, 0, P_IDLE, T_NONE);
		r->d_word = BEGAN & SINCE_MASK;
		add_region(P_AT(i), 264);
		poke(P_AT(i), i, 4);
		ticks_of[i] = 0;
	}
	memset(tasks, 0, sizeof(tasks));
	signals.live.counter = 1;
	for (u32 n = 1; n <= MS; n++) {
		tasks[n].pid = tid_of(n);
		tasks[n].tgid = TGID;
		tasks[n].thread_pid = &pids[n];
		tasks[n].signal = &signals;
		pids[n].level = 0;
		pids[n].numbers[0].nr = tid_of(n);
		snprintf(tasks[n].comm, sizeof(tasks[n].comm), "m%u", n);
#if defined(__TARGET_ARCH_x86)
		tasks[n].thread.fsbase = TLS_AT(n) + 16;
#else
		user_regs[n].regs[28] = G0_AT(n);
#endif
		add_region(TLS_AT(n), 32);
		add_region(M_AT(n), 264);
		add_region(G_AT(n), 288);
		add_region(G0_AT(n), 288);
		poke(TLS_AT(n) + 16 + usual_layout.tls_g, G0_AT(n), 8);
		poke(G0_AT(n) + usual_layout.g_m, M_AT(n), 8);
		poke(M_AT(n) + usual_layout.m_procid, tid_of(n), 8);
		poke(M_AT(n) + usual_layout.m_curg, G_AT(n), 8);
		set_g_status(n, G_RUNNING);
	}
	for (u32 c = 0; c < CPUS; c++) {
		cpus[c].current = &tasks[0];
		cpus[c].next = 0;
	}
	this_cpu = 0;
}

// The agent has entered a P's address in the table p_places.
static void enter_p_address(u32 p)
{
	target->p_places[p_place_of(P_AT(p))] = FIRST_SLOT + p;
}

// --- checks --------------------------------------------------------------------------------------

static const char *const state_names[] = {"idle", "running", "syscall", "gcstop", "dead", "gc", "6?", "7?"};
static const char *const thread_names[] = {"none", "on cpu", "runnable", "sleeping", "uninterruptible", "stopped",
	"frozen", "7?"};

// Checks that P p is in this state, carried by thread n (0: none) in this thread state.
#define P_IS(p, state_, thread_, n)										\
	do {													\
		u64 w_ = record(p)->word;									\
														\
		if (word_state(w_) != (state_) || word_thread(w_) != (thread_) || word_owner(w_) != tid_of(n))	\
			FAIL("P %d is %s, %s, of thread %d; want %s, %s, of %d", p, state_names[word_state(w_)], \
			     thread_names[word_thread(w_)],							\
			     word_owner(w_) ? (int)word_owner(w_) - TGID : 0, state_names[state_],		\
			     thread_names[thread_], (int)(n));							\
	} while (0)

#define P_SINCE(p, ticks) CHECK_EQ("since", (record(p)->word & SINCE_MASK) - (BEGAN & SINCE_MASK), ticks)

// The accounted time of P p in a pair of states.
#define P_TIME(p, state_, thread_, ticks)									\
	do {													\
		u64 got_ = record(p)->time[(state_) * T_STATES + (thread_)];					\
														\
		if (got_ != (ticks))										\
			FAIL("P %d was %llu ticks %s, %s; want %llu", p, got_, state_names[state_],		\
			     thread_names[thread_], (u64)(ticks));						\
	} while (0)

#define THREAD_IS(n, thread_)											\
	do {													\
		u32 got_ = thread(n) ? word_thread(thread(n)->word) : 7;					\
														\
		if (got_ != (thread_))										\
			FAIL("thread %d is %s, want %s", n, thread_names[got_], thread_names[thread_]);		\
	} while (0)

#define IN_D_COUNT(p) (record(p)->d_word >> SINCE_BITS)

// What is true whenever no program runs.
static void invariants(void)
{
	struct map *records = map_of(&p_records);
	u64 in_d[RECORDS] = {};

	for (u32 i = 0; i < THREAD_SETS * THREAD_WAYS; i++) {
		struct thread *th = entry_at(i / THREAD_WAYS, i % THREAD_WAYS);

		if (!th)
			continue;
		CHECK(th->slot <= RECORDS && th->last_slot <= RECORDS && th->d_slot < RECORDS &&
			      word_thread(th->word) < T_STATES,
		      "thread %u has slots %u, %u, %u, word %llx", th->tid, th->slot, th->last_slot, th->d_slot,
			th->word);
		if (th->d_slot && th->d_slot < RECORDS)
			in_d[th->d_slot - 1]++;
	}
	for (u32 i = 0; i < THREAD_SETS; i++)
		for (u32 way = 0; way < THREAD_WAYS; way++) {
			struct thread_set *keys = map_of(&thread_sets)->items[i].value;

			CHECK(!keys || !(keys->key[way] & THREAD_ENTERING), "thread %u has an incomplete entry",
				keys->key[way]);
		}
	for (u32 i = 0; i < records->n_touched; i++) {
		u32 slot = records->touched[i];
		struct p_record *r = records->items[slot].value;
		u64 sum = 0;

		for (u32 c = 0; c < P_STATES * T_STATES; c++)
			sum += r->time[c];
		CHECK(((r->birth + sum) & SINCE_MASK) == (r->word & SINCE_MASK),
		      "the times of P %u sum to %llu, and %lld have passed", r->id, sum,
		      (s64)((r->word & SINCE_MASK) - (r->birth & SINCE_MASK)));
		CHECK(word_state(r->word) < P_STATES && word_thread(r->word) < T_STATES, "P %u has no state: %llx",
			r->id,
		      r->word);
		CHECK(r->d_word >> SINCE_BITS == in_d[slot],
			"P %u counts %llu threads in D, and %llu are marked as counted in it",
		      r->id, r->d_word >> SINCE_BITS, in_d[slot]);
	}
}

// The speed of two CPUs, in ns. Their clock moves by step at each switch point, and by pause when one of them is
// interrupted.
static const struct pace {
	u64 step, pause;
} paces[] = {{0, 0}, {1, 0}, {20, 0}, {5, 600}}, *pace;

#define N_PACES (sizeof(paces) / sizeof(paces[0]))

// Runs the programs of two CPUs in every order in which each is interrupted at most once: setup, then a on CPU 0 and b
// on CPU 1, then check. The state after setup must not depend on the pace.
static u32 every_order(void (*setup)(void), void (*a)(void), void (*b)(void), void (*check)(void))
{
	char text[160];
	u32 tried = 0;

	for (int first = 0; first < 2; first++) {
		for (u32 i = 0;; i++) {
			bool done = false;

			for (u32 j = 1; !done; j++) {
				setup();
				clock_step = pace->step;
				start_side(&sides[0], 0, a);
				start_side(&sides[1], 1, b);
				snprintf(text, sizeof(text),
					"the order in which CPU %d goes past %u points, then the other past %u, "
					"at %llu ns a point and %llu for a pause",
					 first, i, j, pace->step, pace->pause);
				case_detail = text;
				run_side(&sides[first], i);
				clock_ns += pace->pause;
				run_side(&sides[!first], j);
				done = sides[!first].ended;
				run_side(&sides[first], ~0ULL);
				run_side(&sides[!first], ~0ULL);
				clock_step = 0;
				check();
				invariants();
				tried++;
			}
			// If the first CPU was not interrupted at all, all orders were tried.
			setup();
			start_side(&sides[0], 0, a);
			start_side(&sides[1], 1, b);
			run_side(&sides[first], i);
			done = sides[first].ended;
			run_side(&sides[first], ~0ULL);
			run_side(&sides[!first], ~0ULL);
			if (done)
				break;
		}
	}
	case_detail = 0;
	return tried;
}

static void every_order_at_every_pace(void (*setup)(void), void (*a)(void), void (*b)(void), void (*check)(void))
{
	for (pace = paces; pace < paces + N_PACES; pace++) {
		u32 tried = every_order(setup, a, b, check);

		CHECK(tried > 100, "only %u orders were tried", tried);
	}
}

#endif
