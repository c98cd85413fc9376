import type { FieldConfig, Labels } from '@grafana/data';

import { P_STATE_COLORS, THREAD_STATE_COLORS } from '../../colors';
import { SUSPENDED_STATES } from '../../query/defaults';
import { P_STATES, THREAD_STATES, type Metric, type ThreadState } from '../../query/model';
import { P_STATE_NUMBERS, THREAD_STATE_NUMBERS } from './measure';

/** Metrics that are shares of time. */
export const SHARES: readonly Metric[] = ['state', 'thread', 'busy', 'd_share'];

/** How a metric's values are shown; units in Grafana's words, as the backend's frames have them. */
export function valueConfig(metric: Metric): FieldConfig {
  return { unit: SHARES.includes(metric) ? 'percentunit' : 'short' };
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

const D: ThreadState = 'uninterruptible';

/**
 * Thread states that are painted over P states: a P whose thread is in D, stopped or frozen still counts as running,
 * which is what hides
 * the trouble everywhere else.
 */
const COVERING: readonly ThreadState[] = [D, ...SUSPENDED_STATES];

/** P states, and over them uninterruptible sleep and being stopped or frozen. */
export function statePalette(): Palette {
  const text = [...P_STATES, ...COVERING];
  const shades = byNumber(P_STATES, P_STATE_NUMBERS);
  const covering = new Map(COVERING.map((s) => [THREAD_STATE_NUMBERS[s], text.indexOf(s)]));
  return {
    text,
    color: [...P_STATES.map((s) => P_STATE_COLORS[s]), ...COVERING.map((s) => THREAD_STATE_COLORS[s])],
    shade: (state, threadState) => covering.get(threadState) ?? shades.get(state),
    rare: new Set([text.indexOf('gcstop'), text.indexOf(D)]),
  };
}

/** Thread states. */
export function threadPalette(): Palette {
  const shades = byNumber(THREAD_STATES, THREAD_STATE_NUMBERS);
  return {
    text: [...THREAD_STATES],
    color: THREAD_STATES.map((s) => THREAD_STATE_COLORS[s]),
    shade: (_, threadState) => shades.get(threadState),
    rare: new Set([THREAD_STATES.indexOf(D)]),
  };
}

function byNumber<T extends string>(words: readonly T[], numbers: Record<T, number>): Map<number, number> {
  return new Map(words.map((word, i) => [numbers[word], i]));
}

/** Labels that name a row within its process. */
const SPECIFIC = ['runtime', 'p', 'cpu', 'state', 'thread_state', 'reason'];

/** What may stand in front of a name, the shortest first. */
const PREFIXES = [[], ['process'], ['process', 'process_pid'], ['host', 'process'], ['host', 'process', 'process_pid']];

/**
 * Gives each set of labels the shortest name that tells it from the others: `P3`, `worker P3` where there are several
 * processes. The
 * backend names its rows by the same rule.
 */
export function rowNames(rows: readonly Labels[], alone: string): string[] {
  let names: string[] = [];
  for (const prefix of PREFIXES) {
    // What all have in common tells nobody apart; beside a heatmap there is no room for it.
    const telling = prefix.filter(
      (label) => rows.length < 2 || rows.some((labels) => labels[label] !== rows[0]?.[label])
    );
    names = rows.map((labels) =>
      [...telling.map((label) => labels[label]), ...SPECIFIC.map((label) => word(label, labels[label]))]
        .filter(Boolean)
        .join(' ')
    );
    if (new Set(names).size === names.length && !names.includes('')) {
      return names;
    }
  }
  return names.map((name) => name || alone);
}

function word(label: string, value: string | undefined): string | undefined {
  return value && label === 'p' ? `P${value}` : value;
}

/** Fills `{{label}}` in a legend template. A label a row does not have becomes nothing. */
export function legendName(template: string, labels: Labels): string {
  return template
    .replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label: string) => labels[label === 'pid' ? 'process_pid' : label] ?? '')
    .trim();
}
