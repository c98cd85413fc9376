import type { QueryEditorProps } from '@grafana/data';
import { Combobox, InlineField, InlineFieldRow } from '@grafana/ui';
import React, { useId } from 'react';

import { ORDER_WORDS, TARGET_WORDS, VARIABLE, VARIABLE_WORDS } from '../labels';
import { TARGET_FIELDS, VARIABLE_LABELS, VARIABLE_ORDERS } from '../query/model';
import { validate } from '../query/validate';
import { selectors } from '../selectors';
import type { Source } from '../source';
import type { ScopeOptions, ScopeQuery, ScopeVariableQuery } from '../types';
import { Labelled } from './Labelled';
import { TargetPicker } from './TargetPicker';

type Props = QueryEditorProps<Source, ScopeQuery, ScopeOptions, ScopeVariableQuery>;

/** What a dashboard variable lists, and among which targets. */
export function VariableQueryEditor({ datasource, query, range, onChange }: Props) {
  const id = useId();
  const label = query.label ?? 'process';
  const target = query.target ?? {};
  const problems = validate({ refId: query.refId, kind: 'targets', target });
  const change = (news: Partial<ScopeVariableQuery>) => {
    onChange({ ...query, refId: query.refId || 'variable', label, ...news });
  };
  return (
    <div data-testid={selectors.variableEditor}>
      <InlineFieldRow>
        <InlineField label={VARIABLE.list} htmlFor={`${id}-label`}>
          <Combobox
            id={`${id}-label`}
            data-testid={selectors.variableLabel}
            options={VARIABLE_LABELS.map((value) => ({ value, ...VARIABLE_WORDS[value] }))}
            value={label}
            onChange={({ value }) => change({ label: value })}
            width={24}
          />
        </InlineField>
        <InlineField label={VARIABLE.order} htmlFor={`${id}-order`} tooltip={VARIABLE.orderTip}>
          <Combobox
            id={`${id}-order`}
            data-testid={selectors.variableOrder}
            options={VARIABLE_ORDERS.map((value) => ({ value, ...ORDER_WORDS[value] }))}
            value={query.order ?? 'name'}
            onChange={({ value }) => change({ order: value })}
            width={20}
          />
        </InlineField>
      </InlineFieldRow>
      <InlineFieldRow>
        {TARGET_FIELDS.filter((field) => field !== label).map((field) => (
          <Labelled
            key={field}
            field={field}
            label={TARGET_WORDS[field].label}
            tooltip={TARGET_WORDS[field].description}
            problems={problems}
          >
            <TargetPicker
              id={`${id}-${field}`}
              field={field}
              target={target}
              invalid={problems[field] !== undefined}
              load={(wanted, others) => datasource.labelValues(wanted, others, { range })}
              onChange={(chosen) => change({ target: chosen })}
            />
          </Labelled>
        ))}
      </InlineFieldRow>
    </div>
  );
}
