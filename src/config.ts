/** The only reader of the environment. Everything else is handed a Config. */
import { existsSync } from 'node:fs';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { parse } from 'pg-connection-string';
import { z } from 'zod';
import { StartupError } from './platform/startup-error.ts';
import { type Setting, type Settings, settings } from './settings.ts';

/** The folder of the project. Relative paths in settings are meant from here. */
export const projectRoot = resolve(import.meta.dirname, '..');

/** All settings, each as src/settings.ts describes it. */
export interface Config extends Omit<Settings, 'sendgridKey' | 'databaseCertificate'> {
  /** Absolute. */
  readonly dataDirectory: string;
  /** Without a slash at its end. */
  readonly publicUrl: string;
  readonly invokedFrom: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

const entries = Object.entries<Setting>(settings);
const schema = z.object(Object.fromEntries(entries.map(([key, { schema }]) => [key, schema])));

/** Reads `.env` in the project into the environment; what is set there already stays. For programs, not for tests. */
export function loadEnvironmentFile(): void {
  const file = resolve(projectRoot, '.env');
  if (existsSync(file)) process.loadEnvFile(file);
}

/** Reads the settings, or throws a StartupError with one line for each bad value. */
export function loadConfig(environment: Environment = process.env): Config {
  const result = schema.safeParse(valuesIn(environment));
  const problems: string[] = [];
  for (const issue of result.error?.issues ?? []) {
    const { variable, secret } = settings[issue.path[0] as keyof Settings] as Setting;
    problems.push(`${secret ? variable : `${variable}=${environment[variable]?.trim()}`} ${issue.message}`);
  }
  if (!result.success) throw new StartupError(problems.join('\n'));
  const value = result.data as Settings;
  problems.push(...contradictions(value));
  const databaseUrl = verified(value);
  if (value.environment === 'production') problems.push(...refusedInProduction({ ...value, databaseUrl }));
  if (problems.length > 0) throw new StartupError(problems.join('\n'));

  const { sendgridKey, databaseCertificate: _, ...rest } = value;
  return {
    ...rest,
    databaseUrl,
    databasePooled: value.databasePooled || value.poolerUrl !== undefined,
    dataDirectory: resolve(projectRoot, value.dataDirectory),
    tagsFile: value.tagsFile && resolve(projectRoot, value.tagsFile),
    persistedOperations: value.persistedOperations && resolve(projectRoot, value.persistedOperations),
    publicUrl: value.publicUrl ?? addressOf(value.host, value.port),
    smtpUrl: sendgridKey === undefined ? value.smtpUrl : sendgridUrl(sendgridKey),
    invokedFrom: value.invokedFrom ?? process.cwd(),
  };
}

/** An empty variable is one that is not set, as everywhere in shells. */
function valuesIn(environment: Environment): Record<string, string> {
  const set: Record<string, string> = {};
  for (const [key, { variable }] of entries) {
    const value = environment[variable];
    if (value?.trim()) set[key] = value;
  }
  return set;
}

/**
 * Variables with our own prefix that nothing reads: their author believes them to work. Told, not refused: a newer
 * version may know them, and going back to this one must not fail.
 */
export function unknownSettings(environment: Environment = process.env): string[] {
  const known = new Set(entries.map(([, { variable }]) => variable));
  return Object.keys(environment)
    .filter((name) => name.startsWith('SAFETYPIN_') && !known.has(name))
    .map((name) => `${name} is not a setting; .env.example lists them`);
}

function contradictions(value: Settings): string[] {
  const problems: string[] = [];
  if (value.tagsFile !== undefined && !existsSync(resolve(projectRoot, value.tagsFile))) {
    problems.push(`SAFETYPIN_TAGS=${value.tagsFile} is not a file that can be read`);
  }
  if (value.persistedOnly && value.persistedOperations === undefined) {
    problems.push('PERSISTED_OPERATIONS_ONLY=on needs PERSISTED_OPERATIONS: the folder of what may be asked');
  }
  if (value.smtpUrl !== undefined && value.sendgridKey !== undefined) {
    problems.push('SMTP_URL and SENDGRID_API_KEY both say where mails go: set one of them');
  }
  if (value.databaseCertificate !== undefined) {
    if (!existsSync(resolve(projectRoot, value.databaseCertificate))) {
      problems.push(`DB_SSL_CERT_PATH=${value.databaseCertificate} is not a file that can be read`);
    }
    if (value.databaseUrl !== undefined && !['verify-full', undefined].includes(sslmodeOf(value.databaseUrl))) {
      problems.push(
        `DATABASE_URL says sslmode=${sslmodeOf(value.databaseUrl)}: with DB_SSL_CERT_PATH it is verify-full`,
      );
    }
  }
  return problems;
}

/** The database's URL, with the authority that its certificate is checked against. */
function verified({ databaseUrl, databaseCertificate }: Settings): string | undefined {
  if (databaseUrl === undefined || databaseCertificate === undefined) return databaseUrl;
  const file = encodeURIComponent(resolve(projectRoot, databaseCertificate));
  const mode = sslmodeOf(databaseUrl) === undefined ? 'sslmode=verify-full&' : '';
  return `${databaseUrl}${databaseUrl.includes('?') ? '&' : '?'}${mode}sslrootcert=${file}`;
}

function refusedInProduction(value: Settings): string[] {
  const problems: string[] = [];
  if (value.databaseUrl === undefined) {
    problems.push('DATABASE_URL is missing: in production SafetyPin uses your PostgreSQL and never brings its own');
  } else if (!isEncrypted(value.databaseUrl)) {
    problems.push('DATABASE_URL must say sslmode=verify-full: in production the database is reached over TLS only');
  }
  if (value.poolerUrl !== undefined && !isEncrypted(value.poolerUrl)) {
    problems.push('DATABASE_POOLER_URL must say sslmode=verify-full, like DATABASE_URL');
  }
  if (value.publicUrl === undefined) {
    problems.push('PUBLIC_URL is missing: in production links in mails must begin with the address people use');
  }
  return problems;
}

/** Read from the text: the parser would open the certificate's file. */
function sslmodeOf(url: string): string | undefined {
  return new URLSearchParams(url.split('?')[1]).get('sslmode') ?? undefined;
}

/** A unix socket needs no TLS; its host is a folder. */
function isEncrypted(url: string): boolean {
  return sslmodeOf(url) === 'verify-full' || parse(url).host?.startsWith('/') === true;
}

/** SendGrid's mail server takes the word apikey as the name and the key as the password. */
const sendgridUrl = (key: string): string => `smtps://apikey:${encodeURIComponent(key)}@smtp.sendgrid.net:465`;

function addressOf(host: string, port: number): string {
  const everywhere = host === '0.0.0.0' || host === '::';
  return `http://${everywhere ? 'localhost' : isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}
