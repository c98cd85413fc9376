import { Input } from '@grafana/ui';
import React, { type ComponentProps, type KeyboardEvent } from 'react';

import { useDraft } from './useDraft';

type InputProps = ComponentProps<typeof Input>;

interface Props extends Omit<InputProps, 'value' | 'onChange' | 'onBlur'> {
  value: string;
  /** Called with the trimmed text when the user is done: leaves the field or presses Enter. */
  onCommit: (text: string) => void;
}

/** A text input that tells its owner once the user is done, so that a query does not run at every key. */
export function TextField({ value, onCommit, onKeyDown, ...rest }: Props) {
  const [text, setText] = useDraft(value);
  const commit = () => {
    if (text.trim() !== value) {
      onCommit(text.trim());
    }
  };
  return (
    <Input
      {...rest}
      value={text}
      onChange={(event) => setText(event.currentTarget.value)}
      onBlur={commit}
      onKeyDown={(event: KeyboardEvent<HTMLInputElement>) => {
        onKeyDown?.(event);
        if (event.key === 'Enter') {
          commit();
        }
      }}
    />
  );
}
