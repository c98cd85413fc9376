import type { AnnotationQuery, QueryEditorProps } from '@grafana/data';
import React, { useMemo } from 'react';

import type { Kind } from '../query/model';
import { selectors } from '../selectors';
import type { Source } from '../source';
import type { ScopeOptions, ScopeQuery } from '../types';
import { QueryEditor } from './QueryEditor';

const STOPS: readonly Kind[] = ['stops'];

interface Props extends QueryEditorProps<Source, ScopeQuery, ScopeOptions> {
  annotation?: AnnotationQuery<ScopeQuery>;
  onAnnotationChange?: (annotation: AnnotationQuery<ScopeQuery>) => void;
}

/** The query editor for the one kind that makes annotations: stops. */
export function AnnotationEditor({
  annotation: _annotation,
  onAnnotationChange: _onAnnotationChange,
  ...props
}: Props) {
  const query = useMemo((): ScopeQuery => ({ ...props.query, kind: 'stops' }), [props.query]);
  return (
    <div data-testid={selectors.annotationEditor}>
      <QueryEditor {...props} query={query} kinds={STOPS} />
    </div>
  );
}
