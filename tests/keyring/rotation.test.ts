// CR-08: the roots of the key tree are replaced while people read. Two halves make a key: the database's and the
// application's; each is replaced on its own, and nobody notices.

import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { Application, GOOD, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { WorkHand } from './works.ts';

let db: TestDatabase;
let app: Application;
let hand: WorkHand;
let ada: Person;

const NAME = 'select u.display_name as name from api."current_user"() u';
const nameOf = async (person: Person, by = app) => (await by.call<{ name: string }>(person.credential, NAME)).name;
const roots = async () =>
  (await hand.admin.query('select version, half, application_id from keyring_private.roots order by version')).rows;
const strays = async () =>
  (
    await hand.admin.query(
      `select count(*)::int as n from (select root_version from keyring_private.data_keys
        union all select root_version from keyring_private.index_keys) k
        where k.root_version <> (select max(version) from keyring_private.roots)`,
    )
  ).rows[0].n;

/** As the owner, as `safetypin keys` does: with row_security off. */
async function asOwner(sql: string): Promise<unknown> {
  const owner = await db.connect('owner');
  try {
    return (await owner.query(sql)).rows[0];
  } finally {
    await owner.end();
  }
}
const rotate = () => asOwner('select keyring.rotate_root()');

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  hand = await WorkHand.of(app);
  ada = await app.person('ada');
});

const slow = ['slow@example.com', 'Slow'];

describe('CR-08 a rotation of the root', () => {
  test('is refused while no application has brought its half', async () => {
    const fresh = await cloneDatabase();
    const owner = await fresh.connect('owner');
    expect(await refusal(owner.query('select keyring.rotate_root()'))).toBe('KEYNO');
    expect(await refusal(owner.query("select keyring.rotate_application('\\x0102030405060708')"))).toBe('KEYNO');
    await fresh.drop();
  });

  test('puts every key under a new half of the database, destroys the old one, and changes no value', async () => {
    const before = await roots();
    await rotate();
    expect(await nameOf(ada)).toBe('ada');
    await hand.all();
    const after = await roots();
    expect(after.map(({ version }) => version)).toEqual([before[0].version + 1]);
    expect(after[0].half).not.toEqual(before[0].half);
    expect(after[0].application_id).toEqual(before[0].application_id);
    expect(await strays()).toBe(0);
    expect(await nameOf(ada)).toBe('ada');
    expect((await app.signIn(ada.email, ada.tag)).outcome).toBe('SIGNED_IN');
    expect(await hand.works()).toMatchObject([{ kind: 'rewrap', percent: 100, problem: null }]);
    const { rows } = await hand.admin.query("select details from audit.events where action = 'key.rotate'");
    expect(rows).toMatchObject([{ details: { what: 'root' } }]);
  });

  test('goes on at any point where it is broken off, one key at a time, with people signing up meanwhile', async () => {
    await rotate();
    let broken = 0;
    for (let batch = 0; (await hand.works()).some(({ finished_at }) => finished_at === null); batch += 1) {
      if (batch % 3 === 0) {
        await expect(hand.batch(1, 'keyring__work', () => Promise.reject(new Error('killed')))).rejects.toThrow(
          'killed',
        );
        broken += 1;
      }
      await hand.batch(1);
      await hand.admin.query('update keyring_private.works set run_at = now()');
      expect(await nameOf(ada)).toBe('ada');
      if (batch === 2) expect(await nameOf(await app.person('grace'))).toBe('grace');
    }
    expect(broken).toBeGreaterThan(3);
    expect(await strays()).toBe(0);
    expect(await roots()).toHaveLength(1);
  });

  test('leaves the old root until nobody makes a key under it', async () => {
    // A registration, held open after its key was made and before its commit.
    const registering = app.as(null, async (client) => {
      const how = await client.query('select * from api_steps.prepare_registration($1, $2, null, $3)', [...slow, GOOD]);
      const { scheme, parameters, salt } = how.rows[0];
      const values = [...slow, null, GOOD, scheme, parameters, salt, randomBytes(32)];
      await client.query('select * from api_steps.register($1, $2, $3, $4, $5, $6, $7, $8)', values);
      await rotate();
      for (let batch = 0; batch < 5; batch += 1) {
        await hand.batch();
        await hand.admin.query('update keyring_private.works set run_at = now()');
      }
      expect((await hand.works()).at(-1)).toMatchObject({ finished_at: null, problem: null });
      expect(await roots()).toHaveLength(2);
    });
    await registering;
    expect(await strays()).toBe(1);
    await hand.all();
    expect(await strays()).toBe(0);
    expect(await roots()).toHaveLength(1);
  });

  test('two at once are one and a refusal', async () => {
    const both = await Promise.all([refusal(rotate()), refusal(rotate())]);
    expect(both.sort()).toEqual(['CNFLT', 'no refusal']);
    await hand.all();
  });

  test('is asked for by the owner alone', async () => {
    for (const credential of [null, ada.credential]) {
      for (const call of [
        'rotate_root()',
        "rotate_application('\\x0102030405060708')",
        'rotate_transport()',
        'tree()',
      ]) {
        expect(await refusal(app.call(credential, `select keyring.${call}`)), call).toBe('42501');
      }
    }
    for (const login of ['authenticator', 'jobs', 'auditor'] as const) {
      const client = await db.connect(login);
      expect(await refusal(client.query('select keyring.rotate_root()')), login).toBe('42501');
    }
  });

  test('is not done by an application with another half', async () => {
    await rotate();
    const before = await roots();
    const stranger = await WorkHand.of(await Application.beside(db));
    expect(await refusal(stranger.batch())).toBe('KEYNO');
    // Though its half said that it were the bound one.
    await withoutGuard(
      db,
      'keyring_private.key_encryption_key(integer, bytea)',
      "raise exception 'the application does not hold its half of this key' using errcode = 'KEYNO'",
      'v_half := substr(v_halves, 1, 32)',
      async () => {
        await stranger.batch();
        expect((await hand.works()).at(-1)).toMatchObject({ problem: 'KEYBD' });
        expect(await roots()).toEqual(before);
      },
    );
    await hand.admin.query('update keyring_private.works set run_at = now()');
    await hand.all();
    expect(await nameOf(ada)).toBe('ada');
  });

  test('an old root and the application’s half open what was copied before, and nothing from after', async () => {
    const keep = async () => {
      await hand.admin.query('drop table if exists public.stolen_roots, public.stolen_keys');
      await hand.admin.query('create table public.stolen_roots as table keyring_private.roots');
      await hand.admin.query('create table public.stolen_keys as table keyring_private.data_keys');
    };
    await keep();
    await rotate();
    await hand.all();
    const open = `select keyring_private.unwrap(
        extensions.hmac('safetypin kek '::bytea || int4send(r.version) || $1, r.half, 'sha512'), k.wrapped,
        '\\x02'::bytea || uuid_send(k.id) || uuid_send(k.subject)) is not null as opened`;
    const stolen = `${open} from public.stolen_roots r, public.stolen_keys k where k.subject = $2`;
    const present = `${open} from public.stolen_roots r, keyring_private.data_keys k where k.subject = $2`;
    const values = [app.keys.half, ada.id];
    expect((await hand.admin.query(stolen, values)).rows).toEqual([{ opened: true }]);
    expect(await refusal(hand.admin.query(present, values))).toBe('KEYBD');
    await hand.admin.query('drop table public.stolen_roots, public.stolen_keys');
  });
});

describe('CR-08 data keys', () => {
  const keys = async () =>
    (
      await hand.admin.query(
        'select id, retired_at is not null as retired from keyring_private.data_keys where subject = $1 order by id',
        [ada.id],
      )
    ).rows;

  test('have one current version for each subject; what older ones sealed stays readable', async () => {
    const [first] = await keys();
    await inKeeper('select keyring_private.retire_data_key($1)');
    expect(await keys()).toMatchObject([{ id: first.id, retired: true }, { retired: false }]);
    expect(await nameOf(ada)).toBe('ada');
    await rotate();
    await hand.all();
    expect(await nameOf(ada)).toBe('ada');
    const stranger = crypto.randomUUID();
    expect(await inKeeper('select keyring_private.retire_data_key($1) as key', stranger)).toEqual({ key: null });
  });

  test('are destroyed all together: what was sealed under an old one is erased too', async () => {
    expect(await keys()).toHaveLength(2);
    await inKeeper('select keyring_private.destroy_data_key($1)');
    expect(await keys()).toEqual([]);
    expect(await refusal(nameOf(ada))).toBe('KEYER');
  });

  /** A function of the keeper's in a request of the application. */
  async function inKeeper(sql: string, subject = ada.id): Promise<unknown> {
    const client = await db.connect('admin');
    try {
      await client.query('begin');
      await client.query("select sessions.open_request(null, $1, '{}')", [await app.envelopes.seal(null)]);
      const { rows } = await client.query(sql, [subject]);
      await client.query('commit');
      return rows[0];
    } finally {
      await client.end();
    }
  }
});
