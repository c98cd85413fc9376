import { CoreApp, LoadingState, type QueryEditorProps } from '@grafana/data';
import { Alert, Button, InlineFieldRow, RadioButtonGroup, Stack, Text } from '@grafana/ui';
import React, { memo, useEffect, useId, useMemo, useState } from 'react';

import { EDITOR, KIND_PANEL } from '../labels';
import { canStreamFast } from '../live/plan';
import { complete, defaultQuery } from '../query/defaults';
import { migrate } from '../query/migrate';
import {
  DEFAULT_RATE_HZ,
  fieldsOf,
  isCode,
  OFFERED_KINDS,
  QUERY_VERSION,
  withoutUndefined,
  type Field,
  type Kind,
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
import { FIELDS, ROWS, type Editing, type LabelledField } from './fields';
import { Labelled } from './Labelled';
import { useLatest } from './useLatest';

export interface Props extends QueryEditorProps<Source, ScopeQuery, ScopeOptions> {
  /** The kinds on offer; all unless told. With a single one its picker is left out. */
  kinds?: readonly Kind[];
}

/**
 * The query as a sentence: show what, of what, in which targets. Only the words the chosen kind needs are there. Live
 * data give the editor new props with every frame; it is drawn again only when the query changes.
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

/**
 * Grafana's rule editor shows the default query but stores it only when somebody changes it: the rule would ask for
 * something else.
 */
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

  /** Stores what the user changed and runs the query if nothing is wrong with it. */
  const store = (next: ScopeQuery) => {
    onChange({ ...next, version: Math.max(query.version ?? 0, QUERY_VERSION) });
    if (Object.keys(validate(next)).length === 0) {
      onRunQuery();
    }
  };
  const change = (news: Partial<ScopeQuery>) => store(withoutUndefined({ ...query, ...news }));
  const onLoadError = (field: TargetField, why: string | undefined) =>
    setLoadErrors((all) => (all[field] === why ? all : { ...all, [field]: why }));

  const editing: Editing = { query, full, kinds, problems, store, change, load, onLoadError };
  const loadErrorText = Object.entries(loadErrors).find(([, why]) => why !== undefined);

  return (
    <div data-testid={selectors.queryEditor} role="group" aria-labelledby={`${id}-sentence`}>
      <Stack direction="column" gap={0.5}>
        <div id={`${id}-sentence`} data-testid={selectors.sentence}>
          <Text color="secondary">{sentence(query)}</Text>
        </div>
        <InlineFieldRow>
          {kinds.length > 1 && <Fields id={id} fields={ROWS.kind} editing={editing} />}
          {full.kind === 'series' && <EditorMode id={id} editing={editing} />}
          <Fields id={id} fields={ROWS.what} editing={editing} />
        </InlineFieldRow>
        {isCode(query) && (
          <CodeField
            id={fieldId(id, 'expr')}
            expr={query.expr ?? ''}
            problem={problems.expr}
            onCommit={(expr) => change({ expr })}
            onRun={onRunQuery}
            load={loadAll}
          />
        )}
        <FieldRow id={id} fields={ROWS.where} editing={editing} />
        {loadErrorText && (
          <Alert severity="warning" title={EDITOR.loadFailed(loadErrorText[0], loadErrorText[1] ?? '')} />
        )}
        <FieldRow id={id} fields={ROWS.how} editing={editing} />
        <RateHint query={query} />
        {drawn && !suits(full.kind, panel, loaded) && <PanelHint kind={full.kind} onExplore={() => explore(query)} />}
      </Stack>
    </div>
  );
});

interface FieldsProps {
  /** Of the editor. */
  id: string;
  fields: readonly LabelledField[];
  editing: Editing;
}

const fieldId = (id: string, field: Field) => `${id}-${field}`;

/** The fields that the query has. */
const present = (fields: readonly LabelledField[], query: ScopeQuery) => {
  const all = fieldsOf(query);
  return fields.filter((field) => all.includes(field));
};

/** Those of some fields that the query has. */
function Fields({ id, fields, editing }: FieldsProps) {
  return present(fields, editing.query).map((field) => {
    const { label, tooltip, control } = FIELDS[field];
    return (
      <Labelled key={field} field={field} label={label} tooltip={tooltip} problems={editing.problems}>
        {control(editing, { id: fieldId(id, field), 'data-testid': selectors.field(field) })}
      </Labelled>
    );
  });
}

/** The same in a row of their own, if there are any. */
function FieldRow(props: FieldsProps) {
  return present(props.fields, props.editing.query).length > 0 ? (
    <InlineFieldRow>
      <Fields {...props} />
    </InlineFieldRow>
  ) : null;
}

/** Chooses between the builder and PromQL by hand. */
function EditorMode({ id, editing: { full, change } }: { id: string; editing: Editing }) {
  return (
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
  );
}

/** Names the panel that suits the query, and leads to Explore, which needs none. */
function PanelHint({ kind, onExplore }: { kind: Kind; onExplore: () => void }) {
  return (
    <Stack direction="row" gap={1} alignItems="center" wrap="wrap">
      <div data-testid={selectors.panelHint}>
        <Text variant="bodySmall" color="secondary">
          {EDITOR.suits(KIND_PANEL[kind]?.name ?? '')}
        </Text>
      </div>
      <Button
        variant="secondary"
        fill="text"
        size="sm"
        icon="compass"
        tooltip={EDITOR.exploreHelp}
        data-testid={selectors.explore}
        onClick={onExplore}
      >
        {EDITOR.explore}
      </Button>
    </Stack>
  );
}

/** Says why a rate above the default has no effect. */
function RateHint({ query }: { query: ScopeQuery }) {
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

/**
 * Whether a kind is in a panel made for it. Where Grafana does not tell the panel, one that shows something is taken to
 * suit.
 */
function suits(kind: Kind, panel: string | undefined, loaded: boolean): boolean {
  const ids = KIND_PANEL[kind]?.ids;
  return ids === undefined || (panel === undefined ? loaded : ids.includes(panel));
}
