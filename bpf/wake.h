// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Wake wait: from a P being handed to an M until that M runs.
#ifndef PSCOPE_WAKE_H
#define PSCOPE_WAKE_H

// Upper bounds in ns of the buckets of a native histogram of schema 1, 2^((i-52)/2) s; pkg/pstate has the same rule (Histogram).
static const u64 wake_bounds[WAKE_BUCKETS] = {
	14ULL, 21ULL, 29ULL, 42ULL, 59ULL, 84ULL,
	119ULL, 168ULL, 238ULL, 337ULL, 476ULL, 674ULL,
	953ULL, 1348ULL, 1907ULL, 2697ULL, 3814ULL, 5394ULL,
	7629ULL, 10789ULL, 15258ULL, 21579ULL, 30517ULL, 43158ULL,
	61035ULL, 86316ULL, 122070ULL, 172633ULL, 244140ULL, 345266ULL,
	488281ULL, 690533ULL, 976562ULL, 1381067ULL, 1953125ULL, 2762135ULL,
	3906250ULL, 5524271ULL, 7812500ULL, 11048543ULL, 15625000ULL, 22097086ULL,
	31250000ULL, 44194173ULL, 62500000ULL, 88388347ULL, 125000000ULL, 176776695ULL,
	250000000ULL, 353553390ULL, 500000000ULL, 707106781ULL, 1000000000ULL, 1414213562ULL,
	2000000000ULL, 2828427124ULL, 4000000000ULL, 5656854249ULL, 8000000000ULL, 11313708498ULL,
	16000000000ULL, 22627416997ULL, 32000000000ULL, 45254833995ULL,
};

static __always_inline void wake_waited(struct p_record *r, u64 ns)
{
	u32 lo = 0;

	// The first bound that is not below ns.
	for (int half = WAKE_BUCKETS / 2; half; half >>= 1)
		if (wake_bounds[(lo + half - 1) & (WAKE_BUCKETS - 1)] < ns)
			lo += half;
	__sync_fetch_and_add(&r->wake[lo & (WAKE_BUCKETS - 1)], 1);
	__sync_fetch_and_add(&r->wake_sum, ns);
}

#endif
