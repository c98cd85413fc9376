import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { config } from '@grafana/runtime';
import { GrpcWebClientBase, MethodDescriptor, type RpcError } from 'grpc-web';
import { Observable } from 'rxjs';

import {
  ScopeService,
  WatchRequestSchema,
  WatchResponseSchema,
  type WatchRequest,
  type WatchResponse,
} from '../gen/pscope/v1/scope_pb';

/** One message of a Watch stream and what it cost on the wire. */
export interface Received {
  message: WatchResponse;
  /** Characters this message added to the XHR's response, which the browser keeps until the stream ends. */
  size: number;
}

/** Opens a Watch stream to one of the data source's agents; unsubscribing closes it. Errors are StreamError. */
export type OpenWatch = (request: WatchRequest, agent: number) => Observable<Received>;

/** A stream that failed: gRPC's status code and the server's words. */
export class StreamError extends Error {
  constructor(
    readonly code: number,
    message: string
  ) {
    super(message);
    this.name = 'StreamError';
  }
}

/** Base64 and the five bytes before each gRPC message. */
const wireSize = (bytes: number) => Math.ceil((bytes + 5) / 3) * 4;

/**
 * Watch over gRPC-Web through Grafana's resource proxy, so with Grafana's own login, port and origin. The text format
 * is needed: browsers hand over binary responses only when they are complete.
 */
export function grpcWebTransport(uid: string): OpenWatch {
  const base = `${config.appSubUrl ?? ''}/api/datasources/uid/${encodeURIComponent(uid)}/resources`;
  const client = new GrpcWebClientBase({ format: 'text' });
  return (request, agent) =>
    new Observable<Received>((subscriber) => {
      const name = `/${ScopeService.typeName}/${ScopeService.method.watch.name}`;
      // The classes are only names to the client: it makes no messages of its own.
      const Nothing = Object as unknown as new () => never;
      const descriptor = new MethodDescriptor<WatchRequest, Received>(
        name,
        'server_streaming',
        Nothing,
        Nothing,
        (message: WatchRequest) => toBinary(WatchRequestSchema, message),
        (bytes: Uint8Array): Received => ({
          message: fromBinary(WatchResponseSchema, bytes),
          size: wireSize(bytes.length),
        })
      );
      const stream = client.serverStreaming(base + name, request, metadata(agent), descriptor);
      stream.on('data', (received) => subscriber.next(received));
      stream.on('error', (err: RpcError) => subscriber.error(new StreamError(err.code, err.message)));
      stream.on('end', () => subscriber.complete());
      return () => stream.cancel();
    });
}

function metadata(agent: number): Record<string, string> {
  const orgId = config.bootData?.user?.orgId;
  return { agent: String(agent), ...(orgId ? { 'X-Grafana-Org-Id': String(orgId) } : {}) };
}
