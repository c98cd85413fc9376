import type { DataQuery } from '@grafana/schema';

/** What a query answers with; see DESIGN §4 for the frames. */
export const KINDS = ['heatmap', 'timeline', 'series', 'stops', 'blocked', 'diagnosis', 'profile', 'targets'] as const;
export type Kind = (typeof KINDS)[number];

/** The kinds an editor offers: the backend refuses `profile` in this version and says so. */
export const OFFERED_KINDS: readonly Kind[] = KINDS.filter((kind) => kind !== 'profile');

/** What a P is doing, in the order in which legends show it. */
export const P_STATES = ['running', 'gc', 'syscall', 'idle', 'gcstop', 'dead'] as const;
export type PState = (typeof P_STATES)[number];

/** Kernel state of the thread that carries a P, in the order in which legends show it. */
export const THREAD_STATES = [
  'running',
  'runnable',
  'sleeping',
  'uninterruptible',
  'stopped',
  'frozen',
  'none',
] as const;
export type ThreadState = (typeof THREAD_STATES)[number];

export const METRICS = [
  'state',
  'thread',
  'busy',
  'd_share',
  'runq',
  'runq_distribution',
  'global_runq',
  'wake_wait',
  'stops',
  'stop_rate',
  'sched_ticks',
  'syscalls',
  'transitions',
  'migrations',
  'cpu_frequency',
  'imbalance',
  'gomaxprocs',
] as const;
export type Metric = (typeof METRICS)[number];

/** Labels by which a series query may keep its series apart. */
export const DIMENSIONS = [
  'host',
  'process',
  'pid',
  'runtime',
  'container',
  'pod',
  'p',
  'state',
  'thread_state',
  'reason',
] as const;
export type Dimension = (typeof DIMENSIONS)[number];

export const AGGREGATIONS = ['avg', 'sum', 'max', 'min'] as const;
export type Aggregation = (typeof AGGREGATIONS)[number];

/** What a query of kind `stops` lists: stops of the world, changes of GOMAXPROCS, and processes that start, end or are replaced. */
export const EVENTS = ['stops', 'gomaxprocs', 'restarts'] as const;
export type Event = (typeof EVENTS)[number];

/** Which targets a query is about: anchored regular expressions (RE2); an empty one matches everything. */
export interface TargetSelector {
  host?: string;
  process?: string;
  container?: string;
  pod?: string;
  pid?: string;
}

/** The fields of a TargetSelector. */
export const TARGET_FIELDS = ['process', 'host', 'pod', 'container', 'pid'] as const;
export type TargetField = (typeof TARGET_FIELDS)[number];

/** The form of the query this code writes. */
export const QUERY_VERSION = 1;

/** The query as it is stored in dashboards and sent to the backend. Every field but `refId` may be absent: see defaults.ts. */
export interface ScopeQuery extends DataQuery {
  version?: number;
  kind?: Kind;
  target?: TargetSelector;
  /** Numbers and ranges of Ps: `0-3,7`; empty: all. */
  ps?: string;
  metric?: Metric;
  states?: PState[];
  threadStates?: ThreadState[];
  /** Labels that keep series apart; the rest is aggregated. */
  by?: Dimension[];
  aggregation?: Aggregation;
  /** PromQL instead of the builder, when editorMode is `code`. */
  expr?: string;
  editorMode?: 'builder' | 'code';
  /** Legend template: `P{{p}} {{state}}`. */
  legend?: string;
  /** `1s`; empty: the panel's interval. */
  resolution?: string;
  live?: boolean;
  /** Frames a second; above 5 they come over gRPC-Web instead of Grafana Live. */
  rateHz?: number;
  /** At most this many rows. */
  limit?: number;
  /** What kind `stops` lists; empty: stops. */
  events?: Event[];
}

/** What a variable lists. */
export interface ScopeVariableQuery extends DataQuery {
  label?: VariableLabel;
  target?: TargetSelector;
  /** Default: by name. */
  order?: VariableOrder;
}

/** How a list is ordered: by name, or what needs a look first (a P stuck in D, then the busiest, then what has ended). */
export const VARIABLE_ORDERS = ['name', 'worst'] as const;
export type VariableOrder = (typeof VARIABLE_ORDERS)[number];

/** Labels whose values a variable can list. */
export const VARIABLE_LABELS = ['host', 'process', 'pid', 'p', 'container', 'pod'] as const;
export type VariableLabel = (typeof VARIABLE_LABELS)[number];

/** The parts of a query the editor shows, each with errors of its own. */
export type Field =
  | 'kind'
  | TargetField
  | 'ps'
  | 'metric'
  | 'states'
  | 'threadStates'
  | 'by'
  | 'aggregation'
  | 'expr'
  | 'legend'
  | 'resolution'
  | 'live'
  | 'rateHz'
  | 'limit'
  | 'events';

/** Metrics a heatmap draws as a distribution over buckets. */
export const DISTRIBUTION_METRICS: readonly Metric[] = ['runq_distribution', 'wake_wait', 'stops'];

/** Metrics a heatmap can draw: one lane for each P (CPU for the frequency), or a distribution. */
export const HEATMAP_METRICS: readonly Metric[] = [
  'state',
  'thread',
  'busy',
  'd_share',
  'runq',
  ...DISTRIBUTION_METRICS,
  'sched_ticks',
  'syscalls',
  'transitions',
  'migrations',
  'cpu_frequency',
];

/** Metrics a timeline can draw: what a P does, or what the thread that carries it does. */
export const TIMELINE_METRICS: readonly Metric[] = ['state', 'thread'];

/** The metrics that suit a kind; none when the kind has no metric. */
export function metricsOf(kind: Kind): readonly Metric[] {
  switch (kind) {
    case 'series':
      return METRICS;
    case 'heatmap':
      return HEATMAP_METRICS;
    case 'timeline':
      return TIMELINE_METRICS;
    default:
      return [];
  }
}

/** Which labels each metric has besides those of the target. */
export const METRIC_DIMENSIONS: Record<Metric, readonly Dimension[]> = {
  state: ['p', 'state'],
  thread: ['p', 'thread_state'],
  busy: ['p'],
  d_share: ['p'],
  runq: ['p'],
  runq_distribution: ['p'],
  global_runq: [],
  wake_wait: ['p'],
  stops: ['p', 'reason'],
  stop_rate: ['reason'],
  sched_ticks: ['p'],
  syscalls: ['p'],
  transitions: ['p'],
  migrations: ['p'],
  cpu_frequency: ['p'],
  imbalance: [],
  gomaxprocs: [],
};

/** The labels by which series of this metric can be kept apart. */
export function dimensionsOf(metric: Metric): Dimension[] {
  return ['host', 'process', 'pid', 'runtime', 'container', 'pod', ...METRIC_DIMENSIONS[metric]];
}

/** The kind of a query, as far as it is a known one. */
export function kindOf(query: Pick<ScopeQuery, 'kind'>): Kind {
  return query.kind ?? 'heatmap';
}

/** Whether the query is PromQL written by hand. */
export function isCode(query: ScopeQuery): boolean {
  return kindOf(query) === 'series' && query.editorMode === 'code';
}

/** The query with another kind; a metric that does not suit it goes, and with it what depends on it. */
export function withKind(query: ScopeQuery, kind: Kind): ScopeQuery {
  const suits = metricsOf(kind).includes(query.metric ?? 'state');
  return suits ? { ...query, kind } : { ...withMetric(query, undefined), kind };
}

/** The query with another metric. Its grouping and aggregation belong to the metric and go back to what suits the new one. */
export function withMetric(query: ScopeQuery, metric: Metric | undefined): ScopeQuery {
  const { metric: _metric, by: _by, aggregation: _aggregation, ...rest } = query;
  return metric ? { ...rest, metric } : rest;
}

/** The query without fields that are there but undefined: they would be stored as nulls by some, dropped by others. */
export function withoutUndefined(query: ScopeQuery): ScopeQuery {
  const out = { ...query };
  for (const key of Object.keys(out) as Array<keyof ScopeQuery>) {
    if (out[key] === undefined) {
      delete out[key];
    }
  }
  return out;
}

/** The fields of each kind, in the order in which the editor shows them. */
const FIELDS_OF_KIND: Record<Kind, readonly Field[]> = {
  series: [
    'kind',
    'metric',
    'states',
    'threadStates',
    'by',
    'aggregation',
    ...TARGET_FIELDS,
    'ps',
    'legend',
    'resolution',
    'live',
    'rateHz',
  ],
  heatmap: ['kind', 'metric', 'states', 'threadStates', ...TARGET_FIELDS, 'ps', 'resolution', 'live', 'rateHz'],
  timeline: ['kind', 'metric', 'states', 'threadStates', ...TARGET_FIELDS, 'ps', 'resolution', 'live', 'rateHz'],
  stops: ['kind', 'events', ...TARGET_FIELDS, 'ps', 'limit'],
  blocked: ['kind', ...TARGET_FIELDS, 'ps', 'limit'],
  diagnosis: ['kind', ...TARGET_FIELDS, 'ps'],
  profile: ['kind', ...TARGET_FIELDS, 'ps'],
  targets: ['kind', ...TARGET_FIELDS],
};

/** The fields of PromQL by hand. */
const FIELDS_OF_CODE: readonly Field[] = ['kind', 'expr', 'legend', 'resolution', 'live', 'rateHz'];

/** What must hold of a query for a field to have a meaning in it. */
const FIELD_NEEDS: Partial<Record<Field, (query: ScopeQuery) => boolean>> = {
  states: (query) => (query.metric ?? 'state') === 'state',
  threadStates: (query) => query.metric === 'thread',
  rateHz: (query) => query.live ?? false,
};

/** The fields this query needs, in the order in which the editor shows them. */
export function fieldsOf(query: ScopeQuery): Field[] {
  const fields = isCode(query) ? FIELDS_OF_CODE : (FIELDS_OF_KIND[kindOf(query)] ?? ['kind']);
  return fields.filter((field) => FIELD_NEEDS[field]?.(query) ?? true);
}
