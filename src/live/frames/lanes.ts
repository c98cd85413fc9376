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
 * The lane with at most `max` intervals; a `max` of 0 or less is no bound.
 *
 * If there are too many, time is cut into equal windows, as many as the bound allows. In a window with more intervals
 * than states, each state becomes one interval as long as all of that state together. They are laid end to end in the
 * order in which the states first appear: their shares are exact, their place is not. So a state that occurs at all in
 * a window has an interval of its own there: a gcstop of microseconds must not vanish. Other windows stay as they are.
 *
 * Only when the bound is smaller than the number of states in the lane, the time of the shortest intervals goes to the
 * longest one; those in a rare state go last.
 *
 * Agents and the backend reduce history by the same rule: pkg/internal/spans. Both are tested with
 * tools/contract/cases/merge.json.
 */
export function reduce(lane: Intervals, max: number, rare: ReadonlySet<number>): Intervals {
  if (lane.start.length <= max || max <= 0) {
    return { start: lane.start.slice(), end: lane.end.slice(), code: lane.code.slice() };
  }
  const merger = new Merger(lane, max);
  for (let windows = max; windows > 1; windows = Math.floor((windows * 3) / 4)) {
    if (merger.run(windows)) {
      return merger.out;
    }
  }
  return merger.fold(rare);
}

/** Merges the intervals of a lane window by window. Columns of numbers are kept from one attempt to the next. */
class Merger {
  out = noIntervals();
  private merged: boolean[] = [];
  private readonly pieces = noIntervals();
  private readonly total = new Map<number, number>();

  constructor(
    private readonly lane: Intervals,
    private readonly max: number
  ) {}

  /** Merges with a given number of windows; false when the outcome exceeds the bound. */
  run(windows: number): boolean {
    const { start: starts, end: ends, code: codes } = this.lane;
    const from = starts[0] ?? 0;
    const width = Math.ceil(((ends[ends.length - 1] ?? 0) - from) / windows);
    this.clear();
    let edge = from + width;
    for (let i = 0; i < starts.length; i++) {
      let start = starts[i] ?? 0;
      const end = ends[i] ?? 0;
      const code = codes[i] ?? 0;
      while (start >= edge) {
        if (!this.flush()) {
          return false;
        }
        edge += (Math.floor((start - edge) / width) + 1) * width;
      }
      while (end > edge) {
        this.piece(start, edge, code);
        if (!this.flush()) {
          return false;
        }
        start = edge;
        // A long interval needs no cut at every edge it passes, only at the last.
        const whole = Math.floor((end - edge) / width) * width;
        if (whole > 0) {
          edge += whole;
          this.piece(start, edge, code);
          if (!this.flush()) {
            return false;
          }
          start = edge;
        }
        edge += width;
      }
      if (end > start) {
        this.piece(start, end, code);
      }
    }
    return this.flush();
  }

  /** Makes one window of all, and then gives the time of the shortest intervals to the longest until there are few enough. */
  fold(rare: ReadonlySet<number>): Intervals {
    const { start, end, code } = this.lane;
    this.clear();
    start.forEach((s, i) => this.piece(s, end[i] ?? 0, code[i] ?? 0));
    this.mergeOne();
    while (this.out.start.length > this.max) {
      foldOne(this.out, rare);
    }
    return this.out;
  }

  private clear() {
    this.out = noIntervals();
    this.merged = [];
    this.clearPieces();
  }

  private piece(start: number, end: number, code: number) {
    this.pieces.start.push(start);
    this.pieces.end.push(end);
    this.pieces.code.push(code);
  }

  private clearPieces() {
    this.pieces.start.length = 0;
    this.pieces.end.length = 0;
    this.pieces.code.length = 0;
  }

  /** Ends a window; false when there are more intervals than the bound. */
  private flush(): boolean {
    const { start, end, code } = this.out;
    const n = start.length;
    this.mergeOne();
    this.clearPieces();
    // The first interval of this window may go on from the one before.
    const goesOn =
      n > 0 &&
      n < start.length &&
      !this.merged[n - 1] &&
      !this.merged[n] &&
      end[n - 1] === start[n] &&
      code[n - 1] === code[n];
    if (goesOn) {
      end[n - 1] = end[n] ?? 0;
      [start, end, code].forEach((column) => column.splice(n, 1));
      this.merged.splice(n, 1);
    }
    return start.length <= this.max;
  }

  /** Appends one window. */
  private mergeOne() {
    const { start, end, code } = this.pieces;
    this.total.clear();
    for (let i = 0; i < start.length; i++) {
      const state = code[i] ?? 0;
      this.total.set(state, (this.total.get(state) ?? 0) + (end[i] ?? 0) - (start[i] ?? 0));
    }
    if (this.total.size === start.length) {
      for (let i = 0; i < start.length; i++) {
        this.push(start[i] ?? 0, end[i] ?? 0, code[i] ?? 0, false);
      }
      return;
    }
    let at = start[0] ?? 0;
    for (const [state, time] of this.total) {
      this.push(at, at + time, state, true);
      at += time;
    }
  }

  private push(start: number, end: number, code: number, merged: boolean) {
    this.out.start.push(start);
    this.out.end.push(end);
    this.out.code.push(code);
    this.merged.push(merged);
  }
}

/** Gives the time of the shortest interval to the longest; those in a rare state only when nothing else is left. */
function foldOne({ start, end, code }: Intervals, rare: ReadonlySet<number>) {
  const length = (i: number) => (end[i] ?? 0) - (start[i] ?? 0);
  const isRare = (i: number) => rare.has(code[i] ?? 0);
  let long = 0;
  for (let i = 1; i < start.length; i++) {
    long = length(i) > length(long) ? i : long;
  }
  let short = -1;
  for (let i = 0; i < start.length; i++) {
    const goesFirst = () => (isRare(i) === isRare(short) ? length(i) < length(short) : isRare(short));
    if (i !== long && (short < 0 || goesFirst())) {
      short = i;
    }
  }
  const time = length(short);
  // Everything between the two moves.
  const [first, last, by] = short < long ? [short + 1, long, -time] : [long + 1, short - 1, time];
  end[long] = (end[long] ?? 0) + time;
  for (let i = first; i <= last; i++) {
    start[i] = (start[i] ?? 0) + by;
    end[i] = (end[i] ?? 0) + by;
  }
  [start, end, code].forEach((column) => column.splice(short, 1));
}
