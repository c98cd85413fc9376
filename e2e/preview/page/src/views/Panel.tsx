import { type CoreApp, LoadingState } from '@grafana/data';
import type { DataQuery } from '@grafana/schema';
import { Icon, PanelChrome, Tooltip, useTheme2 } from '@grafana/ui';
import { type ComponentType, useMemo } from 'react';

import { configured, hasRows } from '../panels/prepare';
import { Fault } from '../panels/Fault';
import { HeatmapPanel } from '../panels/HeatmapPanel';
import { PiePanel } from '../panels/PiePanel';
import { StateTimelinePanel } from '../panels/StateTimelinePanel';
import { StatPanel } from '../panels/StatPanel';
import { TablePanel } from '../panels/TablePanel';
import { TimeSeriesPanel } from '../panels/TimeSeriesPanel';
import type { Mark, PanelProps } from '../panels/types';
import type { PanelJson } from './boardModel';
import { useHost } from './settings';
import { type PanelAsk, useQueries } from './useQueries';

const KINDS: Record<string, ComponentType<PanelProps>> = {
  heatmap: HeatmapPanel,
  'state-timeline': StateTimelinePanel,
  timeseries: TimeSeriesPanel,
  stat: StatPanel,
  table: TablePanel,
  piechart: PiePanel,
};

interface Props {
  panel: PanelJson;
  targets: DataQuery[];
  width: number;
  height: number;
  from: string;
  to: string;
  app: CoreApp;
  /** Changes when the board's variables do. */
  variablesKey: string;
  tick: number;
  marks?: Mark[];
  boardUid?: string;
  sourceUid: string;
}

/** One panel: asks, waits, and shows the answer, or why there is none. */
export function Panel({ panel, targets, width, height, from, to, app, variablesKey, tick, marks = [], boardUid, sourceUid }: Props) {
  const { sources, templates } = useHost();
  const theme = useTheme2();
  const settings = sources.getInstanceSettings(sourceUid);
  const ask: PanelAsk | undefined = settings && {
    source: sources.instance(settings),
    targets,
    from,
    to,
    panel,
    maxDataPoints: panel.maxDataPoints ?? Math.max(100, Math.round(width)),
    app,
    panelId: panel.id,
    boardUid,
  };
  const key = JSON.stringify([targets, from, to, sourceUid, variablesKey, panel.type]);
  const { data, frames, updates } = useQueries(ask, key, tick);
  const shown = useMemo(
    () => configured(panel, frames, theme, (text) => templates.replace(text)),
    [panel, frames, theme, templates]
  );

  const Kind = KINDS[panel.type];
  const problems = (data.errors ?? []).map((error) => error.message ?? 'unknown error').join('\n');
  const notices = [...new Set(frames.flatMap((frame) => frame.meta?.notices ?? []).map((notice) => notice.text))];
  const empty = !hasRows(frames);
  const first = data.state === LoadingState.NotStarted || (data.state === LoadingState.Loading && updates === 0);

  return (
    <section
      aria-label={panel.title}
      data-testid={`preview-panel-${panel.id}`}
      data-panel-type={panel.type}
      data-state={data.state}
      data-updates={updates}
    >
      <PanelChrome
        title={templates.replace(panel.title)}
        description={panel.description}
        width={width}
        height={height}
        loadingState={data.state}
        statusMessage={problems || undefined}
        titleItems={notices.map((text) => (
          <Tooltip key={text} content={text}>
            <span tabIndex={0} data-testid="preview-notice" aria-label={text}>
              <Icon name="info-circle" />
            </span>
          </Tooltip>
        ))}
      >
        {(innerWidth, innerHeight) => {
          if (problems && empty) {
            return <Fault text={problems} error />;
          }
          if (first) {
            return <Fault text="Loading …" />;
          }
          if (!Kind) {
            return <Fault text={`The preview draws no “${panel.type}” panels; Grafana does.`} />;
          }
          if (empty && panel.type !== 'stat' && panel.type !== 'table') {
            return <Fault text={panel.fieldConfig?.defaults.noValue ?? 'No data in the range shown.'} />;
          }
          return <Kind panel={panel} frames={shown} data={data} range={data.timeRange} width={innerWidth} height={innerHeight} marks={marks} />;
        }}
      </PanelChrome>
    </section>
  );
}
