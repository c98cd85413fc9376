import { createTheme, FieldType, formattedValueToString, getDisplayProcessor, type FieldConfig } from '@grafana/data';
import type { Panel, RowPanel } from '@grafana/grafana-foundation-sdk/dashboard';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { parse } from 'yaml';

import { METRICS, P_STATES, THREAD_STATES, fieldsOf, type ScopeQuery } from '../src/query/model';
import { validate } from '../src/query/validate';
import { grafanaRule } from './alerting';
import { cpuBoard } from './cpu';
import { fleetBoard } from './fleet';
import { drifted, generated } from './generate';
import { GRID_WIDTH, place } from './layout';
import { processBoard } from './process';
import { BOARD_DATASOURCE, PROVISIONED_UID } from './query';
import { RULES } from './rules';
import { selfBoard } from './self';

const ROOT = path.resolve(__dirname, '..');

const BOARDS = [processBoard(), fleetBoard(), cpuBoard(), selfBoard()];

const isRow = (panel: Panel | RowPanel): panel is RowPanel => panel.type === 'row';

/** Panels and rows, those inside folded rows too. */
const everything = (board: (typeof BOARDS)[number]): Array<Panel | RowPanel> =>
  (board.panels ?? []).flatMap((panel) => (isRow(panel) ? [panel, ...panel.panels] : [panel]));

const panelsOf = (board: (typeof BOARDS)[number]): Panel[] =>
  everything(board).filter((panel): panel is Panel => !isRow(panel));

const targetsOf = (panel: Panel): ScopeQuery[] => (panel.targets ?? []) as unknown as ScopeQuery[];

/** Kinds whose frames carry a unit for every field: a table, whose columns differ. */
const TABLES = ['table'];

const ALL_PANELS = BOARDS.flatMap((board) =>
  panelsOf(board).map((panel) => [`${board.uid}: ${panel.title}`, panel] as const)
);

describe('boards', () => {
  it('have uids and titles that are unique', () => {
    expect(new Set(BOARDS.map((board) => board.uid)).size).toBe(BOARDS.length);
    expect(new Set(BOARDS.map((board) => board.title)).size).toBe(BOARDS.length);
  });

  it.each(BOARDS.map((board) => [board.uid, board] as const))('%s: panel ids are unique', (_, board) => {
    const ids = everything(board).map((panel) => panel.id);
    expect(ids).not.toContain(undefined);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it.each(BOARDS.map((board) => [board.uid, board] as const))(
    '%s: panels lie on the grid and none on another',
    (_, board) => {
      const taken = new Map<string, string>();
      for (const panel of board.panels ?? []) {
        const { x, y, w, h } = panel.gridPos!;
        expect(w).toBeGreaterThan(0);
        expect(h).toBeGreaterThan(0);
        expect(x).toBeGreaterThanOrEqual(0);
        expect(x + w).toBeLessThanOrEqual(GRID_WIDTH);
        for (let i = x; i < x + w; i++) {
          for (let j = y; j < y + h; j++) {
            expect(taken.get(`${i},${j}`)).toBeUndefined();
            taken.set(`${i},${j}`, String(panel.title));
          }
        }
      }
    }
  );

  it.each(BOARDS.map((board) => [board.uid, board] as const))('%s: every variable a query names exists', (_, board) => {
    const known = new Set((board.templating.list ?? []).map((variable) => variable.name));
    const text = JSON.stringify([board.panels, board.annotations, board.templating.list]);
    const used = [...text.matchAll(/\$\{(\w+)(?::\w+)?\}/g)]
      .map((match) => match[1]!)
      .filter((name) => !name.startsWith('__'));
    expect(used.length).toBeGreaterThan(0);
    expect(used.filter((name) => !known.has(name))).toEqual([]);
  });

  it('keep the Ps of two runtimes of one process apart', () => {
    const text = JSON.stringify([BOARDS, RULES.map(({ query, promql }) => [query, promql])]);
    const sums = [...text.matchAll(/(?:sum|avg) by \(([^)]*)\)/g)].map((match) => match[1]!.split(/, ?/));
    const perP = sums.filter((labels) => labels.includes('process_pid') && labels.includes('p'));
    expect(perP.length).toBeGreaterThan(0);
    expect(perP.filter((labels) => !labels.includes('runtime'))).toEqual([]);
  });

  it('fit their first screen on a laptop', () => {
    // 1440 x 900 leaves 20 rows of 38 px below Grafana's own bars.
    for (const board of BOARDS) {
      const firstRow = (board.panels ?? []).find(isRow);
      expect(firstRow?.gridPos?.y).toBeLessThanOrEqual(20);
    }
  });
});

describe('panels', () => {
  it.each(ALL_PANELS)('%s says what it shows', (_, panel) => {
    expect(panel.title).toBeTruthy();
    expect(panel.description?.length).toBeGreaterThan(20);
    expect(panel.description).toMatch(/\.$/);
  });

  it.each(ALL_PANELS.filter(([, panel]) => !TABLES.includes(panel.type)))('%s has a unit', (_, panel) => {
    expect(panel.fieldConfig?.defaults.unit).toBeTruthy();
  });

  it.each(ALL_PANELS)('%s asks the chosen data source something it can answer', (_, panel) => {
    expect(panel.datasource).toEqual(BOARD_DATASOURCE);
    const targets = targetsOf(panel);
    expect(targets.length).toBeGreaterThan(0);
    expect(new Set(targets.map((target) => target.refId)).size).toBe(targets.length);
    for (const target of targets) {
      checkQuery(target);
      expect(target.datasource).toEqual(BOARD_DATASOURCE);
    }
  });

  const withZeroAndMagnitudes = ALL_PANELS.filter(
    ([, panel]) =>
      (panel.fieldConfig?.defaults.custom as { scaleDistribution?: { type: string } } | undefined)?.scaleDistribution
        ?.type === 'symlog'
  );

  it.each(withZeroAndMagnitudes)('%s has no tick with a number below zero', (_, panel) => {
    const { unit, mappings } = panel.fieldConfig?.defaults ?? {};
    const field = { type: FieldType.number, config: { unit, mappings } as FieldConfig };
    const tick = getDisplayProcessor({ field, theme: createTheme() });
    expect([-100, -10, -1, 0, 1, 10].map((value) => formattedValueToString(tick(value)))).toEqual([
      '',
      '',
      '',
      '0',
      '1',
      '10',
    ]);
  });

  it('has one panel whose values differ by magnitudes', () => {
    expect(withZeroAndMagnitudes).toHaveLength(1);
  });

  it('only stream where the eye follows', () => {
    const live = ALL_PANELS.filter(([, panel]) => targetsOf(panel).some((target) => target.live)).map(([name]) => name);
    expect(live).toEqual(['pscope-process: P states: busy share', 'pscope-process: P state timeline']);
  });
});

/** Fails unless the query is one the editor accepts and every field of it has a meaning for its kind. */
function checkQuery(query: ScopeQuery): void {
  expect(validate(query)).toEqual({});
  expect(query.metric === undefined || METRICS.includes(query.metric)).toBe(true);
  expect((query.states ?? []).filter((state) => !P_STATES.includes(state))).toEqual([]);
  expect((query.threadStates ?? []).filter((state) => !THREAD_STATES.includes(state))).toEqual([]);
  const meant = new Set<string>([
    ...fieldsOf(query),
    'refId',
    'datasource',
    'version',
    'target',
    'editorMode',
    'metric',
    'intervalMs',
    'maxDataPoints',
  ]);
  const written = Object.entries(query)
    .filter(([, value]) => typeof value !== 'function')
    .map(([name]) => name);
  expect(written.filter((name) => !meant.has(name))).toEqual([]);
}

describe('alert rules', () => {
  const panels = new Map(BOARDS.map((board) => [board.uid, new Set(panelsOf(board).map((panel) => panel.id))]));
  const each = RULES.map((rule) => [rule.uid, rule] as const);

  it('have unique uids that Grafana takes', () => {
    expect(new Set(RULES.map((rule) => rule.uid)).size).toBe(RULES.length);
    for (const rule of RULES) {
      expect(rule.uid).toMatch(/^[a-z0-9-]{1,40}$/);
    }
  });

  it('contain the threshold of the D share that P-Scope promises', () => {
    const rule = RULES.find(({ uid }) => uid === 'pscope-d-share');
    expect(rule).toMatchObject({
      when: 'gt',
      threshold: 0.95,
      for: '2m',
      query: { metric: 'd_share', by: ['host', 'process', 'pid', 'p'] },
    });
  });

  it.each(each)('%s asks a query that answers with series', (_, rule) => {
    expect(rule.query.kind).toBe('series');
    expect(rule.query.live).toBeUndefined();
    checkQuery({ refId: 'A', ...rule.query });
  });

  it.each(each)('%s links to a panel that exists', (_, rule) => {
    expect(panels.get(rule.panel.board)).toContain(rule.panel.id);
  });

  it.each(each)('%s has a runbook page', (_, rule) => {
    const page = fs.readFileSync(path.join(ROOT, 'docs/runbooks', `${rule.uid}.md`), 'utf8');
    expect(page).toContain(rule.title);
    expect(page).toContain(rule.alert);
  });

  it.each(each)('%s names in its words only labels that its series have', (_, rule) => {
    const names = [...rule.summary.matchAll(/{{(\w+)}}/g)].map((match) => match[1]!).filter((name) => name !== 'value');
    const labels =
      rule.query.by ??
      [...(rule.query.expr ?? '').matchAll(/by \(([^)]*)\)/g)].flatMap((match) => match[1]!.split(/, ?/));
    const known = labels.map((label) => (label === 'process_pid' ? 'pid' : label));
    expect(names.filter((name) => !known.includes(name))).toEqual([]);
  });

  it.each(each)('%s is one query, one reduction, one comparison', (_, rule) => {
    const made = grafanaRule(rule) as {
      condition: string;
      data: Array<{ refId: string; datasourceUid: string; model: { expression?: string } }>;
    };
    expect(made.data.map(({ refId, datasourceUid }) => [refId, datasourceUid])).toEqual([
      ['A', PROVISIONED_UID],
      ['B', '__expr__'],
      ['C', '__expr__'],
    ]);
    expect(made.data.map(({ model }) => model.expression)).toEqual([undefined, 'A', 'B']);
    expect(made.condition).toBe('C');
  });
});

describe('generated files', () => {
  it('are what is committed', () => {
    expect(drifted(ROOT)).toEqual([]);
  });

  it('hold nothing that Grafana could take for an environment variable', () => {
    const text = generated().get('provisioning/alerting/pscope-rules.yaml')!;
    expect(text).not.toContain('$');
    const file = parse(text) as { groups: Array<{ rules: Array<{ annotations: { summary: string } }> }> };
    expect(file.groups[0]!.rules[0]!.annotations.summary).toContain('P{{ .Labels.p }} of');
  });

  it('provision the data source that the alert rules ask', () => {
    const file = parse(fs.readFileSync(path.join(ROOT, 'provisioning/datasources/pscope.yaml'), 'utf8')) as {
      datasources: Array<{ uid: string; type: string }>;
    };
    expect(file.datasources).toMatchObject([{ uid: PROVISIONED_UID, type: BOARD_DATASOURCE.type }]);
  });
});

describe('place', () => {
  const panel = (id: number, w: number, h: number): { build: () => Panel } => ({
    build: () => ({ type: 'text', id, gridPos: { x: 0, y: 0, w, h } }),
  });
  const positions = (placed: Array<Panel | RowPanel>): Array<[number | undefined, number, number]> =>
    placed.map(({ id, gridPos }) => [id, gridPos!.x, gridPos!.y]);

  it('sets panels side by side and goes on below when the width is used up', () => {
    expect(positions(place([{ columns: [[panel(1, 12, 4), panel(2, 12, 6), panel(3, 8, 4)]] }]))).toEqual([
      [1, 0, 0],
      [2, 12, 0],
      [3, 0, 6],
    ]);
  });

  it('fills columns from the top and starts the next section below the longest', () => {
    expect(
      positions(
        place([
          { columns: [[panel(1, 16, 4), panel(2, 16, 4)], [panel(3, 8, 5)]] },
          { title: 'Next', id: 9, columns: [[panel(4, 24, 4)]] },
        ])
      )
    ).toEqual([
      [1, 0, 0],
      [2, 0, 4],
      [3, 16, 0],
      [9, 0, 8],
      [4, 0, 9],
    ]);
  });

  it('puts the panels of a folded row inside it', () => {
    const [row, next] = place([
      { title: 'Folded', id: 9, collapsed: true, columns: [[panel(1, 24, 4)]] },
      { title: 'Next', id: 10, columns: [] },
    ]);
    expect(row).toMatchObject({ type: 'row', collapsed: true, panels: [{ id: 1 }] });
    expect(next!.gridPos!.y).toBe(1);
  });
});
