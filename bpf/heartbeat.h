// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// An agent that is stopped, starved or stuck must cost the targets nothing: nobody would read what the programs write.
#ifndef PSCOPE_HEARTBEAT_H
#define PSCOPE_HEARTBEAT_H

// Until when the agent counts as alive, in ns of CLOCK_MONOTONIC. Its main loop moves this on (pkg/collector/heartbeat_linux.go); 0: it has not begun.
volatile u64 agent_alive_until;

// Every program asks this with the time at which it began, which it has anyway, and leaves at once if it is so. When the agent is back it marks the time between as
// not observed.
static __always_inline bool agent_silent(u64 began)
{
	return began > agent_alive_until;
}

#endif
