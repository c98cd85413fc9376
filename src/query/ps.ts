import { MAX_P } from '../gen/contract';

/** What is wrong with a list of Ps. */
export interface PsProblem {
  part: string;
  why: 'syntax' | 'order';
}

/**
 * Reads `0-3,7`. The result is sorted and without doubles; empty input gives an empty list, which means all Ps.
 */
export function parsePs(text: string): { ps: number[] } | { problem: PsProblem } {
  const found = new Set<number>();
  for (const raw of text.split(',')) {
    const part = raw.trim();
    if (part === '') {
      continue;
    }
    const match = /^(\d{1,4})(?:\s*-\s*(\d{1,4}))?$/.exec(part);
    if (!match) {
      return { problem: { part, why: 'syntax' } };
    }
    const first = Number(match[1]);
    const last = match[2] === undefined ? first : Number(match[2]);
    if (last < first) {
      return { problem: { part, why: 'order' } };
    }
    for (let p = first; p <= Math.min(last, MAX_P); p++) {
      found.add(p);
    }
  }
  return { ps: [...found].sort((a, b) => a - b) };
}
