// Functions that do touch what is another's, and why that is right. Everything else is a finding.
import type { Line } from './declare.ts';

interface Reviewed {
  readonly thing: RegExp;
  readonly actors?: RegExp;
  readonly way?: RegExp;
  /** All that it may come to, beside its answer. */
  readonly may: readonly string[];
  readonly because: string;
}

const MAILS = 'identity_private.mails';

export const REVIEWED: readonly Reviewed[] = [
  {
    thing: /./,
    actors: /^(suspended|expired|ended|removed)-/,
    may: ['CHANGES audit.events'],
    because: 'what somebody tries after losing access is recorded as hers',
  },
  {
    thing: /^api\.(request_password_reset|resend_verification)\(/,
    may: [`CHANGES ${MAILS}`, 'CHANGES audit.events'],
    because: 'anybody may ask for a mail to any address; its owner reads it',
  },
  {
    thing: /^api\.invite_member\(/,
    may: [`CHANGES ${MAILS}`, 'CHANGES access_private.invitation_addresses'],
    because: 'whoever may invite writes to any address; its owner reads it',
  },
  {
    thing: /^api_steps\.start_(sign_in|email_code)\(/,
    may: ['CHANGES identity_private.attempts', 'CHANGES identity_private.lockouts'],
    because: 'a guess counts against the account, whoever guesses',
  },
  {
    thing: /^api_steps\.submit_sign_in\(/,
    may: ['CHANGES identity_private.attempts'],
    because: 'whoever knows the id of an attempt, 74 random bits, may hand in its one guess',
  },
  {
    thing: /^api_steps\.record_fault\(/,
    may: ['CHANGES audit.events'],
    because: "the event is one's own; the id of the request in it is as the caller says",
  },
  {
    thing: /^api_steps\.refresh_session\(/,
    actors: /^anonymous/,
    way: /^own$/,
    may: [
      'TELLS',
      'CHANGES audit.events',
      'CHANGES sessions.activity',
      'CHANGES sessions_private.credentials',
      'CHANGES sessions_private.refresh_tokens',
    ],
    because: 'whoever presents a refresh token is its person',
  },
  {
    thing: /^sessions\.record_activity\(/,
    actors: /^bare-authenticator$/,
    may: ['CHANGES sessions.activity'],
    because: 'the application says which credentials were used; only live sessions are noted',
  },
  {
    thing: /^graphile_worker\./,
    actors: /job/,
    may: [
      'CHANGES graphile_worker._private_jobs',
      'CHANGES platform_private.job_contexts',
      'CHANGES platform_private.failed_jobs',
    ],
    because: 'one worker runs the jobs of all organizations',
  },
];

/** What of others a line came to. */
export function reached({ outcome }: Line): string[] {
  return outcome.split(' | ').flatMap((one) => [
    ...(one.includes('TELLS OTHERS') ? ['TELLS'] : []),
    ...(one.split('CHANGES OTHERS in ')[1] ?? '')
      .split(', ')
      .filter(Boolean)
      .map((table) => `CHANGES ${table}`),
  ]);
}

/** The entries that allow something to a line. */
export const allowing = (line: Line): Reviewed[] =>
  REVIEWED.filter(
    ({ thing, actors, way }) =>
      thing.test(line.thing) && (actors?.test(line.actor) ?? true) && (way?.test(line.way) ?? true),
  );

/** Lines that reach what is another's without a reason. */
export function findings(lines: readonly Line[]): string[] {
  return lines.flatMap((line) => {
    const may = new Set(allowing(line).flatMap((one) => one.may));
    const open = reached(line).filter((what) => !may.has(what));
    return open.length === 0 ? [] : [`${line.thing} with ${line.way} by ${line.actor}: ${open.join(', ')}`];
  });
}
