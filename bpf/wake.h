// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Wake wait: the time from a P's hand-over to an M until that M runs.
#ifndef PSCOPE_WAKE_H
#define PSCOPE_WAKE_H

static const u64 wake_bounds[WAKE_BUCKETS] = {WAKE_BOUNDS};

static __always_inline void count_wake_wait(struct p_record *r, u64 ns)
{
	u32 lo = 0;

	// The first bucket whose bound is not below ns.
	for (int half = WAKE_BUCKETS / 2; half; half >>= 1)
		if (wake_bounds[(lo + half - 1) & (WAKE_BUCKETS - 1)] < ns)
			lo += half;
	__sync_fetch_and_add(&r->wake[lo & (WAKE_BUCKETS - 1)], 1);
	__sync_fetch_and_add(&r->wake_sum, ns);
}

#endif
