// Domains: who owns one, until when, and who never does (AZ-05, PG-34).
import type pg from 'pg';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { type Added, DomainJobs, NOTE } from './domain-jobs.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let jobs: DomainJobs;
let ada: Person;
let bob: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  jobs = new DomainJobs(db, admin);
  [ada, bob] = [await app.person('ada'), await app.person('bob')];
});

beforeEach(async () => {
  await admin.query('delete from access.domains');
  await admin.query('delete from graphile_worker._private_jobs');
});

const add = (who: Person, domain: string) =>
  app.call<Added>(who.credential, 'select * from api.add_domain($1)', [domain]);

const note = (who: Person, id: string, records: string[] | null) => jobs.note(who, id, records);

async function stateOf(id: string) {
  const { rows } = await admin.query<{
    status: string;
    last_answer: string;
    failures: number;
    next_check_at: Date;
    owned: boolean;
  }>(
    `select status, last_answer, failures, next_check_at,
        exists (select from access_private.domain_owners o where o.domain_id = d.id) as owned
       from access.domains d where id = $1`,
    [id],
  );
  return rows[0];
}

const events = async (id: string) =>
  (
    await admin.query<{ action: string }>('select action from audit.events where row_id = $1 order by id', [id])
  ).rows.map(({ action }) => action);

const later = (id: string, interval: string) =>
  admin.query(
    'update access_private.domain_owners set proved_until = proved_until - $2::interval, holds_until = holds_until - $2::interval where domain_id = $1',
    [id, interval],
  );

describe('adding', () => {
  it('takes a domain as people write it, and no other text', async () => {
    expect(await add(ada, ' WWW.Exämple.COM. ')).toMatchObject({
      outcome: 'CREATED',
      challenge_name: '_safetypin-challenge.www.xn--exmple-cua.com',
    });
    const wrong = [
      '',
      '.',
      'com',
      'localhost',
      '10.0.0.1',
      '[::1]',
      'a..com',
      '-a.com',
      'a-.com',
      'a_b.com',
      '*.example.com',
      'https://example.com',
      'a@example.com',
      'example.com:53',
      'example.com..',
      'ex ample.com',
      'example。com',
      'exam\u200bple.com',
      'example.com\u0007',
      `${'a'.repeat(64)}.com`,
      `${'a.'.repeat(130)}com`,
      'x'.repeat(5000),
      "example.com'; drop table access.domains; --",
    ];
    for (const text of wrong) expect((await add(ada, text)).reasons, text).toEqual(['DOMAIN_INVALID']);
    expect((await add(ada, null as never)).reasons).toEqual(['DOMAIN_INVALID']);
    // A look-alike is another domain.
    expect((await add(ada, 'www.exämple.cоm')).outcome).toBe('CREATED');
    expect((await add(ada, 'www.exämple.com')).reasons).toEqual(['DOMAIN_EXISTS']);
    expect((await add(ada, 'www.xn--exmple-cua.com')).reasons).toEqual(['DOMAIN_EXISTS']);
  });

  it('refuses domains where anybody has an address, and those that operators add', async () => {
    for (const shared of ['gmail.com', 'GMAIL.com.', 'yahoo.co.uk', 'qq.com']) {
      expect((await add(ada, shared)).reasons, shared).toEqual(['DOMAIN_SHARED']);
    }
    expect((await add(ada, 'mail.town.example')).outcome).toBe('CREATED');
    const owner = await db.connect('owner');
    await owner.query("select access.share_domain('Mail.Village.Example.')");
    expect((await add(ada, 'mail.village.example')).reasons).toEqual(['DOMAIN_SHARED']);
  });

  it('says the same about a domain that is somebody else’s, and resets no other', async () => {
    const first = await add(ada, 'first.example');
    expect(await note(ada, first.id, [first.challenge_value])).toBe('proved');
    const before = await stateOf(first.id);
    await add(ada, 'second.example');
    expect(await stateOf(first.id)).toEqual(before);
    expect(await add(bob, 'first.example')).toMatchObject({ outcome: 'CREATED', reasons: [] });
    expect(await app.rows(bob.credential, 'select domain, status from access.domains')).toEqual([
      { domain: 'first.example', status: 'pending' },
    ]);
  });

  it('ends at the limit, also when many are added at once', async () => {
    await admin.query("update platform.limits set value = 3 where name = 'domain.per_organization'");
    const done = await Promise.all(Array.from({ length: 6 }, (_, n) => add(ada, `at-once-${n}.example`)));
    await admin.query("update platform.limits set value = 100 where name = 'domain.per_organization'");
    expect(done.map(({ outcome }) => outcome).sort()).toEqual([
      'CREATED',
      'CREATED',
      'CREATED',
      'REFUSED',
      'REFUSED',
      'REFUSED',
    ]);
  });

  it('gives Punycode as Node does', async () => {
    const signs = [...'abcxyz019äöüßñçøåéжщыпя日本語中文字한글ώλक𐍈'];
    const labels = Array.from({ length: 300 }, (_, n) =>
      Array.from({ length: 1 + (n % 14) }, (_, i) => signs[(n * 7 + i * (1 + (n % 5))) % signs.length]).join(''),
    );
    const { domainToASCII } = await import('node:url');
    const known = labels.filter((label) => domainToASCII(`${label}.example`) !== '');
    expect(known.length).toBeGreaterThan(250);
    const { rows } = await admin.query<{ ascii: string }>(
      'select access_private.ascii_domain(l || $2) as ascii from unnest($1::text[]) with ordinality as u (l, n) order by n',
      [known, '.example'],
    );
    expect(rows.map(({ ascii }) => ascii)).toEqual(known.map((label) => domainToASCII(`${label}.example`)));
  });
});

describe('a proof', () => {
  it('is the record of this organization and this domain, letter by letter', async () => {
    const mine = await add(ada, 'example.com');
    const other = await add(ada, 'other.example');
    const foreign = await add(bob, 'example.com');
    for (const records of [
      [],
      [foreign.challenge_value],
      [other.challenge_value],
      [mine.challenge_value.toUpperCase()],
      [''],
    ]) {
      expect(await note(ada, mine.id, records)).toBe('absent');
    }
    expect(await note(ada, mine.id, ['v=spf1', foreign.challenge_value, mine.challenge_value])).toBe('proved');
    expect(await stateOf(mine.id)).toMatchObject({ status: 'verified', owned: true, failures: 0 });
    expect(await stateOf(other.id)).toMatchObject({ status: 'pending', owned: false });
    expect(await stateOf(foreign.id)).toMatchObject({ status: 'pending', owned: false });
    // Neither what is under it nor above.
    const below = await add(bob, 'mail.example.com');
    expect(await note(bob, below.id, [below.challenge_value])).toBe('proved');
    expect(await events(mine.id)).toEqual(['domain.add', 'domain.verify']);
  });

  it('of two organizations at the same moment: one has it', async () => {
    for (let round = 0; round < 5; round += 1) {
      const [one, two] = [await add(ada, `race-${round}.example`), await add(bob, `race-${round}.example`)];
      const noted = await Promise.all([
        note(ada, one.id, [one.challenge_value]),
        note(bob, two.id, [two.challenge_value]),
      ]);
      expect(noted.sort()).toEqual(['proved', 'taken']);
    }
  });

  it('that stands is not taken away; that has lapsed is, by whoever proves it first', async () => {
    const [mine, theirs] = [await add(ada, 'contest.example'), await add(bob, 'contest.example')];
    await note(ada, mine.id, [mine.challenge_value]);
    expect(await note(bob, theirs.id, [theirs.challenge_value])).toBe('taken');
    expect(await stateOf(theirs.id)).toMatchObject({ status: 'pending', owned: false });
    // The one who has it is asked at once, and renews.
    expect((await stateOf(mine.id))?.next_check_at.getTime()).toBeLessThan(Date.now() + 1000);
    await later(mine.id, '31 days');
    expect(await note(ada, mine.id, [mine.challenge_value])).toBe('proved');
    expect(await note(bob, theirs.id, [theirs.challenge_value])).toBe('taken');
    await later(mine.id, '31 days');
    expect(await note(bob, theirs.id, [theirs.challenge_value])).toBe('proved');
    expect(await stateOf(mine.id)).toMatchObject({ status: 'lost', owned: false });
    expect(await note(ada, mine.id, [mine.challenge_value])).toBe('taken');
    expect(await events(mine.id)).toEqual(['domain.add', 'domain.verify', 'domain.lose', 'domain.refuse']);
    expect((await admin.query('select count(*)::int as n from access_private.domain_owners')).rows).toEqual([{ n: 1 }]);
  });

  it('ends when the record is gone: the next who proves it has it, and nobody else for seven days', async () => {
    const [mine, theirs] = [await add(ada, 'sold.example'), await add(bob, 'sold.example')];
    await note(ada, mine.id, [mine.challenge_value]);
    expect(await note(ada, mine.id, [])).toBe('absent');
    expect(await stateOf(mine.id)).toMatchObject({ status: 'verified', owned: true, failures: 1 });
    expect(await note(bob, theirs.id, [theirs.challenge_value])).toBe('proved');
    expect(await stateOf(mine.id)).toMatchObject({ status: 'lost', owned: false });
  });

  it('that fails for seven days is lost; no answer counts for nothing, but not for ever', async () => {
    const mine = await add(ada, 'grace.example');
    await note(ada, mine.id, [mine.challenge_value]);
    await note(ada, mine.id, null);
    expect(await stateOf(mine.id)).toMatchObject({ status: 'verified', failures: 0 });
    await note(ada, mine.id, []);
    await later(mine.id, '6 days');
    await note(ada, mine.id, []);
    expect(await stateOf(mine.id)).toMatchObject({ status: 'verified', failures: 2 });
    await later(mine.id, '1 day 1 minute');
    await note(ada, mine.id, []);
    expect(await stateOf(mine.id)).toMatchObject({ status: 'lost', owned: false });
    expect(await events(mine.id)).toEqual(['domain.add', 'domain.verify', 'domain.fail', 'domain.lose']);
    await note(ada, mine.id, [mine.challenge_value]);
    expect(await stateOf(mine.id)).toMatchObject({ status: 'verified', owned: true });
    await later(mine.id, '36 days');
    await note(ada, mine.id, null);
    expect(await stateOf(mine.id)).toMatchObject({ status: 'verified' });
    await later(mine.id, '2 days');
    await note(ada, mine.id, null);
    expect(await stateOf(mine.id)).toMatchObject({ status: 'lost' });
  });

  it('of a domain that operators named shared since counts for nothing', async () => {
    const mine = await add(ada, 'became.shared.example');
    await admin.query("insert into access.shared_domains values ('became.shared.example')");
    expect(await note(ada, mine.id, [mine.challenge_value])).toBe('taken');
    expect(await stateOf(mine.id)).toMatchObject({ status: 'pending', owned: false });
  });

  it('is noted by nobody but the jobs for it, and one that was asked for looks at its own domain alone', async () => {
    const [mine, theirs] = [await add(ada, 'asked.example'), await add(bob, 'asked.example')];
    expect(
      await refusal(app.rows(ada.credential, NOTE, [ada.organization, mine.id, true, [mine.challenge_value]])),
    ).toBe('42501');
    const ask = (id: string) =>
      app.call<{ outcome: string; reasons: string[] }>(ada.credential, 'select * from api.verify_domain($1)', [id]);
    expect(await ask(theirs.id)).toEqual({ outcome: 'REFUSED', reasons: ['NOT_FOUND'] });
    expect(await ask(mine.id)).toEqual({ outcome: 'ASKED', reasons: [] });
    expect(await ask(mine.id)).toEqual({ outcome: 'REFUSED', reasons: ['TOO_SOON'] });
    const attack = () =>
      jobs.as('access__check_domain', (client) =>
        client.query(NOTE, [bob.organization, theirs.id, true, [theirs.challenge_value]]),
      );
    expect(await refusal(attack())).toBe('DENYD');
    await withoutGuard(
      db,
      'access_private.check_domain_task(uuid)',
      "request.job_value('id') = check_domain_task.id",
      'true',
      async () => {
        expect(await refusal(attack())).toBe('no refusal');
      },
    );
    const due = await jobs.as('access__check_domain', (client) =>
      client.query('select id from access.due_domains(100)'),
    );
    expect(due.rows).toEqual([{ id: mine.id }]);
  });
});

describe('what is due', () => {
  it('is taken once, of organizations that live, and comes again if nobody said what DNS answered', async () => {
    const eve = await app.person('eve');
    const [mine, theirs] = [await add(ada, 'due.example'), await add(eve, 'due.example')];
    const due = () =>
      jobs.as('access__check_domains', async (client) =>
        (await client.query<{ id: string }>('select id from access.due_domains(10)')).rows.map(({ id }) => id).sort(),
      );
    expect(await due()).toEqual([mine.id, theirs.id].sort());
    expect(await due()).toEqual([]);
    await admin.query("update access.domains set next_check_at = next_check_at - interval '10 minutes'");
    await admin.query("update access.organizations set status = 'suspended' where id = $1", [eve.organization]);
    expect(await due()).toEqual([mine.id]);
  });

  it('is asked seldom for a proof that does not come, and then not any more', async () => {
    const mine = await add(ada, 'squatted.example');
    const minutes = async () =>
      Math.round((((await stateOf(mine.id))?.next_check_at.getTime() ?? 0) - Date.now()) / 60_000);
    await note(ada, mine.id, []);
    expect(await minutes()).toBe(10);
    await note(ada, mine.id, []);
    expect(await minutes()).toBe(20);
    await note(ada, mine.id, null);
    expect(await minutes()).toBe(60);
    await admin.query("update access.domains set created_at = created_at - interval '15 days' where id = $1", [
      mine.id,
    ]);
    await note(ada, mine.id, []);
    const { rows } = await admin.query('select next_check_at is null as never from access.domains where id = $1', [
      mine.id,
    ]);
    expect(rows).toEqual([{ never: true }]);
  });
});

describe('removing', () => {
  it('frees the domain, also while its proof is being noted, and removes nobody else’s', async () => {
    const [mine, theirs] = [await add(ada, 'removed.example'), await add(bob, 'removed.example')];
    await note(ada, mine.id, [mine.challenge_value]);
    const remove = (who: Person, id: string) =>
      app.call<{ outcome: string; reasons: string[] }>(who.credential, 'select * from api.remove_domain($1)', [id]);
    expect(await remove(bob, mine.id)).toEqual({ outcome: 'REFUSED', reasons: ['NOT_FOUND'] });
    const [removed, noted] = await Promise.all([remove(ada, mine.id), note(bob, theirs.id, [theirs.challenge_value])]);
    expect(removed.outcome).toBe('REMOVED');
    expect(['proved', 'taken']).toContain(noted);
    expect(await note(bob, theirs.id, [theirs.challenge_value])).toBe('proved');
    expect(await note(ada, mine.id, [mine.challenge_value])).toBe(null);
  });
});
