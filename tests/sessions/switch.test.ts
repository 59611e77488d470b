// Switching the organization (SS-02; AZ-02): new tokens for the new one, the old ones dead, and only where one belongs.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import {
  events,
  held,
  logout,
  pause,
  REFUSED,
  refresh,
  SWITCH,
  secondOrganization,
  switchTo,
  works,
} from './tokens.ts';

const SWITCH_ORGANIZATION = 'api_steps.switch_organization(uuid,bytea,bytea)';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;
let bob: Person;
let second: string;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  ada = await app.person('ada');
  bob = await app.person('bob');
  second = await secondOrganization(app, ada);
});

const again = async (): Promise<Person> => {
  const signedIn = await app.signIn(ada.email, ada.tag, ada.organization);
  return { ...ada, session: signedIn.session_id, credential: signedIn.credential, refreshToken: signedIn.refreshToken };
};

const organizations = async (credential: Buffer) =>
  (await app.rows<{ id: string }>(credential, 'select id from access.organizations')).map(({ id }) => id);

describe('a switch', () => {
  it('gives tokens of the new organization; credential and refresh token of the old one are dead', async () => {
    const person = await again();
    const other = await refresh(app, person.refreshToken);
    const facts = (
      await admin.query(
        'select ends_at as expires_at, authenticated_at, assurance from sessions.sessions where id = $1',
        [person.session],
      )
    ).rows[0];
    const switched = await switchTo(app, other, second);
    expect(switched).toMatchObject({
      outcome: 'SIGNED_IN',
      session_id: person.session,
      person_id: ada.id,
      organization_id: second,
      ...facts,
    });
    expect(await organizations(switched.credential)).toEqual([second]);
    for (const { credential } of [person, other]) expect(await works(app, credential)).toBe(false);
    for (const { refreshToken } of [person, other]) expect(await refresh(app, refreshToken)).toMatchObject(REFUSED);
    expect(await organizations((await refresh(app, switched.refreshToken)).credential)).toEqual([second]);
    expect(await events(admin, 'session.switch', ada.id)).toMatchObject([
      { organization_id: second, session_id: person.session },
    ]);
  });

  it('leaves the old tokens alive where they are not taken', async () => {
    await withoutGuard(
      db,
      SWITCH_ORGANIZATION,
      'delete from sessions_private.credentials c where c.session_id = v_session;',
      '',
      async () => {
        const person = await again();
        await switchTo(app, person, second);
        expect(await works(app, person.credential)).toBe(true);
      },
    );
  });

  it('to an organization of somebody else, to none, or to one that is closed is refused, recorded, and changes nothing', async () => {
    const person = await again();
    const before = (await events(admin, 'access.refuse', ada.id, { what: 'switch' })).length;
    await admin.query("update access.organizations set status = 'suspended' where id = $1", [second]);
    for (const organization of [bob.organization, crypto.randomUUID(), null, second])
      expect(await switchTo(app, person, organization)).toMatchObject(REFUSED);
    await admin.query("update access.organizations set status = 'active' where id = $1", [second]);
    expect(await events(admin, 'access.refuse', ada.id, { what: 'switch' })).toHaveLength(before + 4);
    expect(await organizations(person.credential)).toEqual([ada.organization]);
    expect((await refresh(app, person.refreshToken)).organization_id).toBe(ada.organization);
    await withoutGuard(
      db,
      'sessions_private.choose_organization(uuid,uuid)',
      'm.person_id = choose_organization.person_id',
      'true',
      async () => {
        expect((await switchTo(app, await again(), bob.organization)).outcome).toBe('SIGNED_IN');
      },
    );
  });

  it('to the foreign one shows nothing of it even if it were let through: membership is asked at each request', async () => {
    const person = await again();
    await admin.query('update sessions.sessions set organization_id = $2 where id = $1', [
      person.session,
      bob.organization,
    ]);
    expect(await organizations(person.credential)).toEqual([]);
    expect(await app.call(person.credential, 'select request.organization_id() as id')).toEqual({ id: null });
  });

  it('is for who is signed in', async () => {
    expect(await refusal(app.call(null, SWITCH, [second, randomBytes(32), randomBytes(32)]))).toBe('42501');
    const client = await db.connect('authenticator');
    await client.query('set role safetypin_member');
    expect(await refusal(client.query(SWITCH, [second, randomBytes(32), randomBytes(32)]))).toBe('AUTHN');
  });

  it('of a session that ends meanwhile is refused and gives no tokens', async () => {
    const race = async () => {
      const person = await again();
      const leaving = await held(app, person.credential, 'select api.logout()');
      const waiting = switchTo(app, person, second);
      await pause(150);
      await leaving.end();
      return (await waiting).outcome;
    };
    expect(await race()).toBe('REFUSED');
    await withoutGuard(
      db,
      SWITCH_ORGANIZATION,
      /where s\.id = v_session and s\.ends_at > clock_timestamp\(\);/,
      'where s.id = v_session;',
      async () => {
        expect(await race()).toBe('SIGNED_IN');
      },
    );
  });

  it('and another one at once leave one pair of tokens that works', async () => {
    const person = await again();
    const both = await Promise.all(
      [switchTo(app, person, second), switchTo(app, person, ada.organization)].map((each) => each.catch(() => null)),
    );
    const working = await Promise.all(
      both.map(async (tokens) => tokens !== null && tokens.outcome === 'SIGNED_IN' && works(app, tokens.credential)),
    );
    expect(working.filter(Boolean)).toHaveLength(1);
    expect(await works(app, person.credential)).toBe(false);
  });
});

describe('signing in', () => {
  it('goes where one was last, or where one asks to, if one belongs there; a foreign one is refused like a wrong password', async () => {
    expect((await app.signIn(ada.email, ada.tag, second)).organization_id).toBe(second);
    expect((await app.signIn(ada.email, ada.tag)).organization_id).toBe(second);
    expect((await app.signIn(ada.email, ada.tag, ada.organization)).organization_id).toBe(ada.organization);
    expect((await app.signIn(ada.email, ada.tag)).organization_id).toBe(ada.organization);
    const [foreign, wrong] = [
      await app.signIn(ada.email, ada.tag, bob.organization),
      await app.signIn(ada.email, randomBytes(32)),
    ];
    for (const answer of [foreign, wrong]) expect(answer).toMatchObject(REFUSED);
    expect((await app.signIn(ada.email, ada.tag)).outcome).toBe('SIGNED_IN');
  });

  it('gives a new session each time: nothing of the one before is taken over (SS-02)', async () => {
    const [one, two] = [await again(), await again()];
    expect(one.session).not.toBe(two.session);
    await logout(app, one.credential);
    expect(await works(app, two.credential)).toBe(true);
  });
});
