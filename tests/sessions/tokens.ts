// What tests of sessions share: exchanging, switching, and what the database holds of it.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { successorOf } from '../../src/identity/secrets.ts';
import { type Application, type Person, refusal, sha256 } from '../support/actors.ts';

export interface Tokens {
  outcome: string;
  session_id: string | null;
  person_id: string | null;
  organization_id: string | null;
  assurance: number | null;
  authenticated_at: Date | null;
  access_expires_at: Date | null;
  expires_at: Date | null;
  credential: Buffer;
  refreshToken: Buffer;
}

const KEY = randomBytes(32);
export const REFRESH = 'select * from api_steps.refresh_session($1, $2, $3)';
export const SWITCH = 'select * from api_steps.switch_organization($1, $2, $3)';

/** What a REFUSED says besides: nothing. */
export const REFUSED = {
  outcome: 'REFUSED',
  session_id: null,
  person_id: null,
  organization_id: null,
  assurance: null,
  authenticated_at: null,
  access_expires_at: null,
  expires_at: null,
};

/** As the application does it: the successor is derived from what is presented, the credential is new. */
export async function refresh(
  app: Application,
  presented: Buffer,
  refreshToken = successorOf(KEY, presented),
): Promise<Tokens> {
  const credential = randomBytes(32);
  const row = await app.call<Tokens & pg.QueryResultRow>(null, REFRESH, [
    presented,
    sha256(refreshToken),
    sha256(credential),
  ]);
  return { ...row, credential, refreshToken };
}

export async function switchTo(
  app: Application,
  person: { credential: Buffer },
  organization: string | null,
): Promise<Tokens> {
  const [credential, refreshToken] = [randomBytes(32), randomBytes(32)];
  const row = await app.call<Tokens & pg.QueryResultRow>(person.credential, SWITCH, [
    organization,
    sha256(credential),
    sha256(refreshToken),
  ]);
  return { ...row, credential, refreshToken };
}

export const firstUse = (app: Application, credential: Buffer) =>
  app.call(null, 'select api_steps.note_first_use($1)', [credential]);

export const logout = async (app: Application, credential: Buffer) =>
  (await app.call<{ outcome: string }>(credential, 'select api.logout() as outcome')).outcome;

export const works = async (app: Application, credential: Buffer): Promise<boolean> => {
  const answer = await refusal(app.rows(credential, 'select 1'));
  if (answer !== 'no refusal' && answer !== 'AUTHN') throw new Error(`neither open nor shut: ${answer}`);
  return answer === 'no refusal';
};

/** Founds another organization of somebody's and says its id. */
export async function secondOrganization(app: Application, person: Person): Promise<string> {
  await app.call(person.credential, "select api.create_organization('Second')");
  const rows = await app.rows<{ id: string }>(person.credential, 'select id from api.my_organizations()');
  const second = rows.map(({ id }) => id).find((id) => id !== person.organization);
  if (second === undefined) throw new Error('no second organization');
  return second;
}

/** A transaction of the application's login that stays open until it is told to commit. */
export async function held(app: Application, credential: Buffer | null, text: string, values: unknown[] = []) {
  const client = await app.pool.connect();
  const ignore = () => {};
  client.on('error', ignore);
  await client.query('begin');
  await app.open(client, credential);
  const { rows } = await client.query(text, values);
  return {
    row: rows[0],
    client,
    async end(how: 'commit' | 'rollback' = 'commit') {
      await client.query(how);
      client.removeListener('error', ignore);
      client.release();
    },
  };
}

export const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Events of a kind about somebody since a moment, oldest first. */
export async function events(
  admin: pg.Client,
  action: string,
  actor: string | null,
  details: object = {},
): Promise<Record<string, unknown>[]> {
  const { rows } = await admin.query(
    'select details, organization_id, session_id, severity from audit.events where action = $1 and actor_id is not distinct from $2 and details @> $3 order by occurred_at',
    [action, actor, details],
  );
  return rows;
}

/** What a job that is run by the clock does, as the worker runs it. */
export async function cleanUp(app: Application, admin: pg.Client): Promise<void> {
  const { rows } = await admin.query("select id from graphile_worker.add_job('sessions__clean_up')");
  await admin.query("update graphile_worker._private_jobs set locked_at = now(), locked_by = 'test' where id = $1", [
    rows[0].id,
  ]);
  const worker = await app.db.connect('jobs');
  await worker.query('begin');
  await worker.query("select set_config('role', platform.open_job($1, $2), true)", [
    rows[0].id,
    await app.envelopes.seal(null),
  ]);
  await worker.query('select sessions.clean_up(1000)');
  await worker.query('commit');
  await worker.end();
}
