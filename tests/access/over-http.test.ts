// An invitation from the mail to the list of members, over HTTP, with the real worker.
import { beforeAll, expect, it } from 'vitest';
import { type Api, LOGIN, REGISTER, startApi, tokenOf, VERIFY } from '../api/api.ts';

let api: Api;
let ada: string;

const ACCEPT =
  'mutation($i: AcceptInvitationInput!) { acceptInvitation(input: $i) { outcome reasons organizationId } }';
const SWITCH = 'mutation($i: SwitchOrganizationInput!) { switchOrganization(input: $i) { outcome accessToken } }';

beforeAll(async () => {
  api = await startApi();
  ada = (await api.member('ada')).accessToken;
});

async function invite(email: string, role = 'member', as = ada) {
  const query = 'mutation($i: InviteMemberInput!) { inviteMember(input: $i) { outcome reasons id } }';
  return (await api.gql(query, { i: { email, role } }, as)).data.inviteMember;
}

it('somebody new registers without an organization, accepts, and is seen among the members', async () => {
  const [email, password] = ['bob@example.com', 'a long sentence only bob knows'];
  expect(await invite(email)).toMatchObject({ outcome: 'CREATED', reasons: [] });
  const mail = await api.mail(email);
  const token = tokenOf(mail);
  expect(mail).toMatchObject({ subject: 'You are invited', code: null });
  expect(mail.links[0]).toMatch(/\/api\/auth\/accept-invitation\/[\w-]{43}$/);
  for (const method of ['GET', 'HEAD']) {
    const page = await api.send(`/api/auth/accept-invitation/${token}`, { method });
    expect([page.status, page.headers.get('content-security-policy')]).toEqual([
      200,
      expect.stringContaining("default-src 'none'"),
    ]);
    expect(await page.text()).not.toContain('<script');
  }

  await api.gql(REGISTER, { i: { email, password, displayName: 'Bob' } });
  await api.gql(VERIFY, { i: { token: tokenOf(await api.mail(email, ({ code }) => code !== null)) } });
  const { accessToken } = (await api.gql(LOGIN, { i: { email, password } })).data.login;
  expect((await api.gql('{ currentOrganization { id } }', {}, accessToken)).data).toEqual({
    currentOrganization: null,
  });
  const accepted = (await api.gql(ACCEPT, { i: { token } }, accessToken)).data.acceptInvitation;
  expect(accepted).toMatchObject({ outcome: 'ACCEPTED', reasons: [] });
  const switched = await api.gql(SWITCH, { i: { organizationId: accepted.organizationId } }, accessToken);
  const bob = switched.data.switchOrganization.accessToken;

  const list =
    '{ memberships { nodes { id displayName email } } invitations { nodes { email status role { name } } } }';
  const seen = (await api.gql(list, {}, ada)).data;
  expect(seen.memberships.nodes).toMatchObject([{ displayName: 'ada' }, { displayName: 'Bob', email }]);
  expect(seen.invitations.nodes).toEqual([{ email, status: 'accepted', role: { name: 'member' } }]);
  const his = (await api.gql(list, {}, bob)).data;
  expect(his.memberships.nodes).toMatchObject([
    { displayName: 'ada', email: null },
    { displayName: 'Bob', email },
  ]);
  expect(his.invitations.nodes).toEqual([]);
  expect(await invite('carl@example.com', 'member', bob)).toEqual({
    outcome: 'REFUSED',
    reasons: ['NOT_PERMITTED'],
    id: null,
  });

  const leave = 'mutation { leaveOrganization(input: {}) { outcome reasons } }';
  expect((await api.gql(leave, {}, bob)).data).toEqual({ leaveOrganization: { outcome: 'REMOVED', reasons: [] } });
  expect((await api.gql(list, {}, bob)).errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
});

it('a row is there also where nothing but a time without end is asked for', async () => {
  await invite('dora@example.com');
  const query = `{ currentOrganization { closesAt } membershipRoles { nodes { validUntil } } memberships { nodes { membershipRoles { nodes { validFrom } } } }
    invitations { nodes { roleValidUntil } } }`;
  const { data } = await api.gql(query, {}, ada);
  expect(data.currentOrganization).toEqual({ closesAt: null });
  expect(data.membershipRoles.nodes).toEqual([{ validUntil: null }]);
  expect(data.memberships.nodes).toEqual([{ membershipRoles: { nodes: [{ validFrom: null }] } }]);
  for (const node of data.invitations.nodes) expect(node).toEqual({ roleValidUntil: null });
});

it('with an account of another address it takes the code that the invited one gets', async () => {
  const eve = await api.member('eve');
  const email = 'eve.at.work@example.com';
  await invite(email, 'viewer');
  const token = tokenOf(await api.mail(email));
  const accept = async (code?: string) =>
    (await api.gql(ACCEPT, { i: { token, code } }, eve.accessToken)).data.acceptInvitation;
  expect(await accept()).toMatchObject({ outcome: 'REFUSED', reasons: ['CODE_NEEDED'] });
  const ask = 'mutation($i: RequestInvitationCodeInput!) { requestInvitationCode(input: $i) { outcome } }';
  const asked = await api.gql(ask, { i: { token } }, eve.accessToken);
  expect(asked.data).toEqual({ requestInvitationCode: { outcome: 'SENT' } });
  const { code, links } = await api.mail(email, (mail) => mail.code !== null);
  expect(links).toEqual([]);
  expect(await accept(code === '000000' ? '000001' : '000000')).toMatchObject({
    outcome: 'REFUSED',
    reasons: ['CODE_WRONG'],
  });
  expect(await accept(String(code))).toMatchObject({ outcome: 'ACCEPTED' });
  expect((await api.gql(ACCEPT, { i: { token: 'x' } })).errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
});
