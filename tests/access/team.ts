// An organization with people in it, each by name, and what its roles' functions answer to them.
import { join } from '../matrix/people.ts';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

export interface Teammate extends Person {
  /** Of the membership in the team. */
  readonly membership: string;
}

export interface Answer {
  readonly outcome: string;
  readonly reasons: string[];
  readonly id: string | null;
  readonly version: number | null;
}

export class Team {
  readonly db: TestDatabase;
  readonly app: Application;
  readonly organization: string;
  readonly #people: Map<string, Teammate>;
  readonly #admin: Awaited<ReturnType<TestDatabase['connect']>>;

  private constructor(db: TestDatabase, app: Application, admin: Team['admin'], people: Map<string, Teammate>) {
    this.db = db;
    this.app = app;
    this.#admin = admin;
    this.#people = people;
    this.organization = String([...people.values()][0]?.organization);
  }

  /** The first founds it; `roles` says the others' by name, none for `''`. */
  static async with(roles: Readonly<Record<string, string>>): Promise<Team> {
    const db = await cloneDatabase();
    const app = await Application.beside(db);
    const admin = await db.connect('admin');
    const people = new Map<string, Teammate>();
    let organization = '';
    for (const [name, role] of Object.entries(roles)) {
      let person = await app.person(name);
      if (organization === '') organization = person.organization;
      else {
        await join(admin, person.id, organization, role);
        const { session_id, ...signedIn } = await app.signIn(person.email, person.tag, organization);
        person = { ...person, ...signedIn, session: session_id, organization };
      }
      const { rows } = await admin.query(
        'select id from access.memberships where organization_id = $1 and person_id = $2',
        [organization, person.id],
      );
      people.set(name, { ...person, membership: rows[0].id });
    }
    return new Team(db, app, admin, people);
  }

  get admin() {
    return this.#admin;
  }

  the(name: string): Teammate {
    const one = this.#people.get(name);
    if (!one) throw new Error(`nobody is called ${name}`);
    return one;
  }

  /** Calls a function of schema api as somebody, and commits. */
  async ask(name: string, call: string, values: unknown[] = []): Promise<Answer> {
    return await this.app.call(this.the(name).credential, `select * from api.${call}`, values);
  }

  /** Why it was refused, or how it ended. */
  async said(name: string, call: string, values: unknown[] = []): Promise<string> {
    const { outcome, reasons } = await this.ask(name, call, values);
    return outcome === 'REFUSED' ? reasons.join(' ') : outcome;
  }

  /** What it would have said and, after it, what somebody could do; then nothing has happened. */
  async tried(
    name: string,
    work: (ask: (sql: string, values?: unknown[]) => Promise<Answer>) => Promise<void>,
  ): Promise<void> {
    const undone = new Error('undone');
    await this.app
      .as(this.the(name).credential, async (client) => {
        await work(async (sql, values = []) => (await client.query(`select * from ${sql}`, values)).rows[0]);
        throw undone;
      })
      .catch((error) => {
        if (error !== undone) throw error;
      });
  }

  async can(name: string, permission: string): Promise<boolean> {
    return (
      await this.app.call<{ can: boolean }>(this.the(name).credential, 'select request.can($1) as can', [permission])
    ).can;
  }

  /** The id of a role, by its name. */
  async role(name: string): Promise<string> {
    const { rows } = await this.#admin.query('select id from access.roles where organization_id = $1 and name = $2', [
      this.organization,
      name,
    ]);
    return rows[0].id;
  }

  /** The ids of what somebody was granted, oldest first. */
  async grants(name: string): Promise<string[]> {
    const { rows } = await this.#admin.query(
      'select id from access.membership_roles where organization_id = $1 and membership_id = $2 order by id',
      [this.organization, this.the(name).membership],
    );
    return rows.map(({ id }) => id);
  }
}
