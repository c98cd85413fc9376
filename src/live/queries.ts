import { dateMath, type DataQueryRequest, type DataQueryResponse } from '@grafana/data';
import { from, merge, Observable, switchMap } from 'rxjs';

import type { ScopeQuery } from '../types';
import type { FastStreams } from './fast';
import type { Host } from './host';
import { wantsFastStream } from './plan';

/**
 * The most streams a page opens unless its connection carries many at once: over HTTP/1.1 a browser has six connections
 * to a server, and Grafana needs some for itself.
 */
const MOST_STREAMS = 3;

/** Sends each query the way its rate asks for: through the backend plugin, or over the streams all panels share. */
export class LiveQueries {
  private fast: Promise<FastStreams> | undefined;

  constructor(
    private readonly host: Host,
    private readonly makeFast = loadFast
  ) {}

  query(request: DataQueryRequest<ScopeQuery>): Observable<DataQueryResponse> {
    if (!endsNow(request)) {
      // What is over does not change any more.
      const targets = request.targets.map((query) => (query.live ? { ...query, live: false } : query));
      return this.host.history({ ...request, targets });
    }
    const agents = this.agents();
    const isFast = (query: ScopeQuery) => agents > 0 && wantsFastStream(query);
    const fast = request.targets.filter(isFast);
    const others = request.targets.filter((query) => !isFast(query));
    if (fast.length === 0) {
      return this.host.history(request);
    }
    this.fast ??= this.makeFast(this.host, agents);
    const streams = from(this.fast).pipe(switchMap((f) => merge(...fast.map((query) => f.query(query, request)))));
    return others.length ? merge(this.host.history({ ...request, targets: others }), streams) : streams;
  }

  /**
   * How many agents can be streamed from; none where a Prometheus engine stands alone or there are too many for the
   * browser.
   */
  private agents(): number {
    const { mode = 'local', agents = [] } = this.host.options;
    const count = mode === 'local' ? 1 : agents.length;
    return count <= MOST_STREAMS || multiplexed() ? count : 0;
  }
}

/** Loaded when first needed: gRPC-Web and its messages are two thirds of the plugin. */
async function loadFast(host: Host, agents: number): Promise<FastStreams> {
  const { FastStreams } = await import(/* webpackChunkName: "live" */ './fast');
  return new FastStreams(host, agents);
}

/** Whether the page came over a connection that carries many requests at once. */
function multiplexed(): boolean {
  const [navigation] = performance.getEntriesByType?.('navigation') ?? [];
  const protocol = (navigation as PerformanceNavigationTiming | undefined)?.nextHopProtocol;
  return protocol === 'h2' || protocol === 'h3';
}

/**
 * Whether the range of a request goes on with time and reaches up to it: `now` does and so does `now/d`, `now-10s` does
 * not.
 */
function endsNow(request: DataQueryRequest<ScopeQuery>): boolean {
  const to = request.rangeRaw?.to ?? request.range.raw.to;
  if (typeof to !== 'string' || !to.startsWith('now')) {
    return false;
  }
  const asked = Date.now();
  return (dateMath.toDateTime(to, { roundUp: true })?.valueOf() ?? 0) >= asked;
}
