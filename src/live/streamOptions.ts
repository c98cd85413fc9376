import { StreamingFrameAction, type StreamingFrameOptions } from '@grafana/data';
import type { DataSourceWithBackend } from '@grafana/runtime';

import { DEFAULT_RATE_HZ } from '../query/model';

/** No panel keeps more rows than this: 64 Ps × 20 000 rows are 10 MB. */
const MAX_ROWS = 20_000;

/**
 * How many rows a panel that streams through Grafana Live keeps: all the range holds at the full rate, where Grafana's
 * own default of one row a pixel would forget the start of the range after a few minutes.
 */
export const streamOptions: DataSourceWithBackend['streamOptionsProvider'] = (
  request
): Partial<StreamingFrameOptions> => {
  const rangeMs = request.range.to.valueOf() - request.range.from.valueOf();
  const rows = Math.ceil((rangeMs / 1000) * DEFAULT_RATE_HZ) + (request.maxDataPoints ?? 0);
  return {
    action: StreamingFrameAction.Append,
    maxLength: Math.min(MAX_ROWS, Math.max(rows, request.maxDataPoints ?? 0)),
    ...(request.rangeRaw?.to === 'now' ? { maxDelta: rangeMs } : {}),
  };
};
