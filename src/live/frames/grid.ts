/** What a step holds: an amount and the time over which it was observed, in milliseconds. */
interface Cell {
  amount: number;
  observed: number;
}

/**
 * Amounts on a grid of equal steps. What accrues between two messages is spread over the steps it spans, so that the
 * value of a step does not depend on when messages came. Column c covers (c·step, (c+1)·step]; its time is its end, as
 * in the backend's history.
 */
export class Grid {
  private readonly cells = new Map<number, Cell>();

  constructor(private readonly stepMs: number) {}

  /** Adds what accrued between two instants. */
  add(fromMs: number, toMs: number, amount: number) {
    const span = toMs - fromMs;
    for (let column = firstColumn(fromMs, this.stepMs); column <= lastColumn(toMs, this.stepMs); column++) {
      const overlap = Math.min(toMs, (column + 1) * this.stepMs) - Math.max(fromMs, column * this.stepMs);
      const cell = this.cells.get(column) ?? { amount: 0, observed: 0 };
      cell.amount += (amount * overlap) / span;
      cell.observed += overlap;
      this.cells.set(column, cell);
    }
  }

  /** Amount per time in a column; undefined where less than `least` milliseconds of it were observed. */
  value(column: number, least = 0): number | undefined {
    const cell = this.cells.get(column);
    return cell && cell.observed > least ? cell.amount / cell.observed : undefined;
  }

  /** Forgets what is older than a column; whether nothing is left. */
  trim(oldest: number): boolean {
    for (const column of this.cells.keys()) {
      if (column >= oldest) {
        break; // Columns were added in order of time.
      }
      this.cells.delete(column);
    }
    return this.cells.size === 0;
  }
}

/** The column of what comes right after an instant. */
export function firstColumn(ms: number, stepMs: number): number {
  return Math.floor(ms / stepMs);
}

/** The column of what comes right before an instant. */
export function lastColumn(ms: number, stepMs: number): number {
  return Math.ceil(ms / stepMs) - 1;
}
