import express, { type ErrorRequestHandler, type Express, type RequestHandler } from 'express';
import { bindSource, sourceOf } from '../graphql/context.ts';
import type { Observer } from '../observe/observer.ts';
import type { ErrorRegister, SafeFault } from '../platform/errors.ts';
import type { RecordFault } from '../platform/faults.ts';
import type { StepTools } from '../sessions/steps.ts';
import { BodyRefusal } from './body-refusal.ts';
import type { ClientAddress } from './client-address.ts';
import { sendRefusal } from './envelope.ts';
import { allowRuru, setSecurityHeaders } from './headers.ts';
import type { Readiness } from './health.ts';
import { mailLinkRouter } from './mail-links.ts';
import type { MetricsDoor } from './metrics.ts';
import { type Authenticator, anonymousSource, traceparentOf } from './request.ts';
import { DOOR_NAMES, restRouter } from './rest.ts';
import type { ApiGrafserv } from './serv.ts';

export interface AppOptions {
  readonly tools: StepTools;
  readonly authenticator: Authenticator;
  readonly register: ErrorRegister;
  readonly recordFault: RecordFault;
  readonly observer: Observer;
  readonly metricsDoor: MetricsDoor;
  readonly clientAddress: ClientAddress;
  readonly readiness: () => Promise<Readiness>;
  readonly isHttps: boolean;
  /** Mails that would have been sent to an address, for development; undefined in production. */
  readonly mailbox: ((to: string | undefined) => unknown) | undefined;
  /** Ruru at `/`, for development. */
  readonly ruru: boolean;
  readonly serv: ApiGrafserv;
}

/** Routes as metrics name them. What is not listed is "other": paths are made up by clients. */
const ROUTES = new RegExp(
  `^/(healthz|readyz|metrics|\\.well-known/jwks\\.json|dev/mailbox|api/auth/(?:${DOOR_NAMES.join('|')}))(?=/|$)`,
);

const routeOf = (path: string): string => ROUTES.exec(path)?.[0] ?? (path === '/' ? '/' : 'other');

/** Refusals that Express and its parsers of forms make, in the words of the register. */
const PARSER_FAULTS: Readonly<Record<number, SafeFault>> = {
  400: { code: 'BAD_INPUT', status: 400, message: 'The input is not valid.', expected: true },
  413: { code: 'LIMIT_EXCEEDED', status: 413, message: 'The request is too large.', expected: true },
  415: { code: 'BAD_INPUT', status: 415, message: 'Please send a form.', expected: true },
};

function parserFault(error: unknown): SafeFault | undefined {
  if (error instanceof BodyRefusal) return { ...error, message: error.message, expected: true };
  const { status, type } = (error ?? {}) as { status?: unknown; type?: unknown };
  // A path with a percent sign that stands for nothing.
  const isExpected = typeof type === 'string' || error instanceof URIError;
  return isExpected && typeof status === 'number' ? PARSER_FAULTS[status] : undefined;
}

/** All routes but `/graphql`, in the order in which they are asked. */
export async function createApp(options: AppOptions): Promise<Express> {
  const { tools, authenticator, register, recordFault, observer } = options;
  const app = express();
  app.disable('x-powered-by');
  app.set('etag', false);
  app.set('query parser', 'simple');

  const begin: RequestHandler = (request, response, next) => {
    const began = performance.now();
    const source = anonymousSource(request, options.clientAddress);
    bindSource(request, source);
    observer.began(source, request.method, traceparentOf(request, options.clientAddress));
    setSecurityHeaders(response, options.isHttps);
    response.setHeader('X-Request-Id', source.requestId);
    const route = routeOf(request.path);
    response.once('close', () => {
      const { code } = response.locals as { code?: string };
      if (source.note !== undefined && code !== undefined) source.note.code = code;
      observer.answered({ source, route, method: request.method, status: response.statusCode, began });
    });
    next();
  };

  /** From here on a request has the session of its token, or was refused. */
  const authenticate: RequestHandler = async (request, _response, next) => {
    const source = authenticator.authenticate(sourceOf(request), request.headers.authorization);
    bindSource(request, source instanceof Promise ? await source : source);
    next();
  };

  app.use(begin);
  app.get('/healthz', (_request, response) => void response.json({ status: 'ok' }));
  app.get('/readyz', async (_request, response) => {
    const code = await options.readiness();
    const isReady = code === 'READY';
    response.status(isReady ? 200 : 503).json(isReady ? { status: 'ok' } : { status: 'unavailable', code });
  });
  app.get('/metrics', options.metricsDoor.handle);
  app.get('/.well-known/jwks.json', (_request, response) => {
    response.setHeader('Cache-Control', 'public, max-age=300');
    response.json(tools.tokens.jwks());
  });
  const { mailbox } = options;
  if (mailbox !== undefined) {
    app.get('/dev/mailbox', (request, response) => {
      const { to } = request.query;
      response.json(mailbox(typeof to === 'string' ? to : undefined));
    });
  }
  app.use('/api/auth', authenticate, mailLinkRouter(tools, sourceOf), restRouter(tools, sourceOf));
  if (options.ruru) {
    app.use((request, response, next) => {
      if (request.path === '/' || request.path.startsWith('/ruru-static/')) allowRuru(response);
      next();
    });
    await options.serv.addTo(app, null, false);
  }

  app.use((request, response) => {
    const refusal = { code: 'NOT_FOUND', status: 404, message: 'There is no such thing here.' };
    sendRefusal(response, sourceOf(request).requestId, refusal);
  });
  const refuse: ErrorRequestHandler = (error, request, response, next) => {
    if (response.headersSent) return next(error);
    const source = sourceOf(request);
    const fault = parserFault(error) ?? register.explain(error, source.credential === null);
    if (!fault.expected) recordFault(source, error, `${request.method} ${routeOf(request.path)}`);
    observer.metrics.countError(fault.code);
    if (fault.status === 413) observer.metrics.countLimit('request.body');
    // What is left of the body is nobody's next request.
    if (!request.complete) response.shouldKeepAlive = false;
    sendRefusal(response, source.requestId, fault);
  };
  app.use(refuse);
  return app;
}
