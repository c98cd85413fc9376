import { Observable } from 'rxjs';

/** Runs a function before the browser draws next; gives a way to call it off. */
export type NextFrame = (run: () => void) => () => void;

/** Not called while the tab is hidden: nothing is drawn for nobody. */
export const animationFrame: NextFrame = (run) => {
  const id = requestAnimationFrame(run);
  return () => cancelAnimationFrame(id);
};

/**
 * Lets at most `rateHz` values a second through, the newest each time, and none faster than the browser draws: a slow
 * browser gets fewer, never a queue. The first passes at once.
 */
export function paced<T>(rateHz: number, nextFrame: NextFrame = animationFrame) {
  return (source: Observable<T>): Observable<T> =>
    new Observable<T>((subscriber) => {
      const gap = 1000 / rateHz;
      let newest: { value: T } | undefined;
      let timer: ReturnType<typeof setTimeout> | undefined;
      let cancelFrame: (() => void) | undefined;
      let lastAt = -Infinity;

      const emit = () => {
        cancelFrame = undefined;
        lastAt = Date.now();
        if (newest) {
          const { value } = newest;
          newest = undefined;
          subscriber.next(value);
        }
      };
      const schedule = () => {
        if (timer !== undefined || cancelFrame) {
          return;
        }
        timer = setTimeout(
          () => {
            timer = undefined;
            cancelFrame = nextFrame(emit);
          },
          Math.max(0, lastAt + gap - Date.now())
        );
      };
      const subscription = source.subscribe({
        next: (value) => {
          newest = { value };
          schedule();
        },
        error: (err) => subscriber.error(err),
        complete: () => {
          if (newest) {
            subscriber.next(newest.value);
          }
          subscriber.complete();
        },
      });
      return () => {
        subscription.unsubscribe();
        clearTimeout(timer);
        cancelFrame?.();
      };
    });
}
