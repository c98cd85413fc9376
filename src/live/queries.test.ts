import { dateTime, FieldType, type DataFrame, type DataQueryRequest, type DataQueryResponse } from '@grafana/data';
import { NEVER, Observable, of, Subject, throwError } from 'rxjs';

import { PState, ThreadState, type WatchRequest } from '../gen/pscope/v1/scope_pb';
import { message, p, target, transitions, update } from '../test/watch';
import type { ScopeOptions, ScopeQuery } from '../types';
import { FastStreams } from './fast';
import { LiveQueries } from './queries';
import { StreamError, type Received } from './transport';

const NOW = 1_700_000_000_000;

beforeEach(() => jest.useFakeTimers({ now: NOW }));
afterEach(() => jest.useRealTimers());

const LABELS = { host: 'web-1', process: 'api', process_pid: '7', p: '0' };

/** A request up to a relative time, or up to a moment that is over. */
function request(targets: Array<Partial<ScopeQuery>>, to = 'now'): DataQueryRequest<ScopeQuery> {
  const range = {
    from: dateTime(NOW - 10_000),
    to: dateTime(NOW),
    raw: { from: 'now-10s', to: to.startsWith('now') ? to : dateTime(NOW) },
  };
  return {
    requestId: 'Q1',
    targets: targets.map((q, i) => ({ refId: 'ABC'[i] ?? 'Z', ...q })),
    range,
    rangeRaw: range.raw,
    maxDataPoints: 100,
    scopedVars: {},
  } as unknown as DataQueryRequest<ScopeQuery>;
}

function heatmapHistory(times: number[], values: number[]): DataFrame {
  return {
    fields: [
      { name: 'time', type: FieldType.time, config: {}, values: times },
      { name: 'state', type: FieldType.number, config: {}, labels: LABELS, values },
    ],
    length: times.length,
  };
}

function timelineHistory(rows: Array<[number, number, number]>): DataFrame {
  return {
    fields: [
      { name: 'time', type: FieldType.time, config: {}, values: rows.map((r) => r[0]) },
      { name: 'timeEnd', type: FieldType.time, config: {}, values: rows.map((r) => r[1]) },
      {
        name: 'state',
        type: FieldType.enum,
        labels: LABELS,
        config: { type: { enum: { text: ['idle', 'running'] } } },
        values: rows.map((r) => r[2]),
      },
    ],
    length: rows.length,
  };
}

/** A data source whose agent, history and browser are in the test's hands. */
async function harness(
  options: ScopeOptions = {},
  history: (r: DataQueryRequest<ScopeQuery>) => Observable<DataQueryResponse> = () => NEVER
) {
  const opened: Array<{ request: WatchRequest; stream: Subject<Received> }> = [];
  const asked: Array<DataQueryRequest<ScopeQuery>> = [];
  const host = {
    uid: 'u',
    options,
    history: (r: DataQueryRequest<ScopeQuery>) => {
      asked.push(r);
      return history(r);
    },
    interpolate: (q: ScopeQuery) => q,
  };
  const live = new LiveQueries(host, async (h, agents) =>
    Promise.resolve(
      new FastStreams(h, agents, {
        open: (watch) => {
          const stream = new Subject<Received>();
          opened.push({ request: watch, stream });
          return stream;
        },
        nextFrame: (run) => {
          const id = setTimeout(run, 0);
          return () => clearTimeout(id);
        },
      })
    )
  );
  const responses: DataQueryResponse[] = [];
  return {
    asked,
    opened,
    responses,
    run: async (r: DataQueryRequest<ScopeQuery>) => {
      const subscription = live.query(r).subscribe((response) => responses.push(response));
      await jest.advanceTimersByTimeAsync(60);
      return subscription;
    },
    say: async (...args: Parameters<typeof message>) => {
      opened[opened.length - 1]?.stream.next({ message: message(...args), size: 10 });
      await jest.advanceTimersByTimeAsync(100);
    },
    newest: () => responses[responses.length - 1],
  };
}

const FAST: Partial<ScopeQuery> = { live: true, rateHz: 10, target: { process: 'api' } };
const rows = (frame: DataFrame | undefined) =>
  (frame?.fields[0]?.values ?? []).map((_: number, i: number) => frame?.fields.map((field) => field.values[i]));

describe('LiveQueries', () => {
  it.each([
    ['what is not live', { kind: 'heatmap' }],
    ['5 Hz', { ...FAST, rateHz: 5 }],
    ['PromQL', { ...FAST, kind: 'series', editorMode: 'code', expr: 'up' }],
    ['a metric no stream carries', { ...FAST, kind: 'series', metric: 'syscalls' }],
    ['a table', { ...FAST, kind: 'stops' }],
  ] as Array<[string, Partial<ScopeQuery>]>)('leaves %s to the backend', async (_, query) => {
    const { run, opened, asked } = await harness();
    const r = request([query]);
    await run(r);
    expect(asked).toEqual([r]);
    expect(opened).toEqual([]);
  });

  it('leaves everything to the backend where there is no agent to stream from', async () => {
    const { run, opened, asked } = await harness({ mode: 'engine' });
    await run(request([FAST]));
    expect([asked.length, opened.length]).toEqual([1, 0]);
  });

  it('does not use up the connections of a browser for many agents', async () => {
    const { run, opened } = await harness({ mode: 'agents', agents: ['a', 'b', 'c', 'd'] });
    await run(request([FAST]));
    expect(opened).toEqual([]);
  });

  it.each(['then', 'now-10s', 'now-1d/d'])('asks only for history when the range ends %s', async (to) => {
    const { run, asked, opened } = await harness();
    await run(request([FAST], to));
    expect(asked[0]?.targets[0]?.live).toBe(false);
    expect(opened).toEqual([]);
  });

  it.each(['now', 'now/d', 'now+1h'])('streams when the range ends %s', async (to) => {
    const { run, opened } = await harness();
    await run(request([FAST], to));
    expect(opened).toHaveLength(1);
  });

  it('sends each query of a panel its own way', async () => {
    const { run, asked, opened } = await harness();
    await run(request([FAST, { kind: 'stops' }]));
    expect(asked.map((r) => r.targets.map((q) => q.refId)).sort()).toEqual([['A'], ['B']]);
    expect(opened).toHaveLength(1);
  });
});

describe('a fast heatmap', () => {
  it('joins history and stream without a gap or a double', async () => {
    const { run, say, newest } = await harness({}, () =>
      of({ data: [heatmapHistory([NOW - 200, NOW - 100], [0.1, 0.2])] })
    );
    await run(request([FAST]));
    await say(1, NOW - 100, [update(target(), [p(0, 0, 0)])]);
    await say(2, NOW, [update(target(), [p(0, 50, 50)])]);
    await say(3, NOW + 100, [update(target(), [p(0, 150, 50)])]);
    expect(rows(newest()?.data[0]).slice(-4)).toEqual([
      [NOW - 200, 0.1],
      [NOW - 100, 0.2],
      [NOW, 0.5],
      [NOW + 100, 1],
    ]);
    expect(newest()).toMatchObject({ key: 'A', state: 'Streaming' });
    expect(newest()?.data[0]).toMatchObject({
      meta: { type: 'heatmap-rows' },
      fields: [{}, { config: { displayNameFromDS: 'P0', unit: 'percentunit' } }],
    });
  });

  it('asks again for what lies between the end of history and a late stream', async () => {
    const answers = [heatmapHistory([NOW - 5000], [0.1]), heatmapHistory([NOW - 4900, NOW - 4800], [0.3, 0.4])];
    const { run, say, asked, newest } = await harness({}, () =>
      of({ data: [answers.shift() ?? heatmapHistory([], [])] })
    );
    await run(request([FAST]));
    await say(1, NOW + 100, [update(target(), [p(0, 0, 0)])]);
    await say(2, NOW + 200, [update(target(), [p(0, 100, 0)])]);
    await jest.advanceTimersByTimeAsync(3000);
    expect(asked).toHaveLength(2);
    expect(asked[1]?.requestId).toBe('Q1-gap');
    expect(asked[1]?.range.from.valueOf()).toBe(NOW - 7000);
    expect(asked[1]?.range.to.valueOf()).toBe(NOW + 2100);
    expect(rows(newest()?.data[0])).toEqual(
      expect.arrayContaining([
        [NOW - 4800, 0.4],
        [NOW + 200, 1],
      ])
    );
  });

  it('adds a P that appears', async () => {
    const { run, say, newest } = await harness({}, () => of({ data: [] }));
    await run(request([FAST]));
    await say(1, NOW, [update(target(), [p(0, 0, 0)])]);
    await say(2, NOW + 100, [update(target(), [p(0, 100, 0), p(1, 0, 0)])]);
    await say(3, NOW + 200, [update(target(), [p(0, 200, 0), p(1, 0, 100)])]);
    expect(rows(newest()?.data[0])).toEqual([
      [NOW + 100, 1, null],
      [NOW + 200, 1, 0],
    ]);
  });

  it('shows no frame of one cell, which Grafana’s panel would draw without colours from then on', async () => {
    const { run, say, newest } = await harness({}, () => of({ data: [] }));
    await run(request([FAST]));
    await say(1, NOW, [update(target(), [p(0, 0, 0)])]);
    await say(2, NOW + 100, [update(target(), [p(0, 100, 0)])]);
    expect(newest()?.data).toEqual([]);
    await say(3, NOW + 200, [update(target(), [p(0, 200, 0)])]);
    expect(rows(newest()?.data[0])).toHaveLength(2);
  });

  it('shows only the busiest process when the query names none', async () => {
    const { run, say, newest } = await harness({}, () => of({ data: [heatmapHistory([NOW], [0.5])] }));
    await run(request([{ live: true, rateHz: 10 }]));
    const other = target('db', 9);
    await say(1, NOW, [update(target(), [p(0, 0, 0)]), update(other, [p(0, 0, 0)])]);
    await say(2, NOW + 100, [update(target(), [p(0, 100, 0)]), update(other, [p(0, 100, 0)])]);
    expect(
      newest()
        ?.data[0].fields.slice(1)
        .map((f: { labels: { process: string } }) => f.labels.process)
    ).toEqual(['api']);
  });

  it('says when the stream breaks, keeps the picture and goes on', async () => {
    const { run, say, opened, newest } = await harness({}, () =>
      of({ data: [heatmapHistory([NOW - 100, NOW], [0.1, 0.2])] })
    );
    await run(request([FAST]));
    await say(1, NOW, [update(target(), [p(0, 0, 0)])]);
    opened[0]?.stream.error(new StreamError(14, 'agent gone'));
    await jest.advanceTimersByTimeAsync(100);
    expect(newest()?.data[0].meta.notices).toEqual([
      { severity: 'warning', text: expect.stringContaining('agent gone') },
    ]);
    expect(rows(newest()?.data[0]).length).toBeGreaterThan(0);
    await jest.advanceTimersByTimeAsync(1000);
    await say(2, NOW + 1500, [update(target(), [p(0, 100, 1400)])]);
    expect(newest()?.data[0].meta.notices).toBeUndefined();
  });

  it('shows no frame while there is no P, and says why when the agent is gone', async () => {
    const { run, say, opened, newest } = await harness({}, () => of({ data: [] }));
    await run(request([FAST]));
    await say(1, NOW, [update(target('db'), [p(0, 0, 0)])]);
    expect(newest()).toEqual({ data: [], key: 'A', state: 'Streaming' });
    opened[0]?.stream.error(new StreamError(14, 'agent gone'));
    await jest.advanceTimersByTimeAsync(100);
    expect(newest()?.errors).toEqual([{ message: expect.stringContaining('agent gone') }]);
  });

  it('counts what was lost', async () => {
    const { run, say, newest } = await harness({}, () => of({ data: [heatmapHistory([NOW], [0.1])] }));
    await run(request([FAST]));
    await say(1, NOW, [], { lost: [{ reason: 'slow_reader', count: BigInt(12) }] });
    expect(newest()?.data[0].meta.notices).toEqual([{ severity: 'info', text: expect.stringContaining('12 records') }]);
  });

  it('shows the stream though history fails, with its error', async () => {
    const { run, say, newest } = await harness({}, () => throwError(() => new Error('store is closed')));
    await run(request([FAST]));
    await say(1, NOW, [update(target(), [p(0, 0, 0)])]);
    await say(2, NOW + 100, [update(target(), [p(0, 100, 0)])]);
    await say(3, NOW + 200, [update(target(), [p(0, 150, 50)])]);
    expect(newest()?.errors?.[0]?.message).toBe('store is closed');
    expect(rows(newest()?.data[0])).toEqual([
      [NOW + 100, 1],
      [NOW + 200, 0.5],
    ]);
  });
});

describe('a fast timeline', () => {
  const TIMELINE: Partial<ScopeQuery> = { ...FAST, kind: 'timeline' };
  const words = (frame: DataFrame | undefined) =>
    rows(frame).map((row: unknown[] | undefined) => [
      row?.[0],
      row?.[1],
      frame?.fields[2]?.config.type?.enum?.text?.[row?.[2] as number],
    ]);

  it('joins exact intervals at the place where history ends', async () => {
    const { run, say, newest, opened } = await harness({}, () =>
      of({
        data: [
          timelineHistory([
            [NOW - 300, NOW - 100, 0],
            [NOW - 100, NOW, 1],
          ]),
        ],
      })
    );
    await run(request([TIMELINE]));
    expect(opened[0]?.request.transitions).toBe(true);
    await say(1, NOW + 50, [
      update(target(), [p(0, 0, 0, { state: PState.IDLE, sinceUnixNano: BigInt(NOW + 40) * BigInt(1e6) })], {
        transitions: [
          transitions(0, [
            [NOW - 50, NOW + 20, PState.RUNNING, ThreadState.RUNNING],
            [NOW + 20, NOW + 40, PState.RUNNING, ThreadState.UNINTERRUPTIBLE],
          ]),
        ],
      }),
    ]);
    const drawn = words(newest()?.data[0]);
    expect(drawn.slice(0, 3)).toEqual([
      [NOW - 300, NOW - 100, 'idle'],
      [NOW - 100, NOW + 20, 'running'],
      [NOW + 20, NOW + 40, 'uninterruptible'],
    ]);
    expect(drawn[3]?.slice(0, 1)).toEqual([NOW + 40]);
    expect(drawn[3]?.[2]).toBe('idle');
    expect(newest()?.data[0].fields[2].config.displayNameFromDS).toBe('P0');
  });

  it('ends with its process, whatever that did last, and stays in view', async () => {
    const { run, say, newest } = await harness({}, () => of({ data: [] }));
    await run(request([{ ...TIMELINE, target: { process: 'api|db' } }]));
    const stuck = { threadState: ThreadState.UNINTERRUPTIBLE, sinceUnixNano: BigInt(NOW - 100) * BigInt(1e6) };
    await say(1, NOW, [update(target(), [p(0, 0, 0, stuck)]), update(target('db', 8), [p(0, 0, 0, stuck)])]);
    await say(2, NOW + 200, [
      update(target(), [], { ended: true }),
      update(target('db', 8), [], {
        ended: true,
        transitions: [transitions(0, [[NOW - 100, NOW + 150, PState.RUNNING, ThreadState.UNINTERRUPTIBLE]])],
      }),
    ]);
    await say(3, NOW + 1000, []);
    expect(newest()?.data.map(words)).toEqual([
      [[NOW - 100, NOW, 'uninterruptible']],
      [[NOW - 100, NOW + 150, 'uninterruptible']],
    ]);
  });

  it('does not go on while the agent is silent', async () => {
    const { run, say, newest, opened } = await harness({}, () => of({ data: [] }));
    await run(request([TIMELINE]));
    await say(1, NOW, [update(target(), [p(0, 0, 0, { sinceUnixNano: BigInt(NOW - 100) * BigInt(1e6) })])]);
    for (let attempt = 0; attempt < 5; attempt++) {
      opened[opened.length - 1]?.stream.error(new StreamError(14, 'gone'));
      await jest.advanceTimersByTimeAsync(60_000);
    }
    expect(opened.length).toBeGreaterThan(5);
    expect(words(newest()?.data[0])).toEqual([[NOW - 100, NOW + 2000, 'running']]);
  });

  it('shows only the states chosen, and uninterruptible sleep always', async () => {
    const { run, say, newest } = await harness({}, () => of({ data: [] }));
    await run(request([{ ...TIMELINE, states: ['gcstop'] }]));
    await say(1, NOW, [
      update(target(), [], {
        transitions: [
          transitions(0, [
            [NOW - 50, NOW - 40, PState.RUNNING, ThreadState.RUNNING],
            [NOW - 40, NOW - 30, PState.GCSTOP, ThreadState.SLEEPING],
            [NOW - 30, NOW - 20, PState.RUNNING, ThreadState.UNINTERRUPTIBLE],
          ]),
        ],
      }),
    ]);
    expect(words(newest()?.data[0]).map((row: unknown[]) => row[2])).toEqual(['gcstop', 'uninterruptible']);
  });

  it('never draws more intervals than the panel has points', async () => {
    const { run, say, newest } = await harness({}, () => of({ data: [] }));
    await run(request([TIMELINE]));
    const many = Array.from({ length: 4000 }, (_, i): [number, number, PState, ThreadState] => [
      NOW - 8000 + 2 * i,
      NOW - 7998 + 2 * i,
      i % 2 ? PState.RUNNING : PState.IDLE,
      ThreadState.RUNNING,
    ]);
    await say(1, NOW, [update(target(), [], { transitions: [transitions(0, many)] })]);
    const frame = newest()?.data[0];
    expect(frame.length).toBeGreaterThan(10);
    expect(frame.length).toBeLessThanOrEqual(100);
  });
});

describe('fast series', () => {
  it('averages the states over Ps', async () => {
    const { run, say, newest } = await harness({}, () => of({ data: [] }));
    await run(request([{ ...FAST, kind: 'series', by: ['state'], states: ['running', 'idle'] }]));
    await say(1, NOW, [update(target(), [p(0, 0, 0), p(1, 0, 0)])]);
    await say(2, NOW + 100, [update(target(), [p(0, 100, 0), p(1, 0, 100)])]);
    expect(newest()?.data.map((f: DataFrame) => [f.fields[1]?.labels, f.fields[1]?.values])).toEqual([
      [{ state: 'running' }, [0.5]],
      [{ state: 'idle' }, [0.5]],
    ]);
  });

  it('names its lines by the legend', async () => {
    const { run, say, newest } = await harness({}, () => of({ data: [] }));
    await run(request([{ ...FAST, kind: 'series', metric: 'runq', by: ['p'], legend: 'queue {{p}}' }]));
    await say(1, NOW, [update(target(), [p(0, 0, 0, { runqDepth: 4 })])]);
    await say(2, NOW + 100, [update(target(), [p(0, 0, 0, { runqDepth: 8 })])]);
    expect(newest()?.data[0].fields[1]).toMatchObject({
      values: [8],
      config: { displayNameFromDS: 'queue 0', unit: 'short' },
    });
  });
});
