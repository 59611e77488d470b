// SECURITY 2.3: what a server tells about its other users beside rows (PG-37 to PG-40, PG-43).
import { beforeAll, describe, expect, it } from 'vitest';
import { attempt, CANARY, foreignTo, hostilePlace, type Place } from './place.ts';

let place: Place;
beforeAll(async () => {
  place = await hostilePlace();
});

describe('counting', () => {
  it('PG-37 nobody may read, draw from or set a sequence, and ids that clients see are not counted', async () => {
    const { rows } = await place.admin.query<{ name: string }>(
      "select oid::regclass::text as name from pg_class where relkind = 'S' and relnamespace::regnamespace::text !~ '^pg_'",
    );
    expect(rows.length).toBeGreaterThan(1);
    await place.everyone(async (client, { name, who }) => {
      for (const { name: sequence } of rows)
        for (const attack of [
          `select nextval('${sequence}')`,
          `select currval('${sequence}')`,
          `select setval('${sequence}', 1)`,
          `select last_value from ${sequence}`,
        ]) {
          const { code } = await attempt(client, attack);
          expect(code, `${name}: ${attack}`).toBe('42501');
        }
      expect((await attempt(client, 'select lastval()')).code, name).toBe('55000');
      const seen = await attempt(
        client,
        "select sequencename, last_value from pg_sequences where last_value is not null and schemaname !~ '^pg_'",
      );
      expect(seen.rows, `${name} ${who}`).toEqual([]);
    });
    const counted =
      await place.admin.query(`select a.attrelid::regclass::text as name from pg_attribute a join pg_class c on c.oid = a.attrelid
      where (a.attidentity <> '' or pg_get_serial_sequence(c.oid::regclass::text, a.attname) is not null) and c.relkind in ('r', 'p')
        and has_any_column_privilege('safetypin_member', c.oid, 'select') and c.relnamespace::regnamespace::text !~ '^pg_'`);
    expect(counted.rows).toEqual([]);
  });

  it('PG-40 counts and sizes are her own, and what the server knows of a whole table names no organization', async () => {
    await place.everyone(async (client, { name, who }) => {
      const isPerson = who === 'ada' || who === 'bob';
      for (const [statement, answer] of [
        ['select count(*)::int as n from clinic.patients', { n: 1 }],
        [
          'select count(distinct name)::int as n, max(age) as n2 from clinic.patients',
          { n: 1, n2: who === 'bob' ? 42 : 41 },
        ],
        [
          'select sum(age)::int as n from clinic.patients group by rollup (organization_id) limit 1',
          { n: who === 'bob' ? 42 : 41 },
        ],
        ['select count(*)::int as n from clinic.patients tablesample bernoulli (100)', { n: 1 }],
        ['select count(*)::int as n from access.organizations', { n: 1 }],
      ] as const) {
        const got = await attempt(client, statement);
        if (isPerson) expect(got.rows[0], `${name}: ${statement}`).toEqual(answer);
        else expect(got.code, `${name}: ${statement}`).toBe('42501');
      }
      // Where a row stands and what wrote it tell of the rows around it: what is granted are columns.
      for (const column of ['ctid', 'xmin', 'tableoid'])
        expect((await attempt(client, `select ${column} from clinic.patients`)).code, `${name}: ${column}`).toBe(
          '42501',
        );
      // One number for all organizations together: neither table nor index belongs to one of them.
      const known = await attempt(
        client,
        "select c::text as row, pg_relation_size(oid) from pg_class c where relnamespace::regnamespace::text = 'clinic'",
      );
      const all = JSON.stringify(known.rows);
      for (const person of [place.ada, place.bob]) expect(all, name).not.toContain(person.organization);
      for (const canary of [CANARY.ada, CANARY.bob]) expect(all, name).not.toContain(canary);
    });
    const { rows } = await place.admin.query(`select c.oid::regclass::text as name from pg_class c
      left join pg_index i on i.indexrelid = c.oid
      where pg_get_expr(i.indpred, i.indrelid) ~ '[0-9a-f]{8}-' or (c.relispartition and pg_get_expr(c.relpartbound, c.oid) ~ '[0-9a-f]{8}-')`);
    expect(rows).toEqual([]);
  });
});

describe('what others do', () => {
  it("PG-38 an error names no value of another organization's row", async () => {
    for (const who of ['ada', 'bob', 'anonymous', 'worker'] as const)
      await place.one(who, async (client, { name }) => {
        for (const attack of [
          `insert into clinic.patients (name, age) values ('${CANARY[who === 'ada' ? 'ada' : 'bob']}', 1)`,
          'insert into clinic.patients (name, age) select name, age from clinic.patients',
          'insert into clinic.patients (name, age) values (null, -1)',
          'insert into clinic.patients (name, age) select name, -1 from clinic.patients',
          'update clinic.patients set age = -1',
          'select name::int from clinic.patients',
          'select name::uuid from clinic.adults',
          'select (notes ->> 0)::int, (notes ->> $$note$$)::int from clinic.patients',
          'insert into clinic.visits (patient_id) select id from clinic.visits',
          "select 'x'::regclass",
          'delete from access.organizations',
          'select * from clinic.measures_all',
        ]) {
          const got = await attempt(client, attack);
          expect(got.code, `${name}: ${attack}`).not.toBe('none');
          for (const canary of foreignTo(who))
            if (!attack.includes(canary)) expect(JSON.stringify(got), `${name}: ${attack}`).not.toContain(canary);
        }
      });
  });

  it('PG-39 a row that another organization holds is neither waited for nor seen in the locks', async () => {
    const bob = await place.app.pool.connect();
    await bob.query('begin');
    await place.app.open(bob, place.bob.credential);
    await bob.query('select from clinic.patients for update');
    await bob.query("update clinic.visits set room = 'held'");
    try {
      await place.one('ada', async (client, { name }) => {
        await client.query(
          "set local lock_timeout = '300ms'; set local enable_indexscan = off; set local enable_bitmapscan = off",
        );
        for (const attack of [
          'select name from clinic.patients for update',
          'select name from clinic.patients for update nowait',
          'select name from clinic.patients for update skip locked',
          'update clinic.patients set age = 1 returning name',
        ])
          expect((await attempt(client, attack)).rows, `${name}: ${attack}`).toEqual([{ name: CANARY.ada }]);
        // Who waits for whom is there for everybody, by numbers: no query, no address, no row.
        const locks = await attempt(client, 'select l::text as row from pg_locks l');
        expect(JSON.stringify(locks.rows), name).not.toMatch(new RegExp(`${CANARY.bob}|${place.bob.organization}`));
      });
    } finally {
      await bob.query('rollback');
      bob.release();
    }
    const { rows } = await place.admin.query(
      "select from pg_proc where proname in ('pgrowlocks', 'get_raw_page', 'pgstattuple', 'pg_buffercache_pages')",
    );
    expect(rows).toEqual([]);
  });

  it('PG-43 a role of the API sees no statement of others; the login sees statements without values', async () => {
    const bob = await place.app.pool.connect();
    await bob.query('begin');
    await place.app.open(bob, place.bob.credential);
    await bob.query({
      name: 'bobs',
      text: 'select name from clinic.patients where name = $1',
      values: ['bob-looks-for'],
    });
    try {
      await place.everyone(async (client, { name, who }) => {
        const statements = async () =>
          JSON.stringify(
            (await attempt(client, 'select pid, query from pg_stat_activity where pid <> pg_backend_pid()')).rows,
          );
        const seen = await attempt(
          client,
          "select query from pg_stat_activity where pid <> pg_backend_pid() and usename <> 'safetypin_jobs' and query <> ''",
        );
        expect(new Set(seen.rows.map(({ query }) => query)), name).toEqual(new Set(['<insufficient privilege>']));
        expect((await attempt(client, "select from pg_prepared_statements where name = 'bobs'")).rows, name).toEqual(
          [],
        );
        if (who !== 'worker') await client.query('reset role');
        // As the login itself: the text of the statement, never a value, and never what opens a session.
        const asLogin = await statements();
        if (who !== 'worker') expect(asLogin, name).toContain('where name = $1');
        for (const secret of [
          'bob-looks-for',
          place.bob.credential.toString('hex'),
          place.bob.tag.toString('hex'),
          place.bob.email,
        ])
          expect(asLogin, name).not.toContain(secret);
        const settings = await attempt(client, "select setting from pg_settings where name ~ 'safetypin'");
        expect(JSON.stringify(settings.rows), name).not.toContain(place.bob.organization);
      });
      const available = await place.admin.query("select from pg_extension where extname = 'pg_stat_statements'");
      expect(available.rowCount).toBe(0);
    } finally {
      await bob.query('rollback');
      bob.release();
    }
  });
});
