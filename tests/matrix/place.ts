// A database with rows of two organizations in every table, and the actors' connections to it.
import { readFile } from 'node:fs/promises';
import { join as path } from 'node:path';
import type pg from 'pg';
import { newApiKey } from '../../src/sessions/api-key.ts';
import { Application } from '../support/actors.ts';
import { cloneDatabase, type Login, type TestDatabase } from '../support/database.ts';
import type { Actor } from './actors.ts';
import { CLINIC } from './clinic.ts';
import { fillEmptyTables } from './fill.ts';
import { gather, join, type People, type Someone } from './people.ts';

export interface Place {
  readonly db: TestDatabase;
  readonly app: Application;
  readonly admin: pg.Client;
  readonly people: ReadonlyMap<string, Someone>;
  readonly organizations: ReadonlyMap<string, string>;
  /** A job of each task that is locked by a worker now. */
  readonly jobs: ReadonlyMap<string, string>;
  /** API keys of A, with all that its owner holds. */
  readonly keys: ReadonlyMap<string, Buffer>;
  person(name: string): Someone;
  connection(login: Login): Promise<pg.Client>;
  take(gone: NonNullable<Actor['gone']>): Promise<void>;
  giveBack(gone: NonNullable<Actor['gone']>): Promise<void>;
  /** Notes the rows as they are now, if somebody's access was given back. */
  rebase(): Promise<void>;
}

/** Does what leaves rows behind that signing in does not: mails, jobs, activity, failed attempts. */
async function live(app: Application, admin: pg.Client, { people }: People): Promise<Map<string, string>> {
  for (const { credential, email } of people.values()) {
    await app.call(credential, 'select api.request_password_reset($1)', [email]);
    await app.call(null, 'select * from api_steps.start_sign_in($1)', [email]);
    await app.call(credential, 'select api_steps.note_first_use($1)', [credential]);
  }
  for (const name of ['owner', 'neighbour']) {
    for (const guest of [1, 2]) {
      const values = [`guest${guest}.of.${name}@matrix.example`];
      await app.call(people.get(name)?.credential ?? null, "select api.invite_member($1, 'member')", values);
    }
  }
  await admin.query(
    'insert into sessions.activity (session_id, last_used_at) select id, clock_timestamp() from sessions.sessions on conflict do nothing',
  );
  await admin.query("select graphile_worker.add_job('platform__clean_up', '{}')");
  await admin.query("update graphile_worker._private_jobs set locked_at = now(), locked_by = 'matrix'");
  const { rows } = await admin.query<{ task: string; id: string }>(
    `select distinct on (j.task_identifier) j.task_identifier as task, j.id::text
       from graphile_worker.jobs j left join platform_private.job_contexts c on c.job_id = j.id
      where c.person_id = $1 or j.task_identifier = 'platform__clean_up' order by j.task_identifier, j.id`,
    [people.get('owner')?.id],
  );
  return new Map(rows.map(({ task, id }) => [task, id]));
}

/** A personal key and one of a service account in each organization, both with all that the owner holds. */
async function makeKeys(app: Application, { people }: People): Promise<Map<string, Buffer>> {
  const keys = new Map<string, Buffer>();
  const used: Buffer[] = [];
  for (const name of ['neighbour', 'owner']) {
    const someone = people.get(name) as Someone;
    const held = (
      await app.rows<{ name: string }>(
        someone.credential,
        'select name from access.permissions where request.can(name)',
      )
    ).map((row) => row.name);
    const robot = await app.call<{ id: string }>(
      someone.credential,
      "select id from api.create_service_account('robot', $1)",
      [held],
    );
    for (const [kind, account] of [
      ['personal-key', null],
      ['service-key', robot.id],
    ] as const) {
      const { credential, credentialHash, prefix } = newApiKey();
      const made = await app.call<{ outcome: string }>(
        someone.credential,
        'select outcome from api_steps.create_api_key($1, $2, null, $3, $4, $5)',
        [kind, held, account, credentialHash, prefix],
      );
      if (made.outcome !== 'CREATED') throw new Error(`${name} could not make a key`);
      keys.set(kind, credential);
      used.push(credentialHash);
    }
  }
  await app.pool.query('select sessions.record_activity($1, $2)', [used, used.map(() => new Date())]);
  return keys;
}

async function seal(admin: pg.Client, { people, organizations }: People): Promise<void> {
  const seeds: Record<string, string[]> = {};
  for (const [name, id] of organizations) seeds[id] = [name];
  for (const { id, email, label } of people.values()) seeds[id] = seeds[email] = [label];
  await admin.query('begin');
  await admin.query('select matrix.learn($1)', [seeds]);
  await admin.query('select matrix.rebase()');
  await admin.query('commit');
}

/** Builds the place, beside a running API if there is one that brought the host's tables: people through the product, a host's tables, and what is still empty filled from the catalog. */
export async function buildPlace(api?: { readonly db: TestDatabase; readonly keys: string }): Promise<Place> {
  const db = api?.db ?? (await cloneDatabase());
  const admin = await db.connect('admin');
  if (api === undefined) {
    const owner = await db.connect('owner');
    await owner.query(CLINIC);
    await owner.end();
  }
  await admin.query("set timezone = 'UTC'");
  await admin.query(await readFile(path(import.meta.dirname, 'probe.sql'), 'utf8'));
  const app = await Application.beside(db, api?.keys);
  const known = await gather(app, admin);
  const jobs = await live(app, admin, known);
  const keys = await makeKeys(app, known);
  const connections = new Map<Login, Promise<pg.Client>>();
  let isStale = false;
  const place: Place = {
    db,
    app,
    admin,
    jobs,
    keys,
    ...known,
    person(name) {
      const someone = known.people.get(name);
      if (someone === undefined) throw new Error(`nobody is called ${name}`);
      return someone;
    },
    connection(login) {
      const open = connections.get(login) ?? db.connect(login);
      connections.set(login, open);
      return open;
    },
    async take({ take, of }) {
      await admin.query(take, [place.person(of).id]);
    },
    async giveBack({ giveBack, of }) {
      const { id } = place.person(of);
      if (of === 'removed') await join(admin, id, String(known.organizations.get('A')), 'owner');
      await admin.query(giveBack, [id]);
      isStale = true;
    },
    async rebase() {
      if (isStale) await admin.query('select matrix.rebase()');
      isStale = false;
    },
  };
  await openScheduled(place);
  // Through the function: what stands there is one of the settings that there are.
  for (const name of ['owner', 'neighbour']) {
    await app.call(place.person(name).credential, "select api.change_setting('invitation.seconds', '4000')");
  }
  await fillEmptyTables(admin, known.organizations, known.people);
  await fillSealed(app, (name) => place.person(name).credential);
  await seal(admin, known);
  return place;
}

/** Gives every patient a number that says whose it is. Only who is in the organization can seal one. */
export async function fillSealed(
  app: Application,
  credentialOf: (name: string) => Buffer | Promise<Buffer>,
): Promise<void> {
  for (const [name, letter] of [
    ['owner', 'A'],
    ['neighbour', 'B'],
  ] as const) {
    await app.rows(
      await credentialOf(name),
      `update clinic.patients p set ssn = $1 || '-ssn-' || n.n
         from (select id, row_number() over (order by id) as n from clinic.patients) n where n.id = p.id`,
      [letter],
    );
  }
}

/** The first opening of a scheduled job writes its context; here it is written before anything is compared. */
async function openScheduled(place: Place): Promise<void> {
  const client = await place.connection('jobs');
  await client.query('begin');
  await client.query('select platform.open_job($1, null)', [place.jobs.get('platform__clean_up')]);
  await client.query('commit');
}
