import {
  CoreApp,
  dateMath,
  dateTime,
  getProcessedDataFrames,
  LoadingState,
  rangeUtil,
  type DataFrame,
  type DataQueryError,
  type DataQueryResponse,
  type PanelData,
  type ScopedVars,
  type TimeRange,
} from '@grafana/data';
import type { DataQuery } from '@grafana/schema';
import { catchError, isObservable, map, from as fromPromise, type Observable, of, startWith } from 'rxjs';

import type { AnyDataSource } from './plugin';

export interface Ask {
  source: AnyDataSource;
  targets: DataQuery[];
  range: TimeRange;
  /** Pixels the panel has for its data. */
  maxDataPoints: number;
  app: CoreApp;
  panelId?: number;
  boardUid?: string;
  scopedVars?: ScopedVars;
}

let requestNumber = 0;

/** A time range by its raw ends, such as now-15m and now. */
export function makeRange(from: string, to: string): TimeRange {
  const now = dateTime();
  return { from: dateMath.parse(from, false) ?? now, to: dateMath.parse(to, true) ?? now, raw: { from, to } };
}

/**
 * Runs the queries of one panel and keeps on emitting while they stream, as Grafana's query runner does: answers with
 * the same key replace one another, and a range that ends now moves along.
 */
export function runQueries({ source, targets, range, maxDataPoints, app, panelId, boardUid, scopedVars }: Ask): Observable<PanelData> {
  const { interval, intervalMs } = rangeUtil.calculateInterval(range, maxDataPoints, '1s');
  const request = {
    app,
    requestId: `preview-${(requestNumber += 1)}`,
    interval,
    intervalMs,
    maxDataPoints,
    range,
    rangeRaw: range.raw,
    timezone: 'browser',
    startTime: Date.now(),
    targets: targets.filter((query) => !query.hide && (source.filterQuery?.(query) ?? true)),
    scopedVars: {
      ...scopedVars,
      __interval: { text: interval, value: interval },
      __interval_ms: { text: String(intervalMs), value: intervalMs },
    },
    ...(panelId === undefined ? {} : { panelId }),
    ...(boardUid === undefined ? {} : { dashboardUID: boardUid }),
  };
  const loading: PanelData = { state: LoadingState.Loading, series: [], timeRange: range, request };
  if (request.targets.length === 0) {
    return of({ ...loading, state: LoadingState.Done });
  }
  const packets = new Map<string, DataQueryResponse>();
  const answer = source.query(request);
  return (isObservable(answer) ? answer : fromPromise(answer)).pipe(
    map((packet): PanelData => {
      packets.set(packet.key ?? 'A', packet);
      const all = [...packets.values()];
      const errors = all.flatMap((one) => one.errors ?? (one.error ? [one.error] : []));
      return {
        request,
        state: errors.length ? LoadingState.Error : (packet.state ?? LoadingState.Done),
        series: getProcessedDataFrames(all.flatMap((one) => one.data as DataFrame[])),
        timeRange: makeRange(String(range.raw.from), String(range.raw.to)),
        ...(errors.length ? { errors, error: errors[0] } : {}),
      };
    }),
    catchError((error: unknown) => {
      const problem: DataQueryError = { message: errorText(error) };
      return of<PanelData>({ ...loading, state: LoadingState.Error, error: problem, errors: [problem] });
    }),
    startWith(loading)
  );
}

/** What an exception of any shape says. */
export function errorText(error: unknown): string {
  const { message, data, statusText } = (error ?? {}) as { message?: string; data?: { message?: string }; statusText?: string };
  return data?.message ?? message ?? statusText ?? String(error);
}
