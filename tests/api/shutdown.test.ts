// Ending: what was begun is finished, whoever keeps a connection is told, and it does not take for ever.
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test, vi } from 'vitest';
import { startServer } from '../../src/http/server.ts';
import { loadApplicationKeys } from '../../src/keyring/application-keys.ts';
import { type Api, freePort, startApi } from './api.ts';

const HOST = `
  create schema probe;
  grant usage on schema probe to safetypin_anonymous;
  create function probe.slow(seconds float) returns text language sql volatile as $$ select 'done' from pg_sleep(seconds) $$;
  grant execute on all functions in schema probe to safetypin_anonymous;
`;
const SLOW = 'mutation($s: Float!) { slow(input: { seconds: $s }) { result } }';

interface Asked {
  readonly response: IncomingMessage;
  readonly text: string;
}

/** Asks over a connection that is kept. */
function ask(url: string, agent: Agent, body?: object): Promise<Asked> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' };
    const request = httpRequest(url, { agent, method: body ? 'POST' : 'GET', headers }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += String(chunk);
      });
      response.once('end', () => resolve({ response, text }));
    });
    request.once('error', reject);
    request.end(body && JSON.stringify(body));
  });
}

async function another(api: Api, change: object, closeMilliseconds = 10_000) {
  const keys = await loadApplicationKeys(api.config.dataDirectory);
  const config = { ...api.config, port: await freePort(), ...change };
  return startServer({ config, access: api.db.access, keys, say: () => {}, closeMilliseconds });
}

test('a stopping server is not ready, serves on for the delay, says goodbye, and ends', async () => {
  const api = await startApi({ worker: false, host: HOST, environment: { SAFETYPIN_SCHEMAS: 'probe' } });
  const server = await another(api, { shutdownDelay: 1 });
  const agent = new Agent({ keepAlive: true, maxSockets: 4 });
  const first = await ask(`${server.url}/graphql`, agent, { query: '{ __typename }' });
  expect(first.response.headers.connection).toBe('keep-alive');
  const under = ask(`${server.url}/graphql`, agent, { query: SLOW, variables: { s: 2 } });
  await sleep(200);
  const began = performance.now();
  const closing = server.close();
  const ready = await ask(`${server.url}/readyz`, agent);
  expect(ready.response.statusCode).toBe(503);
  expect(JSON.parse(ready.text)).toEqual({ status: 'unavailable', code: 'STOPPING' });
  // A balancer that has not looked yet sends on: it is served, and told not to come back over this connection.
  const late = await ask(`${server.url}/graphql`, agent, { query: '{ __typename }' });
  expect(late.text).toBe('{"data":{"__typename":"Query"}}');
  expect(late.response.headers.connection).toBe('close');
  const { response, text } = await under;
  expect(JSON.parse(text).data.slow.result).toBe('done');
  expect(response.headers.connection).toBe('close');
  // By now nothing new is taken.
  await expect(ask(`${server.url}/healthz`, new Agent())).rejects.toThrow(/ECONNREFUSED/);
  await closing;
  expect(performance.now() - began).toBeLessThan(5000);
  agent.destroy();
}, 20_000);

test('what does not end in time is cut off', async () => {
  const api = await startApi({ worker: false, host: HOST, environment: { SAFETYPIN_SCHEMAS: 'probe' } });
  const server = await another(api, {}, 500);
  const spy = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const under = ask(`${server.url}/graphql`, new Agent(), { query: SLOW, variables: { s: 3 } }).catch(() => 'cut');
  // Nor does somebody who only holds a connection, or sends a request byte by byte.
  const { hostname, port } = new URL(server.url);
  const holding = connect(Number(port), hostname);
  holding.on('error', () => {});
  holding.write('POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{');
  await sleep(300);
  const began = performance.now();
  await server.close();
  expect(performance.now() - began).toBeLessThan(3500);
  expect(await under).toBe('cut');
  spy.mockRestore();
  holding.destroy();
  // PostgreSQL ends what it has begun by itself.
  await sleep(3500);
}, 20_000);
