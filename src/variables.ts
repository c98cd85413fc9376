import { CustomVariableSupport, type DataQueryRequest, type DataQueryResponse } from '@grafana/data';
import { from, map, type Observable } from 'rxjs';

import { VariableQueryEditor } from './editors/VariableQueryEditor';
import { QUERY_VERSION } from './query/model';
import type { Source } from './source';
import type { ScopeQuery, ScopeVariableQuery } from './types';

/** Lists of hosts, processes, pids, Ps, pods and containers as dashboard variables. */
export class VariableSupport extends CustomVariableSupport<Source, ScopeVariableQuery, ScopeQuery> {
  editor = VariableQueryEditor;

  constructor(private readonly datasource: Source) {
    super();
  }

  override getDefaultQuery(): Partial<ScopeQuery> & Pick<ScopeVariableQuery, 'label'> {
    return { version: QUERY_VERSION, label: 'process' };
  }

  override query(request: DataQueryRequest<ScopeVariableQuery>): Observable<DataQueryResponse> {
    const query = request.targets[0];
    return from(
      this.datasource.labelValues(query?.label ?? 'process', query?.target, {
        range: request.range,
        scopedVars: request.scopedVars,
        order: query?.order,
      })
    ).pipe(map((values) => ({ data: values.map((text) => ({ text, value: text })) })));
  }
}
