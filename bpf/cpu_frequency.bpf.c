// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Counts how long each CPU had which frequency, by the changes that frequency drivers report. It is an object of its
// own, because the agent loads it only where the kernel does not count these times (cpufreq/stats/time_in_state).
#include "kernel.h"
#include <bpf/bpf_helpers.h>

#define MAX_CPUS 1024
#define BANDS 128	 // of 100 MHz each, up to 12.8 GHz
#define BAND_KHZ 100000

// The sum of nanos is always since - born, except between the two writes below. A reader recognises a torn copy by
// that.
struct cpu {
	u64 born;	// time of the first known frequency, CLOCK_MONOTONIC; 0: none yet
	u64 since;	// time of the last change
	u64 khz;	// the present frequency
	u64 changes;	// number of reported changes
	u64 nanos[BANDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_CPUS); // the agent sets it
	__type(key, u32);
	__type(value, struct cpu);
} cpus SEC(".maps");

// trace_cpu_frequency(unsigned int frequency, unsigned int cpu_id), include/trace/events/power.h. The drivers call it
// for one CPU one call at a time, but not always on that CPU. So the plain writes below have one writer at a time. The
// agent's reads are a benign race because it recognises a torn copy.
SEC("raw_tp/cpu_frequency")
int cpu_frequency(struct bpf_raw_tracepoint_args *ctx)
{
	u32 index = ctx->args[1];
	u64 now = bpf_ktime_get_ns();
	struct cpu *cpu = bpf_map_lookup_elem(&cpus, &index);
	u64 band;

	if (!cpu)
		return 0;
	if (cpu->born) {
		band = cpu->khz / BAND_KHZ;
		if (band >= BANDS)
			band = BANDS - 1;
		if (now > cpu->since) {
			cpu->nanos[band] += now - cpu->since;
			cpu->since = now;
		}
	} else {
		cpu->since = now;
		cpu->born = now;
	}
	cpu->khz = (u32)ctx->args[0];
	cpu->changes++;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
