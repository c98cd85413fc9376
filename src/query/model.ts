import type { DataQuery } from '@grafana/schema';

import {
  DEFAULT_KIND,
  DEFAULT_METRIC,
  KINDS,
  METRIC_SPECS,
  METRICS,
  TARGET_DIMENSIONS,
  TARGET_FIELDS,
  type Dimension,
  type Kind,
  type Metric,
  type QueryModel,
  type TargetField,
  type TargetSelector,
  type VariableLabel,
  type VariableOrder,
} from '../gen/contract';

// The words of a query are those of the backend and the agents, too.
export * from '../gen/contract';

/** The kinds an editor offers: the backend refuses `profile` in this version and says so. */
export const OFFERED_KINDS: readonly Kind[] = KINDS.filter((kind) => kind !== 'profile');

/**
 * The query as it is stored in dashboards and sent to the backend. Every field but `refId` may be absent: see
 * defaults.ts.
 */
export interface ScopeQuery extends DataQuery, QueryModel {}

/** What a variable lists. */
export interface ScopeVariableQuery extends DataQuery {
  label?: VariableLabel;
  target?: TargetSelector;
  /** Default: by name. */
  order?: VariableOrder;
}

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

/** Metrics a heatmap can draw: one lane for each P (CPU for the frequency), or a distribution. */
const HEATMAP_METRICS = METRICS.filter((metric) => METRIC_SPECS[metric].lane || METRIC_SPECS[metric].distribution);

/** Metrics a timeline can draw: what a P does, or what the thread that carries it does. */
const TIMELINE_METRICS = METRICS.filter((metric) => METRIC_SPECS[metric].timeline);

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

/** The labels by which series of this metric can be kept apart. */
export function dimensionsOf(metric: Metric): Dimension[] {
  return [...TARGET_DIMENSIONS, ...(METRIC_SPECS[metric]?.dimensions ?? [])];
}

/** The kind of a query, as far as it is a known one. */
export function kindOf(query: Pick<ScopeQuery, 'kind'>): Kind {
  return query.kind ?? DEFAULT_KIND;
}

/** Whether the query is PromQL written by hand. */
export function isCode(query: ScopeQuery): boolean {
  return kindOf(query) === 'series' && query.editorMode === 'code';
}

/** The query with another kind; a metric that does not suit it goes, and with it what depends on it. */
export function withKind(query: ScopeQuery, kind: Kind): ScopeQuery {
  const suits = metricsOf(kind).includes(query.metric ?? DEFAULT_METRIC);
  return suits ? { ...query, kind } : { ...withMetric(query, undefined), kind };
}

/**
 * The query with another metric. Its grouping and aggregation belong to the metric and go back to what suits the new
 * one.
 */
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
  states: (query) => (query.metric ?? DEFAULT_METRIC) === 'state',
  threadStates: (query) => query.metric === 'thread',
  rateHz: (query) => query.live ?? false,
};

/** The fields this query needs, in the order in which the editor shows them. */
export function fieldsOf(query: ScopeQuery): Field[] {
  const fields = isCode(query) ? FIELDS_OF_CODE : (FIELDS_OF_KIND[kindOf(query)] ?? ['kind']);
  return fields.filter((field) => FIELD_NEEDS[field]?.(query) ?? true);
}
