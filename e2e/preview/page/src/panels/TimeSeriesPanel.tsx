import { css } from '@emotion/css';
import { type DataFrame, dateTimeFormat, FieldType, formattedValueToString, type GrafanaTheme2, getDisplayProcessor } from '@grafana/data';
import { LegendDisplayMode, type VizLegendOptions } from '@grafana/schema';
import { TimeSeries, type UPlotConfigBuilder, useStyles2, useTheme2 } from '@grafana/ui';
import { useLayoutEffect, useMemo, useRef, useState } from 'react';
import type uPlot from 'uplot';

import { Fault } from './Fault';
import { nameOf, timeAndNumbers } from './prepare';
import type { Mark, PanelProps } from './types';

/** Numbers over time, drawn by Grafana's own time series component. */
export function TimeSeriesPanel({ panel, frames, range, width, height, marks }: PanelProps) {
  const drawable = useMemo(() => frames.filter((frame) => timeAndNumbers(frame) && frame.length > 0), [frames]);
  const legend = useMemo<VizLegendOptions>(
    () => ({
      displayMode: LegendDisplayMode.List,
      placement: 'bottom',
      showLegend: true,
      calcs: [],
      ...(panel.options?.['legend'] as Partial<VizLegendOptions> | undefined),
    }),
    [panel]
  );
  if (drawable.length === 0) {
    return <Fault text="No number over time in this answer." />;
  }
  return (
    <TimeSeries frames={drawable} timeRange={range} timeZone="browser" width={width} height={height} legend={legend}>
      {(config, aligned) => <Extras config={config} aligned={aligned} marks={marks} width={width} />}
    </TimeSeries>
  );
}

interface ExtrasProps {
  config: UPlotConfigBuilder;
  aligned: DataFrame;
  marks: Mark[];
  width: number;
}

/** The tooltip and the annotations, which the component leaves to its user. */
function Extras({ config, aligned, marks, width }: ExtrasProps) {
  const theme = useTheme2();
  const styles = useStyles2(getStyles);
  const [at, setAt] = useState<{ row: number; x: number; y: number }>();
  const latest = useRef(marks);
  latest.current = marks;

  // Before the plot is made, which happens after this component is mounted.
  useLayoutEffect(() => {
    config.addHook('setCursor', (u: uPlot) => {
      const { idx, left = -1, top = -1 } = u.cursor;
      setAt(idx === null || idx === undefined || left < 0 ? undefined : { row: idx, x: left + u.over.offsetLeft, y: top + u.over.offsetTop });
    });
    config.addHook('draw', (u: uPlot) => drawMarks(u, latest.current));
  }, [config]);

  if (!at) {
    return null;
  }
  const time: unknown = aligned.fields[0]?.values[at.row];
  const rows = aligned.fields
    .filter((field) => field.type === FieldType.number)
    .map((field) => ({ field, value: field.values[at.row] as number | null | undefined }))
    .filter(({ value }) => value !== null && value !== undefined)
    .sort((a, b) => (b.value ?? 0) - (a.value ?? 0))
    .slice(0, 12);
  if (rows.length === 0) {
    return null;
  }
  return (
    <div className={styles.tooltip} style={at.x > width / 2 ? { right: width - at.x + 12, top: at.y } : { left: at.x + 12, top: at.y }} role="tooltip">
      <div className={styles.time}>{dateTimeFormat(time as number)}</div>
      {rows.map(({ field, value }) => {
        const name = nameOf(field, aligned, [aligned]);
        const display = field.display ?? getDisplayProcessor({ field, theme });
        return (
          <div key={name}>
            {name} <strong>{formattedValueToString(display(value))}</strong>
          </div>
        );
      })}
    </div>
  );
}

function drawMarks(u: uPlot, marks: Mark[]): void {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.globalAlpha = 0.6;
  for (const { from, to, color } of marks) {
    const x = u.valToPos(from, 'x', true);
    ctx.fillStyle = color;
    ctx.fillRect(x, bbox.top, Math.max(1, u.valToPos(to, 'x', true) - x), bbox.height);
  }
  ctx.restore();
}

const getStyles = (theme: GrafanaTheme2) => ({
  tooltip: css({
    position: 'absolute',
    pointerEvents: 'none',
    zIndex: theme.zIndex.tooltip,
    padding: theme.spacing(0.5, 1),
    background: theme.colors.background.elevated ?? theme.colors.background.secondary,
    border: `1px solid ${theme.colors.border.weak}`,
    borderRadius: theme.shape.radius.default,
    fontSize: theme.typography.bodySmall.fontSize,
    whiteSpace: 'nowrap',
  }),
  time: css({ color: theme.colors.text.secondary }),
});
