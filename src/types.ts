import type { DataSourceJsonData } from '@grafana/data';

export type { ScopeQuery, ScopeVariableQuery } from './query/model';

/** Where a data source gets its answers from. */
export type Mode = 'local' | 'agents' | 'engine';

/** Settings every viewer's browser may see. */
export interface ScopeOptions extends DataSourceJsonData {
  mode?: Mode;
  /** The local agent's socket; empty: its default. */
  socketPath?: string;
  /** Whether the bundled agent is started when nothing listens on the socket. Default: yes. */
  startAgent?: boolean;
  /** Base URLs of agents; with an engine they give raw intervals and live data. */
  agents?: string[];
  /** Base URL of a Prometheus-compatible engine. */
  engineUrl?: string;
  /** How often the engine scrapes; empty: 15s. */
  scrapeInterval?: string;
  tlsSkipVerify?: boolean;
  tlsServerName?: string;
}

/** Settings that leave the browser once, to be stored encrypted, and never come back. */
export interface ScopeSecureOptions {
  token?: string;
  tlsCACert?: string;
  tlsClientCert?: string;
  tlsClientKey?: string;
}

/** One Go process as the resource `targets` lists it. */
export interface TargetInfo {
  host: string;
  process: string;
  pid: number;
  goVersion?: string;
  gomaxprocs?: number;
  /** `ebpf`, `snapshot` or `refused`. */
  source?: string;
  reason?: string;
  container?: string;
  pod?: string;
}
