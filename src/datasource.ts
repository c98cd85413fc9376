import {
  CoreApp,
  type DataQueryRequest,
  type DataQueryResponse,
  type DataSourceInstanceSettings,
  type MetricFindValue,
  type ScopedVars,
} from '@grafana/data';
import { DataSourceWithBackend, getTemplateSrv, type TemplateSrv } from '@grafana/runtime';
import { map, type Observable } from 'rxjs';

import { annotationSupport } from './annotations';
import { LiveQueries } from './live/queries';
import { streamOptions } from './live/streamOptions';
import { defaultQuery } from './query/defaults';
import { drawableHeatmaps } from './query/drawableHeatmaps';
import { interpolate } from './query/interpolate';
import { migrate } from './query/migrate';
import { isCode, type TargetSelector, type VariableLabel } from './query/model';
import { sentence } from './query/sentence';
import type { ListOptions, OrderedListOptions, Source } from './source';
import type { ScopeOptions, ScopeQuery, TargetInfo } from './types';
import { VariableSupport } from './variables';

/** The data source: history through the backend plugin, live data through Grafana Live or, above 5 Hz, gRPC-Web. */
export class DataSource extends DataSourceWithBackend<ScopeQuery, ScopeOptions> implements Source {
  private readonly live: LiveQueries;

  constructor(
    settings: DataSourceInstanceSettings<ScopeOptions>,
    private readonly templateSrv: TemplateSrv = getTemplateSrv()
  ) {
    super(settings);
    this.annotations = annotationSupport;
    this.variables = new VariableSupport(this);
    this.streamOptionsProvider = streamOptions;
    this.live = new LiveQueries({
      uid: settings.uid,
      options: settings.jsonData,
      history: (request) => super.query(request).pipe(map(drawableHeatmaps)),
      interpolate: (query, scopedVars) => this.applyTemplateVariables(query, scopedVars),
    });
  }

  override query(request: DataQueryRequest<ScopeQuery>): Observable<DataQueryResponse> {
    const targets = request.targets.map((query) => {
      const migrated = migrate(query);
      return request.liveStreaming ? { ...migrated, live: true } : migrated;
    });
    return this.live.query({ ...request, targets });
  }

  override applyTemplateVariables(query: ScopeQuery, scopedVars: ScopedVars): ScopeQuery {
    return interpolate(query, this.templateSrv.replace.bind(this.templateSrv), scopedVars);
  }

  /** A PromQL query without an expression asks nothing; every other empty query draws something. */
  override filterQuery(query: ScopeQuery): boolean {
    return !query.hide && !(isCode(query) && !query.expr?.trim());
  }

  override getDefaultQuery(app: CoreApp): Partial<ScopeQuery> {
    return defaultQuery(app);
  }

  override getQueryDisplayText(query: ScopeQuery): string {
    return sentence(query);
  }

  /** The Go processes the agents know of, refused ones with the reason. */
  targets(): Promise<TargetInfo[]> {
    return this.getResource('targets');
  }

  /**
   * The values a label had in a time range (the last hour unless told) among the targets a selector chooses. Variables
   * in the selector are replaced.
   */
  labelValues(
    label: VariableLabel,
    target: TargetSelector = {},
    { range, scopedVars, order }: OrderedListOptions = {}
  ): Promise<string[]> {
    const chosen = this.applyTemplateVariables({ refId: 'label-values', target }, scopedVars ?? {}).target;
    const span = range && { from: range.from.valueOf(), to: range.to.valueOf() };
    return this.getResource('label-values', { label, ...chosen, ...span, ...(order ? { order } : {}) });
  }

  override async metricFindQuery(label: VariableLabel, options?: ListOptions): Promise<MetricFindValue[]> {
    const values = await this.labelValues(label, {}, options);
    return values.map((text) => ({ text, value: text }));
  }
}
