import { dateTime, type DataQueryRequest, type DataQueryResponse } from '@grafana/data';
import {
  catchError,
  concat,
  concatMap,
  defer,
  delay,
  EMPTY,
  filter,
  forkJoin,
  map,
  merge,
  NEVER,
  of,
  share,
  shareReplay,
  take,
  tap,
  type Observable,
} from 'rxjs';

import { complete, type CompleteQuery } from '../query/defaults';
import { DEFAULT_RATE_HZ } from '../query/model';
import { parsePs } from '../query/ps';
import type { ScopeQuery } from '../types';
import type { Host } from './host';
import { LiveHub } from './hub';
import { animationFrame, paced, type NextFrame } from './pace';
import { matcher, type Matcher } from './selector';
import { millis } from './time';
import { grpcWebTransport, type OpenWatch } from './transport';
import { View } from './view';
import { hidden } from './visibility';

/** What tests replace. */
export interface FastOptions {
  open?: OpenWatch;
  nextFrame?: NextFrame;
}

/** Answers queries from the streams of the agents, which all panels of a data source share. */
export class FastStreams {
  private readonly hub: LiveHub;
  private readonly nextFrame: NextFrame;

  constructor(
    private readonly host: Host,
    agents: number,
    { open = grpcWebTransport(host.uid), nextFrame = animationFrame }: FastOptions = {}
  ) {
    this.hub = new LiveHub({ open, agents, hidden: hidden() });
    this.nextFrame = nextFrame;
  }

  /** The answer to one query, for as long as it is subscribed to. */
  query(query: ScopeQuery, request: DataQueryRequest<ScopeQuery>): Observable<DataQueryResponse> {
    const full = complete(this.host.interpolate(query, request.scopedVars));
    const chosen = matcher(full);
    if (!chosen) {
      // The choice of targets cannot be made here: Grafana Live carries the query.
      return this.host.history({ ...request, targets: [query] });
    }
    return defer(() => this.join(full, chosen, request, query));
  }

  /** History first, then every message of the stream joined to it. */
  private join(
    query: CompleteQuery,
    chosen: Matcher,
    request: DataQueryRequest<ScopeQuery>,
    stored: ScopeQuery
  ): Observable<DataQueryResponse> {
    const view = new View(query, chosen, {
      windowMs: request.range.to.valueOf() - request.range.from.valueOf(),
      maxPoints: Math.max(LEAST_POINTS, request.maxDataPoints ?? DEFAULT_POINTS),
    });
    const list = parsePs(query.ps ?? '');
    const demand = {
      target: query.target ?? {},
      ps: 'ps' in list ? list.ps : [],
      rateHz: query.rateHz,
      transitions: query.kind === 'timeline',
    };
    const events = this.hub.watch(demand).pipe(share());
    const ask = (part: Partial<DataQueryRequest<ScopeQuery>>) =>
      this.host.history({ ...request, ...part, targets: [{ ...stored, live: false, rateHz: DEFAULT_RATE_HZ }] }).pipe(
        tap((response) => view.seed(response)),
        catchError((err: unknown) => of(view.historyFailed(err)))
      );
    const history = ask({}).pipe(shareReplay(1));
    const firstNews = events.pipe(
      filter((event) => event.type === 'update'),
      take(1)
    );
    const missed = forkJoin([firstNews, history]).pipe(
      delay(query.kind === 'timeline' ? 0 : STORED_AFTER_MS),
      concatMap(([{ at }]) => {
        const gap = gapBetween(request, view.historyEnd, millis(at));
        return gap ? ask(gap) : EMPTY;
      })
    );
    // The stream is subscribed to before history is asked for, so that they overlap.
    return merge(events.pipe(tap((event) => view.apply(event))), missed, concat(history, NEVER)).pipe(
      paced(query.rateHz, this.nextFrame),
      map(() => view.response())
    );
  }
}

/** What a panel draws at least, and unless it says how much. */
const LEAST_POINTS = 10;
const DEFAULT_POINTS = 1000;

/** After this long an agent's store has what its stream told. */
const STORED_AFTER_MS = 2500;

/** Gaps shorter than this are left alone: history comes a second at a time. */
const LEAST_GAP_MS = 1000;

/** Rates need some points before the first one wanted. */
const MARGIN_MS = 2000;

/**
 * The time between the end of history and the first message of the stream, as a request of its own: a browser that is
 * busy building a dashboard opens the stream seconds later, and a busy agent stores late. Undefined when there is none
 * to speak of.
 */
function gapBetween(
  request: DataQueryRequest<ScopeQuery>,
  historyEnd: number | undefined,
  streamMs: number
): Partial<DataQueryRequest<ScopeQuery>> | undefined {
  const endMs = Math.min(historyEnd ?? Infinity, request.range.to.valueOf());
  if (streamMs - endMs < LEAST_GAP_MS) {
    return undefined;
  }
  const from = dateTime(endMs - MARGIN_MS);
  const to = dateTime(streamMs + MARGIN_MS);
  return { requestId: `${request.requestId}-gap`, range: { from, to, raw: { from, to } } };
}
