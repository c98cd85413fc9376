import { delay, distinctUntilChanged, fromEvent, map, of, startWith, switchMap, type Observable } from 'rxjs';

/** A tab counts as hidden after this long, so that a quick look elsewhere changes nothing. */
const HIDDEN_AFTER_MS = 5000;

/** Whether nobody can see the page. */
export function hidden(doc: Document = document): Observable<boolean> {
  return fromEvent(doc, 'visibilitychange').pipe(
    startWith(undefined),
    map(() => doc.visibilityState === 'hidden'),
    switchMap((isHidden) => (isHidden ? of(true).pipe(delay(HIDDEN_AFTER_MS)) : of(false))),
    distinctUntilChanged()
  );
}
