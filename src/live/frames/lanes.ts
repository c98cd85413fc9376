/**
 * The intervals of one lane of a timeline in columns, ordered by start, without overlap. Times in Unix milliseconds.
 */
export interface Intervals {
  start: number[];
  end: number[];
  /** Index into the enum of states. */
  code: number[];
}

export const noIntervals = (): Intervals => ({ start: [], end: [], code: [] });

/**
 * Adds an interval at the end. What the lane holds already is cut off its front, so that two sources that overlap
 * (history and live, a stream and its successor) give neither doubles nor gaps; an equal neighbour is made longer.
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
  for (let windows = max; windows > 1; windows = Math.floor((windows * 3) / 4)) {
    // Counting costs little, and most attempts end early.
    if (walk(lane, windows, new Counter(max))) {
      const builder = new Builder();
      walk(lane, windows, builder);
      return builder.out;
    }
  }
  return fold(lane, max, rare);
}

/** What goes through the pieces of a lane window by window. */
interface Visitor {
  piece: (start: number, end: number, code: number) => void;
  /** Ends a window; false to end the walk. */
  flush: () => boolean;
}

/** Cuts a lane into windows; false when the visitor has ended the walk. */
function walk({ start: starts, end: ends, code: codes }: Intervals, windows: number, visitor: Visitor): boolean {
  const from = starts[0] ?? 0;
  const width = Math.ceil(((ends[ends.length - 1] ?? 0) - from) / windows);
  let edge = from + width;
  for (let i = 0; i < starts.length; i++) {
    let start = starts[i] ?? 0;
    const end = ends[i] ?? 0;
    const code = codes[i] ?? 0;
    if (start >= edge) {
      if (!visitor.flush()) {
        return false;
      }
      edge += (Math.floor((start - edge) / width) + 1) * width;
    }
    while (end > edge) {
      visitor.piece(start, edge, code);
      if (!visitor.flush()) {
        return false;
      }
      start = edge;
      // A long interval needs no cut at every edge it passes, only at the last.
      const whole = Math.floor((end - edge) / width) * width;
      if (whole > 0) {
        edge += whole;
        visitor.piece(start, edge, code);
        if (!visitor.flush()) {
          return false;
        }
        start = edge;
      }
      edge += width;
    }
    if (end > start) {
      visitor.piece(start, end, code);
    }
  }
  return visitor.flush();
}

/** Counts the intervals that a walk makes, up to a bound. Codes are below 32: a window's are the bits of a number. */
class Counter implements Visitor {
  private count = 0;
  private pieces = 0;
  private codes = 0;
  private distinct = 0;
  private firstStart = 0;
  private firstCode = 0;
  private lastEnd = 0;
  private lastCode = 0;
  /** End and code of the last interval that a window before has left as it was. */
  private openEnd = NaN;
  private openCode = -1;

  constructor(private readonly max: number) {}

  piece(start: number, end: number, code: number) {
    if (this.pieces === 0) {
      this.firstStart = start;
      this.firstCode = code;
    }
    this.pieces++;
    const bit = 1 << code;
    if ((this.codes & bit) === 0) {
      this.codes |= bit;
      this.distinct++;
    }
    this.lastEnd = end;
    this.lastCode = code;
  }

  flush(): boolean {
    if (this.pieces > 0) {
      const isMerged = this.distinct < this.pieces;
      const goesOn = !isMerged && this.openEnd === this.firstStart && this.openCode === this.firstCode;
      this.count += this.distinct - (goesOn ? 1 : 0);
      this.openEnd = isMerged ? NaN : this.lastEnd;
      this.openCode = this.lastCode;
      this.pieces = this.codes = this.distinct = 0;
    }
    return this.count <= this.max;
  }
}

/** Makes the intervals of a walk. */
class Builder implements Visitor {
  readonly out = noIntervals();
  private readonly pieces = noIntervals();
  private readonly total = new Map<number, number>();
  private openEnd = NaN;

  piece(start: number, end: number, code: number) {
    this.pieces.start.push(start);
    this.pieces.end.push(end);
    this.pieces.code.push(code);
    this.total.set(code, (this.total.get(code) ?? 0) + end - start);
  }

  flush(): boolean {
    const { start, end, code } = this.pieces;
    if (start.length === 0) {
      return true;
    }
    const isMerged = this.total.size < start.length;
    if (isMerged) {
      let at = start[0] ?? 0;
      for (const [state, time] of this.total) {
        push(this.out, at, at + time, state);
        at += time;
      }
    } else {
      start.forEach((from, i) => this.add(from, end[i] ?? 0, code[i] ?? 0));
    }
    this.openEnd = isMerged ? NaN : (end[end.length - 1] ?? NaN);
    [start, end, code].forEach((column) => (column.length = 0));
    this.total.clear();
    return true;
  }

  /** Adds an interval of a window that stays as it is; its first one may go on from the one before. */
  private add(start: number, end: number, code: number) {
    const last = this.out.end.length - 1;
    if (this.openEnd === start && this.out.code[last] === code) {
      this.out.end[last] = end;
    } else {
      push(this.out, start, end, code);
    }
    this.openEnd = NaN;
  }
}

function push(lane: Intervals, start: number, end: number, code: number) {
  lane.start.push(start);
  lane.end.push(end);
  lane.code.push(code);
}

/**
 * Makes one window of all, and then gives the time of the shortest intervals to the longest until there are few enough.
 */
function fold(lane: Intervals, max: number, rare: ReadonlySet<number>): Intervals {
  const builder = new Builder();
  lane.start.forEach((start, i) => builder.piece(start, lane.end[i] ?? 0, lane.code[i] ?? 0));
  builder.flush();
  while (builder.out.start.length > max) {
    foldOne(builder.out, rare);
  }
  return builder.out;
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
