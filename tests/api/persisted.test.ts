// Persisted operations (GQ-09): what may be asked stands in a folder.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { LIMITS } from '../../src/graphql/limits.ts';
import { persistOperations } from '../../src/http/persist.ts';
import { hashOf, loadPersistedOperations } from '../../src/http/persisted.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { type Api, startApi } from './api.ts';

const ME = 'query Me { currentUser { email } }\n';
const LIST = 'query List($n: Int) { roles(first: $n) { nodes { id } } }\n';
const folder = mkdtempSync(join(tmpdir(), 'safetypin-operations-'));
const written = join(folder, 'written');
const operations = join(folder, 'operations');
whenFileEnds(() => rmSync(folder, { recursive: true, force: true }));

let only: Api;
let also: Api;
beforeAll(async () => {
  mkdirSync(join(written, 'deeper'), { recursive: true });
  writeFileSync(join(written, 'me.graphql'), ME);
  writeFileSync(join(written, 'deeper', 'list.graphql'), LIST);
  expect(persistOperations(written, operations)).toEqual([
    { hash: hashOf(LIST), file: join('deeper', 'list.graphql') },
    { hash: hashOf(ME), file: 'me.graphql' },
  ]);
  const environment = { PERSISTED_OPERATIONS: operations };
  only = await startApi({ worker: false, environment: { ...environment, PERSISTED_OPERATIONS_ONLY: 'on' } });
  also = await startApi({ worker: false, environment });
});

async function ask(api: Api, body: object): Promise<{ status: number; data: unknown; code: unknown }> {
  const response = await api.send('/graphql', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const { data, errors } = (await response.json()) as { data?: unknown; errors?: { extensions: { code: string } }[] };
  return { status: response.status, data, code: errors?.[0]?.extensions.code };
}

const apollo = (text: string) => ({ extensions: { persistedQuery: { version: 1, sha256Hash: hashOf(text) } } });

describe.each([
  ['where only known operations run', () => only],
  ['where they run too', () => also],
])('%s', (_name, api) => {
  test.each([
    ['documentId', { documentId: hashOf(ME) }],
    ['documentId with its kind', { documentId: `sha256:${hashOf(ME)}` }],
    ["Apollo's extension", apollo(ME)],
  ])('%s finds the operation', async (_how, body) => {
    expect(await ask(api(), body)).toEqual({ status: 200, data: { currentUser: null }, code: undefined });
  });

  test.each([
    ['an unknown hash', { documentId: hashOf('{ __typename }') }],
    ['a hash that is a path', { documentId: '../../etc/passwd' }],
    ['the name of something every object has', { documentId: 'constructor' }],
    ["an unknown hash, Apollo's way", apollo('{ __typename }')],
  ])('%s finds nothing', async (_how, body) => {
    expect(await ask(api(), body)).toEqual({ status: 404, data: undefined, code: 'NOT_FOUND' });
  });

  test('variables are limited as they are elsewhere', async () => {
    for (const n of [2_147_483_647, LIMITS.page + 1]) {
      expect((await ask(api(), { documentId: hashOf(LIST), variables: { n } })).code).toBe('LIMIT_EXCEEDED');
    }
    expect((await ask(api(), { documentId: hashOf(LIST), variables: { n: 5 } })).code).toBe('UNAUTHENTICATED');
  });

  test.each([
    ['neither text nor hash', {}],
    ['a hash that is no text', { documentId: 5 }],
    ['an extension without a hash', { extensions: { persistedQuery: { version: 1 } } }],
    ['an extension of another shape', { extensions: { persistedQuery: 'x' } }],
  ])('%s is refused', async (_how, body) => {
    expect((await ask(api(), body)).code).toBe('BAD_INPUT');
  });
});

test('where only known operations run, text is refused, with its good hash too, and introspection by it', async () => {
  for (const body of [
    { query: ME },
    { query: ME, ...apollo(ME) },
    { query: '{ __schema { queryType { name } } }' },
    { query: '' },
  ]) {
    expect(await ask(only, body)).toEqual({ status: 403, data: undefined, code: 'FORBIDDEN' });
  }
});

test('where they run too, text runs, but not under a hash that is not its own; nothing is remembered', async () => {
  expect((await ask(also, { query: '{ __typename }' })).data).toEqual({ __typename: 'Query' });
  expect((await ask(also, { query: '{ __typename }', ...apollo('{ __typename }') })).data).toEqual({
    __typename: 'Query',
  });
  expect((await ask(also, { query: '{ __typename }', ...apollo(ME) })).code).toBe('BAD_INPUT');
  expect((await ask(also, apollo('{ __typename }'))).code).toBe('NOT_FOUND');
});

describe('the folder', () => {
  test('whose file is not what its name says, that is empty or not there, starts no server', () => {
    const changed = mkdtempSync(join(folder, 'changed-'));
    expect(() => loadPersistedOperations(changed)).toThrow(/holds no operations/);
    writeFileSync(join(changed, `${hashOf(ME)}.graphql`), ME.replace('email', 'id'));
    expect(() => loadPersistedOperations(changed)).toThrow(/does not hold what its name says/);
    expect(() => loadPersistedOperations(join(folder, 'nowhere'))).toThrow(/is not a folder/);
    expect(readdirSync(operations)).toHaveLength(2);
  });

  test('is needed where only known operations run', () => {
    expect(() => loadConfig({ PERSISTED_OPERATIONS_ONLY: 'on' })).toThrow(/needs PERSISTED_OPERATIONS/);
  });

  test('is not made from what does not parse', () => {
    writeFileSync(join(folder, 'bad.graphql'), '{');
    expect(() => persistOperations(folder, join(folder, 'never'))).toThrow(/bad.graphql: Syntax Error/);
  });
});
