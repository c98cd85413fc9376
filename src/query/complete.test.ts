import { completions } from './complete';
import { METRIC_FAMILIES } from './model';

/** The options where `^` stands in the text. */
function at(text: string, known?: Record<string, string[]>) {
  const caret = text.indexOf('^');
  return completions(text.replace('^', ''), caret, known);
}

describe('completion of PromQL', () => {
  it.each(METRIC_FAMILIES.map(({ name }) => name))('knows %s', (name) => {
    expect(at(`${name.slice(0, -1)}^`).options).toContain(name);
  });

  it.each([
    ['nothing typed yet', '^', []],
    ['a metric', 'pscope_p_unint^', ['pscope_p_uninterruptible_seconds_total']],
    ['a metric by a word within', 'rate(gomax^', ['go_runtime_gomaxprocs']],
    ['a function', 'histogram_q^', ['histogram_quantile']],
    ['a label in braces', 'pscope_p_seconds_total{thr^', ['thread_state']],
    ['a label after another', 'pscope_p_seconds_total{host="a,b",proc^', ['process', 'process_pid']],
    ['a label of a grouping', 'sum by (process, sta^', ['state', 'status', 'thread_state']],
    ['a state', 'pscope_p_seconds_total{state="r^', ['running']],
    ['one of several states', 'pscope_p_seconds_total{state=~"idle|gcs^', ['gcstop']],
    ['a duration', 'rate(pscope_p_seconds_total[$__ra^', ['$__rate_interval', '$__range']],
    ['after a complete selector', 'pscope_p_seconds_total{state="running"} ^', []],
  ])('%s', (_, text, options) => {
    expect(at(text).options).toEqual(options);
  });

  it('offers labels and durations before anything is typed', () => {
    expect(at('pscope_p_seconds_total{^').options).toContain('process');
    expect(at('rate(x[^').options[0]).toBe('$__rate_interval');
  });

  it('asks for the values of labels that only the agents know', () => {
    expect(at('x{process="^')).toMatchObject({ options: [], valuesOf: 'process' });
    expect(at('x{process="ap^', { process: ['api', 'db'] }).options).toEqual(['api']);
    expect(at('x{process=~"db|a^', { process: ['api', 'db'] })).toMatchObject({ from: 15, options: ['api'] });
  });
});
