import type { PNow, Target, TargetUpdate } from '../../gen/pscope/v1/scope_pb';
import type { CompleteQuery } from '../../query/defaults';
import {
  BUSY_STATES,
  P_STATE_NUMBERS,
  P_STATES,
  SUSPENDED_STATES,
  THREAD_STATE_NUMBERS,
  THREAD_STATES,
} from '../../query/model';

/** One number read from a message, with what tells it from the others. */
export interface Reading {
  labels: Record<string, string>;
  /**
   * `total`: milliseconds since the target was first seen, of which the share is wanted. `gauge`: a value at this
   * instant.
   */
  type: 'total' | 'gauge';
  value: number;
}

const MS = 1e6;

/**
 * Reads the numbers a query's metric is made of: one for each P or target, and one for each state if the query keeps
 * them apart.
 */
export function read(query: CompleteQuery, target: Target, news: TargetUpdate, p: (p: number) => boolean): Reading[] {
  const labels = targetLabels(target);
  switch (query.metric) {
    case 'global_runq':
      return news.globalRunqDepth < 0 ? [] : [{ labels, type: 'gauge', value: news.globalRunqDepth }];
    case 'gomaxprocs':
      return target.gomaxprocs > 0 ? [{ labels, type: 'gauge', value: target.gomaxprocs }] : [];
    default:
      return news.ps.filter((now) => p(now.p)).flatMap((now) => readP(query, { ...labels, p: String(now.p) }, now));
  }
}

function readP(query: CompleteQuery, labels: Record<string, string>, now: PNow): Reading[] {
  switch (query.metric) {
    case 'state':
      return shares(query, 'state', labels, chosen(query.states, P_STATES), (s) => now.stateNanos[P_STATE_NUMBERS[s]]);
    case 'thread':
      return shares(
        query,
        'thread_state',
        labels,
        chosen(query.threadStates, THREAD_STATES),
        (s) => now.threadNanos[THREAD_STATE_NUMBERS[s]]
      );
    case 'busy':
      return [{ labels, type: 'total', value: busyNanos(now) / MS }];
    case 'd_share':
      return [{ labels, type: 'total', value: Number(now.uninterruptibleNanos) / MS }];
    case 'runq':
      return now.runqDepth < 0 ? [] : [{ labels, type: 'gauge', value: now.runqDepth }];
    default:
      return [];
  }
}

/**
 * How long the P has had work in hand while its thread was neither stopped nor frozen: what a thread is suspended in is
 * such time only.
 */
function busyNanos(now: PNow): number {
  const sum = (nanos: readonly bigint[], numbers: readonly number[]): number =>
    numbers.reduce((all, number) => all + Number(nanos[number] ?? 0), 0);
  const work = BUSY_STATES.map((state) => P_STATE_NUMBERS[state]);
  const suspended = SUSPENDED_STATES.map((state) => THREAD_STATE_NUMBERS[state]);
  return Math.max(0, sum(now.stateNanos, work) - sum(now.threadNanos, suspended));
}

function chosen<T>(states: readonly T[], all: readonly T[]): readonly T[] {
  return states.length ? states : all;
}

/** The time in each state, or in all of them together when the query does not keep them apart. */
function shares<T extends string>(
  query: CompleteQuery,
  dimension: 'state' | 'thread_state',
  labels: Record<string, string>,
  states: readonly T[],
  nanos: (state: T) => bigint | undefined
): Reading[] {
  const each = states.map((state): Reading => ({
    labels: { ...labels, [dimension]: state },
    type: 'total',
    value: Number(nanos(state) ?? 0) / MS,
  }));
  if (query.kind === 'series' && query.by.includes(dimension)) {
    return each;
  }
  return [{ labels, type: 'total', value: each.reduce((sum, reading) => sum + reading.value, 0) }];
}

/** The labels of a target's series, named as in the metrics. */
export function targetLabels(target: Target): Record<string, string> {
  const labels: Record<string, string> = {
    host: target.host,
    process: target.process,
    process_pid: String(target.key?.pid ?? ''),
  };
  if (target.key?.runtime) {
    labels.runtime = target.key.runtime;
  }
  if (target.container) {
    labels.container = target.container;
  }
  if (target.pod) {
    labels.pod = target.pod;
  }
  return labels;
}
