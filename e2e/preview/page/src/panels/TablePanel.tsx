import type { DataFrame } from '@grafana/data';
import { Table } from '@grafana/ui';
import { useMemo } from 'react';

import { Fault } from './Fault';
import { hasRows } from './prepare';
import type { PanelProps } from './types';

/** A table, drawn by Grafana's own table component. */
export function TablePanel({ panel, frames, width, height }: PanelProps) {
  const frame = useMemo(() => shown(frames[0]), [frames]);
  if (!frame || !hasRows(frames)) {
    return <Fault text={panel.fieldConfig?.defaults.noValue ?? 'No rows: nothing of this kind happened in the range shown.'} />;
  }
  return <Table data={frame} width={width} height={height} ariaLabel={panel.title} enableSharedCrosshair={false} />;
}

function shown(frame: DataFrame | undefined): DataFrame | undefined {
  return frame && { ...frame, fields: frame.fields.filter((field) => field.config.custom?.hidden !== true) };
}
