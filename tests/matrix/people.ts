// Who is in the matrix: two organizations with several people, one without, and those whose access is taken away.
import type pg from 'pg';
import type { Application, SignIn } from '../support/actors.ts';

/** Organizations and who belongs to them with which role. The first founds it. */
const ORGANIZATIONS = {
  A: {
    owner: 'owner',
    admin: 'admin',
    member: 'member',
    viewer: 'viewer',
    suspended: 'owner',
    expired: 'owner',
    ended: 'owner',
    removed: 'owner',
  },
  B: { neighbour: 'owner', colleague: 'admin' },
  C: { tenant: 'owner' },
} as const;

export interface Someone {
  /** Whose she is: organization/name. */
  readonly label: string;
  readonly email: string;
  readonly id: string;
  readonly organization: string | null;
  readonly session: string;
  readonly credential: Buffer;
  readonly refreshToken: Buffer;
}

export interface People {
  readonly people: ReadonlyMap<string, Someone>;
  readonly organizations: ReadonlyMap<string, string>;
}

/** Puts a person into an organization with one role; no function does that yet. */
export async function join(admin: pg.Client, person: string, organization: string, role: string): Promise<void> {
  await admin.query('insert into access.memberships (organization_id, person_id) values ($1, $2)', [
    organization,
    person,
  ]);
  await setRole(admin, person, organization, role);
}

/** Takes all roles from a member and gives one. */
export async function setRole(admin: pg.Client, person: string, organization: string, role: string): Promise<void> {
  await admin.query(
    `with gone as (delete from access.membership_roles mr using access.memberships m
        where m.organization_id = mr.organization_id and m.id = mr.membership_id and m.organization_id = $1 and m.person_id = $2)
     insert into access.membership_roles (organization_id, membership_id, role_id)
     select m.organization_id, m.id, r.id from access.memberships m join access.roles r using (organization_id)
      where m.organization_id = $1 and m.person_id = $2 and r.name = $3`,
    [organization, person, role],
  );
}

async function enter(app: Application, name: string, organization: string | null): Promise<[string, Buffer, SignIn]> {
  const email = `${name}@matrix.example`;
  const tag = await app.register(email, name, organization && `Organization ${organization}`);
  const mail = (await app.mails()).find(({ recipient }) => recipient === email);
  await app.call(null, 'select api_steps.verify_email($1)', [Buffer.from(mail?.variables.token ?? '', 'base64url')]);
  return [email, tag, await app.signIn(email, tag)];
}

/** Registers everybody through the product's own functions and signs them in. */
export async function gather(app: Application, admin: pg.Client): Promise<People> {
  const people = new Map<string, Someone>();
  const organizations = new Map<string, string>();
  const add = (label: string, email: string, signIn: SignIn) =>
    people.set(label.split('/')[1] ?? label, {
      label,
      email,
      id: signIn.person_id,
      organization: signIn.organization_id,
      session: signIn.session_id,
      credential: signIn.credential,
      refreshToken: signIn.refreshToken,
    });
  for (const [organization, members] of Object.entries(ORGANIZATIONS)) {
    for (const [name, role] of Object.entries(members)) {
      const founded = organizations.get(organization);
      const [email, tag, first] = await enter(app, name, founded === undefined ? organization : null);
      if (founded === undefined) {
        organizations.set(organization, first.organization_id);
        add(`${organization}/${name}`, email, first);
      } else {
        await join(admin, first.person_id, founded, role);
        add(`${organization}/${name}`, email, await app.signIn(email, tag, founded));
      }
    }
  }
  const [email, , signIn] = await enter(app, 'homeless', null);
  add('H/homeless', email, signIn);
  return { people, organizations };
}
