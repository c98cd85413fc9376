import { complete, DEFAULT_RATE_HZ } from '../query/defaults';
import { isCode, type Metric, type ScopeQuery } from '../query/model';

/** The metrics an agent's Watch stream carries; the others come from its store, a second at a time. */
export const WATCH_METRICS: readonly Metric[] = [
  'state',
  'thread',
  'busy',
  'd_share',
  'runq',
  'global_runq',
  'gomaxprocs',
];

/** Whether the query can be answered from an agent's Watch stream. */
export function canStreamFast(query: ScopeQuery): boolean {
  const { kind, metric } = complete(query);
  if (isCode(query)) {
    return false;
  }
  switch (kind) {
    case 'timeline':
      return true;
    case 'heatmap':
      return ['state', 'thread', 'busy', 'd_share', 'runq'].includes(metric);
    case 'series':
      return WATCH_METRICS.includes(metric);
    default:
      return false;
  }
}

/** Whether the query is to go over gRPC-Web: it asks for more frames than Grafana Live is meant to carry. */
export function wantsFastStream(query: ScopeQuery): boolean {
  return Boolean(query.live) && !query.hide && complete(query).rateHz > DEFAULT_RATE_HZ && canStreamFast(query);
}
