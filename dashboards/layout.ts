// The SDK calls this form of a board deprecated in favour of v2; Grafana 12 reads only this one from provisioned files.
/* eslint-disable @typescript-eslint/no-deprecated */
import {
  AnnotationQueryBuilder,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  RowBuilder,
  type Dashboard,
  type Panel,
  type RowPanel,
} from '@grafana/grafana-foundation-sdk/dashboard';

/** The grid of a Grafana board is this many columns wide. */
export const GRID_WIDTH = 24;

/** The tag by which the boards find one another. */
export const BOARD_TAG = 'p-scope';

interface Built<T> {
  build: () => T;
}

/** A titled part of a board: panels are set side by side until the width is used up, then below. */
export interface Section {
  /** None: the board's first screen, without a heading. */
  title?: string;
  /** Stable, as panel ids are. */
  id?: number;
  /** Folded until somebody opens it: its queries are not asked before that. */
  collapsed?: boolean;
  /** Columns of panels that stand beside one another, each filled from the top. */
  columns: Array<Array<Built<Panel>>>;
}

/** Sets the sections of a board below one another and gives every panel its place. */
export function place(sections: Section[]): Array<Panel | RowPanel> {
  const placed: Array<Panel | RowPanel> = [];
  let y = 0;
  for (const section of sections) {
    let row: RowPanel | undefined;
    if (section.title !== undefined && section.id !== undefined) {
      row = new RowBuilder(section.title)
        .id(section.id)
        .collapsed(section.collapsed ?? false)
        .build();
      row.gridPos = { x: 0, y, w: GRID_WIDTH, h: 1 };
      placed.push(row);
      y += 1;
    }
    const { panels, bottom } = placeColumns(section.columns, y);
    if (row?.collapsed) {
      row.panels = panels;
    } else {
      placed.push(...panels);
      y = bottom;
    }
  }
  return placed;
}

function placeColumns(columns: Section['columns'], top: number): { panels: Panel[]; bottom: number } {
  const panels: Panel[] = [];
  let left = 0;
  let bottom = top;
  for (const column of columns) {
    let width = 0;
    let x = left;
    let y = top;
    let lineHeight = 0;
    const built = column.map((builder) => builder.build());
    // A column is as wide as its widest panel; narrower ones share a line.
    const columnWidth = Math.max(...built.map((panel) => panel.gridPos?.w ?? 0), columns.length === 1 ? GRID_WIDTH : 0);
    for (const panel of built) {
      const { w, h } = panel.gridPos ?? { w: GRID_WIDTH, h: 8 };
      if (x + w > left + columnWidth) {
        x = left;
        y += lineHeight;
        lineHeight = 0;
      }
      panel.gridPos = { x, y, w, h };
      x += w;
      lineHeight = Math.max(lineHeight, h);
      width = Math.max(width, x - left);
      panels.push(panel);
    }
    left += width;
    bottom = Math.max(bottom, y + lineHeight);
  }
  return { panels, bottom };
}

/** What all boards have: dark and light alike, a crosshair through every panel, links to the other boards. */
export function board(spec: {
  uid: string;
  title: string;
  description: string;
  from: string;
  refresh: string;
}): DashboardBuilder {
  return new DashboardBuilder(spec.title)
    .uid(spec.uid)
    .description(spec.description)
    .tags([BOARD_TAG])
    .timezone('browser')
    .time({ from: spec.from, to: 'now' })
    .refresh(spec.refresh)
    .tooltip(DashboardCursorSync.Crosshair)
    .editable()
    .annotation(
      // Switched off at first: it draws every change of state of every rule that links to a panel, for all processes
      // alike.
      new AnnotationQueryBuilder()
        .name('Annotations & Alerts')
        .builtIn(1)
        .datasource({ type: 'grafana', uid: '-- Grafana --' })
        .enable(false)
        .iconColor('rgba(0, 211, 255, 1)')
        .type('dashboard')
    )
    .link(
      new DashboardLinkBuilder('P-Scope boards')
        .type(DashboardLinkType.Dashboards)
        .tags([BOARD_TAG])
        .asDropdown(true)
        .includeVars(true)
        .keepTime(true)
    );
}

/** A board as provisioning/dashboards holds it. */
export type Board = Dashboard;

/** Fills in the panels of a board. */
export function finish(builder: DashboardBuilder, sections: Section[]): Board {
  const built = builder.build();
  built.panels = place(sections);
  return built;
}
