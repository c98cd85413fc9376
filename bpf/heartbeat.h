// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// An agent that is stopped, starved or stuck must cost the targets nothing, because nobody reads what the programs
// write.
#ifndef PSCOPE_HEARTBEAT_H
#define PSCOPE_HEARTBEAT_H

// The agent counts as alive until this time, in ns of CLOCK_MONOTONIC. Its main loop moves the time on
// (pkg/collector/heartbeat_linux.go). 0: it has not begun.
volatile u64 agent_alive_until;

// Every program calls this with the time at which it began, and returns at once if the agent is silent. When the agent
// resumes, it marks the time between as not observed.
static __always_inline bool agent_silent(u64 began)
{
	return began > agent_alive_until;
}

#endif
