import type { DataQueryRequest, DataQueryResponse, ScopedVars } from '@grafana/data';
import type { Observable } from 'rxjs';

import type { ScopeOptions, ScopeQuery } from '../types';

/** What the live side needs of the data source. */
export interface Host {
  uid: string;
  options: ScopeOptions;
  /** History, and live data over Grafana Live, from the backend plugin. */
  history: (request: DataQueryRequest<ScopeQuery>) => Observable<DataQueryResponse>;
  interpolate: (query: ScopeQuery, scopedVars: ScopedVars) => ScopeQuery;
}
