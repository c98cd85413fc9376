import { METRICS, type ScopeQuery } from './model';
import { validate, hasVariable } from './validate';

const query = (q: Partial<ScopeQuery>): ScopeQuery => ({ refId: 'A', ...q });

describe('validate', () => {
  it('finds nothing wrong with an empty query: it draws the busiest process', () => {
    expect(validate(query({}))).toEqual({});
  });

  it.each([
    ['an unknown kind', { kind: 'flames' as never }, 'kind', /"flames" is no kind/],
    ['a kind of a later version', { kind: 'profile' }, 'kind', /not available/],
    ['a query of a newer version', { version: 99 }, 'kind', /newer P-Scope \(form 99\)/],
    ['an unknown metric', { kind: 'series', metric: 'luck' as never }, 'metric', /"luck" is no metric/],
    ['a metric without lanes', { kind: 'heatmap', metric: 'imbalance' }, 'metric', /heatmap cannot show Imbalance/],
    ['numbers on a timeline', { kind: 'timeline', metric: 'runq' }, 'metric', /timeline cannot show/],
    ['an unknown state', { kind: 'timeline', states: ['asleep' as never] }, 'states', /"asleep" is no state/],
    [
      'a label the metric lacks',
      { kind: 'series', metric: 'd_share', by: ['state'] },
      'by',
      /D share is not known for each P state/,
    ],
    ['an open bracket', { target: { process: '(api' } }, 'process', /Not a regular expression/],
    ['what RE2 lacks', { target: { host: '(?=a)b' } }, 'host', /Look-around/],
    ['a word among Ps', { ps: '0-3,x' }, 'ps', /"x" is neither/],
    ['a range backwards', { ps: '7-3' }, 'ps', /"7-3" runs backwards/],
    ['no duration', { resolution: 'fast' }, 'resolution', /duration such as/],
    ['a rate above the most', { live: true, rateHz: 61 }, 'rateHz', /between 0.1 and 60/],
    ['a rate that is no number', { live: true, rateHz: NaN }, 'rateHz', /between 0.1 and 60/],
    ['half a row', { kind: 'stops', limit: 1.5 }, 'limit', /whole number/],
    ['empty PromQL', { kind: 'series', editorMode: 'code' }, 'expr', /Write a PromQL/],
    ['broken PromQL', { kind: 'series', editorMode: 'code', expr: 'sum(rate(a[5m])' }, 'expr', /column/],
  ] as Array<[string, Partial<ScopeQuery>, string, RegExp]>)('refuses %s beside its field', (_, q, field, text) => {
    expect(validate(query(q))).toEqual({ [field]: expect.stringMatching(text) });
  });

  it('leaves what holds a variable to the backend, which knows its value', () => {
    expect(validate(query({ target: { process: '$process(' }, ps: '$ps', resolution: '$__interval' }))).toEqual({});
  });

  it('looks only at the fields the kind needs', () => {
    expect(validate(query({ kind: 'targets', metric: 'luck' as never, ps: 'x', limit: 0 }))).toEqual({});
  });

  it('accepts every metric as series', () => {
    for (const metric of METRICS) {
      expect(validate(query({ kind: 'series', metric }))).toEqual({});
    }
  });

  it('tells the end of an expression from a variable', () => {
    expect(hasVariable('api$')).toBe(false);
    expect(hasVariable('$api')).toBe(true);
    expect(hasVariable('${api:regex}')).toBe(true);
  });
});
