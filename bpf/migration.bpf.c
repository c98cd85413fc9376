// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Tier 2: goroutines that start on another P than the last time (runtime/proc.go, execute). The probe is attached for
// short windows only. The agent decides when (pkg/collector/migration_linux.go).

// One entry for each target.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); // the agent sets these three when migrations are counted
	__type(key, u32);
	__type(value, struct migration_window);
} migration_windows SEC(".maps");

// One entry for each P, by its slot.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct p_start_counts);
} p_starts SEC(".maps");

// The P on which each goroutine ran last. An entry is one word, so that one swap writes it. It holds the goroutine (22
// bits of a hash, beside the bits that choose the set), the P, and the time in units of 4096 ns. The least recently
// used entry of a set is replaced, as in the kernel's LRU hash table. That table takes a lock, allocates for each new
// goroutine, and does not show what it removed.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct ran_set);
} last_ran SEC(".maps");

#define STAMP_SHIFT 12
#define STAMP_MASK 0xffffffffULL
#define RAN_P_SHIFT 32
#define RAN_TAG_SHIFT 42

static __always_inline u64 hash64(u64 h)
{
	h = (h ^ (h >> 32)) * 0x9e3779b97f4a7c15ULL;
	h = (h ^ (h >> 29)) * 0xbf58476d1ce4e5b9ULL;
	return h ^ (h >> 32);
}

// Records that a goroutine starts on P p now. Returns the word of its last start in this window, or 0 if that is not
// known.
static __noinline u64 replace_last_ran(struct target *t, struct migration_window *w, u64 hash, u64 now, u32 p)
{
	u32 stamp = now >> STAMP_SHIFT, window, age, oldest = 0;
	u64 tag = hash >> RAN_TAG_SHIFT, v, new, *way, *victim = 0;
	u32 set;
	struct ran_set *s;

	if (!t || !w)
		return 0;
	set = hash & w->set_mask;
	s = bpf_map_lookup_elem(&last_ran, &set);
	if (!s)
		return 0;
	new = (tag << RAN_TAG_SHIFT) | ((u64)(p & (MAX_PS - 1)) << RAN_P_SHIFT) | stamp;
	window = stamp - (u32)(w->begin >> STAMP_SHIFT);
	for (int i = 0; i < RAN_WAYS; i++) {
		way = &s->way[i];
		v = READ_ONCE(way);
		age = stamp - (u32)v;
		// The hash contains the window's number. An older entry has the same hash by chance only.
		if (v && v >> RAN_TAG_SHIFT == tag && age <= window) {
			// Another CPU may have replaced the entry meanwhile. Its entry stays.
			if (__sync_val_compare_and_swap(way, v, new) != v)
				count_lost(t, LOST_LAST_P);
			return v;
		}
		if (!v)
			age = ~0U;
		if (!victim || age > oldest) {
			victim = way;
			oldest = age;
		}
	}
	if (!victim)
		return 0;
	// The entry that is replaced may still have been needed.
	if (oldest <= window)
		count_lost(t, LOST_LAST_P);
	v = READ_ONCE(victim);
	if (__sync_val_compare_and_swap(victim, v, new) != v)
		count_lost(t, LOST_LAST_P);
	return 0;
}

static __noinline void goroutine_started(struct target *t, u32 index, u64 g, u64 now)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	u32 tid = bpf_get_current_pid_tgid(), slot = 0;
	struct migration_window *w = bpf_map_lookup_elem(&migration_windows, &index);
	struct thread *th = thread_at(tid);
	u64 m, goid = 0, hash, before, gap, i;
	struct p_start_counts *s;
	struct m_view mv = {};
	struct p_record *r;

	if (!t || !w)
		return;
	// The thread came onto its CPU as a thread of the target. It has an entry unless the table is full.
	if (!th || th->target != index)
		goto no_p;
	m = th->m;
	if (!m || read_m(t, m, th, task, &mv)) {
		m = current_m(t, task);
		if (!m || read_m(t, m, th, task, &mv))
			goto no_p;
	}
	r = mv.p ? record_by_address(t, mv.p, &slot) : 0;
	if (!r)
		goto no_p;
	s = bpf_map_lookup_elem(&p_starts, &slot);
	if (!s)
		goto no_p;
	__sync_fetch_and_add(&s->hits, 1);
	if (now >= READ_ONCE(&w->begin) && now < READ_ONCE(&w->end)) {
		if (read_user64(g + w->g_goid, &goid)) {
			count_lost(t, LOST_READ_FAULT);
		} else if (!goid) {
			count_lost(t, LOST_BAD_MEMORY); // the g of the scheduler (g0), or no g at all
		} else {
			hash = hash64(goid ^ hash64(((u64)w->number << 16) | index));
			before = replace_last_ran(t, w, hash, now, r->id);
			if (before)
				__sync_fetch_and_add(&s->repeated, 1);
			else
				__sync_fetch_and_add(&s->first, 1);
			if (before && ((before >> RAN_P_SHIFT) & (MAX_PS - 1)) != r->id) {
				gap = (u64)(u32)((u32)(now >> STAMP_SHIFT) - (u32)before) << STAMP_SHIFT;
				i = gap * MIGRATION_GAPS / w->length;
				if (i >= MIGRATION_GAPS)
					i = MIGRATION_GAPS - 1;
				i &= MIGRATION_GAPS - 1;
				__sync_fetch_and_add(&s->migrated[i], 1);
				__sync_fetch_and_add(&s->gap_ns[i], gap);
			}
		}
	}
	// As in count_cost_from, one event in 16 is counted. No two CPUs share these counters, which are a P's own.
	if (!((now * 0x9e3779b97f4a7c15ULL) >> 60))
		__sync_fetch_and_add(&s->ns, (bpf_ktime_get_ns() - now) * 16);
	return;
no_p:
	__sync_fetch_and_add(&w->hits_without_p, 1);
}

// g is the first argument of execute. No run queue holds it now, and its M has the P on which it will run.
SEC("uprobe/execute")
int execute(struct pt_regs *ctx)
{
	u64 now = bpf_ktime_get_ns();
	u32 index = 0;
	struct target *t = target_of(bpf_get_current_pid_tgid() >> 32, &index);

	if (t && !agent_silent(now))
		goroutine_started(t, index, first_argument(ctx), now);
	return 0;
}
