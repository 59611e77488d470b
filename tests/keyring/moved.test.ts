// A ciphertext that somebody moved never opens: between rows, columns, tables, people, organizations, versions (CR-03).
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { NONE, Opener, type Where } from './opener.ts';

let db: TestDatabase;
let app: Application;
let opener: Opener;
let admin: pg.Client;
/** Every column that SafetyPin seals × two organizations and none × two rows. */
let places: Where[];

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  opener = await Opener.beside(db, app);
  admin = await db.connect('admin');
  const { rows } = await admin.query('select name from keyring_private.sealed_columns order by name');
  const organizations = [NONE, crypto.randomUUID(), crypto.randomUUID()];
  const ids = [crypto.randomUUID(), crypto.randomUUID()];
  places = rows.flatMap(({ name }) =>
    organizations.flatMap((organization) => ids.map((row) => ({ column: name, organization, row }))),
  );
});

const BAD = 'KEYBD the value cannot be opened';

describe('CR-03: a value that was moved', () => {
  it('opens at its own place and at no other, of all pairs', async () => {
    const [ada, bob] = [crypto.randomUUID(), crypto.randomUUID()];
    const values = [...(await opener.seal('ada', ada, places)), ...(await opener.seal('bob', bob, places))];
    const tries = values.flatMap((sealed) => places.map((at) => ({ sealed, at })));
    const said = await opener.open(tries);
    const wrong = said.filter((answer, i) => {
      const [value, place] = [Math.floor(i / places.length), i % places.length];
      const own = value % places.length === place;
      return answer !== (own ? `opened ${value < places.length ? 'ada' : 'bob'}` : BAD);
    });
    expect(wrong).toEqual([]);
    expect(said.filter((answer) => answer.startsWith('opened')).length).toBe(2 * places.length);
  });

  it.each([
    ['the column', 'uuid_send(keyring_private.column_id(open.column_name))', 'column'],
    ['the organization', 'uuid_send(open.organization_id)', 'organization'],
    ['the row', 'uuid_send(open.row_id)', 'row'],
  ] as const)('opens elsewhere once %s is not bound: each of them is needed', async (_what, bound, key) => {
    const weaken = (name: string) => bound.replaceAll('open.', `${name}.`);
    const seal = 'keyring_private.seal(text,uuid,uuid,uuid,text)';
    await withoutGuard(db, seal, weaken('seal'), "'\\x'::bytea", () =>
      withoutGuard(db, 'keyring_private.open(text,uuid,uuid,bytea)', bound, "'\\x'::bytea", async () => {
        const [home] = places as [Where];
        const [sealed] = (await opener.seal('value', crypto.randomUUID(), [home])) as [Buffer];
        const away = places.filter((place) => place[key] !== home[key]);
        const opened = (await opener.open(away.map((at) => ({ sealed, at })))).map((said) => said === 'opened value');
        const others = (['column', 'organization', 'row'] as const).filter((other) => other !== key);
        expect(opened).toEqual(away.map((at) => others.every((other) => at[other] === home[other])));
      }),
    );
  });

  it('does not open put together from the parts of two: version, key id, IV, ciphertext, tag', async () => {
    const [ada, bob] = [crypto.randomUUID(), crypto.randomUUID()];
    const [home] = places as [Where];
    const [one, same] = (await opener.seal('ada', ada, [home, home])) as [Buffer, Buffer];
    const [other] = (await opener.seal('bob', bob, [home])) as [Buffer];
    const cuts = [0, 1, 17, 33, one.length - 32, one.length];
    const mixed: Buffer[] = [];
    for (const from of [same, other]) {
      for (let parts = 1; parts < 31; parts += 1) {
        const made = Buffer.from(one);
        for (let part = 0; part < 5; part += 1) {
          if (parts & (1 << part)) from.copy(made, cuts[part], cuts[part], cuts[part + 1]);
        }
        if (![one, same, other].some((whole) => whole.equals(made))) mixed.push(made);
      }
    }
    for (let version = 0; version < 256; version += 1) {
      if (version !== 1) mixed.push(Buffer.concat([Buffer.from([version]), one.subarray(1)]));
    }
    expect(mixed.length).toBeGreaterThan(290);
    expect(new Set(await opener.open(mixed.map((sealed) => ({ sealed, at: home }))))).toEqual(new Set([BAD]));
  });
});

describe('CR-03: between the rows of real tables, moved by somebody who owns the tables', () => {
  let ada: Person;
  let bob: Person;
  beforeAll(async () => {
    ada = await app.person('ada');
    bob = await app.person('bob');
  });
  const me = (who: Person) => app.call<{ email: string }>(who.credential, 'select * from api."current_user"()');
  /** Swaps a column of two rows, looks, and swaps it back. */
  async function swapped(table: string, column: string, key: string, ids: [string, string], look: () => Promise<void>) {
    const swap = async () => {
      await admin.query('begin; set local session_replication_role = replica');
      await admin.query(
        `update ${table} t set ${column} = o.${column} from ${table} o
          where t.${key} = any ($1::uuid[]) and o.${key} = any ($1::uuid[]) and o.${key} <> t.${key}`,
        [ids],
      );
      await admin.query('commit');
    };
    await swap();
    await look();
    await swap();
  }
  const people = (): [string, string] => [ada.id, bob.id];

  it('an address, a name and a password verifier serve nobody else', async () => {
    const signsIn = async (who: Person) => (await app.signIn(who.email, who.tag)).outcome;
    for (const [table, column] of [
      ['identity_private.emails', 'address'],
      ['identity_private.profiles', 'display_name'],
    ] as const) {
      await swapped(table, column, 'person_id', people(), async () => {
        expect(await refusal(me(ada)), column).toBe('KEYBD');
        expect(await refusal(me(bob)), column).toBe('KEYBD');
      });
      expect((await me(ada)).email).toBe(ada.email);
    }
    await swapped('identity_private.passwords', 'verifier', 'person_id', people(), async () => {
      expect(await refusal(signsIn(ada))).toBe('KEYBD');
    });
    expect(await signsIn(ada)).toBe('SIGNED_IN');
  });

  it('a data key serves only whom it was wrapped for, an index key only its column', async () => {
    await swapped('keyring_private.data_keys', 'wrapped', 'subject', people(), async () => {
      expect(await refusal(me(ada))).toBe('KEYBD');
    });
    const { rows } = await admin.query(
      "select id from keyring_private.sealed_columns where name in ('identity.emails.address', 'audit.events.origin')",
    );
    await swapped('keyring_private.index_keys', 'wrapped', 'column_id', [rows[0].id, rows[1].id], async () => {
      expect(await refusal(app.signIn(ada.email, ada.tag))).toBe('KEYBD');
    });
    expect((await me(ada)).email).toBe(ada.email);
  });
});
