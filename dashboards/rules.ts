import { IMBALANCE, LONGEST_STOP, LOSSES, THROTTLED } from './expressions';
import { FLEET_PANELS, FLEET_UID, PROCESS_PANELS, PROCESS_UID, SELF_PANELS, SELF_UID } from './ids';
import { LEVELS } from './levels';
import type { Ask } from './query';

/** Where the runbook pages are read; the one place to change when the documents move. */
export const DOCS_URL = 'https://github.com/p-scope/p-scope/blob/main/docs';

/** What an alert says when its query answers with nothing at all. */
export type NoDataState = 'OK' | 'NoData' | 'Alerting';

/** One alert rule, from which both the Grafana rule and the Prometheus rule are made. */
export interface Rule {
  /** Stable; also the name of the runbook page, docs/runbooks/<uid>.md. */
  uid: string;
  title: string;
  /** The name of the Prometheus alert. */
  alert: string;
  severity: 'critical' | 'warning' | 'info';
  /** What the Grafana rule asks the data source. */
  query: Ask;
  /** Seconds of history it looks at. */
  window: number;
  /** How those seconds become one number. */
  reducer: 'mean' | 'min' | 'max' | 'last';
  /** It fires above (`gt`) or below (`lt`) the threshold. */
  when: 'gt' | 'lt';
  threshold: number;
  /** How long it must be so: a Prometheus duration. */
  for: string;
  /** The same in PromQL; `absent` stands for expression and comparison together. */
  promql: { expr: string; absent?: undefined } | { absent: string };
  /** Sentence with what happened; `{{p}}`-like names are labels, `{{value}}` the number. */
  summary: string;
  /** What it means and where to begin. */
  description: string;
  /** How `{{value}}` is written. */
  format: 'percentage' | 'duration' | 'number';
  /** The board and panel that show it. */
  panel: { board: string; id: number };
  noData: NoDataState;
  /** Why `noData` is what it is; written as a comment beside it. */
  noDataWhy: string;
  /** What an alert says when its query fails. */
  onError: 'KeepLast' | 'Alerting';
  /** Why `onError` is what it is. */
  onErrorWhy: string;
}

/** An agent that can't be reached fails the queries of all rules at once: one of them reports it, the others wait. */
const QUIET_ON_ERROR = {
  onError: 'KeepLast',
  onErrorWhy: 'one outage, one alert: pscope-agent-silent reports that no agent answers',
} as const;

const WITHOUT_TARGET = 'a host without a Go process is healthy; an agent that fails is reported by pscope-agent-silent';

/** All alert rules, the most urgent first. */
export const RULES: Rule[] = [
  {
    uid: 'pscope-d-share',
    title: 'P held in uninterruptible sleep',
    alert: 'PScopeUninterruptible',
    severity: 'critical',
    query: { kind: 'series', metric: 'd_share', by: ['host', 'process', 'pid', 'p'], aggregation: 'max' },
    window: 30,
    reducer: 'mean',
    when: 'gt',
    threshold: LEVELS.dShare,
    for: '2m',
    promql: { expr: 'max by (host, process, process_pid, p) (rate(pscope_p_uninterruptible_seconds_total[1m]))' },
    summary: 'P{{p}} of {{process}} ({{pid}}) on {{host}} is stuck in state D: {{value}} of the time',
    description:
      'A thread that carries this P has been in uninterruptible sleep for two minutes: a page fault or a system call waits for storage, swap or a FUSE or network file system. Nothing inside Go shows this; the P counts as running.',
    format: 'percentage',
    panel: { board: PROCESS_UID, id: PROCESS_PANELS.dShare },
    noData: 'OK',
    noDataWhy: WITHOUT_TARGET,
    ...QUIET_ON_ERROR,
  },
  {
    uid: 'pscope-stop-long',
    title: 'Long stop of the world',
    alert: 'PScopeLongStop',
    severity: 'warning',
    // A histogram without a new stop has no longest one (NaN): "> 0" leaves it out.
    query: { kind: 'series', editorMode: 'code', expr: `${LONGEST_STOP} > 0` },
    window: 60,
    reducer: 'max',
    when: 'gt',
    threshold: LEVELS.stopLength,
    for: '0s',
    promql: { expr: LONGEST_STOP },
    summary: '{{process}} ({{pid}}) on {{host}} stood still for up to {{value}}: {{reason}}',
    description:
      'Every goroutine of the process was halted for longer than 100 ms. The table of stops says when, why, and which P came to rest last.',
    format: 'duration',
    panel: { board: PROCESS_UID, id: PROCESS_PANELS.stops },
    noData: 'OK',
    noDataWhy: 'a process that never stopped has no series',
    ...QUIET_ON_ERROR,
  },
  {
    uid: 'pscope-stop-share',
    title: 'Stops take too much time',
    alert: 'PScopeStopShare',
    severity: 'warning',
    query: { kind: 'series', metric: 'stops', by: ['host', 'process', 'pid'], aggregation: 'max' },
    window: 60,
    reducer: 'mean',
    when: 'gt',
    threshold: LEVELS.stopShare,
    for: '1m',
    promql: { expr: 'max by (host, process, process_pid) (rate(pscope_p_stop_seconds_total[1m]))' },
    summary: '{{process}} ({{pid}}) on {{host}} spends {{value}} of its time stopped',
    description:
      'Stop-the-world intervals together cost more than 5 % of the time of at least one P: usually a garbage collection that runs too often, or a profiler.',
    format: 'percentage',
    panel: { board: PROCESS_UID, id: PROCESS_PANELS.stopLengths },
    noData: 'OK',
    noDataWhy: WITHOUT_TARGET,
    ...QUIET_ON_ERROR,
  },
  {
    uid: 'pscope-runq-depth',
    title: 'Goroutines pile up on a P',
    alert: 'PScopeRunqDepth',
    severity: 'warning',
    query: { kind: 'series', metric: 'runq', by: ['host', 'process', 'pid', 'p'], aggregation: 'max' },
    window: 30,
    reducer: 'mean',
    when: 'gt',
    threshold: LEVELS.runqDepth,
    for: '1m',
    promql: { expr: 'avg by (host, process, process_pid, runtime, p) (avg_over_time(pscope_p_runq_depth[1m]))' },
    summary: 'P{{p}} of {{process}} ({{pid}}) on {{host}} has {{value}} goroutines waiting',
    description:
      'More than 64 goroutines have been queued on one P for a minute: the process wants more CPU than it gets, or the work is not spread over its Ps.',
    format: 'number',
    panel: { board: PROCESS_UID, id: PROCESS_PANELS.runqLanes },
    noData: 'OK',
    noDataWhy: WITHOUT_TARGET,
    ...QUIET_ON_ERROR,
  },
  {
    uid: 'pscope-imbalance',
    title: 'Work is uneven over the Ps',
    alert: 'PScopeImbalance',
    severity: 'warning',
    query: { kind: 'series', metric: 'imbalance', by: ['host', 'process', 'pid'] },
    window: 60,
    reducer: 'mean',
    when: 'gt',
    threshold: LEVELS.imbalance,
    for: '2m',
    promql: { expr: IMBALANCE },
    summary:
      'The Ps of {{process}} ({{pid}}) on {{host}} are unevenly loaded: the busiest is {{value}} above the average',
    description:
      'Some Ps are busy while others idle, and it stays so: locked threads, one goroutine that never yields, or more Ps than the work can use.',
    format: 'percentage',
    panel: { board: PROCESS_UID, id: PROCESS_PANELS.imbalance },
    noData: 'OK',
    noDataWhy: WITHOUT_TARGET,
    ...QUIET_ON_ERROR,
  },
  {
    uid: 'pscope-cpu-wait',
    title: 'Ps wait for a CPU',
    alert: 'PScopeCPUWait',
    severity: 'warning',
    query: {
      kind: 'series',
      metric: 'thread',
      threadStates: ['runnable'],
      by: ['host', 'process', 'pid'],
      aggregation: 'avg',
    },
    window: 60,
    reducer: 'mean',
    when: 'gt',
    threshold: LEVELS.cpuWait,
    for: '5m',
    promql: {
      expr: 'avg by (host, process, process_pid) (rate(pscope_p_thread_seconds_total{thread_state="runnable"}[1m]))',
    },
    summary: 'The Ps of {{process}} ({{pid}}) on {{host}} wait for a CPU {{value}} of the time',
    description:
      'Threads that carry Ps are runnable but not running: the host is oversubscribed, a CPU quota throttles, or GOMAXPROCS is larger than the CPUs the process may use.',
    format: 'percentage',
    panel: { board: PROCESS_UID, id: PROCESS_PANELS.cpuWaitLanes },
    noData: 'OK',
    noDataWhy: WITHOUT_TARGET,
    ...QUIET_ON_ERROR,
  },
  {
    uid: 'pscope-quota',
    title: 'CPU quota is used up',
    alert: 'PScopeQuota',
    severity: 'warning',
    query: { kind: 'series', editorMode: 'code', expr: THROTTLED },
    window: 60,
    reducer: 'mean',
    when: 'gt',
    threshold: LEVELS.throttled,
    for: '5m',
    promql: { expr: THROTTLED },
    summary: 'The CPU quota of {{set_by}} throttles {{process}} ({{pid}}) on {{host}} in {{value}} of its periods',
    description:
      'Threads of the process are ready to run while a control group, its own or one above it, has used up its CPU quota: they stand still until the next period begins. More CPUs on the host would not help.',
    format: 'percentage',
    panel: { board: PROCESS_UID, id: PROCESS_PANELS.quota },
    noData: 'OK',
    noDataWhy: 'a process without a quota has no such series',
    ...QUIET_ON_ERROR,
  },
  {
    uid: 'pscope-agent-silent',
    title: 'No agent answers',
    alert: 'PScopeAgentSilent',
    severity: 'critical',
    query: { kind: 'series', editorMode: 'code', expr: 'count(pscope_build_info)' },
    window: 60,
    reducer: 'last',
    when: 'lt',
    threshold: 1,
    for: '1m',
    promql: { absent: 'absent(pscope_build_info)' },
    summary: 'No P-Scope agent has reported for a minute',
    description:
      'Every other rule is blind while this one fires. The data source test in Grafana and "pscope doctor" on the host say what is wrong.',
    format: 'number',
    panel: { board: SELF_UID, id: SELF_PANELS.agents },
    noData: 'Alerting',
    noDataWhy: 'an agent that runs always reports itself, so nothing at all means that none does',
    onError: 'Alerting',
    onErrorWhy: 'this is the rule that reports an agent which does not answer',
  },
  {
    uid: 'pscope-lost-events',
    title: 'Agent loses events',
    alert: 'PScopeLostEvents',
    severity: 'warning',
    query: { kind: 'series', editorMode: 'code', expr: `sum by (host, reason) (rate(${LOSSES}[1m]))` },
    window: 60,
    reducer: 'mean',
    when: 'gt',
    threshold: LEVELS.lostRate,
    for: '5m',
    promql: { expr: `sum by (host, reason) (rate(${LOSSES}[1m]))` },
    summary: 'The agent on {{host}} loses {{value}} events a second: {{reason}}',
    description:
      'What P-Scope shows for this host is incomplete. Shares of time are counted in the kernel and stay right; raw intervals may have gaps.',
    format: 'number',
    panel: { board: SELF_UID, id: SELF_PANELS.lost },
    noData: 'OK',
    noDataWhy: 'an agent that has lost nothing has no such series; a silent agent has its own rule',
    ...QUIET_ON_ERROR,
  },
  {
    uid: 'pscope-target-refused',
    title: 'Go process not observed',
    alert: 'PScopeTargetRefused',
    severity: 'info',
    query: {
      kind: 'series',
      editorMode: 'code',
      expr: 'max by (host, process, process_pid, reason) (pscope_target_info{source="refused"})',
    },
    window: 60,
    reducer: 'last',
    when: 'gt',
    threshold: 0.5,
    for: '5m',
    promql: { expr: 'max by (host, process, process_pid, reason) (pscope_target_info{source="refused"})' },
    summary: '{{process}} ({{pid}}) on {{host}} is not observed: {{reason}}',
    description:
      'P-Scope found this Go process but does not read it, because it could not be sure to read it right. The runbook lists the reasons and the remedies.',
    format: 'number',
    panel: { board: FLEET_UID, id: FLEET_PANELS.targets },
    noData: 'OK',
    noDataWhy: 'no refused process is what one hopes for',
    ...QUIET_ON_ERROR,
  },
];
