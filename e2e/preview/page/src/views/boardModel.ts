import type { DataSourceRef, FieldConfigSource, DataTransformerConfig } from '@grafana/data';
import type { DataQuery } from '@grafana/schema';

/** The parts of a dashboard's JSON that the preview draws. */
export interface BoardJson {
  uid: string;
  title: string;
  description?: string;
  time?: { from: string; to: string };
  refresh?: string;
  templating?: { list: VariableJson[] };
  annotations?: { list: AnnotationJson[] };
  panels: PanelJson[];
}

export interface VariableJson {
  name: string;
  label?: string;
  type: string;
  query?: DataQuery | string;
  includeAll?: boolean;
  allValue?: string;
  multi?: boolean;
  hide?: number;
  current?: { value?: string | string[] };
}

export interface AnnotationJson {
  name: string;
  enable: boolean;
  iconColor: string;
  datasource?: DataSourceRef;
  target?: DataQuery;
  filter?: { exclude?: boolean; ids: number[] };
}

export interface PanelJson {
  id: number;
  type: string;
  title: string;
  description?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  datasource?: DataSourceRef;
  targets?: DataQuery[];
  options?: Record<string, unknown>;
  fieldConfig?: FieldConfigSource;
  transformations?: DataTransformerConfig[];
  panels?: PanelJson[];
  collapsed?: boolean;
  maxDataPoints?: number;
}

/** The panels of a board in reading order, those inside collapsed rows after their row. */
export function panelsOf(board: BoardJson): PanelJson[] {
  return board.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
}
