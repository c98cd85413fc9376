import { DataFrameType, FieldType, type DataFrame, type DataQueryResponse } from '@grafana/data';

/** Grafana's heatmap panel fails on a frame of lanes that has none; without the frame it says what its board has for no data. */
export function withoutEmptyHeatmaps(response: DataQueryResponse): DataQueryResponse {
  const data = (response.data as DataFrame[]).filter(
    (frame) =>
      frame.meta?.type !== DataFrameType.HeatmapRows ||
      // Lanes may still come through the channel.
      frame.meta.channel !== undefined ||
      frame.fields.some((field) => field.type === FieldType.number)
  );
  return data.length === response.data.length ? response : { ...response, data };
}
