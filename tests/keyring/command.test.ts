// `safetypin keys` beside a running server: what it shows, what it does, and what the API says of it.
import { beforeAll, expect, test } from 'vitest';
import { listKeys, rotateKeys, workOnKeys } from '../../src/keyring/command.ts';
import { type Api, type Member, startApi } from '../api/api.ts';
import { withoutGuard } from '../support/actors.ts';

let api: Api;
let ada: Member;
let said: string[];
let printed: string[];
/** What server and worker say. */
const heard: string[] = [];
const tools = () => {
  said = [];
  printed = [];
  return {
    access: api.db.access,
    config: api.config,
    print: (line: string) => void printed.push(line),
    say: (line: string) => void said.push(line),
  };
};
const WORKS = '{ keyWorks { nodes { kind column percent createdAt finishedAt } } }';
const me = async () =>
  (await api.gql('{ currentUser { displayName } }', {}, ada.accessToken)).data.currentUser.displayName;

beforeAll(async () => {
  api = await startApi({ say: (line) => void heard.push(line) });
  ada = await api.member('Ada');
});

test('CR-08 rotates the root and the transport key while the server serves, and shows the tree', async () => {
  await listKeys(tools());
  const before = printed.join('\n');
  expect(before).toMatch(/^ {2}1 +[0-9a-f]{16} .* in use$/m);
  expect(before).toMatch(/current {2}[0-9a-f]{16} {2}in use/);
  expect(before).toMatch(/Works\n {2}none$/);
  let over = false;
  const names = new Set<string>();
  const reading = (async () => {
    while (!over) names.add(await me());
  })();
  await rotateKeys('root', tools());
  expect(said.at(-1)).toBe('root: replaced');
  await rotateKeys('transport', tools());
  over = true;
  await reading;
  expect([...names, await me()]).toEqual(['Ada', 'Ada']);
  await listKeys(tools());
  const after = printed.join('\n');
  expect(after).toMatch(/^ {2}2 +[0-9a-f]{16} .* in use$/m);
  expect(after).not.toMatch(/being emptied/);
  expect(after).toMatch(/done {2}rewrap: \d+ rows in/);
  await workOnKeys(tools());
  expect(said).toEqual(['nothing is to be done']);
}, 60_000);

test('a worker whose transport key was taken back opens its next job anew, and no try fails', async () => {
  await rotateKeys('transport', tools());
  heard.length = 0;
  // Its mails are sent by the worker.
  await api.member('Bob');
  expect(heard.filter((line) => line.includes('failed'))).toEqual([]);
});

test('is refused while somebody else rotates', async () => {
  const other = await api.db.connect('admin');
  await other.query("select pg_advisory_lock(hashtextextended('safetypin keys rotate', 0))");
  await expect(rotateKeys('application', tools())).rejects.toThrow(/somebody else is rotating/);
  await other.end();
});

test('keyWorks says how far works are, to who holds key.read', async () => {
  const { data } = await api.gql(WORKS, {}, ada.accessToken);
  expect(data.keyWorks.nodes).toEqual([
    { kind: 'rewrap', column: null, percent: 100, createdAt: expect.any(String), finishedAt: expect.any(String) },
  ]);
  const code = async (token?: string) => (await api.gql(WORKS, {}, token)).errors?.[0]?.extensions.code;
  expect(await code()).toBe('UNAUTHENTICATED');
  const admin = await api.db.connect('admin');
  await admin.query("delete from access_private.held_permissions where permission = 'key.read'");
  expect(await code(ada.accessToken)).toBe('FORBIDDEN');
  await withoutGuard(api.db, 'api.key_works()', "not coalesce(request.can('key.read'), false)", 'false', async () => {
    expect(await code(ada.accessToken)).toBeUndefined();
  });
  await admin.end();
});
