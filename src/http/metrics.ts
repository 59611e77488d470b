// Who reads /metrics. What it shows is no secret of a person, but tells an attacker how far he has come.
import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Config } from '../config.ts';
import type { Metrics } from '../observe/metrics.ts';
import { StartupError } from '../platform/startup-error.ts';
import { setSecurityHeaders } from './headers.ts';

export interface MetricsDoor {
  /** GET /metrics on the API's own port. */
  readonly handle: (request: IncomingMessage, response: ServerResponse) => Promise<void>;
  /** Opens the port of its own, if one is set. Returns what closes it. */
  listen(): Promise<() => Promise<void>>;
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

/** A program on this machine that speaks for itself: a proxy here would speak for anybody. */
function isLocal({ socket, headers }: IncomingMessage): boolean {
  const isForwarded = headers['x-forwarded-for'] !== undefined || headers.forwarded !== undefined;
  return !isForwarded && /^(?:::ffff:)?127\.|^::1$/.test(socket.remoteAddress ?? '');
}

/**
 * With METRICS_TOKEN whoever has it; with METRICS_PORT only there, on the loopback; with neither programs on the same
 * machine, and in production nobody. Where it may not be read it is not there.
 */
export function metricsDoor(config: Config, metrics: Metrics): MetricsDoor {
  const expected = config.metricsToken === undefined ? undefined : sha256(config.metricsToken);

  function refuse(response: ServerResponse, status: number): void {
    if (status === 401) response.setHeader('WWW-Authenticate', 'Bearer');
    response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' });
    response.end(status === 401 ? 'A bearer token is needed.\n' : 'There is no such thing here.\n');
  }

  async function show({ headers }: IncomingMessage, response: ServerResponse): Promise<void> {
    const given = /^Bearer +([^ ]+) *$/i.exec(headers.authorization ?? '')?.[1];
    // Digests, because what is compared in constant time must be equally long.
    if (expected !== undefined && (given === undefined || !timingSafeEqual(sha256(given), expected))) {
      refuse(response, 401);
      return;
    }
    const text = await metrics.read();
    response.writeHead(200, { 'Content-Type': metrics.contentType });
    response.end(text);
  }

  return {
    async handle(request, response) {
      const isOpen = expected !== undefined || (config.environment !== 'production' && isLocal(request));
      if (config.metricsPort !== undefined || !isOpen) refuse(response, 404);
      else await show(request, response);
    },

    async listen() {
      const { metricsPort } = config;
      if (metricsPort === undefined) return async () => {};
      const server: Server = createServer((request, response) => {
        setSecurityHeaders(response, false);
        const isAsked = request.method === 'GET' && /^\/metrics\/?(?:\?|$)/.test(request.url ?? '');
        if (isAsked) show(request, response).catch(() => response.destroy());
        else refuse(response, 404);
      });
      await new Promise<void>((resolve, reject) => {
        server.once('error', (cause) => {
          reject(new StartupError(`METRICS_PORT=${metricsPort} cannot be listened on: choose another`, { cause }));
        });
        server.listen(metricsPort, '127.0.0.1', resolve);
      });
      return () =>
        new Promise((resolve) => {
          server.close(() => resolve());
          server.closeAllConnections();
        });
    },
  };
}
