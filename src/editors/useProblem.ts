import { useEffect, useId, useRef } from 'react';

/**
 * Ties the text of a problem to the control it is about, for screen readers. Not every Grafana hands the attributes on
 * to the control of each of its components, so they are set on what is inside `around`.
 */
export function useProblem(problem: string | undefined) {
  const problemId = useId();
  const around = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const control = around.current?.querySelector('input, textarea');
    if (!control || problem === undefined) {
      return undefined;
    }
    control.setAttribute('aria-describedby', problemId);
    control.setAttribute('aria-invalid', 'true');
    return () => {
      control.removeAttribute('aria-describedby');
      control.removeAttribute('aria-invalid');
    };
  }, [problem, problemId]);
  return { around, problemId };
}
