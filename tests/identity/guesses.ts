// What tests of guessing share: the steps of both doors, and what the database counted.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { type Application, sha256 } from '../support/actors.ts';

export interface Started {
  attempt: string | null;
  retry_after: number | null;
  scheme: string | null;
  parameters: object | null;
  salt: Buffer | null;
}

export const START = 'select * from api_steps.start_sign_in($1)';
export const SUBMIT = 'select api_steps.submit_sign_in($1, $2) as stored';
export const FINISH = 'select outcome from api_steps.finish_sign_in($1, $2, null, $3, $4)';
export const START_CODE = 'select * from api_steps.start_email_code($1)';
export const SUBMIT_CODE = 'select api_steps.submit_email_code($1, $2) as stored';
export const FINISH_CODE = 'select api_steps.finish_email_code($1, $2) as outcome';

export const start = (app: Application, email: string) => app.call<Started & pg.QueryResultRow>(null, START, [email]);

export const submit = async (app: Application, attempt: string | null, tag: Buffer | null) =>
  (await app.call<{ stored: boolean }>(null, SUBMIT, [attempt, tag])).stored;

/** Values for FINISH: the session that a right guess would start gets hashes of its own. */
export const finishing = (attempt: string | null, tag: Buffer) => [
  attempt,
  tag,
  sha256(randomBytes(32)),
  sha256(randomBytes(32)),
];

export const finish = async (app: Application, attempt: string | null, tag: Buffer) =>
  (await app.call<{ outcome: string }>(null, FINISH, finishing(attempt, tag))).outcome;

/** The door of passwords, from start to answer; LOCKED where there was no challenge. */
export async function guess(app: Application, email: string, tag: Buffer = randomBytes(32)): Promise<string> {
  const { attempt } = await start(app, email);
  if (attempt === null) return 'LOCKED';
  await submit(app, attempt, tag);
  return finish(app, attempt, tag);
}

/** The door of codes, from start to answer. */
export async function guessCode(app: Application, email: string, code: string): Promise<string> {
  const { attempt } = await app.call<{ attempt: string | null }>(null, START_CODE, [email]);
  if (attempt === null) return 'LOCKED';
  await app.call(null, SUBMIT_CODE, [attempt, code]);
  return (await app.call<{ outcome: string }>(null, FINISH_CODE, [attempt, code])).outcome;
}

/** Six-digit codes that are not `code`, next to it. */
export const wrongCodes = (code: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => String((Number(code) + 1 + i) % 1_000_000).padStart(6, '0'));

/** The blind index that an address is counted under, of somebody or of somebody's registration. */
export async function accountOf(admin: pg.Client, who: { id: string } | { registration: string }): Promise<Buffer> {
  const { rows } =
    'id' in who
      ? await admin.query('select lookup from identity_private.emails where person_id = $1', [who.id])
      : await admin.query('select lookup from identity_private.registrations where id = $1', [who.registration]);
  return rows[0].lookup;
}

export async function counted(admin: pg.Client, account: Buffer): Promise<{ failures: number; seconds: number }> {
  const { rows } = await admin.query(
    `select failures, coalesce(greatest(0, round(extract(epoch from locked_until - last_at)))::integer, 0) as seconds
       from identity_private.lockouts where key = $1`,
    [account],
  );
  return rows[0] ?? { failures: 0, seconds: 0 };
}

/** As if its time were over: the lock has run out, the failures stand. */
export const unlock = (admin: pg.Client, account: Buffer) =>
  admin.query('update identity_private.lockouts set locked_until = clock_timestamp() where key = $1', [account]);

/** As if nothing had ever been tried. */
export const forget = (admin: pg.Client, account: Buffer) =>
  admin.query('delete from identity_private.lockouts where key = $1', [account]);

/** A registration that waits for the code of its mail. */
export async function waitingForCode(
  app: Application,
  admin: pg.Client,
): Promise<{ email: string; code: string; account: Buffer }> {
  const email = `${randomBytes(6).toString('hex')}@example.com`;
  await app.register(email, 'Somebody', null);
  const mail = (await app.mails()).find(({ recipient }) => recipient === email);
  const { rows } = await admin.query('select id from identity_private.registrations order by created_at desc limit 1');
  return { email, code: mail?.variables.code ?? '', account: await accountOf(admin, { registration: rows[0].id }) };
}
