import { CoreApp, type DataQueryRequest } from '@grafana/data';
import type { DataQuery } from '@grafana/schema';
import { useEffect, useState } from 'react';
import { from, isObservable, lastValueFrom } from 'rxjs';

import type { AnyDataSource } from '../host/plugin';
import { errorText, makeRange } from '../host/query';
import type { VariableValue } from '../host/templateSrv';
import type { BoardJson, VariableJson } from './boardModel';
import { useHost } from './settings';

export interface Choice {
  variable: VariableJson;
  options: string[];
  value: string[];
  /** Why its options could not be had. */
  error?: string;
}

const ALL = '$__all';

/**
 * The board's variables with their options, asked for in order, since a later one may depend on an earlier one.
 * `chosen` holds what the user picked; a pick that is no longer offered falls back to the first option or to all.
 */
export function useVariables(board: BoardJson, chosen: Record<string, string>, tick: number): { choices: Choice[] | undefined; key: string } {
  const { sources, templates } = useHost();
  const [choices, setChoices] = useState<Choice[]>();
  const picks = JSON.stringify(chosen);

  useEffect(() => {
    let cancelled = false;
    void (async () => {
      const values = new Map<string, VariableValue>();
      const list: Choice[] = [];
      for (const variable of board.templating?.list ?? []) {
        const choice = await choose(variable, chosen[variable.name], () => sources.get(null), sources.getList().map((s) => s.uid));
        if (cancelled) {
          return;
        }
        list.push(choice);
        const all = choice.value[0] === ALL;
        values.set(variable.name, {
          values: all ? choice.options : choice.value,
          all,
          allValue: variable.allValue,
          multi: variable.multi ?? false,
          includeAll: variable.includeAll ?? false,
          type: variable.type,
        });
        // Those still to come keep what they had: panels may be asking meanwhile.
        templates.set(new Map([...templates.get(), ...values]));
      }
      setChoices((old) => (JSON.stringify(old) === JSON.stringify(list) ? old : list));
    })();
    return () => {
      cancelled = true;
    };
    // Picks are compared by content.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [board, picks, sources, templates, tick]);

  return { choices, key: JSON.stringify(choices?.map((c) => c.value)) };
}

async function choose(
  variable: VariableJson,
  picked: string | undefined,
  source: () => Promise<AnyDataSource>,
  sourceUids: string[]
): Promise<Choice> {
  let options: string[] = [];
  let error: string | undefined;
  try {
    options = variable.type === 'datasource' ? sourceUids : variable.type === 'query' ? await ask(await source(), variable) : [];
  } catch (reason) {
    error = errorText(reason);
  }
  const current = variable.current?.value;
  const wanted = picked ?? (Array.isArray(current) ? current[0] : current);
  const fallback = variable.includeAll ? ALL : (options[0] ?? '');
  const value = wanted !== undefined && (options.includes(wanted) || (wanted === ALL && variable.includeAll)) ? wanted : fallback;
  return { variable, options, value: [value], ...(error ? { error } : {}) };
}

/** A variable's options, by whichever of Grafana's two ways the data source has. */
async function ask(source: AnyDataSource, variable: VariableJson): Promise<string[]> {
  const support = source.variables as { query?: (request: DataQueryRequest<DataQuery>) => unknown } | undefined;
  if (support?.query && typeof variable.query === 'object') {
    const range = makeRange('now-1h', 'now');
    const request = {
      app: CoreApp.Dashboard,
      requestId: `preview-variable-${variable.name}`,
      interval: '1s',
      intervalMs: 1000,
      range,
      rangeRaw: range.raw,
      scopedVars: {},
      targets: [variable.query],
      timezone: 'browser',
      startTime: Date.now(),
    };
    const answer = support.query(request);
    const { data } = (await lastValueFrom(isObservable(answer) ? answer : from(answer as Promise<unknown>))) as {
      data: Array<{ text?: string; value?: string }>;
    };
    return data.map(({ value, text }) => value ?? text ?? '');
  }
  const found = (await source.metricFindQuery?.(variable.query, {})) ?? [];
  return found.map(({ value, text }) => String(value ?? text));
}
