import { CoreApp, LoadingState, type QueryEditorProps } from '@grafana/data';
import {
  Alert,
  Button,
  Combobox,
  InlineFieldRow,
  InlineSwitch,
  MultiCombobox,
  RadioButtonGroup,
  Stack,
  Text,
} from '@grafana/ui';
import React, { memo, useEffect, useId, useMemo, useState } from 'react';

import {
  AGGREGATION_WORDS,
  DIMENSION_WORDS,
  EDITOR,
  EVENT_WORDS,
  KIND_PANEL,
  KIND_WORDS,
  metricWords,
  P_STATE_WORDS,
  TARGET_WORDS,
  THREAD_STATE_WORDS,
} from '../labels';
import { canStreamFast } from '../live/plan';
import { complete, defaultAggregation, defaultQuery, DEFAULT_LIMIT, DEFAULT_RATE_HZ } from '../query/defaults';
import { migrate } from '../query/migrate';
import {
  AGGREGATIONS,
  dimensionsOf,
  EVENTS,
  fieldsOf,
  isCode,
  OFFERED_KINDS,
  metricsOf,
  P_STATES,
  QUERY_VERSION,
  TARGET_FIELDS,
  THREAD_STATES,
  withKind,
  withMetric,
  withoutUndefined,
  type Field,
  type Kind,
  type Metric,
  type TargetField,
  type TargetSelector,
  type VariableLabel,
} from '../query/model';
import { sentence } from '../query/sentence';
import { validate } from '../query/validate';
import { selectors } from '../selectors';
import type { Source } from '../source';
import type { ScopeOptions, ScopeQuery } from '../types';
import { CodeField } from './CodeField';
import { exploreUrl } from './explore';
import { Labelled } from './Labelled';
import { TargetPicker } from './TargetPicker';
import { TextField } from './TextField';
import { useLatest } from './useLatest';

export interface Props extends QueryEditorProps<Source, ScopeQuery, ScopeOptions> {
  /** The kinds on offer; all unless told. With a single one its picker is left out. */
  kinds?: readonly Kind[];
}

/**
 * The query as a sentence: show what, of what, in which targets. Only the words the chosen kind needs are there. Live data give the
 * editor new props with every frame; it is drawn again only when the query changes.
 */
export function QueryEditor(props: Props) {
  const latest = useLatest(props);
  const actions = useMemo<Actions>(
    () => ({
      onChange: (query) => latest.current.onChange(query),
      onRunQuery: () => latest.current.onRunQuery(),
      loadAll: (label) => latest.current.datasource.labelValues(label, {}, { range: latest.current.range }),
      load: (label, others) => latest.current.datasource.labelValues(label, others, { range: latest.current.range }),
      explore: (query) => {
        const { datasource, range } = latest.current;
        // The panel under edit stays as it is.
        window.open(exploreUrl(datasource, query, range), '_blank', 'noopener');
      },
    }),
    [latest]
  );
  useStoredDefault(latest);
  const state = props.data?.state;
  const { kinds = OFFERED_KINDS, app } = props;
  return (
    <Sentence
      query={props.query}
      kinds={kinds}
      actions={actions}
      loaded={state === LoadingState.Done || state === LoadingState.Streaming}
      panel={props.data?.request?.panelPluginId}
      // Explore draws what frames say they are for; an annotation and an alert rule have no panel.
      drawn={kinds.length > 1 && app !== CoreApp.Explore && app !== CoreApp.UnifiedAlerting}
    />
  );
}

/** Grafana's rule editor shows the default query but stores it only when somebody changes it: the rule would ask for something else. */
function useStoredDefault(latest: { readonly current: Props }) {
  useEffect(() => {
    const { app, query, onChange } = latest.current;
    if (app !== CoreApp.UnifiedAlerting) {
      return;
    }
    const initial = defaultQuery(app);
    if (query.kind === initial.kind && query.metric === initial.metric) {
      onChange({ ...initial, ...query });
    }
  }, [latest]);
}

interface Actions {
  onChange: (query: ScopeQuery) => void;
  onRunQuery: () => void;
  loadAll: (label: VariableLabel) => Promise<string[]>;
  load: (label: TargetField, others: TargetSelector) => Promise<string[]>;
  explore: (query: ScopeQuery) => void;
}

interface SentenceProps {
  query: ScopeQuery;
  kinds: readonly Kind[];
  actions: Actions;
  /** Whether there is an answer. */
  loaded: boolean;
  /** The visualization that the answer was for, where Grafana tells it. */
  panel: string | undefined;
  /** Whether a panel that the user may choose draws the answer. */
  drawn: boolean;
}

const Sentence = memo(function Sentence({ query: stored, kinds, actions, loaded, panel, drawn }: SentenceProps) {
  const { onChange, onRunQuery, load, loadAll, explore } = actions;
  const query = useMemo(() => migrate(stored), [stored]);
  const id = useId();
  const problems = useMemo(() => validate(query), [query]);
  const [loadErrors, setLoadErrors] = useState<Partial<Record<TargetField, string>>>({});
  const full = complete(query);
  const fields = fieldsOf(query);
  const has = (field: Field) => fields.includes(field);
  const fieldId = (field: Field) => `${id}-${field}`;

  /** Stores what the user changed and runs the query if nothing is wrong with it. */
  const store = (next: ScopeQuery) => {
    onChange({ ...next, version: Math.max(query.version ?? 0, QUERY_VERSION) });
    if (Object.keys(validate(next)).length === 0) {
      onRunQuery();
    }
  };
  const change = (news: Partial<ScopeQuery>) => store(withoutUndefined({ ...query, ...news }));

  const loadErrorText = Object.entries(loadErrors).find(([, why]) => why !== undefined);

  return (
    <div data-testid={selectors.queryEditor} role="group" aria-labelledby={`${id}-sentence`}>
      <Stack direction="column" gap={0.5}>
        <div id={`${id}-sentence`} data-testid={selectors.sentence}>
          <Text color="secondary">{sentence(query)}</Text>
        </div>
        <InlineFieldRow>
          {kinds.length > 1 && (
            <Labelled field="kind" label={EDITOR.show} problems={problems}>
              <Combobox
                id={fieldId('kind')}
                data-testid={selectors.field('kind')}
                options={kinds.map((value) => ({ value, ...KIND_WORDS[value] }))}
                value={full.kind}
                onChange={({ value }) => store(withKind(query, value))}
                width={22}
              />
            </Labelled>
          )}
          {full.kind === 'series' && (
            <div data-testid={selectors.editorMode}>
              <RadioButtonGroup
                id={`${id}-mode`}
                aria-label={EDITOR.mode}
                options={[
                  { value: 'builder', label: EDITOR.builder },
                  { value: 'code', label: EDITOR.code },
                ]}
                value={full.editorMode}
                onChange={(editorMode: 'builder' | 'code') => change({ editorMode })}
              />
            </div>
          )}
          {has('metric') && (
            <Labelled field="metric" label={EDITOR.of} problems={problems}>
              <Combobox
                id={fieldId('metric')}
                data-testid={selectors.field('metric')}
                options={metricsOf(full.kind).map((value) => ({ value, ...metricWords(full.kind, value) }))}
                value={full.metric}
                onChange={({ value }) => store(withMetric(query, value))}
                width={26}
              />
            </Labelled>
          )}
          {has('states') && (
            <Labelled field="states" label={EDITOR.states} problems={problems}>
              <MultiCombobox
                id={fieldId('states')}
                data-testid={selectors.field('states')}
                options={P_STATES.map((value) => ({ value, ...P_STATE_WORDS[value] }))}
                value={full.states}
                onChange={(chosen) => change({ states: emptyIsDefault(chosen.map((o) => o.value)) })}
                placeholder={EDITOR.allStates}
                width="auto"
                minWidth={20}
                maxWidth={60}
              />
            </Labelled>
          )}
          {has('threadStates') && (
            <Labelled field="threadStates" label={EDITOR.threadStates} problems={problems}>
              <MultiCombobox
                id={fieldId('threadStates')}
                data-testid={selectors.field('threadStates')}
                options={THREAD_STATES.map((value) => ({ value, ...THREAD_STATE_WORDS[value] }))}
                value={full.threadStates}
                onChange={(chosen) => change({ threadStates: emptyIsDefault(chosen.map((o) => o.value)) })}
                placeholder={EDITOR.allStates}
                width="auto"
                minWidth={20}
                maxWidth={60}
              />
            </Labelled>
          )}
          {has('by') && (
            <Labelled field="by" label={EDITOR.by} problems={problems}>
              <MultiCombobox
                id={fieldId('by')}
                data-testid={selectors.field('by')}
                options={dimensionsOf(full.metric).map((value) => ({ value, label: DIMENSION_WORDS[value] }))}
                value={full.by}
                onChange={(chosen) => change({ by: chosen.map((o) => o.value) })}
                width="auto"
                minWidth={14}
                maxWidth={48}
              />
            </Labelled>
          )}
          {has('aggregation') && (
            <Labelled field="aggregation" label={EDITOR.aggregation} problems={problems}>
              <Combobox
                id={fieldId('aggregation')}
                data-testid={selectors.field('aggregation')}
                options={AGGREGATIONS.map((value) => ({ value, label: AGGREGATION_WORDS[value] }))}
                value={query.aggregation ?? null}
                onChange={(option) => change({ aggregation: option?.value })}
                isClearable
                placeholder={defaultAggregationWord(full.metric)}
                width={18}
              />
            </Labelled>
          )}
        </InlineFieldRow>

        {isCode(query) && (
          <CodeField
            id={fieldId('expr')}
            expr={query.expr ?? ''}
            problem={problems.expr}
            onCommit={(expr) => change({ expr })}
            onRun={onRunQuery}
            load={loadAll}
          />
        )}

        {(has('process') || has('ps')) && (
          <InlineFieldRow>
            {TARGET_FIELDS.filter(has).map((field) => (
              <Labelled
                key={field}
                field={field}
                label={TARGET_WORDS[field].label}
                tooltip={TARGET_WORDS[field].description}
                problems={problems}
              >
                <TargetPicker
                  id={fieldId(field)}
                  field={field}
                  target={query.target ?? {}}
                  invalid={problems[field] !== undefined}
                  load={load}
                  onLoadError={(label, why) =>
                    setLoadErrors((all) => (all[label] === why ? all : { ...all, [label]: why }))
                  }
                  onChange={(target) => change({ target: Object.keys(target).length ? target : undefined })}
                />
              </Labelled>
            ))}
            {has('ps') && (
              <Labelled field="ps" label={EDITOR.ps} tooltip={EDITOR.psHelp} problems={problems}>
                <TextField
                  id={fieldId('ps')}
                  data-testid={selectors.field('ps')}
                  value={query.ps ?? ''}
                  onCommit={(ps) => change({ ps: ps || undefined })}
                  placeholder={EDITOR.psPlaceholder}
                  width={18}
                />
              </Labelled>
            )}
          </InlineFieldRow>
        )}
        {loadErrorText && (
          <Alert severity="warning" title={EDITOR.loadFailed(loadErrorText[0], loadErrorText[1] ?? '')} />
        )}

        <InlineFieldRow>
          {has('legend') && (
            <Labelled field="legend" label={EDITOR.legend} problems={problems}>
              <TextField
                id={fieldId('legend')}
                data-testid={selectors.field('legend')}
                value={query.legend ?? ''}
                onCommit={(legend) => change({ legend: legend || undefined })}
                placeholder={EDITOR.legendPlaceholder}
                width={32}
              />
            </Labelled>
          )}
          {has('resolution') && (
            <Labelled field="resolution" label={EDITOR.resolution} tooltip={EDITOR.resolutionHelp} problems={problems}>
              <TextField
                id={fieldId('resolution')}
                data-testid={selectors.field('resolution')}
                value={query.resolution ?? ''}
                onCommit={(resolution) => change({ resolution: resolution || undefined })}
                placeholder={EDITOR.resolutionPlaceholder}
                width={14}
              />
            </Labelled>
          )}
          {has('events') && (
            <Labelled field="events" label={EDITOR.events} problems={problems}>
              <MultiCombobox
                id={fieldId('events')}
                data-testid={selectors.field('events')}
                options={EVENTS.map((value) => ({ value, ...EVENT_WORDS[value] }))}
                value={full.events ?? ['stops']}
                onChange={(chosen) => change({ events: emptyIsDefault(chosen.map((o) => o.value)) })}
                width="auto"
                minWidth={20}
                maxWidth={60}
              />
            </Labelled>
          )}
          {has('limit') && (
            <Labelled field="limit" label={EDITOR.limit} problems={problems}>
              <TextField
                id={fieldId('limit')}
                data-testid={selectors.field('limit')}
                value={query.limit === undefined ? '' : String(query.limit)}
                onCommit={(text) => change({ limit: text ? Number(text) : undefined })}
                placeholder={String(DEFAULT_LIMIT[full.kind] ?? '')}
                suffix={EDITOR.limitRows}
                inputMode="numeric"
                width={16}
              />
            </Labelled>
          )}
          {has('live') && (
            <Labelled field="live" label={EDITOR.live} tooltip={EDITOR.liveHelp} problems={problems}>
              <InlineSwitch
                id={fieldId('live')}
                data-testid={selectors.field('live')}
                value={query.live ?? false}
                onChange={(event) => change({ live: event.currentTarget.checked || undefined })}
              />
            </Labelled>
          )}
          {query.live && has('rateHz') && (
            <Labelled field="rateHz" label={EDITOR.rate} tooltip={EDITOR.rateHelp} problems={problems}>
              <TextField
                id={fieldId('rateHz')}
                data-testid={selectors.field('rateHz')}
                value={query.rateHz === undefined ? '' : String(query.rateHz)}
                onCommit={(text) => change({ rateHz: text ? Number(text) : undefined })}
                placeholder={String(DEFAULT_RATE_HZ)}
                suffix="Hz"
                inputMode="decimal"
                width={12}
              />
            </Labelled>
          )}
        </InlineFieldRow>

        <Hints query={query} />
        {drawn && !suits(full.kind, panel, loaded) && (
          <Stack direction="row" gap={1} alignItems="center" wrap="wrap">
            <div data-testid={selectors.panelHint}>
              <Text variant="bodySmall" color="secondary">
                {EDITOR.suits(KIND_PANEL[full.kind]?.name ?? '')}
              </Text>
            </div>
            <Button
              variant="secondary"
              fill="text"
              size="sm"
              icon="compass"
              tooltip={EDITOR.exploreHelp}
              data-testid={selectors.explore}
              onClick={() => explore(query)}
            >
              {EDITOR.explore}
            </Button>
          </Stack>
        )}
      </Stack>
    </div>
  );
});

/** What is no error and yet worth saying. */
function Hints({ query }: { query: ScopeQuery }) {
  if (!query.live || complete(query).rateHz <= DEFAULT_RATE_HZ || canStreamFast(query)) {
    return null;
  }
  return (
    <div data-testid={selectors.rateHint}>
      <Text variant="bodySmall" color="secondary">
        {isCode(query) ? EDITOR.codeRates : EDITOR.slowMetric}
      </Text>
    </div>
  );
}

/** Whether a kind is in a panel made for it. Where Grafana does not tell the panel, one that shows something is taken to suit. */
function suits(kind: Kind, panel: string | undefined, loaded: boolean): boolean {
  const ids = KIND_PANEL[kind]?.ids;
  return ids === undefined || (panel === undefined ? loaded : ids.includes(panel));
}

function defaultAggregationWord(metric: Metric): string {
  const aggregation = defaultAggregation(metric);
  return aggregation ? AGGREGATION_WORDS[aggregation] : EDITOR.percentile;
}

function emptyIsDefault<T>(list: T[]): T[] | undefined {
  return list.length ? list : undefined;
}
