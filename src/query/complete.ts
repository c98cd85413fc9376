import { METRIC_FAMILIES, P_STATES, SOURCES, TARGET_LABELS, THREAD_STATES } from './model';

/** The metrics agents have. */
const METRIC_NAMES = METRIC_FAMILIES.map(({ name }) => name);

/** The labels by which a target is told from others come first, then those of the metrics. */
const TARGETS = TARGET_LABELS.slice(0, 3);
const LABELS = [
  ...new Set([...TARGETS, ...METRIC_FAMILIES.flatMap(({ labels }) => labels), ...TARGET_LABELS.slice(3), 'le']),
];

const FUNCTIONS = [
  ...['rate', 'increase', 'irate', 'delta', 'deriv', 'resets', 'changes'],
  ...['sum', 'avg', 'min', 'max', 'count', 'topk', 'bottomk', 'quantile', 'stddev', 'group'],
  ...['histogram_quantile', 'histogram_sum', 'histogram_count', 'histogram_avg', 'histogram_fraction'],
  ...['avg_over_time', 'min_over_time', 'max_over_time', 'sum_over_time', 'count_over_time', 'last_over_time'],
  ...['abs', 'ceil', 'floor', 'round', 'clamp_max', 'clamp_min', 'label_replace', 'label_join', 'absent', 'vector'],
];

const KEYWORDS = ['by', 'without', 'on', 'ignoring', 'group_left', 'group_right', 'and', 'or', 'unless', 'offset'];

const DURATIONS = ['$__rate_interval', '$__interval', '$__range', '1m', '5m', '1h'];

/** Values that are known without asking. */
const VALUES: Record<string, readonly string[]> = {
  state: P_STATES,
  from: P_STATES,
  to: P_STATES,
  thread_state: THREAD_STATES,
  source: SOURCES,
};

/** Words that may stand where the caret is. */
export interface Completions {
  /** Where the word begins that one of the options replaces; it ends at the caret. */
  from: number;
  options: string[];
  /** The label whose values are wanted, where the agents know them. */
  valuesOf?: string;
}

/** The most options a list shows. */
export const MOST_OPTIONS = 8;

/**
 * What can be written at the caret: metrics and functions, labels in braces and groupings, values in quotes, durations
 * in brackets.
 */
export function completions(text: string, caret: number, known: Record<string, readonly string[]> = {}): Completions {
  const before = text.slice(0, caret);
  const value = /\{[^{}]*?(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)$/.exec(before);
  if (value) {
    const [, label = '', written = ''] = value;
    // An alternative of a regular expression is completed by itself.
    const word = written.slice(written.lastIndexOf('|') + 1);
    return {
      from: caret - word.length,
      options: matching(word, VALUES[label] ?? known[label] ?? []),
      ...(VALUES[label] ? {} : { valuesOf: label }),
    };
  }
  const word = /[\w$:]*$/.exec(before)?.[0] ?? '';
  const start = before.slice(0, before.length - word.length);
  const done = (words: readonly string[], always = false): Completions => ({
    from: caret - word.length,
    options: word || always ? matching(word, words) : [],
  });
  if (/\[\s*$/.test(start)) {
    return done(DURATIONS, true);
  }
  if (/\{(?:[^{}"]|"[^"]*")*$/.test(start)) {
    return /[{,]\s*$/.test(start) ? done(LABELS, true) : done([]);
  }
  if (/\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*$/.test(start)) {
    return done(LABELS, true);
  }
  return done([...METRIC_NAMES, ...FUNCTIONS, ...KEYWORDS]);
}

/** Words that begin as typed, then those that contain it; nothing that is already complete. */
function matching(word: string, words: readonly string[]): string[] {
  const typed = word.toLowerCase();
  const rank = (candidate: string) => candidate.toLowerCase().indexOf(typed);
  return words
    .filter((candidate) => candidate !== word && rank(candidate) >= 0)
    .sort((a, b) => Math.min(1, rank(a)) - Math.min(1, rank(b)))
    .slice(0, MOST_OPTIONS);
}
