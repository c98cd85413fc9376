import { DIMENSION_WORDS, KIND_WORDS, METRIC_WORDS, PROBLEM } from '../labels';
import {
  dimensionsOf,
  EVENTS,
  fieldsOf,
  isCode,
  kindOf,
  DEFAULT_METRIC,
  KINDS,
  MAX_LIMIT,
  MAX_RATE_HZ,
  METRICS,
  metricsOf,
  MIN_RATE_HZ,
  P_STATES,
  QUERY_VERSION,
  TARGET_FIELDS,
  THREAD_STATES,
  type Field,
  type ScopeQuery,
} from './model';
import { parsePs } from './ps';
import { promqlProblem } from './promql';

/** What is wrong with each field, in words for the user; empty when the query can run. */
export type Problems = Partial<Record<Field, string>>;

/** Checks the fields the query needs. What contains a variable is left to the backend, which sees its value. */
export function validate(query: ScopeQuery): Problems {
  const problems: Problems = {};
  const note = (field: Field, text: string | undefined) => {
    if (text && !problems[field]) {
      problems[field] = text;
    }
  };
  if (!includes(KINDS, kindOf(query))) {
    return { kind: PROBLEM.kind(String(query.kind)) };
  }
  if (kindOf(query) === 'profile') {
    return { kind: PROBLEM.profile };
  }
  if ((query.version ?? 0) > QUERY_VERSION) {
    note('kind', PROBLEM.newer(query.version ?? 0));
  }
  const checks: Partial<Record<Field, (q: ScopeQuery) => string | undefined>> = {
    metric: checkMetric,
    states: (q) => firstUnknown(q.states, P_STATES),
    threadStates: (q) => firstUnknown(q.threadStates, THREAD_STATES),
    events: (q) => {
      const unknown = q.events?.find((event) => !includes(EVENTS, event));
      return unknown && PROBLEM.event(unknown);
    },
    by: checkBy,
    ps: checkPs,
    resolution: checkResolution,
    rateHz: checkRate,
    limit: checkLimit,
    expr: checkExpr,
  };
  for (const field of fieldsOf(query)) {
    note(field, checks[field]?.(query));
  }
  for (const field of TARGET_FIELDS) {
    note(field, isCode(query) ? undefined : regexProblem(query.target?.[field]));
  }
  return problems;
}

/**
 * Why a regular expression is none, or undefined. RE2 is what runs: what JavaScript has and RE2 has not is refused too.
 */
export function regexProblem(text: string | undefined): string | undefined {
  if (!text || hasVariable(text)) {
    return undefined;
  }
  if (/\(\?(=|!|<=|<!)|\\[1-9]/.test(text)) {
    return PROBLEM.lookaround;
  }
  try {
    new RegExp(text);
    return undefined;
  } catch (err) {
    const why =
      err instanceof Error ? err.message.replace(/^Invalid regular expression: (\/.*\/\w*: )?/, '') : String(err);
    return PROBLEM.regex(why);
  }
}

/** Whether a text holds a dashboard variable. A `$` that ends a regular expression is none, nor is `[[:alpha:]]`. */
export function hasVariable(text: string): boolean {
  return /\$\w|\$\{|\[\[\w/.test(text);
}

function includes(words: readonly string[], word: string): boolean {
  return words.includes(word);
}

function firstUnknown(chosen: readonly string[] | undefined, known: readonly string[]): string | undefined {
  const bad = chosen?.find((s) => !includes(known, s));
  return bad === undefined ? undefined : PROBLEM.state(bad);
}

function checkMetric(query: ScopeQuery): string | undefined {
  const metric = query.metric ?? DEFAULT_METRIC;
  if (!includes(METRICS, metric)) {
    return PROBLEM.metric(metric);
  }
  const kind = kindOf(query);
  return metricsOf(kind).includes(metric)
    ? undefined
    : PROBLEM.metricForKind(METRIC_WORDS[metric].label, KIND_WORDS[kind].label);
}

function checkBy(query: ScopeQuery): string | undefined {
  const metric = query.metric ?? DEFAULT_METRIC;
  if (!includes(METRICS, metric)) {
    return undefined;
  }
  const known = dimensionsOf(metric);
  const bad = query.by?.find((d) => !known.includes(d));
  return bad === undefined ? undefined : PROBLEM.dimension(DIMENSION_WORDS[bad] ?? bad, METRIC_WORDS[metric].label);
}

function checkPs(query: ScopeQuery): string | undefined {
  if (!query.ps || hasVariable(query.ps)) {
    return undefined;
  }
  const read = parsePs(query.ps);
  if (!('problem' in read)) {
    return undefined;
  }
  return read.problem.why === 'order' ? PROBLEM.psOrder(read.problem.part) : PROBLEM.ps(read.problem.part);
}

function checkResolution(query: ScopeQuery): string | undefined {
  const text = query.resolution?.trim();
  if (!text || hasVariable(text) || /^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(text)) {
    return undefined;
  }
  return PROBLEM.resolution;
}

function checkRate(query: ScopeQuery): string | undefined {
  if (query.rateHz === undefined) {
    return undefined;
  }
  return query.rateHz >= MIN_RATE_HZ && query.rateHz <= MAX_RATE_HZ ? undefined : PROBLEM.rate;
}

function checkLimit(query: ScopeQuery): string | undefined {
  if (query.limit === undefined) {
    return undefined;
  }
  return Number.isInteger(query.limit) && query.limit >= 1 && query.limit <= MAX_LIMIT ? undefined : PROBLEM.limit;
}

function checkExpr(query: ScopeQuery): string | undefined {
  const expr = query.expr?.trim();
  if (!expr) {
    return PROBLEM.exprEmpty;
  }
  const problem = promqlProblem(expr);
  return problem && PROBLEM.expr(problem.near, problem.column);
}
