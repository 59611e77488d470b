// Ciphertexts in the sealed columns of a host's tables: moved ones and malformed ones never open (CR-02, CR-03, PG-70).
import { randomBytes, randomInt } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { takeRoles } from '../support/owners.ts';
import { Opener } from './opener.ts';

const BAD = 'KEYBD the value cannot be opened';
const OPEN = 'select keyring.open_value($1::uuid, $3, $4)';
let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;
let bob: Person;
let hers: Opener;

interface Value {
  readonly column: string;
  readonly organization: string;
  readonly row: string;
  readonly subject: string;
  readonly sealed: Buffer;
  readonly text: string;
}
const values: Value[] = [];

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  const owner = await db.connect('owner');
  ada = await app.person('ada');
  bob = await app.person('bob');
  hers = await Opener.beside(db, app, ada.credential);
  // In files two rows are about one person, and sealed with one key.
  await owner.query(`
    create schema clinic;
    create table clinic.patients (organization_id uuid not null, id uuid default platform.uuid_v7(), person uuid,
      ssn text, notes text, primary key (organization_id, id));
    create table clinic.files (organization_id uuid not null, id uuid default platform.uuid_v7(), person uuid,
      ssn text, notes text, primary key (organization_id, id));
    select access.protect('clinic.patients');
    select access.protect('clinic.files');
    select keyring.seal_column('clinic.patients', 'ssn', subject => 'id', searchable => true);
    select keyring.seal_column('clinic.patients', 'notes', subject => 'id');
    select keyring.seal_column('clinic.files', 'ssn', subject => 'person');
    select keyring.seal_column('clinic.files', 'notes', subject => 'person');`);
  const columns = new Map<string, string>(
    (await admin.query("select relation::text || '.' || door as name, id from keyring.doors()")).rows.map((door) => [
      door.name,
      door.id,
    ]),
  );
  for (const who of [ada, bob]) {
    for (const table of ['clinic.patients', 'clinic.files']) {
      for (const text of ['first', 'second']) {
        const { id } = await app.call<{ id: string }>(
          who.credential,
          `insert into ${table} (person, ssn, notes) values ($1, $2, $3) returning id`,
          [who.id, `${text} ssn`, `${text} notes`],
        );
        const { rows } = await admin.query(
          `select ssn_sealed as ssn, notes_sealed as notes from ${table} where id = $1`,
          [id],
        );
        for (const door of ['ssn', 'notes'] as const) {
          const column = columns.get(`${table}.${door}`) as string;
          values.push({
            column,
            organization: who.organization,
            row: id,
            subject: table === 'clinic.files' ? who.id : id,
            sealed: rows[0][door],
            text: `${text} ${door}`,
          });
        }
      }
    }
  }
});

const isAt = (value: Value, at: Value) => value.column === at.column && value.row === at.row;

describe('CR-03: between columns, tables, rows, people and organizations', () => {
  it('a value opens where it was written and nowhere else, of all pairs', async () => {
    const pairs = values.flatMap((value) => values.map((at) => ({ value, at })));
    const said = await hers.open(
      pairs.map(({ value, at }) => ({ sealed: value.sealed, at })),
      OPEN,
    );
    for (const [i, { value, at }] of pairs.entries()) {
      const own = isAt(value, at) && value.organization === ada.organization;
      expect(said[i], `${value.text} at ${at.text}`).toBe(own ? `opened ${value.text}` : BAD);
    }
    expect(said.filter((one) => one !== BAD).length).toBe(values.length / 2);
  });

  it('a stamp tells the same without a key, of all pairs', async () => {
    const pairs = values.flatMap((value) => values.map((at) => ({ value, at })));
    const { rows } = await admin.query<{ genuine: boolean }>(
      `select keyring.is_stamped(c, o, r, p, s) as genuine
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bytea[]) with ordinality as t (c, o, r, p, s, at) order by at`,
      [
        pairs.map(({ at }) => at.column),
        pairs.map(({ at }) => at.organization),
        pairs.map(({ at }) => at.row),
        pairs.map(({ at }) => at.subject),
        pairs.map(({ value }) => value.sealed),
      ],
    );
    expect(rows.map(({ genuine }) => genuine)).toEqual(pairs.map(({ value, at }) => isAt(value, at)));
  });

  it("a value of SafetyPin's own columns opens in none of another table, nor the other way round", async () => {
    const [value] = values as [Value];
    const definer = await Opener.beside(db, app);
    const place = { ...value, column: 'identity.people.display_name' };
    const [own] = (await definer.seal('mine', ada.id, [place])) as [Buffer];
    expect(await definer.open([{ sealed: own, at: place }])).toEqual(['opened mine']);
    expect(await definer.open([{ sealed: value.sealed, at: place }])).toEqual([BAD]);
    // With the version of the other as well, and with room for a stamp.
    const disguised = [own, Buffer.concat([Buffer.from([2]), own.subarray(1)])];
    disguised.push(Buffer.concat([Buffer.from([2]), randomBytes(16), own.subarray(1)]));
    const bare = Buffer.concat([Buffer.from([1]), value.sealed.subarray(17)]);
    expect(await definer.open([{ sealed: bare, at: place }])).toEqual([BAD]);
    for (const sealed of disguised) expect(await hers.open([{ sealed, at: value }], OPEN)).not.toContain('opened mine');
  });

  it('whoever owns the table and swaps what is in it is refused by its guard, and without guard nothing opens', async () => {
    const swap = `update clinic.files t set ssn_sealed = o.ssn_sealed from clinic.files o
      where t.organization_id = $1 and o.organization_id = $1 and o.id <> t.id`;
    expect(await refusal(admin.query(swap, [ada.organization]))).toBe('KEYFG');
    await admin.query('begin; set local session_replication_role = replica');
    expect(await refusal(admin.query(swap, [ada.organization]))).toBe('KEYFG');
    await admin.query('rollback');
    const triggers = async (how: string) => {
      const { rows } = await admin.query(
        "select tgname as name from pg_trigger where tgrelid = 'clinic.files'::regclass and tgname like '%seal%' and not tgisinternal",
      );
      for (const { name } of rows) await admin.query(`alter table clinic.files ${how} trigger "${name}"`);
    };
    await triggers('disable');
    await admin.query(swap, [ada.organization]);
    const read = () => app.rows(ada.credential, 'select clinic.files_ssn(f) as ssn from clinic.files f order by id');
    expect(await refusal(read())).toBe('KEYBD');
    await admin.query(swap, [ada.organization]);
    await triggers('enable always');
    expect(await read()).toEqual([{ ssn: 'first ssn' }, { ssn: 'second ssn' }]);
  });
});

describe('PG-70: malformed, for whoever may open the column', () => {
  const problems = (sealed: Buffer[]): Promise<string[]> =>
    hers.as('safetypin_member', async (client) => {
      const [value] = values as [Value];
      const { rows } = await client.query<{ problem: string | null; value: string | null }>(
        'select problem, value from keyring.open_values($1, $2, $3) order by number',
        [value.column, sealed.map(() => value.row), sealed],
      );
      return rows.map(({ problem, value: opened }) => problem ?? `opened ${opened}`);
    });

  it('with any one bit changed nothing opens: the stamp alone is not looked at when reading', async () => {
    const [value] = values as [Value];
    const changed = Array.from({ length: value.sealed.length * 8 }, (_, bit) => {
      const copy = Buffer.from(value.sealed);
      copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      return copy;
    });
    const said = await problems(changed);
    const alone = await hers.open(
      changed.map((sealed) => ({ sealed, at: value })),
      OPEN,
    );
    for (const [bit, answer] of said.entries()) {
      const at = bit >> 3;
      // The stamp, and the id of the key, which no key has when it is changed: read alone, that is erased and null.
      const what = at >= 1 && at < 17 ? 'stamp' : at >= 17 && at < 33 ? 'key id' : 'rest';
      expect(answer, `byte ${at}`).toBe({ stamp: 'opened first ssn', 'key id': 'KEYER', rest: 'KEYBD' }[what]);
      expect(alone[bit], `byte ${at}`).toBe({ stamp: 'opened first ssn', 'key id': null, rest: BAD }[what]);
    }
  });

  it('at random nothing opens, in sets and alone, and the backend stays', async () => {
    const [value] = values as [Value];
    const pid = async () => (await hers.client.query('select pg_backend_pid() as pid')).rows[0].pid;
    const before = await pid();
    const count = Math.ceil(100_000 * loadConfig().testScale);
    const one = (i: number): Buffer => {
      if (i % 3 === 0) return randomBytes(randomInt(400));
      if (i % 3 === 1)
        return Buffer.concat([
          value.sealed.subarray(0, 33),
          randomBytes(i % 2 ? 16 * randomInt(5, 30) : randomInt(300)),
        ]);
      const copy = Buffer.from(value.sealed);
      for (let flips = 1 + randomInt(6); flips > 0; flips -= 1) {
        const at = 33 + randomInt(copy.length - 33);
        copy[at] = (copy[at] ?? 0) ^ (1 + randomInt(255));
      }
      return copy.equals(value.sealed) ? randomBytes(113) : copy;
    };
    const seen = new Map<string, number>();
    for (let done = 0; done < count; done += 1000) {
      const some = Array.from({ length: Math.min(1000, count - done) }, (_, i) => one(done + i));
      for (const said of await problems(some)) seen.set(said, (seen.get(said) ?? 0) + 1);
      const alone = await hers.open(
        some.slice(0, 50).map((sealed) => ({ sealed, at: value })),
        OPEN,
      );
      for (const said of alone) expect([BAD, null]).toContain(said);
    }
    expect([...seen.keys()].filter((said) => !['KEYBD', 'KEYER'].includes(said))).toEqual([]);
    expect(seen.get('KEYBD')).toBeGreaterThan(count * 0.6);
    expect(await pid()).toBe(before);
  }, 300_000);
});

describe('PG-72: who may not open a column', () => {
  it('cannot have a guess sealed, to hold its blind index against those of the rows', async () => {
    const eve = await app.person('eve');
    const owner = await db.connect('owner');
    await owner.query(`
      create table clinic.vault (organization_id uuid not null, id uuid default platform.uuid_v7(), ssn text, primary key (organization_id, id));
      select access.protect('clinic.vault');
      select keyring.seal_column('clinic.vault', 'ssn', subject => 'id', permission => 'audit.read', searchable => true, options => '{"write": "row.read"}');`);
    await app.rows(eve.credential, "insert into clinic.vault (ssn) values ('078-05-1120')");
    const { rows } = await admin.query("select id from keyring.doors() where relation = 'clinic.vault'::regclass");
    await takeRoles(admin, eve.organization);
    await admin.query(
      `insert into access.membership_roles (organization_id, membership_id, role_id)
        select m.organization_id, m.id, r.id from access.memberships m join access.roles r using (organization_id)
        where m.organization_id = $1 and r.name = 'viewer'`,
      [eve.organization],
    );
    const read = 'select clinic.vault_ssn(v) as ssn from clinic.vault v';
    expect(await app.rows(eve.credential, read)).toEqual([{ ssn: null }]);
    expect(await app.rows(eve.credential, "select * from clinic.vault_by_ssn('078-05-1120')")).toEqual([]);
    const guess = () =>
      app.rows(
        eve.credential,
        `select s.index_a = v.ssn_index_a as found
           from clinic.vault v, keyring.seal_value($1, v.organization_id, v.id, v.id, '078-05-1120') s`,
        [rows[0].id],
      );
    expect(await refusal(guess())).toBe('DENYD');
    const guard = 'pg_trigger_depth() = 0';
    await withoutGuard(db, 'keyring.seal_value(uuid,uuid,uuid,uuid,text)', guard, 'false', async () => {
      expect(await guess()).toEqual([{ found: true }]);
    });
  });
});
