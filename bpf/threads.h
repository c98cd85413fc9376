// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// The thread table, by tid. It consists of sets of THREAD_WAYS places. The low bits of the tid choose the set. The
// verifier inlines the look-up in an array, and the keys of a set lie in half a cache line: this is faster than the
// kernel's hash table (docs/decisions/collector.md). The agent maps the arrays into its memory. It reads and changes
// entries without a system call.
//
// A key is a tid. To add a thread, a CPU takes a free place and sets the key's top bit. It checks whether another CPU
// adds the same tid, fills the entry, and clears the bit. Look-ups do not find the entry before that. To remove a
// thread, a CPU sets the key to zero. The agent does the same (pkg/collector/threadtable_linux.go).
#ifndef PSCOPE_THREADS_H
#define PSCOPE_THREADS_H

// The number of sets less one. The number is a power of two. The agent sets the mask before it loads the programs.
const volatile u32 thread_set_mask;

// Bounds a way for the verifier. In C alone, the compiler would leave the operation out, because it knows the bound
// already.
static __always_inline u32 within_set(u64 way)
{
#ifdef __bpf__
	asm volatile("%0 &= %1" : "+r"(way) : "i"(THREAD_WAYS - 1));
	return way;
#else // the tests (bpf/test)
	return way & (THREAD_WAYS - 1);
#endif
}

// The place of the key in its set; THREAD_WAYS or more if it has none. No branch depends on the keys: the verifier
// would follow both sides of each branch.
static __always_inline u32 way_of(struct thread_set *s, u32 tid)
{
	u64 way = THREAD_WAYS, other;

	for (u32 i = 0; i < THREAD_WAYS; i++) {
		other = READ_ONCE(&s->key[i]) ^ tid;
		asm volatile("" : "+r"(other)); // keeps the compiler from making a branch of the next line
		way -= ((other - 1) >> 63) * (THREAD_WAYS - i);
	}
	return way;
}

static __always_inline struct thread *thread_in(u32 set, u32 way)
{
	u32 i = set * THREAD_WAYS + within_set(way);

	return bpf_map_lookup_elem(&threads, &i);
}

// The entry of a thread; 0 if it has none.
static __always_inline struct thread *thread_at(u32 tid)
{
	u32 set = tid & thread_set_mask, way;
	struct thread_set *s = bpf_map_lookup_elem(&thread_sets, &set);

	if (!s)
		return 0;
	way = way_of(s, tid);
	return way < THREAD_WAYS ? thread_in(set, way) : 0;
}

// Adds a thread that has no entry. Returns the entry's place in the table plus one. Returns 0 if the set has no free
// place, or if another CPU adds the thread at this moment. It is a global function, so that the verifier checks it once
// and not for each call.
__noinline int new_thread(struct target *t, u32 index, u64 task, u32 tid)
{
	u32 set = tid & thread_set_mask, way = THREAD_WAYS;
	struct thread_set *s = bpf_map_lookup_elem(&thread_sets, &set);
	struct thread *th;

	if (!t || !s)
		return 0;
	for (u32 i = 0; i < THREAD_WAYS && way == THREAD_WAYS; i++)
		if (!READ_ONCE(&s->key[i]) && !__sync_val_compare_and_swap(&s->key[i], 0, tid | THREAD_ENTERING))
			way = i;
	if (way == THREAD_WAYS) {
		count_lost(t, LOST_THREADS_FULL);
		return 0;
	}
	th = thread_in(set, way);
	for (u32 i = 0; i < THREAD_WAYS; i++) {
		if (i != way && (READ_ONCE(&s->key[i]) & ~THREAD_ENTERING) == tid)
			// Both CPUs write their key before they read the other's, so at least one of them comes here.
			th = 0;
	}
	if (!th) {
		*(volatile u32 *)&s->key[within_set(way)] = 0;
		count_lost(t, LOST_CONTENDED);
		return 0;
	}
	__builtin_memset(th, 0, sizeof(*th));
	th->tid = tid;
	th->tgid = t->tgid;
	th->target = index;
	th->word = word_of(tick_now(), 0, 0, T_NONE);
	bpf_probe_read_kernel(th->comm, sizeof(th->comm), &((struct task_struct *)task)->comm);
	// The swap orders the writes to the entry before the key.
	__sync_val_compare_and_swap(&s->key[within_set(way)], tid | THREAD_ENTERING, tid);
	return set * THREAD_WAYS + way + 1;
}

static __noinline void remove_thread(u32 tid)
{
	u32 set = tid & thread_set_mask, way;
	struct thread_set *s = bpf_map_lookup_elem(&thread_sets, &set);

	if (!s)
		return;
	way = way_of(s, tid);
	if (way < THREAD_WAYS)
		__sync_val_compare_and_swap(&s->key[within_set(way)], tid, 0);
}

// The entry of a thread of a target. Adds the thread if it has no entry. Replaces the entry of another target's thread
// that had the same tid before.
static __always_inline struct thread *thread_of(struct target *t, u32 index, struct task_struct *task, u32 tid)
{
	struct thread *th = thread_at(tid);
	u32 place;

	if (th && th->target == index)
		return th;
	if (th)
		remove_thread(tid);
	place = new_thread(t, index, (u64)task, tid);
	if (!place--)
		return 0;
	return bpf_map_lookup_elem(&threads, &place);
}

#endif
