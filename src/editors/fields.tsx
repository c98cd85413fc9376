import { Combobox, InlineSwitch, MultiCombobox, type ComboboxOption } from '@grafana/ui';
import React, { type ReactElement } from 'react';

import {
  AGGREGATION_WORDS,
  DIMENSION_WORDS,
  EDITOR,
  EVENT_WORDS,
  KIND_WORDS,
  metricWords,
  P_STATE_WORDS,
  TARGET_WORDS,
  THREAD_STATE_WORDS,
} from '../labels';
import { defaultAggregation, type CompleteQuery } from '../query/defaults';
import {
  AGGREGATIONS,
  DEFAULT_EVENT,
  DEFAULT_LIMIT,
  DEFAULT_RATE_HZ,
  dimensionsOf,
  EVENTS,
  metricsOf,
  P_STATES,
  TARGET_FIELDS,
  THREAD_STATES,
  withKind,
  withMetric,
  type Field,
  type Kind,
  type Metric,
  type ScopeQuery,
  type TargetField,
  type TargetSelector,
} from '../query/model';
import type { Problems } from '../query/validate';
import { TargetPicker } from './TargetPicker';
import { TextField } from './TextField';

/** The query that is edited, and what a field may do with it. */
export interface Editing {
  /** The query as it is stored. */
  query: ScopeQuery;
  /** The same with its defaults. */
  full: CompleteQuery;
  /** The kinds on offer. */
  kinds: readonly Kind[];
  problems: Problems;
  /** Stores another query. */
  store: (query: ScopeQuery) => void;
  /** Stores the query with other values in some of its fields. */
  change: (news: Partial<ScopeQuery>) => void;
  /** Values of a label among the targets that the other fields choose. */
  load: (field: TargetField, others: TargetSelector) => Promise<string[]>;
  onLoadError: (field: TargetField, why: string | undefined) => void;
}

/** What every control gets. */
interface ControlProps {
  id: string;
  'data-testid': string;
}

type Control = (editing: Editing, props: ControlProps) => ReactElement<Record<string, unknown>>;

/** How one field is edited. */
interface FieldSpec {
  label: string;
  tooltip?: string;
  control: Control;
}

/** The fields in rows, in the order in which the editor shows them. `fieldsOf` says which of them a query has. */
export const ROWS = {
  kind: ['kind'],
  what: ['metric', 'states', 'threadStates', 'by', 'aggregation'],
  where: [...TARGET_FIELDS, 'ps'],
  how: ['legend', 'resolution', 'events', 'limit', 'live', 'rateHz'],
} as const satisfies Record<string, readonly Field[]>;

/** The fields with a label and a control; `expr` has an editor of its own. */
export type LabelledField = Exclude<Field, 'expr'>;

/** How each field is edited. */
export const FIELDS: Record<LabelledField, FieldSpec> = {
  kind: {
    label: EDITOR.show,
    control: ({ query, full, kinds, store }, props) => (
      <Combobox
        {...props}
        options={kinds.map((value) => ({ value, ...KIND_WORDS[value] }))}
        value={full.kind}
        onChange={({ value }) => store(withKind(query, value))}
        width={22}
      />
    ),
  },
  metric: {
    label: EDITOR.of,
    control: ({ query, full, store }, props) => (
      <Combobox
        {...props}
        options={metricsOf(full.kind).map((value) => ({ value, ...metricWords(full.kind, value) }))}
        value={full.metric}
        onChange={({ value }) => store(withMetric(query, value))}
        width={26}
      />
    ),
  },
  states: {
    label: EDITOR.states,
    control: list({
      options: () => P_STATES.map((value) => ({ value, ...P_STATE_WORDS[value] })),
      value: (full) => full.states,
      news: (states) => ({ states: emptyIsDefault(states) }),
      placeholder: EDITOR.allStates,
      minWidth: 20,
      maxWidth: 60,
    }),
  },
  threadStates: {
    label: EDITOR.threadStates,
    control: list({
      options: () => THREAD_STATES.map((value) => ({ value, ...THREAD_STATE_WORDS[value] })),
      value: (full) => full.threadStates,
      news: (threadStates) => ({ threadStates: emptyIsDefault(threadStates) }),
      placeholder: EDITOR.allStates,
      minWidth: 20,
      maxWidth: 60,
    }),
  },
  by: {
    label: EDITOR.by,
    control: list({
      options: (full) => dimensionsOf(full.metric).map((value) => ({ value, label: DIMENSION_WORDS[value] })),
      value: (full) => full.by,
      // No label at all is a choice, too: one series.
      news: (by) => ({ by }),
      minWidth: 14,
      maxWidth: 48,
    }),
  },
  aggregation: {
    label: EDITOR.aggregation,
    control: ({ query, full, change }, props) => (
      <Combobox
        {...props}
        options={AGGREGATIONS.map((value) => ({ value, label: AGGREGATION_WORDS[value] }))}
        value={query.aggregation ?? null}
        onChange={(option) => change({ aggregation: option?.value })}
        isClearable
        placeholder={defaultAggregationWord(full.metric)}
        width={18}
      />
    ),
  },
  process: target('process'),
  host: target('host'),
  pod: target('pod'),
  container: target('container'),
  pid: target('pid'),
  ps: {
    label: EDITOR.ps,
    tooltip: EDITOR.psHelp,
    control: text('ps', { placeholder: EDITOR.psPlaceholder, width: 18 }),
  },
  legend: {
    label: EDITOR.legend,
    control: text('legend', { placeholder: EDITOR.legendPlaceholder, width: 32 }),
  },
  resolution: {
    label: EDITOR.resolution,
    tooltip: EDITOR.resolutionHelp,
    control: text('resolution', { placeholder: EDITOR.resolutionPlaceholder, width: 14 }),
  },
  events: {
    label: EDITOR.events,
    control: list({
      options: () => EVENTS.map((value) => ({ value, ...EVENT_WORDS[value] })),
      value: (full) => full.events ?? [DEFAULT_EVENT],
      news: (events) => ({ events: emptyIsDefault(events) }),
      minWidth: 20,
      maxWidth: 60,
    }),
  },
  limit: {
    label: EDITOR.limit,
    control: number('limit', {
      placeholder: (full) => String(DEFAULT_LIMIT[full.kind] ?? ''),
      suffix: EDITOR.limitRows,
      inputMode: 'numeric',
      width: 16,
    }),
  },
  live: {
    label: EDITOR.live,
    tooltip: EDITOR.liveHelp,
    control: ({ query, change }, props) => (
      <InlineSwitch
        {...props}
        value={query.live ?? false}
        onChange={(event) => change({ live: event.currentTarget.checked || undefined })}
      />
    ),
  },
  rateHz: {
    label: EDITOR.rate,
    tooltip: EDITOR.rateHelp,
    control: number('rateHz', {
      placeholder: () => String(DEFAULT_RATE_HZ),
      suffix: 'Hz',
      inputMode: 'decimal',
      width: 12,
    }),
  },
};

interface ListSpec<T extends string> {
  options: (full: CompleteQuery) => Array<ComboboxOption<T>>;
  value: (full: CompleteQuery) => T[];
  news: (chosen: T[]) => Partial<ScopeQuery>;
  placeholder?: string;
  minWidth: number;
  maxWidth: number;
}

/** A choice of several words. */
function list<T extends string>({ options, value, news, ...rest }: ListSpec<T>): Control {
  return function List({ full, change }, props) {
    return (
      <MultiCombobox
        {...props}
        {...rest}
        options={options(full)}
        value={value(full)}
        onChange={(chosen) => change(news(chosen.map((option) => option.value)))}
        width="auto"
      />
    );
  };
}

/** A line of text; an empty one is not stored. */
function text(field: 'ps' | 'legend' | 'resolution', look: { placeholder: string; width: number }): Control {
  return function Line({ query, change }, props) {
    return (
      <TextField
        {...props}
        {...look}
        value={query[field] ?? ''}
        onCommit={(written) => change({ [field]: written || undefined })}
      />
    );
  };
}

interface NumberLook {
  placeholder: (full: CompleteQuery) => string;
  suffix: string;
  inputMode: 'numeric' | 'decimal';
  width: number;
}

/** A number; an empty one is not stored. */
function number(field: 'limit' | 'rateHz', { placeholder, ...look }: NumberLook): Control {
  return function Amount({ query, full, change }, props) {
    return (
      <TextField
        {...props}
        {...look}
        placeholder={placeholder(full)}
        value={query[field] === undefined ? '' : String(query[field])}
        onCommit={(written) => change({ [field]: written ? Number(written) : undefined })}
      />
    );
  };
}

/** A field that chooses targets by one of their labels. */
function target(field: TargetField): FieldSpec {
  return {
    label: TARGET_WORDS[field].label,
    tooltip: TARGET_WORDS[field].description,
    control: ({ query, problems, load, onLoadError, change }, { id }) => (
      <TargetPicker
        id={id}
        field={field}
        target={query.target ?? {}}
        invalid={problems[field] !== undefined}
        load={load}
        onLoadError={onLoadError}
        onChange={(chosen) => change({ target: Object.keys(chosen).length ? chosen : undefined })}
      />
    ),
  };
}

function defaultAggregationWord(metric: Metric): string {
  const aggregation = defaultAggregation(metric);
  return aggregation ? AGGREGATION_WORDS[aggregation] : EDITOR.percentile;
}

function emptyIsDefault<T>(chosen: T[]): T[] | undefined {
  return chosen.length ? chosen : undefined;
}
