import { hash, randomUUID } from 'node:crypto';
import jwt from 'jsonwebtoken';
import { decodeSecret, hashSecret } from '../identity/secrets.ts';
import { type AccessKey, loadAccessKeys, type PublicJwk, publicJwk, rotateAccessKeys } from './access-key.ts';

/** What an access token says once it was found good. The session may have ended all the same: SQL decides that. */
export interface AccessToken {
  /** SHA-256 of the token, base64: the key under which it is remembered. */
  readonly fingerprint: string;
  readonly credential: Buffer;
  /** SHA-256 of the credential, by which its last use is noted. */
  readonly credentialHash: Buffer;
  readonly sessionId: string;
  readonly personId: string;
  /** The active organization when it was issued: whose turn a request takes, and no right to anything. */
  readonly organizationId: string | null;
  readonly expiresAt: number;
}

/** What SQL decided, to be written into a token. */
export interface AccessGrant {
  readonly credential: Buffer;
  readonly sessionId: string;
  readonly personId: string;
  readonly organizationId?: string | null;
  readonly expiresAt: Date;
}

export interface AccessTokensOptions {
  readonly dataDirectory: string;
  /** `iss`; also `aud`, because issuer and resource server are one service. */
  readonly issuer: string;
  /** Verified tokens remembered. Defaults to 20000. */
  readonly remembered?: number;
}

const CLIENT = 'safetypin';
const TYPE = 'at+jwt';
const MAXIMUM_LENGTH = 2048;
/** How long a retired key stays in JWKS: longer than the longest life of an access token (limit session.access_seconds). */
const KEEP_RETIRED_SECONDS = 3600;
const RELOAD_MILLISECONDS = 1000;
/** Compact form; the last sign of the signature has four spare bits, which must be zero, so that no second spelling exists. */
const COMPACT = /^[\w-]{10,}\.[\w-]{10,}\.[\w-]{85}[AQgw]$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const isSeconds = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value > 0;

/** The header's key id if nothing else stands in it: no jku, jwk, x5u, x5c, crit, zip, and the one algorithm. */
function keyIdOf(token: string): string | null {
  const header: unknown = JSON.parse(Buffer.from(token.slice(0, token.indexOf('.')), 'base64url').toString());
  if (typeof header !== 'object' || header === null || Object.keys(header).length !== 3) return null;
  const { alg, typ, kid } = header as { alg?: unknown; typ?: unknown; kid?: unknown };
  return alg === 'ES256' && typ === TYPE && typeof kid === 'string' ? kid : null;
}

/** Issues and verifies access tokens (RFC 9068) with the keys of one data directory. */
export class AccessTokens {
  readonly #options: AccessTokensOptions;
  readonly #limit: number;
  readonly #remembered = new Map<string, AccessToken>();
  #keys: readonly AccessKey[];
  #loadedAt = Date.now();

  private constructor(options: AccessTokensOptions, keys: readonly AccessKey[]) {
    this.#options = options;
    this.#limit = options.remembered ?? 20_000;
    this.#keys = keys;
  }

  static async open(options: AccessTokensOptions): Promise<AccessTokens> {
    return new AccessTokens(options, await loadAccessKeys(options.dataDirectory));
  }

  /** Public keys for /.well-known/jwks.json. */
  jwks(): { readonly keys: readonly PublicJwk[] } {
    return { keys: this.#liveKeys().map((key) => publicJwk(key.publicKey)) };
  }

  /** Replaces the signing key; tokens of the old one live out. */
  async rotate(): Promise<void> {
    this.#keys = await rotateAccessKeys(this.#options.dataDirectory, KEEP_RETIRED_SECONDS);
    this.#remembered.clear();
  }

  issue(grant: AccessGrant): string {
    const key = this.#keys[0];
    if (key === undefined) throw new Error('no key to sign with');
    const claims = {
      iss: this.#options.issuer,
      aud: this.#options.issuer,
      sub: grant.personId,
      client_id: CLIENT,
      iat: Math.floor(Date.now() / 1000),
      exp: Math.floor(grant.expiresAt.getTime() / 1000),
      jti: randomUUID(),
      sid: grant.sessionId,
      cred: grant.credential.toString('base64url'),
      ...(grant.organizationId && { org: grant.organizationId }),
    };
    return jwt.sign(claims, key.privateKey, { algorithm: 'ES256', header: { alg: 'ES256', typ: TYPE, kid: key.kid } });
  }

  /** A token verified before and still in its time, or undefined. */
  recall(token: string): AccessToken | undefined {
    const fingerprint = fingerprintOf(token);
    const known = this.#remembered.get(fingerprint);
    if (known === undefined) return undefined;
    this.#remembered.delete(fingerprint);
    if (known.expiresAt <= Date.now()) return undefined;
    this.#remembered.set(fingerprint, known);
    return known;
  }

  /** Keeps a verified token, so that its signature is not computed again; the least recently used one makes room. */
  remember(token: AccessToken): void {
    if (this.#remembered.size >= this.#limit) {
      for (const oldest of this.#remembered.keys()) {
        this.#remembered.delete(oldest);
        break;
      }
    }
    this.#remembered.set(token.fingerprint, token);
  }

  /** Null for whatever is not a good token of ours, without saying why. */
  async verify(token: string): Promise<AccessToken | null> {
    if (token.length > MAXIMUM_LENGTH || !COMPACT.test(token)) return null;
    try {
      const kid = keyIdOf(token);
      const key = kid === null ? undefined : await this.#keyOf(kid);
      return key === undefined ? null : this.#verifyWith(key, token);
    } catch {
      return null;
    }
  }

  #verifyWith(key: AccessKey, token: string): AccessToken | null {
    const { issuer } = this.#options;
    const claims = jwt.verify(token, key.publicKey, { algorithms: ['ES256'], issuer, audience: issuer });
    if (typeof claims !== 'object') return null;
    const { aud, sub, exp, iat, jti, client_id, sid, cred, org = null } = claims as Record<string, unknown>;
    const good =
      aud === issuer &&
      client_id === CLIENT &&
      isSeconds(exp) &&
      isSeconds(iat) &&
      typeof jti === 'string' &&
      typeof sub === 'string' &&
      UUID.test(sub) &&
      typeof sid === 'string' &&
      UUID.test(sid) &&
      (org === null || (typeof org === 'string' && UUID.test(org))) &&
      typeof cred === 'string';
    if (!good) return null;
    const credential = decodeSecret(cred);
    if (credential.length === 0) return null;
    return {
      fingerprint: fingerprintOf(token),
      credential,
      credentialHash: hashSecret(credential),
      sessionId: sid,
      personId: sub,
      organizationId: org,
      expiresAt: exp * 1000,
    };
  }

  #liveKeys(): AccessKey[] {
    const oldest = Date.now() - KEEP_RETIRED_SECONDS * 1000;
    return this.#keys.filter((key) => key.retiredAt === null || key.retiredAt.getTime() > oldest);
  }

  /** A key unknown here may come from another process that has rotated: the file is read again, at most once a second. */
  async #keyOf(kid: string): Promise<AccessKey | undefined> {
    const known = this.#liveKeys().find((key) => key.kid === kid);
    if (known !== undefined || Date.now() - this.#loadedAt < RELOAD_MILLISECONDS) return known;
    this.#loadedAt = Date.now();
    this.#keys = await loadAccessKeys(this.#options.dataDirectory);
    return this.#liveKeys().find((key) => key.kid === kid);
  }
}

const fingerprintOf = (token: string): string => hash('sha256', token, 'base64');
