import { D_SHARE_CRITICAL } from '../src/gen/contract';

/**
 * The values above which something is wrong. Alert rules fire on them and boards mark them, so that a line on a panel
 * and the rule behind it never disagree.
 */
export const LEVELS = {
  /** D share of one P, 0 to 1. */
  dShare: D_SHARE_CRITICAL,
  /** Length of one stop, seconds. */
  stopLength: 0.1,
  /** Share of time a P spends in stops. */
  stopShare: 0.05,
  /** Goroutines queued on one P. */
  runqDepth: 64,
  /**
   * By how much the busiest P is busier than all are on average. Two Ps, one of them busy, make 0.5: the level must be
   * below.
   */
  imbalance: 0.4,
  /** Share of time a P's thread is runnable without a CPU. */
  cpuWait: 0.25,
  /** Share of the periods of a CPU quota in which it was used up. */
  throttled: 0.25,
  /** Events lost a second, by reason. */
  lostRate: 1,
} as const;
