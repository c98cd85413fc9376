import { interpolate, type Replace } from './interpolate';
import type { ScopeQuery } from './model';

interface Fake {
  value: string | string[];
  type?: string;
  multi?: boolean;
}

/** Grafana's replacement as far as it matters: `$name` becomes what the formatter makes of the value. */
const replacer =
  (variables: Record<string, Fake>): Replace =>
  (text, _scopedVars, format) =>
    text.replace(/\$(\w+)/g, (all, name: string) => {
      const variable = variables[name];
      if (!variable) {
        return all;
      }
      return typeof format === 'function' ? format(variable.value, variable) : String(variable.value);
    });

const query = (q: Partial<ScopeQuery>): ScopeQuery => ({ refId: 'A', ...q });

describe('interpolate', () => {
  it('makes alternatives of several values and escapes names', () => {
    const replace = replacer({ process: { value: ['a.b', 'c+'], multi: true } });
    expect(interpolate(query({ target: { process: '$process' } }), replace).target).toEqual({
      process: '(a\\.b|c\\+)',
    });
  });

  it('escapes a single name', () => {
    const replace = replacer({ process: { value: 'a.b', type: 'query' } });
    expect(interpolate(query({ target: { process: '$process' } }), replace).target).toEqual({ process: 'a\\.b' });
  });

  it('takes what was typed into a text box for a regular expression', () => {
    const replace = replacer({ process: { value: 'api-.*', type: 'textbox' } });
    expect(interpolate(query({ target: { process: '$process' } }), replace).target).toEqual({ process: 'api-.*' });
  });

  it('lists Ps', () => {
    const replace = replacer({ ps: { value: ['0', '3'], multi: true } });
    expect(interpolate(query({ ps: '$ps,7' }), replace).ps).toBe('0,3,7');
  });

  it('doubles backslashes inside PromQL strings', () => {
    const replace = replacer({ process: { value: ['a.b', 'c'], multi: true } });
    expect(interpolate(query({ expr: 'up{process=~"$process"}' }), replace).expr).toBe('up{process=~"(a\\\\.b|c)"}');
  });

  it('keeps a single plain value of PromQL as it is', () => {
    expect(interpolate(query({ expr: 'up{a="$x"}' }), replacer({ x: { value: 'a.b' } })).expr).toBe('up{a="a.b"}');
  });

  it('adds no fields that were not there', () => {
    expect(interpolate(query({ kind: 'stops' }), replacer({}))).toEqual({ refId: 'A', kind: 'stops' });
  });
});
