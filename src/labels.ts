import type {
  Aggregation,
  Dimension,
  Event,
  Kind,
  Metric,
  PState,
  TargetField,
  ThreadState,
  VariableLabel,
  VariableOrder,
} from './query/model';
import type { Mode } from './types';

/** A choice in a picker: the word and one line that explains it. */
export interface Words {
  label: string;
  description: string;
}

export const KIND_WORDS: Record<Kind, Words> = {
  heatmap: { label: 'Heatmap', description: 'One lane for each P, or a distribution. Panel: heatmap' },
  timeline: { label: 'Timeline', description: 'Exact states of every P. Panel: state timeline' },
  series: { label: 'Series', description: 'Numbers over time. Panels: time series, stat, pie; alert rules' },
  stops: { label: 'Stops', description: 'Every stop-the-world with its reason. Panels: table, annotations' },
  blocked: { label: 'Blocked threads', description: 'Threads that waited longest. Panel: table' },
  diagnosis: { label: 'Diagnosis', description: 'Overloaded and idle Ps with evidence and advice. Panel: table' },
  profile: { label: 'Profile', description: 'What ran on a P. Panel: flame graph' },
  targets: { label: 'Targets', description: 'Every Go process and how it is observed. Panel: table' },
};

/**
 * The panel that suits each kind: its name, and the ids of the visualizations that do. Without ids any may: series suit
 * most.
 */
export const KIND_PANEL: Record<Kind, { name: string; ids?: readonly string[] }> = {
  heatmap: { name: 'Heatmap', ids: ['heatmap'] },
  timeline: { name: 'State timeline', ids: ['state-timeline', 'status-history'] },
  series: { name: 'Time series' },
  stops: { name: 'Table', ids: ['table', 'state-timeline', 'annolist'] },
  blocked: { name: 'Table', ids: ['table'] },
  diagnosis: { name: 'Table', ids: ['table'] },
  profile: { name: 'Flame graph', ids: ['flamegraph'] },
  targets: { name: 'Table', ids: ['table', 'stat'] },
};

export const METRIC_WORDS: Record<Metric, Words> = {
  state: { label: 'P state share', description: 'Share of time a P spends in the chosen states' },
  thread: {
    label: 'Thread state share',
    description: 'Share of time the thread that carries a P spends in the chosen kernel states',
  },
  busy: {
    label: 'Busy',
    description:
      'Share of time a P has work in hand (running, gc, syscall) and its thread is neither stopped nor frozen',
  },
  d_share: { label: 'D share', description: 'Share of time a thread of this P is in uninterruptible sleep' },
  runq: { label: 'Run queue depth', description: 'Goroutines queued on a P' },
  runq_distribution: { label: 'Run queue distribution', description: 'How often a run queue had which depth' },
  global_runq: { label: 'Global run queue depth', description: 'Goroutines queued on no P in particular' },
  wake_wait: { label: 'Wake wait', description: 'From a P being handed to a thread until that thread runs on a CPU' },
  stops: { label: 'Stops', description: 'Time in which the world was stopped; as a heatmap, how long each stop took' },
  stop_rate: { label: 'Stops per second', description: 'How often the world was stopped' },
  sched_ticks: { label: 'Scheduler ticks', description: 'Goroutines started per second' },
  syscalls: { label: 'Syscalls', description: 'System calls per second' },
  transitions: { label: 'State changes', description: 'Changes of P state per second' },
  migrations: {
    label: 'Goroutine migrations',
    description: 'Goroutines that changed their P, per second (agent with --migrations)',
  },
  cpu_frequency: { label: 'CPU frequency', description: 'Clock of the CPUs' },
  imbalance: { label: 'Imbalance', description: 'How unevenly the Ps of a process are loaded' },
  gomaxprocs: { label: 'GOMAXPROCS', description: 'Number of Ps a process may use' },
};

/** A timeline shows the states themselves, not shares of time. */
export const TIMELINE_WORDS: Partial<Record<Metric, Words>> = {
  state: {
    label: 'P states',
    description: 'What each P does, and when its thread is in uninterruptible sleep, stopped or frozen',
  },
  thread: { label: 'Thread states', description: 'What the thread that carries each P does' },
};

/** The words for a metric as a kind shows it. */
export function metricWords(kind: Kind, metric: Metric): Words | undefined {
  return (kind === 'timeline' ? TIMELINE_WORDS[metric] : undefined) ?? METRIC_WORDS[metric];
}

export const P_STATE_WORDS: Record<PState, Words> = {
  running: { label: 'running', description: 'runs Go code' },
  gc: { label: 'gc', description: 'runs a GC mark worker' },
  syscall: { label: 'syscall', description: 'in a system or cgo call' },
  idle: { label: 'idle', description: 'has nothing to do' },
  gcstop: { label: 'gcstop', description: 'halted by a stop-the-world' },
  dead: { label: 'dead', description: 'beyond GOMAXPROCS' },
};

export const THREAD_STATE_WORDS: Record<ThreadState, Words> = {
  running: { label: 'running', description: 'on a CPU' },
  runnable: { label: 'runnable', description: 'waits for a CPU' },
  sleeping: { label: 'sleeping', description: 'interruptible sleep (S)' },
  uninterruptible: { label: 'uninterruptible', description: 'uninterruptible sleep (D)' },
  stopped: { label: 'stopped', description: 'stopped by a signal or held by a tracer (T)' },
  frozen: { label: 'frozen', description: 'held by the freezer of a control group' },
  none: { label: 'none', description: 'no thread carries the P' },
};

export const DIMENSION_WORDS: Record<Dimension, string> = {
  host: 'host',
  process: 'process',
  pid: 'pid',
  runtime: 'runtime',
  container: 'container',
  pod: 'pod',
  p: 'P',
  state: 'P state',
  thread_state: 'thread state',
  reason: 'reason',
};

export const EVENT_WORDS: Record<Event, Words> = {
  stops: { label: 'Stops', description: 'The world stopped, with the reason' },
  gomaxprocs: { label: 'GOMAXPROCS', description: 'The number of Ps changed' },
  restarts: { label: 'Restarts', description: 'A process started, ended, or took the place of one of the same name' },
};

export const AGGREGATION_WORDS: Record<Aggregation, string> = {
  avg: 'average',
  sum: 'sum',
  max: 'highest',
  min: 'lowest',
};

/** The fields that choose targets, each with the words that lead to it in a sentence. */
export const TARGET_WORDS: Record<TargetField, Words & { all: string }> = {
  process: { label: 'of process', description: 'Name of the executable; a regular expression', all: 'any process' },
  host: { label: 'on host', description: 'Host the agent runs on; a regular expression', all: 'any host' },
  pod: { label: 'in pod', description: 'Kubernetes pod; a regular expression', all: 'any pod' },
  container: { label: 'in container', description: 'Container id; a regular expression', all: 'any container' },
  pid: { label: 'with PID', description: 'Process id; a regular expression such as 17|23', all: 'any PID' },
};

/** What a kind does with its subject, in a sentence about the query: "show D share of process api as a heatmap". */
export const KIND_SENTENCE: Record<Kind, { verb: string; subject?: string; as?: string }> = {
  heatmap: { verb: 'Show', as: 'as a heatmap' },
  timeline: { verb: 'Show', as: 'as a timeline' },
  series: { verb: 'Show', as: 'as series' },
  stops: { verb: 'List', subject: 'stops' },
  blocked: { verb: 'List', subject: 'threads that waited longest' },
  diagnosis: { verb: 'Say', subject: 'what is wrong with the Ps' },
  profile: { verb: 'Show', subject: 'what ran on the Ps' },
  targets: { verb: 'List', subject: 'Go processes' },
};

/** The other words of such a sentence. */
export const SENTENCE = {
  anyProcess: 'of any process',
  busiest: 'of the busiest process',
  anyHost: 'of any host',
  ofHost: 'of host',
  named: 'named',
  and: 'and',
  ps: 'Ps',
  each: (aggregation: string, labels: string) => `${aggregation} for each ${labels}`,
  live: 'live',
  unknownKind: (kind: string) => `Unknown kind "${kind}"`,
  emptyCode: 'Empty PromQL',
} as const;

export const VARIABLE_WORDS: Record<VariableLabel, Words> = {
  host: { label: 'Hosts', description: 'Hosts on which an agent runs' },
  process: { label: 'Processes', description: 'Names of Go executables' },
  pid: { label: 'Process ids', description: 'One for each Go process' },
  p: { label: 'Ps', description: 'Numbers of the Ps' },
  container: { label: 'Containers', description: 'Container ids' },
  pod: { label: 'Pods', description: 'Kubernetes pods' },
};

export const MODE_WORDS: Record<Mode, Words> = {
  local: { label: 'This host', description: 'The agent on the machine Grafana runs on, through its socket' },
  agents: { label: 'Agents', description: 'One or more agents by their addresses, answers merged' },
  engine: {
    label: 'Prometheus engine',
    description: 'Prometheus, Mimir, Thanos or VictoriaMetrics that collects from agents',
  },
};

/** Words of the query editor. */
export const EDITOR = {
  show: 'Show',
  of: 'of',
  states: 'in states',
  threadStates: 'in thread states',
  by: 'one series for each',
  aggregation: 'taking the rest together by',
  ps: 'Ps',
  psPlaceholder: 'all, or 0-3,7',
  psHelp: 'Numbers and ranges, separated by commas. Empty: all Ps',
  allStates: 'any state',
  legend: 'Legend',
  legendPlaceholder: 'automatic, or P{{p}} {{state}}',
  resolution: 'Resolution',
  resolutionPlaceholder: 'automatic',
  resolutionHelp: 'Length of one step, such as 1s or 5m. Empty: as the panel needs',
  live: 'Live',
  liveHelp: 'New data arrive by themselves, without refreshing the dashboard',
  rate: 'Rate',
  rateHelp: 'Frames a second. Above 5 they come straight from the agent over gRPC-Web, up to 60',
  percentile: '99th percentile',
  events: 'events',
  limit: 'At most',
  limitRows: 'rows',
  expr: 'PromQL',
  exprPlaceholder: 'sum by (process, p) (rate(pscope_p_uninterruptible_seconds_total[$__rate_interval]))',
  suggestions: 'Words that fit here',
  builder: 'Builder',
  code: 'Code',
  mode: 'Editor mode',
  loadFailed: (what: string, why: string) =>
    `The list of ${what} could not be loaded: ${why}. You can still type a regular expression.`,
  suits: (panel: string) =>
    `This query is made for the ${panel} panel: choose it in the list of visualizations, at the top right.`,
  explore: 'See it in Explore',
  exploreHelp: 'Explore draws it with the right panel at once; from there it can be added to a dashboard',
  codeRates: 'PromQL streams at most 5 frames a second.',
  slowMetric:
    'This metric streams at most 5 frames a second: higher rates are for P states, thread states, D share and run queue depth.',
} as const;

/** Words of the settings page. */
export const CONFIG = {
  source: 'Where the data come from',
  mode: 'Source',
  socket: 'Socket',
  socketPlaceholder: '/run/pscope/pscope.sock',
  socketHelp:
    "Unix socket of the agent on the machine Grafana runs on. Another than the usual one must be in allowed_sockets of [plugin.pscope-pscope-datasource] in the configuration of Grafana's server",
  startAgent: 'Start the bundled agent',
  startAgentHelp:
    'When nothing listens on the socket, start the agent that ships with this plugin. Needs the privileges below',
  privileges: 'Privileges',
  privilegesText:
    'Reading P states takes kernel privileges, which Grafana itself must never have. Give them to the agent alone, once, on the machine Grafana runs on:',
  privilegesCommand: 'sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search=ep "$(command -v pscope)"',
  privilegesOr: 'Or run the agent as a service of its own:',
  privilegesService: 'sudo pscope agent',
  privilegesAfter: 'Save & test then says what is still missing and which command gives it.',
  copy: 'Copy command',
  agents: 'Agent addresses',
  agentsHelp: 'One address a line, such as http://10.0.0.7:9477',
  agentsPlaceholder: 'http://127.0.0.1:9477',
  engine: 'Engine address',
  engineAgents: 'Agent addresses for raw intervals and live data',
  engineAgentsHelp:
    'One address a line. Without agents, timelines and stops are made from metrics, and nothing streams faster than the engine scrapes',
  scrapeInterval: 'Scrape interval',
  scrapeIntervalHelp: 'How often the engine scrapes the agents; rates are taken over a few of these',
  scrapeIntervalPlaceholder: '15s',
  engineHelp: 'Base URL under which /api/v1/query answers',
  enginePlaceholder: 'http://prometheus:9090',
  auth: 'Authentication and TLS',
  token: 'Bearer token',
  tokenPlaceholder: 'none',
  tlsSkipVerify: 'Skip TLS verification',
  tlsSkipVerifyHelp: 'Accept any certificate. Only for tests: anyone in between can read and change the data',
  tlsServerName: 'Server name',
  tlsServerNameHelp: 'Name the certificate is checked against, when it is not the address',
  tlsCACert: 'CA certificate',
  tlsClientCert: 'Client certificate',
  tlsClientKey: 'Client key',
  pem: (what: string) => `-----${what}-----`,
  readOnly: 'This data source was provisioned: change it in its provisioning file.',
  noAgents: 'Give the address of at least one agent',
  badUrl: (url: string) => `"${url}" is no address: it should look like http://host:9477`,
} as const;

/** Words of the variable editor. */
export const VARIABLE = {
  list: 'List',
  order: 'Order',
  orderTip: "Takes effect where the variable's own sort is disabled. A dashboard opens on the first value.",
} as const;

export const ORDER_WORDS: Record<VariableOrder, Words> = {
  name: { label: 'By name', description: 'Numbers by their value' },
  worst: {
    label: 'Worst first',
    description: 'Those with a P stuck in state D, then the busiest, then what has ended',
  },
};

/** Words for what went wrong; each names what failed, why, and what to do next. */
export const PROBLEM = {
  kind: (kind: string) =>
    `"${kind}" is no kind of query this version knows. Choose one from the list, or update P-Scope.`,
  newer: (version: number) =>
    `This query was written by a newer P-Scope (form ${version}). Update the plugin before you change it.`,
  metric: (metric: string) => `"${metric}" is no metric this version knows. Choose one from the list.`,
  metricForKind: (metric: string, kind: string) =>
    `A ${kind.toLowerCase()} cannot show ${metric}. Choose another metric, or show it as series.`,
  profile: 'Profiles are not available in this version. Choose timeline to see what each P did, or blocked threads.',
  state: (state: string) => `"${state}" is no state. Choose from the list.`,
  dimension: (dimension: string, metric: string) =>
    `${metric} is not known for each ${dimension}. Take it off the list.`,
  regex: (why: string) => `Not a regular expression: ${why}`,
  lookaround: 'Look-around and back references are not available: use plain alternatives such as a|b.',
  ps: (part: string) => `"${part}" is neither a number nor a range. Write Ps like 0-3,7.`,
  psOrder: (part: string) => `"${part}" runs backwards. Write the smaller number first.`,
  resolution: 'Write a duration such as 250ms, 1s or 5m.',
  rate: 'Choose a rate between 0.1 and 60 frames a second.',
  event: (event: string) => `"${event}" is no event. Choose from the list.`,
  limit: 'Write a whole number of rows from 1 to 10000.',
  exprEmpty: 'Write a PromQL expression, or go back to the builder.',
  expr: (near: string, column: number) =>
    near ? `PromQL does not parse at column ${column}, near "${near}".` : `PromQL is incomplete at column ${column}.`,
} as const;

/** Words shown with live data. */
export const LIVE = {
  lost: (n: number) => `${n} records were lost on the way to this panel; the totals stay right.`,
  reconnecting: (why: string, seconds: number) => `The live stream broke off (${why}). Next attempt in ${seconds} s.`,
  refused: (why: string) => `The live stream was refused: ${why}`,
} as const;
