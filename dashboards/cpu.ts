import { AnnotationPanelFilterBuilder, AnnotationQueryBuilder } from '@grafana/grafana-foundation-sdk/dashboard';

import { P_STATE_COLORS } from '../src/gen/contract';
import { CPU_PANELS, CPU_UID } from './ids';
import { board, finish, type Board } from './layout';
import { momentOfP, momentOfProcess } from './links';
import { figure, heat, lanes, lines, stack } from './panels';
import { ask, BOARD_DATASOURCE, CHOSEN_TARGET, promql } from './query';
import { aboutPs, cpuWaitFigure, cpuWaitLanesPanel, threadStatesPanel, wakeWaitFigure, wakeWaitPanel } from './shared';
import * as variables from './variables';

const ID = CPU_PANELS;

const CHOSEN = 'host=~"$host",process=~"$process",process_pid=~"$pid",p=~"$p"';

/** What the panels say that have nothing to draw; the answer's notice has the host's own reason. */
const NO_FREQUENCY =
  'No CPU frequency: the kernel of this host has no frequency driver (cpufreq), as is usual in virtual machines. Run "pscope doctor" there to see what it would take.';

/** How many Ps want a CPU for each that has one: 1 is no queue. */
const DEMAND = (by: string): string => {
  const threads = (states: string): string =>
    `sum ${by} (rate(pscope_p_thread_seconds_total{${CHOSEN},thread_state=~"${states}"}[$__rate_interval]))`;
  return `${threads('running|runnable')} / ${threads('running')}`;
};

const figures = [
  figure({
    id: ID.busyNow,
    title: 'Busy',
    description: 'Share of time in which the chosen Ps were running, in gc or in a syscall: what Go believes.',
    w: 4,
    unit: 'percentunit',
    decimals: 1,
    min: 0,
    max: 1,
    steps: [{ from: null, colour: P_STATE_COLORS.running }],
    queries: aboutPs({ kind: 'series', metric: 'busy', by: ['process'] }),
  }),
  figure({
    id: ID.onCPUNow,
    title: 'On a CPU',
    description: 'Share of time in which the threads of the chosen Ps were on a CPU: what the kernel gave them.',
    w: 4,
    unit: 'percentunit',
    decimals: 1,
    min: 0,
    max: 1,
    steps: [{ from: null, colour: P_STATE_COLORS.running }],
    queries: aboutPs({ kind: 'series', metric: 'thread', threadStates: ['running'], by: ['process'] }),
  }),
  cpuWaitFigure({
    id: ID.cpuWaitNow,
    description: 'Share of time in which the thread that carries a P was runnable but had no CPU.',
  }),
  figure({
    id: ID.demandNow,
    title: 'Ps per CPU',
    description:
      'Oversubscription: how many of the chosen Ps want a CPU for each that has one: 1 is no queue, 2 is that every P waits half of the time it could run.',
    w: 4,
    unit: 'suffix:×',
    decimals: 2,
    min: 0,
    steps: [
      { from: null, colour: 'text' },
      { from: 1.5, colour: 'orange' },
    ],
    queries: promql(DEMAND('')),
  }),
  wakeWaitFigure({
    id: ID.wakeWaitNow,
    description: 'From a P being handed to a thread until that thread runs on a CPU; 99th percentile.',
  }),
  figure({
    id: ID.frequencyNow,
    title: 'Clock',
    description:
      'CPU frequency, average over the CPUs of the chosen hosts. The third thing called P-state; it is about CPUs, not about Ps.',
    w: 4,
    unit: 'hertz',
    decimals: 2,
    steps: [{ from: null, colour: 'text' }],
    // Grafana's heatmap knows no words for no data: here are some, and the notice of the answer has the reason.
    empty: 'not measured',
    queries: { kind: 'series', metric: 'cpu_frequency', target: { host: '$host' }, by: [] },
  }),
];

const ps = [
  lanes({
    id: ID.lanes,
    links: momentOfP,
    title: 'P states: busy share',
    description:
      'One lane per P: the stronger the colour, the larger the share of time in running, gc or syscall. Beside it what the CPUs did at the same time: a busy P on a slow CPU gets less done.',
    w: 12,
    h: 8,
    unit: 'percentunit',
    decimals: 1,
    colour: P_STATE_COLORS.running,
    max: 1,
    queries: aboutPs({ kind: 'heatmap', metric: 'busy' }),
  }),
  threadStatesPanel({
    id: ID.threadStates,
    description:
      'What the kernel did with the threads that carry the chosen Ps, on average over the Ps. The yellow part wanted a CPU and had none.',
    h: 7,
  }),
];

const cpus = [
  heat({
    id: ID.frequency,
    title: 'CPU frequency, by CPU',
    description:
      'One lane per CPU of the chosen hosts, coloured by its clock. Whichever Ps ran there share it: the kernel moves threads between CPUs. No data: the kernel of the host has no frequency driver (cpufreq), as is usual in virtual machines.',
    w: 12,
    h: 8,
    unit: 'hertz',
    decimals: 2,
    scheme: 'Viridis',
    empty: NO_FREQUENCY,
    queries: { kind: 'heatmap', metric: 'cpu_frequency', target: { host: '$host' } },
  }),
  cpuWaitLanesPanel({
    id: ID.cpuWaitLanes,
    description:
      'Share of time in which the thread of each P was runnable without a CPU; the colour is full from 50 % on. More Ps than CPUs, or a CPU quota of the cgroup, show here first.',
    h: 7,
  }),
];

const waiting = [
  lines({
    id: ID.demand,
    links: momentOfProcess,
    title: 'Oversubscription',
    description:
      'How many Ps of a process want a CPU for each that has one, by process. 1 is no queue. Where it is high, lower GOMAXPROCS or raise the quota.',
    w: 12,
    h: 8,
    unit: 'suffix:×',
    decimals: 1,
    min: 0,
    queries: promql(DEMAND('by (host, process, process_pid, runtime)'), '{{process}} {{process_pid}} {{runtime}}'),
  }),
  wakeWaitPanel(ID.wakeWait),
];

const frequencies = [
  stack({
    id: ID.bands,
    title: 'CPU time by frequency band',
    description:
      'How many CPUs were in which band of 100 MHz. A host whose CPUs leave their upper bands under load is throttled by heat or power.',
    w: 12,
    h: 8,
    unit: 'suffix: CPUs',
    colours: {},
    empty: NO_FREQUENCY,
    queries: promql(
      'sum by (band) (rate(pscope_cpu_frequency_seconds_total{host=~"$host"}[$__rate_interval])) > 0',
      '{{band}}'
    ),
  }),
  lines({
    id: ID.frequencyLines,
    title: 'CPU frequency: slowest, average and fastest CPU',
    description: 'Clock of the CPUs of the chosen hosts. Far apart: some cores are throttled, or asleep.',
    w: 12,
    h: 8,
    unit: 'hertz',
    decimals: 1,
    min: 0,
    empty: NO_FREQUENCY,
    queries: [
      promql('max(pscope_cpu_frequency_hertz{host=~"$host"})', 'fastest'),
      promql('avg(pscope_cpu_frequency_hertz{host=~"$host"})', 'average'),
      promql('min(pscope_cpu_frequency_hertz{host=~"$host"})', 'slowest'),
    ],
  }),
];

/**
 * The board that sets the three things called P-state side by side: the states of Ps, of their threads, and of the
 * CPUs.
 */
export function cpuBoard(): Board {
  const builder = board({
    uid: CPU_UID,
    title: 'P-Scope / P and CPU',
    description:
      'Whether the Ps of a process get the CPUs they want, and how fast these are: P states, thread states and CPU frequency over the same time.',
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
        .name('Changes')
        .datasource(BOARD_DATASOURCE)
        .enable(true)
        .iconColor(P_STATE_COLORS.syscall)
        // Lanes show by themselves where processes begin and end.
        .filter(new AnnotationPanelFilterBuilder().exclude(true).ids([ID.lanes, ID.cpuWaitLanes]))
        .target(ask({ kind: 'stops', events: ['gomaxprocs', 'restarts'], target: CHOSEN_TARGET, limit: 50 }, 'Changes'))
    );
  return finish(builder, [
    { columns: [figures] },
    { columns: [ps, cpus] },
    { title: 'Waiting', id: 100, columns: [waiting] },
    { title: 'Frequency', id: 101, columns: [frequencies] },
  ]);
}
