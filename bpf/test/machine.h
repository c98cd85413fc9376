// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// A machine in user space that runs the programs of bpf/. It has a clock that the test sets, CPUs with their current
// tasks, maps, the memory of the observed process, and a choice of the order in which two CPUs act.
#ifndef PSCOPE_TEST_MACHINE_H
#define PSCOPE_TEST_MACHINE_H

// --- the clock -----------------------------------------------------------------------------------

static u64 clock_ns;
static u64 clock_step; // ns by which each switch point (see below) moves the clock

u64 bpf_ktime_get_ns(void)
{
	return clock_ns;
}

// --- tasks and CPUs ------------------------------------------------------------------------------

#define CPUS 4

struct cpu {
	struct task_struct *current;
	struct task_struct *next; // during a context switch
};

static struct cpu cpus[CPUS];
static u32 this_cpu;

u32 bpf_get_smp_processor_id(void)
{
	return this_cpu;
}

u64 bpf_get_current_task(void)
{
	return (u64)cpus[this_cpu].current;
}

u64 bpf_get_current_pid_tgid(void)
{
	struct task_struct *task = cpus[this_cpu].current;

	return (u64)(u32)task->tgid << 32 | (u32)task->pid;
}

bool kernel_has_fields;

static void *same_pointer(const void *obj, u32 id)
{
	return (void *)obj;
}

void *(*rdonly_cast)(const void *obj, u32 id) = same_pointer;

long bpf_probe_read_kernel(void *to, u32 size, const void *from)
{
	memcpy(to, from, size);
	return 0;
}

// --- the order of two CPUs -----------------------------------------------------------------------

// Each CPU's program runs on its own stack. At a switch point the other CPU's program may go on. There is one before
// and after each atomic operation, and before each helper that reads what another CPU may write.
struct side {
	ucontext_t context;
	char stack[256 << 10];
	void (*run)(void);
	void *shadow; // of the address sanitizer's stack
	u32 cpu;
	bool ended;
};

static struct side sides[2], *running_side;
static ucontext_t order_context;
static void *order_shadow;
static const void *order_stack;
static size_t order_stack_size;
static u64 switch_points_left, switch_points_passed;
static void (*action_at_switch_point)(void); // another action of a test at every switch point

static void act_at_switch_point(void)
{
	void (*act)(void) = action_at_switch_point;

	if (!act)
		return;
	action_at_switch_point = 0;
	act();
	action_at_switch_point = act;
}

void switch_point(void)
{
	struct side *s = running_side;

	switch_points_passed++;
	clock_ns += clock_step;
	act_at_switch_point();
	if (!s || switch_points_left-- > 0)
		return;
	__sanitizer_start_switch_fiber(&s->shadow, order_stack, order_stack_size);
	swapcontext(&s->context, &order_context);
	__sanitizer_finish_switch_fiber(s->shadow, 0, 0);
}

static void side_main(void)
{
	struct side *s = running_side;

	__sanitizer_finish_switch_fiber(0, &order_stack, &order_stack_size);
	s->run();
	s->ended = true;
	__sanitizer_start_switch_fiber(0, order_stack, order_stack_size);
	setcontext(&order_context);
}

// Lets one side run past this number of switch points, or to its end.
static void run_side(struct side *s, u64 points)
{
	if (s->ended)
		return;
	running_side = s;
	this_cpu = s->cpu;
	switch_points_left = points;
	__sanitizer_start_switch_fiber(&order_shadow, s->stack, sizeof(s->stack));
	swapcontext(&order_context, &s->context);
	__sanitizer_finish_switch_fiber(order_shadow, 0, 0);
	running_side = 0;
}

static void start_side(struct side *s, u32 cpu, void (*run)(void))
{
	s->run = run;
	s->cpu = cpu;
	s->ended = false;
	getcontext(&s->context);
	s->context.uc_stack.ss_sp = s->stack;
	s->context.uc_stack.ss_size = sizeof(s->stack);
	s->context.uc_link = 0;
	makecontext(&s->context, side_main, 0);
}

// --- injected failures ---------------------------------------------------------------------------

static void *failing_word; // swaps of this word fail, as if another CPU had been faster
static u32 failing_swaps;  // number of swaps that fail

bool swap_fails(void *word)
{
	if (!failing_swaps || (failing_word && word != failing_word))
		return false;
	failing_swaps--;
	return true;
}

// --- maps ----------------------------------------------------------------------------------------

// Each value is a separate allocation, so that the address sanitizer sees an access beyond it.
#define TARGETS 4
#define RECORDS 96
#define THREAD_SETS 4
#define RING 256

struct map {
	void *id;
	u32 entries, key_size, value_size;
	bool hash;
	struct {
		bool used;
		u32 key;
		void *value;
	} *items;
	void **deleted; // values of deleted entries: a program may still use one, as in the kernel
	u32 n_deleted;
	u32 *touched; // entries that must be cleared before the next case
	u32 n_touched;
};

#define MAX_DELETED 1024

static struct map maps[] = {
	{&target_hints, HINTS / 4, 4, sizeof(u64)},
	{&target_index, TARGETS, 4, sizeof(u32), true},
	{&targets, TARGETS, 4, sizeof(struct target)},
	{&p_records, RECORDS, 4, sizeof(struct p_record)},
	{&thread_sets, THREAD_SETS, 4, sizeof(struct thread_set)},
	{&threads, THREAD_SETS * THREAD_WAYS, 4, sizeof(struct thread)},
	{&sampled_cpus, CPUS, 4, sizeof(struct cpu_samples)},
	{&lost_global, LOST_REASONS, 4, sizeof(u64)},
	{&migration_windows, TARGETS, 4, sizeof(struct migration_window)},
	{&p_starts, RECORDS, 4, sizeof(struct p_start_counts)},
	{&last_ran, 4, 4, sizeof(struct ran_set)},
};

#define N_MAPS (sizeof(maps) / sizeof(maps[0]))

static struct map *map_of(void *id)
{
	for (u32 i = 0; i < N_MAPS; i++)
		if (maps[i].id == id)
			return &maps[i];
	fprintf(stderr, "a map that the test's machine does not have\n");
	abort();
}

static int entry_of(struct map *m, u32 key)
{
	if (!m->hash)
		return key < m->entries ? (int)key : -1;
	for (u32 i = 0; i < m->entries; i++)
		if (m->items[i].used && m->items[i].key == key)
			return i;
	return -1;
}

void *bpf_map_lookup_elem(void *id, const void *key)
{
	struct map *m = map_of(id);
	int i;

	// no program writes target_hints, and each CPU has its own entry of sampled_cpus
	if (id != &target_hints && id != &sampled_cpus)
		switch_point();
	i = entry_of(m, *(const u32 *)key);
	if (i < 0)
		return 0;
	if (!m->hash && !m->items[i].used) {
		if (!m->items[i].value)
			m->items[i].value = calloc(1, m->value_size);
		m->items[i].used = true;
		m->touched[m->n_touched++] = i;
	}
	return m->items[i].value;
}

long bpf_map_update_elem(void *id, const void *key, const void *value, u64 flags)
{
	struct map *m = map_of(id);
	u32 k = *(const u32 *)key;
	int i;

	switch_point();
	i = entry_of(m, k);
	for (u32 j = 0; i < 0 && j < m->entries; j++)
		if (!m->items[j].used)
			i = j;
	if (i < 0)
		return -7; // E2BIG
	if (m->items[i].used) // replaced as a whole: a program may still use the old value
		m->deleted[m->n_deleted++ % MAX_DELETED] = m->items[i].value;
	m->items[i].used = true;
	m->items[i].key = k;
	m->items[i].value = malloc(m->value_size);
	memcpy(m->items[i].value, value, m->value_size);
	return 0;
}

long bpf_map_delete_elem(void *id, const void *key)
{
	struct map *m = map_of(id);
	int i;

	switch_point();
	i = entry_of(m, *(const u32 *)key);
	if (i < 0)
		return -2; // ENOENT
	m->deleted[m->n_deleted++ % MAX_DELETED] = m->items[i].value;
	m->items[i].used = false;
	m->items[i].value = 0;
	return 0;
}

static void clear_maps(void)
{
	for (struct map *m = maps; m < maps + N_MAPS; m++) {
		if (!m->items) {
			m->items = calloc(m->entries, sizeof(*m->items));
			m->deleted = calloc(MAX_DELETED, sizeof(*m->deleted));
			m->touched = calloc(m->entries, sizeof(*m->touched));
		}
		for (u32 i = 0; i < m->n_touched; i++) {
			memset(m->items[m->touched[i]].value, 0, m->value_size);
			m->items[m->touched[i]].used = false;
		}
		m->n_touched = 0;
		for (u32 i = 0; m->hash && i < m->entries; i++) {
			free(m->items[i].value);
			m->items[i].value = 0;
			m->items[i].used = false;
		}
		for (u32 i = 0; i < MAX_DELETED && i < m->n_deleted; i++) {
			free(m->deleted[i]);
			m->deleted[i] = 0;
		}
		m->n_deleted = 0;
	}
}

// --- the ring buffer -----------------------------------------------------------------------------

static union ring_entry {
	struct interval_event interval;
	struct stop_event stop;
	struct exec_event exec;
	u8 kind;
} ring[RING];
static u32 ring_used, ring_capacity;

void *bpf_ringbuf_reserve(void *id, u64 size, u64 flags)
{
	switch_point();
	if (id != &events || size > sizeof(ring[0]) || ring_used >= ring_capacity)
		return 0;
	return memset(malloc(size), 0xa5, size); // the kernel does not clear it either
}

void bpf_ringbuf_submit(void *record, u64 flags)
{
	u8 kind = *(u8 *)record;

	memcpy(&ring[ring_used++], record,
	       kind == EVENT_STOP     ? sizeof(struct stop_event)
	       : kind == EVENT_INTERVAL ? sizeof(struct interval_event)
					: sizeof(struct exec_event));
	free(record);
	switch_point();
}

void bpf_ringbuf_discard(void *record, u64 flags)
{
	free(record);
}

long bpf_loop(u32 n, void *callback, void *ctx, u64 flags)
{
	long (*call)(u32, void *) = callback;
	u32 i;

	for (i = 0; i < n; i++)
		if (call(i, ctx))
			return i + 1;
	return i;
}

// --- the memory of the observed process ----------------------------------------------------------

#define REGIONS 160 // of the process's memory

static struct region {
	u64 at;
	u32 size;
	u8 bytes[320];
} regions[REGIONS];
static u32 n_regions;
static bool hostile;	  // any address can be read, and half of what is read is random
static u32 hostile_faults_in_256; // number of reads in 256 that fail
static u64 user_reads;
static u64 (*hostile_word)(void);

static struct region *region_of(u64 at, u32 size)
{
	for (struct region *r = regions; r < regions + n_regions; r++)
		if (at >= r->at && at - r->at <= r->size && size <= r->size - (at - r->at))
			return r;
	return 0;
}

static void add_region(u64 at, u32 size)
{
	if (n_regions == REGIONS || size > sizeof(regions[0].bytes)) {
		fprintf(stderr, "no room for memory\n");
		abort();
	}
	regions[n_regions].at = at;
	regions[n_regions].size = size;
	memset(regions[n_regions++].bytes, 0, size);
}

// Makes a page not resident.
static void remove_region(u64 at)
{
	struct region *r = region_of(at, 1);

	if (r)
		r->at = ~0ULL;
}

static void poke(u64 at, u64 v, u32 size)
{
	struct region *r = region_of(at, size);

	if (!r) {
		fprintf(stderr, "the test writes to %llx, where there is nothing\n", at);
		abort();
	}
	memcpy(r->bytes + (at - r->at), &v, size);
}

long bpf_probe_read_user(void *to, u32 size, const void *from)
{
	u64 at = (u64)from;
	struct region *r;
	u8 *out = to;

	user_reads++;
	switch_point();
	r = region_of(at, size);
	if (hostile && (hostile_word() & 255) >= hostile_faults_in_256) {
		for (u32 i = 0; i < size; i += 8) {
			u64 v = hostile_word();

			if (r && hostile_word() & 1)
				memcpy(&v, r->bytes + (at - r->at) + i, size - i < 8 ? size - i : 8);
			memcpy(out + i, &v, size - i < 8 ? size - i : 8);
		}
		return 0;
	}
	if (!r) {
		memset(to, 0, size); // as the kernel does
		return -14;	     // EFAULT
	}
	// Word by word, because the process runs meanwhile.
	for (u32 i = 0; i < size; i += 8) {
		if (i)
			act_at_switch_point();
		memcpy(out + i, r->bytes + (at - r->at) + i, size - i < 8 ? size - i : 8);
	}
	switch_point();
	return 0;
}

#endif
