const THOUSAND = BigInt(1000);

/** Unix nanoseconds as whole microseconds: what a number holds exactly, where nanoseconds since 1970 are beyond it. */
export function micros(nanos: bigint): number {
  return Number(nanos / THOUSAND);
}

/** Unix nanoseconds as milliseconds, to the microsecond. */
export function millis(nanos: bigint): number {
  return micros(nanos) / 1000;
}
