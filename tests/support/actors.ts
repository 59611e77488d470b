// Actors by name, made through the real functions: registered, verified, signed in. What stands for a password here is
// the tag that the application would compute from it; hashing itself is tested where it happens.
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { type ApplicationKeys, loadApplicationKeys } from '../../src/keyring/application-keys.ts';
import { EnvelopeSealer } from '../../src/keyring/envelope.ts';
import { whenFileEnds } from './cleanup.ts';
import type { TestDatabase } from './database.ts';

export const sha256 = (value: Buffer): Buffer => createHash('sha256').update(value).digest();

/** Facts of a good password. */
export const GOOD = { characters: 30, bytes: 30, common: false, context: false };

export interface Person {
  name: string;
  email: string;
  tag: Buffer;
  id: string;
  organization: string;
  session: string;
  credential: Buffer;
  refreshToken: Buffer;
}

export interface SignIn {
  outcome: string;
  session_id: string;
  person_id: string;
  organization_id: string;
  retry_after: number | null;
  credential: Buffer;
  refreshToken: Buffer;
}

/** One application beside a test database: its key, its pool, and the people who use it. */
export class Application {
  readonly db: TestDatabase;
  readonly pool: pg.Pool;
  readonly keys: ApplicationKeys;
  /** Where the key is kept, for another process of the same application. */
  readonly keysDirectory: string;
  readonly envelopes: EnvelopeSealer;
  readonly #jobs: pg.Pool;
  readonly #jobEnvelopes: EnvelopeSealer;

  private constructor(db: TestDatabase, keys: ApplicationKeys, keysDirectory: string) {
    this.keysDirectory = keysDirectory;
    this.db = db;
    this.keys = keys;
    this.pool = db.pool('authenticator', { max: 20 });
    this.#jobs = db.pool('jobs', { max: 2 });
    this.envelopes = new EnvelopeSealer(this.pool, keys);
    this.#jobEnvelopes = new EnvelopeSealer(this.#jobs, keys);
  }

  /** `keys`: the folder of another process of the same application. Defaults to one of its own. */
  static async beside(db: TestDatabase, keys?: string): Promise<Application> {
    const directory = keys ?? mkdtempSync(join(tmpdir(), 'safetypin-keys-'));
    if (keys === undefined) whenFileEnds(() => rmSync(directory, { recursive: true, force: true }));
    const application = new Application(db, await loadApplicationKeys(directory), directory);
    await application.call(null, 'select keyring.bind_application()');
    return application;
  }

  /** Opens a request on a client that has begun. */
  async open(client: pg.ClientBase, credential: Buffer | null, metadata: object = {}): Promise<void> {
    await client.query("select set_config('role', sessions.open_request($1, $2, $3), true)", [
      credential,
      await this.envelopes.seal(credential),
      { ip: '192.0.2.7', userAgent: 'test', ...metadata },
    ]);
  }

  /** Begins, opens, works, commits; rolls back on any error. */
  async as<T>(credential: Buffer | null, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    const client = await this.pool.connect();
    try {
      await client.query('begin');
      await this.open(client, credential);
      const result = await work(client);
      await client.query('commit');
      return result;
    } catch (error) {
      await client.query('rollback');
      throw error;
    } finally {
      client.release();
    }
  }

  /** The rows of one statement, in a request of its own. */
  async rows<R extends pg.QueryResultRow>(
    credential: Buffer | null,
    text: string,
    values: unknown[] = [],
  ): Promise<R[]> {
    return (await this.as(credential, (client) => client.query<R>(text, values))).rows;
  }

  /** The first row of one statement, in a request of its own. */
  async call<R extends pg.QueryResultRow>(credential: Buffer | null, text: string, values: unknown[] = []): Promise<R> {
    return (await this.rows<R>(credential, text, values))[0] as R;
  }

  /** Asks for an account; returns the registration's tag. */
  async register(email: string, name: string, organization: string | null, tag = randomBytes(32)): Promise<Buffer> {
    const how = await this.call<{
      outcome: string;
      reasons: string[];
      scheme: string;
      parameters: object;
      salt: Buffer;
    }>(null, 'select * from api_steps.prepare_registration($1, $2, $3, $4)', [email, name, organization, GOOD]);
    if (how.outcome) throw new Error(`registration refused: ${how.reasons}`);
    await this.call(null, 'select * from api_steps.register($1, $2, $3, $4, $5, $6, $7, $8)', [
      email,
      name,
      organization,
      GOOD,
      how.scheme,
      how.parameters,
      how.salt,
      tag,
    ]);
    return tag;
  }

  /** Does what the worker does with every waiting mail, and returns what would have been sent. */
  async mails(): Promise<{ recipient: string; kind: string; variables: Record<string, string> }[]> {
    const client = await this.#jobs.connect();
    const sent = [];
    try {
      const jobs = await client.query(
        "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'test' where task_id = (select id from graphile_worker._private_tasks where identifier = 'mail__send') returning id, payload",
      );
      for (const job of jobs.rows) {
        await client.query('begin');
        await client.query("select set_config('role', platform.open_job($1, $2), true)", [
          job.id,
          await this.#jobEnvelopes.seal(null),
        ]);
        const mail = await client.query('select * from identity.compose_mail($1)', [job.payload.id]);
        await client.query('select identity.mark_mail_sent($1)', [job.payload.id]);
        await client.query('commit');
        sent.push(...mail.rows);
      }
      await client.query('delete from graphile_worker._private_jobs where id = any ($1)', [
        jobs.rows.map(({ id }) => id),
      ]);
    } finally {
      client.release();
    }
    return sent;
  }

  async signIn(email: string, tag: Buffer, organization: string | null = null): Promise<SignIn> {
    const credential = randomBytes(32);
    const refreshToken = randomBytes(32);
    const started = await this.call<{ attempt: string | null; retry_after: number }>(
      null,
      'select * from api_steps.start_sign_in($1)',
      [email],
    );
    if (started.attempt === null) {
      return { outcome: 'REFUSED', retry_after: started.retry_after, credential, refreshToken } as SignIn;
    }
    await this.call(null, 'select api_steps.submit_sign_in($1, $2)', [started.attempt, tag]);
    const result = await this.call<SignIn>(null, 'select * from api_steps.finish_sign_in($1, $2, $3, $4, $5)', [
      started.attempt,
      tag,
      organization,
      sha256(credential),
      sha256(refreshToken),
    ]);
    return { ...result, credential, refreshToken };
  }

  /** Somebody with an organization of her own, signed in. */
  async person(name: string): Promise<Person> {
    const email = `${name}.${randomBytes(4).toString('hex')}@example.com`;
    const tag = await this.register(email, name, `${name}'s organization`);
    const mail = (await this.mails()).find(({ recipient }) => recipient === email);
    await this.call(null, 'select api_steps.verify_email($1)', [Buffer.from(mail?.variables.token ?? '', 'base64url')]);
    const signedIn = await this.signIn(email, tag);
    if (signedIn.outcome !== 'SIGNED_IN') throw new Error(`${name} could not sign in`);
    return {
      name,
      email,
      tag,
      id: signedIn.person_id,
      organization: signedIn.organization_id,
      session: signedIn.session_id,
      credential: signedIn.credential,
      refreshToken: signedIn.refreshToken,
    };
  }
}

/** The SQLSTATE of a refusal, or what came instead of one. */
export async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'no refusal';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

/**
 * Takes a guard out of a function, by the administrator, in this test's own database: to see that the attack a test
 * refuses would have worked. The guard must be there, or the test says so.
 */
export async function withoutGuard(
  db: TestDatabase,
  signature: string,
  guard: string | RegExp,
  instead: string,
  attack: () => Promise<void>,
): Promise<void> {
  const admin = await db.connect('admin');
  const { rows } = await admin.query(
    signature.includes('(')
      ? 'select pg_get_functiondef($1::regprocedure) as text'
      : "select format('create or replace view %s with (security_invoker = true) as %s', $1::regclass, pg_get_viewdef($1::regclass)) as text",
    [signature],
  );
  const text: string = rows[0].text;
  const weakened = text.replace(guard, instead);
  if (weakened === text) throw new Error(`no such guard in ${signature}`);
  await admin.query(weakened);
  try {
    await attack();
  } finally {
    await admin.query(text);
    await admin.end();
  }
}
