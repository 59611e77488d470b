// What a line of the log may look like. Everything that is written passes through here, whoever wrote it: the second wall
// behind the rule that no value of a person is given to the log in the first place.
import { styleText } from 'node:util';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Signs that end a line, move a terminal's cursor or turn the direction of text; JSON lets these stand as they are. */
const UNSEEN = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Keys whose values never belong into a log, at the top of a line and one below. */
const SECRET_KEYS = [
  'authorization',
  'cookie',
  'password',
  'newPassword',
  'currentPassword',
  'credential',
  'secret',
  'token',
  'accessToken',
  'refreshToken',
  'mfaToken',
  'apiKey',
  'email',
  'userAgent',
  'variables',
  'query',
  'values',
  'detail',
];

/** As pino takes them. */
export const redact = { paths: SECRET_KEYS.flatMap((key) => [key, `*.${key}`]), censor: '[redacted]' };

/** A mail address, a bearer credential, a JWT, a secret of 256 bits: wherever in a line they stand. */
const SECRET_VALUES =
  /[\w.+%-]+@[\w-]+(?:\.[\w-]+)+|\bBearer +[^\s"\\]+|\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?|(?<![\w-])[\w-]{43}(?![\w-])/gi;

/** One record stays one line, in a file and on a terminal (AU-09): escapes are JSON's own, so nothing is lost. */
export const oneLine = (line: string): string =>
  line
    .replace(SECRET_VALUES, '[redacted]')
    .replace(UNSEEN, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`);

type Colour = 'dim' | 'green' | 'yellow' | 'red';
const COLOURS: Readonly<Record<string, Colour>> = { debug: 'dim', info: 'green', warn: 'yellow', error: 'red' };

/** The same record for a person at a terminal. */
export function readable(line: string): string {
  const { time, level, event, ...rest } = JSON.parse(line) as Record<string, unknown>;
  const clock = styleText('dim', String(time).slice(11, 23));
  const name = styleText(COLOURS[String(level)] ?? 'red', String(level).padEnd(5));
  const fields = Object.entries(rest).map(([key, value]) => `${styleText('dim', `${key}=`)}${shown(value)}`);
  return `  ${clock} ${name} ${event ?? ''} ${fields.join(' ')}\n`;
}

/** Plain words stand as they are; whatever else is quoted, so that no value can look like another field. */
const shown = (value: unknown): string => {
  const text = oneLine(JSON.stringify(value));
  return /^"[\w.:/-]+"$/.test(text) ? text.slice(1, -1) : text;
};
