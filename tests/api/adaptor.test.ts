import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import { createRequests, type RequestClient, type RequestSource, type Requests } from '../../src/graphql/adaptor.ts';
import { Application, type Person, refusal } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let application: Application;
let ada: Person;
let bob: Person;
let pool: pg.Pool;
let requests: Requests;

// One connection for everybody: whatever one request leaves behind, the next one gets.
beforeAll(async () => {
  db = await cloneDatabase();
  application = await Application.beside(db);
  ada = await application.person('ada');
  bob = await application.person('bob');
  pool = db.pool('authenticator', { max: 1, pipeline: true });
  requests = createRequests({ pool, sealer: application.envelopes, statementNames: 4 });
});

const source = (person: Person | null): RequestSource => ({
  requestId: randomUUID(),
  credential: person?.credential ?? null,
  ip: '192.0.2.1',
  userAgent: 'test',
});

interface Seen {
  role: string;
  person: string | null;
  organizations: string;
}

const LOOK = {
  name: 'look',
  text: `select current_user as role, (api."current_user"()).id as person,
    (select coalesce(string_agg(id::text, ','), '') from access.organizations) as organizations`,
};
const LOOK_ANONYMOUS = {
  name: 'look_anonymous',
  text: `select current_user as role, (api."current_user"()).id as person, '' as organizations`,
};

const look = async (person: Person | null): Promise<Seen | undefined> =>
  requests.inRequest(
    source(person),
    async (client) => (await client.query<Seen>(person ? LOOK : LOOK_ANONYMOUS)).rows[0],
  );

const seenBy = (person: Person): Seen => ({
  role: 'safetypin_member',
  person: person.id,
  organizations: person.organization,
});
const NOBODY: Seen = { role: 'safetypin_anonymous', person: null, organizations: '' };

/** What a connection must look like between requests. */
async function baseline(): Promise<object> {
  const { rows } =
    await pool.query(`select current_user::text, session_user::text, current_setting('search_path') as search_path,
    current_setting('statement_timeout') as statement_timeout, nullif(current_setting('safetypin.context', true), '') as context,
    (select count(*)::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as advisory,
    (select count(*)::int from pg_class where relpersistence = 't') as temporary,
    (select count(*)::int from pg_cursors) as cursors, (select count(*)::int from pg_listening_channels()) as channels`);
  return rows[0];
}

/** How many writes went into each packet on the one connection. */
async function packetsOf(work: () => Promise<unknown>): Promise<readonly number[]> {
  const packets: number[] = [];
  const client = await pool.connect();
  const { stream } = (
    client as unknown as {
      connection: { stream: { _writev: (...args: unknown[]) => void; _write: (...args: unknown[]) => void } };
    }
  ).connection;
  client.release();
  const { _writev: writev, _write: write } = stream;
  stream._writev = function (chunks: unknown, ...rest) {
    packets.push((chunks as unknown[]).length);
    return writev.call(this, chunks, ...rest);
  };
  stream._write = function (...args) {
    packets.push(1);
    return write.apply(this, args);
  };
  await work();
  stream._writev = writev;
  stream._write = write;
  return packets;
}

describe('one connection for everybody (PG-50)', () => {
  const fresh = {
    current_user: 'safetypin_authenticator',
    session_user: 'safetypin_authenticator',
    search_path: '"$user", public',
    statement_timeout: '30s',
    context: null,
    advisory: 0,
    temporary: 0,
    cursors: 0,
    channels: 0,
  };

  const scenarios: readonly (readonly [string, () => Promise<unknown>])[] = [
    ['a request of one person', () => look(ada)],
    ['a request of another', () => look(bob)],
    ['a request of nobody', () => look(null)],
    [
      'a request that was not opened',
      () => requests.inRequest({ ...source(ada), credential: Buffer.alloc(32, 7) }, (c) => c.query(LOOK)),
    ],
    [
      'an error in the middle',
      () =>
        requests.inRequest(source(ada), async (c) => {
          await c.query(LOOK);
          await c.query({ text: 'select 1/0' });
        }),
    ],
    [
      'an error of TypeScript',
      () =>
        requests.inRequest(source(ada), async (c) => {
          await c.query(LOOK);
          throw new Error('ours');
        }),
    ],
    [
      'an error before any statement',
      () =>
        requests.inRequest(source(ada), () => {
          throw new Error('at once');
        }),
    ],
    [
      'a statement timeout',
      () =>
        requests.inRequest(source(ada), async (c) => {
          await c.query({ text: "set local statement_timeout = '20ms'" });
          await c.query({ text: 'select pg_sleep(5)' });
        }),
    ],
    [
      'a client that goes away',
      async () => {
        const gone = new AbortController();
        await requests.inRequest(
          source(ada),
          async (c) => {
            await c.query(LOOK);
            gone.abort();
            await c.query(LOOK);
          },
          gone.signal,
        );
      },
    ],
    [
      'an advisory lock of the transaction',
      () => requests.inRequest(source(ada), (c) => c.query({ text: 'select pg_advisory_xact_lock(7)' })),
    ],
    [
      'a statement left behind unawaited',
      () =>
        requests.inRequest(source(ada), async (c) => {
          void c.query({ text: 'select pg_sleep(0.05)' });
        }),
    ],
    [
      'a backend that was terminated',
      async () => {
        const admin = await db.connect('admin');
        const running = requests.inRequest(source(ada), (c) => c.query({ text: 'select pg_sleep(5) /* doomed */' }));
        const settled = running.catch(() => {});
        for (let killed = 0; killed === 0; ) {
          killed =
            (
              await admin.query(
                "select pg_terminate_backend(pid) from pg_stat_activity where query like '%doomed%' and pid <> pg_backend_pid() and state = 'active'",
              )
            ).rowCount ?? 0;
        }
        await settled;
        await admin.end();
        await running;
      },
    ],
  ];

  test.each(scenarios)('%s leaves nothing for the next one', async (_name, scenario) => {
    await scenario().catch(() => {});
    expect(await baseline()).toEqual(fresh);
    expect(await look(ada)).toEqual(seenBy(ada));
    expect(await look(bob)).toEqual(seenBy(bob));
    expect(await look(null)).toEqual(NOBODY);
    expect(await baseline()).toEqual(fresh);
    expect(pool.totalCount).toBe(1);
  });

  test('one named statement gives each person her own rows, twelve times in turn (PG-53)', async () => {
    for (let i = 0; i < 12; i += 1) expect(await look(i % 2 ? ada : bob)).toEqual(seenBy(i % 2 ? ada : bob));
  });

  test('many requests at once on one connection do not mix', async () => {
    const people = Array.from({ length: 30 }, (_, i) => [ada, bob, null][i % 3] ?? null);
    const seen = await Promise.all(people.map(look));
    expect(seen).toEqual(people.map((person) => (person ? seenBy(person) : NOBODY)));
  });
});

describe('opening', () => {
  test('a dead credential is reported as such, not as the aborted transaction behind it', async () => {
    const dead = { ...source(ada), credential: Buffer.alloc(32, 9) };
    expect(await refusal(requests.inRequest(dead, (c) => c.query(LOOK)))).toBe('AUTHN');
    expect(await refusal(requests.inRequest(dead, async () => 'nothing was asked'))).toBe('AUTHN');
    expect(
      await refusal(requests.inRequest(dead, (c) => Promise.all([c.query(LOOK), c.query({ text: 'select 2' })]))),
    ).toBe('AUTHN');
    expect(await refusal(requests.inRequest(dead, (c) => c.withTransaction((t) => t.query(LOOK))))).toBe('AUTHN');
  });

  test('a statement behind a refused opening does not run', async () => {
    const dead = { ...source(null), credential: Buffer.alloc(32, 9) };
    const step = { text: 'select api_steps.start_sign_in($1)', values: ['canary@example.com'] };
    const admin = await db.connect('admin');
    const count = async () => (await admin.query('select count(*)::int as n from identity_private.attempts')).rows[0].n;
    const before = await count();
    expect(await refusal(requests.inRequest(dead, (c) => c.query(step)))).toBe('AUTHN');
    expect(await count()).toBe(before);
    await requests.inRequest(source(null), (c) => c.query(step));
    expect(await count()).toBe(before + 1);
    await admin.end();
  });

  test('begin, opening and the first statement leave together', async () => {
    await requests.inRequest(source(ada), (c) => c.query(LOOK));
    const packets = await packetsOf(() => requests.inRequest(source(ada), (c) => c.query(LOOK)));
    expect(packets).toHaveLength(2);
    expect(packets[0]).toBeGreaterThan(5);
    expect(packets[1]).toBe(1);
  });
});

describe('a transaction', () => {
  const write = (c: RequestClient) =>
    c.query({ text: 'select api_steps.start_sign_in($1)', values: ['rollback@example.com'] });
  const attempts = async (): Promise<number> => {
    const admin = await db.connect('admin');
    const { rows } = await admin.query('select count(*)::int as n from identity_private.attempts');
    await admin.end();
    return rows[0].n;
  };

  test('is committed before its work is answered', async () => {
    const before = await attempts();
    await requests.inRequest(source(null), write);
    expect(await attempts()).toBe(before + 1);
  });

  test('is rolled back when its work throws', async () => {
    const before = await attempts();
    await requests
      .inRequest(source(null), async (c) => {
        await write(c);
        throw new Error('no');
      })
      .catch(() => {});
    expect(await attempts()).toBe(before);
  });

  test('that swallowed an error of PostgreSQL fails instead of pretending', async () => {
    expect(
      await refusal(
        requests.inRequest(source(null), async (c) => {
          await c.query({ text: 'select 1/0' }).catch(() => {});
          return 'fine';
        }),
      ),
    ).toBe('22012');
  });

  test('takes a savepoint for each withTransaction, and its siblings stay outside', async () => {
    const result = await requests.inRequest(source(ada), async (c) => {
      const inner = c.withTransaction(async (t) => {
        await t.query({ text: "select set_config('test.inside', 'yes', true)" });
        throw new Error('undo');
      });
      const sibling = c.query<{ inside: string | null }>({
        text: "select nullif(current_setting('test.inside', true), '') as inside",
      });
      await inner.catch(() => {});
      return (await sibling).rows[0];
    });
    expect(result).toEqual({ inside: null });
  });

  test('goes on after a savepoint whose error was caught', async () => {
    const rows = await requests.inRequest(source(ada), async (c) => {
      await c.withTransaction((t) => t.query({ text: 'select 1/0' })).catch(() => {});
      return (await c.query({ text: 'select 5 as five' })).rows;
    });
    expect(rows).toEqual([{ five: 5 }]);
  });

  test('that is finished sends its commit with the last statement, and takes nothing behind it', async () => {
    const last = (c: RequestClient) => c.finish(() => c.query({ text: 'select 6 as six', name: 'six' }));
    await requests.inRequest(source(ada), last);
    const packets = await packetsOf(async () => {
      const done = await requests.inRequest(source(ada), async (c) => {
        await c.query(LOOK);
        const { rows } = await last(c);
        expect(await refusal(c.query({ text: 'select 7' }))).toBe('57014');
        return rows;
      });
      expect(done).toEqual([{ six: 6 }]);
    });
    expect(packets).toHaveLength(2);
    const before = await attempts();
    const failing = requests.inRequest(source(null), async (c) => {
      await write(c);
      await c.finish(() => c.query({ text: 'select 1/0' }));
    });
    expect(await refusal(failing)).toBe('22012');
    expect(await attempts()).toBe(before);
    // Inside a savepoint, or beside a statement under way, it is a statement like any other.
    await requests.inRequest(source(ada), async (c) => {
      await c.withTransaction((t) => t.finish(() => t.query({ text: 'select 1' })));
      const beside = c.query({ text: 'select 2' });
      await c.finish(() => c.query({ text: 'select 3' }));
      await beside;
      expect((await c.query({ text: 'select 4 as four' })).rows).toEqual([{ four: 4 }]);
    });
    expect(await baseline()).toMatchObject({ current_user: 'safetypin_authenticator', context: null });
  });

  test('takes no statement after its end', async () => {
    let kept: RequestClient | undefined;
    await requests.inRequest(source(ada), async (c) => {
      kept = c;
    });
    expect(await refusal(kept?.query({ text: 'select 1' }) ?? Promise.resolve())).toBe('57014');
  });

  test('takes no text that PostgreSQL would change or refuse', async () => {
    for (const value of ['a\0b', '\ud800', 'x\udfff']) {
      expect(
        await refusal(requests.inRequest(source(null), (c) => c.query({ text: 'select $1::text', values: [value] }))),
      ).toBe('22021');
    }
  });
});

describe('names of statements', () => {
  const names = (r: Requests) =>
    r.inRequest(source(null), async (c) =>
      (await c.query<{ name: string }>({ text: 'select name from pg_prepared_statements order by name' })).rows.map(
        ({ name }) => name,
      ),
    );

  test('are at most as many as allowed, the least recently used forgotten on the server too', async () => {
    for (const name of ['n1', 'n2', 'n3', 'n4', 'n5', 'n4']) {
      await requests.inRequest(source(null), (c) => c.query({ name, text: `select '${name}'` }));
    }
    expect(await names(requests)).toEqual(['n3', 'n4', 'n5', 'open_request']);
  });

  test('are not used at all through a pooler (F10)', async () => {
    const own = db.pool('authenticator', { max: 1, pipeline: true });
    const unnamed = createRequests({ pool: own, sealer: application.envelopes, statementNames: 0 });
    await unnamed.inRequest(source(ada), (c) => c.query(LOOK));
    expect(await names(unnamed)).toEqual([]);
  });

  test('survive a failed preparation', async () => {
    await requests
      .inRequest(source(ada), (c) => c.query({ name: 'bad', text: 'select nothing_of_this_name' }))
      .catch(() => {});
    const rows = await requests.inRequest(
      source(ada),
      async (c) => (await c.query({ name: 'good', text: 'select 1 as one' })).rows,
    );
    expect(rows).toEqual([{ one: 1 }]);
  });
});
