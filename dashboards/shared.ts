import { THREAD_STATE_COLORS } from '../src/gen/contract';
import { LEVELS } from './levels';
import { momentOfP } from './links';
import { distribution, figure, lanes, stack } from './panels';
import { CHOSEN_TARGET, type Ask } from './query';

/** A query for the Ps chosen at the top of a board. */
export const aboutPs = (query: Ask): Ask => ({ target: CHOSEN_TARGET, ps: '$p', ...query });

/** Where one board puts a panel that several boards have, and what it makes of it there. */
interface Place {
  id: number;
  description: string;
}

/** How long the threads of the chosen Ps waited for a CPU, as a number. */
export const cpuWaitFigure = (place: Place) =>
  figure({
    ...place,
    title: 'CPU wait',
    w: 4,
    unit: 'percentunit',
    decimals: 1,
    min: 0,
    steps: [
      { from: null, colour: 'text' },
      { from: LEVELS.cpuWait, colour: 'orange' },
    ],
    queries: aboutPs({ kind: 'series', metric: 'thread', threadStates: ['runnable'], by: ['process'] }),
  });

/** How long Ps waited for the thread they were handed to, as a number. */
export const wakeWaitFigure = (place: Place) =>
  figure({
    ...place,
    title: 'Wake wait',
    w: 4,
    unit: 's',
    decimals: 1,
    min: 0,
    steps: [
      { from: null, colour: 'text' },
      { from: 0.01, colour: 'orange' },
    ],
    queries: aboutPs({ kind: 'series', metric: 'wake_wait', by: ['process'] }),
  });

/** States of the threads that carry the chosen Ps, one upon the other. */
export const threadStatesPanel = (place: Place & { h: number }) =>
  stack({
    ...place,
    title: 'Thread states',
    w: 12,
    unit: 'percentunit',
    max: 1,
    colours: THREAD_STATE_COLORS,
    queries: aboutPs({ kind: 'series', metric: 'thread', by: ['thread_state'], legend: '{{thread_state}}' }),
  });

/** A lane per P of the time its thread waited for a CPU. */
export const cpuWaitLanesPanel = (place: Place & { h: number }) =>
  lanes({
    ...place,
    links: momentOfP,
    title: 'Waiting for a CPU, by P',
    w: 12,
    unit: 'percentunit',
    decimals: 1,
    colour: THREAD_STATE_COLORS.runnable,
    max: 2 * LEVELS.cpuWait,
    queries: aboutPs({ kind: 'heatmap', metric: 'thread', threadStates: ['runnable'] }),
  });

/** How long the waits of Ps for their threads were. */
export const wakeWaitPanel = (id: number) =>
  distribution({
    id,
    title: 'Wake wait',
    description:
      'How long a thread that was given a P waited until it ran on a CPU; the colour is how many waits. A band that climbs means the host runs out of CPU.',
    w: 12,
    h: 8,
    unit: 's',
    scheme: 'Oranges',
    queries: aboutPs({ kind: 'heatmap', metric: 'wake_wait' }),
  });
