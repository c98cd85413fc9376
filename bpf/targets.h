// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Finds the target of a process, and counts what its events cost.
#ifndef PSCOPE_TARGETS_H
#define PSCOPE_TARGETS_H

// The highest cost that an event is given, in ns. Where an event takes longer, the hypervisor took the CPU away or, in
// a uprobe, the scheduler did. Counted times 16, that time would distort the cost.
#define MAX_EVENT_COST 20000

// Counts the cost of one event in 16, times 16. An update of a counter that two CPUs share is expensive compared with
// an event. A hash of the event's time chooses the events. The time's low bits would not do, because a clock may tick
// in steps.
#define EVENT_SAMPLE 16
static __always_inline bool event_sampled(u64 now)
{
	return !((now * 0x9e3779b97f4a7c15ULL) >> 60);
}

static __always_inline void count_cost_from(struct target *t, u64 event, u64 began)
{
	u64 ns;

	if (!event_sampled(event))
		return;
	ns = bpf_ktime_get_ns() - began;
	__sync_fetch_and_add(&t->events, EVENT_SAMPLE);
	__sync_fetch_and_add(&t->probe_ns, (ns < MAX_EVENT_COST ? ns : MAX_EVENT_COST) * EVENT_SAMPLE);
}

static __always_inline void count_cost(struct target *t, u64 began)
{
	count_cost_from(t, began, began);
}

static __always_inline struct target *target_at(u32 i, u32 tgid, u32 *index)
{
	struct target *t = bpf_map_lookup_elem(&targets, &i);

	if (!t || t->tgid != tgid)
		return 0;
	*index = i;
	return t;
}

// A target that is observed now.
static __always_inline struct target *target_of(u32 tgid, u32 *index)
{
	u32 word = (tgid & (HINTS - 1)) >> 2, i, *shared;
	u64 *hint = bpf_map_lookup_elem(&target_hints, &word);
	struct target *t;

	if (!hint)
		return 0;
	i = (u16)(READ_ONCE(hint) >> ((tgid & 3) << 4));
	if (!i)
		return 0;
	if (i == HINT_SHARED) {
		shared = bpf_map_lookup_elem(&target_index, &tgid);
		if (!shared)
			return 0;
		i = *shared;
	}
	t = target_at(i, tgid, index);
	return t && READ_ONCE(&t->active) == OBSERVED ? t : 0;
}

// A target that is observed now, or one of which only stops are reported. The latter has no hint.
static __always_inline struct target *any_target_of(u32 tgid, u32 *index)
{
	u32 *i = bpf_map_lookup_elem(&target_index, &tgid);
	struct target *t = i ? target_at(*i, tgid, index) : 0;

	return t && READ_ONCE(&t->active) ? t : 0;
}

#endif
