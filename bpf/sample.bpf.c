// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// A cpu-clock sample on every CPU. It shows what happens without a context switch: whether a P is in running, syscall
// or gc, and whether a thread on its CPU took or gave back a P.

// By CPU. The agent makes room for every possible CPU.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); // the agent sets it
	__type(key, u32);
	__type(value, struct cpu_samples);
} sampled_cpus SEC(".maps");

SEC("perf_event")
int sample(struct bpf_perf_event_data *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 index = 0, tid = id, slot = bpf_get_smp_processor_id(), state;
	struct cpu_samples *cpu = bpf_map_lookup_elem(&sampled_cpus, &slot);
	struct target *t;
	struct p_record *r;
	struct task_struct *task;
	struct thread *th;
	u64 began;

	if (!cpu)
		return 0;
	cpu->samples++; // no other CPU writes it
	t = target_of(id >> 32, &index);
	if (!t || !tid)
		return 0;
	began = bpf_ktime_get_ns();
	if (agent_silent(began))
		return 0;
	task = (struct task_struct *)bpf_get_current_task();
	th = thread_of(t, index, task, tid);
	if (!th)
		return 0;
	thread_move(t, th, began >> TICK_SHIFT, T_ON_CPU);
	th->sample_ticks = cpu->ticks_each;
	observe(t, th, task, began >> TICK_SHIFT, T_ON_CPU);
	if (th->slot) {
		slot = th->slot - 1;
		r = bpf_map_lookup_elem(&p_records, &slot);
		if (r) {
			state = word_state(READ_ONCE(&r->word));
			if (state == P_RUNNING)
				__sync_fetch_and_add(&r->samples[0], cpu->ticks_each);
			else if (state == P_SYSCALL)
				__sync_fetch_and_add(&r->samples[1], cpu->ticks_each);
			else if (state == P_GC)
				__sync_fetch_and_add(&r->samples[2], cpu->ticks_each);
		}
	}
	count_cost(t, began);
	return 0;
}
