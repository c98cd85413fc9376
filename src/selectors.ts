import type { Field } from './query/model';

/** Test ids, one for each thing a browser test touches. Users of the bundle's tests import these, not the strings. */
export const selectors = {
  queryEditor: 'pscope-query-editor',
  field: (field: Field) => `pscope-field-${field}`,
  problem: (field: Field) => `pscope-problem-${field}`,
  editorMode: 'pscope-editor-mode',
  suggestions: 'pscope-suggestions',
  sentence: 'pscope-sentence',
  panelHint: 'pscope-panel-hint',
  rateHint: 'pscope-rate-hint',
  explore: 'pscope-explore',
  annotationEditor: 'pscope-annotation-editor',
  variableEditor: 'pscope-variable-editor',
  variableLabel: 'pscope-variable-label',
  variableOrder: 'pscope-variable-order',
  configEditor: 'pscope-config-editor',
  config: (field: string) => `pscope-config-${field}`,
  privilegesCommand: 'pscope-privileges-command',
} as const;
