import { css } from '@emotion/css';
import { type GrafanaTheme2, type TimeRange, dateTimeFormat } from '@grafana/data';
import { AxisPlacement, ScaleDirection, ScaleOrientation, UPlotChart, UPlotConfigBuilder, useStyles2, useTheme2 } from '@grafana/ui';
import { useEffect, useMemo, useRef, useState } from 'react';
import type { AlignedData } from 'uplot';
import type uPlot from 'uplot';

import type { Mark } from './types';

/** A coloured stretch of one lane, times in milliseconds since the epoch. */
export interface Cell {
  from: number;
  to: number;
  color: string;
  /** Shown when the pointer is over it. */
  text: string;
}

/** A row of cells in order of time, between two heights of the y axis (0: bottom of the plot, 1: its top). */
export interface Lane {
  name: string;
  bottom: number;
  top: number;
  cells: Cell[];
}

export interface Tick {
  /** Height between 0 and 1. */
  at: number;
  text: string;
}

interface Props {
  lanes: Lane[];
  ticks: Tick[];
  range: TimeRange;
  width: number;
  height: number;
  /** Share of a lane's height that is left empty. */
  gap: number;
  marks: Mark[];
}

interface Hover {
  lane: Lane;
  cell: Cell;
  x: number;
  y: number;
}

/** Lanes of coloured cells over time on uPlot's axes: what Grafana's heatmap and state timeline panels draw. */
export function LanePlot({ lanes, ticks, range, width, height, gap, marks }: Props) {
  const theme = useTheme2();
  const styles = useStyles2(getStyles);
  const [hover, setHover] = useState<Hover>();
  const plot = useRef<uPlot>();
  // Read by the plot's hooks, so that new data redraw the plot instead of building a new one.
  const now = useRef({ lanes, ticks, range, marks });
  now.current = { lanes, ticks, range, marks };
  const axisKey = ticks.map((t) => `${t.at}${t.text}`).join('|');

  const config = useMemo(() => {
    const builder = new UPlotConfigBuilder('browser');
    builder.addScale({
      scaleKey: 'x',
      isTime: true,
      orientation: ScaleOrientation.Horizontal,
      direction: ScaleDirection.Right,
      range: () => [now.current.range.from.valueOf(), now.current.range.to.valueOf()],
    });
    builder.addScale({
      scaleKey: 'y',
      isTime: false,
      orientation: ScaleOrientation.Vertical,
      direction: ScaleDirection.Up,
      range: () => [0, 1],
    });
    builder.addAxis({ scaleKey: 'x', isTime: true, placement: AxisPlacement.Bottom, theme, grid: { show: false } });
    builder.addAxis({
      scaleKey: 'y',
      placement: AxisPlacement.Left,
      theme,
      grid: { show: false },
      splits: (u) => spaced(now.current.ticks, u.bbox.height / devicePixelRatio).map((t) => t.at),
      values: (_u, splits) => splits.map((at: number) => now.current.ticks.find((t) => t.at === at)?.text ?? ''),
    });
    builder.addSeries({ scaleKey: 'y', theme, pxAlign: false, show: true, lineWidth: 0 });
    builder.setCursor({ y: true, x: true, points: { show: false }, drag: { x: false, y: false } });
    builder.addHook('draw', (u) => draw(u, now.current.lanes, now.current.marks, gap));
    builder.addHook('setCursor', (u) => setHover(cellUnder(u, now.current.lanes)));
    return builder;
    // The axis' width is laid out for its texts: other texts need a new plot.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [theme, axisKey, gap]);

  // uPlot sets its scales again only when it gets new data; the lanes themselves are drawn by the hook.
  const data = useMemo<AlignedData>(
    () => [
      [range.from.valueOf(), range.to.valueOf()],
      [null, null],
    ],
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [lanes, range, marks]
  );

  useEffect(() => setHover((old) => old && plot.current && cellUnder(plot.current, lanes)), [lanes]);

  return (
    <div className={styles.box}>
      <UPlotChart config={config} data={data} width={width} height={height} plotRef={(u) => (plot.current = u)} />
      {hover && (
        <div className={styles.tooltip} style={place(hover, width)} role="tooltip">
          <strong>{hover.lane.name}</strong> {hover.cell.text}
          <div className={styles.time}>
            {dateTimeFormat(hover.cell.from, { defaultWithMS: hover.cell.to - hover.cell.from < 2000 })}, for {duration(hover.cell.to - hover.cell.from)}
          </div>
        </div>
      )}
    </div>
  );
}

/** Ticks that don't overlap at this many pixels of height. */
function spaced(ticks: Tick[], pixels: number): Tick[] {
  const most = Math.max(1, Math.floor(pixels / 14));
  const step = Math.ceil(ticks.length / most);
  return ticks.filter((_, i) => i % step === 0);
}

function draw(u: uPlot, lanes: Lane[], marks: Mark[], gap: number): void {
  const { ctx, bbox } = u;
  const from = u.scales['x']?.min ?? 0;
  const to = u.scales['x']?.max ?? 1;
  const perMs = bbox.width / (to - from);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const lane of lanes) {
    const high = Math.max(1, (lane.top - lane.bottom) * bbox.height * (1 - gap));
    const y = bbox.top + (1 - (lane.top + lane.bottom) / 2) * bbox.height - high / 2;
    for (let i = firstFrom(lane.cells, from); i < lane.cells.length; i++) {
      const cell = lane.cells[i];
      if (!cell || cell.from > to) {
        break;
      }
      const x = bbox.left + (cell.from - from) * perMs;
      // A state of a microsecond is still a pixel wide: rare short states must not vanish.
      ctx.fillStyle = cell.color;
      ctx.fillRect(x, y, Math.max(1, (cell.to - cell.from) * perMs), high);
    }
  }
  for (const mark of marks) {
    ctx.fillStyle = mark.color;
    ctx.globalAlpha = 0.8;
    ctx.fillRect(bbox.left + (mark.from - from) * perMs, bbox.top, Math.max(1, (mark.to - mark.from) * perMs), bbox.height);
  }
  ctx.restore();
}

/** Index of the first cell that ends after a time. */
function firstFrom(cells: Cell[], time: number): number {
  let low = 0;
  let high = cells.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    if ((cells[mid]?.to ?? 0) > time) {
      high = mid;
    } else {
      low = mid + 1;
    }
  }
  return low;
}

function cellUnder(u: uPlot, lanes: Lane[]): Hover | undefined {
  const { left = -1, top = -1 } = u.cursor;
  if (left < 0 || top < 0) {
    return undefined;
  }
  const time = u.posToVal(left, 'x');
  const at = u.posToVal(top, 'y');
  const lane = lanes.find((l) => at >= l.bottom && at < l.top);
  const cell = lane?.cells[firstFrom(lane.cells, time)];
  const { offsetLeft, offsetTop } = u.over;
  return lane && cell && cell.from <= time ? { lane, cell, x: left + offsetLeft, y: top + offsetTop } : undefined;
}

function place({ x, y }: Hover, width: number): React.CSSProperties {
  return x > width / 2 ? { right: width - x + 12, top: y + 12 } : { left: x + 12, top: y + 12 };
}

/** A span of milliseconds in the unit people would use. */
function duration(ms: number): string {
  if (ms < 1) {
    return `${(ms * 1000).toFixed(0)} µs`;
  }
  if (ms < 1000) {
    return `${ms.toPrecision(3)} ms`;
  }
  return `${(ms / 1000).toPrecision(4)} s`;
}

const getStyles = (theme: GrafanaTheme2) => ({
  box: css({ position: 'relative' }),
  tooltip: css({
    position: 'absolute',
    pointerEvents: 'none',
    zIndex: theme.zIndex.tooltip,
    padding: theme.spacing(0.5, 1),
    background: theme.colors.background.elevated ?? theme.colors.background.secondary,
    border: `1px solid ${theme.colors.border.weak}`,
    borderRadius: theme.shape.radius.default,
    whiteSpace: 'nowrap',
    fontSize: theme.typography.bodySmall.fontSize,
  }),
  time: css({ color: theme.colors.text.secondary }),
});
