import type { BackendSrv, BackendSrvRequest, FetchError, FetchResponse } from '@grafana/runtime';
import { lastValueFrom, Observable } from 'rxjs';

/**
 * Grafana's way to its HTTP API: JSON in and out, cancelled with its subscription, or by a newer request with the same
 * id.
 */
export class PreviewBackendSrv implements BackendSrv {
  private readonly running = new Map<string, AbortController>();

  fetch<T>(options: BackendSrvRequest): Observable<FetchResponse<T>> {
    return new Observable((subscriber) => {
      const abort = this.begin(options.requestId);
      const fail = (status: number, statusText: string, data: unknown, cancelled = false): void => {
        const error: FetchError<unknown> = { status, statusText, data, config: options, cancelled };
        const message = (data as { message?: string } | undefined)?.message;
        subscriber.error(message ? { ...error, message } : error);
      };
      void (async () => {
        let response: Response;
        try {
          response = await fetch(address(options), init(options, abort.signal));
        } catch (error) {
          const gone = abort.signal.aborted;
          fail(gone ? -1 : 0, gone ? 'Request was aborted' : String(error), { message: gone ? '' : 'The preview’s server does not answer. Is it still running?' }, gone);
          return;
        }
        const data = await decode(response, options.responseType);
        if (!response.ok) {
          fail(response.status, response.statusText, data);
          return;
        }
        subscriber.next({
          data: data as T,
          status: response.status,
          statusText: response.statusText,
          ok: response.ok,
          headers: response.headers,
          redirected: response.redirected,
          type: response.type,
          url: response.url,
          config: options,
        });
        subscriber.complete();
      })().catch((error: unknown) => subscriber.error(error));
      return () => abort.abort();
    });
  }

  chunked(options: BackendSrvRequest): Observable<FetchResponse<Uint8Array | undefined>> {
    return new Observable((subscriber) => {
      const abort = this.begin(options.requestId);
      void (async () => {
        const response = await fetch(address(options), init(options, abort.signal));
        const { status, statusText, ok, headers, redirected, type, url } = response;
        const packet = { status, statusText, ok, headers, redirected, type, url, config: options };
        const reader = response.body?.getReader();
        for (;;) {
          const chunk = await reader?.read();
          if (!chunk || chunk.done) {
            break;
          }
          subscriber.next({ ...packet, data: chunk.value });
        }
        subscriber.complete();
      })().catch((error: unknown) => subscriber.error(error));
      return () => abort.abort();
    });
  }

  request<T = unknown>(options: BackendSrvRequest): Promise<T> {
    return lastValueFrom(this.fetch<T>(options)).then((response) => response.data);
  }

  datasourceRequest<T = unknown>(options: BackendSrvRequest): Promise<FetchResponse<T>> {
    return lastValueFrom(this.fetch<T>(options));
  }

  get<T>(url: string, params?: Record<string, unknown>, requestId?: string, options?: Partial<BackendSrvRequest>): Promise<T> {
    return this.request<T>({ ...options, method: 'GET', url, params, requestId });
  }

  delete<T>(url: string, data?: unknown, options?: Partial<BackendSrvRequest>): Promise<T> {
    return this.request<T>({ ...options, method: 'DELETE', url, data });
  }

  post<T>(url: string, data?: unknown, options?: Partial<BackendSrvRequest>): Promise<T> {
    return this.request<T>({ ...options, method: 'POST', url, data });
  }

  patch<T>(url: string, data?: unknown, options?: Partial<BackendSrvRequest>): Promise<T> {
    return this.request<T>({ ...options, method: 'PATCH', url, data });
  }

  put<T>(url: string, data?: unknown, options?: Partial<BackendSrvRequest>): Promise<T> {
    return this.request<T>({ ...options, method: 'PUT', url, data });
  }

  private begin(requestId: string | undefined): AbortController {
    const abort = new AbortController();
    if (requestId) {
      this.running.get(requestId)?.abort();
      this.running.set(requestId, abort);
    }
    return abort;
  }
}

function address({ url, params }: BackendSrvRequest): string {
  const target = new URL(url.startsWith('/') ? url : `/${url}`, window.location.origin);
  for (const [name, value] of Object.entries((params ?? {}) as Record<string, unknown>)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null) {
        target.searchParams.append(name, String(one));
      }
    }
  }
  return target.toString();
}

function init({ method = 'GET', headers, data }: BackendSrvRequest, signal: AbortSignal): RequestInit {
  const out = new Headers(headers as Record<string, string> | undefined);
  let body: BodyInit | undefined;
  if (data !== undefined && method !== 'GET') {
    if (typeof data === 'string' || data instanceof Uint8Array || data instanceof Blob) {
      body = data as BodyInit;
    } else {
      body = JSON.stringify(data);
      out.set('Content-Type', 'application/json');
    }
  }
  return { method, headers: out, body, signal };
}

async function decode(response: Response, as: BackendSrvRequest['responseType']): Promise<unknown> {
  switch (as) {
    case 'arraybuffer':
      return response.arrayBuffer();
    case 'blob':
      return response.blob();
    case 'text':
      return response.text();
  }
  const text = await response.text();
  try {
    return JSON.parse(text) as unknown;
  } catch {
    // Grafana, too, hands over as text what is not JSON.
    return text;
  }
}
