import { type FieldConfigSource, getFieldDisplayValues, type ReduceDataOptions } from '@grafana/data';
import { BigValue, BigValueColorMode, BigValueGraphMode, BigValueTextMode, useTheme2 } from '@grafana/ui';

import { Fault } from './Fault';
import type { PanelProps } from './types';

const NO_CONFIG: FieldConfigSource = { defaults: {}, overrides: [] };

/** One big number per series. */
export function StatPanel({ panel, frames, width, height }: PanelProps) {
  const theme = useTheme2();
  const { reduceOptions, textMode } = (panel.options ?? {}) as { reduceOptions?: ReduceDataOptions; textMode?: BigValueTextMode };
  const values = getFieldDisplayValues({
    fieldConfig: panel.fieldConfig ?? NO_CONFIG,
    reduceOptions: reduceOptions ?? { calcs: ['lastNotNull'] },
    replaceVariables: (text) => text,
    theme,
    data: frames,
    timeZone: 'browser',
  });
  if (values.length === 0) {
    return <Fault text={panel.fieldConfig?.defaults.noValue ?? 'No data'} />;
  }
  return (
    <div style={{ display: 'flex' }} data-testid="preview-legend">
      {values.map(({ display }, i) => (
        <BigValue
          key={i}
          theme={theme}
          value={display}
          width={width / values.length}
          height={height}
          colorMode={BigValueColorMode.Value}
          graphMode={BigValueGraphMode.None}
          textMode={textMode ?? BigValueTextMode.Auto}
          count={values.length}
        />
      ))}
    </div>
  );
}
