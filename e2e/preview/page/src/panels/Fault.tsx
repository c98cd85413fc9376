import { css } from '@emotion/css';
import type { GrafanaTheme2 } from '@grafana/data';
import { useStyles2 } from '@grafana/ui';

/** What a panel says in place of a picture. */
export function Fault({ text, error = false }: { text: string; error?: boolean }) {
  const styles = useStyles2(getStyles);
  return (
    <div className={styles.box} role={error ? 'alert' : 'status'} data-testid={error ? 'preview-error' : 'preview-empty'}>
      {text}
    </div>
  );
}

const getStyles = (theme: GrafanaTheme2) => ({
  box: css({
    display: 'flex',
    alignItems: 'center',
    justifyContent: 'center',
    height: '100%',
    padding: theme.spacing(1),
    color: theme.colors.text.secondary,
    textAlign: 'center',
    overflow: 'auto',
  }),
});
