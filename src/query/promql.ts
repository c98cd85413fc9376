import { parser } from '@prometheus-io/lezer-promql';

/** Where PromQL stops making sense. */
export interface PromqlProblem {
  /** One-based. */
  column: number;
  /** The words from there on; empty when the expression just ends too early. */
  near: string;
}

/** Grafana puts durations and names where its variables stand: for the parser they become words of the same length. */
function fillVariables(expr: string): string {
  return expr
    .replace(
      /\[\s*(\$\{?\w+(?::\w+)?\}?)\s*(:?)/g,
      (all: string, _name: string, colon: string) => `[${'1'.repeat(all.length - 2 - colon.length)}s${colon}`
    )
    .replace(/\$\{\w+(?::\w+)?\}|\$\w+|\[\[\w+\]\]/g, (all) => 'v'.repeat(all.length));
}

/** The first syntax error of an expression, or undefined. Variables may stand for names, label values and durations. */
export function promqlProblem(expr: string): PromqlProblem | undefined {
  const text = fillVariables(expr);
  let at: number | undefined;
  parser.parse(text).iterate({
    enter: (node) => {
      if (node.type.isError && at === undefined) {
        at = node.from;
      }
    },
  });
  if (at === undefined) {
    return undefined;
  }
  return { column: at + 1, near: expr.slice(at, at + 20).trim() };
}
