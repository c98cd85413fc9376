import {
  AGGREGATION_WORDS,
  DIMENSION_WORDS,
  EDITOR,
  EVENT_WORDS,
  KIND_SENTENCE,
  metricWords,
  SENTENCE,
  TARGET_WORDS,
} from '../labels';
import { complete, type CompleteQuery } from './defaults';
import { isCode, metricsOf, TARGET_FIELDS, type ScopeQuery, type TargetField } from './model';

/**
 * The query as one would say it: "Show P states of process api on host web-1 as a timeline". The editor starts with it;
 * a collapsed query row, the inspector and Explore's history show it.
 */
export function sentence(query: ScopeQuery): string {
  if (isCode(query)) {
    return query.expr?.trim() || SENTENCE.emptyCode;
  }
  const q = complete(query);
  const form = KIND_SENTENCE[q.kind];
  if (!form) {
    return SENTENCE.unknownKind(String(q.kind));
  }
  const main = [form.verb, form.subject === undefined ? metric(q) : subject(q, form.subject), targets(q), form.as];
  const ps = q.ps?.trim() && `${SENTENCE.ps} ${q.ps.trim()}`;
  return [main.filter(Boolean).join(' '), ps, grouping(q), q.live && SENTENCE.live].filter(Boolean).join(', ');
}

/** The metric and which of its states. */
function metric(q: CompleteQuery): string {
  const filter = q.metric === 'state' ? q.states : q.metric === 'thread' ? q.threadStates : [];
  const name = metricsOf(q.kind).includes(q.metric) ? metricWords(q.kind, q.metric)?.label : undefined;
  return `${withinSentence(name ?? q.metric)}${filter.length ? ` (${list(filter)})` : ''}`;
}

function subject(q: CompleteQuery, words: string): string {
  return q.kind === 'stops' && q.events?.length
    ? list(q.events.map((event) => withinSentence(EVENT_WORDS[event]?.label ?? event)))
    : words;
}

function grouping(q: CompleteQuery): string {
  if (q.kind !== 'series') {
    return '';
  }
  const by = q.by.map((d) => DIMENSION_WORDS[d] ?? d);
  const rest = q.aggregation ? (AGGREGATION_WORDS[q.aggregation] ?? q.aggregation) : EDITOR.percentile;
  return by.length ? SENTENCE.each(rest, list(by)) : rest;
}

/** Of which process, and where. */
function targets(q: CompleteQuery): string {
  const chosen = (field: TargetField) => q.target?.[field]?.trim();
  const some = TARGET_FIELDS.filter(chosen);
  // The frequency is the host's: which processes run there makes no difference.
  if (q.metric === 'cpu_frequency' && metricsOf(q.kind).includes(q.metric)) {
    return chosen('host') ? `${SENTENCE.ofHost} ${chosen('host')}` : SENTENCE.anyHost;
  }
  const parts = some.map((field) =>
    field === 'process' && q.kind === 'targets'
      ? `${SENTENCE.named} ${chosen(field)}`
      : `${TARGET_WORDS[field].label} ${chosen(field)}`
  );
  if (chosen('process') || q.kind === 'targets') {
    return parts.join(' ');
  }
  const standsForAll = some.length > 0 || (q.kind !== 'heatmap' && q.kind !== 'timeline');
  return [standsForAll ? SENTENCE.anyProcess : SENTENCE.busiest, ...parts].join(' ');
}

/** A label in the middle of a sentence; one such as D share or GOMAXPROCS keeps its capital. */
function withinSentence(label: string): string {
  return /^[A-Z][a-z]/.test(label) ? label.charAt(0).toLowerCase() + label.slice(1) : label;
}

function list(words: readonly string[]): string {
  return words.length < 2
    ? words.join('')
    : `${words.slice(0, -1).join(', ')} ${SENTENCE.and} ${words[words.length - 1]}`;
}
