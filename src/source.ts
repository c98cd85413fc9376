import type { ScopedVars, TimeRange } from '@grafana/data';
import type { DataSourceWithBackend } from '@grafana/runtime';

import type { TargetSelector, VariableLabel, VariableOrder } from './query/model';
import type { ScopeOptions, ScopeQuery } from './types';

/** For what time and with which variables a list is asked. */
export interface ListOptions {
  range?: TimeRange;
  scopedVars?: ScopedVars;
}

/** The same for a list whose order matters. */
export interface OrderedListOptions extends ListOptions {
  order?: VariableOrder;
}

/** The data source as editors and variables know it: they import this, and the data source imports them. */
export interface Source extends DataSourceWithBackend<ScopeQuery, ScopeOptions> {
  /** The values that a label had in a time range among the targets that a selector chooses. */
  labelValues(label: VariableLabel, target?: TargetSelector, options?: OrderedListOptions): Promise<string[]>;
}
