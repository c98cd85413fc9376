import type { AnnotationQuery, QueryEditorProps } from '@grafana/data';
import React from 'react';

import type { DataSource } from '../datasource';
import { selectors } from '../selectors';
import type { ScopeOptions, ScopeQuery } from '../types';
import { QueryEditor } from './QueryEditor';

interface Props extends QueryEditorProps<DataSource, ScopeQuery, ScopeOptions> {
  annotation?: AnnotationQuery<ScopeQuery>;
  onAnnotationChange?: (annotation: AnnotationQuery<ScopeQuery>) => void;
}

/** The query editor for the one kind that makes annotations: stops. */
export function AnnotationEditor({
  annotation: _annotation,
  onAnnotationChange: _onAnnotationChange,
  ...props
}: Props) {
  return (
    <div data-testid={selectors.annotationEditor}>
      <QueryEditor {...props} query={{ ...props.query, kind: 'stops' }} kinds={['stops']} />
    </div>
  );
}
