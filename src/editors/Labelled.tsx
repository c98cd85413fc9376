import { InlineField, InlineLabel } from '@grafana/ui';
import React, { cloneElement, useId, type ReactElement } from 'react';

import type { Problems } from '../query/validate';
import type { Field } from '../query/model';
import { selectors } from '../selectors';
import { useProblem } from './useProblem';

interface Props {
  field: Field;
  label: string;
  tooltip?: string;
  problems: Problems;
  grow?: boolean;
  children: ReactElement<Record<string, unknown>>;
}

/** One field of the query sentence: its word, its control and, beside it, what is wrong with it. */
export function Labelled({ field, label, tooltip, problems, grow, children }: Props) {
  const problem = problems[field];
  const labelId = useId();
  const { around, problemId } = useProblem(problem);
  return (
    <div ref={around} style={{ display: 'contents' }}>
      <InlineField
        label={
          <InlineLabel id={labelId} htmlFor={children.props.id as string} tooltip={tooltip} width="auto">
            {label}
          </InlineLabel>
        }
        grow={grow}
        shrink
        invalid={problem !== undefined}
        error={
          problem && (
            <span id={problemId} data-testid={selectors.problem(field)}>
              {problem}
            </span>
          )
        }
      >
        {cloneElement(children, { 'aria-labelledby': labelId })}
      </InlineField>
    </div>
  );
}
