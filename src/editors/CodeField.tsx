import { Field, TextArea } from '@grafana/ui';
import React, { useEffect, useMemo, useRef, useState } from 'react';

import { EDITOR, PROBLEM } from '../labels';
import { completions } from '../query/complete';
import { VARIABLE_LABELS, type VariableLabel } from '../query/model';
import { promqlProblem } from '../query/promql';
import { selectors } from '../selectors';
import { optionId, Suggestions } from './Suggestions';
import { useDraft } from './useDraft';
import { useProblem } from './useProblem';

interface Props {
  id: string;
  expr: string;
  /** What is wrong with the stored expression. */
  problem?: string;
  onCommit: (expr: string) => void;
  onRun: () => void;
  /** The values of a label, for completion. */
  load: (label: VariableLabel) => Promise<string[]>;
}

/** Labels of series whose values the agents list under another name. */
const ASKED_AS: Readonly<Record<string, VariableLabel>> = {
  process_pid: 'pid',
  ...Object.fromEntries(VARIABLE_LABELS.filter((label) => label !== 'pid').map((label) => [label, label])),
};

/** PromQL by hand, completed and checked while it is typed; Shift+Enter or leaving the field runs it. */
export function CodeField({ id, expr, problem, onCommit, onRun, load }: Props) {
  const [text, setText] = useDraft(expr);
  const typing = text.trim() !== expr.trim();
  const shown = useMemo(() => {
    if (!typing) {
      return problem;
    }
    const found = text.trim() ? promqlProblem(text) : undefined;
    return found && PROBLEM.expr(found.near, found.column);
  }, [typing, text, problem]);

  const { around, problemId } = useProblem(shown);
  const area = useRef<HTMLTextAreaElement>(null);
  const listId = `${id}-suggestions`;
  const [caret, setCaret] = useState<number>();
  const [active, setActive] = useState(0);
  const [known, setKnown] = useState<Record<string, readonly string[]>>({});
  const found = useMemo(
    () => (caret === undefined ? undefined : completions(text, caret, known)),
    [text, caret, known]
  );
  const options = found?.options ?? [];
  const close = () => setCaret(undefined);

  // Values are asked for when the caret first stands between the quotes of their label.
  const wanted = found?.valuesOf;
  useEffect(() => {
    const label = wanted === undefined || wanted in known ? undefined : ASKED_AS[wanted];
    if (wanted === undefined || label === undefined) {
      return;
    }
    let gone = false;
    // Without values there is nothing to choose from; one can still type.
    load(label)
      .catch((): string[] => [])
      .then((values) => gone || setKnown((before) => ({ ...before, [wanted]: values })));
    return () => {
      gone = true;
    };
  }, [wanted, known, load]);

  const choose = (option: string) => {
    if (caret === undefined || found === undefined) {
      return;
    }
    setText(text.slice(0, found.from) + option + text.slice(caret));
    close();
    const end = found.from + option.length;
    // After React has written the text, which would put the caret at its end.
    requestAnimationFrame(() => area.current?.setSelectionRange(end, end));
  };

  const commit = () => {
    if (typing) {
      onCommit(text.trim());
    }
  };
  return (
    <div ref={around}>
      <Field
        label={EDITOR.expr}
        htmlFor={id}
        noMargin
        invalid={shown !== undefined}
        error={
          shown && (
            <span id={problemId} data-testid={selectors.problem('expr')}>
              {shown}
            </span>
          )
        }
      >
        <TextArea
          id={id}
          ref={area}
          aria-autocomplete="list"
          aria-controls={options.length > 0 ? listId : undefined}
          aria-activedescendant={options.length > 0 ? optionId(listId, active) : undefined}
          data-testid={selectors.field('expr')}
          value={text}
          rows={Math.min(8, Math.max(2, text.split('\n').length))}
          placeholder={EDITOR.exprPlaceholder}
          spellCheck={false}
          style={{ fontFamily: 'monospace' }}
          onChange={(event) => {
            setText(event.currentTarget.value);
            setCaret(event.currentTarget.selectionStart);
            setActive(0);
          }}
          onBlur={() => {
            close();
            commit();
          }}
          onKeyDown={(event) => {
            if (options.length > 0) {
              const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
              if (step !== undefined) {
                event.preventDefault();
                setActive((active + step + options.length) % options.length);
                return;
              }
              if ((event.key === 'Enter' && !event.shiftKey) || event.key === 'Tab') {
                event.preventDefault();
                choose(options[active] ?? '');
                return;
              }
              if (event.key === 'Escape') {
                event.preventDefault();
                close();
                return;
              }
            }
            if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') {
              close();
            }
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
      {options.length > 0 && <Suggestions id={listId} options={options} active={active} onChoose={choose} />}
    </div>
  );
}
