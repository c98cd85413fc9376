import { CoreApp, LoadingState, type PanelData } from '@grafana/data';
import type { DataQuery } from '@grafana/schema';
import { RadioButtonGroup, Stack } from '@grafana/ui';
import { useMemo, useRef, useState } from 'react';

import { makeRange } from '../host/query';
import { Fault } from '../panels/Fault';
import type { PanelJson } from './boardModel';
import { Panel } from './Panel';
import { type Settings, useHost } from './settings';
import { useWidth } from './useWidth';

interface Props {
  settings: Settings;
  onChange: (news: Partial<Settings>) => void;
  tick: number;
}

/** Panel types a query can be shown with here. */
const PANELS = ['heatmap', 'state-timeline', 'timeseries', 'stat', 'piechart', 'table'];

/** The panel that suits each kind of query. */
const SUITS: Record<string, string> = { heatmap: 'heatmap', timeline: 'state-timeline', series: 'timeseries', profile: 'flamegraph' };

/** One query with its editor, drawn by the panel that suits it. */
export function Explore({ settings, onChange, tick }: Props) {
  const { plugin, sources } = useHost();
  const instanceSettings = sources.getInstanceSettings(settings.source);
  const source = instanceSettings && sources.instance(instanceSettings);
  const [query, setQuery] = useState<DataQuery>(() => ({
    ...source?.getDefaultQuery?.(CoreApp.Explore),
    ...parse(settings.query),
    refId: 'A',
  }));
  // What was last run: an editor may change the query without asking for an answer.
  const [run, setRun] = useState(query);
  const [choice, setChoice] = useState<string>();
  const latest = useRef(query);
  const [box, width] = useWidth();

  const kind = (run as DataQuery & { kind?: string }).kind ?? 'heatmap';
  const type = choice ?? SUITS[kind] ?? 'table';
  const panel = useMemo<PanelJson>(
    () => ({ id: 1, type, title: `${kind} as ${type}`, gridPos: { x: 0, y: 0, w: 24, h: 12 }, options: type === 'heatmap' ? HEATMAP : {} }),
    [kind, type]
  );
  const data = useMemo<PanelData>(
    () => ({ state: LoadingState.Done, series: [], timeRange: makeRange(settings.from, settings.to) }),
    [settings.from, settings.to]
  );

  const Editor = plugin.components.QueryEditor;
  if (!source || !Editor) {
    return <Fault text="The plugin has no query editor." error />;
  }
  const change = (next: DataQuery): void => {
    latest.current = next;
    setQuery(next);
    setChoice(undefined);
    onChange({ query: JSON.stringify(next) });
  };
  const targets = [settings.live ? run : { ...run, live: false }];
  return (
    <Stack direction="column" gap={2}>
      <Editor
        datasource={source}
        query={query}
        queries={[query]}
        onChange={change}
        onRunQuery={() => setRun(latest.current)}
        data={data}
        range={data.timeRange}
        app={CoreApp.Explore}
      />
      <div>
        <RadioButtonGroup
          aria-label="Panel"
          options={PANELS.map((value) => ({ value, label: value }))}
          value={type}
          onChange={setChoice}
          size="sm"
        />
      </div>
      <div ref={box}>
        {width > 0 && (
          <Panel
            panel={panel}
            targets={targets}
            width={width}
            height={460}
            from={settings.from}
            to={settings.to}
            app={CoreApp.Explore}
            variablesKey=""
            tick={tick}
            sourceUid={settings.source}
          />
        )}
      </div>
    </Stack>
  );
}

/** P lanes from the top, as on the boards. */
const HEATMAP = { color: { mode: 'opacity', fill: '#009E73', exponent: 0.7 }, yAxis: { reverse: true }, cellValues: { decimals: 3 } };

function parse(text: string): Partial<DataQuery> {
  try {
    return text ? (JSON.parse(text) as Partial<DataQuery>) : {};
  } catch {
    return {};
  }
}
