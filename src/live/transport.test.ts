import { fromBinary, toBinary, create } from '@bufbuild/protobuf';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { firstValueFrom, tap, toArray } from 'rxjs';

import { WatchRequestSchema, WatchResponseSchema, type WatchResponse } from '../gen/pscope/v1/scope_pb';
import { message, p, target, update } from '../test/watch';
import { grpcWebTransport, StreamError } from './transport';

const base = { url: '' };
jest.mock('@grafana/runtime', () => ({
  config: {
    get appSubUrl() {
      return base.url;
    },
    bootData: { user: { orgId: 3 } },
  },
}));

/** A gRPC-Web text chunk: flag, length, payload; in base64, padded on its own as an agent flushes it. */
function chunk(flag: number, payload: Uint8Array): string {
  const head = Buffer.alloc(5);
  head.writeUInt8(flag, 0);
  head.writeUInt32BE(payload.length, 1);
  return Buffer.concat([head, payload]).toString('base64');
}
const data = (m: WatchResponse) => chunk(0, toBinary(WatchResponseSchema, m));
const trailer = (status: number, text = '') =>
  chunk(0x80, Buffer.from(`grpc-status:${status}\r\ngrpc-message:${text}\r\n`));

describe('grpcWebTransport', () => {
  let server: Server;
  let answer: (body: Buffer, req: IncomingMessage, res: ServerResponse) => void;

  beforeEach(async () => {
    server = createServer((req, res) => {
      res.setHeader('Access-Control-Allow-Origin', '*');
      res.setHeader(
        'Access-Control-Allow-Headers',
        '*, x-grpc-web, x-user-agent, content-type, agent, x-grafana-org-id'
      );
      res.setHeader('Access-Control-Expose-Headers', '*, grpc-status, grpc-message');
      if (req.method === 'OPTIONS') {
        res.end();
        return;
      }
      const parts: Buffer[] = [];
      req.on('data', (part: Buffer) => parts.push(part));
      req.on('end', () => {
        res.setHeader('Content-Type', 'application/grpc-web-text+proto');
        answer(Buffer.from(Buffer.concat(parts).toString(), 'base64'), req, res);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    base.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  const request = create(WatchRequestSchema, { rateHz: 20, selector: { process: 'api' } });

  it('sends the request through the resource proxy to the agent chosen', async () => {
    const seen: { url?: string; agent?: unknown; org?: unknown; request?: unknown } = {};
    answer = (body, req, res) => {
      Object.assign(seen, {
        url: req.url,
        agent: req.headers.agent,
        org: req.headers['x-grafana-org-id'],
        request: fromBinary(WatchRequestSchema, body.subarray(5)),
      });
      res.end(data(message(1, 5, [])) + trailer(0));
    };
    await firstValueFrom(grpcWebTransport('my uid')(request, 2));
    expect(seen).toEqual({
      url: '/api/datasources/uid/my%20uid/resources/pscope.v1.ScopeService/Watch',
      agent: '2',
      org: '3',
      request,
    });
  });

  it('hands over each message as it comes, while the stream goes on', async () => {
    let finish = () => {};
    answer = (_body, _req, res) => {
      res.write(data(message(1, 5, [update(target(), [p(0, 10, 20)])])));
      finish = () => res.end(data(message(2, 6, [])) + trailer(0));
    };
    // The second message leaves only after the first has arrived: a client that waits for the end never gets either.
    const all = await firstValueFrom(
      grpcWebTransport('u')(request, 0).pipe(
        tap(() => finish()),
        toArray()
      )
    );
    expect(all.map((r) => Number(r.message.seq))).toEqual([1, 2]);
    expect(all[0]?.message.targets[0]?.ps[0]?.stateNanos[2]).toBe(BigInt(10_000_000));
    expect(all[0]?.size).toBe(data(all[0]?.message as WatchResponse).length);
  });

  it('tells what the server says when it refuses', async () => {
    answer = (_body, _req, res) => res.end(trailer(3, 'no%20such%20selector'));
    await expect(firstValueFrom(grpcWebTransport('u')(request, 0))).rejects.toEqual(
      expect.objectContaining({ code: 3, message: 'no such selector' })
    );
    await expect(firstValueFrom(grpcWebTransport('u')(request, 0))).rejects.toBeInstanceOf(StreamError);
  });

  it('fails when the server is gone', async () => {
    // jsdom's XMLHttpRequest says so on the console, too.
    jest.spyOn(console, 'error').mockImplementation(() => undefined);
    answer = (_body, _req, res) => res.destroy();
    await expect(firstValueFrom(grpcWebTransport('u')(request, 0))).rejects.toBeInstanceOf(StreamError);
  });

  it('closes the connection when nobody listens', async () => {
    const closed = new Promise<void>((resolve) => {
      answer = (_body, req, res) => {
        res.write(data(message(1, 5, [])));
        req.socket.on('close', resolve);
      };
    });
    const subscription = grpcWebTransport('u')(request, 0).subscribe(() => subscription.unsubscribe());
    await closed;
  });
});
