import { GOVERNOR_LEVELS, THREAD_STATE_COLORS } from '../src/gen/contract';
import { LOSS_REASONS } from './expressions';
import { SELF_PANELS, SELF_UID } from './ids';
import { board, finish, type Board } from './layout';
import { donut, figure, lines, magnitudes, rows } from './panels';
import { promql } from './query';
import { agentColumns, targetColumns } from './tables';
import * as variables from './variables';

const ID = SELF_PANELS;

const HOST = 'host=~"$host"';

const plain = [{ from: null, colour: 'text' }];

const figures = [
  figure({
    id: ID.agents,
    title: 'Agents',
    description: 'Agents that report. Every agent reports itself, so one that is missing here is down or cut off.',
    w: 4,
    unit: 'short',
    decimals: 0,
    sparkline: false,
    steps: [
      { from: null, colour: 'red' },
      { from: 1, colour: 'text' },
    ],
    queries: promql(`count(pscope_build_info{${HOST}})`),
  }),
  figure({
    id: ID.byEBPF,
    title: 'By eBPF',
    description: 'Targets whose states are followed event by event in the kernel.',
    w: 4,
    unit: 'short',
    decimals: 0,
    steps: plain,
    queries: promql(`count(pscope_target_info{${HOST},source="ebpf"}) or vector(0)`),
  }),
  figure({
    id: ID.bySnapshot,
    title: 'Snapshots',
    description:
      'Targets whose memory is only looked at now and then, because eBPF is not to be had: shares are estimates, stops are not seen.',
    w: 4,
    unit: 'short',
    decimals: 0,
    steps: [
      { from: null, colour: 'text' },
      { from: 1, colour: 'orange' },
    ],
    queries: promql(`count(pscope_target_info{${HOST},source="snapshot"}) or vector(0)`),
  }),
  figure({
    id: ID.refused,
    title: 'Refused',
    description: 'Go processes that are not read, because they could not be read with certainty.',
    w: 4,
    unit: 'short',
    decimals: 0,
    steps: [
      { from: null, colour: 'text' },
      { from: 1, colour: 'orange' },
    ],
    queries: promql(`count(pscope_target_info{${HOST},source="refused"}) or vector(0)`),
  }),
  figure({
    id: ID.lostNow,
    title: 'Lost',
    description:
      'Events a second that are missing from the picture. Raw intervals over the budget are not counted here: their time is.',
    w: 4,
    unit: 'suffix:/s',
    decimals: 1,
    min: 0,
    steps: [
      { from: null, colour: 'text' },
      { from: 0.001, colour: THREAD_STATE_COLORS.uninterruptible },
    ],
    queries: promql(`sum(rate(pscope_lost_events_total{${HOST},${LOSS_REASONS}}[$__rate_interval])) or vector(0)`),
  }),
  figure({
    id: ID.probeNow,
    title: 'In probes',
    description:
      'CPU time a second that the kernel spends in the probes of P-Scope, all hosts together, as a share of one CPU.',
    w: 4,
    unit: 'percentunit',
    decimals: 2,
    min: 0,
    steps: plain,
    queries: promql(`sum(rate(pscope_probe_seconds_total{${HOST}}[$__rate_interval]))`),
  }),
];

const honesty = [
  lines({
    id: ID.probe,
    title: 'Time in probes, by process',
    description: 'What observing costs each process: CPU time its threads spend in the probes, as a share of one CPU.',
    w: 12,
    h: 8,
    unit: 'percentunit',
    min: 0,
    queries: promql(
      `sum by (host, process, process_pid) (rate(pscope_probe_seconds_total{${HOST}}[$__rate_interval]))`,
      '{{process}} {{process_pid}} @ {{host}}'
    ),
  }),
  magnitudes({
    id: ID.lost,
    title: 'Events lost a second, by reason',
    description:
      'Everything that was dropped, and why. The counters of time by state go on in the kernel while raw intervals are dropped.',
    w: 12,
    h: 8,
    unit: 'short',
    queries: promql(
      `sum by (host, reason) (rate(pscope_lost_events_total{${HOST}}[$__rate_interval]))`,
      '{{reason}} @ {{host}}'
    ),
  }),
  lines({
    id: ID.reconciliations,
    title: 'Reconciliations, by reason',
    description: 'How often a snapshot of the process disagreed with the event stream, and the record was put right.',
    w: 12,
    h: 8,
    unit: 'suffix:/s',
    min: 0,
    queries: promql(
      `sum by (host, reason) (rate(pscope_reconciliations_total{${HOST}}[$__rate_interval]))`,
      '{{reason}} @ {{host}}'
    ),
  }),
  lines({
    id: ID.sources,
    title: 'Targets, by source',
    description: 'How many Go processes are followed by eBPF, looked at by snapshots, or refused.',
    w: 12,
    h: 8,
    unit: 'short',
    min: 0,
    decimals: 0,
    queries: promql(`count by (source) (pscope_target_info{${HOST}})`, '{{source}}'),
  }),
];

const ownCost = [
  lines({
    id: ID.probeShare,
    title: 'Share of each process spent on being observed',
    description:
      'What observing costs each process, as a share of its own CPU time. The governor keeps it below the budget, 2 % by default, by leaving out more.',
    w: 12,
    h: 8,
    unit: 'percentunit',
    min: 0,
    queries: promql(
      `max by (host, process, process_pid) (pscope_probe_cost_ratio{${HOST}})`,
      '{{process}} {{process_pid}} @ {{host}}'
    ),
  }),
  lines({
    id: ID.governor,
    title: 'Left out by the governor',
    description: `${GOVERNOR_LEVELS.map((leftOut, level) => `${level} ${leftOut}`).join(', ')}.`,
    w: 12,
    h: 8,
    unit: 'short',
    min: 0,
    decimals: 0,
    queries: promql(
      `max by (host, process, process_pid) (pscope_governor_level{${HOST}})`,
      '{{process}} {{process_pid}} @ {{host}}'
    ),
  }),
  lines({
    id: ID.agentCPU,
    title: 'CPU of the agents',
    description:
      'What each agent itself uses, as a share of one CPU. The probes are not in it: their time is that of the processes.',
    w: 12,
    h: 8,
    unit: 'percentunit',
    min: 0,
    queries: promql(
      `rate(process_cpu_seconds_total{${HOST}}[$__rate_interval]) and on (host) pscope_build_info`,
      '{{host}}'
    ),
  }),
  lines({
    id: ID.agentMemory,
    title: 'Memory of the agents',
    description: 'Resident memory of each agent.',
    w: 12,
    h: 8,
    unit: 'bytes',
    min: 0,
    queries: promql(`process_resident_memory_bytes{${HOST}} and on (host) pscope_build_info`, '{{host}}'),
  }),
];

const agents = [
  rows({
    id: ID.versions,
    title: 'Agents',
    description:
      'The agents that report, their version and how they observe: mode snapshot means that eBPF is not to be had there.',
    w: 16,
    h: 7,
    columns: agentColumns(),
    queries: promql(`pscope_build_info{${HOST}}`),
  }).withTransformation({ id: 'timeSeriesTable', options: { A: { stat: 'lastNotNull' } } }),
  donut({
    id: ID.goVersions,
    title: 'Go versions',
    description: 'The Go versions of the processes found.',
    w: 8,
    h: 7,
    unit: 'short',
    queries: promql(`count by (go_version) (pscope_target_info{${HOST}})`, '{{go_version}}'),
  }),
];

const targets = rows({
  id: ID.targets,
  title: 'Every Go process found',
  description:
    'Go version, how it is observed, where the layout of its runtime was taken from, and why not where it is not.',
  w: 24,
  h: 8,
  columns: targetColumns(),
  queries: { kind: 'targets', target: { host: '$host' } },
});

/** The board about the agents: what they cost, what they lost, what they can't see. */
export function selfBoard(): Board {
  const builder = board({
    uid: SELF_UID,
    title: 'P-Scope / P-Scope itself',
    description: 'What P-Scope costs, what it lost and what it could not observe.',
    from: 'now-1h',
    refresh: '1m',
  })
    .withVariable(variables.datasource())
    .withVariable(variables.host());
  return finish(builder, [
    { columns: [figures] },
    { columns: [honesty] },
    { title: 'Cost', id: 102, columns: [ownCost] },
    { title: 'Agents', id: 100, columns: [agents] },
    { title: 'Targets', id: 101, columns: [[targets]] },
  ]);
}
