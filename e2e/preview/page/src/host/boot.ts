import type { DataSourcePluginMeta } from '@grafana/data';

import type { BoardJson } from '../views/boardModel';

/** A provisioned data source as the preview's server hands it out: secrets by name only. */
export interface BootSource {
  id: number;
  uid: string;
  name: string;
  type: string;
  url: string;
  isDefault: boolean;
  jsonData: Record<string, unknown>;
  secureJsonFields: Record<string, boolean>;
}

/** What Grafana would put into its first page. */
export interface Boot {
  plugin: DataSourcePluginMeta;
  datasources: BootSource[];
  dashboards: BoardJson[] | null;
  grafanaVersion: string;
}

/** Asks the preview's server for plugin.json, data sources and boards. */
export async function fetchBoot(): Promise<Boot> {
  const response = await fetch('/preview/boot');
  const body: unknown = await response.json();
  if (!response.ok) {
    throw new Error((body as { message?: string }).message ?? `the preview's server answered ${response.status}`);
  }
  return body as Boot;
}
