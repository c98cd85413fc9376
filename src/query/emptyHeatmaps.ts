import { DataFrameType, FieldType, type DataFrame, type DataQueryResponse } from '@grafana/data';

const HEATMAPS: readonly unknown[] = [DataFrameType.HeatmapRows, DataFrameType.HeatmapCells];

/**
 * Grafana's heatmap panel fails on lanes without any, and draws bare axes for buckets without any. Without such a frame it says what its
 * board has for no data. A stream adds frames as soon as there is something. What the frame had to warn of becomes an error of the answer,
 * since there is nothing left to pin it to.
 */
export function withoutEmptyHeatmaps(response: DataQueryResponse): DataQueryResponse {
  const frames = response.data as DataFrame[];
  const empty = frames.filter(isEmptyHeatmap);
  if (empty.length === 0) {
    return response;
  }
  const errors = empty.flatMap(({ refId, meta }) =>
    (meta?.notices ?? [])
      .filter(({ severity }) => severity !== 'info')
      .map(({ text }) => ({ message: text, ...(refId === undefined ? {} : { refId }) }))
  );
  return {
    ...response,
    data: frames.filter((frame) => !empty.includes(frame)),
    ...(errors.length ? { errors: [...(response.errors ?? []), ...errors] } : {}),
  };
}

function isEmptyHeatmap({ meta, fields }: DataFrame): boolean {
  return (
    HEATMAPS.includes(meta?.type) && !fields.some(({ type, values }) => type === FieldType.number && values.length)
  );
}
