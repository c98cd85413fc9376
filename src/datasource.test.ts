import { dateTime, CoreApp, type DataQueryRequest, type DataSourceInstanceSettings } from '@grafana/data';
import {
  setBackendSrv,
  setGrafanaLiveSrv,
  setTemplateSrv,
  type BackendSrv,
  type GrafanaLiveSrv,
  type TemplateSrv,
} from '@grafana/runtime';
import { firstValueFrom, lastValueFrom, map, of, toArray } from 'rxjs';

import { annotationSupport } from './annotations';
import { DataSource } from './datasource';
import { streamOptions } from './live/streamOptions';
import { VariableSupport } from './variables';
import type { ScopeOptions, ScopeQuery, ScopeVariableQuery } from './types';

interface Sent {
  url: string;
  method?: string;
  params?: unknown;
  data?: { queries: ScopeQuery[] };
}

let sent: Sent[];
let answer: unknown;

beforeEach(() => {
  sent = [];
  answer = { results: {} };
  setBackendSrv({
    fetch: (request: Sent) => {
      sent.push(request);
      return of({ data: answer, status: 200 });
    },
  } as unknown as BackendSrv);
  setTemplateSrv({
    replace: (text: string, _vars: unknown, format?: (value: unknown, variable: object) => string) =>
      text.replace('$process', format ? format(['a.b', 'c'], { multi: true }) : 'a.b,c'),
  } as unknown as TemplateSrv);
});

const make = (jsonData: ScopeOptions = {}) =>
  new DataSource({
    uid: 'u1',
    id: 1,
    name: 'P-Scope',
    type: 'pscope-pscope-datasource',
    jsonData,
  } as unknown as DataSourceInstanceSettings<ScopeOptions>);

const range = { from: dateTime(1000), to: dateTime(61_000), raw: { from: 'now-1m', to: 'now' } };
const request = (targets: ScopeQuery[], more = {}) =>
  ({
    targets,
    range,
    rangeRaw: range.raw,
    scopedVars: {},
    intervalMs: 1000,
    maxDataPoints: 100,
    ...more,
  }) as unknown as DataQueryRequest<ScopeQuery>;

describe('DataSource', () => {
  describe('with a heatmap panel, which fails on less than two cells of lanes', () => {
    const time = { name: 'time', type: 'time' };
    const state = { name: 'state', type: 'number' };
    const ask = async (type: string, fields: Array<typeof time>, values: unknown[][], more: object = {}) => {
      const schema = { refId: 'A', meta: { type, ...more }, fields };
      answer = { results: { A: { status: 200, frames: [{ schema, data: { values } }] } } };
      return lastValueFrom(make().query(request([{ refId: 'A' }])));
    };

    it.each([
      ['heatmap-rows', [time], [[]]],
      ['heatmap-rows', [time], [[1]]],
      ['heatmap-rows', [time, state], [[], []]],
      ['heatmap-rows', [time, state], [[1], [0]]],
      ['heatmap-cells', [time, state], [[], []]],
    ] as Array<[string, Array<typeof time>, unknown[][]]>)('keeps %s of %j with %j from it', async (...args) => {
      expect((await ask(...args)).data).toEqual([]);
    });

    it.each([
      ['heatmap-rows', [time, state], [[1, 2], [0, 0]]],
      ['heatmap-rows', [time, state, state], [[1], [0], [0]]],
      ['heatmap-cells', [time, state], [[1], [0]]],
    ] as Array<[string, Array<typeof time>, unknown[][]]>)('gives it %s of %j with %j', async (...args) => {
      expect((await ask(...args)).data).toHaveLength(1);
    });

    it('gives it the lanes that come through the channel of one without any, once there are two cells', async () => {
      const frame = (fields: Array<typeof time>, values = [1]) => ({
        meta: { type: 'heatmap-rows', channel: 'ds/u1/a' },
        fields: fields.map((field) => ({ ...field, config: {}, values })),
        length: values.length,
      });
      setGrafanaLiveSrv({
        getDataStream: () =>
          of({ data: [frame([time])] }, { data: [frame([time, state])] }, { data: [frame([time, state], [1, 2])] }),
      } as unknown as GrafanaLiveSrv);
      const schema = { refId: 'A', meta: { type: 'heatmap-rows', channel: 'ds/u1/a' }, fields: [time] };
      answer = { results: { A: { status: 200, frames: [{ schema, data: { values: [[]] } }] } } };
      const live = make().query(request([{ refId: 'A', live: true }]));
      const frames = await lastValueFrom(
        live.pipe(
          map(({ data }) => data.length),
          toArray()
        )
      );
      expect(frames).toEqual([0, 0, 1]);
    });

    it('still tells what the frame had to warn of', async () => {
      const notices = [
        { severity: 'info', text: 'by the way' },
        { severity: 'warning', text: 'Not shown: web-2 is away' },
      ];
      const { data, errors } = await ask('heatmap-rows', [time], [[]], { notices });
      expect(data).toEqual([]);
      expect(errors).toEqual([{ refId: 'A', message: 'Not shown: web-2 is away' }]);
    });
  });

  it('sends queries to the backend, migrated and with variables replaced', async () => {
    await lastValueFrom(make().query(request([{ refId: 'A', target: { process: '$process' } }])));
    expect(sent[0]).toMatchObject({
      method: 'POST',
      data: { queries: [{ refId: 'A', version: 1, target: { process: '(a\\.b|c)' } }] },
    });
  });

  it('streams every query when Explore asks for live data', async () => {
    await lastValueFrom(make().query(request([{ refId: 'A', kind: 'heatmap' }], { liveStreaming: true })));
    expect(sent[0]?.data?.queries[0]).toMatchObject({ live: true });
  });

  it('gives the backend’s error to the panel', async () => {
    answer = { results: { A: { error: 'the agent is gone', status: 502, refId: 'A' } } };
    const response = await lastValueFrom(make().query(request([{ refId: 'A' }])));
    expect(response.errors?.[0]?.message).toBe('the agent is gone');
  });

  it.each([
    [{ refId: 'A' }, true],
    [{ refId: 'A', hide: true }, false],
    [{ refId: 'A', kind: 'series', editorMode: 'code' }, false],
    [{ refId: 'A', kind: 'series', editorMode: 'code', expr: 'up' }, true],
  ] as Array<[ScopeQuery, boolean]>)('runs %j: %s', (query, runs) => {
    expect(make().filterQuery(query)).toBe(runs);
  });

  it('starts with something to see', () => {
    expect(make().getDefaultQuery(CoreApp.Dashboard)).toEqual({ version: 1, kind: 'heatmap' });
  });

  it('says a query in words', () => {
    expect(make().getQueryDisplayText({ refId: 'A', kind: 'targets' })).toBe('List Go processes');
  });

  it('lists the values of a label for the targets and the time asked', async () => {
    answer = ['7', '9'];
    await expect(make().labelValues('pid', { process: '$process' }, { range })).resolves.toEqual(['7', '9']);
    expect(sent[0]).toMatchObject({
      url: '/api/datasources/uid/u1/resources/label-values',
      method: 'GET',
      params: { label: 'pid', process: '(a\\.b|c)', from: 1000, to: 61_000 },
    });
  });
});

describe('variables', () => {
  const ask = (query: Partial<ScopeVariableQuery>) =>
    firstValueFrom(new VariableSupport(make()).query({ ...request([]), targets: [{ refId: 'V', ...query }] }));

  it('lists values as Grafana takes them', async () => {
    answer = ['api', 'db'];
    await expect(ask({ label: 'process', target: { host: 'web' } })).resolves.toEqual({
      data: [
        { text: 'api', value: 'api' },
        { text: 'db', value: 'db' },
      ],
    });
    expect(sent[0]?.params).toMatchObject({ label: 'process', host: 'web' });
  });

  it('asks for the order chosen', async () => {
    answer = ['db', 'api'];
    await expect(ask({ label: 'process', order: 'worst' })).resolves.toMatchObject({
      data: [{ text: 'db' }, { text: 'api' }],
    });
    expect(sent[0]?.params).toMatchObject({ label: 'process', order: 'worst' });
  });

  it('lists processes when nothing is chosen', async () => {
    answer = [];
    await ask({});
    expect(sent[0]?.params).toMatchObject({ label: 'process' });
  });
});

describe('annotations', () => {
  it('are stops, whatever was stored, and never stream', () => {
    const annotation = {
      name: 'stops',
      enable: true,
      iconColor: 'red',
      target: { refId: 'X', kind: 'heatmap', live: true, ps: '0' },
    };
    expect(annotationSupport.prepareQuery?.(annotation as never)).toEqual({
      refId: 'X',
      kind: 'stops',
      live: false,
      ps: '0',
      version: 1,
    });
    expect(annotationSupport.prepareQuery?.({ name: 'n', enable: true, iconColor: 'red' })).toEqual({
      refId: 'Anno',
      kind: 'stops',
      live: false,
      version: 1,
    });
  });
});

describe('streamOptions', () => {
  it('keeps all rows of the range at the full rate', () => {
    expect(streamOptions(request([]), {} as never)).toEqual({ action: 'append', maxLength: 400, maxDelta: 60_000 });
  });

  it('is bounded', () => {
    const day = { ...range, to: dateTime(86_400_000) };
    expect(streamOptions(request([], { range: day }), {} as never)?.maxLength).toBe(20_000);
  });
});
