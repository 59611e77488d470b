// A collector of traces: what OTLP over HTTP sends, taken by a real server.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { whenFileEnds } from '../support/cleanup.ts';

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly intValue?: number | string };
}

export interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
  readonly status?: { readonly code?: number };
}

export interface Collector {
  readonly url: string;
  readonly spans: Span[];
  /** Everything that came, as text. */
  readonly text: () => string;
  readonly services: Set<string>;
  /** How the collector answers. */
  status: number;
}

export async function startCollector(): Promise<Collector> {
  const bodies: string[] = [];
  const spans: Span[] = [];
  const services = new Set<string>();
  const collector = { url: '', spans, services, status: 200, text: () => bodies.join('\n') };
  const server: Server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const raw = Buffer.concat(parts);
      const body = (request.headers['content-encoding'] === 'gzip' ? gunzipSync(raw) : raw).toString();
      bodies.push(`${request.url} ${JSON.stringify(request.headers)} ${body}`);
      if (collector.status === 200 && request.url === '/v1/traces') {
        for (const { resource, scopeSpans } of JSON.parse(body).resourceSpans) {
          for (const { key, value } of resource.attributes as Attribute[]) {
            if (key === 'service.name') services.add(value.stringValue ?? '');
          }
          for (const scope of scopeSpans) spans.push(...scope.spans);
        }
      }
      response.writeHead(collector.status, { 'content-type': 'application/json' }).end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  whenFileEnds(() => new Promise<void>((resolve) => server.close(() => resolve())));
  collector.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return collector;
}
