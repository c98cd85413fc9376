import type { PState, ThreadState } from './query/model';

/**
 * The colours of the states: Okabe and Ito's palette, and wine of Paul Tol's, which stay readable with every kind of
 * colour blindness, on grey for the
 * states in which nothing happens. The backend's frames and the dashboards have the same.
 */
export const P_STATE_COLORS: Record<PState, string> = {
  running: '#009E73',
  gc: '#CC79A7',
  syscall: '#56B4E9',
  idle: '#7A7F87',
  gcstop: '#E69F00',
  dead: '#3D4045',
};

export const THREAD_STATE_COLORS: Record<ThreadState, string> = {
  running: '#009E73',
  runnable: '#F0E442',
  sleeping: '#7A7F87',
  uninterruptible: '#D55E00',
  stopped: '#882255',
  frozen: '#0072B2',
  none: '#3D4045',
};
