import { type DataFrame, type Field, formattedValueToString, type GrafanaTheme2, getValueFormat } from '@grafana/data';
import { useTheme2 } from '@grafana/ui';
import * as schemes from 'd3-scale-chromatic';
import { useMemo } from 'react';

import { Fault } from './Fault';
import { type Lane, LanePlot, type Tick } from './LanePlot';
import { nameOf, timeAndNumbers } from './prepare';
import type { PanelProps } from './types';

/** The options of Grafana's heatmap panel that the preview follows. */
interface HeatmapOptions {
  color?: { mode?: 'opacity' | 'scheme'; fill?: string; exponent?: number; scheme?: string; min?: number; max?: number; reverse?: boolean };
  yAxis?: { reverse?: boolean; unit?: string };
  cellValues?: { unit?: string; decimals?: number };
  filterValues?: { le?: number };
}

/** P lanes and distributions: frames of the types heatmap-rows and heatmap-cells. */
export function HeatmapPanel({ panel, frames, range, width, height, marks }: PanelProps) {
  const theme = useTheme2();
  const options = (panel.options ?? {}) as HeatmapOptions;
  const drawn = useMemo(() => {
    const [frame] = frames;
    if (!frame) {
      return undefined;
    }
    const cells = cellsOf(frame, frames, options);
    return cells && paint(cells, options, theme);
  }, [frames, options, theme]);
  if (!drawn) {
    return <Fault text="This frame is no heatmap: it has no time field with number fields beside it." />;
  }
  const legend = 22;
  return (
    <>
      <LanePlot {...drawn} range={range} width={width} height={height - legend} gap={0.04} marks={marks} />
      <Scale {...drawn} />
    </>
  );
}

interface RawLane {
  name: string;
  bottom: number;
  top: number;
  cells: Array<{ from: number; to: number; value: number }>;
}

interface RawHeatmap {
  lanes: RawLane[];
  ticks: Tick[];
}

function cellsOf(frame: DataFrame, all: DataFrame[], options: HeatmapOptions): RawHeatmap | undefined {
  return frame.fields.some((f) => f.name === 'yMax') ? fromCells(frame, options) : fromRows(frame, all, options);
}

/** One lane per number field. A row's time is the end of its step, as with rates. */
function fromRows(frame: DataFrame, all: DataFrame[], options: HeatmapOptions): RawHeatmap | undefined {
  const found = timeAndNumbers(frame);
  if (!found) {
    return undefined;
  }
  const times = found.time.values;
  const step = stepOf(times);
  const buckets = found.numbers.every((f) => f.labels?.['le'] !== undefined);
  let numbers = [...found.numbers];
  if (options.yAxis?.reverse && !buckets) {
    numbers.reverse();
  }
  if (buckets) {
    numbers = numbers.sort((a, b) => bound(a) - bound(b));
  }
  const high = 1 / numbers.length;
  const lanes = numbers.map((field, i): RawLane => {
    const cells = [];
    for (let row = 0; row < times.length; row++) {
      const value = field.values[row];
      const to = times[row];
      if (value !== null && value !== undefined && to !== undefined) {
        cells.push({ from: to - lengthOf(times, row, step), to, value });
      }
    }
    return { name: buckets ? `≤ ${field.labels?.['le'] ?? ''}` : nameOf(field, frame, all), bottom: i * high, top: (i + 1) * high, cells };
  });
  const ticks = lanes.map((lane, i) => ({
    at: buckets ? lane.top : (lane.bottom + lane.top) / 2,
    text: buckets ? yText(bound(numbers[i]), options) : lane.name,
  }));
  return { lanes, ticks: buckets ? ticks : ticks.slice().sort((a, b) => a.at - b.at) };
}

/** Sparse cells: xMax, yMin, yMax, count. Heights are logarithmic when every bound is above zero. */
function fromCells(frame: DataFrame, options: HeatmapOptions): RawHeatmap | undefined {
  const column = (name: string): Array<number | null> | undefined =>
    frame.fields.find((f) => f.name === name)?.values as Array<number | null> | undefined;
  const [xMax, yMin, yMax, count] = [column('xMax'), column('yMin'), column('yMax'), column('count')];
  if (!xMax || !yMin || !yMax || !count) {
    return undefined;
  }
  const step = stepOf([...new Set(xMax)].filter((x): x is number => x !== null).sort((a, b) => a - b));
  const log = yMin.every((y) => (y ?? 0) > 0);
  const along = (y: number): number => (log ? Math.log2(y) : y);
  let low = Infinity;
  let top = -Infinity;
  for (let i = 0; i < yMin.length; i++) {
    low = Math.min(low, along(yMin[i] ?? 0));
    top = Math.max(top, along(yMax[i] ?? 0));
  }
  const scaled = (y: number): number => (along(y) - low) / (top - low || 1);
  const lanes = new Map<string, RawLane>();
  const bounds = new Set<number>();
  for (let i = 0; i < xMax.length; i++) {
    const [to, bottom, upper, value] = [xMax[i], yMin[i], yMax[i], count[i]];
    if (to === null || to === undefined || bottom === null || bottom === undefined || upper === null || upper === undefined) {
      continue;
    }
    const key = `${bottom} ${upper}`;
    let lane = lanes.get(key);
    if (!lane) {
      lane = { name: `${yText(bottom, options)} to ${yText(upper, options)}`, bottom: scaled(bottom), top: scaled(upper), cells: [] };
      lanes.set(key, lane);
      bounds.add(bottom).add(upper);
    }
    lane.cells.push({ from: to - step, to, value: value ?? 0 });
  }
  for (const lane of lanes.values()) {
    lane.cells.sort((a, b) => a.from - b.from);
  }
  const ticks = [...bounds].sort((a, b) => a - b).map((y) => ({ at: scaled(y), text: yText(y, options) }));
  return { lanes: [...lanes.values()], ticks };
}

interface Painted {
  lanes: Lane[];
  ticks: Tick[];
  low: string;
  high: string;
  gradient: string;
}

function paint({ lanes, ticks }: RawHeatmap, options: HeatmapOptions, theme: GrafanaTheme2): Painted {
  const color = options.color ?? {};
  const hide = options.filterValues?.le ?? -Infinity;
  let low = color.min ?? Infinity;
  let high = color.max ?? -Infinity;
  for (const { cells } of lanes) {
    for (const { value } of cells) {
      if (value > hide) {
        low = color.min ?? Math.min(low, value);
        high = color.max ?? Math.max(high, value);
      }
    }
  }
  if (!Number.isFinite(low) || !Number.isFinite(high)) {
    [low, high] = [color.min ?? 0, color.max ?? 1];
  }
  const colorAt = palette(options, theme);
  const format = getValueFormat(options.cellValues?.unit ?? 'short');
  const show = (value: number): string => formattedValueToString(format(value, options.cellValues?.decimals));
  return {
    ticks,
    low: show(low),
    high: show(high),
    gradient: `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map(colorAt).join(', ')})`,
    lanes: lanes.map((lane) => ({
      ...lane,
      cells: lane.cells
        .filter(({ value }) => value > hide)
        .map(({ from, to, value }) => ({ from, to, color: colorAt((value - low) / (high - low || 1)), text: show(value) })),
    })),
  };
}

/** The colour of a value between 0 and 1, as Grafana's heatmap panel has it. */
function palette({ color = {} }: HeatmapOptions, theme: GrafanaTheme2): (share: number) => string {
  const within = (share: number): number => Math.min(1, Math.max(0, share));
  if (color.mode === 'opacity') {
    const fill = theme.visualization.getColorByName(color.fill || 'dark-orange');
    return (share) => `${fill}${Math.round(within(share) ** (color.exponent ?? 0.5) * 255).toString(16).padStart(2, '0')}`;
  }
  const name = `interpolate${color.scheme || 'Oranges'}`;
  const interpolate = (schemes as unknown as Record<string, ((share: number) => string) | undefined>)[name] ?? schemes.interpolateOranges;
  // The palettes of one hue begin light: on a dark theme the light end is the strong one.
  const reverse = theme.isDark !== Boolean(color.reverse);
  return (share) => interpolate(reverse ? 1 - within(share) : within(share));
}

function Scale({ low, high, gradient }: Painted) {
  return (
    <div style={{ display: 'flex', alignItems: 'center', gap: 8, paddingLeft: 52, fontSize: 11 }} data-testid="preview-legend">
      <span>{low}</span>
      <span style={{ width: 180, height: 8, background: gradient }} role="img" aria-label={`colours from ${low} to ${high}`} />
      <span>{high}</span>
    </div>
  );
}

function bound(field: Field | undefined): number {
  const le = field?.labels?.['le'] ?? '';
  return le === '+Inf' ? Infinity : Number(le);
}

function yText(value: number, options: HeatmapOptions): string {
  return value === Infinity ? '+Inf' : formattedValueToString(getValueFormat(options.yAxis?.unit ?? 'short')(value));
}

/**
 * How much time a row stands for: what has passed since the one before. Far more than at its neighbours is a gap, and stays one.
 * Neighbours, since a stream's rows are closer than those of the history they follow.
 */
function lengthOf(times: number[], row: number, step: number): number {
  const since = (i: number): number => (times[i] ?? NaN) - (times[i - 1] ?? NaN);
  const own = since(row);
  const around = [since(row - 1), since(row + 1)].filter((length) => length > 0);
  const after = around.at(-1) ?? step;
  return !(own > 0) || own > 2.5 * Math.max(...around, step) ? after : own;
}

/** The usual distance between sorted times: the smallest one. */
function stepOf(times: number[]): number {
  let step = Infinity;
  for (let i = 1; i < times.length; i++) {
    const gap = (times[i] ?? 0) - (times[i - 1] ?? 0);
    if (gap > 0) {
      step = Math.min(step, gap);
    }
  }
  return Number.isFinite(step) ? step : 1000;
}
