// Lives of people through the real API, all of whose data are canaries: what is found of them somewhere has leaked.
import { randomBytes } from 'node:crypto';
import { LOGIN, REGISTER, tokenOf, VERIFY } from '../api/api.ts';
import type { Hunt } from '../support/hunt.ts';
import type { Loud } from './loud.ts';
import { recordByCopy, recordByGraphql, recordBySql } from './records.ts';

const REFRESH = 'mutation($i: RefreshSessionInput!) { refreshSession(input: $i) { outcome accessToken refreshToken } }';
const ASK = 'mutation($i: RequestPasswordResetInput!) { requestPasswordReset(input: $i) { outcome } }';
const RESET = 'mutation($i: ResetPasswordInput!) { resetPassword(input: $i) { outcome } }';
const INVITE = 'mutation($i: InviteMemberInput!) { inviteMember(input: $i) { outcome id } }';
const ACCEPT = 'mutation($i: AcceptInvitationInput!) { acceptInvitation(input: $i) { outcome } }';
const PEOPLE = '{ memberships { nodes { displayName email } } invitations { nodes { email } } }';
const ME =
  '{ currentUser { id email displayName } auditEvents(first: 50) { nodes { id action } } sessions { nodes { id } } }';

/** Canaries of one person, each under a name that says what it is. Ends in what the plain column of her organization holds. */
export class Life {
  readonly canaries = new Map<string, string>();
  /** Not sealed: found, or the search finds nothing at all. */
  readonly organization = `plain${randomBytes(8).toString('hex')}`;
  readonly #loud: Loud;

  constructor(loud: Loud) {
    this.#loud = loud;
  }

  /** Random, of letters that no normalizing changes. */
  #canary(what: string, text = (random: string) => random): string {
    const value = text(`x${randomBytes(10).toString('hex')}`);
    this.canaries.set(what, value);
    return value;
  }

  #note(what: string, value: unknown): void {
    if (typeof value === 'string' && value.length >= 20) this.canaries.set(what, value);
  }

  /** From the first mail to a new password, with what goes wrong on the way. `copies`: a folder for files to COPY from. */
  async live(copies?: string): Promise<void> {
    const { api } = this.#loud;
    const email = this.#canary('e-mail', (random) => `${random}@example.com`);
    const displayName = this.#canary('name');
    const password = this.#canary('password', (random) => `${random} is long`);
    const agent = { 'user-agent': this.#canary('user agent') };
    const send = (document: string, i: object, token?: string) => api.gql(document, { i }, token, agent);
    const person = { email, password, displayName, organizationName: this.organization };
    await send(REGISTER, person);
    const token = tokenOf(await api.mail(email));
    this.#note('verification token', token);
    await send(VERIFY, { token: `${token.slice(0, -2)}AA` });
    await send(LOGIN, { email, password });
    await send(VERIFY, { token });
    await send(VERIFY, { token });
    await send(REGISTER, person);
    await send(LOGIN, { email, password: this.#canary('wrong password', (random) => `${random} was it`) });
    await send(LOGIN, { email: this.#canary('unknown e-mail', (random) => `${random}@example.com`), password });
    const { login } = (await send(LOGIN, { email, password })).data;
    if (login.outcome !== 'SIGNED_IN') throw new Error(`a canary could not sign in: ${login.outcome}`);
    this.#session('first', login);
    await api.gql(ME, {}, login.accessToken, agent);
    const next = (await send(REFRESH, { refreshToken: login.refreshToken })).data.refreshSession;
    this.#session('refreshed', next);
    await send(REFRESH, { refreshToken: this.#canary('unknown refresh token', (random) => random.repeat(2)) });
    const guest = this.#canary('invited e-mail', (random) => `${random}@example.com`);
    for (const role of ['member', 'viewer']) await send(INVITE, { email: guest, role }, next.accessToken);
    const invitation = tokenOf(await api.mail(guest));
    this.#note('invitation token', invitation);
    for (const code of [undefined, '000000']) await send(ACCEPT, { token: invitation, code }, next.accessToken);
    await api.gql(PEOPLE, {}, next.accessToken, agent);
    await this.#fail(next.accessToken, agent);
    const sealed = (what: string) => this.#canary(what);
    await recordByGraphql(this.#loud, next.accessToken, sealed);
    const credential = Buffer.from(this.canaries.get('refreshed cred') ?? '', 'base64url');
    await recordBySql(this.#loud, credential, sealed);
    if (copies !== undefined) await recordByCopy(this.#loud, credential, copies, sealed);
    await send(ASK, { email });
    const reset = tokenOf(await api.mail(email, ({ subject }) => /password/i.test(subject)));
    this.#note('reset token', reset);
    const newPassword = this.#canary('new password', (random) => `${random} from now on`);
    await send(RESET, { token: reset, newPassword: 'x' });
    await send(RESET, { token: reset, newPassword });
    const again = (await send(LOGIN, { email, password: newPassword })).data.login;
    this.#session('second', again);
    await api.gql('mutation { logout(input: {}) { outcome } }', {}, again.accessToken, agent);
    await api.gql(ME, {}, again.accessToken, agent);
  }

  /** Requests that cannot be right, each with something in it that is nobody's business. */
  async #fail(token: string, agent: Record<string, string>): Promise<void> {
    const { api } = this.#loud;
    const stray = this.#canary('stray value');
    await api.gql(
      REGISTER,
      { i: { email: stray, password: `${stray}\u0000`, displayName: `${stray}\ud800`, organizationName: '' } },
      undefined,
      agent,
    );
    await api.gql(LOGIN, { i: { email: `${stray}\u0000@example.com`, password: stray } }, undefined, agent);
    await api.gql(`query($id: UUID!) { organization(id: $id) { name } }`, { id: stray }, token, agent);
    await api.gql('{ currentUser { email } }', {}, `${stray}.${stray}.${stray}`, agent);
    await api.rest('login', { email: stray, password: stray });
    await api.rest('refresh', { refreshToken: stray });
    await api.rest('reset-password', { token: stray, newPassword: `${stray} is long enough` });
    await api.send(`/api/auth/verify-email/${stray}`);
  }

  /** Tokens, and the credential inside of the access token. */
  #session(which: string, { accessToken, refreshToken }: { accessToken: string; refreshToken: string }): void {
    this.#note(`${which} refresh token`, refreshToken);
    const [, payload, signature] = accessToken.split('.');
    this.#note(`${which} signature`, signature);
    for (const [claim, value] of Object.entries(JSON.parse(Buffer.from(payload ?? '', 'base64url').toString()))) {
      // Ids are in every table, and no secret.
      if (typeof value === 'string' && !/^[0-9a-f-]{36}$/.test(value)) this.#note(`${which} ${claim}`, value);
    }
  }

  /** Tells a hunt what to look for: texts as they are, tokens also as the bytes they stand for. */
  addTo(hunt: Hunt): void {
    for (const [what, value] of this.canaries) {
      hunt.add(what, value);
      if (/token|signature|first|refreshed|second/.test(what)) hunt.add(what, Buffer.from(value, 'base64url'));
    }
  }
}
