// CR-07, CR-08: the application's half is replaced while its processes run. Each comes to hold both halves without a
// restart; the old one is forgotten only when no key needs it.
import { createHash, randomUUID } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { createRequests, type Requests } from '../../src/graphql/adaptor.ts';
import { halfId, localFile } from '../../src/keyring/provider.ts';
import { rotateApplication, rotateTransport } from '../../src/keyring/rotate.ts';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { WorkHand } from './works.ts';

let db: TestDatabase;
let app: Application;
let hand: WorkHand;
let ada: Person;

const NAME = { text: 'select u.display_name as name from api."current_user"() u' };

/** What a server process does with a pool and a key: nobody tells it of a rotation. */
const serverOf = (application: Application): Requests =>
  createRequests({
    pool: db.pool('authenticator', { max: 2, pipeline: true }),
    sealer: application.envelopes,
  });
const nameOf = async (server: Requests, person: Person) => {
  const source = { requestId: randomUUID(), credential: person.credential, ip: '192.0.2.1', userAgent: 'test' };
  return (await server.inRequest(source, (client) => client.query<{ name: string }>(NAME))).rows[0]?.name;
};

/** A minute goes by, for the transport keys. */
const later = () =>
  hand.admin.query("update keyring_private.transport_keys set retired_at = retired_at - interval '70 seconds'");
const due = () => hand.admin.query('update keyring_private.works set run_at = now()');
const bound = async () =>
  (await hand.admin.query('select application_id as id from keyring_private.roots order by version')).rows.map(
    ({ id }) => id.toString('hex'),
  );

/** Does the works as a worker does, and lets minutes go by, until nothing is left. */
async function workOff(each: () => Promise<void> = async () => {}): Promise<void> {
  for (let round = 0; round < 50; round += 1) {
    const works = await hand.works();
    if (works.every(({ finished_at }) => finished_at !== null)) return;
    await due();
    await hand.batch().catch((error) => {
      // What the worker does: the next try has another envelope.
      if (error.code !== 'KEYNO') throw error;
    });
    await each();
    await later();
  }
  throw new Error('a rotation without end');
}

async function withOwner<T>(work: (owner: Awaited<ReturnType<TestDatabase['connect']>>) => Promise<T>): Promise<T> {
  const owner = await db.connect('owner');
  return work(owner).finally(() => owner.end());
}

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  hand = await WorkHand.of(app);
  ada = await app.person('ada');
});

describe('CR-08 a new half of the application', () => {
  test('takes over while two processes serve requests: no failure, no restart, the old half gone', async () => {
    const provider = localFile(app.keysDirectory);
    const { current: old } = await provider.halves();
    const servers = [serverOf(app), serverOf(await Application.beside(db, app.keysDirectory))];
    const failures: unknown[] = [];
    let reads = 0;
    let over = false;
    const readers = servers.map(async (server) => {
      while (!over) {
        await nameOf(server, ada).then(
          (name) => name === 'ada' || failures.push(name),
          (error) => failures.push(error),
        );
        reads += 1;
        await sleep(1);
      }
    });
    let seen = 0;
    await withOwner((owner) =>
      rotateApplication({
        owner,
        provider,
        work: () =>
          workOff(async () => {
            const before = reads;
            while (reads < before + 4) await sleep(1);
            seen += 1;
          }),
      }),
    );
    over = true;
    await Promise.all(readers);
    expect(failures).toEqual([]);
    expect(seen).toBeGreaterThan(2);
    const { current, next } = await provider.halves();
    expect(next).toBeUndefined();
    expect(current).not.toEqual(old);
    expect(await bound()).toEqual([halfId(current).toString('hex')]);
    for (const server of servers) expect(await nameOf(server, ada)).toBe('ada');
    const file = readFileSync(join(app.keysDirectory, 'keys/application.json'), 'utf8');
    expect(JSON.parse(file).half).not.toBe(old.toString('base64'));
  });

  test('waits for the process that holds the old one only, and asks it again each minute', async () => {
    const copied = mkdtempSync(join(tmpdir(), 'safetypin-keys-'));
    whenFileEnds(() => rmSync(copied, { recursive: true, force: true }));
    cpSync(app.keysDirectory, copied, { recursive: true });
    const late = serverOf(await Application.beside(db, copied));
    const provider = localFile(app.keysDirectory);
    const { next } = await provider.prepare();
    if (next === undefined) throw new Error('no next half');
    await withOwner((owner) => owner.query('select keyring.rotate_application($1)', [halfId(next)]));
    const before = await bound();
    for (let minute = 0; minute < 4; minute += 1) {
      expect(await nameOf(late, ada)).toBe('ada');
      await later();
      await due();
      expect(await refusal(hand.batch())).toMatch(/no refusal|KEYNO/);
      expect(await bound()).toEqual(before);
    }
    // Somebody brings it the file with both.
    cpSync(app.keysDirectory, copied, { recursive: true });
    await workOff(async () => expect(await nameOf(late, ada)).toBe('ada'));
    expect(await bound()).toEqual([halfId(next).toString('hex')]);
    await withOwner((owner) => rotateApplication({ owner, provider, work: () => workOff() }));
    expect((await provider.halves()).next).toBeUndefined();
    expect((await provider.halves()).current).toEqual(next);
  });

  test('would lock that process out, if the rotation did not wait for it', async () => {
    const copied = mkdtempSync(join(tmpdir(), 'safetypin-keys-'));
    whenFileEnds(() => rmSync(copied, { recursive: true, force: true }));
    cpSync(app.keysDirectory, copied, { recursive: true });
    const stale = await Application.beside(db, copied);
    const late = serverOf(stale);
    const provider = localFile(app.keysDirectory);
    await withoutGuard(
      db,
      'keyring_private.everybody_holds_next()',
      /t\.retired_at is null and t\.behind_at is not null/,
      'false',
      () =>
        withOwner((owner) =>
          rotateApplication({
            owner,
            provider,
            work: () => workOff(async () => void (await nameOf(late, ada).catch(() => {}))),
          }),
        ),
    );
    expect(await refusal(nameOf(late, ada))).toBe('KEYNO');
    // A process with the old half does not even start.
    const other = await Application.beside(db, copied);
    expect(await other.call(null, 'select keyring.bind_application() as bound')).toEqual({ bound: false });
    // It gets over it as soon as it is brought the right one.
    cpSync(app.keysDirectory, copied, { recursive: true });
    expect(await nameOf(late, ada)).toBe('ada');
  });

  test('changes no key that is derived: a refresh that was lost on the way is answered all the same', async () => {
    const again = await Application.beside(db, app.keysDirectory);
    expect(again.keys.half).not.toEqual(app.keys.derive('refresh'));
    expect(again.keys.derive('refresh')).toEqual(app.keys.derive('refresh'));
    expect(again.keys.assertion).toEqual(app.keys.assertion);
  });

  test('is never the half of a database that is bound to it already', async () => {
    const { current } = await localFile(app.keysDirectory).halves();
    const same = (id: Buffer) => withOwner((owner) => owner.query('select keyring.rotate_application($1)', [id]));
    expect(await refusal(same(halfId(current)))).toBe('22023');
    expect(await refusal(same(Buffer.alloc(7)))).toBe('22023');
  });

  test('goes on where a rotation was broken off: after the file, after the work, before the file forgets', async () => {
    const provider = localFile(app.keysDirectory);
    const stop = new Error('killed');
    const rotate = (work: () => Promise<void>) =>
      withOwner((owner) => rotateApplication({ owner, provider, work })).then(
        () => 'done',
        (error) => error.message,
      );
    const { next } = await provider.prepare();
    expect(await rotate(() => Promise.reject(stop))).toBe('killed');
    expect(await rotate(() => Promise.reject(stop))).toBe('killed');
    expect((await provider.halves()).next).toEqual(next);
    expect(
      await rotate(async () => {
        await workOff();
        throw stop;
      }),
    ).toBe('killed');
    expect((await provider.halves()).next).toEqual(next);
    expect(await rotate(() => workOff())).toBe('done');
    expect(await provider.halves()).toEqual({ current: next });
    expect(await nameOf(serverOf(app), ada)).toBe('ada');
  });
});

describe('CR-09 a transport key that was taken back', () => {
  const sealedNow = () => app.envelopes.seal(ada.credential);
  /** A request with this envelope, opened before or after `between`. */
  async function withEnvelope(envelope: Buffer, when: 'before' | 'after', between: () => Promise<unknown>) {
    const client = await db.connect('authenticator');
    try {
      if (when === 'after') await between();
      await client.query('begin');
      await client.query("select set_config('role', sessions.open_request($1, $2, '{}'), true)", [
        ada.credential,
        envelope,
      ]);
      if (when === 'before') await between();
      return (await client.query(NAME)).rows[0].name;
    } finally {
      await client.end();
    }
  }
  const retire = () => withOwner((owner) => rotateTransport({ owner }));

  test('opens no further request; what is on its way is good for its minute and no longer', async () => {
    await nameOf(serverOf(app), ada);
    expect(await withEnvelope(await sealedNow(), 'before', retire)).toBe('ada');
    const written = await sealedNow();
    await nameOf(serverOf(app), ada);
    expect(await refusal(withEnvelope(written, 'after', async () => {}))).toBe('KEYNO');
    const fresh = serverOf(app);
    await nameOf(fresh, ada);
    expect(
      await refusal(
        withEnvelope(await sealedNow(), 'before', async () => {
          await retire();
          await later();
        }),
      ),
    ).toBe('KEYNO');
    await withoutGuard(
      db,
      'keyring_private.application_halves(bytea)',
      /and \(t\.retired_at is null\s+or [^\n]*\)\)/,
      '',
      async () => {
        await nameOf(fresh, ada);
        const left = withEnvelope(await sealedNow(), 'before', async () => {
          await retire();
          await later();
        });
        expect(await left).toBe('ada');
      },
    );
  });

  test('is recorded, with who asked for it', async () => {
    const { rows } = await hand.admin.query(
      "select distinct details ->> 'what' as what from audit.events where action = 'key.rotate' order by 1",
    );
    expect(rows).toEqual([{ what: 'application' }, { what: 'transport' }]);
  });
});

test('the id of a half says nothing of it, and is the same in SQL', async () => {
  const half = createHash('sha256').update('half').digest();
  const { rows } = await hand.admin.query('select keyring_private.half_id($1) as id', [half]);
  expect(rows[0].id).toEqual(halfId(half));
});
