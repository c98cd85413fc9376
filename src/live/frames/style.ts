import type { FieldConfig } from '@grafana/data';

import {
  COVERING_STATES,
  METRIC_SPECS,
  P_STATE_COLORS,
  P_STATE_NUMBERS,
  P_STATES,
  RARE_STATES,
  RARE_THREAD_STATES,
  THREAD_STATE_COLORS,
  THREAD_STATE_NUMBERS,
  THREAD_STATES,
  type Metric,
} from '../../query/model';

/** Whether a metric's values are shares of time. */
export const isShare = (metric: Metric): boolean => METRIC_SPECS[metric].unit === 'percentunit';

/** How a metric's values are shown. */
export function valueConfig(metric: Metric): FieldConfig {
  return { unit: METRIC_SPECS[metric].unit };
}

/** What a timeline paints, as Grafana's enum: the index of a word is its value. */
export interface Palette {
  text: string[];
  color: string[];
  /** The value for a P in a state, carried by a thread in a state; both by their numbers in the protocol. */
  shade: (state: number, threadState: number) => number | undefined;
  /** Values that must stay visible however short they are. */
  rare: ReadonlySet<number>;
}

/** P states, and over them uninterruptible sleep and being stopped or frozen. */
export function statePalette(): Palette {
  const text = [...P_STATES, ...COVERING_STATES];
  const shades = byNumber(P_STATES, P_STATE_NUMBERS);
  const covering = new Map(COVERING_STATES.map((s) => [THREAD_STATE_NUMBERS[s], text.indexOf(s)]));
  return {
    text,
    color: [...P_STATES.map((s) => P_STATE_COLORS[s]), ...COVERING_STATES.map((s) => THREAD_STATE_COLORS[s])],
    shade: (state, threadState) => covering.get(threadState) ?? shades.get(state),
    rare: new Set([...RARE_STATES, ...RARE_THREAD_STATES].map((s) => text.indexOf(s))),
  };
}

/** Thread states. */
export function threadPalette(): Palette {
  const shades = byNumber(THREAD_STATES, THREAD_STATE_NUMBERS);
  return {
    text: [...THREAD_STATES],
    color: THREAD_STATES.map((s) => THREAD_STATE_COLORS[s]),
    shade: (_, threadState) => shades.get(threadState),
    rare: new Set(RARE_THREAD_STATES.map((s) => THREAD_STATES.indexOf(s))),
  };
}

function byNumber<T extends string>(words: readonly T[], numbers: Record<T, number>): Map<number, number> {
  return new Map(words.map((word, i) => [numbers[word], i]));
}
