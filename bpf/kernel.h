// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// The kernel types that the programs use, as partial definitions for CO-RE. The loader relocates every access by the
// running kernel's BTF. So no vmlinux.h is needed, and no build for each kernel.
#ifndef PSCOPE_KERNEL_H
#define PSCOPE_KERNEL_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;
typedef u8 __u8;
typedef u16 __u16;
typedef u32 __u32;
typedef u64 __u64;
typedef s32 __s32;
typedef s64 __s64;
typedef u16 __be16;
typedef u32 __be32;
typedef u32 __wsum;
typedef _Bool bool;

#define true 1
#define false 0

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
};

enum {
	BPF_F_MMAPABLE = 1U << 10,
	BPF_RB_NO_WAKEUP = 1U << 0,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

#if defined(__TARGET_ARCH_x86)
struct thread_struct {
	unsigned long fsbase;
};
struct pt_regs {
	unsigned long ax;
	unsigned long cx;
	unsigned long sp;
	unsigned long r14;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	u64 regs[31];
	u64 sp;
	u64 pc;
	u64 pstate;
};
struct pt_regs {
	union {
		struct user_pt_regs user_regs;
		struct {
			u64 regs[31];
			u64 sp;
			u64 pc;
			u64 pstate;
		};
	};
};
#endif

struct upid {
	int nr;
	void *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct signal_struct {
	struct {
		int counter;
	} live;
};

struct task_struct {
	unsigned int __state; // since 5.14
	int pid;
	int tgid;
	unsigned long jobctl;
	struct pid *thread_pid;
	struct signal_struct *signal;
#if defined(__TARGET_ARCH_x86)
	struct thread_struct thread;
#endif
	char comm[16];
};

#pragma clang attribute pop

struct bpf_raw_tracepoint_args {
	u64 args[0];
};

struct bpf_perf_event_data;

#endif
