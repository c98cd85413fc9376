import { css } from '@emotion/css';
import type { GrafanaTheme2 } from '@grafana/data';
import { useStyles2 } from '@grafana/ui';
import React from 'react';

import { EDITOR } from '../labels';
import { selectors } from '../selectors';

interface Props {
  id: string;
  options: readonly string[];
  active: number;
  onChoose: (option: string) => void;
}

/** Id of one option, for the field that has the focus to point at. */
export const optionId = (list: string, index: number) => `${list}-${index}`;

/** Words to choose from below a field that keeps the focus. */
export function Suggestions({ id, options, active, onChoose }: Props) {
  const styles = useStyles2(getStyles);
  return (
    <ul
      id={id}
      role="listbox"
      aria-label={EDITOR.suggestions}
      className={styles.list}
      data-testid={selectors.suggestions}
    >
      {options.map((option, index) => (
        <li
          key={option}
          id={optionId(id, index)}
          role="option"
          aria-selected={index === active}
          className={styles.option}
          // The mouse must not take the focus from the field before the click arrives.
          onMouseDown={(event) => event.preventDefault()}
          onClick={() => onChoose(option)}
        >
          {option}
        </li>
      ))}
    </ul>
  );
}

const getStyles = (theme: GrafanaTheme2) => ({
  list: css({
    listStyle: 'none',
    margin: 0,
    padding: theme.spacing(0.5),
    border: `1px solid ${theme.colors.border.medium}`,
    borderRadius: theme.shape.radius.default,
    background: theme.colors.background.elevated ?? theme.colors.background.primary,
    boxShadow: theme.shadows.z2,
    fontFamily: theme.typography.fontFamilyMonospace,
    fontSize: theme.typography.bodySmall.fontSize,
    maxWidth: 480,
  }),
  option: css({
    padding: theme.spacing(0.25, 1),
    cursor: 'pointer',
    borderRadius: theme.shape.radius.default,
    '&[aria-selected="true"], &:hover': { background: theme.colors.action.selected },
  }),
});
