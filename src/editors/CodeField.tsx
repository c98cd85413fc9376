import { Field, TextArea } from '@grafana/ui';
import React, { useMemo } from 'react';

import { EDITOR, PROBLEM } from '../labels';
import { promqlProblem } from '../query/promql';
import { selectors } from '../selectors';
import { useDraft } from './useDraft';

interface Props {
  id: string;
  expr: string;
  /** What is wrong with the stored expression. */
  problem?: string;
  onCommit: (expr: string) => void;
  onRun: () => void;
}

/** PromQL by hand, checked while it is typed; Shift+Enter or leaving the field runs it. */
export function CodeField({ id, expr, problem, onCommit, onRun }: Props) {
  const [text, setText] = useDraft(expr);
  const typing = text.trim() !== expr.trim();
  const shown = useMemo(() => {
    if (!typing) {
      return problem;
    }
    const found = text.trim() ? promqlProblem(text) : undefined;
    return found && PROBLEM.expr(found.near, found.column);
  }, [typing, text, problem]);

  const commit = () => {
    if (typing) {
      onCommit(text.trim());
    }
  };
  return (
    <Field
      label={EDITOR.expr}
      htmlFor={id}
      noMargin
      invalid={shown !== undefined}
      error={shown && <span data-testid={selectors.problem('expr')}>{shown}</span>}
    >
      <TextArea
        id={id}
        data-testid={selectors.field('expr')}
        value={text}
        rows={Math.min(8, Math.max(2, text.split('\n').length))}
        placeholder={EDITOR.exprPlaceholder}
        spellCheck={false}
        style={{ fontFamily: 'monospace' }}
        onChange={(event) => setText(event.currentTarget.value)}
        onBlur={commit}
        onKeyDown={(event) => {
          if (event.key === 'Enter' && event.shiftKey) {
            event.preventDefault();
            if (typing) {
              commit();
            } else {
              onRun();
            }
          }
        }}
      />
    </Field>
  );
}
