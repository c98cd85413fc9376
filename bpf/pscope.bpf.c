// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// The object that the agent loads. Each hook has a file. All hooks share the maps.
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "types.h"
#include "maps.h"
#include "account.h"
#include "run_times.h"
#include "threads.h"
#include "walk.h"
#include "heartbeat.h"
#include "wake.h"
#include "targets.h"
#include "observe.h"
#include "sched_switch.bpf.c"
#include "sched_waking.bpf.c"
#include "sample.bpf.c"
#include "world.bpf.c"
#include "migration.bpf.c"
#include "exec.bpf.c"

// The helpers that read memory need a licence that is compatible with the GPL.
char LICENSE[] SEC("license") = "GPL";

// These variables put their types into the object's BTF, where bpf2go finds them.
const enum activity *activities __attribute__((unused));
const enum event_kind *kinds __attribute__((unused));
const enum lag *lags __attribute__((unused));
const enum switch_order *orders __attribute__((unused));
const enum timed_program *timed __attribute__((unused));
const enum run_times_bounds *run_bounds __attribute__((unused));
const enum lost_reason *reasons __attribute__((unused));
const enum word_bits *names_word_bits __attribute__((unused));
const enum chunks *names_chunks __attribute__((unused));
const enum p_place_bounds *names_p_place_bounds __attribute__((unused));
const enum lag_bounds *names_lag_bounds __attribute__((unused));
const enum hints *names_hints __attribute__((unused));
const enum thread_key *names_thread_key __attribute__((unused));
const enum reach *names_reach __attribute__((unused));
const struct exec_event *execs __attribute__((unused));
const struct stop_event *stops __attribute__((unused));
const struct interval_event *intervals __attribute__((unused));
