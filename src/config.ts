/** The only reader of the environment. Everything else is handed a Config. */
import { existsSync } from 'node:fs';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { parse } from 'pg-connection-string';
import { z } from 'zod';
import { StartupError } from './platform/startup-error.ts';

/** The folder of the project. Relative paths in settings are meant from here. */
export const projectRoot = resolve(import.meta.dirname, '..');

const text = z.string().trim();

const port = text
  .regex(/^\d{1,5}$/, 'must be a whole number from 1 to 65535')
  .transform(Number)
  .refine((value) => value >= 1 && value <= 65535, 'must be a whole number from 1 to 65535');

const onOff = z.enum(['on', 'off'], 'must be on or off').transform((value) => value === 'on');

const list = text.transform((value) =>
  value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== ''),
);

const urlOf = (protocols: string[]) =>
  text.refine(
    (value) => protocols.some((protocol) => value.startsWith(`${protocol}://`)),
    `must begin with ${protocols.map((protocol) => `${protocol}://`).join(' or ')}`,
  );

function isCidr(value: string): boolean {
  const [address = '', bits, ...rest] = value.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  if (bits === undefined) return true;
  if (!/^\d{1,3}$/.test(bits)) return false;
  return Number(bits) <= (family === 4 ? 32 : 128);
}

const variables = z.object({
  NODE_ENV: z.enum(['development', 'test', 'production'], 'must be development, test or production').optional(),
  PORT: port.optional(),
  HOST: text.regex(/^[^\s/]+$/, 'must be an address or a name, without a port').optional(),
  SAFETYPIN_DATA_DIR: text.optional(),
  DATABASE_URL: urlOf(['postgres', 'postgresql'])
    .refine(isConnectionString, 'must be a PostgreSQL URL with the name of a database at its end')
    .optional(),
  DATABASE_POOLED: onOff.optional(),
  PUBLIC_URL: urlOf(['http', 'https'])
    .refine((value) => URL.canParse(value), 'must be a URL')
    .optional(),
  TRUSTED_PROXIES: list
    .refine((values) => values.every(isCidr), 'must be addresses or networks such as 10.0.0.0/8, separated by commas')
    .optional(),
  SAFETYPIN_SCHEMAS: list
    .refine(
      (values) => values.every((value) => /^[a-z_][a-z0-9_]{0,62}$/.test(value)),
      'must be names of schemas, separated by commas',
    )
    .optional(),
  SAFETYPIN_WORKER: onOff.optional(),
  SMTP_URL: urlOf(['smtp', 'smtps']).optional(),
  MAIL_FROM: text.regex(/@/, 'must be a mail address, such as SafetyPin <no-reply@example.com>').optional(),
  SAFETYPIN_TEST_SCALE: text
    .regex(/^\d*\.?\d+$/, 'must be a number above 0, at most 1')
    .transform(Number)
    .refine((value) => value > 0 && value <= 1, 'must be a number above 0, at most 1')
    .optional(),
  INIT_CWD: z.string().optional(),
  SAFETYPIN_PARENT: z.string().optional(),
});

/** Values that must not be repeated in a message, since they can hold a password. */
const secret = new Set(['DATABASE_URL', 'SMTP_URL']);

export interface Config {
  /** NODE_ENV. Defaults to "development". */
  readonly environment: 'development' | 'test' | 'production';
  /** PORT of the API. Defaults to 5678. */
  readonly port: number;
  /** HOST, the address the API listens on. Defaults to "127.0.0.1". */
  readonly host: string;
  /** SAFETYPIN_DATA_DIR, absolute: embedded database, secrets, keys. Defaults to ".data" in the project. */
  readonly dataDirectory: string;
  /** DATABASE_URL of an administrator. Defaults to undefined: the embedded PostgreSQL. */
  readonly databaseUrl: string | undefined;
  /** DATABASE_POOLED, whether a transaction pooler such as PgBouncer stands in between: then no statement has a name. Defaults to false. */
  readonly databasePooled: boolean;
  /** PUBLIC_URL, what links in mails begin with, without a slash at its end. Defaults to the address of the API. */
  readonly publicUrl: string;
  /** TRUSTED_PROXIES, networks whose X-Forwarded-For is believed. Defaults to none. */
  readonly trustedProxies: readonly string[];
  /** SAFETYPIN_SCHEMAS, the host application's schemas to expose. Defaults to none. */
  readonly schemas: readonly string[];
  /** SAFETYPIN_WORKER, whether jobs run in the server's process. Defaults to true. */
  readonly worker: boolean;
  /** SMTP_URL of the mail server. Defaults to undefined: the mailbox at /dev/mailbox, in development only. */
  readonly smtpUrl: string | undefined;
  /** MAIL_FROM. Defaults to "SafetyPin <no-reply@localhost>". */
  readonly mailFrom: string;
  /** SAFETYPIN_TEST_SCALE, the share of the counts that long tests run. Defaults to 0.1. */
  readonly testScale: number;
  /** The folder the command was given in: files on a command line are meant from there. */
  readonly invokedFrom: string;
  /** "own pid:npm's pid" from the bootstrap, see platform/parent.ts. */
  readonly parent: string | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Reads `.env` in the project into the environment; what is set there already stays. For programs, not for tests. */
export function loadEnvironmentFile(): void {
  const file = resolve(projectRoot, '.env');
  if (existsSync(file)) process.loadEnvFile(file);
}

/** Reads the settings, or throws a StartupError with one line for each bad value. */
export function loadConfig(environment: Environment = process.env): Config {
  // An empty variable is one that is not set, as everywhere in shells.
  const set = Object.fromEntries(Object.entries(environment).filter(([, value]) => value?.trim()));
  const result = variables.safeParse(set);
  const problems: string[] = [];
  for (const issue of result.error?.issues ?? []) {
    const name = String(issue.path[0]);
    problems.push(secret.has(name) ? `${name} ${issue.message}` : `${name}=${set[name]} ${issue.message}`);
  }
  if (!result.success) throw new StartupError(problems.join('\n'));
  const value = result.data;
  if (value.NODE_ENV === 'production') problems.push(...refusedInProduction(value));
  if (problems.length > 0) throw new StartupError(problems.join('\n'));

  const host = value.HOST ?? '127.0.0.1';
  const chosenPort = value.PORT ?? 5678;
  return {
    environment: value.NODE_ENV ?? 'development',
    port: chosenPort,
    host,
    dataDirectory: resolve(projectRoot, value.SAFETYPIN_DATA_DIR ?? '.data'),
    databaseUrl: value.DATABASE_URL,
    databasePooled: value.DATABASE_POOLED ?? false,
    publicUrl: (value.PUBLIC_URL ?? addressOf(host, chosenPort)).replace(/\/+$/, ''),
    trustedProxies: value.TRUSTED_PROXIES ?? [],
    schemas: value.SAFETYPIN_SCHEMAS ?? [],
    worker: value.SAFETYPIN_WORKER ?? true,
    smtpUrl: value.SMTP_URL,
    mailFrom: value.MAIL_FROM ?? 'SafetyPin <no-reply@localhost>',
    testScale: value.SAFETYPIN_TEST_SCALE ?? 0.1,
    invokedFrom: value.INIT_CWD ?? process.cwd(),
    parent: value.SAFETYPIN_PARENT,
  };
}

function refusedInProduction(value: z.infer<typeof variables>): string[] {
  const problems: string[] = [];
  if (value.DATABASE_URL === undefined) {
    problems.push('DATABASE_URL is missing: in production SafetyPin uses your PostgreSQL and never brings its own');
  } else if (!isEncrypted(value.DATABASE_URL)) {
    problems.push('DATABASE_URL must say sslmode=verify-full: in production the database is reached over TLS only');
  }
  if (value.PUBLIC_URL === undefined) {
    problems.push('PUBLIC_URL is missing: in production links in mails must begin with the address people use');
  }
  return problems;
}

/** A unix socket needs no TLS; its host is a folder. */
function isEncrypted(url: string): boolean {
  const { host, sslmode } = parse(url);
  return host?.startsWith('/') === true || sslmode === 'verify-full';
}

function isConnectionString(url: string): boolean {
  try {
    return Boolean(parse(url).database);
  } catch {
    return false;
  }
}

function addressOf(host: string, port: number): string {
  const everywhere = host === '0.0.0.0' || host === '::';
  return `http://${everywhere ? 'localhost' : isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}
