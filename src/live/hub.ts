import { create } from '@bufbuild/protobuf';
import { Observable, Subject, Subscription } from 'rxjs';

import { WatchRequestSchema, type Target, type TargetUpdate, type WatchResponse } from '../gen/pscope/v1/scope_pb';
import { keepWatching, RESILIENT, type ResilientOptions, type WatchEvent } from './resilient';
import { toSelector, union, type Demand } from './selector';
import type { OpenWatch } from './transport';

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
 * One live stream for each agent of a data source, shared by all panels. It carries the union of what they want and is opened anew
 * when that changes; the old one runs until the new one's first message. Panels drop what they did not ask for.
 */
export class LiveHub {
  private readonly events = new Subject<HubEvent>();
  private readonly demands = new Map<symbol, Demand>();
  private readonly targets = new Map<string, Target>();
  private readonly streams: Array<Lane | undefined>;
  private hidden = false;
  private visibility: Subscription | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private due = 0;
  private wanted = '';

  constructor(private readonly options: HubOptions) {
    this.streams = new Array<Lane | undefined>(options.agents).fill(undefined);
  }

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

  /** Looks at the union again after so long, or sooner if that was planned already: growing must not wait for shrinking. */
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
    for (let agent = 0; agent < this.options.agents; agent++) {
      this.replace(agent, { ...demand, rateHz });
    }
  }

  private replace(agent: number, demand: Demand) {
    let predecessor = this.streams[agent];
    if (predecessor?.predecessor) {
      // It has not delivered anything yet: the one before it goes on until this one does.
      predecessor.subscription.unsubscribe();
      predecessor = predecessor.predecessor;
    }
    const lane: Lane = { subscription: new Subscription(), predecessor };
    this.streams[agent] = lane;
    const source = keepWatching(
      (resumeAfterSeq) =>
        this.options.open(
          create(WatchRequestSchema, {
            selector: toSelector(demand),
            rateHz: demand.rateHz,
            transitions: demand.transitions,
            resumeAfterSeq,
          }),
          agent
        ),
      this.options.resilient ?? RESILIENT
    );
    lane.subscription.add(source.subscribe((event) => this.receive(agent, lane, event)));
  }

  private receive(agent: number, lane: Lane, event: WatchEvent) {
    if (event.type !== 'message') {
      // While a predecessor still delivers, nobody needs to hear of the successor's trouble.
      if (!lane.predecessor) {
        this.events.next({ ...event, agent });
      }
      return;
    }
    if (lane.predecessor) {
      lane.predecessor.subscription.unsubscribe();
      lane.predecessor = undefined;
    }
    this.publish(agent, event.message);
  }

  private publish(agent: number, message: WatchResponse) {
    const updates: Update[] = [];
    for (const news of message.targets) {
      const key = news.target?.key;
      if (!news.target || !key) {
        continue;
      }
      const id = `${agent}/${key.pid}@${key.startTime}`;
      // A target is described in full at its first mention and when something changes; else only its key is set.
      if (news.target.process !== '' || !this.targets.has(id)) {
        this.targets.set(id, news.target);
      }
      updates.push({ target: this.targets.get(id) ?? news.target, news });
      if (news.ended) {
        this.targets.delete(id);
      }
    }
    const lost = message.lost.reduce((sum, loss) => sum + Number(loss.count), 0);
    this.events.next({ type: 'update', at: message.atUnixNano, updates, lost });
  }

  private close() {
    this.wanted = '';
    this.visibility?.unsubscribe();
    this.visibility = undefined;
    this.targets.clear();
    this.streams.forEach((lane, agent) => {
      lane?.predecessor?.subscription.unsubscribe();
      lane?.subscription.unsubscribe();
      this.streams[agent] = undefined;
    });
  }
}

/** A stream and the one it replaces, which runs until this one's first message. */
interface Lane {
  subscription: Subscription;
  predecessor: Lane | undefined;
}
