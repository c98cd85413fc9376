import { Combobox, type ComboboxOption } from '@grafana/ui';
import React, { useCallback, useMemo } from 'react';

import { TARGET_WORDS } from '../labels';
import type { TargetField, TargetSelector } from '../query/model';
import { selectors } from '../selectors';
import { useLatest } from './useLatest';

interface Props {
  id: string;
  field: TargetField;
  target: TargetSelector;
  invalid?: boolean;
  /** Values of a label among the targets chosen by the other fields. */
  load: (field: TargetField, others: TargetSelector) => Promise<string[]>;
  onLoadError?: (field: TargetField, why: string | undefined) => void;
  onChange: (target: TargetSelector) => void;
}

/**
 * Picks a target by one of its labels: from what runs now, by a dashboard variable or by a regular expression of one's
 * own.
 */
export function TargetPicker({ id, field, target, invalid, load, onLoadError, onChange }: Props) {
  const others = useMemo(() => ({ ...target, [field]: undefined }), [target, field]);
  const newest = useLatest({ load, others, onLoadError });

  const options = useCallback((typed: string) => loadOptions(typed, field, newest), [field, newest]);

  const value = target[field];
  return (
    <Combobox<string>
      id={id}
      data-testid={selectors.field(field)}
      options={options}
      value={value ? { value, label: value } : null}
      onChange={(option) => onChange(withField(target, field, option?.value))}
      isClearable
      createCustomValue
      placeholder={TARGET_WORDS[field].all}
      invalid={invalid}
      width="auto"
      minWidth={16}
      maxWidth={48}
    />
  );
}

/**
 * What runs now and holds what was typed. A failure is told to the owner: the list then is empty, and typing still
 * works.
 */
async function loadOptions(
  typed: string,
  field: TargetField,
  newest: { current: Pick<Props, 'load' | 'onLoadError'> & { others: TargetSelector } }
): Promise<Array<ComboboxOption<string>>> {
  const { load, others, onLoadError } = newest.current;
  try {
    const values = await load(field, others);
    onLoadError?.(field, undefined);
    return values
      .filter((value) => value.toLowerCase().includes(typed.toLowerCase()))
      .map((value) => ({ value: escapeForRegex(value), label: value }));
  } catch (err) {
    onLoadError?.(field, why(err));
    return [];
  }
}

/** A name as a regular expression that matches just it. */
function escapeForRegex(name: string): string {
  return name.replace(/[\\^$*+?.()|[\]{}]/g, '\\$&');
}

function withField(target: TargetSelector, field: TargetField, value: string | undefined): TargetSelector {
  const next = { ...target };
  if (value?.trim()) {
    next[field] = value.trim();
  } else {
    delete next[field];
  }
  return next;
}

/** What a failed request says about itself. */
function why(err: unknown): string {
  if (typeof err === 'object' && err !== null) {
    const { data, message, statusText } = err as { data?: { message?: string }; message?: string; statusText?: string };
    return data?.message ?? message ?? statusText ?? 'no reason given';
  }
  return String(err);
}
