import { dateTime, locationUtil, urlUtil, type TimeRange } from '@grafana/data';

import type { Source } from '../source';
import type { ScopeQuery } from '../types';

/** Form of the parameter `panes` that Explore reads. */
const EXPLORE_SCHEMA = 1;

/**
 * The address under which Explore shows a query, with the dashboard's variables replaced: there are none in Explore.
 */
export function exploreUrl(datasource: Source, query: ScopeQuery, range: TimeRange | undefined): string {
  const [plain = query] = datasource.interpolateVariablesInQueries([query], {});
  const text = (end: TimeRange['raw']['to']) => (typeof end === 'string' ? end : String(dateTime(end).valueOf()));
  const pane = {
    datasource: datasource.uid,
    queries: [{ ...plain, datasource: datasource.getRef() }],
    range: range ? { from: text(range.raw.from), to: text(range.raw.to) } : { from: 'now-1h', to: 'now' },
  };
  return locationUtil.assureBaseUrl(
    urlUtil.renderUrl('/explore', { schemaVersion: EXPLORE_SCHEMA, panes: JSON.stringify({ pscope: pane }) })
  );
}
