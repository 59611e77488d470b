// `safetypin shell` as its operator uses it, beside a running API.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Api, LOGIN, type Member, startApi } from '../api/api.ts';
import { descendants } from '../runtime/programs.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { runPiped, ShellProcess, shareSecrets } from './shells.ts';

let api: Api;
let admin: pg.Client;
let ada: Member;
let home: string;

beforeAll(async () => {
  api = await startApi({
    host: `create schema clinic;
      grant usage on schema clinic to safetypin_member;
      create table clinic.patients (organization_id uuid not null, id uuid default platform.uuid_v7(), name text not null,
        primary key (organization_id, id));
      select access.protect('clinic.patients');`,
  });
  shareSecrets(api);
  admin = await api.db.connect('admin');
  // Shorter times than anybody may set.
  await admin.query('alter table platform.limits drop constraint limits_value_in_bounds');
  ada = await api.member('ada');
  home = mkdtempSync(join(tmpdir(), 'safetypin-home-'));
  whenFileEnds(() => rmSync(home, { recursive: true, force: true }));
});

/** What the trail has of shells since it was asked last: actions in their order. */
let seen = '-infinity';
async function trail(): Promise<string[]> {
  const { rows } = await admin.query<{ at: string; action: string }>(
    `select occurred_at::text as at, action from audit.events where occurred_at > $1
      and (action ~ '^(shell|row|session.end)' or action in ('login.success', 'token.refresh')) order by occurred_at`,
    [seen],
  );
  seen = rows.at(-1)?.at ?? seen;
  return rows.map(({ action }) => action);
}

const patients = async (): Promise<string[]> =>
  (await admin.query<{ name: string }>('select name from clinic.patients order by name')).rows.map(({ name }) => name);

const run = (input: string, args: readonly string[] = []) => runPiped(api, ada, input, args);

describe('through a pipe', () => {
  test('runs what follows the password, each statement recorded before what it changed, and ends its session', async () => {
    await trail();
    const said = await run("insert into clinic.patients (name)\nvalues ('Bob');\nselect name from clinic.patients");
    expect(said).toEqual({ code: 0, err: '', out: 'INSERT 1\n name\n------\n Bob\n(1 row)\n' });
    expect(await trail()).toEqual(
      'login.success shell.start shell.statement row.insert shell.statement shell.end session.end'.split(' '),
    );
    const { rows } = await admin.query(
      `select (select count(distinct request_id) from audit.events e where e.session_id = s.id and action ~ '^(shell.statement|row)')::int as requests,
        s.ended_because from sessions.sessions s order by created_at desc limit 1`,
    );
    expect(rows[0]).toEqual({ requests: 2, ended_because: 'logout' });
  });

  test('ends with 1 at the first error, which has its line, its code and what stands for it everywhere', async () => {
    const said = await run("select 1;\n\nupdate access.organizations\n  set name = 'x';\nselect 2;\n");
    expect(said.code).toBe(1);
    expect(said.out).not.toContain('2');
    expect(said.err).toBe(
      'ERROR 42501: permission denied for table organizations\n  standard input, line 4:\n' +
        '  4 | update access.organizations\n  FORBIDDEN: You may not do this.\n',
    );
  });

  test('refuses a statement that is too long to be recorded', async () => {
    const said = await run(`select length('${'x'.repeat(64_000)}') as n;`);
    expect(said).toMatchObject({ code: 1, out: '' });
    expect(said.err).toMatch(/^ERROR 54000: a statement of more than 64000 bytes is not recorded\n[\s\S]*BAD_INPUT/);
    expect(said.err.length).toBeLessThan(2000);
  });

  test('runs a text or a file, in an organization by its name or id; another one is refused', async () => {
    writeFileSync(join(home, 'a.sql'), '-- mine\nselect api_steps.nothing();\n');
    const file = await run('', ['--file', join(home, 'a.sql')]);
    expect(file.code).toBe(1);
    expect(file.err).toContain(`ERROR 42883: function api_steps.nothing() does not exist\n  ${home}/a.sql, line 2:`);
    const where = 'select (api.current_organization()).name;';
    const named = await run('', ['--organization', 'ada and friends', '-c', where]);
    expect(named.out).toContain(' ada and friends\n');
    await trail();
    const stranger = await run('', ['--organization', 'of strangers', '-c', where]);
    expect(stranger).toMatchObject({
      code: 1,
      out: '',
      err: expect.stringContaining('you are in no organization of the name'),
    });
    expect(await trail()).toEqual(['login.success', 'shell.end', 'session.end']);
  });

  test('LG-09 refuses a wrong password, nobody and a suspended person, in words', async () => {
    const refused = 'safetypin: refused: the address, the password or the organization is not right, or not active\n';
    const eve = await api.member('eve');
    await trail();
    expect(await runPiped(api, { ...eve, password: 'not her password at all' }, 'select 1;')).toEqual({
      code: 1,
      out: '',
      err: refused,
    });
    await admin.query(
      "update identity.people set status = 'suspended' where id = (select max(id::text)::uuid from identity.people)",
    );
    expect(await runPiped(api, eve, 'select 1;')).toEqual({ code: 1, out: '', err: refused });
    expect((await runPiped(api, { ...eve, password: '' }, '')).err).toContain('no password');
    expect(await trail()).not.toContain('shell.start');
  });

  test('with another key of the application nothing can be done, and it says so', async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'safetypin-elsewhere-'));
    whenFileEnds(() => rmSync(elsewhere, { recursive: true, force: true }));
    shareSecrets(api, elsewhere);
    expect(await runPiped(api, ada, 'select 1;', [], { SAFETYPIN_DATA_DIR: elsewhere })).toEqual({
      code: 1,
      out: '',
      err: expect.stringMatching(
        /^safetypin: the application's key \(.*\) is not the one this database was made with\n$/,
      ),
    });
  });

  test('PG-52 two statements in one message, by a quote that the splitter reads otherwise, are refused', async () => {
    const trick = "select '\\''; commit; select current_user as who; --'";
    const off = 'set standard_conforming_strings = off';
    // Where a message may hold several, the last of them runs outside the request and is in no record of its own.
    const naive = await api.db.connect('authenticator');
    await naive.query(`begin; ${off}`);
    const answers = (await naive.query(trick)) as unknown as pg.QueryResult[];
    expect(answers.map(({ command }) => command)).toEqual(['SELECT', 'COMMIT', 'SELECT']);
    await naive.end();
    const said = await run(`begin;\n${off};\n${trick};\n`);
    expect(said.err).toContain('ERROR 42601: cannot insert multiple commands into a prepared statement');
    expect(said).toMatchObject({ code: 1, out: 'BEGIN\nSET\n' });
  });

  test('a credential that runs out is exchanged on the way', async () => {
    await admin.query("update platform.limits set value = 40 where name = 'session.access_seconds'");
    await trail();
    const said = await run('select 1 as one;\nselect 2 as two;\n');
    await admin.query("update platform.limits set value = 600 where name = 'session.access_seconds'");
    expect(said).toMatchObject({ code: 0, err: '' });
    expect((await trail()).filter((action) => action === 'token.refresh').length).toBeGreaterThan(1);
  });

  test('SIGTERM cancels what runs and ends the session', async () => {
    await trail();
    const shell = ShellProcess.piped(api, ['--email', ada.email]);
    shell.type(`${ada.password}\nselect 1 as one;\nselect pg_sleep(60);\n`);
    await shell.says(/1 row/);
    await until(async () => (await running('pg_sleep')) === 1);
    shell.child.kill('SIGTERM');
    expect(await shell.ended).toBe(1);
    expect((await trail()).slice(-2).sort()).toEqual(['session.end', 'shell.end']);
    expect(await running('pg_sleep')).toBe(0);
  });
});

/** Backends that run a statement now. */
async function running(text: string): Promise<number> {
  const { rows } = await admin.query(
    "select count(*)::int as n from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like $1 and datname = current_database()",
    [`%${text}%`],
  );
  return rows[0].n;
}

async function until(is: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 15_000; Date.now() < end; await sleep(20)) if (await is()) return;
  throw new Error('it did not come to that');
}

describe('at a terminal', () => {
  let shell: ShellProcess;

  beforeAll(async () => {
    shell = await ShellProcess.atTerminal(api, ada, home);
  });

  /** Kills the connection that statements run on; the ones that record are left. */
  const cut = async () => {
    await admin.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'safetypin-shell' and datname = current_database()`,
    );
    await until(async () => (await backends()) === 0);
    // And for the news of it.
    await sleep(100);
  };

  const backends = async (): Promise<number> =>
    (
      await admin.query(
        "select from pg_stat_activity where application_name = 'safetypin-shell' and datname = current_database()",
      )
    ).rows.length;

  test('PG-43 the password is not shown, and in no argument, no variable and no file', async () => {
    expect(shell.out).toContain(`Password of ${ada.email}: `);
    await shell.ask('select 1 as canary_of_the_shell;');
    for (const pid of [shell.child.pid ?? 0, ...descendants(shell.child.pid ?? 0)]) {
      for (const name of ['cmdline', 'environ']) {
        expect(readFileSync(`/proc/${pid}/${name}`, 'latin1')).not.toContain(ada.password);
      }
    }
    expect(shell.out).not.toContain(ada.password);
    const files = [home, api.config.dataDirectory].flatMap((folder) =>
      readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()),
    );
    expect(files.length).toBeGreaterThan(1);
    for (const { parentPath, name } of files) {
      const text = readFileSync(join(parentPath, name), 'latin1');
      expect(text).not.toContain(ada.password);
      expect(text).not.toContain('canary_of_the_shell');
    }
  });

  test('takes several lines, shows tables, columns, records, notices and help, and obeys nothing in a value', async () => {
    expect(await shell.ask('select 1', /-> $/)).toMatch(/-> $/);
    expect(await shell.ask('as a; select 2 as b;')).toMatch(/\n a\n---\n 1\n\(1 row\)\n b\n---\n 2\n/);
    expect(await shell.ask('\\dt')).toContain(' clinic   | patients');
    expect(await shell.ask('\\d clinic.patients')).toMatch(/ name +\| text \| not null \| +\| read write\n/);
    expect(await shell.ask("do $$ begin raise notice '%', E'hi\\x1b[2J'; end $$;")).toContain('NOTICE: hi\\x1b[2J\n');
    expect(await shell.ask('\\x')).toContain('expanded display is on');
    expect(await shell.ask("select E'\\x1b[2Jx' as a, 1 as bc;")).toContain(
      '-[ RECORD 1 ]-\na  | \\x1b[2Jx\nbc | 1\n(1 row)\n',
    );
    expect(await shell.ask('\\x')).toContain('off');
    expect(await shell.ask('\\?')).toContain('Every statement is recorded');
    expect(await shell.ask('\\watch')).toContain('there is no command \\watch');
    expect(await shell.ask('copy clinic.patients from stdin;')).toContain('refused: copy reads or writes a stream');
    const many = await shell.ask('select g from generate_series(1, 100000) g;');
    expect(many).toContain('\n 20\n(the first 20 of 100000 rows)\n');
    expect(many).not.toContain('21\n');
  });

  test('begin … commit is one request; a rollback takes back what it did and not that it was said', async () => {
    await trail();
    expect(await shell.ask('begin;')).toMatch(/BEGIN\n.*=\*> $/);
    await shell.ask("insert into clinic.patients (name) values ('Carol');");
    expect(await shell.ask('select 1/0;')).toMatch(/ERROR 22012: division by zero[\s\S]*=!> $/);
    expect(await shell.ask('select 1;')).toContain('ERROR 25P02');
    expect(await shell.ask('rollback;')).toMatch(/ROLLBACK\n.*=> $/);
    expect(await trail()).toEqual(Array(5).fill('shell.statement'));
    await shell.ask('begin;');
    await shell.ask("insert into clinic.patients (name) values ('Dora');");
    expect(await shell.ask('commit and chain;')).toContain('refused: and chain');
    expect(await shell.ask('commit;')).toMatch(/COMMIT\n.*=> $/);
    expect(await patients()).toContain('Dora');
    expect(await patients()).not.toContain('Carol');
  });

  test('PG-52 a statement that leaves its request is taken back, and leaves nothing behind', async () => {
    const left = 'refused: the statement left its request';
    for (const attack of [
      'reset role',
      'set role safetypin_anonymous',
      "select set_config('safetypin.context', '', true)",
    ]) {
      expect(await shell.ask(`${attack};`), attack).toContain(left);
    }
    expect(await shell.ask("select set_config('role', 'safetypin_owner', true);")).toContain('ERROR 42501');
    expect(await shell.ask("select set_config('safetypin.context', 'forged', false);")).toContain(left);
    await shell.ask('set search_path = clinic; select pg_advisory_lock(1);');
    expect(await shell.ask('show search_path;')).not.toContain('clinic');
    expect(
      await shell.ask("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid();"),
    ).toContain(' 0\n');
    await shell.ask('begin;');
    await shell.ask("insert into clinic.patients (name) values ('Eve');");
    expect(await shell.ask('reset role;')).toMatch(new RegExp(`${left}[\\s\\S]*=> $`));
    expect(await patients()).not.toContain('Eve');
    expect(await shell.ask('select current_user::text;')).toContain('safetypin_member');
  });

  test('what cannot be recorded is not run', async () => {
    const insert = "insert into clinic.patients (name) values ('Frank');";
    const door = 'execute on function api_steps.record_statement(text)';
    await admin.query(`revoke ${door} from safetypin_member`);
    expect(await shell.ask(insert)).toContain('ERROR 42501');
    await admin.query(`grant ${door} to safetypin_member`);
    expect(await patients()).not.toContain('Frank');
  });

  test('Ctrl-C cancels the statement, or what is being typed, and not the shell', async () => {
    await trail();
    const from = shell.out.length;
    shell.type('select pg_sleep(60);\r');
    await until(async () => (await running('pg_sleep')) === 1);
    expect(await trail()).toEqual(['shell.statement']);
    shell.type('\x03');
    const canceled = await shell.says(/ERROR 57014[\s\S]*=> $/, from);
    expect(canceled).toContain('canceling statement due to user request');
    expect(canceled).not.toContain('TIMEOUT');
    expect(await shell.ask('select (', /-> $/)).toMatch(/-> $/);
    const typed = shell.out.length;
    shell.type('half\x03');
    await shell.says(/=> $/, typed);
    expect(await shell.ask('select 3 as three;')).toContain('\n three\n-------\n     3\n');
  });

  test('a lost connection is said and replaced; a transaction goes with it', async () => {
    await shell.ask('select 1;');
    await cut();
    expect(await shell.ask('select 4 as four;')).toMatch(/the connection was lost \(.*\); connected again\n four\n/);
    await shell.ask('begin;');
    await shell.ask("insert into clinic.patients (name) values ('Gina');");
    await cut();
    expect(await shell.ask("insert into clinic.patients (name) values ('Hugo');")).toMatch(
      /refused: the connection was lost \(.*\), so the transaction is over: it was rolled back, and this was not run\.\n.*=> $/,
    );
    expect((await patients()).filter((name) => /Gina|Hugo/.test(name))).toEqual([]);
  });

  test('SS-05 a session that was revoked elsewhere runs nothing any more, in an open transaction too', async () => {
    const { data } = await api.gql(LOGIN, { i: { email: ada.email, password: ada.password } });
    const { rows } = await admin.query(
      "select session_id as id from audit.events where action = 'shell.start' order by occurred_at desc limit 1",
    );
    await shell.ask('begin;');
    await shell.ask("insert into clinic.patients (name) values ('Ivan');");
    const revoke = 'mutation($id: UUID!) { revokeSession(input: { sessionId: $id }) { outcome } }';
    const answer = await api.gql(revoke, { id: rows[0].id }, data.login.accessToken);
    expect(answer.data.revokeSession.outcome).toBe('ENDED');
    const from = shell.out.length;
    shell.type('commit;\r');
    expect(await shell.ended).toBe(1);
    expect(shell.out.slice(from)).toContain('The session has ended');
    expect(shell.out.slice(from)).toContain('the open transaction was rolled back');
    expect(await patients()).not.toContain('Ivan');
  });

  test('a request that takes too long is taken back and not answered with nothing; Ctrl-D ends the session', async () => {
    await admin.query("update platform.limits set value = 1 where name = 'request.seconds'");
    const quick = await ShellProcess.atTerminal(api, ada, home);
    expect(await quick.ask('select pg_sleep(1.1);')).toContain('refused: a request may last 1 s, and these are over');
    await quick.ask('begin;');
    await sleep(1500);
    expect(await quick.ask('select 1;')).toContain('refused: the connection was ended for waiting too long');
    await admin.query("update platform.limits set value = 30 where name = 'request.seconds'");
    await trail();
    quick.type('\x04');
    expect(await quick.ended).toBe(0);
    expect((await trail()).sort()).toEqual(['session.end', 'shell.end']);
  });

  test('a terminal that is closed ends what runs, and the session', async () => {
    const left = await ShellProcess.atTerminal(api, ada, home);
    await trail();
    left.type('select pg_sleep(60);\r');
    await until(async () => (await running('pg_sleep')) === 1);
    left.child.kill('SIGKILL');
    await until(async () => (await running('pg_sleep')) === 0);
    const actions: string[] = [];
    await until(async () => actions.push(...(await trail())) >= 3);
    expect(actions.sort()).toEqual(['session.end', 'shell.end', 'shell.statement']);
  });
});
