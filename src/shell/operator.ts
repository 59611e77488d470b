// The session of whoever works in a shell: signed in by the same steps as the API, kept fresh, ended with the shell.
import { randomUUID } from 'node:crypto';
import { userInfo } from 'node:os';
import type { RequestSource } from '../graphql/adaptor.ts';
import { SQLSTATE, sqlstateOf } from '../platform/errors.ts';
import { StartupError } from '../platform/startup-error.ts';
import type { Activity } from '../sessions/activity.ts';
import { login, refreshSession, type SignInAnswer, type StepTools, switchOrganization } from '../sessions/steps.ts';

/** The session is gone: revoked, suspended or run out. Nothing can be run with it any more. */
export class SessionOver extends Error {}

/** Who signs in, and where to. */
export interface SignIn {
  readonly email: string;
  readonly password: string;
  /** Name or id of an organization. Without it the one acted in last. */
  readonly organization?: string | undefined;
}

interface Organization {
  readonly id: string;
  readonly name: string;
}

const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;
/** A credential with less than this left is exchanged before it is used: a request may last 30 s. */
const FRESH_MILLISECONDS = 45_000;

/** Who runs this process, for the sealed origin of the session. */
function userAgent(): string {
  try {
    return `safetypin shell, account ${userInfo().username} of the machine`;
  } catch {
    return 'safetypin shell';
  }
}

/** What became of a sign-in that gave no session, for people. */
function inWords({ outcome, retryAfter, mfaMethods }: SignInAnswer): string {
  if (outcome === 'REFUSED' && retryAfter !== null) return `refused: too many attempts, try again in ${retryAfter} s`;
  if (outcome === 'REFUSED')
    return 'refused: the address, the password or the organization is not right, or not active';
  const step = outcome.toLowerCase().replaceAll('_', ' ');
  return `${step}${mfaMethods?.length ? ` (${mfaMethods.join(', ')})` : ''}: the shell cannot do that, sign in elsewhere`;
}

export class Operator {
  readonly #tools: StepTools;
  readonly #origin = { ip: null, userAgent: userAgent() };
  readonly #note: (credentialHash: Buffer) => void;
  #credential: Buffer | null = null;
  #credentialHash: Buffer = Buffer.alloc(0);
  #refreshToken = '';
  #expiresAt = 0;
  /** Name of the organization; null without one. */
  organization: string | null = null;
  /** How long one opened request may act. */
  requestSeconds = 30;

  private constructor(tools: StepTools, activity: Pick<Activity, 'note'>) {
    this.#tools = tools;
    this.#note = activity.note;
  }

  /** Signs in and records that a shell began. Refusals are StartupErrors in words. */
  static async signIn(
    tools: StepTools,
    activity: Pick<Activity, 'note'>,
    { email, password, organization }: SignIn,
  ): Promise<Operator> {
    const operator = new Operator(tools, activity);
    const organizationId = organization !== undefined && UUID.test(organization) ? organization : undefined;
    await operator.#take(await login(tools, operator.source(), { email, password, organizationId }));
    try {
      if (organization !== undefined && organizationId === undefined) await operator.#switchTo(organization);
      await operator.#start();
    } catch (error) {
      await operator.end().catch(() => {});
      throw error;
    }
    return operator;
  }

  /** The source of a request of this session. */
  source(requestId: string = randomUUID()): RequestSource {
    return { requestId, credential: this.#credential, ...this.#origin };
  }

  /** Records a statement in a transaction of its own. Whoever runs it waits for this; SessionOver when there is no right to. */
  async record(statement: string, requestId: string): Promise<void> {
    const write = () => this.#call('select api_steps.record_statement($1)', [statement], requestId);
    await this.#refresh();
    try {
      await write();
    } catch (error) {
      if (!(error instanceof SessionOver)) throw error;
      // It may be the credential alone that ran out, by the database's clock.
      await this.#exchange();
      await write();
    }
  }

  /** Records the end and ends the session. */
  async end(): Promise<void> {
    if (this.#credential === null) return;
    await this.#refresh();
    await this.#call('select api_steps.end_shell()');
    this.#credential = null;
  }

  async #start(): Promise<void> {
    const [row] = await this.#call<{ organization: string | null; request_seconds: number }>(
      'select * from api_steps.start_shell()',
    );
    this.organization = row?.organization ?? null;
    this.requestSeconds = row?.request_seconds ?? this.requestSeconds;
  }

  async #switchTo(name: string): Promise<void> {
    const mine = await this.#call<Organization>('select id, name from api.my_organizations()');
    const named = mine.filter((one) => one.name === name);
    if (named.length !== 1) {
      const what = named.length === 0 ? 'you are in no organization' : 'you are in more than one organization';
      throw new StartupError(`${what} of the name ${name}${named.length > 1 ? ': give its id' : ''}`);
    }
    await this.#take(await switchOrganization(this.#tools, this.source(), named[0]?.id ?? ''));
  }

  async #refresh(): Promise<void> {
    if (this.#expiresAt - Date.now() < FRESH_MILLISECONDS) await this.#exchange();
  }

  async #exchange(): Promise<void> {
    const answer = await refreshSession(this.#tools, this.source(), this.#refreshToken);
    if (answer.accessToken === null) throw new SessionOver();
    await this.#take(answer);
  }

  /** Takes over what a step answered: from then on the tokens before it are spent. */
  async #take(answer: SignInAnswer): Promise<void> {
    const token = answer.accessToken === null ? null : await this.#tools.tokens.verify(answer.accessToken);
    if (token === null) throw new StartupError(inWords(answer));
    this.#credential = token.credential;
    this.#credentialHash = token.credentialHash;
    this.#refreshToken = answer.refreshToken ?? '';
    this.#expiresAt = token.expiresAt;
    await this.#call('select api_steps.note_first_use($1)', [token.credential]);
  }

  async #call<Row>(text: string, values: readonly unknown[] = [], requestId?: string): Promise<readonly Row[]> {
    try {
      const { rows } = await this.#tools.requests.inRequest(this.source(requestId), (client) =>
        client.query<Row>({ text, values }),
      );
      this.#note(this.#credentialHash);
      return rows;
    } catch (error) {
      throw sqlstateOf(error) === SQLSTATE.unauthenticated ? new SessionOver() : error;
    }
  }
}
