// Every setting there is: its name in the environment, what it may be, and what it is for. `.env.example` and the table
// in the README are made from this file, and a test keeps them equal.
import { isIP } from 'node:net';
import { parse } from 'pg-connection-string';
import { z } from 'zod';
import { LOG_LEVELS } from './platform/log-line.ts';

/** One setting. */
export interface Setting<Schema extends z.ZodType = z.ZodType> {
  /** Name in the environment. */
  readonly variable: string;
  readonly schema: Schema;
  /** What it is for, in a sentence or two. */
  readonly about: string;
  /** A value to copy into `.env`. Without one it is not for people to set: npm, the bootstrap or a test run do. */
  readonly example?: string;
  /** Its default, as a person reads it. */
  readonly otherwise?: string;
  /** Whether its value must never be repeated, since it holds a password. */
  readonly secret?: boolean;
}

const setting = <Schema extends z.ZodType>(
  variable: string,
  schema: Schema,
  rest: Omit<Setting, 'variable' | 'schema'>,
): Setting<Schema> => ({ variable, schema, ...rest });

const text = z.string().trim();

const wholeNumber = (minimum: number, maximum: number) => {
  const message = `must be a whole number from ${minimum} to ${maximum}`;
  return text
    .regex(/^\d{1,9}$/, message)
    .transform(Number)
    .refine((value) => value >= minimum && value <= maximum, message);
};

const onOff = z.enum(['on', 'off'], 'must be on or off').transform((value) => value === 'on');

const list = text.transform((value) =>
  value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== ''),
);

const urlOf = (...protocols: string[]) =>
  text.refine(
    (value) => protocols.some((protocol) => value.startsWith(`${protocol}://`)),
    `must begin with ${protocols.map((protocol) => `${protocol}://`).join(' or ')}`,
  );

function isNetwork(value: string): boolean {
  const [address = '', bits, ...rest] = value.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  if (bits === undefined) return true;
  if (!/^\d{1,3}$/.test(bits)) return false;
  return Number(bits) <= (family === 4 ? 32 : 128);
}

/** As node:dns takes it. */
function isDnsServer(value: string): boolean {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(value) ?? [];
  if (port !== undefined && (Number(port) < 1 || Number(port) > 65535)) return false;
  return isIP(value) !== 0 || isIP(bracketed ?? '') === 6 || isIP(plain ?? '') === 4;
}

function isConnectionString(url: string): boolean {
  try {
    return Boolean(parse(url).database);
  } catch {
    return false;
  }
}

export const settings = {
  environment: setting(
    'NODE_ENV',
    z.enum(['development', 'test', 'production'], 'must be development, test or production').default('development'),
    { about: 'production installs and embeds nothing, and refuses what is unsafe.', otherwise: 'development' },
  ),
  port: setting('PORT', wholeNumber(1, 65535).default(5678), {
    about: 'Port of the API.',
    example: '5678',
    otherwise: '5678',
  }),
  host: setting('HOST', text.regex(/^[^\s/]+$/, 'must be an address or a name, without a port').default('127.0.0.1'), {
    about: 'Address the API listens on.',
    example: '127.0.0.1',
    otherwise: '127.0.0.1',
  }),
  dataDirectory: setting('SAFETYPIN_DATA_DIR', text.default('.data'), {
    about: "Folder of the embedded PostgreSQL, its secrets and the application's keys.",
    example: '.data',
    otherwise: '.data in the project',
  }),
  keyProvider: setting(
    'KEY_PROVIDER',
    text.regex(/^(local|file:\/.+)$/, 'must be local, or file: and an absolute path').default('local'),
    {
      about:
        "Where the application's half of the key is kept: `local`, a file in the data folder that is made at the first start, never in production; or `file:/…`, a file that your secret store brings, made by `safetypin keys new`.",
      example: 'file:/run/secrets/safetypin-key',
      otherwise: 'local; in production there is none',
    },
  ),
  databaseUrl: setting(
    'DATABASE_URL',
    urlOf('postgres', 'postgresql')
      .refine(isConnectionString, 'must be a PostgreSQL URL with the name of a database at its end')
      .optional(),
    {
      about: 'Your own PostgreSQL (15 to 18) instead of the embedded one: the URL of an administrator.',
      example: 'postgres://administrator:password@db.example.com/safetypin?sslmode=verify-full',
      otherwise: 'the embedded PostgreSQL',
      secret: true,
    },
  ),
  databaseCertificate: setting('DB_SSL_CERT_PATH', text.optional(), {
    about:
      "File with the certificate of the authority that signed the database's own. The connection is then verified in full.",
    example: '/etc/ssl/database-ca.pem',
    otherwise: "Node's list of authorities",
  }),
  poolerUrl: setting(
    'DATABASE_POOLER_URL',
    urlOf('postgres', 'postgresql')
      .refine(isConnectionString, 'must be a PostgreSQL URL with the name of a database at its end')
      .optional(),
    {
      about:
        "Pooler in transaction mode, such as PgBouncer, for the API's requests. DATABASE_URL stays direct: migrations, the worker and commands use that.",
      example: 'postgres://pooler.example.com:6432/safetypin?sslmode=verify-full',
      otherwise: 'requests go directly too',
      secret: true,
    },
  ),
  databasePooled: setting('DATABASE_POOLED', onOff.default(false), {
    about:
      'on: no statement of the API has a name, as a pooler in transaction mode demands. DATABASE_POOLER_URL says so.',
    example: 'off',
    otherwise: 'off',
  }),
  migrateLockTimeout: setting('SAFETYPIN_MIGRATE_LOCK_TIMEOUT', wholeNumber(1, 600).default(5), {
    about: 'Seconds that a migration waits for one lock: nothing queues behind it for longer. It then tries again.',
    example: '5',
    otherwise: '5',
  }),
  migratePatience: setting('SAFETYPIN_MIGRATE_PATIENCE', wholeNumber(1, 86_400).default(600), {
    about: 'Seconds after which a migration that gets no lock, or waits for another migration, gives up.',
    example: '600',
    otherwise: '600',
  }),
  publicUrl: setting(
    'PUBLIC_URL',
    urlOf('http', 'https')
      .refine((value) => URL.canParse(value), 'must be a URL')
      .transform((value) => value.replace(/\/+$/, ''))
      .optional(),
    {
      about: 'What links in mails begin with.',
      example: 'https://id.example.com',
      otherwise: 'the address of the API',
    },
  ),
  trustedProxies: setting(
    'TRUSTED_PROXIES',
    list
      .refine(
        (values) => values.every(isNetwork),
        'must be addresses or networks such as 10.0.0.0/8, separated by commas',
      )
      .default([]),
    {
      about: 'Networks whose X-Forwarded-For is believed, separated by commas.',
      example: '10.0.0.0/8',
      otherwise: 'none',
    },
  ),
  schemas: setting(
    'SAFETYPIN_SCHEMAS',
    list
      .refine(
        (values) => values.every((value) => /^[a-z_][a-z0-9_]{0,62}$/.test(value)),
        'must be names of schemas, separated by commas',
      )
      .default([]),
    {
      about: 'Your own schemas to show in GraphQL, separated by commas.',
      example: 'clinic',
      otherwise: 'none',
    },
  ),
  tagsFile: setting('SAFETYPIN_TAGS', text.optional(), {
    about: "Your own file of PostGraphile's smart tags (JSON5): names, what is hidden, what may be counted.",
    example: 'tests/clinic/clinic.tags.json5',
    otherwise: 'none',
  }),
  shutdownDelay: setting('SHUTDOWN_DELAY', wholeNumber(0, 300).default(0), {
    about: 'Seconds from SIGTERM, when /readyz begins to say 503, until no connections are taken any more.',
    example: '5',
    otherwise: '0',
  }),
  persistedOperations: setting('PERSISTED_OPERATIONS', text.optional(), {
    about: 'Folder of GraphQL operations that clients name by their SHA-256; `safetypin operations` makes it.',
    example: 'operations',
    otherwise: 'none',
  }),
  persistedOnly: setting('PERSISTED_OPERATIONS_ONLY', onOff.default(false), {
    about: 'on: only operations of that folder are run, and text from clients is refused.',
    example: 'on',
    otherwise: 'off',
  }),
  worker: setting('SAFETYPIN_WORKER', onOff.default(true), {
    about: 'on: jobs run inside the server. off: run `npm run safetypin -- worker` beside it.',
    example: 'on',
    otherwise: 'on',
  }),
  smtpUrl: setting('SMTP_URL', urlOf('smtp', 'smtps').optional(), {
    about: 'Mail server.',
    example: 'smtps://user:password@mail.example.com',
    otherwise: 'mails go to /dev/mailbox, in development only',
    secret: true,
  }),
  sendgridKey: setting('SENDGRID_API_KEY', text.regex(/^\S+$/, 'must be one word').optional(), {
    about: "Sends mails through SendGrid's mail server; stands in the place of SMTP_URL.",
    example: 'SG.…',
    otherwise: 'SMTP_URL counts',
    secret: true,
  }),
  mailFrom: setting(
    'MAIL_FROM',
    text
      .regex(/@/, 'must be a mail address, such as SafetyPin <no-reply@example.com>')
      .default('SafetyPin <no-reply@localhost>'),
    {
      about: 'Sender of mails.',
      example: 'SafetyPin <no-reply@example.com>',
      otherwise: 'SafetyPin <no-reply@localhost>',
    },
  ),
  dnsServers: setting(
    'DNS_SERVERS',
    list
      .refine((values) => values.every(isDnsServer), 'must be IP addresses, such as 9.9.9.9 or [2620:fe::fe]:53')
      .default([]),
    {
      about:
        'Servers that are asked for the proofs of domains, separated by commas: IP addresses, with or without a port.',
      example: '9.9.9.9,149.112.112.112',
      otherwise: "the machine's own",
    },
  ),
  logLevel: setting('LOG_LEVEL', z.enum(LOG_LEVELS, `must be ${LOG_LEVELS.join(', ')}`).default('info'), {
    about: 'How much is logged: debug, info (a line for each request), warn, error, or silent.',
    example: 'info',
    otherwise: 'info',
  }),
  logAddresses: setting('LOG_ADDRESSES', onOff.default(false), {
    about: "on: the line of a request has its client's IP address, which is personal data.",
    example: 'off',
    otherwise: 'off',
  }),
  slowQueryMilliseconds: setting('DB_SLOW_QUERY_THRESHOLD', wholeNumber(1, 600_000).default(1000), {
    about: 'Statements that take longer, in milliseconds, are counted and logged by name, never with values.',
    example: '1000',
    otherwise: '1000',
  }),
  metricsToken: setting(
    'METRICS_TOKEN',
    text.regex(/^[\x21-\x7e]{16,}$/, 'must be one word of at least 16 signs').optional(),
    {
      about: 'What Prometheus sends as its bearer token to read `/metrics`.',
      example: 'a-long-random-word',
      otherwise: 'only programs on the same machine read `/metrics`, and in production nobody',
      secret: true,
    },
  ),
  metricsPort: setting('METRICS_PORT', wholeNumber(1, 65535).optional(), {
    about: 'Serves `/metrics` on this port of 127.0.0.1 and nowhere else.',
    example: '9464',
    otherwise: 'the port of the API',
  }),
  tracesUrl: setting(
    'OTEL_EXPORTER_OTLP_ENDPOINT',
    urlOf('http', 'https')
      .refine((value) => URL.canParse(value), 'must be a URL')
      .transform((value) => value.replace(/\/+$/, ''))
      .optional(),
    {
      about: 'Collector that traces are sent to, as OTLP over HTTP.',
      example: 'http://localhost:4318',
      otherwise: 'no traces',
    },
  ),
  testScale: setting(
    'SAFETYPIN_TEST_SCALE',
    text
      .regex(/^\d*\.?\d+$/, 'must be a number above 0, at most 1')
      .transform(Number)
      .refine((value) => value > 0 && value <= 1, 'must be a number above 0, at most 1')
      .default(0.1),
    { about: 'Share of the counts that long tests run.', otherwise: '0.1' },
  ),
  testPostgres: setting(
    'SAFETYPIN_TEST_POSTGRES',
    list
      .refine((values) => values.every((value) => /^1[567]$/.test(value)), 'must be 15, 16 or 17, separated by commas')
      .transform((values) => values.map(Number))
      .default([]),
    { about: 'Versions of PostgreSQL beside 18 that the tests about SQL run on.', otherwise: 'npm test says 15' },
  ),
  /** The folder the command was given in: files on a command line are meant from there. */
  invokedFrom: setting('INIT_CWD', z.string().optional(), { about: 'Set by npm.' }),
  /** "own pid:npm's pid", see platform/parent.ts. */
  parent: setting('SAFETYPIN_PARENT', z.string().optional(), { about: 'Set by the bootstrap.' }),
} as const satisfies Record<string, Setting>;

export type Settings = { readonly [Key in keyof typeof settings]: z.output<(typeof settings)[Key]['schema']> };

/** Settings for people, in order. */
export const described: readonly Setting[] = Object.values<Setting>(settings).filter(({ otherwise }) => otherwise);

/** The text of `.env.example`. */
export function envExample(): string {
  const wrapped = (line: string) => line.replace(/(.{1,110})(?: |$)/g, '# $1\n');
  return [
    wrapped(
      'Every setting has a default: `npm start` needs none of these. Copy this file to .env to keep your own, or set them in the environment, which wins. Made from src/settings.ts.',
    ),
    ...described
      .filter(({ example }) => example !== undefined)
      .map(
        ({ variable, about, example, otherwise }) =>
          `${wrapped(`${about} Default: ${otherwise}.`)}# ${variable}=${example}\n`,
      ),
    wrapped(
      'Production is chosen in the environment (NODE_ENV=production), not here: the bootstrap looks at it first.',
    ),
  ].join('\n');
}

/** The rows of the table of settings in the README. */
export function settingsTable(): string {
  return described.map(({ variable, about, otherwise }) => `| \`${variable}\` | ${about} | ${otherwise} |`).join('\n');
}
