// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// The table of threads, by tid: sets of THREAD_WAYS places, the set by the low bits of the tid. The kernel's hash table takes 41 ns for a look-up (AMD EPYC);
// an array's look-up is inlined, and a set's keys lie in half a cache line. Arrays can also be mapped by the agent, which reads and changes entries without
// a system call.
//
// A key is the tid. Whoever adds a thread first takes a free place with the key's top bit set, looks whether another CPU does the same for the same tid, fills the
// entry and then clears that bit; look-ups don't find it until then. Whoever removes one sets the key to zero. The agent does the same
// (pkg/collector/threadtable_linux.go).
#ifndef PSCOPE_THREADS_H
#define PSCOPE_THREADS_H

// How many sets there are, less one: a power of two, less one. The agent sets it before it loads the programs.
const volatile u32 thread_set_mask;

// A way that is known to be in its set, in a form that the verifier can follow: the compiler would leave out what it takes to be done already.
static __always_inline u32 within_set(u64 way)
{
#ifdef __bpf__
	asm volatile("%0 &= %1" : "+r"(way) : "i"(THREAD_WAYS - 1));
	return way;
#else // the tests (bpf/test)
	return way & (THREAD_WAYS - 1);
#endif
}

// Where in a set the key is; THREAD_WAYS or more: it isn't. No branch depends on the keys, because the verifier would follow each way of each branch.
static __always_inline u32 way_of(struct thread_set *s, u32 tid)
{
	u64 way = THREAD_WAYS, other;

	for (u32 i = 0; i < THREAD_WAYS; i++) {
		other = READ_ONCE(&s->key[i]) ^ tid;
		asm volatile("" : "+r"(other)); // or the compiler makes a branch of what follows
		way -= ((other - 1) >> 63) * (THREAD_WAYS - i);
	}
	return way;
}

static __always_inline struct thread *thread_in(u32 set, u32 way)
{
	u32 i = set * THREAD_WAYS + within_set(way);

	return bpf_map_lookup_elem(&threads, &i);
}

// The entry of a thread; 0 if there is none.
static __always_inline struct thread *thread_at(u32 tid)
{
	u32 set = tid & thread_set_mask, way;
	struct thread_set *s = bpf_map_lookup_elem(&thread_sets, &set);

	if (!s)
		return 0;
	way = way_of(s, tid);
	return way < THREAD_WAYS ? thread_in(set, way) : 0;
}

// Adds a thread that has no entry and gives the entry's place in the table plus one; 0: there is no free place in its set, or another CPU adds it at this moment. Global, so
// that the verifier follows it once and not as often as it is called.
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
			th = 0; // at least one of two CPUs comes here, because each has written its key before it reads the other's
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
	// A swap, because it orders what is written before.
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

// The entry of a thread of a target, made if there is none. One of another target, whose thread had the same tid before, makes room.
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
