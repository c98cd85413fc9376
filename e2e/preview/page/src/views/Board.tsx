import { css } from '@emotion/css';
import { type AnnotationQuery, CoreApp, type DataFrame, type GrafanaTheme2, LoadingState } from '@grafana/data';
import type { DataQuery } from '@grafana/schema';
import { Alert, Combobox, InlineField, useStyles2 } from '@grafana/ui';
import { useEffect, useMemo, useState } from 'react';

import { makeRange, runQueries } from '../host/query';
import { Fault } from '../panels/Fault';
import type { Mark } from '../panels/types';
import { type AnnotationJson, type BoardJson, type PanelJson, panelsOf } from './boardModel';
import { Panel } from './Panel';
import { type Settings, useHost } from './settings';
import { type Choice, useVariables } from './useVariables';
import { useWidth } from './useWidth';

// Grafana's grid: 24 columns, rows of 30 px, 8 px between panels.
const COLUMNS = 24;
const ROW = 30;
const GAP = 8;

interface Props {
  settings: Settings;
  onChange: (news: Partial<Settings>) => void;
  tick: number;
}

/** A provisioned dashboard: its variables, its panels on their grid, its annotations. */
export function Board({ settings, onChange, tick }: Props) {
  const { boot } = useHost();
  const boards = boot.dashboards ?? [];
  const board = boards.find((b) => b.uid === settings.board) ?? boards[0];
  if (!board) {
    return <Fault text="No dashboard is provisioned: provisioning/dashboards holds no .json file with panels." />;
  }
  return (
    <>
      <InlineField label="Board">
        <Combobox
          id="preview-board"
          options={boards.map((b) => ({ value: b.uid, label: b.title }))}
          value={board.uid}
          onChange={({ value }) => onChange({ board: value })}
          width={32}
        />
      </InlineField>
      <BoardBody key={board.uid} board={board} settings={settings} tick={tick} />
    </>
  );
}

function BoardBody({ board, settings, tick }: { board: BoardJson; settings: Settings; tick: number }) {
  const styles = useStyles2(getStyles);
  const [picks, setPicks] = useState<Record<string, string>>(() => picksFromUrl(window.location.search));
  const { choices, key } = useVariables(board, picks, tick);
  const [grid, width] = useWidth();

  const pick = (name: string, value: string): void => {
    const next = { ...picks, [name]: value };
    setPicks(next);
    const url = new URL(window.location.href);
    url.searchParams.set(`var-${name}`, value);
    window.history.replaceState(null, '', url);
  };

  const sourceUid = choices?.find((c) => c.variable.type === 'datasource')?.value[0] ?? '';
  const marks = useAnnotations(board, settings, key, tick, choices !== undefined, sourceUid);
  const panels = useMemo(() => panelsOf(board), [board]);
  const unit = (width + GAP) / COLUMNS;
  const failed = choices?.filter((c) => c.error) ?? [];

  return (
    <>
      <div className={styles.variables}>
        {choices?.filter((c) => c.variable.hide !== 2).map((choice) => <Picker key={choice.variable.name} choice={choice} onPick={pick} />)}
      </div>
      {failed.map((c) => (
        <Alert key={c.variable.name} severity="error" title={`The list of ${c.variable.label ?? c.variable.name} could not be loaded`}>
          {c.error}
        </Alert>
      ))}
      {!choices && <Fault text="Loading …" />}
      <div ref={grid} className={styles.grid} style={{ height: Math.max(...panels.map((p) => p.gridPos.y + p.gridPos.h)) * (ROW + GAP) }}>
        {choices &&
          width > 0 &&
          panels.map((panel) => {
            const { x, y, w, h } = panel.gridPos;
            const box = { left: x * unit, top: y * (ROW + GAP), width: w * unit - GAP, height: h * (ROW + GAP) - GAP };
            return (
              <div key={panel.id} className={styles.cell} style={box}>
                {panel.type === 'row' ? (
                  <h2 className={styles.row}>{panel.title}</h2>
                ) : (
                  <Panel
                    panel={panel}
                    targets={asked(panel, settings.live)}
                    width={box.width}
                    height={box.height}
                    from={settings.from}
                    to={settings.to}
                    app={CoreApp.Dashboard}
                    variablesKey={key}
                    tick={tick}
                    marks={marks(panel.id)}
                    boardUid={board.uid}
                    sourceUid={sourceUid}
                  />
                )}
              </div>
            );
          })}
      </div>
    </>
  );
}

/** The panel's queries; without live, streams are left out. */
function asked(panel: PanelJson, live: boolean): DataQuery[] {
  return (panel.targets ?? []).map((query) => (live ? query : { ...query, live: false }));
}

function Picker({ choice, onPick }: { choice: Choice; onPick: (name: string, value: string) => void }) {
  const { variable, options, value } = choice;
  const all = variable.includeAll ? [{ value: '$__all', label: 'All' }] : [];
  return (
    <InlineField label={variable.label ?? variable.name}>
      <Combobox
        id={`preview-variable-${variable.name}`}
        options={[...all, ...options.map((option) => ({ value: option, label: option }))]}
        value={value[0] ?? null}
        onChange={(option) => onPick(variable.name, option.value)}
        width="auto"
        minWidth={12}
        maxWidth={40}
      />
    </InlineField>
  );
}

function picksFromUrl(search: string): Record<string, string> {
  const picks: Record<string, string> = {};
  for (const [name, value] of new URLSearchParams(search)) {
    if (name.startsWith('var-')) {
      picks[name.slice('var-'.length)] = value;
    }
  }
  return picks;
}

const NO_MARKS: Mark[] = [];

/** The board's annotations, as marks of each panel they are meant for. */
function useAnnotations(
  board: BoardJson,
  { from, to }: Settings,
  key: string,
  tick: number,
  ready: boolean,
  sourceUid: string
): (panelId: number) => Mark[] {
  const { sources } = useHost();
  const [found, setFound] = useState<Array<{ annotation: AnnotationJson; marks: Mark[] }>>([]);

  useEffect(() => {
    const settings = sources.getInstanceSettings(sourceUid);
    if (!ready || !settings) {
      return undefined;
    }
    const source = sources.instance(settings);
    const subscriptions = (board.annotations?.list ?? [])
      .filter((annotation) => annotation.enable && annotation.target)
      .map((annotation) => {
        const prepared = (source.annotations?.prepareQuery?.(annotation as AnnotationQuery) ?? annotation.target) as DataQuery;
        return runQueries({ source, targets: [prepared], range: makeRange(from, to), maxDataPoints: 100, app: CoreApp.Dashboard }).subscribe(
          ({ state, series }) => {
            if (state !== LoadingState.Loading) {
              const marks = series.flatMap((frame) => marksOf(frame, annotation.iconColor));
              setFound((old) => [...old.filter((one) => one.annotation !== annotation), { annotation, marks }]);
            }
          }
        );
      });
    return () => subscriptions.forEach((subscription) => subscription.unsubscribe());
  }, [board, from, to, key, tick, ready, sourceUid, sources]);

  return useMemo(() => {
    const byPanel = new Map<number, Mark[]>();
    for (const panel of panelsOf(board)) {
      const mine = found.filter(({ annotation: { filter } }) => !filter || filter.ids.includes(panel.id) !== Boolean(filter.exclude));
      byPanel.set(panel.id, mine.length ? mine.flatMap(({ marks }) => marks) : NO_MARKS);
    }
    return (panelId) => byPanel.get(panelId) ?? NO_MARKS;
  }, [board, found]);
}

function marksOf(frame: DataFrame, color: string): Mark[] {
  const column = (name: string): unknown[] => frame.fields.find((field) => field.name === name)?.values ?? [];
  const [time, timeEnd, text] = [column('time'), column('timeEnd'), column('text')];
  return time.map((from, row) => ({
    from: from as number,
    to: (timeEnd[row] ?? from) as number,
    text: String(text[row] ?? ''),
    color,
  }));
}

const getStyles = (theme: GrafanaTheme2) => ({
  variables: css({ display: 'flex', flexWrap: 'wrap', columnGap: theme.spacing(1) }),
  grid: css({ position: 'relative' }),
  cell: css({ position: 'absolute' }),
  row: css({ ...theme.typography.h5, margin: 0, padding: theme.spacing(0.5, 0), borderBottom: `1px solid ${theme.colors.border.weak}` }),
});
