// Traces by the real exporter to a real collector; nothing of it without one.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadConfig, projectRoot } from '../../src/config.ts';
import { startServer } from '../../src/http/server.ts';
import { loadApplicationKeys } from '../../src/keyring/application-keys.ts';
import { startWorker } from '../../src/worker/runner.ts';
import { Api, freePort } from '../api/api.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { cloneDatabase } from '../support/database.ts';
import { type Collector, type Span, startCollector } from './collector.ts';
import { hear } from './log.ts';

const attribute = ({ attributes }: Span, key: string) => attributes.find((one) => one.key === key)?.value;

/** Starts all with traces, lets a test work, and stops all: then everything was sent. */
async function observed(collector: Collector, work: (api: Api) => Promise<void>): Promise<number> {
  const db = await cloneDatabase();
  const dataDirectory = mkdtempSync(join(tmpdir(), 'safetypin-traces-'));
  whenFileEnds(() => rmSync(dataDirectory, { recursive: true, force: true }));
  const config = loadConfig({
    NODE_ENV: 'test',
    PORT: String(await freePort()),
    SAFETYPIN_DATA_DIR: dataDirectory,
    OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.url}/`,
    TRUSTED_PROXIES: '127.0.0.1',
  });
  const started = { config, access: db.access, keys: await loadApplicationKeys(dataDirectory), say: () => {} };
  const server = await startServer(started);
  const worker = await startWorker(started);
  try {
    await work(new Api(server.url, db, config));
  } finally {
    await worker.close();
    const began = performance.now();
    await server.close();
    // biome-ignore lint/correctness/noUnsafeFinally: how long stopping took.
    return performance.now() - began;
  }
}

describe('with a collector', () => {
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const spanId = 'b7ad6b7169203331';

  test('each request is a span, its operation and the steps of its transaction are inside, and jobs are spans', async () => {
    const collector = await startCollector();
    await observed(collector, async (api) => {
      const { accessToken } = await api.member('Canary');
      const traceparent = `00-${traceId}-${spanId}-01`;
      await api.gql('query Canary { currentUser { id email } }', {}, accessToken, { traceparent });
      await api.gql('{ currentUser { id } }', {}, undefined, { traceparent: `00-${'0'.repeat(32)}-${spanId}-01` });
      await api.gql('{ nothing }');
      await api.send('/canary/path');
    });
    const { spans } = collector;
    const inTrace = spans.filter((span) => span.traceId === traceId);
    const [request] = inTrace.filter(({ kind }) => kind === 2);
    expect(request?.name).toBe('query currentUser');
    expect(request?.parentSpanId).toBe(spanId);
    expect(attribute(request as Span, 'http.route')?.stringValue).toBe('/graphql');
    expect(Number(attribute(request as Span, 'http.response.status_code')?.intValue)).toBe(200);
    const [operation] = inTrace.filter(({ name }) => name === 'graphql query currentUser');
    expect(operation?.parentSpanId).toBe(request?.spanId);
    const inside = inTrace.filter(({ parentSpanId }) => parentSpanId === operation?.spanId);
    expect(inside.map(({ name }) => name).sort()).toEqual(
      expect.arrayContaining(['commit', 'open', 'statement', 'wait']),
    );
    for (const { startTimeUnixNano: begin, endTimeUnixNano: end } of inside) {
      expect(BigInt(begin)).toBeGreaterThanOrEqual(BigInt(request?.startTimeUnixNano ?? 0) - 2_000_000n);
      expect(BigInt(end)).toBeLessThanOrEqual(BigInt(request?.endTimeUnixNano ?? 0) + 2_000_000n);
      expect(BigInt(end)).toBeGreaterThanOrEqual(BigInt(begin));
    }
    // Sent together, yet each is given its own time: the statement begins to run when the opening was answered.
    const [opened] = inside.filter(({ name }) => name === 'open');
    const [statement] = inside.filter(({ name }) => name === 'statement');
    expect(BigInt(statement?.startTimeUnixNano ?? 0)).toBeGreaterThanOrEqual(BigInt(opened?.endTimeUnixNano ?? 0));
    expect(spans.filter((span) => span.traceId === '0'.repeat(32))).toEqual([]);
    expect(spans.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['/graphql', 'other', 'job mail__send', 'mutation login']),
    );
    const refused = spans.find(({ name, kind }) => name === '/graphql' && kind === 2) as Span;
    expect(attribute(refused, 'error.type')?.stringValue).toBe('BAD_INPUT');
    expect([...collector.services].sort()).toEqual(['safetypin', 'safetypin-worker']);
    // Neither a value, nor SQL, nor a name that a client made up.
    expect(collector.text()).not.toMatch(/canary|example\.com|select |127\.0\.0\.1:\d+\/canary|Bearer/i);
  });

  test('a trace is not taken from just anybody', async () => {
    const collector = await startCollector();
    await observed(collector, async (api) => {
      const direct = { ...api.config, trustedProxies: [], port: await freePort() };
      const keys = await loadApplicationKeys(direct.dataDirectory);
      const server = await startServer({ config: direct, access: api.db.access, keys, say: () => {} });
      await new Api(server.url, api.db, direct).gql('{ __typename }', {}, undefined, {
        traceparent: `00-${traceId}-${spanId}-01`,
      });
      await server.close();
    });
    expect(collector.spans.length).toBeGreaterThan(0);
    expect(collector.spans.filter((span) => span.traceId === traceId)).toEqual([]);
  });

  test('that refuses or hangs, requests are served and stopping is quick', async () => {
    const collector = await startCollector();
    collector.status = 500;
    let status = 0;
    const { result } = await hear('warn', () =>
      observed(collector, async (api) => {
        status = (await api.gql('{ __typename }')).status;
      }),
    );
    expect(status).toBe(200);
    expect(result).toBeLessThan(6000);
  });
});

test('without one nothing of its packages is loaded', async () => {
  const script = `
    const loaded = [];
    const { registerHooks } = await import('node:module');
    registerHooks({ load(url, context, next) { loaded.push(url); return next(url, context); } });
    await import('./src/http/server.ts');
    await import('./src/worker/runner.ts');
    const { tracerFor } = await import('./src/observe/trace.ts');
    if (await tracerFor(undefined, 'x') !== undefined) throw new Error('a tracer');
    console.log(loaded.filter((url) => /@opentelemetry\\/(?!api\\/)/.test(url)).length, loaded.length > 100);
  `;
  const said = await new Promise<string>((resolve, reject) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { cwd: projectRoot });
    let text = '';
    child.stdout.on('data', (part) => {
      text += part;
    });
    child.stderr.on('data', (part) => {
      text += part;
    });
    child.once('error', reject).once('close', () => resolve(text));
  });
  expect(said.trim()).toBe('0 true');
});
