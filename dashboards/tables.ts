import { P_STATE_COLORS, THREAD_STATE_COLORS } from '../src/gen/contract';
import { processOfRow } from './links';
import type { Column } from './panels';

const toProcess = processOfRow('pid');

const HIDDEN = (name: string): Column => ({ name, hidden: true });

/** Columns of a `diagnosis` frame. */
export function diagnosisColumns(options: { process: boolean; advice: boolean }): Column[] {
  return [
    {
      name: 'severity',
      title: 'Severity',
      width: 74,
      words: {
        none: P_STATE_COLORS.idle,
        info: P_STATE_COLORS.syscall,
        warning: P_STATE_COLORS.gcstop,
        critical: THREAD_STATE_COLORS.uninterruptible,
      },
    },
    ...(options.process ? [{ name: 'process', title: 'Process', width: 130, link: toProcess }] : [HIDDEN('process')]),
    { name: 'evidence', title: 'Evidence', minWidth: 110, wrap: true, hint: 'advice' },
    options.advice ? { name: 'advice', title: 'What to do', minWidth: 110, wrap: true } : HIDDEN('advice'),
    // What the sentences say already.
    ...['host', 'pid', 'ps', 'kind', 'value'].map(HIDDEN),
  ];
}

/** Columns of a `stops` frame. */
export function stopColumns(options: { process: boolean }): Column[] {
  return [
    { name: 'time', title: 'Start', width: 105, unit: 'time:HH:mm:ss.SSS' },
    HIDDEN('timeEnd'),
    { name: 'text', title: 'Reason', minWidth: 120 },
    { name: 'duration', title: 'Duration', unit: 's', width: 125, bar: P_STATE_COLORS.gcstop },
    { name: 'slowestP', title: 'Last P', width: 66 },
    { name: 'slowestAfter', title: 'After', width: 80, unit: 's' },
    ...(options.process
      ? [
          { name: 'process', title: 'Process', width: 140, link: toProcess },
          { name: 'host', title: 'Host', width: 120 },
        ]
      : ['process', 'host'].map(HIDDEN)),
    HIDDEN('pid'),
  ];
}

/** Columns of a `blocked` frame. */
export function blockedColumns(): Column[] {
  const share = (name: string, title: string, colour: string): Column => ({
    name,
    title,
    unit: 's',
    bar: colour,
    width: 130,
  });
  return [
    { name: 'process', title: 'Process', width: 120, link: toProcess },
    { name: 'pid', title: 'PID', width: 80, unit: 'none' },
    { name: 'tid', title: 'TID', width: 80, unit: 'none' },
    { name: 'comm', title: 'Thread', width: 120 },
    { name: 'p', title: 'P', width: 60 },
    { name: 'state', title: 'State now', width: 120, words: THREAD_STATE_COLORS },
    share('uninterruptible', 'In D', THREAD_STATE_COLORS.uninterruptible),
    share('runnable', 'Waiting for a CPU', THREAD_STATE_COLORS.runnable),
    share('running', 'On a CPU', THREAD_STATE_COLORS.running),
    share('sleeping', 'Asleep', THREAD_STATE_COLORS.sleeping),
    HIDDEN('stopped'),
    HIDDEN('frozen'),
    HIDDEN('since'),
    { name: 'container', title: 'Container', width: 120 },
    { name: 'pod', title: 'Pod', width: 140 },
    { name: 'cgroup', title: 'Cgroup' },
    { name: 'host', title: 'Host', width: 120 },
  ];
}

/**
 * Columns of the table that puts the processes of a fleet beside one another; letters are the queries of that panel.
 */
export function rankingColumns(): Column[] {
  const course = (ref: string, title: string, colour: string): Column => ({
    name: `Trend #${ref}`,
    title,
    unit: 'percentunit',
    decimals: 1,
    minWidth: 120,
    colour,
  });
  return [
    { name: 'process', title: 'Process', width: 150, link: processOfRow('process_pid') },
    { name: 'process_pid', title: 'PID', width: 80 },
    { name: 'runtime', title: 'Runtime', width: 110 },
    { name: 'host', title: 'Host', width: 130 },
    course('A', 'Busy', P_STATE_COLORS.running),
    course('B', 'D share', THREAD_STATE_COLORS.uninterruptible),
    course('C', 'CPU wait', THREAD_STATE_COLORS.runnable),
    course('D', 'Stopped', P_STATE_COLORS.gcstop),
    course('E', 'Imbalance', P_STATE_COLORS.gc),
  ];
}

/** Columns of a `targets` frame. */
export function targetColumns(): Column[] {
  return [
    { name: 'host', title: 'Host', width: 130 },
    { name: 'process', title: 'Process', width: 150, link: toProcess },
    { name: 'pid', title: 'PID', width: 80, unit: 'none' },
    { name: 'goVersion', title: 'Go', width: 90 },
    {
      name: 'source',
      title: 'Source',
      width: 90,
      words: {
        ebpf: P_STATE_COLORS.running,
        snapshot: P_STATE_COLORS.gcstop,
        refused: THREAD_STATE_COLORS.uninterruptible,
      },
    },
    { name: 'layout', title: 'Layout', width: 80 },
    { name: 'gomaxprocs', title: 'Ps', width: 60, unit: 'none' },
    { name: 'reason', title: 'Reason', wrap: true },
    { name: 'module', title: 'Module', width: 220 },
    { name: 'pod', title: 'Pod', width: 140 },
    ...['runtime', 'container', 'namespace', 'cgroup', 'exe', 'cmdline', 'started', 'ended'].map(HIDDEN),
  ];
}

/** Columns of the table of agents, made of the labels of pscope_build_info. */
export function agentColumns(): Column[] {
  return [
    { name: 'host', title: 'Host' },
    { name: 'version', title: 'Version' },
    { name: 'mode', title: 'Mode', words: { ebpf: P_STATE_COLORS.running, snapshot: P_STATE_COLORS.gcstop } },
    { name: 'goversion', title: 'Built with' },
    { name: 'goarch', title: 'Architecture' },
    HIDDEN('Trend #A'),
  ];
}
