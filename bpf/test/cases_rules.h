// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// The four rules of docs/decisions/collector.md by which an event says which P a thread has.

CASE(rule_1_a_thread_that_leaves_its_CPU_names_its_P)
{
	a_process(2);
	at(100);
	comes(0, 1);
	takes(1, 0);
	at(300);
	leaves(0, ASLEEP);
	P_IS(0, P_RUNNING, T_SLEEPING, 1);
	P_IS(1, P_IDLE, T_NONE, 0);
}
