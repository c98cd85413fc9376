import { P_STATE_COLORS, THREAD_STATE_COLORS } from '../src/gen/contract';
import { ranking as rankedBy } from './expressions';
import { FLEET_PANELS, FLEET_UID } from './ids';
import { board, finish, type Board } from './layout';
import { LEVELS } from './levels';
import { momentOfProcess } from './links';
import { figure, lines, rows } from './panels';
import { promql, type Ask } from './query';
import { diagnosisColumns, rankingColumns, targetColumns } from './tables';
import * as variables from './variables';

const ID = FLEET_PANELS;

const TARGET = { host: '$host', process: '$process' };

/** The chosen targets as a PromQL selector. The data source escapes the values. */
const CHOSEN = 'host=~"$host",process=~"$process"';

/** The courses list the processes that the ranking lists. */
const course = (expr: string): Ask => promql(expr, '{{process}} {{pid}} @ {{host}}');

const counts = [
  figure({
    id: ID.hosts,
    title: 'Hosts',
    description: 'Hosts whose agent reports.',
    w: 4,
    unit: 'short',
    decimals: 0,
    sparkline: false,
    steps: [{ from: null, colour: 'text' }],
    queries: promql('count(count by (host) (pscope_build_info{host=~"$host"}))'),
  }),
  figure({
    id: ID.processes,
    title: 'Processes',
    description: 'Processes that are observed, by eBPF or by snapshots.',
    w: 4,
    unit: 'short',
    decimals: 0,
    steps: [{ from: null, colour: 'text' }],
    queries: promql(`count(pscope_target_info{${CHOSEN},source!="refused"})`),
  }),
  figure({
    id: ID.ps,
    title: 'Ps',
    description:
      'Sum of GOMAXPROCS over the observed processes. Far more than the CPUs of the hosts: expect waiting for CPUs.',
    w: 4,
    unit: 'short',
    decimals: 0,
    steps: [{ from: null, colour: 'text' }],
    queries: promql(`sum(go_runtime_gomaxprocs{${CHOSEN}})`),
  }),
  figure({
    id: ID.cpus,
    title: 'CPUs used',
    description: 'CPU seconds a second that the threads carrying Ps used.',
    w: 4,
    unit: 'short',
    decimals: 2,
    min: 0,
    steps: [{ from: null, colour: P_STATE_COLORS.running }],
    queries: promql(`sum(rate(pscope_p_thread_seconds_total{${CHOSEN},thread_state="running"}[$__rate_interval]))`),
  }),
  figure({
    id: ID.dShareNow,
    title: 'D share',
    description: 'Largest share of time any P of any process had a thread in uninterruptible sleep.',
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
    queries: { kind: 'series', metric: 'd_share', target: TARGET, by: [], aggregation: 'max' },
  }),
  figure({
    id: ID.refused,
    title: 'Refused',
    description: 'Go processes that were found but refused; the table at the bottom gives the reason of each.',
    w: 4,
    unit: 'short',
    decimals: 0,
    sparkline: false,
    steps: [
      { from: null, colour: 'text' },
      { from: 1, colour: 'orange' },
    ],
    queries: promql(`count(pscope_target_info{${CHOSEN},source="refused"}) or vector(0)`),
  }),
];

const RANKED = rankedBy(CHOSEN);

const ranking = rows({
  id: ID.ranking,
  title: 'Processes',
  description:
    'One row per process that is there at the end of the range shown or was for a minute, with its course; click a name to open its board.',
  w: 24,
  h: 8,
  sortBy: 'Busy',
  columns: rankingColumns(),
  queries: [RANKED.busy, RANKED.dShare, RANKED.cpuWait, RANKED.stopped, RANKED.imbalance].map((expr) => promql(expr)),
}).transformations([
  {
    id: 'timeSeriesTable',
    options: Object.fromEntries(['A', 'B', 'C', 'D', 'E'].map((ref) => [ref, { stat: 'mean' }])),
  },
  { id: 'merge', options: {} },
]);

const diagnosis = rows({
  id: ID.diagnosis,
  title: 'What stands out',
  description: 'Findings about all chosen processes in the range shown, with evidence and what to do.',
  w: 24,
  h: 7,
  columns: diagnosisColumns({ process: true, advice: true }),
  queries: { kind: 'diagnosis', target: TARGET },
});

const courses = [
  lines({
    id: ID.dShare,
    links: momentOfProcess,
    title: 'D share: worst P of each process',
    description:
      'Share of time in uninterruptible sleep of the P that has most of it. The dashed line is the threshold of the alert rule.',
    w: 12,
    h: 7,
    unit: 'percentunit',
    min: 0,
    max: 1,
    marks: [{ from: LEVELS.dShare, colour: THREAD_STATE_COLORS.uninterruptible }],
    queries: course(RANKED.dShare),
  }),
  lines({
    id: ID.cpuWait,
    links: momentOfProcess,
    title: 'Waiting for a CPU',
    description:
      'Share of time in which the threads that carry Ps were runnable without a CPU, on average over the Ps. The dashed line is the threshold of the alert rule.',
    w: 12,
    h: 7,
    unit: 'percentunit',
    min: 0,
    marks: [{ from: LEVELS.cpuWait, colour: 'orange' }],
    queries: course(RANKED.cpuWait),
  }),
  lines({
    id: ID.stopShare,
    links: momentOfProcess,
    title: 'Time stopped: worst P of each process',
    description: 'Share of time lost to stop-the-world intervals. The dashed line is the threshold of the alert rule.',
    w: 12,
    h: 7,
    unit: 'percentunit',
    min: 0,
    marks: [{ from: LEVELS.stopShare, colour: P_STATE_COLORS.gcstop }],
    queries: course(RANKED.stopped),
  }),
  lines({
    id: ID.busy,
    links: momentOfProcess,
    title: 'Busy share',
    description: 'Share of time in running, gc or syscall, on average over the Ps of each process.',
    w: 12,
    h: 7,
    unit: 'percentunit',
    min: 0,
    max: 1,
    queries: course(RANKED.busy),
  }),
];

const targets = rows({
  id: ID.targets,
  title: 'Every Go process found',
  description:
    'How each is observed, and why not where it is not. Source ebpf: exact. snapshot: sampled ten times a second. refused: not read at all.',
  w: 24,
  h: 8,
  columns: targetColumns(),
  queries: { kind: 'targets', target: TARGET },
});

/** The board about all hosts and processes. */
export function fleetBoard(): Board {
  const builder = board({
    uid: FLEET_UID,
    title: 'P-Scope / Fleet',
    description:
      'All hosts and Go processes: which of them have Ps that are stuck, waiting, stopped or unevenly loaded.',
    from: 'now-30m',
    refresh: '1m',
  })
    .withVariable(variables.datasource())
    .withVariable(variables.host())
    .withVariable(variables.manyProcesses());
  return finish(builder, [
    { columns: [counts] },
    { columns: [[ranking, diagnosis]] },
    { title: 'Over time', id: 100, columns: [courses] },
    { title: 'Targets', id: 101, columns: [[targets]] },
  ]);
}
