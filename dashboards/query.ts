import type { Builder, Dataquery } from '@grafana/grafana-foundation-sdk/cog';
import type { DataSourceRef } from '@grafana/grafana-foundation-sdk/common';
import type { ScopeQuery } from '../src/query/model';

/** The plugin's id, as plugin.json has it. */
export const PLUGIN_ID = 'pscope-pscope-datasource';

/** The data source a board's variable `datasource` points at. */
export const BOARD_DATASOURCE: DataSourceRef = { type: PLUGIN_ID, uid: '${datasource}' };

/**
 * The uid under which provisioning/datasources/pscope.yaml creates the data source; alert rules can't use variables.
 */
export const PROVISIONED_UID = 'pscope';

/** What a board asks: a ScopeQuery without what the builder adds. */
export type Ask = Omit<ScopeQuery, 'refId' | 'datasource' | 'version'>;

/** The target fields of every query on a board about one process; the data source makes regular expressions of them. */
export const CHOSEN_TARGET: ScopeQuery['target'] = {
  host: '$host',
  process: '$process',
  pid: '$pid',
};

/** A query written in PromQL. */
export const promql = (expr: string, legend?: string): Ask => ({
  kind: 'series',
  editorMode: 'code',
  expr,
  ...(legend === undefined ? {} : { legend }),
});

/** A query against the board's data source, in the form the SDK's panel builders take. */
export function ask(query: Ask, refId = 'A'): Builder<Dataquery> {
  const built: ScopeQuery & Dataquery = {
    refId,
    datasource: BOARD_DATASOURCE,
    version: 1,
    ...query,
    // The SDK marks query types by this method; being a function it is left out of the JSON.
    _implementsDataqueryVariant: () => undefined,
  };
  return { build: () => built };
}
