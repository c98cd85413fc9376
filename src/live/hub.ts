import { create } from '@bufbuild/protobuf';
import { Observable, ReplaySubject, Subject, Subscription } from 'rxjs';

import {
  TargetUpdateSchema,
  WatchRequestSchema,
  type Target,
  type TargetKey,
  type TargetUpdate,
  type WatchResponse,
} from '../gen/pscope/v1/scope_pb';
import { keepWatching, type ResilientOptions } from './resilient';
import { toSelector, union, type Demand } from './selector';
import type { OpenWatch, Received } from './transport';

/** The news of one target, with what is known of it. */
export interface Update {
  target: Target;
  news: TargetUpdate;
}

/** What a data source's stream tells its panels. */
export type HubEvent =
  | { type: 'update'; at: bigint; updates: Update[]; lost: number }
  | { type: 'down'; agent: number; why: string; retryMs: number }
  | { type: 'refused'; agent: number; why: string };

export interface HubOptions {
  open: OpenWatch;
  /** Number of agents; each has a stream of its own. */
  agents: number;
  /** Emits whether nobody can see the page. */
  hidden: Observable<boolean>;
  resilient?: ResilientOptions;
}

/** Panels of a dashboard come one after the other: their demands are collected this long before a stream is opened. */
const COLLECT_MS = 50;
/** A refresh unsubscribes and subscribes again: a stream nobody wants lives this much longer. */
const LINGER_MS = 5000;
/** Nobody looks: once a second keeps the history complete. */
const HIDDEN_RATE_HZ = 1;

/**
 * One live stream for each agent of a data source, shared by all panels. It carries the union of what they want and is
 * opened anew where it stood when that changes. Panels drop what they did not ask for.
 */
export class LiveHub {
  private readonly events = new Subject<HubEvent>();
  private readonly demands = new Map<symbol, Demand>();
  private readonly targets = new Map<string, Target>();
  /** What the streams are asked for; undefined while none is open. */
  private asks: ReplaySubject<Demand> | undefined;
  private streams = new Subscription();
  private hidden = false;
  private visibility: Subscription | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private due = 0;
  private wanted = '';

  constructor(private readonly options: HubOptions) {}

  /** The stream for one panel. Hot: it starts with the next message. */
  watch(demand: Demand): Observable<HubEvent> {
    return new Observable<HubEvent>((subscriber) => {
      const id = Symbol('demand');
      this.demands.set(id, demand);
      const subscription = this.events.subscribe(subscriber);
      this.visibility ??= this.options.hidden.subscribe((hidden) => {
        this.hidden = hidden;
        this.adjustSoon(COLLECT_MS);
      });
      this.adjustSoon(COLLECT_MS);
      return () => {
        subscription.unsubscribe();
        this.demands.delete(id);
        this.adjustSoon(LINGER_MS);
      };
    });
  }

  /**
   * Looks at the union again after so long, or sooner if that was planned already: growing must not wait for shrinking.
   */
  private adjustSoon(ms: number) {
    const due = Date.now() + ms;
    if (this.timer !== undefined && this.due <= due) {
      return;
    }
    clearTimeout(this.timer);
    this.due = due;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.adjust();
    }, ms);
  }

  private adjust() {
    const demand = union([...this.demands.values()]);
    if (!demand) {
      this.close();
      return;
    }
    const rateHz = this.hidden ? Math.min(HIDDEN_RATE_HZ, demand.rateHz) : demand.rateHz;
    const wanted = JSON.stringify([demand.target, demand.ps, rateHz, demand.transitions]);
    if (wanted === this.wanted) {
      return;
    }
    this.wanted = wanted;
    const asks = this.asks ?? this.open();
    asks.next({ ...demand, rateHz });
  }

  /** Opens a stream to each agent. */
  private open(): ReplaySubject<Demand> {
    const asks = new ReplaySubject<Demand>(1);
    this.asks = asks;
    this.streams = new Subscription();
    for (let agent = 0; agent < this.options.agents; agent++) {
      const events = keepWatching(
        asks,
        (demand, resumeAfter) => this.request(agent, demand, resumeAfter),
        this.options.resilient
      );
      this.streams.add(
        events.subscribe((event) => {
          if (event.type === 'message') {
            this.publish(agent, event.message);
          } else {
            this.events.next({ ...event, agent });
          }
        })
      );
    }
    return asks;
  }

  private request(agent: number, demand: Demand, resumeAfterSeq: bigint): Observable<Received> {
    const { rateHz, transitions } = demand;
    const request = create(WatchRequestSchema, { selector: toSelector(demand), rateHz, transitions, resumeAfterSeq });
    return this.options.open(request, agent);
  }

  private publish(agent: number, message: WatchResponse) {
    const updates: Update[] = [];
    for (const news of message.targets) {
      const key = news.target?.key;
      if (!news.target || !key) {
        continue;
      }
      const id = idOf(agent, key);
      // A target is described in full at its first mention and when something changes; else only its key is set.
      if (news.target.process !== '' || !this.targets.has(id)) {
        this.targets.set(id, news.target);
      }
      updates.push({ target: this.targets.get(id) ?? news.target, news });
      if (news.ended) {
        this.targets.delete(id);
      }
    }
    if (message.resync) {
      updates.push(...this.unheardOf(agent, message));
    }
    const lost = message.lost.reduce((sum, loss) => sum + Number(loss.count), 0);
    this.events.next({ type: 'update', at: message.atUnixNano, updates, lost });
  }

  /** The ends of targets that an agent which has lost the thread of the stream knows no more: it can't tell of them. */
  private unheardOf(agent: number, message: WatchResponse): Update[] {
    const here = new Set(message.targets.map((news) => idOf(agent, news.target?.key)));
    const ended: Update[] = [];
    for (const [id, target] of this.targets) {
      if (id.startsWith(`${agent}/`) && !here.has(id)) {
        this.targets.delete(id);
        ended.push({ target, news: create(TargetUpdateSchema, { target, globalRunqDepth: -1, ended: true }) });
      }
    }
    return ended;
  }

  private close() {
    this.wanted = '';
    this.visibility?.unsubscribe();
    this.visibility = undefined;
    this.targets.clear();
    this.streams.unsubscribe();
    this.asks = undefined;
  }
}

/** What tells targets apart: those of two agents may have the same key. */
function idOf(agent: number, key: TargetKey | undefined): string {
  return `${agent}/${key?.pid}@${key?.startTime}/${key?.runtime}`;
}
