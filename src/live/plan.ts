import { complete } from '../query/defaults';
import { DEFAULT_RATE_HZ, isCode, METRIC_SPECS, type ScopeQuery } from '../query/model';

/** Whether the query can be answered from an agent's Watch stream. */
export function canStreamFast(query: ScopeQuery): boolean {
  const { kind, metric } = complete(query);
  if (isCode(query)) {
    return false;
  }
  const { watched = false, lane = false } = METRIC_SPECS[metric] ?? {};
  switch (kind) {
    case 'timeline':
      return true;
    case 'heatmap':
      return watched && lane;
    case 'series':
      return watched;
    default:
      return false;
  }
}

/** Whether the query is to go over gRPC-Web: it asks for more frames than Grafana Live is meant to carry. */
export function wantsFastStream(query: ScopeQuery): boolean {
  return Boolean(query.live) && !query.hide && complete(query).rateHz > DEFAULT_RATE_HZ && canStreamFast(query);
}
