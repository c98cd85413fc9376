import { DataFrameType, FieldType, type DataFrame, type DataQueryResponse } from '@grafana/data';

/**
 * Grafana's heatmap panel fails on lanes of less than two cells: it leaves out the colours of such a frame
 * (getDenseHeatmapData in its fields.ts), and keeps drawing without them whatever a stream adds, because the plot is
 * set up once for a structure of frames.
 */
export const FEWEST_CELLS_OF_LANES = 2;

/** Buckets are drawn from the first on; without any there are bare axes. */
const FEWEST_CELLS_OF_BUCKETS = 1;

/**
 * Leaves out the heatmaps that Grafana's panel can't draw; it then says what its board has for no data. A stream adds
 * frames as soon as there is enough. What such a frame had to warn of becomes an error of the answer, since there is
 * nothing left to pin it to.
 */
export function drawableHeatmaps(response: DataQueryResponse): DataQueryResponse {
  const frames = response.data as DataFrame[];
  const small = frames.filter(isTooSmall);
  if (small.length === 0) {
    return response;
  }
  const errors = small.flatMap(({ refId, meta }) =>
    (meta?.notices ?? [])
      .filter(({ severity }) => severity !== 'info')
      .map(({ text }) => ({ message: text, ...(refId === undefined ? {} : { refId }) }))
  );
  return {
    ...response,
    data: frames.filter((frame) => !small.includes(frame)),
    ...(errors.length ? { errors: [...(response.errors ?? []), ...errors] } : {}),
  };
}

function isTooSmall({ meta, fields }: DataFrame): boolean {
  const numbers = fields.filter(({ type }) => type === FieldType.number);
  switch (meta?.type) {
    case DataFrameType.HeatmapRows:
      return numbers.reduce((cells, { values }) => cells + values.length, 0) < FEWEST_CELLS_OF_LANES;
    case DataFrameType.HeatmapCells:
      return !numbers.some(({ values }) => values.length >= FEWEST_CELLS_OF_BUCKETS);
    default:
      return false;
  }
}
