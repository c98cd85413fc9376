import {
  LoadingState,
  type DataFrame,
  type DataQueryRequest,
  type DataQueryResponse,
  type QueryResultMetaNotice,
  type ScopedVars,
} from '@grafana/data';
import { catchError, concat, defer, map, merge, NEVER, Observable, of, tap } from 'rxjs';

import { LIVE } from '../labels';
import { complete, DEFAULT_RATE_HZ, type CompleteQuery } from '../query/defaults';
import type { ScopeOptions, ScopeQuery } from '../types';
import { LiveTimeline, type Window } from './frames/timeline';
import { LiveValues } from './frames/values';
import { LiveHub, type HubEvent, type Update } from './hub';
import { animationFrame, paced, type NextFrame } from './pace';
import { wantsFastStream } from './plan';
import { matcher, type Matcher } from './selector';
import { parsePs } from '../query/ps';
import { grpcWebTransport, type OpenWatch } from './transport';
import { hidden } from './visibility';

/** What the live side needs of the data source. */
export interface Host {
  uid: string;
  options: ScopeOptions;
  /** History, and live data over Grafana Live, from the backend plugin. */
  history: (request: DataQueryRequest<ScopeQuery>) => Observable<DataQueryResponse>;
  interpolate: (query: ScopeQuery, scopedVars: ScopedVars) => ScopeQuery;
  /** Replaced in tests. */
  open?: OpenWatch;
  nextFrame?: NextFrame;
}

/** Sends each query the way its rate asks for: through the backend plugin, or over the stream all panels share. */
export class LiveQueries {
  private sharedHub: LiveHub | undefined;

  constructor(private readonly host: Host) {}

  query(request: DataQueryRequest<ScopeQuery>): Observable<DataQueryResponse> {
    if (!endsNow(request)) {
      // What is over does not change any more.
      return this.host.history({
        ...request,
        targets: request.targets.map((q) => (q.live ? { ...q, live: false } : q)),
      });
    }
    const fast: Array<Observable<DataQueryResponse>> = [];
    const others: ScopeQuery[] = [];
    for (const query of request.targets) {
      const plan = this.agents() > 0 && wantsFastStream(query) ? this.plan(query, request) : undefined;
      if (plan) {
        fast.push(this.stream(plan, request, query));
      } else {
        others.push(query);
      }
    }
    if (fast.length === 0) {
      return this.host.history(request);
    }
    return merge(...(others.length ? [this.host.history({ ...request, targets: others })] : []), ...fast);
  }

  /** How many agents can be asked for streams; a Prometheus engine alone has none. */
  private agents(): number {
    const { mode = 'local', agents = [] } = this.host.options;
    return mode === 'local' ? 1 : agents.length;
  }

  /** Undefined when the choice of targets cannot be made in the browser: Grafana Live then carries the query. */
  private plan(query: ScopeQuery, request: DataQueryRequest<ScopeQuery>): Plan | undefined {
    const full = complete(this.host.interpolate(query, request.scopedVars));
    const chosen = matcher(full);
    return chosen && { query: full, matcher: chosen };
  }

  /** History first, then every message of the stream joined to it. */
  private stream(plan: Plan, request: DataQueryRequest<ScopeQuery>, stored: ScopeQuery): Observable<DataQueryResponse> {
    return defer(() => {
      const view = new View(plan, {
        windowMs: request.range.to.valueOf() - request.range.from.valueOf(),
        maxPoints: Math.max(10, request.maxDataPoints ?? 1000),
      });
      const { query } = plan;
      const list = parsePs(query.ps ?? '');
      const events = this.hub().watch({
        target: query.target ?? {},
        ps: 'ps' in list ? list.ps : [],
        rateHz: query.rateHz,
        transitions: query.kind === 'timeline',
      });
      const history = this.host
        .history({ ...request, targets: [{ ...stored, live: false, rateHz: DEFAULT_RATE_HZ }] })
        .pipe(
          tap((response) => view.seed(response)),
          catchError((err: unknown) => of(view.historyFailed(err)))
        );
      // The stream is subscribed to before history is asked for, so that they overlap.
      return merge(events.pipe(tap((event) => view.apply(event))), concat(history, NEVER)).pipe(
        paced(query.rateHz, this.host.nextFrame ?? animationFrame),
        map(() => view.response())
      );
    });
  }

  private hub(): LiveHub {
    this.sharedHub ??= new LiveHub({
      open: this.host.open ?? grpcWebTransport(this.host.uid),
      agents: this.agents(),
      hidden: hidden(),
    });
    return this.sharedHub;
  }
}

interface Plan {
  query: CompleteQuery;
  matcher: Matcher;
}

/** What one panel shows: history and stream folded into the newest state, made into frames when one is drawn. */
class View {
  private readonly builder: LiveTimeline | LiveValues;
  private readonly down = new Map<number, string>();
  private readonly waiting: Array<Extract<HubEvent, { type: 'update' }>> = [];
  private seeded = false;
  private failed: DataQueryResponse | undefined;
  private lost = 0;
  /** Set when an empty query stands for the busiest process: only what history chose is shown. */
  private busiest: ReadonlySet<string> | undefined;
  /** The agent's clock minus the browser's, so that open states end where the agent's last word was. */
  private skewMs = 0;

  constructor(
    private readonly plan: Plan,
    window: Window
  ) {
    const { query } = plan;
    const matches = { target: (t: Update['target']) => plan.matcher.target(t) && this.isChosen(t), p: plan.matcher.p };
    this.builder =
      query.kind === 'timeline' ? new LiveTimeline(query, matches, window) : new LiveValues(query, matches, window);
  }

  seed(response: DataQueryResponse) {
    const frames = response.data as DataFrame[];
    this.failed = response.errors?.length || response.error ? response : undefined;
    const { query } = this.plan;
    if (query.kind === 'heatmap' && isEmpty(query) && frames.length > 0) {
      this.busiest = new Set(frames.flatMap((frame) => frame.fields.map((field) => identity(field.labels ?? {}))));
    }
    this.builder.seed(frames);
    this.seeded = true;
    this.waiting.splice(0).forEach((event) => this.apply(event));
  }

  historyFailed(err: unknown): DataQueryResponse {
    const response = { data: [], error: { message: err instanceof Error ? err.message : String(err) } };
    this.seed(response);
    return response;
  }

  apply(event: HubEvent) {
    switch (event.type) {
      case 'update': {
        if (!this.seeded) {
          // Kept until history is there, so that intervals are added in their order; a history takes a second at most.
          this.waiting.push(event);
          this.waiting.splice(0, Math.max(0, this.waiting.length - MAX_WAITING));
          return;
        }
        this.down.clear();
        this.lost += event.lost;
        this.skewMs = Number(event.at) / 1e6 - Date.now();
        if (this.builder instanceof LiveTimeline) {
          this.builder.apply(event.updates);
        } else {
          this.builder.apply(event.at, event.updates);
        }
        return;
      }
      case 'down':
        this.down.set(event.agent, LIVE.reconnecting(event.why, Math.ceil(event.retryMs / 1000)));
        return;
      case 'refused':
        this.down.set(event.agent, LIVE.refused(event.why));
    }
  }

  response(): DataQueryResponse {
    const { refId } = this.plan.query;
    const frames = this.builder.frames(Date.now() + this.skewMs);
    const notices: QueryResultMetaNotice[] = [...this.down.values()].map((text) => ({ severity: 'warning', text }));
    if (this.lost > 0) {
      notices.push({ severity: 'info', text: LIVE.lost(this.lost) });
    }
    const [first] = frames;
    if (first && notices.length) {
      first.meta = { ...first.meta, notices };
    }
    return {
      data: frames,
      key: refId,
      state: LoadingState.Streaming,
      errors: this.failed?.errors,
      error: this.failed?.error,
    };
  }

  private isChosen(target: Update['target']): boolean {
    return (
      this.busiest === undefined ||
      this.busiest.has(
        identity({ host: target.host, process: target.process, process_pid: String(target.key?.pid ?? '') })
      )
    );
  }
}

/** Messages kept until history is there; at 60 Hz that is some seconds. */
const MAX_WAITING = 600;

function identity(labels: Record<string, string>): string {
  return [labels.host, labels.process, labels.process_pid].join('\n');
}

function isEmpty(query: ScopeQuery): boolean {
  return Object.values(query.target ?? {}).every((value) => !value);
}

/** Whether the range of a request goes on with time. */
function endsNow(request: DataQueryRequest<ScopeQuery>): boolean {
  const to = request.rangeRaw?.to ?? request.range.raw.to;
  return typeof to === 'string' && to.startsWith('now');
}
