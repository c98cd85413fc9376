import type { Labels } from '@grafana/data';
import * as fs from 'node:fs';
import * as path from 'node:path';

import { firstColumn, Grid, lastColumn } from './grid';
import { append, dropBefore, join, noIntervals, reduce, type Intervals } from './lanes';
import { compareLabels, legendName, rowNames } from './names';
import { statePalette, threadPalette } from './style';
import { LiveTable } from './table';

describe('Grid', () => {
  it('spreads an amount over the steps it spans', () => {
    const grid = new Grid(1000);
    grid.add(500, 2500, 1000);
    expect([0, 1, 2, 3].map((c) => grid.value(c))).toEqual([0.5, 0.5, 0.5, undefined]);
  });

  it('does not depend on when messages came', () => {
    const one = new Grid(1000);
    one.add(0, 1000, 300);
    const many = new Grid(1000);
    for (let ms = 0; ms < 1000; ms += 50) {
      many.add(ms, ms + 50, 15);
    }
    expect(many.value(0)).toBeCloseTo(one.value(0) ?? NaN, 12);
  });

  it('puts an edge into the column it ends', () => {
    expect([firstColumn(1000, 1000), lastColumn(1000, 1000)]).toEqual([1, 0]);
  });

  it('forgets what is old', () => {
    const grid = new Grid(10);
    grid.add(0, 100, 100);
    expect(grid.trim(5)).toBe(false);
    expect([grid.value(4), grid.value(5)]).toEqual([undefined, 1]);
    expect(grid.trim(50)).toBe(true);
  });
});

describe('LiveTable', () => {
  const options = {
    by: ['p'] as const,
    aggregation: 'avg' as const,
    stepMs: 100,
    windowMs: 1000,
    most: 1,
    smooth: false,
  };
  const total = (p: string, value: number) => ({ labels: { process: 'a', p }, type: 'total' as const, value });

  it('takes shares of totals from the second message on', () => {
    const table = new LiveTable(options);
    table.add(1000, [total('0', 5000)]);
    expect(table.table(1000)).toEqual({ times: [], rows: [] });
    table.add(1100, [total('0', 5050)]);
    expect(table.table(1100)).toEqual({ times: [1100], rows: [{ labels: { p: '0' }, values: [0.5] }] });
  });

  it('joins history without a gap or a double', () => {
    const table = new LiveTable({ ...options, stepMs: 100 });
    table.seed({ p: '0' }, [800, 900, 1000], [0.1, 0.2, 0.3], 100);
    table.add(950, [total('0', 0)]);
    table.add(1200, [total('0', 250)]);
    // Column 900–1000 is covered by live data for half of it only: history stands.
    expect(table.table(1200)).toEqual({
      times: [800, 900, 1000, 1100, 1200],
      rows: [{ labels: { p: '0' }, values: [0.1, 0.2, 0.3, 1, 1] }],
    });
  });

  it('fills a gap with history that comes later', () => {
    const table = new LiveTable(options);
    table.seed({ p: '0' }, [500], [0.1], 100);
    table.add(800, [total('0', 0)]);
    table.add(900, [total('0', 90)]);
    expect(table.table(900).rows[0]?.values).toEqual([0.1, null, null, null, 0.9]);
    table.seed({ p: '0' }, [600, 700, 800], [0.2, 0.3, 0.4], 100);
    expect(table.table(900).rows[0]?.values).toEqual([0.1, 0.2, 0.3, 0.4, 0.9]);
  });

  it('lets a value of history last for its whole step, or draws a line between two', () => {
    const steps = new LiveTable(options);
    steps.seed({}, [400, 800], [0, 0.4], 400);
    expect(steps.table(800).rows[0]?.values).toEqual([0, 0, 0, 0, 0.4, 0.4, 0.4, 0.4]);
    const lines = new LiveTable({ ...options, smooth: true });
    lines.seed({}, [400, 800], [0, 0.6], 400);
    expect(
      lines
        .table(800)
        .rows[0]?.values.slice(4)
        .map((v) => Number(v?.toFixed(6)))
    ).toEqual([0, 0.2, 0.4, 0.6]);
  });

  it.each([
    ['avg', 0.5],
    ['sum', 1],
    ['max', 0.8],
    ['min', 0.2],
  ] as const)('takes two Ps together by %s', (aggregation, expected) => {
    const table = new LiveTable({ ...options, by: [], aggregation });
    table.add(0, [total('0', 0), total('1', 0)]);
    table.add(100, [total('0', 20), total('1', 80)]);
    expect(table.table(100).rows).toEqual([{ labels: {}, values: [expected] }]);
  });

  it('holds no more than the window', () => {
    const table = new LiveTable(options);
    for (let ms = 0; ms <= 10_000; ms += 100) {
      table.add(ms, [total('0', ms)]);
    }
    const { times, rows } = table.table(10_000);
    expect(times).toHaveLength(11);
    expect(rows[0]?.values).toEqual(new Array(11).fill(1));
  });

  it('drops a P that is gone', () => {
    const table = new LiveTable(options);
    table.add(0, [total('0', 0), total('1', 0)]);
    table.add(100, [total('0', 100), total('1', 100)]);
    table.add(5000, [total('0', 100)]);
    table.add(5100, [total('0', 200)]);
    expect(table.table(5100).rows.map((row) => row.labels)).toEqual([{ p: '0' }]);
  });

  it('starts anew when totals fall: another process has the same name', () => {
    const table = new LiveTable(options);
    table.add(0, [total('0', 9000)]);
    table.add(100, [total('0', 10)]);
    table.add(200, [total('0', 60)]);
    expect(table.table(200)).toEqual({ times: [200], rows: [{ labels: { p: '0' }, values: [0.5] }] });
  });

  it('takes no message twice when two streams overlap', () => {
    const table = new LiveTable(options);
    table.add(0, [total('0', 0)]);
    table.add(100, [total('0', 50)]);
    table.add(100, [total('0', 50)]);
    table.add(60, [total('0', 30)]);
    table.add(200, [total('0', 100)]);
    expect(table.table(200).rows[0]?.values).toEqual([0.5, 0.5]);
  });

  it('sorts Ps as numbers', () => {
    const table = new LiveTable(options);
    table.add(
      0,
      ['10', '9'].map((p) => total(p, 0))
    );
    table.add(
      100,
      ['10', '9'].map((p) => total(p, 0))
    );
    expect(table.table(100).rows.map((row) => row.labels.p)).toEqual(['9', '10']);
  });
});

describe('lanes', () => {
  const lane = (...rows: Array<[number, number, number]>): Intervals => {
    const out = noIntervals();
    rows.forEach(([start, end, code]) => append(out, start, end, code));
    return out;
  };
  const rows = ({ start, end, code }: Intervals) => start.map((s, i) => [s, end[i], code[i]]);

  it('makes equal neighbours one', () => {
    expect(rows(lane([0, 1, 5], [1, 2, 5], [2, 3, 6]))).toEqual([
      [0, 2, 5],
      [2, 3, 6],
    ]);
  });

  it('cuts off what it has already', () => {
    expect(rows(lane([0, 4, 1], [2, 6, 2], [3, 5, 3]))).toEqual([
      [0, 4, 1],
      [4, 6, 2],
    ]);
  });

  it('keeps a gap a gap', () => {
    expect(rows(lane([0, 1, 1], [3, 4, 1]))).toEqual([
      [0, 1, 1],
      [3, 4, 1],
    ]);
  });

  it('joins history up to the first live interval', () => {
    expect(rows(join(lane([0, 5, 1], [5, 9, 2]), lane([7, 8, 2], [8, 10, 1])))).toEqual([
      [0, 5, 1],
      [5, 8, 2],
      [8, 10, 1],
    ]);
  });

  it('forgets the past', () => {
    const l = lane([0, 1, 1], [1, 2, 2], [2, 3, 1]);
    dropBefore(l, 1.5);
    expect(rows(l)).toEqual([
      [1, 2, 2],
      [2, 3, 1],
    ]);
  });

  it('keeps a rare state visible when thousands of intervals become few', () => {
    const many = noIntervals();
    for (let i = 0; i < 10_000; i++) {
      append(many, i, i + 1, i === 7777 ? 4 : i % 2);
    }
    const few = reduce(many, 100, new Set([4]));
    expect(few.start.length).toBeLessThanOrEqual(100);
    expect(few.code).toContain(4);
    expect(few.start[0]).toBe(0);
    expect(few.end[few.end.length - 1]).toBe(10_000);
  });

  it('keeps long intervals exact', () => {
    const mixed = noIntervals();
    append(mixed, 0, 400, 1);
    for (let i = 0; i < 200; i++) {
      append(mixed, 400 + i, 401 + i, i % 2);
    }
    append(mixed, 600, 1000, 3);
    const few = rows(reduce(mixed, 20, new Set()));
    expect(few[0]).toEqual([0, 400, 1]);
    expect(few[few.length - 1]).toEqual([600, 1000, 3]);
  });
});

describe('style', () => {
  it('paints uninterruptible sleep over the state', () => {
    const { text, shade, rare } = statePalette();
    expect(text[shade(2, 2) ?? -1]).toBe('running');
    expect(text[shade(2, 5) ?? -1]).toBe('uninterruptible');
    expect([...rare].map((i) => text[i])).toEqual(['gcstop', 'uninterruptible']);
  });

  it('paints thread states', () => {
    const { text, shade } = threadPalette();
    expect(text[shade(2, 3) ?? -1]).toBe('runnable');
    expect(shade(2, 0)).toBeUndefined();
  });
});

/** What Go and TypeScript compute alike. */
function commonCases<T>(name: string): T {
  return JSON.parse(fs.readFileSync(path.resolve(__dirname, '../../../tools/contract/cases', name), 'utf8')) as T;
}

interface NameCases {
  names: Array<{ about: string; labels: Labels[]; names: string[] }>;
  legends: Array<{ template: string; labels: Labels; name: string }>;
  order: Array<{ about: string; ordered: Labels[] }>;
}

describe('names, as the backend gives them', () => {
  const { names, legends, order } = commonCases<NameCases>('names.json');

  it.each(names)('tell apart: $about', (c) => {
    expect(rowNames(c.labels, 'alone')).toEqual(c.names);
  });

  it.each(legends)('fill the legend $template', (c) => {
    expect(legendName(c.template, c.labels)).toBe(c.name);
  });

  it.each(order)('are ordered: $about', ({ ordered }) => {
    const signs = ordered.map((a) => ordered.map((b) => Math.sign(compareLabels(a, b))));
    expect(signs).toEqual(ordered.map((_, i) => ordered.map((__, j) => Math.sign(i - j))));
  });
});

interface MergeCase {
  about: string;
  limit: number;
  rare?: number[];
  spans?: Array<[number, number, number]>;
  count?: number;
  gaps?: number[];
  lengths?: number[];
  codes?: number[];
  /** Number, length and code. */
  except?: Array<[number, number, number]>;
  merged: Array<[number, number, number]>;
}

/** The lane of a case: its spans, or as many as it counts by its cycles. */
function laneOf({ spans = [], count = 0, gaps = [], lengths = [], codes = [], except = [] }: MergeCase): Intervals {
  const lane = noIntervals();
  spans.forEach(([start, end, code]) => append(lane, start, end, code));
  let at = 0;
  for (let i = 0; i < count; i++) {
    const [, length = 0, code = 0] = except.find(([number]) => number === i) ?? [
      i,
      lengths[i % lengths.length],
      codes[i % codes.length],
    ];
    at += gaps[i % gaps.length] ?? 0;
    append(lane, at, at + length, code);
    at += length;
  }
  return lane;
}

describe('merging, as agents and the backend do it', () => {
  it.each(commonCases<MergeCase[]>('merge.json'))('of $about', (c) => {
    const { start, end, code } = reduce(laneOf(c), c.limit, new Set(c.rare));
    expect(start.map((s, i) => [s, end[i], code[i]])).toEqual(c.merged);
  });
});
