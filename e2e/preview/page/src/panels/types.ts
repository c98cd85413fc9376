import type { DataFrame, PanelData, TimeRange } from '@grafana/data';

import type { PanelJson } from '../views/boardModel';

/** A stretch of time to be marked on a panel: an annotation. Milliseconds since the epoch. */
export interface Mark {
  from: number;
  to: number;
  text: string;
  color: string;
}

/** What each kind of panel gets; the frames have the panel's transformations and field configuration applied. */
export interface PanelProps {
  panel: PanelJson;
  frames: DataFrame[];
  data: PanelData;
  range: TimeRange;
  width: number;
  height: number;
  marks: Mark[];
}
