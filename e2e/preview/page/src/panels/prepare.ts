import {
  applyFieldOverrides,
  FieldColorModeId,
  FieldConfigOptionsRegistry,
  FieldType,
  getFieldDisplayName,
  getTimeField,
  reduceField,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
  type DataFrame,
  type DataTransformerInfo,
  type Field,
  type FieldConfigPropertyItem,
  type FieldConfigSource,
  type GrafanaTheme2,
  type TransformerRegistryItem,
} from '@grafana/data';
import { map, type Observable, of } from 'rxjs';

import type { PanelJson } from '../views/boardModel';

const NO_CONFIG: FieldConfigSource = { defaults: {}, overrides: [] };

/**
 * Panels that Grafana colours by thresholds when told nothing; the others take the colours of their palette in turn.
 */
const BY_VALUE = ['stat', 'table'];

/**
 * One row per frame: its labels, and the mean of its number as "Trend #A". Grafana keeps the whole course as well and
 * draws it.
 */
const timeSeriesTable: DataTransformerInfo = {
  id: 'timeSeriesTable',
  name: 'Time series to table',
  operator: () => (source) => source.pipe(map(trends)),
};

/**
 * Makes the transformations that P-Scope's boards use known to Grafana's data library. Once, before the first panel.
 */
export function registerTransformations(): void {
  const known: DataTransformerInfo[] = [
    timeSeriesTable,
    standardTransformers.mergeTransformer,
    standardTransformers.organizeFieldsTransformer,
    standardTransformers.sortByTransformer,
    standardTransformers.reduceTransformer,
    standardTransformers.labelsToFieldsTransformer,
    standardTransformers.filterFieldsByNameTransformer,
    standardTransformers.joinByFieldTransformer,
    standardTransformers.noopTransformer,
  ];
  standardTransformersRegistry.setInit(() =>
    known.map(
      (info): TransformerRegistryItem => ({
        id: info.id,
        name: info.name,
        transformation: () => Promise.resolve(info),
        editor: () => null,
        imageDark: '',
        imageLight: '',
      })
    )
  );
}

/** The panel's transformations applied. */
export function transformed(panel: PanelJson, frames: DataFrame[]): Observable<DataFrame[]> {
  const list = (panel.transformations ?? []).filter((t) => !t.disabled);
  return list.length ? transformDataFrame(list, frames) : of(frames);
}

/** The panel's units, names, colours, thresholds and overrides applied to its frames. */
export function configured(
  panel: PanelJson,
  frames: DataFrame[],
  theme: GrafanaTheme2,
  replace: (text: string) => string
): DataFrame[] {
  const { defaults, overrides } = panel.fieldConfig ?? NO_CONFIG;
  const color = defaults.color ?? { mode: BY_VALUE.includes(panel.type) ? FieldColorModeId.Thresholds : FieldColorModeId.PaletteClassic };
  const fieldConfig: FieldConfigSource = { defaults: { ...defaults, color }, overrides };
  return applyFieldOverrides({
    data: frames,
    fieldConfig,
    fieldConfigRegistry: registryFor(fieldConfig),
    replaceVariables: (text) => replace(text),
    theme,
    timeZone: 'browser',
  });
}

/** A registry of just the properties this configuration sets: Grafana's has each panel's full list. */
function registryFor({ defaults, overrides }: FieldConfigSource): FieldConfigOptionsRegistry {
  const ids = new Set<string>();
  for (const name of Object.keys(defaults)) {
    if (name !== 'custom') {
      ids.add(name);
    }
  }
  for (const name of Object.keys((defaults.custom ?? {}) as object)) {
    ids.add(`custom.${name}`);
  }
  for (const { properties } of overrides) {
    properties.forEach(({ id }) => ids.add(id));
  }
  return new FieldConfigOptionsRegistry(() =>
    [...ids].map((id): FieldConfigPropertyItem => {
      const isCustom = id.startsWith('custom.');
      return {
        id,
        name: id,
        path: isCustom ? id.slice('custom.'.length) : id,
        isCustom,
        editor: () => null,
        override: () => null,
        process: (value: unknown) => value,
        shouldApply: () => true,
      };
    })
  );
}

function trends(frames: DataFrame[]): DataFrame[] {
  const byRef = new Map<string, DataFrame[]>();
  for (const frame of frames) {
    const ref = frame.refId ?? 'A';
    byRef.set(ref, [...(byRef.get(ref) ?? []), frame]);
  }
  return [...byRef].map(([refId, list]) => {
    const values = list.flatMap((frame) => frame.fields.filter((f) => f.type === FieldType.number && getTimeField(frame).timeField));
    const labels = [...new Set(values.flatMap((f) => Object.keys(f.labels ?? {})))];
    const column = (name: string, type: FieldType, cells: unknown[]): Field => ({ name, type, config: {}, values: cells });
    return {
      refId,
      length: values.length,
      fields: [
        ...labels.map((label) => column(label, FieldType.string, values.map((f) => f.labels?.[label]))),
        column(`Trend #${refId}`, FieldType.number, values.map((field) => reduceField({ field, reducers: ['mean'] })['mean'])),
      ],
    };
  });
}

/** The time field and the number fields of a frame, or why they are missing. */
export function timeAndNumbers(frame: DataFrame): { time: Field<number>; numbers: Field<number | null>[] } | undefined {
  const { timeField } = getTimeField(frame);
  const numbers = frame.fields.filter((f) => f.type === FieldType.number);
  return timeField && numbers.length ? { time: timeField as Field<number>, numbers: numbers as Field<number | null>[] } : undefined;
}

export function nameOf(field: Field, frame: DataFrame, all: DataFrame[]): string {
  return getFieldDisplayName(field, frame, all);
}

/** Whether the frames hold any row. */
export function hasRows(frames: DataFrame[]): boolean {
  return frames.some((frame) => frame.length > 0 && frame.fields.length > 0);
}
