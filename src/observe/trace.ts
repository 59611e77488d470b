// Traces for OpenTelemetry, made only where a collector is configured: nothing of its packages is loaded otherwise.
// Spans are given their parent by hand and not by asynchronous context, which would cost every request something.
import type { Context, Span } from '@opentelemetry/api';
import type { RequestNote, Step } from '../graphql/observe.ts';
import { log } from '../platform/log.ts';

export interface Tracer {
  /** Begins the span of a request. */
  begin(note: RequestNote, method: string, traceparent: string | undefined): void;
  /** Begins the span of a GraphQL operation; what it returns ends it. */
  operation(note: RequestNote): () => void;
  /** One step of a transaction, which is over. Times are `performance.now()`. */
  step(note: RequestNote, step: Step, began: number, ended: number, statement: string | undefined): void;
  end(note: RequestNote, answer: { readonly route: string; readonly status: number }): void;
  /** A job, which is over. */
  job(task: string, began: number, ended: number, failed: boolean): void;
  /** Sends what is left. */
  close(): Promise<void>;
}

export interface TracerOptions {
  /** Base address of the collector. */
  readonly url: string;
  readonly service: string;
}

const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;
const ZEROS = /^0+$/;
const CLOSE_MILLISECONDS = 3000;

/** Loads the packages and begins to make traces. */
export async function startTracer({ url, service }: TracerOptions): Promise<Tracer> {
  const [
    { context, SpanKind, SpanStatusCode, trace, TraceFlags },
    sdk,
    { OTLPTraceExporter },
    { resourceFromAttributes },
  ] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
  ]);
  const provider = new sdk.TracerProvider({
    resource: resourceFromAttributes({ 'service.name': service }),
    sampler: new sdk.ParentBasedSampler({ root: new sdk.AlwaysOnSampler() }),
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter: new OTLPTraceExporter({ url: `${url}/v1/traces` }) })],
  });
  const tracer = provider.getTracer('safetypin');
  const root = context.active();

  /** The trace that a trusted proxy began. */
  function parentOf(traceparent: string | undefined): Context {
    const [, traceId = '', spanId = '', flags = ''] = TRACEPARENT.exec(traceparent ?? '') ?? [];
    if (traceId === '' || ZEROS.test(traceId) || ZEROS.test(spanId)) return root;
    const traceFlags = Number.parseInt(flags, 16) & TraceFlags.SAMPLED;
    return trace.setSpanContext(root, { traceId, spanId, traceFlags, isRemote: true });
  }

  const at = (moment: number): number => performance.timeOrigin + moment;
  const spanOf = (note: RequestNote): Span | undefined => note.span as Span | undefined;

  return {
    begin(note, method, traceparent) {
      note.span = tracer.startSpan(
        'request',
        { kind: SpanKind.SERVER, attributes: { 'http.request.method': method } },
        parentOf(traceparent),
      );
    },
    operation(note) {
      const parent = spanOf(note);
      if (parent === undefined) return () => {};
      const span = tracer.startSpan(`graphql ${note.operation ?? ''}`, {}, trace.setSpan(root, parent));
      note.operationSpan = span;
      return () => {
        note.operationSpan = undefined;
        if (note.code !== undefined) span.setAttribute('error.type', note.code);
        span.end();
      };
    },
    step(note, step, began, ended, statement) {
      const parent = (note.operationSpan as Span | undefined) ?? spanOf(note);
      if (parent === undefined) return;
      const attributes = { 'db.system.name': 'postgresql', ...(statement && { 'db.query.summary': statement }) };
      const options = { kind: SpanKind.CLIENT, startTime: at(began), attributes };
      tracer.startSpan(step, options, trace.setSpan(root, parent)).end(at(ended));
    },
    end(note, { route, status }) {
      const span = spanOf(note);
      if (span === undefined) return;
      span.updateName(note.operation ?? route);
      span.setAttributes({ 'http.route': route, 'http.response.status_code': status });
      if (note.operation !== undefined) span.setAttribute('graphql.operation', note.operation);
      if (note.code !== undefined) span.setAttribute('error.type', note.code);
      if (status >= 500 || note.code === 'INTERNAL') span.setStatus({ code: SpanStatusCode.ERROR });
      span.end();
    },
    job(task, began, ended, failed) {
      const span = tracer.startSpan(`job ${task}`, { kind: SpanKind.CONSUMER, startTime: at(began) }, root);
      if (failed) span.setStatus({ code: SpanStatusCode.ERROR });
      span.end(at(ended));
    },
    async close() {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, CLOSE_MILLISECONDS);
      });
      await Promise.race([provider.shutdown().catch(() => log('warn', 'traces_not_sent')), late]);
      clearTimeout(timer);
    },
  };
}

/** The same, or undefined with one line that says why. */
export async function tracerFor(url: string | undefined, service: string): Promise<Tracer | undefined> {
  if (url === undefined) return undefined;
  return await startTracer({ url, service }).catch((error: unknown) => {
    const missing = (error as { code?: unknown }).code === 'ERR_MODULE_NOT_FOUND';
    log('warn', missing ? 'traces_need_packages' : 'traces_not_started', {
      packages: '@opentelemetry/sdk-trace @opentelemetry/exporter-trace-otlp-http',
    });
    return undefined;
  });
}
