import { BehaviorSubject, NEVER, Observable, of, Subject, throwError } from 'rxjs';

import type { WatchRequest } from '../gen/pscope/v1/scope_pb';
import { message, p, target, update } from '../test/watch';
import { backoffMs } from './backoff';
import { LiveHub, type HubEvent } from './hub';
import { paced } from './pace';
import { keepWatching, type WatchEvent } from './resilient';
import { matcher, toSelector, union, type Demand } from './selector';
import { StreamError, type Received } from './transport';

beforeEach(() => jest.useFakeTimers());
afterEach(() => jest.useRealTimers());

const received = (seq: number, size = 100): Received => ({ message: message(seq, seq, []), size });

describe('backoff', () => {
  it('doubles up to half a minute, half of it by chance', () => {
    expect([0, 1, 2, 99].map((n) => backoffMs(n, () => 0))).toEqual([250, 500, 1000, 15_000]);
    expect([0, 1, 2, 99].map((n) => backoffMs(n, () => 1))).toEqual([500, 1000, 2000, 30_000]);
  });
});

describe('keepWatching', () => {
  /** Streams opened so far, with what each was asked. */
  function harness(options = { maxSize: 1000, maxAgeMs: 60_000, random: () => 1 }) {
    const asks = new BehaviorSubject('first');
    const opened: Array<{ ask: string; resumeAfter: bigint; stream: Subject<Received>; closed: boolean }> = [];
    const events: WatchEvent[] = [];
    const subscription = keepWatching(
      asks,
      (ask, resumeAfter) => {
        const entry = { ask, resumeAfter, stream: new Subject<Received>(), closed: false };
        opened.push(entry);
        return new Observable<Received>((s) => {
          const inner = entry.stream.subscribe(s);
          return () => {
            entry.closed = true;
            inner.unsubscribe();
          };
        });
      },
      options
    ).subscribe((event) => events.push(event));
    const seqs = () => events.flatMap((e) => (e.type === 'message' ? [Number(e.message.seq)] : []));
    return { asks, opened, events, subscription, seqs };
  }

  it('continues after the last message when a stream breaks', () => {
    const { opened, events, seqs } = harness();
    opened[0]?.stream.next(received(1));
    opened[0]?.stream.next(received(2));
    opened[0]?.stream.error(new StreamError(14, 'agent gone'));
    expect(events[2]).toEqual({ type: 'down', why: 'agent gone', retryMs: 500 });
    jest.advanceTimersByTime(499);
    expect(opened).toHaveLength(1);
    jest.advanceTimersByTime(1);
    expect(opened[1]?.resumeAfter).toBe(BigInt(2));
    opened[1]?.stream.next(received(3));
    expect(seqs()).toEqual([1, 2, 3]);
  });

  it('waits longer each time and starts over after a message', () => {
    const { opened, events } = harness();
    for (const wait of [500, 1000, 2000]) {
      opened[opened.length - 1]?.stream.error(new StreamError(14, 'x'));
      expect(events[events.length - 1]).toMatchObject({ retryMs: wait });
      jest.advanceTimersByTime(wait);
    }
    opened[3]?.stream.next(received(1));
    opened[3]?.stream.complete();
    expect(events[events.length - 1]).toEqual({ type: 'down', why: 'the agent closed the stream', retryMs: 500 });
  });

  it.each([3, 7, 12, 16])('does not repeat what is refused with code %d', (code) => {
    const { opened, events } = harness();
    opened[0]?.stream.error(new StreamError(code, 'no'));
    jest.advanceTimersByTime(600_000);
    expect(events).toEqual([{ type: 'refused', why: 'no' }]);
    expect(opened).toHaveLength(1);
  });

  it('tries a changed request at once, even after a refusal', () => {
    const { asks, opened } = harness();
    opened[0]?.stream.error(new StreamError(3, 'no'));
    asks.next('second');
    expect(opened[1]).toMatchObject({ ask: 'second', closed: false });
  });

  it('replaces a stream that has grown too large, where it stood', () => {
    const { opened, seqs } = harness();
    opened[0]?.stream.next(received(1, 600));
    opened[0]?.stream.next(received(2, 600));
    expect(opened[0]?.closed).toBe(true);
    expect(opened[1]?.resumeAfter).toBe(BigInt(2));
    opened[1]?.stream.next(received(3));
    expect(seqs()).toEqual([1, 2, 3]);
  });

  it('replaces a stream that has lived too long', () => {
    const { opened } = harness();
    opened[0]?.stream.next(received(1));
    jest.advanceTimersByTime(60_001);
    opened[0]?.stream.next(received(2));
    expect(opened).toHaveLength(2);
  });

  it('closes everything when nobody listens', () => {
    const { opened, subscription } = harness();
    opened[0]?.stream.error(new StreamError(14, 'x'));
    subscription.unsubscribe();
    jest.advanceTimersByTime(60_000);
    expect(opened).toHaveLength(1);
  });

  it('survives a transport that fails at once', () => {
    const events: WatchEvent[] = [];
    const subscription = keepWatching(of('x'), () => throwError(() => new Error('offline'))).subscribe((e) =>
      events.push(e)
    );
    jest.advanceTimersByTime(10_000);
    expect(events.length).toBeGreaterThan(2);
    expect(events[0]).toMatchObject({ type: 'down', why: 'Error: offline' });
    subscription.unsubscribe();
  });
});

describe('selectors', () => {
  const demand = (d: Partial<Demand>): Demand => ({ target: {}, ps: [], rateHz: 10, transitions: false, ...d });

  it('is the union of all demands', () => {
    expect(
      union([
        demand({ target: { process: 'a', host: 'h' }, ps: [3, 1], rateHz: 20 }),
        demand({ target: { process: 'b', host: 'h' }, ps: [1, 2], rateHz: 60, transitions: true }),
      ])
    ).toEqual({
      target: { process: '(?:a)|(?:b)', host: 'h' },
      ps: [1, 2, 3],
      rateHz: 60,
      transitions: true,
    });
  });

  it('chooses everything as soon as one demand does', () => {
    const all = union([demand({ target: { process: 'a' }, ps: [1] }), demand({})]);
    expect(all).toMatchObject({ target: {}, ps: [] });
    expect(union([])).toBeUndefined();
  });

  it('repeats no alternative', () => {
    const process = union(['a', 'b', 'a', 'c', 'b'].map((x) => demand({ target: { process: x } })))?.target.process;
    expect(process).toBe('(?:a)|(?:b)|(?:c)');
  });

  it.each([
    ['7', [7]],
    ['(7|9)', [7, 9]],
    ['(?:7)|(?:9)', [7, 9]],
    ['7.*', []],
    [undefined, []],
  ])('asks the agent for pid %s', (pid, pids) => {
    expect(toSelector({ target: { pid }, ps: [] }).pids).toEqual(pids);
  });

  it.each([
    [{}, true],
    [{ process: 'ap.' }, true],
    [{ process: 'ap' }, false],
    [{ process: 'a|api' }, true],
    [{ process: '(?i)API' }, true],
    [{ pid: '7|8' }, true],
    [{ pid: '8' }, false],
    [{ host: 'web-\\d', process: 'db' }, false],
    [{ pod: 'x' }, false],
  ])('decides %j for itself', (chosen, expected) => {
    expect(matcher({ target: chosen })?.target(target())).toBe(expected);
  });

  it('chooses Ps', () => {
    const chosen = matcher({ ps: '0-1,5' });
    expect([0, 1, 2, 5].map((n) => chosen?.p(n))).toEqual([true, true, false, true]);
  });

  it('gives up on what JavaScript has not', () => {
    expect(matcher({ target: { process: '\\Qa.b\\E(' } })).toBeUndefined();
  });
});

describe('LiveHub', () => {
  const demand = (process: string, rateHz = 10): Demand => ({
    target: { process },
    ps: [],
    rateHz,
    transitions: false,
  });

  function harness(agents = 1) {
    const opened: Array<{ request: WatchRequest; agent: number; stream: Subject<Received>; closed: boolean }> = [];
    const hidden = new BehaviorSubject(false);
    const hub = new LiveHub({
      agents,
      hidden,
      open: (request, agent) => {
        const entry = { request, agent, stream: new Subject<Received>(), closed: false };
        opened.push(entry);
        return new Observable<Received>((s) => {
          entry.stream.subscribe(s);
          return () => {
            entry.closed = true;
          };
        });
      },
    });
    return { hub, opened, hidden, last: () => opened[opened.length - 1] };
  }

  it('opens one stream for all panels of a dashboard', () => {
    const { hub, opened } = harness();
    hub.watch(demand('a')).subscribe();
    hub.watch(demand('b', 30)).subscribe();
    jest.advanceTimersByTime(50);
    expect(opened).toHaveLength(1);
    expect(opened[0]?.request).toMatchObject({ rateHz: 30, selector: { process: '(?:a)|(?:b)' } });
  });

  it('has a stream for each agent', () => {
    const { hub, opened } = harness(3);
    hub.watch(demand('a')).subscribe();
    jest.advanceTimersByTime(50);
    expect(opened.map((o) => o.agent)).toEqual([0, 1, 2]);
  });

  it('reopens where it stood only when what is asked changes', () => {
    const { hub, opened, last } = harness();
    hub.watch(demand('a')).subscribe();
    jest.advanceTimersByTime(50);
    last()?.stream.next(received(41));
    hub.watch(demand('a')).subscribe();
    jest.advanceTimersByTime(50);
    expect(opened).toHaveLength(1);
    hub.watch(demand('b')).subscribe();
    jest.advanceTimersByTime(50);
    expect(opened).toHaveLength(2);
    expect(opened[0]?.closed).toBe(true);
    expect(opened[1]?.request.resumeAfterSeq).toBe(BigInt(41));
  });

  it('tells the end of what an agent knows no more after it was started anew', () => {
    const { hub, last } = harness();
    const events: HubEvent[] = [];
    hub.watch(demand('.*')).subscribe((event) => events.push(event));
    jest.advanceTimersByTime(50);
    const say = (seq: number, ...args: Parameters<typeof message> extends [number, ...infer R] ? R : never) =>
      last()?.stream.next({ message: message(seq, ...args), size: 1 });
    say(1, 1000, [update(target('api', 7), []), update(target('db', 8), [])]);
    say(2, 2000, [update(target('api', 7), [])], { resync: true });
    expect(
      events.map((event) => event.type === 'update' && event.updates.map((u) => [u.target.process, u.news.ended]))
    ).toEqual([
      [
        ['api', false],
        ['db', false],
      ],
      [
        ['api', false],
        ['db', true],
      ],
    ]);
  });

  it('survives a refresh, and closes when nobody comes back', () => {
    const { hub, opened } = harness();
    const first = hub.watch(demand('a')).subscribe();
    jest.advanceTimersByTime(50);
    first.unsubscribe();
    const second = hub.watch(demand('a')).subscribe();
    jest.advanceTimersByTime(4000);
    expect(opened).toHaveLength(1);
    expect(opened[0]?.closed).toBe(false);
    second.unsubscribe();
    jest.advanceTimersByTime(5000);
    expect(opened[0]?.closed).toBe(true);
    hub.watch(demand('a')).subscribe();
    jest.advanceTimersByTime(50);
    expect(opened[1]?.request.resumeAfterSeq).toBe(BigInt(0));
  });

  it('asks for less while nobody can see the page', () => {
    const { hub, hidden, last } = harness();
    hub.watch(demand('a', 60)).subscribe();
    jest.advanceTimersByTime(50);
    hidden.next(true);
    jest.advanceTimersByTime(50);
    expect(last()?.request.rateHz).toBe(1);
    hidden.next(false);
    jest.advanceTimersByTime(50);
    expect(last()?.request.rateHz).toBe(60);
  });

  it('remembers what a target is when later messages give its key only', () => {
    const { hub, last } = harness();
    const events: HubEvent[] = [];
    hub.watch(demand('a')).subscribe((e) => events.push(e));
    jest.advanceTimersByTime(50);
    const full = target();
    last()?.stream.next({ message: message(1, 1, [update(full, [p(0, 0, 0)])]), size: 1 });
    const bare = { ...full, host: '', process: '', gomaxprocs: 0 };
    last()?.stream.next({
      message: message(2, 2, [update(bare, [p(0, 0, 0)])], {
        lost: [{ $typeName: 'pscope.v1.Loss', reason: 'slow_reader', count: BigInt(3) }],
      }),
      size: 1,
    });
    expect(events[1]).toMatchObject({
      type: 'update',
      lost: 3,
      updates: [{ target: { process: 'api', host: 'web-1' } }],
    });
  });

  it('tells all panels that an agent is gone', () => {
    const { hub, last } = harness();
    const events: HubEvent[] = [];
    hub.watch(demand('a')).subscribe((e) => events.push(e));
    jest.advanceTimersByTime(50);
    last()?.stream.error(new StreamError(14, 'agent gone'));
    expect(events).toEqual([expect.objectContaining({ type: 'down', agent: 0, why: 'agent gone' })]);
  });
});

describe('paced', () => {
  /** A browser that draws when told to. */
  function browser() {
    let due: (() => void) | undefined;
    return {
      nextFrame: (run: () => void) => {
        due = run;
        return () => {
          due = undefined;
        };
      },
      draw: () => {
        const run = due;
        due = undefined;
        run?.();
      },
    };
  }

  it('gives the newest value when the browser draws, never a queue', () => {
    const { nextFrame, draw } = browser();
    const source = new Subject<number>();
    const seen: number[] = [];
    source.pipe(paced(10, nextFrame)).subscribe((v) => seen.push(v));
    source.next(1);
    jest.advanceTimersByTime(0);
    source.next(2);
    source.next(3);
    expect(seen).toEqual([]);
    draw();
    expect(seen).toEqual([3]);
    source.next(4);
    jest.advanceTimersByTime(99);
    draw();
    expect(seen).toEqual([3]);
    jest.advanceTimersByTime(1);
    source.next(5);
    draw();
    expect(seen).toEqual([3, 5]);
  });

  it('draws nothing in a hidden tab, and the newest when it is shown again', () => {
    const { nextFrame, draw } = browser();
    const source = new Subject<number>();
    const seen: number[] = [];
    source.pipe(paced(60, nextFrame)).subscribe((v) => seen.push(v));
    for (let i = 0; i < 1000; i++) {
      source.next(i);
      jest.advanceTimersByTime(1000);
    }
    expect(seen).toEqual([]);
    draw();
    expect(seen).toEqual([999]);
  });

  it('stops at once', () => {
    const { nextFrame, draw } = browser();
    const source = new Subject<number>();
    const seen: number[] = [];
    const subscription = source.pipe(paced(60, nextFrame)).subscribe((v) => seen.push(v));
    source.next(1);
    jest.advanceTimersByTime(100);
    subscription.unsubscribe();
    draw();
    expect(seen).toEqual([]);
    expect(source.observed).toBe(false);
  });

  it('gives what is left before it ends', () => {
    const seen: number[] = [];
    of(1, 2)
      .pipe(paced(60, () => () => undefined))
      .subscribe((v) => seen.push(v));
    expect(seen).toEqual([2]);
    NEVER.pipe(paced(60)).subscribe().unsubscribe();
  });
});
