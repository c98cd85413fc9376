import * as emotionCss from '@emotion/css';
import * as grafanaData from '@grafana/data';
import * as grafanaI18n from '@grafana/i18n';
import * as grafanaRuntime from '@grafana/runtime';
import * as grafanaUi from '@grafana/ui';
import * as i18next from 'i18next';
import * as lodash from 'lodash';
import * as moment from 'moment';
import * as react from 'react';
import * as jsxRuntime from 'react/jsx-runtime';
import * as reactDom from 'react-dom';
import * as rxjs from 'rxjs';
import * as rxjsOperators from 'rxjs/operators';

import type { DataSourceApi, DataSourceJsonData, DataSourcePlugin } from '@grafana/data';
import type { DataQuery } from '@grafana/schema';

export type AnyDataSource = DataSourceApi<DataQuery, DataSourceJsonData>;
export type AnyPlugin = DataSourcePlugin<AnyDataSource, DataQuery, DataSourceJsonData>;

/** The part of SystemJS (loaded by its own script) that is used here. */
interface SystemJs {
  set(id: string, module: object): void;
  addImportMap(map: { imports: Record<string, string> }): void;
  import(url: string): Promise<{ plugin?: AnyPlugin }>;
}

/** Libraries that Grafana shares with its plugins; a bundle that asks for another one fails to load, naming it. */
const SHARED: Record<string, object> = {
  '@emotion/css': emotionCss,
  '@grafana/data': grafanaData,
  '@grafana/i18n': grafanaI18n,
  '@grafana/runtime': grafanaRuntime,
  '@grafana/ui': grafanaUi,
  i18next,
  lodash,
  moment,
  react,
  'react-dom': reactDom,
  'react/jsx-runtime': jsxRuntime,
  rxjs,
  'rxjs/operators': rxjsOperators,
};

/** Loads the built bundle as Grafana does: an AMD module in SystemJS, its externals from the host. */
export async function loadPlugin(id: string): Promise<AnyPlugin> {
  const system = (window as unknown as { System: SystemJs }).System;
  const imports: Record<string, string> = {};
  for (const [name, module] of Object.entries(SHARED)) {
    imports[name] = `package:${name}`;
    system.set(`package:${name}`, module);
  }
  system.addImportMap({ imports });
  const { plugin } = await system.import(`/public/plugins/${id}/module.js`);
  if (!plugin) {
    throw new Error(`module.js of ${id} exports no "plugin"`);
  }
  return plugin;
}
