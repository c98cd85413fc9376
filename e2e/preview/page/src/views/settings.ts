import { createContext, useContext } from 'react';

import type { Boot } from '../host/boot';
import type { PreviewDataSourceSrv } from '../host/dataSources';
import type { AnyPlugin } from '../host/plugin';
import type { PreviewTemplateSrv } from '../host/templateSrv';

/** What the page was started with. */
export interface Host {
  boot: Boot;
  plugin: AnyPlugin;
  sources: PreviewDataSourceSrv;
  templates: PreviewTemplateSrv;
}

export const HostContext = createContext<Host | undefined>(undefined);

export function useHost(): Host {
  const host = useContext(HostContext);
  if (!host) {
    throw new Error('used outside of the page');
  }
  return host;
}

/** The choices of the toolbar; kept in the URL, so that a view can be linked to and tests can open it. */
export interface Settings {
  view: 'board' | 'explore' | 'config';
  theme: 'dark' | 'light';
  /** Start of the time range, such as now-15m. */
  from: string;
  to: string;
  /** Seconds between refreshes; 0: none. */
  refresh: number;
  live: boolean;
  board: string;
  /** The data source, by uid; empty: the default one. */
  source: string;
  /** The query of the explore view as JSON. */
  query: string;
}

const DEFAULTS: Settings = {
  view: 'board',
  theme: 'dark',
  from: 'now-15m',
  to: 'now',
  refresh: 10,
  live: true,
  board: 'pscope-process',
  source: '',
  query: '',
};

/** Reads the choices from the page's address; what is not there or makes no sense is left at its default. */
export function readSettings(search: string): Settings {
  const params = new URLSearchParams(search);
  const text = (name: keyof Settings): string => params.get(name) ?? String(DEFAULTS[name]);
  const view = text('view');
  const refresh = Number(text('refresh'));
  return {
    view: view === 'explore' || view === 'config' ? view : 'board',
    theme: text('theme') === 'light' ? 'light' : 'dark',
    from: text('from'),
    to: text('to'),
    refresh: Number.isFinite(refresh) && refresh >= 0 ? refresh : DEFAULTS.refresh,
    live: text('live') !== 'false',
    board: text('board'),
    source: text('source'),
    query: text('query'),
  };
}

/** The address of these choices; defaults are left out, variables of the board (var-…) stay. */
export function writeSettings(settings: Settings, search: string): string {
  const params = new URLSearchParams(search);
  for (const name of Object.keys(DEFAULTS) as Array<keyof Settings>) {
    if (settings[name] === DEFAULTS[name]) {
      params.delete(name);
    } else {
      params.set(name, String(settings[name]));
    }
  }
  return `?${params.toString()}`;
}
