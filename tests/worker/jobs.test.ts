// F18: the password of the worker runs the jobs that are queued, and nothing more. JB-01, JB-03.
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import { EnvelopeSealer } from '../../src/keyring/envelope.ts';
import { Application, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let app: Application;
let jobs: pg.Client;
let envelopes: EnvelopeSealer;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  jobs = await db.connect('jobs');
  envelopes = new EnvelopeSealer(db.pool('jobs', { max: 1 }), app.keys);
});

/** Opens a job as a worker would, in a transaction that is rolled back; what happens then. */
async function openJob(
  job: string | number,
  then: (client: pg.Client) => Promise<unknown> = async () => {},
): Promise<string> {
  const envelope = await envelopes.seal(null);
  await jobs.query('begin');
  try {
    return await refusal(
      (async () => {
        await jobs.query("select set_config('role', platform.open_job($1, $2), true)", [job, envelope]);
        await then(jobs);
      })(),
    );
  } finally {
    await jobs.query('rollback');
  }
}

async function lock(job: string | number): Promise<void> {
  await jobs.query("update graphile_worker._private_jobs set locked_at = now(), locked_by = 'thief' where id = $1", [
    job,
  ]);
}

async function queued(): Promise<{ id: string; mail: string }> {
  await app.register(`${randomUUID()}@example.com`, 'Ada', 'Engines');
  const { rows } = await jobs.query('select id, payload from graphile_worker._private_jobs order by id desc limit 1');
  return { id: rows[0].id, mail: rows[0].payload.id };
}

describe('with the password of the worker', () => {
  test('a queued job opens while it is locked, and not before', async () => {
    const { id, mail } = await queued();
    expect(await openJob(id)).toBe('CTXJB');
    await lock(id);
    const compose = (client: pg.Client) => client.query('select * from identity.compose_mail($1)', [mail]);
    expect(await openJob(id, compose)).toBe('no refusal');
  });

  test('the job of one mail writes no other, whatever is made of its payload (AZ-06)', async () => {
    const mine = await queued();
    const other = await queued();
    await lock(mine.id);
    await jobs.query('update graphile_worker._private_jobs set payload = $2 where id = $1', [
      mine.id,
      { id: other.mail },
    ]);
    for (const call of ['identity.compose_mail', 'identity.mark_mail_sent']) {
      const attempt = (client: pg.Client) => client.query(`select ${call}($1)`, [other.mail]);
      expect(await openJob(mine.id, attempt), call).toBe('DENYD');
      await withoutGuard(
        db,
        `${call}(uuid)`,
        /or request\.job_value\('id'\) is distinct from \w+\.id/,
        '',
        async () => {
          expect(await openJob(mine.id, attempt), call).toBe('no refusal');
        },
      );
    }
  });

  test('a job made by hand opens nothing', async () => {
    const { mail } = await queued();
    const made = await jobs.query(
      "select id from graphile_worker.add_job('mail__send', json_build_object('id', $1::text))",
      [mail],
    );
    await lock(made.rows[0].id);
    expect(await openJob(made.rows[0].id)).toBe('CTXJB');
  });

  test('a job made by hand under the id of one that is done opens nothing', async () => {
    const { id } = await queued();
    const again = async (): Promise<string> => {
      await jobs.query('delete from graphile_worker._private_jobs where id = $1', [id]);
      await jobs.query(
        `insert into graphile_worker._private_jobs (id, task_id, payload, locked_at, locked_by) overriding system value
          select $1, id, '{}', now(), 'thief' from graphile_worker._private_tasks where identifier = 'mail__send'`,
        [id],
      );
      return openJob(id);
    };
    expect(await again()).toBe('CTXJB');
    // Without the trigger that forgets the context, it would open.
    const second = await queued();
    const admin = await db.connect('admin');
    await admin.query('alter table graphile_worker._private_jobs disable trigger safetypin_forget_context');
    await jobs.query('delete from graphile_worker._private_jobs where id = $1', [second.id]);
    await jobs.query(
      `insert into graphile_worker._private_jobs (id, task_id, payload, locked_at, locked_by) overriding system value
        select $1, id, '{}', now(), 'thief' from graphile_worker._private_tasks where identifier = 'mail__send'`,
      [second.id],
    );
    expect(await openJob(second.id)).toBe('no refusal');
    await admin.query('alter table graphile_worker._private_jobs enable always trigger safetypin_forget_context');
  });

  test('a job of a task that nobody knows opens nothing', async () => {
    const made = await jobs.query("select id from graphile_worker.add_job('keyring__give_me_all')");
    await lock(made.rows[0].id);
    expect(await openJob(made.rows[0].id)).toBe('CTXJB');
  });

  test('the context of one task does not serve for another', async () => {
    const made = await jobs.query("select id from graphile_worker.add_job('audit__ensure_partitions')");
    await lock(made.rows[0].id);
    const { mail } = await queued();
    const compose = (client: pg.Client) => client.query('select * from identity.compose_mail($1)', [mail]);
    expect(await openJob(made.rows[0].id, compose)).toBe('DENYD');
    const partitions = (client: pg.Client) => client.query('select audit.ensure_partitions()');
    expect(await openJob(made.rows[0].id, partitions)).toBe('no refusal');
  });

  test('without an open job no function of a task answers', async () => {
    const { mail } = await queued();
    for (const call of [
      `identity.compose_mail('${mail}')`,
      `identity.mark_mail_sent('${mail}')`,
      'audit.ensure_partitions()',
      'platform.clean_up(10)',
      'identity.clean_up(10)',
      'sessions.clean_up(10)',
      'keyring.clean_up(10)',
      'keyring.work(10)',
      'api_steps.report_failed_jobs()',
    ]) {
      expect(await refusal(jobs.query(`select ${call}`)), call).toMatch(/^(DENYD|CTXNO|42501)$/);
    }
  });

  test('no session opens and no other role is taken', async () => {
    expect(await refusal(jobs.query("select sessions.open_request(null, null, '{}')"))).toBe('42501');
    for (const role of [
      'safetypin_member',
      'safetypin_definer',
      'safetypin_keeper',
      'safetypin_owner',
      'safetypin_authenticator',
      'postgres',
    ]) {
      expect(await refusal(jobs.query(`set role ${role}`)), role).toBe('42501');
    }
  });

  test('no table of ours is readable, with an open job neither', async () => {
    const admin = await db.connect('admin');
    const tables = await admin.query(
      `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v') and n.nspname !~ '^(pg_|information_schema)' and n.nspname <> 'graphile_worker'`,
    );
    expect(tables.rowCount).toBeGreaterThan(25);
    const { id } = await queued();
    await lock(id);
    for (const { name } of tables.rows) {
      // The register of errors is for everybody.
      if (name === 'platform.errors') continue;
      expect(await refusal(jobs.query(`select * from ${name}`)), name).toBe('42501');
      expect(await openJob(id, (client) => client.query(`select * from ${name}`)), name).toBe('42501');
    }
  });

  test("nothing in the queue's schema can be changed, so that no reader of it can be tricked", async () => {
    for (const attack of [
      'create table graphile_worker.loot (v text)',
      'create or replace view graphile_worker.jobs as select 1 as id',
      'drop view graphile_worker.jobs',
      'alter table graphile_worker._private_jobs disable row level security',
      'alter table graphile_worker._private_jobs add column v text',
      'create trigger t before insert on graphile_worker._private_jobs for each row execute function suppress_redundant_updates_trigger()',
      'create policy p on graphile_worker._private_jobs using (true)',
      'create rule r as on insert to graphile_worker._private_jobs do also select 1',
      'alter function graphile_worker.add_job(text, json, text, timestamptz, integer, text, integer, text[], text) security invoker',
      'alter function graphile_worker.safetypin_add_job(text, json, integer, integer) reset search_path',
      "create or replace function graphile_worker.safetypin_add_job(task text, payload json, attempts integer, turn integer) returns bigint language sql as 'select 1::bigint'",
      'truncate graphile_worker._private_jobs',
      'create temporary table jobs (id bigint)',
      'create function pg_temp.f() returns int language sql as $$ select 1 $$',
      'update graphile_worker.migrations set breaking = true',
    ]) {
      expect(await refusal(jobs.query(attack)), attack).toMatch(/^42501$/);
    }
  });
});

describe('JB-01: nobody else reaches the queue', () => {
  test.each(['authenticator', 'auditor'] as const)('%s cannot read or add jobs', async (login) => {
    const client = await db.connect(login);
    for (const attack of [
      'select * from graphile_worker._private_jobs',
      'select * from graphile_worker.jobs',
      "select graphile_worker.add_job('mail__send')",
      "select graphile_worker.safetypin_add_job('mail__send', '{}', 1, 0)",
      "select platform.enqueue('mail__send', '{}')",
    ]) {
      expect(await refusal(client.query(attack)), attack).toBe('42501');
    }
  });

  test.each(['safetypin_anonymous', 'safetypin_member'])('%s cannot either', async (role) => {
    const client = await db.connect('authenticator');
    await client.query(`set role ${role}`);
    for (const attack of [
      'select * from graphile_worker._private_jobs',
      "select graphile_worker.add_job('mail__send')",
      "select platform.enqueue('mail__send', '{}')",
    ]) {
      expect(await refusal(client.query(attack)), attack).toBe('42501');
    }
  });

  test('every table of the queue has row-level security, and policies for the worker and for enqueueing only', async () => {
    const admin = await db.connect('admin');
    const { rows } = await admin.query(
      `select c.relname, c.relrowsecurity, coalesce(array_agg(r.rolname::text order by r.rolname) filter (where r.rolname is not null), '{}') as roles
         from pg_class c left join pg_policy p on p.polrelid = c.oid left join lateral unnest(p.polroles) x (role) on true
         left join pg_roles r on r.oid = x.role
        where c.relnamespace = 'graphile_worker'::regnamespace and c.relkind = 'r' and c.relname <> 'migrations'
        group by c.relname, c.relrowsecurity`,
    );
    expect(rows.length).toBe(4);
    for (const { relname, relrowsecurity, roles } of rows) {
      expect(relrowsecurity, relname).toBe(true);
      expect(['{safetypin_jobs}', '{safetypin_definer,safetypin_jobs}'], relname).toContain(`{${roles}}`);
    }
  });
});

test('JB-03: what a job carries is an id and nothing of a person', async () => {
  const email = `canary.${randomUUID()}@example.com`;
  await app.register(email, 'CANARY NAME', 'CANARY ORGANIZATION');
  const admin = await db.connect('admin');
  const { rows } = await admin.query(
    'select payload, row_to_json(j)::text as text from graphile_worker._private_jobs j',
  );
  for (const { payload, text } of rows) {
    expect(text).not.toMatch(/canary|example\.com/i);
    for (const value of Object.values(payload as object)) expect(String(value)).toMatch(/^[0-9a-f-]{36}$/);
  }
  const contexts = await admin.query('select row_to_json(c)::text as text from platform_private.job_contexts c');
  for (const { text } of contexts.rows) expect(text).not.toMatch(/canary|example\.com/i);
});
