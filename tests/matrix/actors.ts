// The actors: how each reaches the database, and what it may call its own.
import type pg from 'pg';
import type { Login } from '../support/database.ts';
import type { Place } from './place.ts';

export interface Actor {
  readonly name: string;
  readonly login: Login;
  /** Whose eyes: organization/name, or - for somebody to whom nothing belongs. */
  readonly as: string;
  /** The role that statements run as. */
  readonly role: string;
  /** Opens the request or the job, and takes the role. */
  readonly open: (place: Place, client: pg.Client) => Promise<void>;
  /** What is taken away while the transaction stands open, and how it is given back. */
  readonly gone?: { readonly take: string; readonly giveBack: string; readonly of: string };
}

const MEMBER = 'safetypin_member';
const ANONYMOUS = 'safetypin_anonymous';

const roleOf = (role: string) => async (_place: Place, client: pg.Client) =>
  void (await client.query(`set local role ${role}`));

const request =
  (person: string | null, role?: string) =>
  async (place: Place, client: pg.Client): Promise<void> => {
    await place.app.open(client, person === null ? null : place.person(person).credential);
    if (role !== undefined) await client.query(`set local role ${role}`);
  };

const job =
  (task: string) =>
  async (place: Place, client: pg.Client): Promise<void> => {
    await client.query("select set_config('role', platform.open_job($1, $2), true)", [
      place.jobs.get(task),
      await place.app.envelopes.seal(null),
    ]);
  };

/** With all that the owner of A holds, so that what it is refused is refused for being a key. */
const key = (name: string): Actor => ({
  name,
  login: 'authenticator',
  as: 'A/owner',
  role: MEMBER,
  open: (place, client) => place.app.open(client, place.keys.get(name) as Buffer),
});

const member = (name: string, as: string): Actor => ({
  name,
  login: 'authenticator',
  as,
  role: MEMBER,
  open: request(name),
});

const gone = (name: string, of: string, take: string, giveBack: string): Actor => ({
  name,
  login: 'authenticator',
  as: '-',
  role: MEMBER,
  open: request(of),
  gone: { of, take, giveBack },
});

const bare = (name: string, login: Login, role?: string): Actor => ({
  name,
  login,
  as: '-',
  role: role ?? `safetypin_${login}`,
  open: role === undefined ? async () => {} : roleOf(role),
});

const LIVE = "ends_at = clock_timestamp() + interval '1 day', ended_because = null";

/** Everybody, in the order in which they are written down. */
export const ACTORS: readonly Actor[] = [
  member('owner', 'A/owner'),
  member('admin', 'A/admin'),
  member('member', 'A/member'),
  member('viewer', 'A/viewer'),
  member('neighbour', 'B/neighbour'),
  member('homeless', 'H/homeless'),
  key('personal-key'),
  key('service-key'),
  { name: 'auditing-owner', login: 'auditor', as: 'A/owner', role: 'safetypin_auditor', open: request('owner') },
  { name: 'anonymous', login: 'authenticator', as: '-', role: ANONYMOUS, open: request(null) },
  { name: 'anonymous-as-member', login: 'authenticator', as: '-', role: MEMBER, open: request(null, MEMBER) },
  {
    name: 'owner-as-anonymous',
    login: 'authenticator',
    as: 'A/owner',
    role: ANONYMOUS,
    open: request('owner', ANONYMOUS),
  },
  { name: 'owners-job', login: 'jobs', as: 'A/owner', role: 'safetypin_jobs', open: job('mail__send') },
  { name: 'scheduled-job', login: 'jobs', as: '-', role: 'safetypin_jobs', open: job('platform__clean_up') },
  gone(
    'suspended-person',
    'suspended',
    "update identity.people set status = 'suspended' where id = $1",
    `with p as (update identity.people set status = 'active' where id = $1) update sessions.sessions set ${LIVE} where person_id = $1`,
  ),
  gone(
    'suspended-organization',
    'tenant',
    "update access.organizations set status = 'suspended' where created_by = $1",
    `with o as (update access.organizations set status = 'active' where created_by = $1) update sessions.sessions set ${LIVE} where person_id = $1`,
  ),
  gone(
    'expired-session',
    'expired',
    'update sessions.sessions set ends_at = clock_timestamp() where person_id = $1',
    `update sessions.sessions set ${LIVE} where person_id = $1`,
  ),
  gone(
    'ended-session',
    'ended',
    "update sessions.sessions set ends_at = clock_timestamp(), ended_because = 'logout' where person_id = $1",
    `update sessions.sessions set ${LIVE} where person_id = $1`,
  ),
  gone(
    'removed-member',
    'removed',
    'delete from access.memberships where person_id = $1',
    `update sessions.sessions set ${LIVE} where person_id = $1`,
  ),
  bare('bare-authenticator', 'authenticator'),
  bare('bare-anonymous', 'authenticator', ANONYMOUS),
  bare('bare-member', 'authenticator', MEMBER),
  bare('bare-jobs', 'jobs'),
  bare('bare-auditor', 'auditor'),
];

/** Opens a transaction as the actor, takes away what is to be taken, works, and undoes everything. */
export async function withActor<T>(
  place: Place,
  actor: Actor,
  work: (client: pg.Client) => Promise<T>,
  before: readonly string[] = [],
): Promise<T> {
  const client = await place.connection(actor.login);
  if (actor.gone === undefined) await place.rebase();
  await client.query('begin');
  try {
    await client.query("set local timezone = 'UTC'");
    for (const sql of before) await client.query('select matrix.sabotage($1)', [sql]);
    await actor.open(place, client);
    if (actor.gone !== undefined) {
      await place.take(actor.gone);
      // By this connection, which may have locked what was broken.
      await client.query('select matrix.rebase()');
    }
    return await work(client);
  } finally {
    await client.query('rollback');
    if (actor.gone !== undefined) await place.giveBack(actor.gone);
  }
}
