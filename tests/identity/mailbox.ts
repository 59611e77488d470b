// What tests of mails and their tokens share.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import type { Application } from '../support/actors.ts';
import type { TestDatabase } from '../support/database.ts';

export interface Mail {
  recipient: string;
  kind: string;
  variables: Record<string, string>;
}

export const MAIL_TOKENS = 'select * from identity_private.tokens';

export const someAddress = (): string => `${randomBytes(6).toString('hex')}@example.com`;

/** The last mail to an address; all that wait are taken out of the queue. */
export async function mailTo(app: Application, email: string): Promise<Mail> {
  const mail = (await app.mails()).filter(({ recipient }) => recipient === email).at(-1);
  if (mail === undefined) throw new Error('no mail came');
  return mail;
}

export const tokenOf = (mail: Mail): Buffer => Buffer.from(mail.variables.token ?? '', 'base64url');

export const verify = async (app: Application, token: Buffer | null): Promise<string> =>
  (await app.call<{ outcome: string }>(null, 'select api_steps.verify_email($1) as outcome', [token])).outcome;

export function flip(secret: Buffer, bit: number): Buffer {
  const flipped = Buffer.from(secret);
  flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return flipped;
}

/** A secret cut at either end, lengthened, and with each of a few bits flipped (SS-11). */
export const variations = (secret: Buffer): Buffer[] => [
  ...Array.from({ length: secret.length }, (_, i) => secret.subarray(i + 1)),
  ...Array.from({ length: secret.length }, (_, i) => secret.subarray(0, i)),
  Buffer.concat([secret, Buffer.alloc(1)]),
  Buffer.concat([Buffer.alloc(1), secret]),
  Buffer.concat([secret, secret]),
  ...[0, 7, 8, 100, 200, 255].map((bit) => flip(secret, bit)),
];

/** Rows of each table of ours and of the queue. */
export async function rowCounts(admin: pg.Client): Promise<Record<string, number>> {
  const { rows } = await admin.query(`select c.oid::regclass::text as name,
      (xpath('/row/n/text()', query_to_xml('select count(*) as n from ' || c.oid::regclass, false, true, '')))[1]::text::int as count
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and not c.relispartition and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema' or c.oid = 'audit.events'::regclass
    order by 1`);
  return Object.fromEntries(rows.map(({ name, count }) => [name, count]));
}

/** What several workers get that write all waiting mails at once, none of which is marked as sent before all are written. */
export async function composeAtOnce(app: Application, db: TestDatabase): Promise<Mail[]> {
  const workers = db.pool('jobs', { max: 8 });
  const { rows: jobs } = await workers.query(
    "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'test' returning id, payload ->> 'id' as mail",
  );
  const mails = await Promise.all(
    jobs.map(async ({ id, mail }) => {
      const client = await workers.connect();
      try {
        await client.query('begin');
        await client.query("select set_config('role', platform.open_job($1, $2), true)", [
          id,
          await app.envelopes.seal(null),
        ]);
        const { rows } = await client.query<Mail>('select * from identity.compose_mail($1)', [mail]);
        await client.query('commit');
        return rows;
      } finally {
        client.release();
      }
    }),
  );
  await workers.query('delete from graphile_worker._private_jobs');
  await workers.end();
  return mails.flat();
}
