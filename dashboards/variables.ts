import {
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  VariableHide,
  VariableRefresh,
  VariableSort,
} from '@grafana/grafana-foundation-sdk/dashboard';

import type { ScopeVariableQuery, VariableOrder } from '../src/query/model';
import { BOARD_DATASOURCE, PLUGIN_ID } from './query';

/** Chooses among the data sources of this plugin. */
export const datasource = (): DatasourceVariableBuilder =>
  new DatasourceVariableBuilder('datasource').label('Data source').type(PLUGIN_ID).hide(VariableHide.InControlsMenu);

interface Choice {
  label: string;
  description: string;
  query: Omit<ScopeVariableQuery, 'refId'>;
  sort?: VariableSort;
}

function choice(name: string, spec: Choice): QueryVariableBuilder {
  return new QueryVariableBuilder(name)
    .label(spec.label)
    .description(spec.description)
    .datasource(BOARD_DATASOURCE)
    .query({ refId: name, ...spec.query })
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(spec.sort ?? VariableSort.NaturalAsc);
}

const several = (builder: QueryVariableBuilder): QueryVariableBuilder =>
  builder
    .multi(true)
    .includeAll(true)
    .allValue('.*')
    .current({ text: ['All'], value: ['$__all'] });

/** Hosts, all at first. */
export const host = (): QueryVariableBuilder =>
  several(choice('host', { label: 'Host', description: 'Hosts on which an agent runs', query: { label: 'host' } }));

/** Names of processes on the chosen hosts. */
const processes = (order?: VariableOrder): QueryVariableBuilder =>
  choice('process', {
    label: 'Process',
    description:
      order === 'worst'
        ? 'Names of the Go executables on the chosen hosts: first those with a P stuck in state D, then by how busy they are'
        : 'Names of the Go executables on the chosen hosts',
    query: { label: 'process', target: { host: '$host' }, ...(order ? { order } : {}) },
    sort: order === 'worst' ? VariableSort.Disabled : VariableSort.NaturalAsc,
  });

/**
 * One process name: a board about a process shows the Ps of one, or lanes of different processes would share a row. A
 * board that is opened without one shows the first of the list, and the first name of the alphabet is nobody's business
 * at three in the morning: so the order is the query's (what had a P stuck in D, then what is busiest), and Grafana
 * must not sort it.
 */
export const oneProcess = (): QueryVariableBuilder => processes('worst');

/** Any number of process names, all at first. */
export const manyProcesses = (): QueryVariableBuilder => several(processes());

/** Process ids of the chosen process, all at first. */
export const pid = (): QueryVariableBuilder =>
  several(
    choice('pid', {
      label: 'PID',
      description: 'Process ids of the chosen process',
      query: { label: 'pid', target: { host: '$host', process: '$process' } },
      sort: VariableSort.NumericalAsc,
    })
  );

/** Ps to show, all at first. */
export const ps = (): QueryVariableBuilder =>
  several(
    choice('p', {
      label: 'P',
      description: 'Ps to show',
      query: { label: 'p', target: { host: '$host', process: '$process', pid: '$pid' } },
      sort: VariableSort.NumericalAsc,
    })
  );
