// PromQL that rules and boards share.

const PER_P = 'by (host, process, process_pid, p)';
const PER_PROCESS = 'by (host, process, process_pid)';

/**
 * Upper bound in seconds of the longest stop of the last minute, by reason. A reason's first stop creates its series, and a rate needs
 * two samples: so a series that did not exist a minute ago counts from zero. The second half reads classic histograms, which an
 * engine has that scraped text.
 */
export const LONGEST_STOP = ((): string => {
  const by = 'by (host, process, process_pid, reason';
  const longest = (metric: string, more: string): string =>
    `histogram_quantile(1, sum ${by}${more}) (${metric} unless ${metric} offset 1m) or sum ${by}${more}) (rate(${metric}[1m])))`;
  return `(${longest('pscope_stop_seconds', '')} or ${longest('pscope_stop_seconds_bucket', ', le')})`;
})();

/** By how much the busiest P of a process is busier than its Ps are on average; Ps beyond GOMAXPROCS don't count. */
export const IMBALANCE = ((): string => {
  const busy = `sum ${PER_P} (rate(pscope_p_seconds_total{state=~"running|gc|syscall"}[1m]))`;
  const dead = `sum ${PER_P} (rate(pscope_p_seconds_total{state="dead"}[1m])) > 0.5`;
  const alive = `(${busy} unless (${dead}))`;
  return `max ${PER_PROCESS} ${alive} - avg ${PER_PROCESS} ${alive}`;
})();

/** Losses that leave the picture incomplete: going over the budget of raw intervals and skipping what a slow viewer can't take are meant to be. */
export const LOSS_REASONS = 'reason!~"interval_budget|slow_reader.*"';
export const LOSSES = `pscope_lost_events_total{${LOSS_REASONS}}`;
