import { CoreApp } from '@grafana/data';

import { complete, defaultQuery } from './defaults';
import { migrate } from './migrate';
import { fieldsOf, KINDS, METRICS, metricsOf, withKind, withMetric, type ScopeQuery } from './model';
import { promqlProblem } from './promql';
import { parsePs } from './ps';
import { sentence } from './sentence';
import { validate } from './validate';

const query = (q: Partial<ScopeQuery>): ScopeQuery => ({ refId: 'A', ...q });

describe('defaults', () => {
  it('shows the share of time every P is busy', () => {
    expect(complete(query({}))).toMatchObject({
      kind: 'heatmap',
      metric: 'state',
      states: ['running', 'gc', 'syscall'],
      rateHz: 5,
    });
  });

  it('shows all states on a timeline and in series', () => {
    expect(complete(query({ kind: 'timeline' })).states).toEqual([]);
    expect(complete(query({ kind: 'series' })).states).toEqual([]);
  });

  it.each([undefined, CoreApp.Dashboard, CoreApp.Explore, CoreApp.UnifiedAlerting])(
    'gives a valid query to %s',
    (app) => {
      expect(validate(query(defaultQuery(app)))).toEqual({});
    }
  );

  it('starts alert rules with series, which they compare', () => {
    expect(defaultQuery(CoreApp.UnifiedAlerting).kind).toBe('series');
  });

  it.each(METRICS)('groups %s by labels it has', (metric) => {
    expect(validate({ ...complete(query({ kind: 'series', metric })) })).toEqual({});
  });
});

describe('migrate', () => {
  it('numbers a query that carries no version', () => {
    expect(migrate(query({ kind: 'stops' }))).toEqual({ refId: 'A', kind: 'stops', version: 1 });
  });

  it.each([1, 7])('leaves a query of version %d as it is', (version) => {
    const stored = query({ version });
    expect(migrate(stored)).toBe(stored);
  });
});

describe('model', () => {
  it.each(KINDS)('asks for the kind and a target of %s', (kind) => {
    expect(fieldsOf(query({ kind }))).toEqual(expect.arrayContaining(['kind', 'process', 'pid']));
  });

  it('has no target in PromQL', () => {
    expect(fieldsOf(query({ kind: 'series', editorMode: 'code' }))).not.toContain('process');
  });

  it('keeps a metric that suits the new kind', () => {
    expect(withKind(query({ kind: 'series', metric: 'runq', by: ['p'] }), 'heatmap')).toMatchObject({
      kind: 'heatmap',
      metric: 'runq',
      by: ['p'],
    });
  });

  it('drops a metric that does not suit the new kind, with its grouping', () => {
    expect(
      withKind(query({ kind: 'series', metric: 'imbalance', by: ['host'], aggregation: 'max' }), 'heatmap')
    ).toEqual({
      refId: 'A',
      kind: 'heatmap',
    });
  });

  it('forgets the grouping of another metric', () => {
    expect(withMetric(query({ metric: 'state', by: ['state'], aggregation: 'sum' }), 'd_share')).toEqual({
      refId: 'A',
      metric: 'd_share',
    });
  });

  it('offers metrics only where there are any', () => {
    expect(metricsOf('stops')).toEqual([]);
    expect(metricsOf('timeline')).toEqual(['state', 'thread']);
  });
});

describe('parsePs', () => {
  it.each([
    ['', []],
    ['3', [3]],
    ['0-2, 7,1', [0, 1, 2, 7]],
    [' 4 - 5 ', [4, 5]],
  ])('reads %j', (text, ps) => {
    expect(parsePs(text)).toEqual({ ps });
  });

  it('bounds a range', () => {
    expect(parsePs('0-9999')).toEqual({ ps: expect.objectContaining({ length: 1024 }) });
  });

  it.each(['-1', '1-', 'a', '1.5', '12345'])('refuses %j', (text) => {
    expect(parsePs(text)).toEqual({ problem: { part: text, why: 'syntax' } });
  });
});

describe('sentence', () => {
  it.each([
    [{}, 'Show P state share (running, gc and syscall) of the busiest process as a heatmap'],
    [
      { kind: 'timeline', target: { process: 'api', host: 'web-1', pid: '7' }, ps: '0-3', live: true },
      'Show P states of process api on host web-1 with PID 7 as a timeline, Ps 0-3, live',
    ],
    [{ kind: 'series', metric: 'd_share', by: ['p'] }, 'Show D share of any process as series, average for each P'],
    [{ kind: 'series', metric: 'wake_wait', by: [] }, 'Show wake wait of any process as series, 99th percentile'],
    [
      { kind: 'series', metric: 'cpu_frequency', by: [], target: { host: 'web-1' } },
      'Show CPU frequency of host web-1 as series, average',
    ],
    [
      { kind: 'heatmap', target: { host: 'web-1' }, metric: 'runq' },
      'Show run queue depth of any process on host web-1 as a heatmap',
    ],
    [{ kind: 'series', editorMode: 'code', expr: ' up ' }, 'up'],
    [{ kind: 'targets', target: { host: 'web-.*' } }, 'List Go processes on host web-.*'],
    [{ kind: 'targets', target: { process: 'api' } }, 'List Go processes named api'],
    [{ kind: 'stops' }, 'List stops of any process'],
    [
      { kind: 'stops', events: ['stops', 'gomaxprocs'], target: { process: 'api' } },
      'List stops and GOMAXPROCS of process api',
    ],
    [{ kind: 'blocked', target: { pod: 'api-0' } }, 'List threads that waited longest of any process in pod api-0'],
    [{ kind: 'diagnosis' }, 'Say what is wrong with the Ps of any process'],
    [{ kind: 'flames' as never }, 'Unknown kind "flames"'],
  ] as Array<[Partial<ScopeQuery>, string]>)('says %j', (q, text) => {
    expect(sentence(query(q))).toBe(text);
  });
});

describe('promqlProblem', () => {
  it.each([
    'up',
    'sum by (p) (rate(pscope_p_seconds_total{process=~"$process"}[$__rate_interval])) > 0.9',
    'rate(a[${__interval}])',
    'rate(a[$window:])',
    '$metric / [[other]]',
    'histogram_quantile(0.99, sum(rate(pscope_stop_seconds[5m])))',
  ])('accepts %s', (expr) => {
    expect(promqlProblem(expr)).toBeUndefined();
  });

  it.each([
    ['sum(up', 7, ''],
    ['up + + )', 8, ')'],
    ['rate(a[5x])', 9, 'x])'],
  ])('finds where %s goes wrong', (expr, column, near) => {
    const problem = promqlProblem(expr);
    expect(problem?.near).toBe(near);
    expect(problem?.column).toBe(column);
  });
});
