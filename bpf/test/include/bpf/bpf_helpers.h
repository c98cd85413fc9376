// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Replaces libbpf's header of this name. The helpers are functions of the test's machine (machine.h).
#ifndef PSCOPE_TEST_BPF_HELPERS_H
#define PSCOPE_TEST_BPF_HELPERS_H

#define SEC(name)
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define __weak __attribute__((weak))
#define __ksym

void *bpf_map_lookup_elem(void *map, const void *key);
long bpf_map_update_elem(void *map, const void *key, const void *value, u64 flags);
long bpf_map_delete_elem(void *map, const void *key);
u64 bpf_ktime_get_ns(void);
u64 bpf_get_current_task(void);
u64 bpf_get_current_pid_tgid(void);
u32 bpf_get_smp_processor_id(void);
long bpf_probe_read_user(void *to, u32 size, const void *from);
long bpf_probe_read_kernel(void *to, u32 size, const void *from);
void *bpf_ringbuf_reserve(void *ring, u64 size, u64 flags);
void bpf_ringbuf_submit(void *record, u64 flags);
void bpf_ringbuf_discard(void *record, u64 flags);
long bpf_loop(u32 n, void *callback, void *ctx, u64 flags);
#if defined(__TARGET_ARCH_arm64)
struct task_struct *bpf_get_current_task_btf(void);
long bpf_task_pt_regs(struct task_struct *task);
#endif

// Another CPU may act before and after each of these: see switch_point in machine.h.
void switch_point(void);
bool swap_fails(void *word);

#define __sync_val_compare_and_swap(word, old, new)								\
	({													\
		typeof(word) at_ = (word);									\
		typeof(*at_) old_ = (old), was_;								\
		switch_point();											\
		was_ = swap_fails(at_) ? ~old_ : __sync_val_compare_and_swap(at_, old_, new);			\
		switch_point();											\
		was_;												\
	})
#define __sync_fetch_and_add(counter, by)									\
	({													\
		typeof(counter) at_ = (counter);								\
		typeof(*at_) was_;										\
		switch_point();											\
		was_ = __sync_fetch_and_add(at_, by);								\
		was_;												\
	})

#endif
