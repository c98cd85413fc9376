import { DataSourcePlugin } from '@grafana/data';

import { DataSource } from './datasource';
import { ConfigEditor } from './editors/ConfigEditor';
import { QueryEditor } from './editors/QueryEditor';
import type { ScopeOptions, ScopeQuery, ScopeSecureOptions } from './types';

export const plugin = new DataSourcePlugin<DataSource, ScopeQuery, ScopeOptions, ScopeSecureOptions>(DataSource)
  .setConfigEditor(ConfigEditor)
  .setQueryEditor(QueryEditor);
