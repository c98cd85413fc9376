import { Observable, Subscription } from 'rxjs';

import type { WatchResponse } from '../gen/pscope/v1/scope_pb';
import { backoffMs } from './backoff';
import { StreamError, type Received } from './transport';

/** What a stream that mends itself tells. */
export type WatchEvent =
  | { type: 'message'; message: WatchResponse }
  /** Broken; the next attempt follows after `retryMs`. */
  | { type: 'down'; why: string; retryMs: number }
  /** Refused for a reason that repeating does not cure; a change of what is asked is tried at once. */
  | { type: 'refused'; why: string };

export interface ResilientOptions {
  /** Characters after which a stream is replaced: an XHR keeps its whole response. */
  maxSize: number;
  /** Milliseconds after which a stream is replaced: proxies cut what lives too long. */
  maxAgeMs: number;
  random?: () => number;
}

export const RESILIENT: ResilientOptions = { maxSize: 16 * 1024 * 1024, maxAgeMs: 10 * 60_000 };

/**
 * gRPC codes that say the request itself is wrong: INVALID_ARGUMENT, PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED.
 */
const FATAL = new Set([3, 7, 12, 16]);

/** gRPC's code for what has no better one. */
const UNKNOWN = 2;

/** Asks to start afresh; sequence numbers start above. */
const AFRESH = BigInt(0);

/**
 * Keeps a stream going for whatever is asked newest. It is closed and opened again when something else is asked, when
 * it breaks (after a growing wait), and when it has grown too large or old. Each time it continues after the last
 * message seen: the agent remembers where that stream stood, so nothing is missed or sent twice.
 */
export function keepWatching<Ask>(
  asks: Observable<Ask>,
  open: (ask: Ask, resumeAfter: bigint) => Observable<Received>,
  options: ResilientOptions = RESILIENT
): Observable<WatchEvent> {
  return new Observable<WatchEvent>((subscriber) => {
    let ask: Ask;
    let current = new Subscription();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let attempt = 0;
    let lastSeq = AFRESH;

    const connect = () => {
      clearTimeout(timer);
      current.unsubscribe();
      const self = (current = new Subscription());
      const openedAt = Date.now();
      let size = 0;
      self.add(
        open(ask, lastSeq).subscribe({
          next: (received) => {
            attempt = 0;
            lastSeq = received.message.seq;
            subscriber.next({ type: 'message', message: received.message });
            size += received.size;
            if (!self.closed && (size > options.maxSize || Date.now() - openedAt > options.maxAgeMs)) {
              connect();
            }
          },
          error: (err: unknown) => broken(err instanceof StreamError ? err : new StreamError(UNKNOWN, String(err))),
          complete: () => broken(),
        })
      );
    };

    const broken = (err?: StreamError) => {
      if (err && FATAL.has(err.code)) {
        subscriber.next({ type: 'refused', why: err.message });
        return;
      }
      const retryMs = backoffMs(attempt++, options.random);
      subscriber.next({ type: 'down', why: err?.message || 'the agent closed the stream', retryMs });
      timer = setTimeout(connect, retryMs);
    };

    const asking = asks.subscribe((newest) => {
      ask = newest;
      attempt = 0;
      connect();
    });
    return () => {
      asking.unsubscribe();
      clearTimeout(timer);
      current.unsubscribe();
    };
  });
}
