import { type FieldConfigSource, formattedValueToString, getFieldDisplayValues, type ReduceDataOptions } from '@grafana/data';
import { LegendDisplayMode } from '@grafana/schema';
import { useTheme2, VizLegend, type VizLegendItem } from '@grafana/ui';

import { Fault } from './Fault';
import type { PanelProps } from './types';

const NO_CONFIG: FieldConfigSource = { defaults: {}, overrides: [] };

/** A donut of shares, with a table of them beside it. */
export function PiePanel({ panel, frames, width, height }: PanelProps) {
  const theme = useTheme2();
  const { reduceOptions } = (panel.options ?? {}) as { reduceOptions?: ReduceDataOptions };
  const values = getFieldDisplayValues({
    fieldConfig: panel.fieldConfig ?? NO_CONFIG,
    reduceOptions: reduceOptions ?? { calcs: ['mean'] },
    replaceVariables: (text) => text,
    theme,
    data: frames,
    timeZone: 'browser',
  }).filter(({ display }) => Number.isFinite(display.numeric));
  const total = values.reduce((sum, { display }) => sum + display.numeric, 0);
  if (values.length === 0 || total <= 0) {
    return <Fault text="Nothing to share out in the range shown." />;
  }
  const size = Math.max(40, Math.min(width / 2, height));
  let before = 0;
  const items: VizLegendItem[] = values.map(({ display }) => ({
    label: display.title ?? '',
    color: display.color ?? theme.colors.primary.main,
    yAxis: 1,
    getDisplayValues: () => [{ numeric: display.numeric, text: formattedValueToString(display), title: 'Share' }],
  }));
  return (
    <div style={{ display: 'flex', alignItems: 'center', gap: 16, height, overflow: 'auto' }}>
      <svg width={size} height={size} viewBox="-50 -50 100 100" role="img" aria-label={panel.title}>
        {values.map(({ display }, i) => {
          const start = before / total;
          before += display.numeric;
          return (
            <path key={i} d={slice(start, before / total)} fill={display.color} stroke={theme.colors.background.primary}>
              <title>{`${display.title ?? ''} ${formattedValueToString(display)}`}</title>
            </path>
          );
        })}
      </svg>
      <div data-testid="preview-legend">
        <VizLegend items={items} displayMode={LegendDisplayMode.Table} placement="right" />
      </div>
    </div>
  );
}

/** The outline of a ring's part between two shares of the whole turn, clockwise from the top. */
function slice(from: number, to: number): string {
  // A whole ring has no two different ends, so it stops just short.
  const end = Math.min(to, from + 0.9999);
  const point = (share: number, radius: number): string => {
    const angle = (share - 0.25) * 2 * Math.PI;
    return `${(radius * Math.cos(angle)).toFixed(3)} ${(radius * Math.sin(angle)).toFixed(3)}`;
  };
  const large = end - from > 0.5 ? 1 : 0;
  return `M ${point(from, 48)} A 48 48 0 ${large} 1 ${point(end, 48)} L ${point(end, 28)} A 28 28 0 ${large} 0 ${point(from, 28)} Z`;
}
