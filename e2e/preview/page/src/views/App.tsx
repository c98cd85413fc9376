import { css } from '@emotion/css';
import { createTheme, type GrafanaTheme2, ThemeContext } from '@grafana/data';
import { config } from '@grafana/runtime';
import {
  Button,
  ErrorBoundaryAlert,
  GlobalStyles,
  InlineField,
  InlineSwitch,
  PortalContainer,
  RadioButtonGroup,
  TabsBar,
  Tab,
  useStyles2,
} from '@grafana/ui';
import { useEffect, useMemo, useState } from 'react';

import { Board } from './Board';
import { Config } from './Config';
import { Explore } from './Explore';
import { readSettings, type Settings, useHost, writeSettings } from './settings';

const RANGES = ['now-5m', 'now-15m', 'now-1h'];
const VIEWS: Array<{ view: Settings['view']; label: string }> = [
  { view: 'board', label: 'Board' },
  { view: 'explore', label: 'Explore' },
  { view: 'config', label: 'Settings' },
];

/** The page: a toolbar, and one of the three views. */
export function App() {
  const [settings, setSettings] = useState(() => readSettings(window.location.search));
  const theme = useMemo(() => {
    const made = createTheme({ colors: { mode: settings.theme } });
    config.theme2 = made;
    config.theme = made.v1;
    return made;
  }, [settings.theme]);
  const change = (news: Partial<Settings>): void => setSettings((old) => ({ ...old, ...news }));

  useEffect(() => {
    window.history.replaceState(null, '', writeSettings(settings, window.location.search));
  }, [settings]);

  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PortalContainer />
      <Body settings={settings} change={change} />
    </ThemeContext.Provider>
  );
}

function Body({ settings, change }: { settings: Settings; change: (news: Partial<Settings>) => void }) {
  const styles = useStyles2(getStyles);
  const { boot } = useHost();
  const [tick, setTick] = useState(0);
  const { view, from, to, refresh, live } = settings;

  useEffect(() => {
    if (refresh === 0) {
      return undefined;
    }
    const timer = setInterval(() => setTick((n) => n + 1), refresh * 1000);
    return () => clearInterval(timer);
  }, [refresh]);

  const ranges = (RANGES.includes(from) && to === 'now' ? RANGES : [...RANGES, from]).map((value) => ({
    value,
    label: RANGES.includes(value) ? value.replace('now-', '') : `${from} to ${to}`,
  }));
  return (
    <div className={styles.page}>
      <header className={styles.bar}>
        <h1 className={styles.title}>
          {boot.plugin.name} <small>preview without Grafana</small>
        </h1>
        <TabsBar hideBorder>
          {VIEWS.map(({ view: name, label }) => (
            <Tab key={name} label={label} active={view === name} onChangeTab={() => change({ view: name })} />
          ))}
        </TabsBar>
        {view !== 'config' && (
          <>
            <InlineField label="Last">
              <RadioButtonGroup aria-label="Time range" options={ranges} value={from} onChange={(value) => change({ from: value, to: 'now' })} />
            </InlineField>
            <InlineField label="Refresh">
              <RadioButtonGroup
                aria-label="Refresh every"
                options={[0, 5, 10, 30].map((value) => ({ value, label: value ? `${value}s` : 'off' }))}
                value={refresh}
                onChange={(value) => change({ refresh: value })}
              />
            </InlineField>
            <Button icon="sync" variant="secondary" onClick={() => setTick((n) => n + 1)} aria-label="Refresh now" />
            <InlineField label="Live">
              <InlineSwitch id="preview-live" value={live} onChange={(event) => change({ live: event.currentTarget.checked })} />
            </InlineField>
          </>
        )}
        <InlineField label="Light">
          <InlineSwitch
            id="preview-theme"
            value={settings.theme === 'light'}
            onChange={(event) => change({ theme: event.currentTarget.checked ? 'light' : 'dark' })}
          />
        </InlineField>
      </header>
      <main>
        <ErrorBoundaryAlert key={view}>
          {view === 'board' && <Board settings={settings} onChange={change} tick={tick} />}
          {view === 'explore' && <Explore settings={settings} onChange={change} tick={tick} />}
          {view === 'config' && <Config uid={settings.source} />}
        </ErrorBoundaryAlert>
      </main>
    </div>
  );
}

const getStyles = (theme: GrafanaTheme2) => ({
  page: css({ minHeight: '100vh', padding: theme.spacing(1, 2), background: theme.colors.background.canvas }),
  bar: css({ display: 'flex', flexWrap: 'wrap', alignItems: 'center', gap: theme.spacing(1.5), marginBottom: theme.spacing(1) }),
  title: css({ ...theme.typography.h4, margin: 0, '& small': { color: theme.colors.text.secondary } }),
});
