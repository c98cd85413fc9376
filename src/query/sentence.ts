import { AGGREGATION_WORDS, DIMENSION_WORDS, EDITOR, KIND_WORDS, metricWords, TARGET_WORDS } from '../labels';
import { complete, type CompleteQuery } from './defaults';
import { isCode, metricsOf, TARGET_FIELDS, type ScopeQuery } from './model';

/** The query in one sentence: what a collapsed query row, the inspector and Explore's history show. */
export function sentence(query: ScopeQuery): string {
  if (isCode(query)) {
    return query.expr?.trim() || 'Empty PromQL';
  }
  const q = complete(query);
  const head = KIND_WORDS[q.kind]?.label ?? `Unknown kind "${q.kind}"`;
  return [head, subject(q), grouping(q), targets(q), q.ps?.trim() && `Ps ${q.ps.trim()}`, q.live && 'live']
    .filter(Boolean)
    .join(', ')
    .replace(', of', ' of');
}

function subject(q: CompleteQuery): string {
  if (metricsOf(q.kind).length === 0) {
    return '';
  }
  const filter = q.metric === 'state' ? q.states : q.metric === 'thread' ? q.threadStates : [];
  const name = metricWords(q.kind, q.metric)?.label ?? q.metric;
  return `of ${name}${filter.length ? ` (${list(filter)})` : ''}`;
}

function grouping(q: CompleteQuery): string {
  if (q.kind !== 'series') {
    return '';
  }
  const by = q.by.map((d) => DIMENSION_WORDS[d] ?? d);
  const rest = q.aggregation ? (AGGREGATION_WORDS[q.aggregation] ?? q.aggregation) : EDITOR.percentile;
  return by.length ? `${rest} for each ${list(by)}` : rest;
}

function targets(q: CompleteQuery): string {
  return TARGET_FIELDS.filter((f) => q.target?.[f])
    .map((f) => `${TARGET_WORDS[f].label.toLowerCase()} ${q.target?.[f]}`)
    .join(', ');
}

function list(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words[words.length - 1]}`;
}
