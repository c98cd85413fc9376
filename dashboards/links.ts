import { CPU_UID, PROCESS_PANELS, PROCESS_UID } from './ids';
import type { Link } from './panels';

/** How wide a view of a moment is, in milliseconds: a minute shows single stops and still what led to them. */
const MOMENT = 60_000;

/** Names of Grafana's variables in a link's template: of a field's label, or of another cell in the row. */
const label = (name: string): string => '${__field.labels.' + name + '}';
const cell = (name: string): string => '${__data.fields.' + name + '}';

const address = (board: string, parameters: Record<string, string>): string =>
  `/d/${board}?${Object.entries({ 'var-datasource': '${datasource}', ...parameters })
    .map(([name, value]) => `${name}=${value}`)
    .join('&')}`;

/** Grafana reads time and time.window as the middle and the width of a range. */
const AT_MOMENT = { time: '${__value.time}', 'time.window': String(MOMENT) };

const THE_P = {
  'var-host': label('host'),
  'var-process': label('process'),
  'var-pid': label('process_pid'),
  'var-p': label('p'),
};

/** From a cell of a heatmap, or a point of a line, to what the P did in that minute. */
export const momentOfP: Link[] = [
  {
    title: 'Timeline of this P in this minute',
    url: address(PROCESS_UID, { ...AT_MOMENT, ...THE_P, viewPanel: `panel-${PROCESS_PANELS.timeline}` }),
  },
  {
    title: 'P and CPU in this minute',
    url: address(CPU_UID, { ...AT_MOMENT, ...THE_P }),
  },
];

/** From a point of a line about a process to that process in that minute. */
export const momentOfProcess: Link[] = [
  {
    title: 'This process in this minute',
    url: address(PROCESS_UID, {
      ...AT_MOMENT,
      'var-host': label('host'),
      'var-process': label('process'),
      'var-pid': label('process_pid'),
    }),
  },
];

/**
 * From a row of a table about processes to the board about that one; `pid` is the name of the column with its number.
 */
export const processOfRow = (pid: string): Link => ({
  title: 'Open the Process board',
  url: `${address(PROCESS_UID, {
    'var-host': cell('host'),
    'var-process': cell('process'),
    'var-pid': cell(pid),
  })}&\${__url_time_range}`,
});
