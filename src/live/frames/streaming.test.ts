import { StreamingDataFrame, type DataFrameJSON } from '@grafana/data';
import * as fs from 'node:fs';
import * as path from 'node:path';

const TESTDATA = path.resolve(__dirname, '../../../pkg/plugin/frames/testdata');

/** A frame as the backend sends it. */
function sent(name: string): DataFrameJSON {
  const text = fs.readFileSync(path.join(TESTDATA, `${name}.jsonc`), 'utf8').replace(/^\/\/.*$/gm, '');
  return (JSON.parse(text) as { frames: DataFrameJSON[] }).frames[0] as DataFrameJSON;
}

/** The frame after a P has come: one of its Ps once more, under another number and before the others. */
function withOneMore({ schema, data }: DataFrameJSON): DataFrameJSON {
  const fields = schema?.fields ?? [];
  const [time] = fields;
  const some = fields.find((field) => field.labels?.p !== undefined);
  const come = {
    ...some,
    name: some?.name.replace(`p=${some.labels?.p}`, 'p=99') ?? '',
    labels: { ...some?.labels, p: '99' },
  };
  const last = (data?.values ?? []).map((values) => values.slice(-1));
  return {
    schema: { ...schema, fields: [...(time ? [time] : []), come as (typeof fields)[number], ...fields.slice(1)] },
    data: { values: [...last.slice(0, 1), [null], ...last.slice(1)] },
  };
}

describe('a stream whose Ps change', () => {
  it.each(['lanes', 'wide', 'timeline_wide'])('keeps the values of each P its own: %s', (name) => {
    const frame = sent(name);
    const before = frame.data?.values.slice(1).map((values) => [...values]) ?? [];
    const stream = StreamingDataFrame.fromDataFrameJSON(frame);
    stream.push(withOneMore(frame));
    const [, come, ...kept] = stream.fields;
    expect(kept.map((field) => field.values)).toEqual(before.map((values) => [...values, ...values.slice(-1)]));
    expect(come?.values.filter((value: unknown) => value !== undefined && value !== null)).toEqual([]);
  });
});
