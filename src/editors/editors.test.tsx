import {
  CoreApp,
  dateTime,
  LoadingState,
  type DataQueryRequest,
  type DataSourcePluginOptionsEditorProps,
  type PanelData,
} from '@grafana/data';
import { act, fireEvent, render, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import React, { useState } from 'react';

import type { DataSource } from '../datasource';
import { CONFIG, ORDER_WORDS } from '../labels';
import { defaultQuery } from '../query/defaults';
import { KINDS, type Field } from '../query/model';
import { selectors } from '../selectors';
import type { ScopeOptions, ScopeQuery, ScopeSecureOptions, ScopeVariableQuery } from '../types';
import { AnnotationEditor } from './AnnotationEditor';
import { ConfigEditor } from './ConfigEditor';
import { QueryEditor } from './QueryEditor';
import { VariableQueryEditor } from './VariableQueryEditor';

/** jsdom has none: everything counts as seen. */
class FakeIntersectionObserver {
  observe() {}
  unobserve() {}
  disconnect() {}
}

// Without the check of pointer events, which costs seconds in jsdom.
const user = userEvent.setup({ pointerEventsCheck: 0, delay: null });

// jsdom neither lays out nor draws; the lists of Grafana's comboboxes show only what has a height, and measure their
// words.
beforeAll(() => {
  Object.assign(globalThis, { IntersectionObserver: FakeIntersectionObserver });
  HTMLCanvasElement.prototype.getContext = (() => ({
    measureText: () => ({ width: 50 }),
  })) as unknown as typeof HTMLCanvasElement.prototype.getContext;
  Element.prototype.getBoundingClientRect = () =>
    ({ x: 0, y: 0, top: 0, left: 0, right: 120, bottom: 120, width: 120, height: 120 }) as DOMRect;
  HTMLElement.prototype.scrollIntoView = () => undefined;
  jest.spyOn(Element.prototype, 'clientHeight', 'get').mockReturnValue(400);
  jest.spyOn(Element.prototype, 'clientWidth', 'get').mockReturnValue(400);
});

const labelValues = jest.fn((_label: string, _target: object) => Promise.resolve(['api', 'c++']));
const datasource = {
  uid: 'u1',
  labelValues,
  getRef: () => ({ type: 'pscope-pscope-datasource', uid: 'u1' }),
  interpolateVariablesInQueries: (queries: ScopeQuery[]) =>
    queries.map((query) => ({ ...query, target: { process: query.target?.process?.replace('$process', 'api') } })),
} as unknown as DataSource;

beforeEach(() => labelValues.mockClear());

/** An editor with a panel around it that keeps the query. */
function setup(query: Partial<ScopeQuery> = {}, Editor: typeof QueryEditor = QueryEditor) {
  const onChange = jest.fn();
  const onRunQuery = jest.fn();
  function Panel() {
    const [stored, setStored] = useState<ScopeQuery>({ refId: 'A', ...query });
    return (
      <Editor
        datasource={datasource}
        query={stored}
        onChange={(next: ScopeQuery) => {
          onChange(next);
          setStored(next);
        }}
        onRunQuery={onRunQuery}
      />
    );
  }
  render(<Panel />);
  return { onChange, onRunQuery, newest: () => onChange.mock.calls[onChange.mock.calls.length - 1]?.[0] as ScopeQuery };
}

const field = (name: Field) => screen.getByTestId(selectors.field(name));
const noField = (name: Field) => screen.queryByTestId(selectors.field(name));

async function choose(name: Field, option: RegExp) {
  await user.click(field(name));
  await user.click(await findOption(option));
}

/** An entry of the list that is open. Looking for it by its role would take jsdom a second for each. */
function findOption(text: RegExp): Promise<HTMLElement> {
  return waitFor(() => {
    const found = [...document.querySelectorAll<HTMLElement>('[role=option]')].find((o) =>
      text.test(o.textContent ?? '')
    );
    expect(found).toBeDefined();
    return found as HTMLElement;
  });
}

async function type(name: Field, text: string) {
  fireEvent.change(field(name), { target: { value: text } });
  fireEvent.keyDown(field(name), { key: 'Enter' });
  await act(async () => undefined);
}

describe('QueryEditor', () => {
  it.each(KINDS)('shows what %s needs', (kind) => {
    setup({ kind });
    expect(field('kind')).toBeInTheDocument();
    expect(field('process')).toBeInTheDocument();
    expect(noField('metric') !== null).toBe(['heatmap', 'series', 'timeline'].includes(kind));
    expect(noField('by') !== null).toBe(kind === 'series');
    expect(noField('limit') !== null).toBe(['stops', 'blocked'].includes(kind));
    expect(noField('live') !== null).toBe(['heatmap', 'series', 'timeline'].includes(kind));
    expect(noField('rateHz')).toBeNull();
  });

  it('changes the kind and runs', async () => {
    const { newest, onRunQuery } = setup({});
    await choose('kind', /^Stops/);
    expect(newest()).toEqual({ refId: 'A', version: 1, kind: 'stops' });
    expect(onRunQuery).toHaveBeenCalledTimes(1);
  });

  it('offers no kind that the backend refuses', async () => {
    setup({});
    await user.click(field('kind'));
    await findOption(/^Targets/);
    expect([...document.querySelectorAll('[role=option]')].map((o) => o.textContent)).not.toContainEqual(
      expect.stringMatching(/^Profile/)
    );
  });

  it('offers processes that run, chosen by the other fields, as expressions that match just them', async () => {
    const { newest } = setup({ target: { host: 'web' } });
    await choose('process', /^c\+\+/);
    expect(labelValues).toHaveBeenCalledWith('process', { host: 'web', process: undefined }, expect.anything());
    expect(newest().target).toEqual({ host: 'web', process: 'c\\+\\+' });
  });

  it('takes a regular expression or a variable', async () => {
    const { newest } = setup({});
    await user.type(field('process'), '$process');
    await user.click(await findOption(/custom value/i));
    expect(newest().target).toEqual({ process: '$process' });
  });

  it('says when the list cannot be loaded, and still takes what is typed', async () => {
    labelValues.mockRejectedValueOnce({ data: { message: 'the agent is gone' } });
    setup({});
    await user.click(field('process'));
    expect(await screen.findByText(/the agent is gone/)).toBeInTheDocument();
  });

  it('shows an error beside its field and does not run', async () => {
    const { onRunQuery, newest } = setup({});
    await type('ps', '3-1');
    expect(screen.getByTestId(selectors.problem('ps'))).toHaveTextContent('runs backwards');
    expect(field('ps')).toHaveAccessibleDescription(/runs backwards/);
    expect(field('ps')).toBeInvalid();
    expect(newest().ps).toBe('3-1');
    expect(onRunQuery).not.toHaveBeenCalled();
    await type('ps', '1-3');
    expect(screen.queryByTestId(selectors.problem('ps'))).toBeNull();
    expect(field('ps')).not.toHaveAccessibleDescription();
    expect(field('ps')).toBeValid();
    expect(onRunQuery).toHaveBeenCalledTimes(1);
  });

  it.each([
    ['states', { kind: 'heatmap', states: ['asleep'] }],
    ['metric', { kind: 'timeline', metric: 'runq' }],
    ['process', { kind: 'stops', target: { process: '(' } }],
  ] as Array<[Field, Partial<ScopeQuery>]>)('ties the error of %s to its control', (name, query) => {
    setup(query);
    expect(field(name)).toHaveAccessibleDescription(screen.getByTestId(selectors.problem(name)).textContent ?? '');
    expect(field(name)).toBeInvalid();
  });

  it('is left by the keyboard in the order in which it reads', async () => {
    setup({ kind: 'timeline' });
    const order: Field[] = [
      'kind',
      'metric',
      'states',
      'process',
      'host',
      'pod',
      'container',
      'pid',
      'ps',
      'resolution',
    ];
    const reached: string[] = [];
    await user.click(field('kind'));
    for (let i = 0; i < 60 && reached.length < order.length; i++) {
      const id = document.activeElement?.getAttribute('data-testid');
      if (id && order.some((name) => selectors.field(name) === id) && !reached.includes(id)) {
        reached.push(id);
      }
      await user.tab();
    }
    expect(reached).toEqual(order.map((name) => selectors.field(name)));
  });

  it('runs once the user is done, not at every key', async () => {
    const { onChange } = setup({});
    await user.type(field('ps'), '0-3');
    expect(onChange).not.toHaveBeenCalled();
    await user.tab();
    expect(onChange).toHaveBeenCalledTimes(1);
  });

  it('asks for a rate once it is live', async () => {
    const { newest } = setup({});
    await user.click(field('live'));
    expect(newest().live).toBe(true);
    await type('rateHz', '30');
    expect(newest().rateHz).toBe(30);
    await user.click(field('live'));
    expect(newest()).not.toHaveProperty('live');
  });

  it('says when a metric does not stream that fast', () => {
    setup({ kind: 'series', metric: 'syscalls', live: true, rateHz: 30 });
    expect(screen.getByTestId(selectors.rateHint)).toHaveTextContent('at most 5 frames');
  });

  it('starts with what the query says, which also names it for screen readers', () => {
    setup({ kind: 'timeline', target: { process: 'api', host: 'web-1' } });
    const words = 'Show P states of process api on host web-1 as a timeline';
    expect(screen.getByTestId(selectors.sentence)).toHaveTextContent(words);
    expect(screen.getByTestId(selectors.queryEditor)).toHaveAccessibleName(words);
  });

  describe('beside a panel', () => {
    const range = { from: dateTime(1000), to: dateTime(61_000), raw: { from: 'now-1m', to: 'now' } };
    const inPanel = (query: Partial<ScopeQuery>, panelPluginId: string, app = CoreApp.PanelEditor) => {
      const request = { panelPluginId } as DataQueryRequest<ScopeQuery>;
      const data: PanelData = { state: LoadingState.Done, series: [], timeRange: range, request };
      const nothing = () => undefined;
      const stored = { refId: 'A', ...query };
      render(
        <QueryEditor
          datasource={datasource}
          query={stored}
          data={data}
          app={app}
          range={range}
          onChange={nothing}
          onRunQuery={nothing}
        />
      );
    };
    const hint = () => screen.queryByTestId(selectors.panelHint);

    it('says which one suits and what to click while it is another', () => {
      inPanel({ kind: 'timeline' }, 'timeseries');
      expect(hint()).toHaveTextContent('State timeline panel: choose it in the list of visualizations');
    });

    it.each([
      ['timeline', 'state-timeline', CoreApp.PanelEditor],
      ['heatmap', 'heatmap', CoreApp.PanelEditor],
      ['series', 'some-other-panel', CoreApp.PanelEditor],
      ['heatmap', 'timeseries', CoreApp.Explore],
      ['stops', 'timeseries', CoreApp.UnifiedAlerting],
    ] as const)('says nothing where %s is in %s of %s', (kind, panel, app) => {
      inPanel({ kind }, panel, app);
      expect(hint()).toBeNull();
    });

    it('opens the query in Explore, which draws it with the panel that suits', async () => {
      const open = jest.spyOn(window, 'open').mockReturnValue(null);
      inPanel({ kind: 'heatmap', target: { process: '$process' } }, 'timeseries');
      await user.click(screen.getByTestId(selectors.explore));
      const url = new URL(String(open.mock.calls[0]?.[0]), 'http://localhost');
      expect(url.pathname).toBe('/explore');
      expect(Object.values(JSON.parse(url.searchParams.get('panes') ?? ''))).toEqual([
        {
          datasource: 'u1',
          queries: [
            {
              refId: 'A',
              version: 1,
              kind: 'heatmap',
              target: { process: 'api' },
              datasource: { type: 'pscope-pscope-datasource', uid: 'u1' },
            },
          ],
          range: { from: 'now-1m', to: 'now' },
        },
      ]);
      open.mockRestore();
    });
  });

  it.each([
    ['stores what an alert rule begins with, since Grafana does not', defaultQuery(CoreApp.UnifiedAlerting), true],
    ['leaves an alert rule alone that asks for something else', { version: 1, kind: 'series', metric: 'runq' }, false],
  ] as const)('%s', (_, query, stores) => {
    const onChange = jest.fn();
    render(
      <QueryEditor
        datasource={datasource}
        query={{ refId: 'A', ...query }}
        app={CoreApp.UnifiedAlerting}
        onChange={onChange}
        onRunQuery={jest.fn()}
      />
    );
    expect(onChange.mock.calls).toEqual(stores ? [[{ refId: 'A', ...query }]] : []);
  });

  it('checks PromQL while it is typed and runs on Shift+Enter', async () => {
    const { newest, onRunQuery } = setup({ kind: 'series' });
    await user.click(within(screen.getByTestId(selectors.editorMode)).getByLabelText('Code'));
    expect(newest().editorMode).toBe('code');
    expect(noField('process')).toBeNull();
    expect(screen.getByTestId(selectors.problem('expr'))).toHaveTextContent('Write a PromQL');
    onRunQuery.mockClear();
    fireEvent.change(field('expr'), { target: { value: 'sum(up' } });
    expect(screen.getByTestId(selectors.problem('expr'))).toHaveTextContent('column 7');
    expect(field('expr')).toHaveAccessibleDescription(/column 7/);
    fireEvent.change(field('expr'), { target: { value: 'sum(up)' } });
    expect(screen.queryByTestId(selectors.problem('expr'))).toBeNull();
    fireEvent.keyDown(field('expr'), { key: 'Enter', shiftKey: true });
    expect(newest().expr).toBe('sum(up)');
    expect(onRunQuery).toHaveBeenCalledTimes(1);
  });

  it('completes PromQL with the keyboard and with the mouse', async () => {
    const { newest } = setup({ kind: 'series', editorMode: 'code', expr: 'up' });
    const type = (value: string) => {
      fireEvent.change(field('expr'), { target: { value, selectionStart: value.length } });
    };
    type('rate(pscope_p_uni');
    const list = screen.getByRole('listbox');
    expect(within(list).getAllByRole('option')).toHaveLength(1);
    expect(field('expr')).toHaveAttribute('aria-activedescendant', within(list).getByRole('option').id);
    await user.click(within(list).getByRole('option'));
    expect(field('expr')).toHaveValue('rate(pscope_p_uninterruptible_seconds_total');
    expect(screen.queryByRole('listbox')).toBeNull();

    type('pscope_p_seconds_total{state="');
    fireEvent.keyDown(field('expr'), { key: 'ArrowDown' });
    fireEvent.keyDown(field('expr'), { key: 'Enter' });
    expect(field('expr')).toHaveValue('pscope_p_seconds_total{state="gc');

    type('pscope_p_seconds_total{process="');
    expect(await screen.findByRole('option', { name: 'api' })).toBeInTheDocument();
    fireEvent.keyDown(field('expr'), { key: 'Escape' });
    expect(screen.queryByRole('listbox')).toBeNull();

    type('sum(up)');
    fireEvent.keyDown(field('expr'), { key: 'Enter', shiftKey: true });
    expect(newest().expr).toBe('sum(up)');
  });

  it('gives every control a name', () => {
    setup({ kind: 'series', live: true });
    const controls = document.querySelectorAll('input, textarea');
    expect(controls.length).toBeGreaterThan(12);
    controls.forEach((control) => expect(control).toHaveAccessibleName());
  });

  it('gives each word no more room than it needs', () => {
    setup({});
    const words = [...document.querySelectorAll('label')].filter((label) =>
      /^(Show|of|on host|Ps)$/.test(label.textContent ?? '')
    );
    expect(words).toHaveLength(4);
    words.forEach((word) => expect(word).toHaveStyle({ width: 'auto' }));
  });

  it('is not drawn again for every frame of a stream', () => {
    const query: ScopeQuery = { refId: 'A', kind: 'stops' };
    const read = jest.fn();
    const watched = new Proxy(query, {
      get: (target, key) => {
        read();
        return Reflect.get(target, key);
      },
    });
    const data = () => ({ state: LoadingState.Streaming, series: [] }) as unknown as PanelData;
    const editor = () => (
      <QueryEditor datasource={datasource} query={watched} data={data()} onChange={() => {}} onRunQuery={() => {}} />
    );
    const { rerender } = render(editor());
    const before = read.mock.calls.length;
    rerender(editor());
    expect(read.mock.calls.length).toBe(before);
  });
});

describe('AnnotationEditor', () => {
  it('asks for stops and nothing else', async () => {
    const { newest } = setup({}, AnnotationEditor as typeof QueryEditor);
    expect(noField('kind')).toBeNull();
    await type('limit', '50');
    expect(newest()).toMatchObject({ kind: 'stops', limit: 50 });
  });
});

describe('VariableQueryEditor', () => {
  it('lists a label of the targets chosen', async () => {
    const onChange = jest.fn();
    const query: ScopeVariableQuery = { refId: '', label: 'process' };
    render(<VariableQueryEditor datasource={datasource} query={query} onChange={onChange} onRunQuery={() => {}} />);
    expect(noField('process')).toBeNull();
    await user.click(screen.getByTestId(selectors.variableLabel));
    await user.click(await findOption(/^Ps/));
    expect(onChange).toHaveBeenCalledWith({ refId: 'variable', label: 'p' });
  });

  it('takes the order, which is by name unless told', async () => {
    const onChange = jest.fn();
    const query: ScopeVariableQuery = { refId: 'V', label: 'process' };
    render(<VariableQueryEditor datasource={datasource} query={query} onChange={onChange} onRunQuery={() => {}} />);
    expect(screen.getByTestId(selectors.variableOrder)).toHaveValue(ORDER_WORDS.name.label);
    await user.click(screen.getByTestId(selectors.variableOrder));
    await user.click(await findOption(/^Worst first/));
    expect(onChange).toHaveBeenCalledWith({ refId: 'V', label: 'process', order: 'worst' });
  });
});

describe('ConfigEditor', () => {
  type Options = DataSourcePluginOptionsEditorProps<ScopeOptions, ScopeSecureOptions>['options'];

  function configure(options: Partial<Options> = {}) {
    const onChange = jest.fn();
    function Page() {
      const [stored, setStored] = useState({ jsonData: {}, secureJsonFields: {}, ...options } as Options);
      return (
        <ConfigEditor
          options={stored}
          onOptionsChange={(next) => {
            onChange(next);
            setStored(next as Options);
          }}
        />
      );
    }
    render(<Page />);
    return () => onChange.mock.calls[onChange.mock.calls.length - 1]?.[0] as Options;
  }
  const setting = (name: string) => screen.getByTestId(selectors.config(name));

  it('starts with the agent of this host and says how it gets its privileges', () => {
    configure();
    expect(setting('startAgent')).toBeChecked();
    expect(screen.getAllByTestId(selectors.privilegesCommand)[0]).toHaveTextContent('setcap cap_bpf');
    expect(screen.queryByTestId(selectors.config('token'))).toBeNull();
  });

  it('takes one agent a line and names the wrong one', async () => {
    const newest = configure({ jsonData: { mode: 'agents' } });
    expect(screen.getByText(CONFIG.noAgents)).toBeInTheDocument();
    fireEvent.change(setting('agents'), { target: { value: 'http://a:9477\n\nftp://b' } });
    expect(newest().jsonData.agents).toEqual(['http://a:9477', 'ftp://b']);
    expect(screen.getByText(CONFIG.badUrl('ftp://b'))).toBeInTheDocument();
    fireEvent.change(setting('agents'), { target: { value: 'http://a:9477\nweb-1:9477' } });
    await waitFor(() => expect(screen.queryByText(/is no address/)).toBeNull());
  });

  it('takes an engine, with agents if there are any', () => {
    const newest = configure({ jsonData: { mode: 'engine' } });
    fireEvent.change(setting('engineUrl'), { target: { value: 'http://prom:9090' } });
    expect(newest().jsonData.engineUrl).toBe('http://prom:9090');
    expect(screen.queryByText(CONFIG.noAgents)).toBeNull();
    expect(setting('agents')).toBeInTheDocument();
  });

  it('writes secrets where they are encrypted, and never among the settings', async () => {
    const newest = configure({ jsonData: { mode: 'agents', agents: ['http://a:1'] } });
    await user.type(setting('token'), 's3cret');
    expect(newest().secureJsonData).toEqual({ token: 's3cret' });
    expect(JSON.stringify(newest().jsonData)).not.toContain('s3cret');
  });

  it('forgets a stored secret on reset', async () => {
    const newest = configure({ jsonData: { mode: 'agents' }, secureJsonFields: { token: true } });
    await user.click(screen.getByRole('button', { name: /reset/i }));
    expect(newest()).toMatchObject({ secureJsonFields: { token: false }, secureJsonData: { token: '' } });
  });

  it('changes nothing that was provisioned', () => {
    configure({ readOnly: true });
    expect(screen.getByText(CONFIG.readOnly)).toBeInTheDocument();
    expect(setting('socketPath')).toBeDisabled();
  });

  it('changes the source', async () => {
    const newest = configure();
    await act(async () => fireEvent.click(screen.getByLabelText('Agents')));
    expect(newest().jsonData.mode).toBe('agents');
  });
});
