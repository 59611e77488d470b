// What DNS says about a domain, from a real server of this test's own: whatever it answers, only the right record proves.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { txtLookup } from '../../src/access/dns.ts';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { until, workerHere } from '../worker/workplace.ts';
import { type Answer, type DnsServer, startDnsServer } from './dns-server.ts';

let dns: DnsServer;

beforeAll(async () => {
  dns = await startDnsServer();
});
afterAll(() => dns.close());

const PROOF = `safetypin-verification=${'ab'.repeat(20)}`;
const signal = new AbortController().signal;
const ask = (name: string, servers = [dns.address]) => txtLookup({ dnsServers: servers })(name, signal);

describe('a lookup', () => {
  const cases: readonly [string, Answer, { answered: boolean; records: string[] }][] = [
    ['the record', { txt: [PROOF] }, { answered: true, records: [PROOF] }],
    ['beside others', { txt: ['v=spf1 -all', PROOF, ''] }, { answered: true, records: [PROOF] }],
    ['in two strings', { txt: [[PROOF.slice(0, 9), PROOF.slice(9)]] }, { answered: true, records: [PROOF] }],
    ['behind a CNAME', { cname: 'proofs.example.net', txt: [PROOF] }, { answered: true, records: [PROOF] }],
    ['no record of the kind', {}, { answered: true, records: [] }],
    ['no such name', { rcode: 3 }, { answered: true, records: [] }],
    [
      'what is no proof',
      { txt: ['safetypin-verification=\u0000\u00ff', `x${PROOF}`, `${PROOF} `] },
      { answered: true, records: [] },
    ],
    ['SERVFAIL', { rcode: 2 }, { answered: false, records: [] }],
    ['REFUSED', { rcode: 5 }, { answered: false, records: [] }],
    ['garbage', { instead: 'garbage' }, { answered: false, records: [] }],
  ];
  test.each(cases)('%s', async (name, answer, expected) => {
    const host = `${name.replace(/\W/g, '-').toLowerCase()}.example`;
    dns.answers.set(host, answer);
    expect(await ask(host)).toEqual(expected);
  });

  test('what does not fit into a packet is asked for over TCP, and of five hundred records no more than a hundred go on', async () => {
    const many = Array.from({ length: 500 }, (_, n) => `safetypin-verification=${n.toString(16).padStart(40, '0')}`);
    dns.answers.set('many.example', { txt: ['x'.repeat(255), ...many] });
    expect((await ask('many.example')).records).toHaveLength(100);
    expect(dns.asked).toContain('tcp many.example');
  });

  test('a server that is not there says nothing; the next one answers', async () => {
    dns.answers.set('second.example', { txt: [PROOF] });
    expect(await ask('second.example', ['127.0.0.1:1', dns.address])).toEqual({ answered: true, records: [PROOF] });
    expect(await ask('second.example', ['127.0.0.1:1'])).toEqual({ answered: false, records: [] });
  });

  test('one that keeps silent is left when the worker stops', async () => {
    dns.answers.set('silent.example', { instead: 'silence' });
    const stopping = new AbortController();
    const waiting = txtLookup({ dnsServers: [dns.address] })('silent.example', stopping.signal);
    await until('it was asked', () => dns.asked.includes('udp silent.example'));
    stopping.abort();
    expect(await waiting).toEqual({ answered: false, records: [] });
  });
});

describe('the worker', () => {
  let db: TestDatabase;
  let app: Application;
  let ada: Person;

  beforeAll(async () => {
    db = await cloneDatabase();
    app = await Application.beside(db);
    ada = await app.person('ada');
  });

  const domainOf = (id: string) =>
    app.call<{ status: string; last_answer: string | null }>(
      ada.credential,
      'select status, last_answer from access.domains where id = $1',
      [id],
    );

  test('asks when somebody wants it, and by the clock', async () => {
    const worker = await workerHere(app, { DNS_SERVERS: dns.address });
    const added = await app.call<{ id: string; challenge_name: string; challenge_value: string }>(
      ada.credential,
      'select * from api.add_domain($1)',
      ['Bücher.Example.'],
    );
    expect(added.challenge_name).toBe('_safetypin-challenge.xn--bcher-kva.example');
    expect(await app.call(ada.credential, 'select outcome::text from api.verify_domain($1)', [added.id])).toEqual({
      outcome: 'ASKED',
    });
    await until('it is not there', async () => (await domainOf(added.id)).last_answer === 'absent');
    expect((await domainOf(added.id)).status).toBe('pending');

    dns.answers.set(added.challenge_name, { txt: [['other'], [added.challenge_value]] });
    const admin = await db.connect('admin');
    await admin.query("update access.domains set next_check_at = now() - interval '1 second'");
    await admin.query("select graphile_worker.add_job('access__check_domains')");
    await until('it is proved', async () => (await domainOf(added.id)).status === 'verified');
    expect(worker.lines).toEqual([]);
    await worker.close();
  });
});
