import { InlineField } from '@grafana/ui';
import React, { type ReactElement } from 'react';

import type { Problems } from '../query/validate';
import type { Field } from '../query/model';
import { selectors } from '../selectors';

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
  return (
    <InlineField
      label={label}
      htmlFor={children.props.id as string}
      tooltip={tooltip}
      transparent={false}
      grow={grow}
      shrink
      invalid={problem !== undefined}
      error={problem && <span data-testid={selectors.problem(field)}>{problem}</span>}
    >
      {children}
    </InlineField>
  );
}
