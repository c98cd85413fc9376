import { useLayoutEffect, useRef, type RefObject } from 'react';

/** A value that callbacks made once can read as it is when they run. */
export function useLatest<T>(value: T): RefObject<T> & { current: T } {
  const ref = useRef(value);
  useLayoutEffect(() => {
    ref.current = value;
  });
  return ref;
}
