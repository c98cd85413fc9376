/**
 * The uids of the boards and the ids of their panels. Links, alert rules, tests and the addresses that users keep point
 * at them, so they never change.
 */

/** The Process board. */
export const PROCESS_UID = 'pscope-process';
export const PROCESS_PANELS = {
  busyNow: 1,
  cpuWaitNow: 2,
  dShareNow: 3,
  wakeWaitNow: 4,
  stoppedNow: 5,
  gomaxprocsNow: 6,
  lanes: 10,
  timeline: 11,
  pie: 12,
  diagnosis: 13,
  threadStates: 20,
  cpuWaitLanes: 21,
  dShare: 22,
  imbalance: 23,
  quota: 24,
  pressure: 25,
  runqLanes: 30,
  runqDistribution: 31,
  wakeWait: 32,
  globalRunq: 33,
  stops: 40,
  stopTime: 41,
  stopLengths: 42,
  blocked: 50,
  schedTicks: 60,
  syscalls: 61,
  gomaxprocs: 62,
  migrations: 63,
} as const;

/** The Fleet board. */
export const FLEET_UID = 'pscope-fleet';
export const FLEET_PANELS = {
  hosts: 1,
  processes: 2,
  ps: 3,
  cpus: 4,
  dShareNow: 5,
  refused: 6,
  ranking: 10,
  diagnosis: 11,
  dShare: 20,
  cpuWait: 21,
  stopShare: 22,
  busy: 23,
  targets: 30,
} as const;

/** The board about Ps and CPUs. */
export const CPU_UID = 'pscope-cpu';
export const CPU_PANELS = {
  busyNow: 1,
  onCPUNow: 2,
  cpuWaitNow: 3,
  wakeWaitNow: 4,
  demandNow: 5,
  frequencyNow: 6,
  lanes: 10,
  frequency: 11,
  threadStates: 12,
  cpuWaitLanes: 13,
  demand: 20,
  wakeWait: 21,
  bands: 30,
  frequencyLines: 31,
} as const;

/** The board about P-Scope itself. */
export const SELF_UID = 'pscope-self';
export const SELF_PANELS = {
  agents: 1,
  byEBPF: 2,
  bySnapshot: 3,
  refused: 4,
  lostNow: 5,
  probeNow: 6,
  probe: 10,
  lost: 11,
  reconciliations: 12,
  sources: 13,
  agentCPU: 14,
  agentMemory: 15,
  probeShare: 16,
  governor: 17,
  versions: 20,
  goVersions: 21,
  targets: 30,
} as const;
