import type { EnumFieldConfig, FieldConfig } from '@grafana/data';

import { P_STATE_COLORS, THREAD_STATE_COLORS } from '../../colors';
import { P_STATES, THREAD_STATES, type Metric } from '../../query/model';

/** Units in Grafana's words, as the backend's frames have them. */
const UNITS: Partial<Record<Metric, string>> = { state: 'percentunit', thread: 'percentunit', d_share: 'percentunit' };

/** How a metric's values are shown. */
export function valueConfig(metric: Metric): FieldConfig {
  const unit = UNITS[metric] ?? 'short';
  return unit === 'percentunit' ? { unit, min: 0, max: 1 } : { unit, min: 0 };
}

/** States as Grafana's enum: the index of a word is its value. */
export function stateEnum(metric: Metric): Required<Pick<EnumFieldConfig, 'text' | 'color'>> {
  return metric === 'thread'
    ? { text: [...THREAD_STATES], color: THREAD_STATES.map((s) => THREAD_STATE_COLORS[s]) }
    : { text: [...P_STATES], color: P_STATES.map((s) => P_STATE_COLORS[s]) };
}

/**
 * Names of lanes: `P3`, with the process, pid and host in front where they tell lanes apart.
 */
export function laneNames(lanes: ReadonlyArray<Record<string, string>>): string[] {
  const differs = (label: string) => new Set(lanes.map((l) => l[label] ?? '')).size > 1;
  const [host, process, pid] = [differs('host'), differs('process'), differs('process_pid')];
  return lanes.map((l) =>
    [host && l.host, (process || pid) && l.process, pid && l.process_pid, `P${l.p ?? ''}`].filter(Boolean).join(' ')
  );
}

/** Fills `{{label}}` in a legend template; without one the labels themselves are the name. */
export function legendName(template: string | undefined, labels: Record<string, string>): string | undefined {
  return template?.replace(
    /\{\{\s*(\w+)\s*\}\}/g,
    (_, label: string) => labels[label] ?? labels[label === 'pid' ? 'process_pid' : label] ?? ''
  );
}
