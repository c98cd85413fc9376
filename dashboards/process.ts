import { AnnotationPanelFilterBuilder, AnnotationQueryBuilder } from '@grafana/grafana-foundation-sdk/dashboard';

import { P_STATE_COLORS, THREAD_STATE_COLORS } from '../src/gen/contract';
import { PROCESS_PANELS, PROCESS_UID } from './ids';
import { board, finish, type Board } from './layout';
import { LEVELS } from './levels';
import { momentOfP } from './links';
import { distribution, donut, figure, lanes, lines, rows, timeline } from './panels';
import { ask, BOARD_DATASOURCE, CHOSEN_TARGET, promql } from './query';
import { blockedColumns, diagnosisColumns, stopColumns } from './tables';
import { aboutPs, cpuWaitFigure, cpuWaitLanesPanel, threadStatesPanel, wakeWaitFigure, wakeWaitPanel } from './shared';
import * as variables from './variables';

const ID = PROCESS_PANELS;

/** What the panel of migrations says when there are none to draw. */
const NO_MIGRATIONS =
  'Goroutine migrations are not counted. They are with "pscope agent --migrations"; if it has that already, "pscope doctor" and the reason in pscope_target_info say what is in the way, and the first number comes within seconds.';

const overview = [
  figure({
    id: ID.busyNow,
    title: 'Busy',
    description:
      'Share of time in which the chosen Ps ran Go code, a GC worker or a system call, and were neither stopped nor frozen, on average over the Ps.',
    w: 4,
    unit: 'percentunit',
    decimals: 1,
    min: 0,
    max: 1,
    steps: [{ from: null, colour: P_STATE_COLORS.running }],
    queries: aboutPs({ kind: 'series', metric: 'busy', by: ['process'] }),
  }),
  cpuWaitFigure({
    id: ID.cpuWaitNow,
    description:
      'Share of time in which the thread that carries a P was runnable but had no CPU. High: more runnable threads than CPUs, or a CPU quota at work.',
  }),
  figure({
    id: ID.dShareNow,
    title: 'D share',
    description:
      'Largest share of time any P had a thread in uninterruptible sleep (state D): storage, swap or a FUSE file system that does not answer.',
    w: 4,
    unit: 'percentunit',
    decimals: 1,
    min: 0,
    max: 1,
    steps: [
      { from: null, colour: 'text' },
      { from: 0.5, colour: 'orange' },
      { from: LEVELS.dShare, colour: THREAD_STATE_COLORS.uninterruptible },
    ],
    queries: aboutPs({ kind: 'series', metric: 'd_share', by: ['process'], aggregation: 'max' }),
  }),
  wakeWaitFigure({
    id: ID.wakeWaitNow,
    description:
      'From a P being handed to a thread until that thread runs on a CPU: the delay a woken goroutine sees before it can start.',
  }),
  figure({
    id: ID.stoppedNow,
    title: 'Stopped',
    description: 'Share of time in which the world was stopped, as seen by the P that lost most.',
    w: 4,
    unit: 'percentunit',
    decimals: 2,
    min: 0,
    steps: [
      { from: null, colour: 'text' },
      { from: LEVELS.stopShare, colour: P_STATE_COLORS.gcstop },
    ],
    queries: aboutPs({ kind: 'series', metric: 'stops', by: ['process'], aggregation: 'max' }),
  }),
  figure({
    id: ID.gomaxprocsNow,
    title: 'Ps',
    description: 'GOMAXPROCS: Ps that take part in scheduling, by process.',
    w: 4,
    unit: 'short',
    decimals: 0,
    sparkline: false,
    steps: [{ from: null, colour: 'text' }],
    queries: { kind: 'series', metric: 'gomaxprocs', target: CHOSEN_TARGET, by: ['process'], aggregation: 'max' },
  }),
];

const picture = [
  lanes({
    id: ID.lanes,
    links: momentOfP,
    title: 'P states: busy share',
    description:
      'One lane per P; the stronger the colour, the larger the share of time spent in running, gc or syscall. An even picture is a balanced process; one strong lane among pale ones is an imbalance.',
    w: 16,
    h: 8,
    unit: 'percentunit',
    decimals: 1,
    colour: P_STATE_COLORS.running,
    max: 1,
    queries: aboutPs({ kind: 'heatmap', metric: 'busy', live: true }),
  }),
  timeline({
    id: ID.timeline,
    title: 'P state timeline',
    description:
      'What each P did and when, interval by interval. Zoom in to see single stops. Over long ranges neighbouring intervals are merged, and short rare states such as gcstop stay visible.',
    w: 16,
    h: 7,
    queries: aboutPs({ kind: 'timeline', metric: 'state', live: true }),
  }),
];

const reading = [
  rows({
    id: ID.diagnosis,
    title: 'Diagnosis',
    description:
      'What stands out in the range shown: overloaded and idle Ps, imbalance, waiting, with the evidence. Rest the pointer on a sentence to read what to do.',
    w: 8,
    h: 8,
    columns: diagnosisColumns({ process: false, advice: false }),
    queries: aboutPs({ kind: 'diagnosis' }),
  }),
  donut({
    id: ID.pie,
    title: 'Time by state',
    description:
      'Where the time of the chosen Ps went in the range shown. The states of a P always add up to the whole.',
    w: 8,
    h: 7,
    unit: 'percentunit',
    colours: P_STATE_COLORS,
    queries: aboutPs({ kind: 'series', metric: 'state', by: ['state'], legend: '{{state}}' }),
  }),
];

const threads = [
  threadStatesPanel({
    id: ID.threadStates,
    description:
      'What the kernel did with the threads that carry the chosen Ps, on average over the Ps. A P can be running in the eyes of Go while its thread waits for a CPU (runnable) or for storage (uninterruptible).',
    h: 8,
  }),
  cpuWaitLanesPanel({
    id: ID.cpuWaitLanes,
    description:
      'Share of time in which the thread of each P was runnable without a CPU; the colour is full from 50 % on. On a host with more Ps than CPUs this is where latency comes from.',
    h: 8,
  }),
  lines({
    id: ID.dShare,
    links: momentOfP,
    title: 'D share by P',
    description:
      'Share of time in which a thread that carries this P, or carried it last, was in uninterruptible sleep. The dashed line is the threshold of the alert rule.',
    w: 12,
    h: 7,
    unit: 'percentunit',
    min: 0,
    max: 1,
    marks: [{ from: LEVELS.dShare, colour: THREAD_STATE_COLORS.uninterruptible }],
    queries: aboutPs({ kind: 'series', metric: 'd_share', by: ['host', 'process', 'pid', 'runtime', 'p'] }),
  }),
  lines({
    id: ID.imbalance,
    title: 'Imbalance',
    description:
      'How much busier the busiest P is than the Ps are on average: 0 is even, one busy P among four is 75 %. The dashed line is the threshold of the alert rule.',
    w: 12,
    h: 7,
    unit: 'percentunit',
    min: 0,
    softMax: 1,
    marks: [{ from: LEVELS.imbalance, colour: 'orange' }],
    queries: {
      kind: 'series',
      metric: 'imbalance',
      target: CHOSEN_TARGET,
      by: ['host', 'process', 'pid', 'runtime'],
      legend: '{{process}} {{pid}} {{runtime}}',
    },
  }),
];

const OF_PROCESS = 'host=~"$host",process=~"$process",process_pid=~"$pid"';

const groups = [
  lines({
    id: ID.quota,
    title: 'CPU quota',
    description:
      'The tightest CPU quota of the control groups of the process, in cores, beside GOMAXPROCS, and how many CPUs were kept from its threads by quotas that were used up. Go 1.25 and later take GOMAXPROCS from the quota.',
    w: 12,
    h: 7,
    unit: 'short',
    min: 0,
    empty:
      "No control group limits the CPU time of this process, or the agent can't read them: then the series pscope_cgroup_unreadable has the reason.",
    queries: [
      promql(`min by (set_by) (pscope_cgroup_cpu_limit_cores{${OF_PROCESS}})`, 'quota of {{set_by}}'),
      promql(
        `max(go_runtime_gomaxprocs{${OF_PROCESS}}) and on () max(pscope_cgroup_cpu_limit_cores{${OF_PROCESS}})`,
        'GOMAXPROCS'
      ),
      promql(
        `max by (set_by) (rate(pscope_cgroup_throttled_seconds_total{${OF_PROCESS}}[$__rate_interval]))`,
        'throttled by {{set_by}}'
      ),
    ],
  }),
  lines({
    id: ID.pressure,
    title: 'Pressure of the control group',
    description:
      "Share of time in which threads of the process's control group waited for CPU, disks or memory: some, at least one did; full, all that had something to do did (PSI, cgroup v2).",
    w: 12,
    h: 7,
    unit: 'percentunit',
    min: 0,
    empty:
      "The kernel keeps no pressure for the control group of this process, or the agent can't read it: the series pscope_cgroup_unreadable has the reason.",
    queries: promql(
      `max by (resource, kind) (rate(pscope_cgroup_pressure_seconds_total{${OF_PROCESS}}[$__rate_interval]))`,
      '{{resource}} {{kind}}'
    ),
  }),
];

const queues = [
  lanes({
    id: ID.runqLanes,
    links: momentOfP,
    title: 'Run queue depth, by P',
    description:
      'Goroutines queued on each P; the colour is full from 64 on, where the alert rule fires. A queue that stays long while other lanes are empty: work is not being stolen fast enough, or those Ps have no thread on a CPU.',
    w: 12,
    h: 8,
    unit: 'short',
    decimals: 1,
    colour: P_STATE_COLORS.gc,
    max: LEVELS.runqDepth,
    queries: aboutPs({ kind: 'heatmap', metric: 'runq' }),
  }),
  wakeWaitPanel(ID.wakeWait),
  distribution({
    id: ID.runqDistribution,
    title: 'Run queue depths seen',
    description: 'Every depth seen on the chosen Ps and how often, in steps of powers of two.',
    w: 12,
    h: 7,
    unit: 'short',
    scheme: 'Purples',
    queries: aboutPs({ kind: 'heatmap', metric: 'runq_distribution' }),
  }),
  lines({
    id: ID.globalRunq,
    title: 'Global run queue',
    description:
      'Goroutines in the queue that all Ps share: preempted ones, those readied without a P, and what overflows a full local queue.',
    w: 12,
    h: 7,
    unit: 'short',
    min: 0,
    queries: {
      kind: 'series',
      metric: 'global_runq',
      target: CHOSEN_TARGET,
      by: ['host', 'process', 'pid', 'runtime'],
      legend: '{{process}} {{pid}} {{runtime}}',
    },
  }),
];

const stops = [
  rows({
    id: ID.stops,
    title: 'Longest stops',
    description:
      'Stop-the-world intervals in the range shown, longest first, with the reason and the P that came to rest last.',
    w: 12,
    h: 8,
    sortBy: 'Duration',
    columns: stopColumns({ process: false }),
    queries: aboutPs({ kind: 'stops', limit: 100 }),
  }),
  distribution({
    id: ID.stopLengths,
    title: 'Stop durations',
    description: 'How long the stops took, and how many there were of each length.',
    w: 12,
    h: 8,
    unit: 's',
    scheme: 'Oranges',
    queries: aboutPs({ kind: 'heatmap', metric: 'stops' }),
  }),
];

const blocked = [
  rows({
    id: ID.blocked,
    title: 'Top blocked threads',
    description:
      'Threads that were kept from running longest in the range shown, with the cgroup and pod they belong to. P is the one the thread carries or carried last.',
    w: 24,
    h: 9,
    columns: blockedColumns(),
    queries: aboutPs({ kind: 'blocked', limit: 20 }),
  }),
];

const scheduler = [
  lines({
    id: ID.schedTicks,
    title: 'Scheduling ticks by P',
    description: 'How often each P picked a goroutine to run.',
    w: 12,
    h: 7,
    unit: 'ops',
    min: 0,
    queries: aboutPs({ kind: 'series', metric: 'sched_ticks', by: ['p'], aggregation: 'sum', legend: 'P{{p}}' }),
  }),
  lines({
    id: ID.migrations,
    title: 'Goroutine migrations by P',
    description:
      'Goroutines that started to run on the P after they had run on another one: work that was stolen, or woken elsewhere, and finds cold caches. Counted in short windows and extrapolated, within the budget for what observing may cost; off unless the agent is started with --migrations.',
    w: 12,
    h: 7,
    unit: 'ops',
    min: 0,
    empty: NO_MIGRATIONS,
    queries: aboutPs({ kind: 'series', metric: 'migrations', by: ['p'], aggregation: 'sum', legend: 'P{{p}}' }),
  }),
  lines({
    id: ID.syscalls,
    title: 'System calls by P',
    description: 'System and cgo calls that each P entered and left.',
    w: 12,
    h: 7,
    unit: 'ops',
    min: 0,
    queries: aboutPs({ kind: 'series', metric: 'syscalls', by: ['p'], aggregation: 'sum', legend: 'P{{p}}' }),
  }),
  lines({
    id: ID.gomaxprocs,
    title: 'GOMAXPROCS',
    description: 'The number of Ps over time: a change here redraws everything above.',
    w: 12,
    h: 7,
    unit: 'short',
    min: 0,
    decimals: 0,
    queries: {
      kind: 'series',
      metric: 'gomaxprocs',
      target: CHOSEN_TARGET,
      by: ['host', 'process', 'pid', 'runtime'],
      legend: '{{process}} {{pid}} {{runtime}}',
    },
  }),
];

/** The board about the Ps of one process. */
export function processBoard(): Board {
  const builder = board({
    uid: PROCESS_UID,
    title: 'P-Scope / Process',
    description:
      'What every P of one Go process does: states, the threads that carry them, queues, stops and what is blocked.',
    from: 'now-15m',
    refresh: '30s',
  })
    .withVariable(variables.datasource())
    .withVariable(variables.host())
    .withVariable(variables.oneProcess())
    .withVariable(variables.pid())
    .withVariable(variables.ps())
    .annotation(
      new AnnotationQueryBuilder()
        .name('Stops')
        .datasource(BOARD_DATASOURCE)
        .enable(true)
        .iconColor(P_STATE_COLORS.gcstop)
        // The lanes and the timeline show stops themselves; a region over them would only hide what is beneath.
        .filter(
          new AnnotationPanelFilterBuilder().ids([
            ID.threadStates,
            ID.dShare,
            ID.imbalance,
            ID.globalRunq,
            ID.schedTicks,
            ID.syscalls,
            ID.migrations,
          ])
        )
        .target(ask(aboutPs({ kind: 'stops', limit: 20 }), 'Anno'))
    )
    .annotation(
      new AnnotationQueryBuilder()
        .name('Changes')
        .datasource(BOARD_DATASOURCE)
        .enable(true)
        .iconColor(P_STATE_COLORS.syscall)
        // Lanes begin and end where processes do, and Ps that GOMAXPROCS leaves out are drawn as dead: lines over them
        // would hide it, most of all where a program is started again and again.
        .filter(
          new AnnotationPanelFilterBuilder().exclude(true).ids([ID.lanes, ID.timeline, ID.cpuWaitLanes, ID.runqLanes])
        )
        .target(ask({ kind: 'stops', events: ['gomaxprocs', 'restarts'], target: CHOSEN_TARGET, limit: 50 }, 'Changes'))
    );
  return finish(builder, [
    { columns: [overview] },
    { columns: [picture, reading] },
    { title: 'Threads and CPU', id: 100, columns: [threads] },
    { title: 'CPU quota and pressure', id: 105, columns: [groups] },
    { title: 'Queues and waiting', id: 101, columns: [queues] },
    { title: 'Stops', id: 102, columns: [stops] },
    { title: 'Blocked threads', id: 103, columns: [blocked] },
    { title: 'Scheduler', id: 104, columns: [scheduler] },
  ]);
}
