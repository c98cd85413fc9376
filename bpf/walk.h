// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Reads the Go runtime's structs in the memory of the current process. Nothing in that memory is trusted. An index is
// bounded before use. A P must hold the id of its record, and an m must hold the tid of its thread.
#ifndef PSCOPE_WALK_H
#define PSCOPE_WALK_H

#define G_SYSCALL 3	   // runtime._Gsyscall
#define G_SCAN 0x1000	   // runtime._Gscan, a flag of the status
#define GC_MODE_NONE 0	   // runtime.gcMarkWorkerNotWorker

// How many words of the target's structs are read at once. All fields must lie within them, or the agent refuses the
// target (pkg/collector/reach_linux.go).
enum reach {
	P_WORDS = 8,	   // from the start of a runtime.p: id, status, link, ticks and m
	M_WORDS = 21,	   // of an m, from procid on: curg, p, nextp and oldp
	// Of an m, from curg on: curg, p, nextp and oldp. The agent sets fixed_m only if these are enough.
	M_SCHED_WORDS = 6,
};

struct m_view {
	u64 curg;
	u64 p;
	u64 nextp;
	u64 oldp;
};

struct p_view {
	u64 addr;
	u64 m;
	u64 link;
	u32 id;
	u32 status;
	u32 schedtick;
	u32 syscalltick;
};

// A field of a P's first words, by its offset. All fields are aligned to their size.
static __always_inline u64 field64(const u64 *head, u16 off)
{
	return head[(off >> 3) & (P_WORDS - 1)];
}

static __always_inline u32 field32(const u64 *head, u16 off)
{
	return field64(head, off) >> ((off & 4) << 3);
}

static __always_inline int read_user64(u64 addr, u64 *v)
{
	return bpf_probe_read_user(v, sizeof(*v), (void *)addr);
}

// Since Linux 6.2. It lets a program load from kernel memory directly, which is cheaper than a helper that reads.
extern void *bpf_rdonly_cast(const void *obj, u32 btf_id) __ksym __weak;

// A thread's pid and tgid, in the form of bpf_get_current_pid_tgid. The two fields are neighbours in task_struct
// (include/linux/sched.h).
static __always_inline u64 ids_of(struct task_struct *task)
{
	u64 ids = 0;

	if (bpf_rdonly_cast) {
		struct task_struct *known = bpf_rdonly_cast(task, bpf_core_type_id_kernel(struct task_struct));

		return (u64)(u32)known->tgid << 32 | (u32)known->pid;
	}
	if (bpf_core_field_offset(task->tgid) == bpf_core_field_offset(task->pid) + sizeof(u32))
		bpf_core_read(&ids, sizeof(ids), &task->pid);
	else
		ids = (u64)BPF_CORE_READ(task, tgid) << 32 | (u32)BPF_CORE_READ(task, pid);
	return ids;
}

// Those of the current task. Where ids_of needs a helper that reads, this helper is cheaper.
static __always_inline u64 current_ids(struct task_struct *current)
{
	return bpf_rdonly_cast ? ids_of(current) : bpf_get_current_pid_tgid();
}

// A thread's number in its own PID namespace. The runtime keeps this number in m.procid.
static __noinline u32 tid_in_namespace(struct task_struct *task)
{
	struct pid *pid;
	u32 level, nr = 0;

	pid = BPF_CORE_READ(task, thread_pid);
	level = BPF_CORE_READ(pid, level);
	bpf_core_read(&nr, sizeof(nr), (void *)&pid->numbers[0].nr + level * bpf_core_type_size(struct upid));
	return nr;
}

static __always_inline u64 word_from(const u64 *w, u64 bytes, u64 words)
{
	u64 i = bytes >> 3;

	// The verifier can't follow the check if the compiler checks another form of i than it uses.
	asm volatile("" : "+r"(i));
	return i < words ? w[i] : 0;
}

// Reads an m that is known to be this thread's. It reads from curg on, because what lies before is seldom in the cache.
static __always_inline int read_verified_m(struct target *t, u64 m, struct m_view *v)
{
	u64 w[M_SCHED_WORDS], from;

	from = t->layout.m_curg;
	if (bpf_probe_read_user(w, sizeof(w), (void *)(m + from))) {
		count_lost(t, LOST_READ_FAULT);
		return -1;
	}
	v->curg = w[0];
	v->p = word_from(w, t->layout.m_p - from, M_SCHED_WORDS);
	v->nextp = word_from(w, t->layout.m_nextp - from, M_SCHED_WORDS);
	v->oldp = word_from(w, t->layout.m_p - from + 16, M_SCHED_WORDS);
	return 0;
}

// Reads the m at an address, from procid on, if it is the m of this thread. It is a function of its own because kernels
// before 6.13 give a program and all functions on its call chain 512 bytes of stack together (kernel/bpf/verifier.c,
// check_max_stack_depth).
static __noinline int read_and_verify_m(struct target *t, u64 m, struct thread *th, struct task_struct *task,
					struct m_view *v)
{
	u64 w[M_WORDS];

	if (!t || !th || !v)
		return -1;
	if (bpf_probe_read_user(w, sizeof(w), (void *)(m + t->layout.m_procid))) {
		count_lost(t, LOST_READ_FAULT);
		return -1;
	}
	if (w[0] != (t->layout.in_pid_namespace ? tid_in_namespace(task) : th->tid))
		return -1;
	th->m_verified = th->m == m;
	v->curg = word_from(w, t->layout.m_curg - t->layout.m_procid, M_WORDS);
	v->p = word_from(w, t->layout.m_p - t->layout.m_procid, M_WORDS);
	v->nextp = word_from(w, t->layout.m_nextp - t->layout.m_procid, M_WORDS);
	// In runtime.m, oldp follows nextp, and nextp follows p (runtime/runtime2.go).
	v->oldp = word_from(w, t->layout.m_p - t->layout.m_procid + 16, M_WORDS);
	return 0;
}

// Reads the m at an address if it is this thread's, in the cheaper way where that is known.
static __always_inline int read_m(struct target *t, u64 m, struct thread *th, struct task_struct *task,
				  struct m_view *v)
{
	if (th->m_verified && th->m == m && t->layout.fixed_m)
		return read_verified_m(t, m, v);
	return read_and_verify_m(t, m, th, task, v);
}

// It is a global function, so that the verifier checks it once and not for each call. For the same reason callers set
// *v before the call.
__noinline int read_p(struct target *t, u64 addr, struct p_view *v)
{
	u64 head[P_WORDS];

	if (!t || !v)
		return -1;
	if (bpf_probe_read_user(head, sizeof(head), (void *)addr)) {
		count_lost(t, LOST_READ_FAULT);
		return -1;
	}
	v->addr = addr;
	v->id = head[0];
	v->status = field32(head, t->layout.p_status);
	v->link = field64(head, t->layout.p_link);
	v->schedtick = field32(head, t->layout.p_schedtick);
	v->syscalltick = field32(head, t->layout.p_syscalltick);
	v->m = field64(head, t->layout.p_m);
	if (v->id >= MAX_PS || v->status > P_DEAD) {
		count_lost(t, LOST_BAD_MEMORY);
		return -1;
	}
	return 0;
}

// The record of the P with this id. Stores its slot in *slot.
static __noinline struct p_record *record_by_id(struct target *t, u32 id, u32 *slot)
{
	struct p_record *r;
	u32 chunk, s;

	if (!t || !slot)
		return 0;
	chunk = id >> CHUNK_SHIFT;
	if (chunk >= MAX_CHUNKS) {
		count_lost(t, LOST_BAD_MEMORY);
		return 0;
	}
	s = READ_ONCE(&t->chunk[chunk]);
	if (!s) {
		count_lost(t, LOST_NO_SLOT);
		return 0;
	}
	s = (s << CHUNK_SHIFT) | (id & (CHUNK_PS - 1));
	r = bpf_map_lookup_elem(&p_records, &s);
	if (!r || r->id != id) {
		count_lost(t, LOST_NO_SLOT);
		return 0;
	}
	*slot = s;
	return r;
}

static __always_inline u32 p_place_of(u64 addr)
{
	return (addr * 0x9e3779b97f4a7c15ULL) >> (64 - P_PLACES_SHIFT);
}

// The record of the P at an address, if the table has it. A P never moves, and the table saves the read of its id.
static __always_inline struct p_record *record_by_known_address(struct target *t, u64 addr, u32 *slot)
{
	struct p_record *r;
	u32 place = p_place_of(addr), s;

	for (int i = 0; i < P_PLACE_TRIES; i++) {
		s = READ_ONCE(&t->p_places[(place + i) & (P_PLACES - 1)]);
		if (!s)
			return 0;
		r = bpf_map_lookup_elem(&p_records, &s);
		if (r && READ_ONCE(&r->addr) == addr) {
			*slot = s;
			return r;
		}
	}
	return 0;
}

// The record of the P at an address, from the table or by the id in memory.
static __noinline struct p_record *record_by_address(struct target *t, u64 addr, u32 *slot)
{
	struct p_record *r = record_by_known_address(t, addr, slot);
	struct p_view p = {};

	if (r)
		return r;
	return read_p(t, addr, &p) ? 0 : record_by_id(t, p.id, slot);
}

// The address of the current thread's m, by its g.
static __noinline u64 current_m(struct target *t, struct task_struct *task)
{
	u64 g = 0, m = 0;

	if (!t)
		return 0;
#if defined(__TARGET_ARCH_x86)
	u64 base = BPF_CORE_READ(task, thread.fsbase);
	if (!base || read_user64(base + (s64)t->layout.tls_g, &g) || !g)
		return 0;
#elif defined(__TARGET_ARCH_arm64)
	// Only cgo programs keep g in TLS (runtime/tls_arm64.s). In Go code g is in R28, and the kernel saves it on
	// entry.
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	g = BPF_CORE_READ(regs, regs[28]);
	if (!g)
		return 0;
#endif
	if (read_user64(g + t->layout.g_m, &m))
		return 0;
	return m;
}

// The state of a P with status running, by its M's current goroutine.
static __always_inline u32 classify(struct target *t, u64 p, u64 curg, u64 now)
{
	u32 status = 0;
	u64 gopc = 0;
	int mode = 0;

	// Since Go 1.26 a P has no status for a system call. The goroutine's status shows it (runtime/proc.go,
	// reentersyscall).
	if (curg && !bpf_probe_read_user(&status, sizeof(status), (void *)(curg + t->layout.g_atomicstatus)) &&
	    (status & ~G_SCAN) == G_SYSCALL)
		return P_SYSCALL;
	if (now >= READ_ONCE(&t->marking_until))
		return P_RUNNING;
	// A mark worker stays one until it parks, even after the P's mode was reset and it stops the world
	// (runtime/mgc.go, gcMarkDone).
	if (curg && t->layout.gc_worker_from && !read_user64(curg + t->layout.g_gopc, &gopc)) {
		if (gopc >= t->layout.gc_worker_from && gopc < t->layout.gc_worker_to)
			return P_GC;
		return P_RUNNING;
	}
	if (t->layout.p_gcmode &&
	    !bpf_probe_read_user(&mode, sizeof(mode), (void *)(p + t->layout.p_gcmode)) && mode != GC_MODE_NONE)
		return P_GC;
	return P_RUNNING;
}

#endif
