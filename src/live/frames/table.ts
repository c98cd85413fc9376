import { DIMENSION_LABELS, type Aggregation, type Dimension } from '../../query/model';
import { firstColumn, Grid, lastColumn } from './grid';
import type { Reading } from './measure';
import { compareLabels } from './names';

/** One line of the answer: its labels and a value a column, null where nothing is known. */
export interface Row {
  labels: Record<string, string>;
  values: Array<number | null>;
}

/** A table of rows over common times. */
export interface Table {
  /** Unix milliseconds: the ends of the columns. */
  times: number[];
  rows: Row[];
}

export interface TableOptions {
  by: readonly Dimension[];
  aggregation: Aggregation;
  stepMs: number;
  /** How much of the past is kept. */
  windowMs: number;
  /** Shares taken over short times can seem to exceed 1 by what clocks differ. */
  most: number;
  /** Whether history's points are joined by lines, as a graph would, or last for their whole step, as in a heatmap. */
  smooth: boolean;
}

/** The name of the label behind a dimension. */
export const labelOf = (dimension: Dimension): string => DIMENSION_LABELS[dimension];

/**
 * Makes the rows of a live series or heatmap from history and the readings of a stream. It holds at most window ÷ step
 * columns of each lane.
 */
export class LiveTable {
  private readonly lanes = new Map<string, Lane>();
  private readonly groups = new Map<string, Group>();
  /** The column the arrays start with; undefined while there is none. */
  private base: number | undefined;
  private last = -Infinity;
  private dirty = Infinity;

  constructor(private readonly options: TableOptions) {}

  /**
   * Takes over a row of history whose points are `stepMs` apart and stand at the end of what they cover. Where live
   * data cover a column they replace it, so that nothing is there twice.
   */
  seed(labels: Record<string, string>, times: readonly number[], values: ReadonlyArray<number | null>, stepMs: number) {
    const group = this.group(labels);
    times.forEach((time, i) => {
      const value = values[i];
      if (value === null || value === undefined) {
        return;
      }
      const end = lastColumn(time, this.options.stepMs);
      const start = Math.max(firstColumn(time - stepMs, this.options.stepMs), end - this.columns());
      const before =
        this.options.smooth && time - (times[i - 1] ?? -Infinity) < 2 * stepMs ? (values[i - 1] ?? value) : value;
      for (let column = start; column <= end; column++) {
        const passed = end === start ? 1 : (column - start) / (end - start);
        group.seeded.set(column, before + (value - before) * passed);
        this.touch(column);
      }
    });
  }

  /** Adds what a message says at an instant. A reading of a lane counts from its second message on. */
  add(atMs: number, readings: readonly Reading[]) {
    for (const reading of readings) {
      const key = keyOf(reading.labels);
      const lane = this.lanes.get(key) ?? this.newLane(key, reading);
      const { at, value } = lane;
      if (atMs <= at) {
        continue; // Two streams overlap while one replaces the other.
      }
      lane.at = atMs;
      lane.value = reading.value;
      const amount = reading.type === 'total' ? reading.value - value : reading.value * (atMs - at);
      // A total that falls was counted anew: the target was lost and found again.
      if (at === -Infinity || amount < 0 || atMs - at > this.options.windowMs) {
        continue;
      }
      lane.grid.add(at, atMs, amount);
      this.touch(firstColumn(at, this.options.stepMs));
      this.touch(lastColumn(atMs, this.options.stepMs));
    }
  }

  /** The table up to now. The arrays are the caller's. */
  table(nowMs: number): Table {
    this.trim(lastColumn(nowMs, this.options.stepMs) - this.columns());
    if (this.base === undefined) {
      return { times: [], rows: [] };
    }
    const length = this.last - this.base + 1;
    for (const group of this.groups.values()) {
      for (let i = Math.max(0, Math.min(this.dirty - this.base, group.values.length)); i < length; i++) {
        group.values[i] = group.value(this.base + i, this.options);
      }
    }
    this.dirty = Infinity;
    const { base } = this;
    return {
      times: Array.from({ length }, (_, i) => (base + i + 1) * this.options.stepMs),
      rows: [...this.groups.values()]
        .sort((a, b) => compareLabels(a.labels, b.labels))
        .map(({ labels, values }) => ({ labels, values: values.slice() })),
    };
  }

  private columns(): number {
    return Math.ceil(this.options.windowMs / this.options.stepMs);
  }

  private touch(column: number) {
    if (this.base === undefined || column < this.base) {
      const shift = this.base === undefined ? 0 : this.base - column;
      if (shift > this.columns()) {
        return;
      }
      this.base = column;
      this.dirty = column;
    }
    this.last = Math.max(this.last, column);
    this.dirty = Math.min(this.dirty, column);
  }

  private newLane(key: string, reading: Reading): Lane {
    const lane: Lane = { grid: new Grid(this.options.stepMs), at: -Infinity, value: 0 };
    this.lanes.set(key, lane);
    const labels: Record<string, string> = {};
    for (const dimension of this.options.by) {
      const value = reading.labels[labelOf(dimension)];
      if (value !== undefined) {
        labels[labelOf(dimension)] = value;
      }
    }
    this.group(labels).grids.add(lane.grid);
    return lane;
  }

  private group(labels: Record<string, string>): Group {
    const key = keyOf(labels);
    const found = this.groups.get(key);
    if (found) {
      return found;
    }
    const group = new Group(labels);
    this.groups.set(key, group);
    if (this.base !== undefined) {
      this.dirty = Math.min(this.dirty, this.base);
    }
    return group;
  }

  private trim(oldest: number) {
    if (this.base === undefined || oldest <= this.base) {
      return;
    }
    const drop = oldest - this.base;
    this.base = oldest;
    this.last = Math.max(this.last, oldest);
    for (const [key, lane] of this.lanes) {
      if (lane.grid.trim(oldest)) {
        this.lanes.delete(key);
        this.groups.forEach((group) => group.grids.delete(lane.grid));
      }
    }
    for (const [key, group] of this.groups) {
      group.trim(oldest, drop);
      if (group.empty()) {
        this.groups.delete(key);
      }
    }
  }
}

interface Lane {
  grid: Grid;
  /** Unix milliseconds of the newest reading. */
  at: number;
  value: number;
}

class Group {
  readonly grids = new Set<Grid>();
  readonly seeded = new Map<number, number>();
  readonly values: Array<number | null> = [];

  constructor(readonly labels: Record<string, string>) {}

  value(column: number, { aggregation, stepMs, most }: TableOptions): number | null {
    const seeded = this.seeded.get(column);
    const least = seeded === undefined ? 0 : stepMs / 2;
    let count = 0;
    let result = 0;
    for (const grid of this.grids) {
      const value = grid.value(column, least);
      if (value === undefined) {
        continue;
      }
      count++;
      result = count === 1 ? value : combine(aggregation, result, value);
    }
    if (count === 0) {
      return seeded ?? null;
    }
    return Math.min(most, aggregation === 'avg' ? result / count : result);
  }

  trim(oldest: number, drop: number) {
    for (const column of this.seeded.keys()) {
      if (column < oldest) {
        this.seeded.delete(column);
      }
    }
    this.values.splice(0, drop);
  }

  empty(): boolean {
    return this.grids.size === 0 && this.seeded.size === 0;
  }
}

function combine(aggregation: Aggregation, a: number, b: number): number {
  switch (aggregation) {
    case 'max':
      return Math.max(a, b);
    case 'min':
      return Math.min(a, b);
    default:
      return a + b;
  }
}

/** The same for equal labels in any order. */
function keyOf(labels: Record<string, string>): string {
  return JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
}
