// What a line of the log may look like. Everything that is written passes through here, whoever wrote it: the second wall
// behind the rule that no value of a person is given to the log in the first place.
import { styleText } from 'node:util';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Signs that end a line, move a terminal's cursor or turn the direction of text; JSON lets these stand as they are. */
const UNSEEN = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Fields whose values never belong into a log. */
const SECRET_FIELDS = new Set([
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
  'displayName',
  'userAgent',
  'variables',
  'query',
  'values',
  'detail',
  'message',
]);
const REDACTED = '[redacted]';

const MAIL_ADDRESS = /(?<![\w.+%-])[\w.+%-]+@[\w-]+(?:\.[\w-]+)+/g;
const BEARER = /\bBearer +\S+/gi;
const JWT = /\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?/g;
/** 256 bits, as all our secrets are. */
const SECRET = /(?<![\w-])[\w-]{43}(?![\w-])/g;
const SECRET_LENGTH = 43;
/** An API key, which has its kind and a checksum besides. */
const API_KEY = /sp_[\w-]{48}/g;

const isWord = Uint8Array.from({ length: 128 }, (_, code) => Number(/[\w-]/.test(String.fromCharCode(code))));

/** Whether a text has anything in it that must be looked at closer; most have nothing, and this is quick to see. */
function isPlain(text: string): boolean {
  let run = 0;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code === 64) return false;
    if (isWord[code] === 1) run += 1;
    else run = 0;
    if (run >= SECRET_LENGTH) return false;
  }
  return !/eyJ|bearer/i.test(text);
}

const withoutSecrets = (text: string): string =>
  isPlain(text)
    ? text
    : text
        .replace(JWT, REDACTED)
        .replace(BEARER, REDACTED)
        .replace(API_KEY, REDACTED)
        .replace(MAIL_ADDRESS, REDACTED)
        .replace(SECRET, REDACTED);

/** The fields of a line without what stands under a name of a secret, and without what looks like one. Lines are flat. */
export function redacted(fields: Record<string, unknown>): Record<string, unknown> {
  for (const name in fields) {
    const value = fields[name];
    if (SECRET_FIELDS.has(name)) fields[name] = REDACTED;
    else if (typeof value === 'string') fields[name] = withoutSecrets(value);
    else if (Array.isArray(value)) fields[name] = value.map((part) => withoutSecrets(String(part)));
  }
  return fields;
}

/** One record stays one line, in a file and on a terminal (AU-09): escapes are JSON's own, so nothing is lost. */
export const oneLine = (line: string): string =>
  line.replace(UNSEEN, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`);

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
