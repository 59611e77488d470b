// What tests of members and invitations share: inviting by name, and the mails that come of it.
import type pg from 'pg';
import type { Application, Person } from '../support/actors.ts';

export interface Said {
  outcome: string;
  reasons: string[];
  id: string;
}

export interface Accepted extends pg.QueryResultRow {
  outcome: string;
  reasons: string[];
  organization_id: string | null;
}

export const invite = (app: Application, by: Person, email: string, role = 'member', until: Date | null = null) =>
  app.call<Said & pg.QueryResultRow>(by.credential, 'select * from api.invite_member($1, $2, $3)', [
    email,
    role,
    until,
  ]);

/** The tokens of all invitations that wait to be sent, by address. */
export async function tokens(app: Application): Promise<Map<string, Buffer>> {
  const mails = (await app.mails()).filter(({ kind }) => kind === 'invitation');
  return new Map(mails.map(({ recipient, variables }) => [recipient, Buffer.from(variables.token ?? '', 'base64url')]));
}

/** Invites and gives the token of the mail. */
export async function invited(app: Application, by: Person, email: string, role = 'member', until: Date | null = null) {
  const { outcome, reasons, id } = await invite(app, by, email, role, until);
  if (outcome !== 'CREATED') throw new Error(`not invited: ${reasons}`);
  const token = (await tokens(app)).get(email);
  if (token === undefined) throw new Error('no mail came');
  return { id, token };
}

export const accept = (app: Application, by: Person, token: Buffer | null) =>
  app.call<Accepted>(by.credential, 'select * from api_steps.accept_invitation($1)', [token]);

/** Acts in another organization from now on. */
export async function actIn(app: Application, person: Person, organization: string): Promise<Person> {
  const signedIn = await app.signIn(person.email, person.tag, organization);
  if (signedIn.outcome !== 'SIGNED_IN') throw new Error(`${person.name} does not get in`);
  return { ...person, organization, credential: signedIn.credential, session: signedIn.session_id };
}

/** Somebody new in the organization of `by`, who acts there. */
export async function joined(app: Application, by: Person, name: string, role = 'member', until: Date | null = null) {
  const person = await app.person(name);
  const { token } = await invited(app, by, person.email, role, until);
  const { outcome, reasons } = await accept(app, person, token);
  if (outcome !== 'ACCEPTED') throw new Error(`${name} did not join: ${reasons}`);
  return actIn(app, person, by.organization);
}

export async function membership(admin: pg.Client, organization: string, person: Person): Promise<string | undefined> {
  const { rows } = await admin.query(
    'select id from access.memberships where organization_id = $1 and person_id = $2',
    [organization, person.id],
  );
  return rows[0]?.id;
}
