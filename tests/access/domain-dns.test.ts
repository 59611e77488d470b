// What DNS says about a domain, from a real server of this test's own: whatever it answers, only the right record proves.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { txtLookup } from '../../src/access/dns.ts';
import { REGISTER, startApi, tokenOf, VERIFY } from '../api/api.ts';
import { until } from '../worker/workplace.ts';
import { type Answer, type DnsServer, startDnsServer } from './dns-server.ts';

let dns: DnsServer;

beforeAll(async () => {
  dns = await startDnsServer();
});
afterAll(() => dns.close());

const PROOF = `safetypin-verification=${'ab'.repeat(32)}`;
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
    const many = Array.from({ length: 500 }, (_, n) => `safetypin-verification=${n.toString(16).padStart(64, '0')}`);
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

describe('over HTTP, with the worker', () => {
  test('a domain is added, proved by its record, and lets its people in', async () => {
    const api = await startApi({ environment: { DNS_SERVERS: dns.address } });
    const ada = (await api.member('ada')).accessToken;
    const ask = async (query: string, input: object, as = ada) =>
      (
        await api.gql(
          `mutation($i: ${query[0]?.toUpperCase()}${query.slice(1).split('(')[0]}Input!) { ${query} }`,
          { i: input },
          as,
        )
      ).data;
    const { addDomain } = await ask('addDomain(input: $i) { outcome reasons id challengeName challengeValue }', {
      domain: 'Bücher.Example.',
    });
    expect(addDomain).toMatchObject({
      outcome: 'CREATED',
      reasons: [],
      challengeName: '_safetypin-challenge.xn--bcher-kva.example',
      challengeValue: expect.stringMatching(/^safetypin-verification=[0-9a-f]{64}$/),
    });
    const { id } = addDomain;
    const verify = () => ask('verifyDomain(input: $i) { outcome reasons }', { id });
    const domain = async () =>
      (await api.gql('{ domains { nodes { domain status lastAnswer } } }', {}, ada)).data.domains.nodes[0];
    expect((await verify()).verifyDomain).toEqual({ outcome: 'ASKED', reasons: [] });
    expect((await verify()).verifyDomain).toEqual({ outcome: 'REFUSED', reasons: ['TOO_SOON'] });
    await until('DNS was asked', async () => (await domain()).lastAnswer !== null);
    expect((await domain()).status).toBe('pending');

    dns.answers.set(addDomain.challengeName, { txt: ['other', addDomain.challengeValue] });
    const admin = await api.db.connect('admin');
    await until('it is proved', async () => {
      // By the clock, as often as it takes: a busy machine may leave a question without its answer.
      await admin.query("update access.domains set next_check_at = now() where status = 'pending'");
      await admin.query("select graphile_worker.add_job('access__check_domains', job_key => 'access__check_domains')");
      return (await domain()).status === 'verified';
    });
    expect(
      (await ask('changeSetting(input: $i) { outcome reasons }', { name: 'domain.join_role', value: 'viewer' }))
        .changeSetting,
    ).toEqual({ outcome: 'CHANGED', reasons: [] });
    const [email, password] = ['bob@bücher.example', 'a long sentence only bob knows'];
    await api.gql(REGISTER, { i: { email, password, displayName: 'Bob' } });
    await api.gql(VERIFY, { i: { token: tokenOf(await api.mail(email)) } });
    const { nodes } = (await api.gql('{ memberships { nodes { displayName } } }', {}, ada)).data.memberships;
    expect(nodes).toEqual([{ displayName: 'ada' }, { displayName: 'Bob' }]);
    expect((await ask('removeDomain(input: $i) { outcome reasons }', { id })).removeDomain).toEqual({
      outcome: 'REMOVED',
      reasons: [],
    });
  });
});
