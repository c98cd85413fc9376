import { P_STATE_COLORS, THREAD_STATE_COLORS } from '../colors';
import type { Column } from './panels';

/** A link from a cell that names a process to the board about it. */
const toProcess = {
  title: 'Open the Process board',
  url: '/d/pscope-process?var-datasource=${datasource}&var-host=${__data.fields.host}&var-process=${__data.fields.process}&${__url_time_range}',
};

const HIDDEN = (name: string): Column => ({ name, hidden: true });

/** Columns of a `diagnosis` frame. */
export function diagnosisColumns(options: { process: boolean }): Column[] {
  return [
    {
      name: 'severity',
      title: 'Severity',
      width: 80,
      words: { info: '#56B4E9', warning: P_STATE_COLORS.gcstop, critical: THREAD_STATE_COLORS.uninterruptible },
    },
    { name: 'kind', title: 'Finding', width: 110 },
    ...(options.process
      ? [
          { name: 'process', title: 'Process', width: 140, link: toProcess },
          { name: 'host', title: 'Host', width: 120 },
        ]
      : [HIDDEN('process'), HIDDEN('host')]),
    { name: 'pid', title: 'PID', width: 80, unit: 'none' },
    { name: 'ps', title: 'Ps', width: 80 },
    { name: 'evidence', title: 'Evidence', wrap: true },
    { name: 'advice', title: 'What to do', wrap: true },
    HIDDEN('value'),
  ];
}

/** Columns of a `stops` frame. */
export function stopColumns(options: { process: boolean }): Column[] {
  return [
    { name: 'time', title: 'Start', width: 180, unit: 'time:HH:mm:ss.SSS' },
    HIDDEN('timeEnd'),
    { name: 'text', title: 'Reason' },
    { name: 'duration', title: 'Duration', unit: 's', width: 160, bar: P_STATE_COLORS.gcstop },
    { name: 'slowestP', title: 'Last P', width: 80 },
    ...(options.process
      ? [
          { name: 'process', title: 'Process', width: 140, link: toProcess },
          { name: 'host', title: 'Host', width: 120 },
        ]
      : []),
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
    { name: 'process', title: 'Process', width: 120 },
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
    HIDDEN('since'),
    { name: 'container', title: 'Container', width: 120 },
    { name: 'pod', title: 'Pod', width: 140 },
    { name: 'cgroup', title: 'Cgroup' },
    { name: 'host', title: 'Host', width: 120 },
  ];
}

/** Columns of the table that puts the processes of a fleet beside one another; letters are the queries of that panel. */
export function rankingColumns(): Column[] {
  const course = (ref: string, title: string): Column => ({
    name: `Trend #${ref}`,
    title,
    unit: 'percentunit',
    decimals: 1,
  });
  return [
    { name: 'process', title: 'Process', width: 150, link: toProcess },
    { name: 'process_pid', title: 'PID', width: 80 },
    { name: 'host', title: 'Host', width: 130 },
    course('A', 'Busy'),
    course('B', 'D share'),
    course('C', 'CPU wait'),
    course('D', 'Stopped'),
    course('E', 'Imbalance'),
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
  ];
}
