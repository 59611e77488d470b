// An organization over GraphQL, as README shows it: settings, plan, name, closing.
import { expect, test } from 'vitest';
import { startApi } from '../api/api.ts';

test('a founder sets, looks, renames, closes and reopens', async () => {
  const api = await startApi({});
  const { accessToken } = await api.member('ada');
  const ask = async (text: string) => (await api.gql(text, {}, accessToken)).data;

  const set = (value: string) =>
    ask(
      `mutation { changeSetting(input: { name: "session.absolute_seconds", value: ${value} }) { outcome reasons value allowed } }`,
    );
  expect(await set('28800')).toEqual({
    changeSetting: { outcome: 'CHANGED', reasons: [], value: 28_800, allowed: null },
  });
  expect(await set('10')).toEqual({
    changeSetting: {
      outcome: 'REFUSED',
      reasons: ['VALUE_INVALID'],
      value: null,
      allowed: 'a whole number from 300 to 2592000',
    },
  });
  const listed = await ask(
    '{ organizationSettings { nodes { name value defaultValue minimum maximum isDefault canChange } } }',
  );
  expect(listed.organizationSettings.nodes).toContainEqual({
    name: 'session.absolute_seconds',
    value: 28_800,
    defaultValue: 2_592_000,
    minimum: 300,
    maximum: 2_592_000,
    isDefault: false,
    canChange: true,
  });
  expect((await ask('{ planUsage { nodes { what used most } } }')).planUsage.nodes).toContainEqual({
    what: 'members',
    used: 1,
    most: 10_000,
  });

  const rename = 'mutation { renameOrganization(input: { name: "Ada & Co", version: 1 }) { outcome reasons version } }';
  expect(await ask(rename)).toEqual({ renameOrganization: { outcome: 'CHANGED', reasons: [], version: 2 } });
  expect((await api.gql(rename, {}, accessToken)).errors?.[0]?.extensions.code).toBe('STALE_VERSION');

  const closed = await ask('mutation { closeOrganization(input: {}) { outcome reasons closesAt } }');
  expect(closed.closeOrganization).toMatchObject({ outcome: 'CHANGED', reasons: [] });
  const shown = (await ask('{ currentOrganization { name slug plan closesAt } }')).currentOrganization;
  expect(shown).toEqual({
    name: 'Ada & Co',
    slug: expect.stringMatching(/^ada-and-friends-[a-z2-7]{6}$/),
    plan: 'default',
    closesAt: closed.closeOrganization.closesAt,
  });
  expect(await ask('mutation { reopenOrganization(input: {}) { outcome reasons closesAt } }')).toEqual({
    reopenOrganization: { outcome: 'CHANGED', reasons: [], closesAt: null },
  });
});
