import { CoreApp } from '@grafana/data';

import { kindOf, METRIC_DIMENSIONS, QUERY_VERSION, type Aggregation, type Dimension, type Metric, type PState, type ScopeQuery } from './model';

/** The states a heatmap shows unless told: the share of time in which a P is busy. */
export const BUSY_STATES: readonly PState[] = ['running', 'gc', 'syscall'];

/** Frames a second unless told; also the most that go through Grafana Live. */
export const DEFAULT_RATE_HZ = 5;

/** The most frames a second an agent sends. */
export const MAX_RATE_HZ = 60;

/** Rows of `blocked` and `stops` unless told. */
export const DEFAULT_LIMIT: Partial<Record<string, number>> = { blocked: 20, stops: 1000 };

/** The query a new panel starts with; never empty-handed, so that a newcomer sees something at once. */
export function defaultQuery(app?: CoreApp): Partial<ScopeQuery> {
  switch (app) {
    case CoreApp.Explore:
      return { version: QUERY_VERSION, kind: 'series', metric: 'state', by: ['p'] };
    case CoreApp.UnifiedAlerting:
      return { version: QUERY_VERSION, kind: 'series', metric: 'd_share', by: ['host', 'process', 'pid', 'p'] };
    default:
      return { version: QUERY_VERSION, kind: 'heatmap' };
  }
}

/** How series of a metric are kept apart unless told. */
export function defaultBy(metric: Metric): Dimension[] {
  if (metric === 'state') {
    return ['state'];
  }
  if (metric === 'thread') {
    return ['thread_state'];
  }
  const own = METRIC_DIMENSIONS[metric];
  return own.length > 0 ? [...own] : ['process'];
}

const SHARES: readonly Metric[] = ['state', 'thread', 'd_share', 'imbalance'];

/** How the rest is taken together unless told: shares are averaged over Ps, or a whole process would exceed 100 %. */
export function defaultAggregation(metric: Metric): Aggregation {
  if (SHARES.includes(metric) || metric === 'cpu_frequency' || metric === 'wake_wait') {
    return 'avg';
  }
  return 'sum';
}

/** A query with everything the user left open filled in. */
export type CompleteQuery = ScopeQuery & Required<Pick<ScopeQuery, 'kind' | 'metric' | 'states' | 'threadStates' | 'by' | 'aggregation' | 'rateHz' | 'editorMode'>>;

/** Fills in what the user left open; what is stored stays as short as the user wrote it. */
export function complete(query: ScopeQuery): CompleteQuery {
  const kind = kindOf(query);
  const metric = query.metric ?? 'state';
  return {
    ...query,
    kind,
    metric,
    states: query.states?.length ? query.states : kind === 'heatmap' ? [...BUSY_STATES] : [],
    threadStates: query.threadStates ?? [],
    by: query.by ?? defaultBy(metric),
    aggregation: query.aggregation ?? defaultAggregation(metric),
    rateHz: query.rateHz ?? DEFAULT_RATE_HZ,
    editorMode: query.editorMode ?? 'builder',
  };
}
