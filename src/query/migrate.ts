import { QUERY_VERSION, type ScopeQuery } from './model';

type Step = (query: ScopeQuery) => ScopeQuery;

/** Step i takes a query of version i to version i + 1. */
const STEPS: Step[] = [
  // Version 0 is a query that carries no version: written by hand, in provisioning or through Grafana's API.
  (query) => ({ ...query }),
];

/**
 * Brings a stored query to the present form. A query of the present or a newer version is returned as it is (the same
 * object): what a newer P-Scope wrote must not be damaged by an older one; validate.ts tells the user.
 */
export function migrate(query: ScopeQuery): ScopeQuery {
  const from = query.version ?? 0;
  if (from >= QUERY_VERSION) {
    return query;
  }
  return STEPS.slice(from).reduce<ScopeQuery>((q, step, i) => ({ ...step(q), version: from + i + 1 }), query);
}
