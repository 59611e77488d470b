// The real server and the real worker on a database of the test's own, spoken to over HTTP like any client does.
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Config, loadConfig } from '../../src/config.ts';
import { startServer } from '../../src/http/server.ts';
import { loadApplicationKeys } from '../../src/keyring/application-keys.ts';
import type { DeliveredMail } from '../../src/mail/mailbox.ts';
import { startWorker } from '../../src/worker/runner.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

// biome-ignore lint/suspicious/noExplicitAny: answers are looked into by each test, which knows what it asked for.
export type Json = any;

export interface GraphQLAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly data: Json;
  readonly errors:
    | readonly { message: string; path?: readonly string[]; extensions: Record<string, Json> }[]
    | undefined;
  readonly text: string;
}

export interface Member {
  readonly email: string;
  readonly password: string;
  readonly accessToken: string;
  readonly refreshToken: string;
}

export const REGISTER = 'mutation($i: RegisterInput!) { register(input: $i) { outcome reasons clientMutationId } }';
export const VERIFY = 'mutation($i: VerifyEmailInput!) { verifyEmail(input: $i) { outcome } }';
export const LOGIN =
  'mutation($i: LoginInput!) { login(input: $i) { outcome accessToken refreshToken expiresAt retryAfter } }';

/** A port nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export class Api {
  readonly url: string;
  readonly db: TestDatabase;
  readonly config: Config;

  constructor(url: string, db: TestDatabase, config: Config) {
    this.url = url;
    this.db = db;
    this.config = config;
  }

  /** Sends anything to anywhere. */
  send(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(this.url + path, { redirect: 'manual', ...init });
  }

  async gql(
    query: string,
    variables: object = {},
    token?: string,
    headers: Record<string, string> = {},
  ): Promise<GraphQLAnswer> {
    const authorization: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const response = await this.send('/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...authorization, ...headers },
      body: JSON.stringify({ query, variables }),
    });
    const text = await response.text();
    const { data, errors } = JSON.parse(text) as Pick<GraphQLAnswer, 'data' | 'errors'>;
    return { status: response.status, headers: response.headers, data, errors, text };
  }

  async rest(path: string, body?: object, token?: string): Promise<{ status: number; body: Json; headers: Headers }> {
    const authorization: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const response = await this.send(`/api/auth/${path}`, {
      method: 'POST',
      headers: { ...(body && { 'content-type': 'application/json' }), ...authorization },
      ...(body && { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: await response.json(), headers: response.headers };
  }

  /** The newest mail to an address; waits for it. */
  async mail(to: string, isWanted: (mail: DeliveredMail) => boolean = () => true): Promise<DeliveredMail> {
    for (let tries = 0; tries < 200; tries += 1) {
      const mails = (await (await this.send(`/dev/mailbox?to=${encodeURIComponent(to)}`)).json()) as DeliveredMail[];
      const found = mails.find(isWanted);
      if (found !== undefined) return found;
      await sleep(50);
    }
    throw new Error(`no mail came to ${to}`);
  }

  /** Somebody with an organization of her own, registered, verified and signed in over HTTP. */
  async member(name: string): Promise<Member> {
    const email = `${name}.${crypto.randomUUID().slice(0, 8)}@example.com`;
    const password = `a long sentence only ${name} knows`;
    await this.gql(REGISTER, { i: { email, password, displayName: name, organizationName: `${name} and friends` } });
    await this.gql(VERIFY, { i: { token: tokenOf(await this.mail(email)) } });
    const { data, text } = await this.gql(LOGIN, { i: { email, password } });
    if (data?.login?.outcome !== 'SIGNED_IN') throw new Error(`${name} could not sign in: ${text}`);
    return { email, password, accessToken: data.login.accessToken, refreshToken: data.login.refreshToken };
  }
}

/** The token at the end of a mail's link. */
export function tokenOf(mail: DeliveredMail): string {
  const token = mail.links[0]?.split('/').at(-1);
  if (token === undefined) throw new Error('the mail has no link');
  return token;
}

export interface ApiOptions {
  readonly environment?: Record<string, string>;
  /** SQL that the host application brings, run as owner before the server starts. */
  readonly host?: string;
  /** Without it nobody sends mails. Defaults to true. */
  readonly worker?: boolean;
  /** Takes what server and worker say to people. Defaults to nothing. */
  readonly say?: (line: string) => void;
}

/** Starts everything, and closes it after the file's last test. */
export async function startApi(options: ApiOptions = {}): Promise<Api> {
  const db = await cloneDatabase();
  if (options.host !== undefined) {
    const owner = await db.connect('owner');
    await owner.query(options.host);
    await owner.end();
  }
  const dataDirectory = mkdtempSync(join(tmpdir(), 'safetypin-api-'));
  const config = loadConfig({
    NODE_ENV: 'test',
    PORT: String(await freePort()),
    SAFETYPIN_DATA_DIR: dataDirectory,
    ...options.environment,
  });
  const keys = await loadApplicationKeys(dataDirectory);
  const started = { config, access: db.access, keys, say: options.say ?? (() => {}) };
  const server = await startServer(started);
  const worker = options.worker === false ? undefined : await startWorker(started);
  whenFileEnds(async () => {
    await worker?.close();
    await server.close();
    rmSync(dataDirectory, { recursive: true, force: true });
  });
  return new Api(server.url, db, config);
}
