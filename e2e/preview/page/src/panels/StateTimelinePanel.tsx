import { type DataFrame, type Field, FieldType, type GrafanaTheme2, getTimeField } from '@grafana/data';
import { useTheme2, VizLegend, type VizLegendItem } from '@grafana/ui';
import { LegendDisplayMode } from '@grafana/schema';
import { useMemo } from 'react';

import { Fault } from './Fault';
import { type Cell, type Lane, LanePlot } from './LanePlot';
import { nameOf } from './prepare';
import type { PanelProps } from './types';

/**
 * States over time: one lane per field that is no time. With a timeEnd each row has its own end, else it lasts until
 * the next row.
 */
export function StateTimelinePanel({ frames, range, width, height, marks }: PanelProps) {
  const theme = useTheme2();
  const { lanes, ticks, legend } = useMemo(() => lanesOf(frames, range.to.valueOf(), theme), [frames, range, theme]);
  if (lanes.length === 0) {
    return <Fault text="This frame has no states: it needs a time field and a field of states." />;
  }
  const legendHeight = 26;
  return (
    <>
      <LanePlot lanes={lanes} ticks={ticks} range={range} width={width} height={height - legendHeight} gap={0.14} marks={marks} />
      <div data-testid="preview-legend">
        <VizLegend items={legend} displayMode={LegendDisplayMode.List} placement="bottom" />
      </div>
    </>
  );
}

function lanesOf(frames: DataFrame[], end: number, theme: GrafanaTheme2) {
  const found: Array<{ name: string; cells: Cell[] }> = [];
  const colors = new Map<string, string>();
  for (const frame of frames) {
    const { timeField } = getTimeField(frame);
    if (!timeField) {
      continue;
    }
    const ends = frame.fields.find((f) => f.type === FieldType.time && f.name === 'timeEnd');
    for (const field of frame.fields) {
      if (field.type !== FieldType.time && field.config.custom?.hidden !== true) {
        found.push({ name: nameOf(field, frame, frames), cells: cellsOf(field, timeField.values, ends?.values, end, theme, colors) });
      }
    }
  }
  // The first lane is at the top.
  const high = 1 / found.length;
  const lanes = found.map(({ name, cells }, i): Lane => ({ name, cells, top: 1 - i * high, bottom: 1 - (i + 1) * high }));
  const ticks = lanes.map((lane) => ({ at: (lane.bottom + lane.top) / 2, text: lane.name })).reverse();
  const legend = [...colors].map(([label, color]): VizLegendItem => ({ label, color, yAxis: 1 }));
  return { lanes, ticks, legend };
}

function cellsOf(
  field: Field,
  times: number[],
  ends: Array<number | null> | undefined,
  end: number,
  theme: GrafanaTheme2,
  colors: Map<string, string>
): Cell[] {
  const cells: Cell[] = [];
  let open: (Cell & { value: unknown }) | undefined;
  for (let row = 0; row < times.length; row++) {
    const value: unknown = field.values[row];
    const from = times[row] ?? 0;
    const to = ends ? (ends[row] ?? from) : (times[row + 1] ?? end);
    if (value === null || value === undefined) {
      open = undefined;
      continue;
    }
    // Equal neighbours are one state.
    if (open && open.value === value && open.to >= from) {
      open.to = to;
      continue;
    }
    const { text, color } = stateOf(field, value, theme);
    colors.set(text, color);
    open = { from, to, text, color, value };
    cells.push(open);
  }
  return cells;
}

function stateOf(field: Field, value: unknown, theme: GrafanaTheme2): { text: string; color: string } {
  const kind = field.config.type?.enum;
  if (field.type === FieldType.enum && kind && typeof value === 'number') {
    const color = kind.color?.[value];
    return {
      text: kind.text?.[value] ?? String(value),
      color: color ? theme.visualization.getColorByName(color) : theme.visualization.palette[value] ?? theme.colors.primary.main,
    };
  }
  const shown = field.display?.(value);
  return { text: shown ? `${shown.prefix ?? ''}${shown.text}${shown.suffix ?? ''}` : String(value), color: shown?.color ?? theme.colors.primary.main };
}
