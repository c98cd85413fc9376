import { escapeRegex, type ScopedVars, type TimeRange, type TypedVariableModel } from '@grafana/data';
import type { TemplateSrv } from '@grafana/runtime';

/** A variable's choice: one value, several, or all. */
export interface VariableValue {
  values: string[];
  all: boolean;
  /** What stands for all of them; without it, all values are listed. */
  allValue?: string;
  multi: boolean;
  includeAll: boolean;
  type: string;
}

/** What Grafana tells a formatting function about the variable; nothing about a scoped one. */
type VariableModel = Partial<Pick<VariableValue, 'type' | 'multi' | 'includeAll'>>;
type Format = string | ((value: unknown, variable: VariableModel) => string);

const PATTERN = /\$(\w+)|\[\[(\w+?)(?::(\w+))?\]\]|\$\{(\w+)(?:\.([^:^}]+))?(?::([^}]+))?\}/g;

/** Replaces dashboard variables in texts, with the formats that P-Scope's boards and queries use. */
export class PreviewTemplateSrv implements TemplateSrv {
  private variables = new Map<string, VariableValue>();
  private range: TimeRange | undefined;

  set(variables: Map<string, VariableValue>): void {
    this.variables = variables;
  }

  get(): ReadonlyMap<string, VariableValue> {
    return this.variables;
  }

  getVariables(): TypedVariableModel[] {
    return [...this.variables].map(
      ([name, value]) =>
        // Editors offer the names; nothing reads more of the model.
        ({ type: 'query', name, id: name, label: name, current: { text: value.values, value: value.values } }) as unknown as TypedVariableModel
    );
  }

  updateTimeRange(range: TimeRange): void {
    this.range = range;
  }

  containsTemplate(text?: string): boolean {
    PATTERN.lastIndex = 0;
    for (const match of (text ?? '').matchAll(PATTERN)) {
      if (this.variables.has(match[1] ?? match[2] ?? match[4] ?? '')) {
        return true;
      }
    }
    return false;
  }

  replace(text?: string, scopedVars?: ScopedVars, format?: Format): string {
    return (text ?? '').replace(PATTERN, (match: string, a?: string, b?: string, bFormat?: string, c?: string, _path?: string, cFormat?: string) => {
      const name = a ?? b ?? c ?? '';
      const how = bFormat ?? cFormat ?? format;
      const scoped = scopedVars?.[name] as { value?: unknown } | undefined;
      if (scoped?.value !== undefined && scoped.value !== null) {
        return formatted(Array.isArray(scoped.value) ? scoped.value.map(String) : [String(scoped.value)], how, Array.isArray(scoped.value), {});
      }
      if (this.range && (name === '__from' || name === '__to')) {
        return String(this.range[name === '__from' ? 'from' : 'to'].valueOf());
      }
      const variable = this.variables.get(name);
      if (!variable) {
        return match;
      }
      if (variable.all && variable.allValue !== undefined) {
        return variable.allValue;
      }
      return formatted(variable.values, how, variable.multi || variable.all, variable);
    });
  }
}

function formatted(values: string[], how: Format | undefined, several: boolean, { type, multi, includeAll }: VariableModel): string {
  if (typeof how === 'function') {
    return how(several ? values : values[0], { type, multi, includeAll });
  }
  switch (how) {
    case 'regex': {
      const escaped = values.map((value) => escapeRegex(value));
      return escaped.length === 1 ? (escaped[0] ?? '') : `(${escaped.join('|')})`;
    }
    case 'pipe':
      return values.join('|');
    case 'csv':
    case 'raw':
      return values.join(',');
    case 'json':
      return JSON.stringify(values);
    case 'queryparam':
    case 'percentencode':
      return encodeURIComponent(values.join(','));
    case 'text':
      return values.join(' + ');
    default:
      return values.length > 1 ? `{${values.join(',')}}` : (values[0] ?? '');
  }
}
