import {
  FieldType,
  LoadingState,
  type DataFrame,
  type DataQueryResponse,
  type QueryResultMetaNotice,
} from '@grafana/data';

import { LIVE } from '../labels';
import type { CompleteQuery } from '../query/defaults';
import type { ScopeQuery } from '../types';
import { LiveTimeline, type Window } from './frames/timeline';
import { LiveValues } from './frames/values';
import type { HubEvent, Update } from './hub';
import type { Matcher } from './selector';
import { millis } from './time';

/** What one panel shows: history and stream folded into the newest state, made into frames when one is drawn. */
export class View {
  private readonly builder: LiveTimeline | LiveValues;
  private readonly down = new Map<number, string>();
  private readonly waiting: Array<Extract<HubEvent, { type: 'update' }>> = [];
  private seeded = false;
  /** Unix milliseconds up to which history is known; undefined while there is none. */
  historyEnd: number | undefined;
  private failed: DataQueryResponse | undefined;
  private lost = 0;
  /** What the backend said about history. */
  private said: QueryResultMetaNotice[] = [];
  /** Set when an empty query stands for the busiest process: only what history chose is shown. */
  private busiest: ReadonlySet<string> | undefined;
  /** The agent's clock minus the browser's, so that open states end where the agent's last word was. */
  private skewMs = 0;
  /** The agents' time of the newest message. */
  private toldMs = Infinity;

  constructor(
    private readonly query: CompleteQuery,
    matcher: Matcher,
    window: Window
  ) {
    const matches = { target: (t: Update['target']) => matcher.target(t) && this.isChosen(t), p: matcher.p };
    this.builder =
      query.kind === 'timeline' ? new LiveTimeline(query, matches, window) : new LiveValues(query, matches, window);
  }

  seed(response: DataQueryResponse) {
    const frames = response.data as DataFrame[];
    this.failed = response.errors?.length ? response : undefined;
    const { query } = this;
    if (!this.seeded && query.kind !== 'series' && isEmpty(query) && frames.length > 0) {
      this.busiest = new Set(frames.flatMap((frame) => frame.fields.map((field) => identity(field.labels ?? {}))));
    }
    this.said = this.seeded ? this.said : frames.flatMap((frame) => frame.meta?.notices ?? []);
    this.builder.seed(frames);
    this.historyEnd = lastTime(frames) ?? this.historyEnd;
    this.seeded = true;
    this.waiting.splice(0).forEach((event) => this.apply(event));
  }

  historyFailed(err: unknown): DataQueryResponse {
    const response = { data: [], errors: [{ message: err instanceof Error ? err.message : String(err) }] };
    this.seed(response);
    return response;
  }

  apply(event: HubEvent) {
    switch (event.type) {
      case 'update': {
        if (!this.seeded && isEmpty(this.query)) {
          // Which process is the busiest is known once history is there; a second or two at most.
          this.waiting.push(event);
          this.waiting.splice(0, Math.max(0, this.waiting.length - MAX_WAITING));
          return;
        }
        this.down.clear();
        this.lost += event.lost;
        this.toldMs = millis(event.at);
        this.skewMs = this.toldMs - Date.now();
        this.builder.apply(event.at, event.updates);
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
    const { refId } = this.query;
    // While no agent says anything, nobody knows that a state lasts.
    const frames = this.builder.frames(Math.min(Date.now() + this.skewMs, this.toldMs + SILENT_MS));
    const notices: QueryResultMetaNotice[] = [
      ...this.said,
      ...[...this.down.values()].map((text): QueryResultMetaNotice => ({ severity: 'warning', text })),
    ];
    if (this.lost > 0) {
      notices.push({ severity: 'info', text: LIVE.lost(this.lost) });
    }
    const [first] = frames;
    if (first && notices.length) {
      first.meta = { ...first.meta, notices };
    }
    // Without a frame there is nothing to pin a notice to: why there is none is then what the panel has to say.
    const errors = first
      ? this.failed?.errors
      : (this.failed?.errors ?? [...this.down.values()].map((message) => ({ message })));
    return { data: frames, key: refId, state: LoadingState.Streaming, ...(errors?.length ? { errors } : {}) };
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

/** For how long after the last message states are drawn as lasting. */
const SILENT_MS = 2000;

/** Messages kept until history is there; at 60 Hz that is some seconds. */
const MAX_WAITING = 600;

function identity(labels: Record<string, string>): string {
  return [labels.host, labels.process, labels.process_pid].join('\n');
}

function isEmpty(query: ScopeQuery): boolean {
  return Object.values(query.target ?? {}).every((value) => !value);
}

/** The latest time in any frame. Times of a field rise. */
function lastTime(frames: readonly DataFrame[]): number | undefined {
  let last: number | undefined;
  for (const frame of frames) {
    for (const field of frame.fields) {
      if (field.type === FieldType.time && field.values.length > 0) {
        last = Math.max(last ?? -Infinity, field.values[field.values.length - 1]);
      }
    }
  }
  return last;
}
