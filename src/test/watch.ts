import { create, type MessageInitShape } from '@bufbuild/protobuf';

import {
  PNowSchema,
  PState,
  TargetSchema,
  TargetUpdateSchema,
  ThreadState,
  TransitionBatchSchema,
  WatchResponseSchema,
  type PNow,
  type Target,
  type TargetUpdate,
  type WatchResponse,
} from '../gen/pscope/v1/scope_pb';

/** Messages as an agent sends them, for tests. Times are Unix milliseconds. */

const NS = 1_000_000;

export function target(process = 'api', pid = 7): Target {
  return create(TargetSchema, { key: { pid, startTime: BigInt(1) }, host: 'web-1', process, gomaxprocs: 2 });
}

/** A P that has run for `runningMs` and idled for `idleMs`. */
export function p(
  index: number,
  runningMs: number,
  idleMs: number,
  more: MessageInitShape<typeof PNowSchema> = {}
): PNow {
  return create(PNowSchema, {
    p: index,
    state: PState.RUNNING,
    threadState: ThreadState.RUNNING,
    stateNanos: [0, idleMs, runningMs, 0, 0, 0, 0].map((ms) => BigInt(ms * NS)),
    threadNanos: [0, idleMs, runningMs, 0, 0, 0, 0].map((ms) => BigInt(ms * NS)),
    runqDepth: 0,
    ...more,
  });
}

export function update(of: Target, ps: PNow[], more: MessageInitShape<typeof TargetUpdateSchema> = {}): TargetUpdate {
  return create(TargetUpdateSchema, { target: of, ps, ...more });
}

export function message(
  seq: number,
  atMs: number,
  targets: TargetUpdate[],
  more: MessageInitShape<typeof WatchResponseSchema> = {}
): WatchResponse {
  return create(WatchResponseSchema, { seq: BigInt(seq), atUnixNano: BigInt(atMs * NS), targets, ...more });
}

/** Transitions of one P: [start, end, state, thread state]. */
export function transitions(index: number, intervals: Array<[number, number, PState, ThreadState]>) {
  const base = intervals[0]?.[0] ?? 0;
  let at = base;
  return create(TransitionBatchSchema, {
    p: index,
    baseUnixNano: BigInt(base * NS),
    code: intervals.map(([, , state, thread]) => (state << 4) | (thread << 8)),
    gapNanos: intervals.map(([start, end]) => {
      const gap = start - at;
      at = end;
      return BigInt(Math.round(gap * NS));
    }),
    durationNanos: intervals.map(([start, end]) => BigInt(Math.round((end - start) * NS))),
  });
}
