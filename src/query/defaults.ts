import { CoreApp } from '@grafana/data';

import {
  ALERT_KIND,
  ALERT_METRIC,
  BUSY_STATES,
  DEFAULT_KIND,
  DEFAULT_METRIC,
  DEFAULT_RATE_HZ,
  kindOf,
  METRIC_SPECS,
  ON_CPU_STATES,
  QUERY_VERSION,
  type Aggregation,
  type Dimension,
  type Metric,
  type ScopeQuery,
} from './model';

/** The query a new panel starts with; never empty-handed, so that a newcomer sees something at once. */
export function defaultQuery(app?: CoreApp): Partial<ScopeQuery> {
  switch (app) {
    case CoreApp.Explore:
      return { version: QUERY_VERSION, kind: 'series', metric: DEFAULT_METRIC };
    case CoreApp.UnifiedAlerting:
      return { version: QUERY_VERSION, kind: ALERT_KIND, metric: ALERT_METRIC };
    default:
      return { version: QUERY_VERSION, kind: DEFAULT_KIND };
  }
}

/** How series of a metric are kept apart unless told. */
export function defaultBy(metric: Metric): Dimension[] {
  // A query of a later version may have a metric that is not known here.
  return [...(METRIC_SPECS[metric]?.by ?? [])];
}

/**
 * How the rest is taken together unless told: shares are averaged over Ps, or a whole process would exceed 100 %.
 * Undefined for distributions: their 99th percentile is what one line says best.
 */
export function defaultAggregation(metric: Metric): Aggregation | undefined {
  return METRIC_SPECS[metric]?.aggregation;
}

/** A query with everything the user left open filled in. */
export type CompleteQuery = ScopeQuery &
  Required<Pick<ScopeQuery, 'kind' | 'metric' | 'states' | 'threadStates' | 'by' | 'rateHz' | 'editorMode'>>;

/** Fills in what the user left open; what is stored stays as short as the user wrote it. */
export function complete(query: ScopeQuery): CompleteQuery {
  const kind = kindOf(query);
  const metric = query.metric ?? DEFAULT_METRIC;
  return {
    ...query,
    kind,
    metric,
    states: query.states?.length ? query.states : kind === 'heatmap' ? [...BUSY_STATES] : [],
    threadStates: query.threadStates?.length ? query.threadStates : kind === 'heatmap' ? [...ON_CPU_STATES] : [],
    by: query.by ?? defaultBy(metric),
    aggregation: query.aggregation ?? defaultAggregation(metric),
    rateHz: query.rateHz ?? DEFAULT_RATE_HZ,
    editorMode: query.editorMode ?? 'builder',
  };
}
