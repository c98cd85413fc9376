// PromQL that rules and boards share.
import { busyExpr, imbalanceExpr, MEANT_LOSSES } from '../src/gen/contract';

const PER_P = 'by (host, process, process_pid, runtime, p)';
const PER_RUNTIME = 'by (host, process, process_pid, runtime)';

/**
 * Upper bound in seconds of the longest stop of the last minute, by reason. A reason's first stop creates its series,
 * and a rate needs
 * two samples: so a series that did not exist a minute ago counts from zero. The second half reads classic histograms,
 * which an
 * engine has that scraped text.
 */
export const LONGEST_STOP = ((): string => {
  const by = 'by (host, process, process_pid, reason';
  const longest = (metric: string, more: string): string =>
    `histogram_quantile(1, sum ${by}${more}) (${metric} unless ${metric} offset 1m) or sum ${by}${more}) (rate(${metric}[1m])))`;
  return `(${longest('pscope_stop_seconds', '')} or ${longest('pscope_stop_seconds_bucket', ', le')})`;
})();

/** The imbalance of all processes. */
export const IMBALANCE = imbalanceExpr('', '1m');

/** Seconds for which a process is observed before it is ranked. */
const RANKED_AFTER = 60;

/**
 * What the processes of a selector are ranked by. On a host that starts programs all the time most processes are gone
 * before anybody could
 * look at them: only what has been observed for a minute counts, or is there at the end of the range. The seconds of
 * all states of a P add
 * up to how long it has been observed.
 */
export function ranking(selector: string): Record<'busy' | 'dShare' | 'cpuWait' | 'stopped' | 'imbalance', string> {
  const observed = `max ${PER_RUNTIME} (sum ${PER_P} (pscope_p_seconds_total{${selector}}))`;
  const there = `max ${PER_RUNTIME} (pscope_target_info{${selector}} @ end())`;
  // All are shares; a rate reaches beyond the first and the last sample, for a process of a few seconds to more than
  // the whole.
  const lasting = (expr: string): string =>
    `clamp_max((${expr}) and on (host, process, process_pid, runtime) (${observed} >= ${RANKED_AFTER} or ${there}), 1)`;
  const ofPs = (how: 'avg' | 'max', metric: string, more = ''): string =>
    lasting(`${how} ${PER_RUNTIME} (sum ${PER_P} (rate(${metric}{${selector}${more}}[$__rate_interval])))`);
  return {
    busy: lasting(`avg ${PER_RUNTIME} (${busyExpr(`${selector},`, PER_P, '$__rate_interval')})`),
    dShare: ofPs('max', 'pscope_p_uninterruptible_seconds_total'),
    cpuWait: ofPs('avg', 'pscope_p_thread_seconds_total', ',thread_state="runnable"'),
    stopped: ofPs('max', 'pscope_p_stop_seconds_total'),
    imbalance: lasting(imbalanceExpr(`${selector},`, '$__rate_interval')),
  };
}

/**
 * Share of a process's time in which its threads wait for a CPU from which on a quota that is used up holds it up, and
 * not others of its group alone.
 */
const HELD_UP = 0.05;

/**
 * The share of the periods of a CPU quota in which it was used up, for processes that waited for a CPU in the same
 * time.
 */
export const THROTTLED = ((): string => {
  const by = 'by (host, process, process_pid, set_by)';
  const rate = (metric: string): string => `sum ${by} (rate(${metric}[1m]))`;
  const perProcess = '(host, process, process_pid)';
  const waits = `avg by ${perProcess} (rate(pscope_p_thread_seconds_total{thread_state="runnable"}[1m]))`;
  const share = `${rate('pscope_cgroup_throttled_periods_total')} / (${rate('pscope_cgroup_periods_total')} > 0)`;
  // A comparison would bind closer than "and".
  return `((${share}) and on ${perProcess} (${waits} > ${HELD_UP}))`;
})();

/**
 * Losses that leave the picture incomplete: going over the budget of raw intervals and skipping what a slow viewer
 * can't take are meant to be.
 */
export const LOSS_REASONS = `reason!~"${MEANT_LOSSES}"`;
export const LOSSES = `pscope_lost_events_total{${LOSS_REASONS}}`;
