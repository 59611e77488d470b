// Where attacks happen: two organizations with canaries on a host's tables, and four attackers, each on a connection
// of her own and on a pooled one that the others used before.
import type pg from 'pg';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

export type Who = 'anonymous' | 'ada' | 'bob' | 'worker';

export interface Attacker {
  readonly who: Who;
  readonly connection: 'fresh' | 'pooled';
  /** For messages: who, on which connection. */
  readonly name: string;
}

/** What a statement came to. */
export interface Outcome {
  /** SQLSTATE of the refusal, or `ok`. */
  readonly code: string;
  readonly message: string;
  // biome-ignore lint/suspicious/noExplicitAny: each attack knows what it asked for.
  readonly rows: any[];
  readonly count: number;
}

export interface Place {
  readonly db: TestDatabase;
  readonly app: Application;
  readonly admin: pg.Client;
  readonly owner: pg.Client;
  readonly ada: Person;
  readonly bob: Person;
  /** Runs the attack as each of the four on both kinds of connection, in a request that is rolled back. */
  everyone(attack: (client: pg.ClientBase, attacker: Attacker) => Promise<unknown>): Promise<void>;
  /** The same for one of them. */
  one(who: Who, attack: (client: pg.ClientBase, attacker: Attacker) => Promise<unknown>): Promise<void>;
}

/** Rows of a host application that must never be seen from outside their organization. */
const CLINIC = `
  create schema clinic;
  create table clinic.patients (
    organization_id uuid not null, id uuid default platform.uuid_v7(), name text not null, age integer not null default 0,
    weight numeric, notes jsonb,
    primary key (organization_id, id), constraint patients_name_unique unique (organization_id, name),
    constraint patients_age_range check (age >= 0));
  create table clinic.visits (
    organization_id uuid not null, id uuid default platform.uuid_v7(), patient_id uuid not null, room text,
    primary key (organization_id, id),
    constraint visits_patient_exists foreign key (organization_id, patient_id)
      references clinic.patients (organization_id, id) on delete cascade deferrable initially immediate,
    constraint visits_room_unique unique (organization_id, room) deferrable initially deferred);
  create table clinic.measures (
    organization_id uuid not null, id uuid default platform.uuid_v7(), at timestamptz not null default now(), value text,
    primary key (organization_id, id, at)) partition by range (at);
  create table clinic.measures_all partition of clinic.measures default;
  select access.protect('clinic.patients'), access.protect('clinic.visits'), access.protect('clinic.measures');
  create view clinic.adults with (security_invoker = true) as select * from clinic.patients where age >= 18;
  grant select on clinic.adults to safetypin_member;`;

export const CANARY = { ada: 'canary-of-ada', bob: 'canary-of-bob' } as const;

/** What the other one of two people must not see. */
export const foreignTo = (who: Who): readonly string[] =>
  who === 'ada' ? [CANARY.bob] : who === 'bob' ? [CANARY.ada] : [CANARY.ada, CANARY.bob];

export async function hostilePlace(): Promise<Place> {
  const db = await cloneDatabase();
  const app = await Application.beside(db);
  const [admin, owner] = [await db.connect('admin'), await db.connect('owner')];
  await owner.query(CLINIC);
  const [ada, bob] = [await app.person('ada'), await app.person('bob')];
  for (const [person, canary, age] of [
    [ada, CANARY.ada, 41],
    [bob, CANARY.bob, 42],
  ] as const) {
    await admin.query(
      `with p as (insert into clinic.patients (organization_id, name, age, weight, notes)
           values ($1, $2::text, $3, 70.5, jsonb_build_object('note', $2::text)) returning id),
         m as (insert into clinic.measures (organization_id, value) values ($1, $2))
       insert into clinic.visits (organization_id, patient_id, room) select $1, p.id, $2 from p`,
      [person.organization, canary, age],
    );
  }
  const shared = { api: db.pool('authenticator', { max: 1 }), worker: db.pool('jobs', { max: 1 }) };
  const credentials = { anonymous: null, ada: ada.credential, bob: bob.credential };

  async function run(client: pg.ClientBase, attacker: Attacker, attack: Parameters<Place['everyone']>[0]) {
    await client.query('begin');
    try {
      if (attacker.who !== 'worker') await app.open(client, credentials[attacker.who]);
      await attack(client, attacker);
    } finally {
      await client.query('rollback');
    }
  }

  async function one(who: Who, attack: Parameters<Place['everyone']>[0]): Promise<void> {
    const fresh = await db.connect(who === 'worker' ? 'jobs' : 'authenticator');
    await run(fresh, { who, connection: 'fresh', name: `${who}, fresh connection` }, attack);
    await fresh.end();
    const pooled = await shared[who === 'worker' ? 'worker' : 'api'].connect();
    try {
      await run(pooled, { who, connection: 'pooled', name: `${who}, pooled connection` }, attack);
    } finally {
      pooled.release();
    }
  }

  // What the pooled connections carry from before.
  for (const who of ['bob', 'ada', 'anonymous', 'worker'] as const) await one(who, (client) => client.query('select'));
  return {
    db,
    app,
    admin,
    owner,
    ada,
    bob,
    one,
    async everyone(attack) {
      for (const who of ['anonymous', 'ada', 'bob', 'worker'] as const) await one(who, attack);
    },
  };
}

/** One statement of an attack, undone whatever it came to, so that the next one finds the same. */
export async function attempt(client: pg.ClientBase, text: string, values?: unknown[]): Promise<Outcome> {
  await client.query('savepoint attempt');
  try {
    return await kept(client, text, values);
  } finally {
    await client.query('rollback to savepoint attempt; release savepoint attempt');
  }
}

/** The same without undoing what was done; a refusal leaves the transaction broken. */
export async function kept(client: pg.ClientBase, text: string, values?: unknown[]): Promise<Outcome> {
  try {
    const { rows, rowCount } = await client.query(text, values);
    return { code: 'ok', message: '', rows, count: rowCount ?? 0 };
  } catch (error) {
    const { code = 'none', message = '', detail = '' } = error as { code?: string; message?: string; detail?: string };
    return { code, message: `${message} ${detail}`.trim(), rows: [], count: 0 };
  }
}
