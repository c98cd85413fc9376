import { Observable, Subscription } from 'rxjs';

import type { WatchResponse } from '../gen/pscope/v1/scope_pb';
import { backoffMs } from './backoff';
import { StreamError, type Received } from './transport';

/** What a stream that mends itself tells. */
export type WatchEvent =
  | { type: 'message'; message: WatchResponse }
  /** Broken; the next attempt follows after `retryMs`. */
  | { type: 'down'; why: string; retryMs: number }
  /** Refused for a reason that repeating does not cure. */
  | { type: 'refused'; why: string };

export interface ResilientOptions {
  /** Characters after which a stream is replaced: an XHR keeps its whole response. */
  maxSize: number;
  /** Milliseconds after which a stream is replaced: proxies cut what lives too long. */
  maxAgeMs: number;
  random?: () => number;
  now?: () => number;
}

export const RESILIENT: ResilientOptions = { maxSize: 16 * 1024 * 1024, maxAgeMs: 10 * 60_000 };

/** gRPC codes that say the request itself is wrong: INVALID_ARGUMENT, PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED. */
const FATAL = new Set([3, 7, 12, 16]);

/** Before the first message; sequence numbers start at 1. */
const NONE = BigInt(0);

/** gRPC's code for what has no better one. */
const UNKNOWN = 2;

/**
 * Keeps a Watch stream going. When it breaks, a new one follows after a growing wait and continues after the last message seen. When
 * it grows too large or old, its successor is opened first and takes over with its first message, so that nothing is missed;
 * what both carried is dropped by its sequence number, or by readers by its time where the agent had to start afresh.
 */
export function keepWatching(
  open: (resumeAfter: bigint) => Observable<Received>,
  options: ResilientOptions = RESILIENT
): Observable<WatchEvent> {
  const now = options.now ?? Date.now;
  return new Observable<WatchEvent>((subscriber) => {
    let current: Stream | undefined;
    let successor: Stream | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let attempt = 0;
    let lastSeq = NONE;

    const pass = (message: WatchResponse) => {
      if (message.resync) {
        lastSeq = NONE;
      }
      if (message.seq > lastSeq) {
        lastSeq = message.seq;
        subscriber.next({ type: 'message', message });
      }
    };

    const run = (self: Stream) => {
      self.subscription.add(
        open(lastSeq).subscribe({
          next: ({ message, size }) => {
            attempt = 0;
            if (self === successor) {
              const old = current;
              current = self;
              successor = undefined;
              old?.subscription.unsubscribe();
            }
            pass(message);
            self.size += size;
            if (!successor && (self.size > options.maxSize || now() - self.bornAt > options.maxAgeMs)) {
              successor = newStream();
              run(successor);
            }
          },
          error: (err: unknown) =>
            ended(self, err instanceof StreamError ? err : new StreamError(UNKNOWN, String(err))),
          complete: () => ended(self),
        })
      );
    };

    const newStream = (): Stream => ({ subscription: new Subscription(), size: 0, bornAt: now() });

    const ended = (self: Stream, err?: StreamError) => {
      if (self === successor) {
        // The present stream still runs; its next message makes another successor.
        successor = undefined;
      } else if (self === current && successor) {
        current = successor;
        successor = undefined;
      } else if (self === current) {
        current = undefined;
        broken(err);
      }
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

    const connect = () => {
      current = newStream();
      run(current);
    };

    connect();
    return () => {
      clearTimeout(timer);
      current?.subscription.unsubscribe();
      successor?.subscription.unsubscribe();
    };
  });
}

/** One attempt at a stream. */
interface Stream {
  subscription: Subscription;
  size: number;
  bornAt: number;
}
