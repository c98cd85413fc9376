/** The first and the longest wait between attempts, in milliseconds. */
const FIRST_MS = 500;
const LONGEST_MS = 30_000;

/**
 * How long to wait before attempt `attempt` (0 is the first repetition). Doubles up to half a minute; half of it is
 * chance, so that the panels of many viewers don't come back in one wave.
 */
export function backoffMs(attempt: number, random: () => number = Math.random): number {
  const full = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 16));
  return Math.round(full / 2 + (full / 2) * random());
}
