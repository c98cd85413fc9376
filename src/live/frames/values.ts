import { DataFrameType, FieldType, type DataFrame, type Field, type Labels } from '@grafana/data';

import type { CompleteQuery } from '../../query/defaults';
import { FEWEST_CELLS_OF_LANES } from '../../query/drawableHeatmaps';
import type { Update } from '../hub';
import type { Matcher } from '../selector';
import { millis } from '../time';
import { read } from './measure';
import { legendName, rowNames } from './names';
import { isShare, valueConfig } from './style';
import { labelOf, LiveTable, type Row, type Table } from './table';
import type { Window } from './timeline';

/** The lanes of a heatmap, or the lines of a series query, from history and the totals of a stream. */
export class LiveValues {
  private readonly table: LiveTable;
  private readonly stepMs: number;

  constructor(
    private readonly query: CompleteQuery,
    private readonly matcher: Matcher,
    { windowMs, maxPoints }: Window
  ) {
    // Whole milliseconds: Grafana takes two points further apart than the interval it is told for the edges of a gap.
    this.stepMs = Math.ceil(Math.max(1000 / query.rateHz, windowMs / maxPoints));
    this.table = new LiveTable({
      by: query.kind === 'heatmap' ? ['host', 'process', 'pid', 'runtime', 'p'] : query.by,
      aggregation: query.aggregation ?? 'sum',
      stepMs: this.stepMs,
      windowMs,
      most: isShare(query.metric) && query.aggregation !== 'sum' ? 1 : Infinity,
      smooth: query.kind === 'series',
    });
  }

  /** Takes over the backend's frames: one wide frame, or one frame for each series. */
  seed(frames: readonly DataFrame[]) {
    for (const frame of frames) {
      const time = frame.fields.find((field) => field.type === FieldType.time);
      if (!time) {
        continue;
      }
      const stepMs = time.values.length > 1 ? time.values[1] - time.values[0] : 1000;
      for (const field of frame.fields) {
        if (field.type === FieldType.number) {
          this.table.seed(this.ownLabels(field.labels ?? {}), time.values, field.values, stepMs);
        }
      }
    }
  }

  /** Adds what a message of an instant says. */
  apply(atUnixNano: bigint, updates: readonly Update[]) {
    for (const { target, news } of updates) {
      if (this.matcher.target(target)) {
        this.table.add(millis(atUnixNano), read(this.query, target, news, this.matcher.p));
      }
    }
  }

  /** The frames up to an instant, Unix milliseconds. */
  frames(nowMs: number): DataFrame[] {
    const table = this.table.table(nowMs);
    if (this.query.kind !== 'heatmap') {
      return this.series(table);
    }
    // Without a frame Grafana's heatmap says "No data".
    return table.rows.length * table.times.length < FEWEST_CELLS_OF_LANES ? [] : [this.heatmap(table)];
  }

  private heatmap({ times, rows }: Table): DataFrame {
    const names = this.names(rows);
    return {
      refId: this.query.refId,
      meta: { type: DataFrameType.HeatmapRows, typeVersion: [0, 1], preferredVisualisationPluginId: 'heatmap' },
      fields: [this.time(times), ...rows.map((row, i) => this.field(row, names[i]))],
      length: times.length,
    };
  }

  private series({ times, rows }: Table): DataFrame[] {
    const names = this.names(rows);
    return rows.map((row, i) => ({
      refId: this.query.refId,
      meta: { type: DataFrameType.TimeSeriesMulti, typeVersion: [0, 1], preferredVisualisationType: 'graph' },
      fields: [this.time(times), this.field(row, names[i])],
      length: times.length,
    }));
  }

  private names(rows: readonly Row[]): string[] {
    const { legend, metric, kind } = this.query;
    const labels = rows.map((row) => row.labels);
    return legend && kind === 'series' ? labels.map((l) => legendName(legend, l)) : rowNames(labels, metric);
  }

  private time(times: number[]): Field {
    return { name: 'time', type: FieldType.time, config: { interval: this.stepMs }, values: times };
  }

  private field({ labels, values }: Row, displayNameFromDS: string | undefined): Field {
    const { metric } = this.query;
    return {
      name: metric,
      type: FieldType.number,
      labels,
      config: { ...valueConfig(metric), displayNameFromDS },
      values,
    };
  }

  /** The labels by which rows are told apart, in one order; a field of history may carry more. */
  private ownLabels(labels: Labels): Labels {
    const by = this.query.kind === 'heatmap' ? (['host', 'process', 'pid', 'runtime', 'p'] as const) : this.query.by;
    const own: Labels = {};
    for (const dimension of by) {
      const label = labelOf(dimension);
      const value = labels[label];
      if (value !== undefined && value !== '') {
        own[label] = value;
      }
    }
    return own;
  }
}
