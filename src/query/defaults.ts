import { CoreApp } from '@grafana/data';

import {
  kindOf,
  QUERY_VERSION,
  type Aggregation,
  type Dimension,
  type Kind,
  type Metric,
  type PState,
  type ScopeQuery,
  type ThreadState,
} from './model';

/** The states in which a P has work in hand, which a heatmap shows unless told. */
export const BUSY_STATES: readonly PState[] = ['running', 'gc', 'syscall'];

/** The thread states in which somebody outside of the program keeps a thread from running. */
export const SUSPENDED_STATES: readonly ThreadState[] = ['stopped', 'frozen'];

/** The thread states a heatmap shows unless told. */
const ON_CPU: readonly ThreadState[] = ['running'];

/** Frames a second unless told; also the most that go through Grafana Live. */
export const DEFAULT_RATE_HZ = 5;

/** The most frames a second an agent sends. */
export const MAX_RATE_HZ = 60;

/** The most rows the backend answers with. */
export const MAX_LIMIT = 10_000;

/** Rows of `blocked` and `stops` unless told. */
export const DEFAULT_LIMIT: Partial<Record<Kind, number>> = { blocked: 1000, stops: 1000 };

/** The query a new panel starts with; never empty-handed, so that a newcomer sees something at once. */
export function defaultQuery(app?: CoreApp): Partial<ScopeQuery> {
  switch (app) {
    case CoreApp.Explore:
      return { version: QUERY_VERSION, kind: 'series', metric: 'state' };
    case CoreApp.UnifiedAlerting:
      return { version: QUERY_VERSION, kind: 'series', metric: 'd_share' };
    default:
      return { version: QUERY_VERSION, kind: 'heatmap' };
  }
}

const TARGET_BY: readonly Dimension[] = ['host', 'process', 'pid', 'runtime'];

/** How series of a metric are kept apart unless told; the backend has the same table. */
export function defaultBy(metric: Metric): Dimension[] {
  switch (metric) {
    case 'state':
      return [...TARGET_BY, 'state'];
    case 'thread':
      return [...TARGET_BY, 'thread_state'];
    case 'busy':
    case 'd_share':
    case 'runq':
    case 'sched_ticks':
    case 'syscalls':
    case 'transitions':
    case 'migrations':
      return [...TARGET_BY, 'p'];
    case 'cpu_frequency':
      return ['host', 'p'];
    default:
      return [...TARGET_BY];
  }
}

/**
 * How the rest is taken together unless told: shares are averaged over Ps, or a whole process would exceed 100 %. Undefined for
 * distributions: their 99th percentile is what one line says best.
 */
export function defaultAggregation(metric: Metric): Aggregation | undefined {
  switch (metric) {
    case 'wake_wait':
    case 'runq_distribution':
      return undefined;
    case 'state':
    case 'thread':
    case 'busy':
    case 'd_share':
    case 'stops':
    case 'cpu_frequency':
      return 'avg';
    case 'imbalance':
      return 'max';
    default:
      return 'sum';
  }
}

/** A query with everything the user left open filled in. */
export type CompleteQuery = ScopeQuery &
  Required<Pick<ScopeQuery, 'kind' | 'metric' | 'states' | 'threadStates' | 'by' | 'rateHz' | 'editorMode'>>;

/** Fills in what the user left open; what is stored stays as short as the user wrote it. */
export function complete(query: ScopeQuery): CompleteQuery {
  const kind = kindOf(query);
  const metric = query.metric ?? 'state';
  return {
    ...query,
    kind,
    metric,
    states: query.states?.length ? query.states : kind === 'heatmap' ? [...BUSY_STATES] : [],
    threadStates: query.threadStates?.length ? query.threadStates : kind === 'heatmap' ? [...ON_CPU] : [],
    by: query.by ?? defaultBy(metric),
    aggregation: query.aggregation ?? defaultAggregation(metric),
    rateHz: query.rateHz ?? DEFAULT_RATE_HZ,
    editorMode: query.editorMode ?? 'builder',
  };
}
