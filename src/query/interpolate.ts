import type { ScopedVars } from '@grafana/data';

import { TARGET_FIELDS, withoutUndefined, type ScopeQuery, type TargetSelector } from './model';

/** The part of Grafana's TemplateSrv used here. */
export type Replace = (text: string, scopedVars?: ScopedVars, format?: string | FormatVariable) => string;
type FormatVariable = (value: unknown, variable: VariableModel) => string;

/** What Grafana tells a formatter about the variable; the old and the new dashboards both give these. */
interface VariableModel {
  type?: string;
  multi?: boolean;
  includeAll?: boolean;
}

/**
 * Replaces dashboard variables: in targets by alternatives of a regular expression, in Ps by a list, elsewhere as they
 * are.
 */
export function interpolate(query: ScopeQuery, replace: Replace, scopedVars: ScopedVars = {}): ScopeQuery {
  const text = (value: string | undefined, format?: FormatVariable) =>
    value === undefined ? undefined : replace(value, scopedVars, format);
  return withoutUndefined({
    ...query,
    target: interpolateTarget(query.target, replace, scopedVars),
    ps: text(query.ps, asList),
    expr: text(query.expr, asPromql),
    legend: text(query.legend),
    resolution: text(query.resolution),
  });
}

/** Replaces variables in a target selector. */
export function interpolateTarget(
  target: TargetSelector | undefined,
  replace: Replace,
  scopedVars: ScopedVars = {}
): TargetSelector | undefined {
  if (!target) {
    return undefined;
  }
  const out: TargetSelector = {};
  for (const field of TARGET_FIELDS) {
    const value = target[field];
    if (value) {
      out[field] = replace(value, scopedVars, asRegex);
    }
  }
  return out;
}

/** `a.b` → `a\.b`, several → `(a|b)`. What someone typed into a text box is a regular expression already. */
export const asRegex: FormatVariable = (value, variable) => {
  if (variable.type === 'textbox' || variable.type === 'constant') {
    return String(value);
  }
  return alternatives(value, escapeRegex);
};

/**
 * As in Grafana's Prometheus data source: inside PromQL strings a backslash is doubled, and a single plain value stays
 * as it is.
 */
const asPromql: FormatVariable = (value, variable) => {
  if (!Array.isArray(value) && !variable.multi && !variable.includeAll) {
    return String(value).replace(/\\/g, '\\\\').replace(/"/g, '\\"');
  }
  return alternatives(value, (s) => escapeRegex(s).replace(/\\/g, '\\\\').replace(/"/g, '\\"'));
};

const asList: FormatVariable = (value) => (Array.isArray(value) ? value.join(',') : String(value));

function alternatives(value: unknown, escape: (s: string) => string): string {
  if (!Array.isArray(value)) {
    return escape(String(value));
  }
  const all = value.map((v) => escape(String(v)));
  return all.length === 1 ? (all[0] ?? '') : `(${all.join('|')})`;
}

function escapeRegex(text: string): string {
  return text.replace(/[\\^$*+?.()|[\]{}]/g, '\\$&');
}
