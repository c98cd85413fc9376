import { LoadingState, type DataFrame, type PanelData, type TimeRange } from '@grafana/data';
import { useEffect, useRef, useState } from 'react';
import { map, switchMap } from 'rxjs';

import { type Ask, makeRange, runQueries } from '../host/query';
import { transformed } from '../panels/prepare';
import type { PanelJson } from './boardModel';

export interface Answer {
  data: PanelData;
  /** The frames after the panel's transformations. */
  frames: DataFrame[];
  /** How many answers came since the queries last changed: a stream's heartbeat. */
  updates: number;
}

/** What a panel asks: everything of an Ask but the range, which is raw here. */
export type PanelAsk = Omit<Ask, 'range'> & { from: string; to: string; panel: PanelJson };

/**
 * Runs a panel's queries, again whenever `key` or `tick` changes. What is on show stays until the next answer comes,
 * so that a refresh does not flicker.
 */
export function useQueries(ask: PanelAsk | undefined, key: string, tick: number): Answer {
  const [answer, setAnswer] = useState<Answer>(() => ({ data: nothing(makeRange('now-5m', 'now')), frames: [], updates: 0 }));
  const latest = useRef(ask);
  latest.current = ask;
  const updates = useRef(0);

  useEffect(() => {
    updates.current = 0;
  }, [key]);

  useEffect(() => {
    const now = latest.current;
    if (!now) {
      return undefined;
    }
    const { from, to, panel, ...rest } = now;
    const subscription = runQueries({ ...rest, range: makeRange(from, to) })
      .pipe(switchMap((data) => transformed(panel, data.series).pipe(map((frames) => ({ data, frames })))))
      .subscribe(({ data, frames }) => {
        if (data.state === LoadingState.Loading) {
          setAnswer((old) => ({ ...old, data: { ...old.data, state: LoadingState.Loading } }));
          return;
        }
        updates.current += 1;
        setAnswer({ data, frames, updates: updates.current });
      });
    return () => subscription.unsubscribe();
  }, [key, tick]);

  return answer;
}

function nothing(timeRange: TimeRange): PanelData {
  return { state: LoadingState.NotStarted, series: [], timeRange };
}
