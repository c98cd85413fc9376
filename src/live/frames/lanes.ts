/** The intervals of one lane of a timeline in columns, ordered by start, without overlap. Times in Unix milliseconds. */
export interface Intervals {
  start: number[];
  end: number[];
  /** Index into the enum of states. */
  code: number[];
}

export const noIntervals = (): Intervals => ({ start: [], end: [], code: [] });

/**
 * Adds an interval at the end. What the lane holds already is cut off its front, so that two sources that overlap (history and live, a
 * stream and its successor) give neither doubles nor gaps; an equal neighbour is made longer.
 */
export function append(lane: Intervals, start: number, end: number, code: number) {
  const n = lane.start.length;
  const from = n > 0 ? Math.max(start, lane.end[n - 1] ?? start) : start;
  if (end <= from) {
    return;
  }
  if (n > 0 && lane.end[n - 1] === from && lane.code[n - 1] === code) {
    lane.end[n - 1] = end;
    return;
  }
  lane.start.push(from);
  lane.end.push(end);
  lane.code.push(code);
}

/** History up to where live intervals begin, then these: nothing twice, and a gap only where neither knows anything. */
export function join(history: Intervals, live: Intervals): Intervals {
  const liveFrom = live.start[0] ?? Infinity;
  const out = noIntervals();
  for (let i = 0; i < history.start.length && (history.start[i] ?? 0) < liveFrom; i++) {
    append(out, history.start[i] ?? 0, Math.min(history.end[i] ?? 0, liveFrom), history.code[i] ?? 0);
  }
  for (let i = 0; i < live.start.length; i++) {
    append(out, live.start[i] ?? 0, live.end[i] ?? 0, live.code[i] ?? 0);
  }
  return out;
}

/** Forgets intervals that ended before an instant. */
export function dropBefore(lane: Intervals, ms: number) {
  let n = 0;
  while (n < lane.end.length && (lane.end[n] ?? 0) < ms) {
    n++;
  }
  if (n > 0) {
    lane.start.splice(0, n);
    lane.end.splice(0, n);
    lane.code.splice(0, n);
  }
}

/**
 * The lane with at most `max` intervals between two instants. Long intervals stay exact. Runs of short ones become one, which shows a
 * rare state if there is one among them and else the state with the most time: a gcstop of microseconds must not vanish.
 */
export function reduce(
  lane: Intervals,
  fromMs: number,
  toMs: number,
  max: number,
  rare: ReadonlySet<number>
): Intervals {
  if (lane.start.length <= max) {
    return { start: lane.start.slice(), end: lane.end.slice(), code: lane.code.slice() };
  }
  // A run is at least this long, or lies between two that are: so there are at most as many as two for each width.
  const width = (2 * (toMs - fromMs)) / max;
  const out = noIntervals();
  let run: Run | undefined;
  const close = () => {
    if (run) {
      append(out, run.start, run.end, dominant(run, rare));
      run = undefined;
    }
  };
  for (let i = 0; i < lane.start.length; i++) {
    const [start, end, code] = [lane.start[i] ?? 0, lane.end[i] ?? 0, lane.code[i] ?? 0];
    if (run && (start - run.end >= width || end - start >= width)) {
      close();
    }
    if (end - start >= width) {
      append(out, start, end, code);
      continue;
    }
    run ??= { start, end, time: new Map() };
    run.end = end;
    run.time.set(code, (run.time.get(code) ?? 0) + end - start);
    if (run.end - run.start >= width) {
      close();
    }
  }
  close();
  return out;
}

interface Run {
  start: number;
  end: number;
  time: Map<number, number>;
}

function dominant(run: Run, rare: ReadonlySet<number>): number {
  let best = 0;
  let most = -1;
  for (const [code, time] of run.time) {
    const weight = rare.has(code) ? Infinity : time;
    if (weight > most) {
      best = code;
      most = weight;
    }
  }
  return best;
}
