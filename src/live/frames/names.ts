import type { Labels } from '@grafana/data';

import { NAME_LABELS, NAME_PREFIXES, ORDER_LABELS, P_STATES, THREAD_STATES } from '../../query/model';

// The backend names and orders the rows of history by the same rules: pkg/plugin/frames/names.go. Both are tested with
// tools/contract/cases/names.json.

/**
 * Gives each set of labels the shortest name that tells it from the others: `P3`, `worker P3` where there are several
 * processes. `alone` names a set without labels. Equal sets get equal names.
 */
export function rowNames(rows: readonly Labels[], alone: string): string[] {
  const common = commonLabels(rows);
  for (const prefix of NAME_PREFIXES) {
    // What all have in common tells nobody apart; beside a heatmap there is no room for it.
    const telling = rows.length > 1 ? prefix.filter((label) => !common.has(label)) : prefix;
    const names = rows.map((labels) => nameOf(labels, telling));
    if (areClear(names, rows)) {
      return names;
    }
  }
  // Labels of the user's own, or none at all.
  return rows.map((labels) => {
    const rest = Object.keys(labels)
      .sort(compareText)
      .filter((label) => !common.has(label))
      .map((label) => word(label, labels[label]));
    return rest.filter(Boolean).join(' ') || alone;
  });
}

/** Whether every row has a name and no two different ones have the same. */
function areClear(names: readonly string[], rows: readonly Labels[]): boolean {
  const seen = new Map<string, string>();
  return names.every((name, i) => {
    const text = labelsText(rows[i] ?? {});
    const other = seen.get(name);
    seen.set(name, text);
    return name !== '' && (other === undefined || other === text);
  });
}

function nameOf(labels: Labels, prefix: readonly string[]): string {
  return [...prefix.map((label) => labels[label]), ...NAME_LABELS.map((label) => word(label, labels[label]))]
    .filter(Boolean)
    .join(' ');
}

function word(label: string, value: string | undefined): string | undefined {
  if (!value) {
    return undefined;
  }
  switch (label) {
    case 'p':
      return `P${value}`;
    case 'cpu':
      return `CPU ${value}`;
    case 'to':
      return `→ ${value}`;
    default:
      return value;
  }
}

/** The labels that all rows have with the same value. */
function commonLabels([first, ...others]: readonly Labels[]): Set<string> {
  const labels = Object.keys(first ?? {});
  return new Set(labels.filter((label) => others.every((other) => other[label] === first?.[label])));
}

/** Fills `{{label}}` in a legend template. A label a row does not have becomes nothing. */
export function legendName(template: string, labels: Labels): string {
  return template
    .replace(/\{\{\s*([A-Za-z_]\w*)\s*\}\}/g, (_, label: string) =>
      label === 'pid' ? labels.pid || labels.process_pid || '' : (labels[label] ?? '')
    )
    .trim();
}

/**
 * Orders rows by host, process, pid and runtime, then P and CPU as numbers, then states as legends show them, then all
 * else.
 */
export function compareLabels(a: Labels, b: Labels): number {
  for (const label of ORDER_LABELS) {
    const order = compareNumbers(a[label] ?? '', b[label] ?? '');
    if (order !== 0) {
      return order;
    }
  }
  return (
    rank(P_STATES, a.state) - rank(P_STATES, b.state) ||
    rank(THREAD_STATES, a.thread_state) - rank(THREAD_STATES, b.thread_state) ||
    compareText(labelsText(a), labelsText(b))
  );
}

function rank(states: readonly string[], state: string | undefined): number {
  return state === undefined ? -1 : states.indexOf(state);
}

/** Compares as numbers where both are, else as text. */
function compareNumbers(a: string, b: string): number {
  return isWhole(a) && isWhole(b) ? Number(a) - Number(b) : compareText(a, b);
}

const isWhole = (text: string): boolean => /^[+-]?\d+$/.test(text);

/** By code points, whatever the browser's language. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Labels in one order, as the backend writes them. */
function labelsText(labels: Labels): string {
  return Object.keys(labels)
    .sort(compareText)
    .map((label) => `${label}=${labels[label]}`)
    .join(', ');
}
