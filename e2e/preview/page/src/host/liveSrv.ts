import {
  LiveChannelEventType,
  LiveChannelConnectionState,
  LoadingState,
  StreamingDataFrame,
  type DataFrame,
  type DataFrameJSON,
  type DataQueryResponse,
  type LiveChannelAddress,
  type LiveChannelEvent,
  type LiveChannelPresenceStatus,
} from '@grafana/data';
import type { GrafanaLiveSrv, LiveDataStreamOptions } from '@grafana/runtime';
import { BehaviorSubject, distinctUntilChanged, map, Observable, share, Subject, timer } from 'rxjs';

/** One message of the preview's server, see server/live.go. */
interface LiveMessage {
  channel: string;
  frame?: DataFrameJSON;
  error?: string;
  dropped?: number;
}

type Status = { connected: boolean; error?: string };

/** Waits before the socket is opened again: at first and at most. */
const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 5000;

/**
 * Grafana Live over one WebSocket to the preview's server: channels shared by their viewers, reopened after a break.
 */
export class PreviewLiveSrv implements GrafanaLiveSrv {
  private socket: WebSocket | undefined;
  private retryMs = FIRST_RETRY_MS;
  private readonly status = new BehaviorSubject<Status>({ connected: false });
  private readonly channels = new Map<string, { request: string; messages: Subject<LiveMessage>; shared: Observable<LiveMessage> }>();

  getConnectionState(): Observable<boolean> {
    return this.status.pipe(
      map((status) => status.connected),
      distinctUntilChanged()
    );
  }

  getDataStream({ addr, frame, buffer, key }: LiveDataStreamOptions): Observable<DataQueryResponse> {
    return new Observable((subscriber) => {
      const id = channelId(addr);
      const rows = frame ? StreamingDataFrame.fromDataFrameJSON(frame, buffer) : StreamingDataFrame.empty(buffer);
      let hasSchema = Boolean(frame?.schema);
      let error: string | undefined;
      const emit = (): void =>
        subscriber.next({
          key: key ?? id,
          state: error ? LoadingState.Error : LoadingState.Streaming,
          data: rows.fields.length ? [snapshot(rows)] : [],
          ...(error ? { error: { message: error }, errors: [{ message: error }] } : {}),
        });
      if (frame) {
        emit();
      }
      return this.messages(addr).subscribe((message) => {
        if (message.frame) {
          if (!hasSchema && !message.frame.schema) {
            return; // data of a stream whose schema is still to come
          }
          hasSchema = true;
          rows.push(message.frame);
          error = undefined;
          emit();
        } else if (message.error) {
          error = message.error;
          emit();
        }
      });
    });
  }

  getStream<T>(addr: LiveChannelAddress): Observable<LiveChannelEvent<T>> {
    const id = channelId(addr);
    return this.messages(addr).pipe(
      map((message): LiveChannelEvent<T> =>
        message.error
          ? {
              type: LiveChannelEventType.Status,
              id,
              timestamp: Date.now(),
              state: LiveChannelConnectionState.Disconnected,
              error: message.error,
            }
          : { type: LiveChannelEventType.Message, message: message.frame as T }
      )
    );
  }

  getPresence(): Promise<LiveChannelPresenceStatus> {
    return Promise.reject(new Error('The preview has no presence: it has one viewer.'));
  }

  publish(): Promise<unknown> {
    return Promise.reject(new Error('The preview does not publish into live channels.'));
  }

  /** The messages of one channel, subscribed to once however many panels show it. */
  private messages(addr: LiveChannelAddress): Observable<LiveMessage> {
    const id = channelId(addr);
    let channel = this.channels.get(id);
    if (!channel) {
      const messages = new Subject<LiveMessage>();
      const request = JSON.stringify({ op: 'subscribe', channel: id, uid: addr.stream, path: addr.path, data: addr.data });
      const shared = new Observable<LiveMessage>((subscriber) => {
        const subscription = messages.subscribe(subscriber);
        this.send(request);
        return () => {
          subscription.unsubscribe();
          this.channels.delete(id);
          this.send(JSON.stringify({ op: 'unsubscribe', channel: id }));
        };
      }).pipe(share());
      channel = { request, messages, shared };
      this.channels.set(id, channel);
    }
    return channel.shared;
  }

  private send(text: string): void {
    if (this.socket?.readyState === WebSocket.OPEN) {
      this.socket.send(text);
    } else if (!this.socket) {
      this.open();
    }
    // Otherwise it is being opened, and every channel subscribes when it is.
  }

  private open(): void {
    const socket = new WebSocket(`ws://${window.location.host}/preview/live`);
    this.socket = socket;
    socket.onopen = () => {
      this.retryMs = FIRST_RETRY_MS;
      this.status.next({ connected: true });
      for (const { request } of this.channels.values()) {
        socket.send(request);
      }
    };
    socket.onmessage = (event: MessageEvent<string>) => {
      const message = JSON.parse(event.data) as LiveMessage;
      this.channels.get(message.channel)?.messages.next(message);
    };
    socket.onclose = () => {
      this.socket = undefined;
      this.status.next({ connected: false });
      for (const [channel, { messages }] of this.channels) {
        messages.next({ channel, error: 'The connection to the preview’s server broke off; it is being opened again.' });
      }
      if (this.channels.size > 0) {
        timer(this.retryMs).subscribe(() => this.socket ?? this.open());
        this.retryMs = Math.min(2 * this.retryMs, LAST_RETRY_MS);
      }
    };
  }
}

function channelId({ scope, stream, path }: LiveChannelAddress): string {
  return `${scope}/${stream ?? ''}/${path}`;
}

/** A copy, since React redraws what is a new object. */
function snapshot(frame: StreamingDataFrame): DataFrame {
  return {
    name: frame.name,
    refId: frame.refId,
    meta: frame.meta,
    length: frame.length,
    fields: frame.fields.map((field) => ({ ...field, values: field.values.slice(), state: null })),
  };
}
