import { create } from '@bufbuild/protobuf';

import { SelectorSchema, type Selector, type Target } from '../gen/pscope/v1/scope_pb';
import type { ScopeQuery, TargetSelector } from '../query/model';
import { parsePs } from '../query/ps';
import { isQuick } from './linear';

/** What one panel wants of the stream of a data source. */
export interface Demand {
  target: TargetSelector;
  /** Empty: all. */
  ps: readonly number[];
  rateHz: number;
  /** Every transition, not just the present states. */
  transitions: boolean;
}

/** The stream that satisfies every demand: its selector chooses at least what each of them does. */
export function union(demands: readonly Demand[]): Demand | undefined {
  const [first, ...rest] = demands;
  if (!first) {
    return undefined;
  }
  return rest.reduce<Demand>(
    (a, b) => ({
      target: {
        host: either(a.target.host, b.target.host),
        process: either(a.target.process, b.target.process),
        container: either(a.target.container, b.target.container),
        pod: either(a.target.pod, b.target.pod),
        pid: either(a.target.pid, b.target.pid),
      },
      ps: a.ps.length && b.ps.length ? [...new Set([...a.ps, ...b.ps])].sort((x, y) => x - y) : [],
      rateHz: Math.max(a.rateHz, b.rateHz),
      transitions: a.transitions || b.transitions,
    }),
    { ...first, ps: [...first.ps].sort((x, y) => x - y) }
  );
}

/** Both expressions as one; an empty one chooses everything. Alternatives already there are not repeated. */
function either(a: string | undefined, b: string | undefined): string | undefined {
  if (!a || !b) {
    return undefined;
  }
  const parts = a.startsWith('(?:') ? a.slice(3, -1).split(')|(?:') : [a];
  return parts.includes(b) ? a : [...parts, b].map((part) => `(?:${part})`).join('|');
}

/**
 * The demand as the agents take it. A pid that is a list of numbers is chosen there; other expressions on pids only
 * here.
 */
export function toSelector({ target, ps }: Pick<Demand, 'target' | 'ps'>): Selector {
  return create(SelectorSchema, {
    host: target.host ?? '',
    process: target.process ?? '',
    container: target.container ?? '',
    pod: target.pod ?? '',
    pids: plainPids(target.pid),
    ps: [...ps],
  });
}

function plainPids(pid: string | undefined): number[] {
  const plain = (pid ?? '').replace(/[()]|\?:/g, '');
  return /^\d+(\|\d+)*$/.test(plain) ? plain.split('|').map(Number) : [];
}

/** Decides for one target and P whether they are among those a query chooses. */
export interface Matcher {
  target: (target: Target) => boolean;
  p: (p: number) => boolean;
}

/**
 * The choice of a query, to be made here because the stream is shared with queries that choose more. Undefined when an
 * expression uses what RE2 has and JavaScript has not, or might take JavaScript long: the caller then leaves the choice
 * to the backend.
 */
export function matcher(query: Pick<ScopeQuery, 'target' | 'ps'>): Matcher | undefined {
  const { host, process, container, pod, pid } = query.target ?? {};
  const checks: Array<[string | undefined, (t: Target) => string]> = [
    [host, (t) => t.host],
    [process, (t) => t.process],
    [container, (t) => t.container],
    [pod, (t) => t.pod],
    [pid, (t) => String(t.key?.pid ?? '')],
  ];
  const compiled: Array<(t: Target) => boolean> = [];
  for (const [expression, value] of checks) {
    if (expression && expression !== '.*') {
      const regex = anchored(expression);
      if (!regex) {
        return undefined;
      }
      compiled.push((t) => regex.test(value(t)));
    }
  }
  const list = parsePs(query.ps ?? '');
  if ('problem' in list) {
    return undefined;
  }
  const ps = new Set(list.ps);
  return { target: (t) => compiled.every((check) => check(t)), p: (p) => ps.size === 0 || ps.has(p) };
}

/** The expression anchored at both ends; leading flags as RE2 writes them become JavaScript's. */
function anchored(expression: string): RegExp | undefined {
  const [, letters = '', rest = expression] = /^\(\?([ims]+)\)(.*)$/s.exec(expression) ?? [];
  if (!isQuick(rest)) {
    return undefined;
  }
  try {
    return new RegExp(`^(?:${rest})$`, `s${letters.replace('s', '')}`);
  } catch {
    return undefined;
  }
}
