import type { AnnotationSupport } from '@grafana/data';

import { AnnotationEditor } from './editors/AnnotationEditor';
import { migrate } from './query/migrate';
import { QUERY_VERSION } from './query/model';
import type { ScopeQuery } from './types';

/**
 * Stops of the world and other events as annotations; the backend's `stops` frame already has time, timeEnd and text.
 */
export const annotationSupport: AnnotationSupport<ScopeQuery> = {
  QueryEditor: AnnotationEditor,
  getDefaultQuery: () => ({ version: QUERY_VERSION, kind: 'stops' }),
  prepareQuery: (annotation) => {
    const target = annotation.target;
    // Streams have no place here: Grafana asks again when the time range changes.
    return { ...migrate(target ?? { refId: 'Anno' }), refId: target?.refId ?? 'Anno', kind: 'stops', live: false };
  },
};
