import { beforeAll, describe, expect, test } from 'vitest';
import { LIMITS } from '../../src/graphql/limits.ts';
import { type Api, type GraphQLAnswer, type Member, startApi } from './api.ts';

let api: Api;
let ada: Member;
beforeAll(async () => {
  api = await startApi();
  ada = await api.member('Ada');
});

const codeOf = ({ errors }: GraphQLAnswer): unknown => errors?.[0]?.extensions.code;
const repeat = (count: number, part: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => part(i)).join(' ');

describe('documents that are bombs are refused whole, at once (AZ-08, AZ-11)', () => {
  const deep = (levels: number): string => (levels === 0 ? '{ __typename }' : `{ query ${deep(levels - 1)} }`);
  const doubling = repeat(30, (i) => `fragment f${i} on Query { ...f${i + 1} ...f${i + 1} }`);
  test.each([
    ['nesting', deep(LIMITS.depth + 1)],
    ['10,000 fields', `{ ${'__typename '.repeat(3500)} }`],
    ['aliases', `{ ${repeat(LIMITS.aliases + 1, (i) => `a${i}: __typename`)} }`],
    ['1,000 directives', `{ __typename ${'@include(if: true) '.repeat(600)} }`],
    ['directives spread over fields', `{ ${repeat(60, () => '__typename @include(if: true)')} }`],
    ['fragments that double', `{ ...f0 } ${doubling} fragment f30 on Query { __typename }`],
    ['operations', repeat(LIMITS.operations + 1, (i) => `query q${i} { __typename }`)],
    ['tokens', `{ ${'a '.repeat(LIMITS.tokens)} }`],
    [
      '60 guesses under 60 names (LG-03)',
      `mutation { ${repeat(60, (i) => `a${i}: login(input: {email: "x@example.com", password: "${i}"}) { outcome }`)} }`,
    ],
    ['11 mutations without a name', `mutation { ${repeat(11, () => 'logout(input: {}) { outcome }')} }`],
  ])('%s', async (_name, query) => {
    const began = performance.now();
    const answer = await api.gql(query);
    expect(codeOf(answer)).toBe('LIMIT_EXCEEDED');
    expect(answer.data).toBeUndefined();
    expect(performance.now() - began).toBeLessThan(500);
  });

  test('fragments in a circle', async () => {
    const answer = await api.gql('{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }');
    expect(codeOf(answer)).toBe('BAD_INPUT');
  });

  test('a body of a megabyte, and one of 100,001 bytes', async () => {
    for (const size of [100_001, 1_000_000]) {
      const response = await api.send('/graphql', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ query: `{ __typename } #${'x'.repeat(size)}` }),
      });
      expect(response.status).toBe(413);
      expect(await response.json()).toMatchObject({ errors: [{ extensions: { code: 'LIMIT_EXCEEDED' } }] });
    }
  });

  test('a refused batch of guesses counts nothing: the account is not locked by it', async () => {
    const guesses = repeat(
      60,
      (i) => `a${i}: login(input: {email: "${ada.email}", password: "guess ${i}"}) { outcome }`,
    );
    expect(codeOf(await api.gql(`mutation { ${guesses} }`))).toBe('LIMIT_EXCEEDED');
    const { data } = await api.gql('mutation($i: LoginInput!) { login(input: $i) { outcome } }', {
      i: { email: ada.email, password: ada.password },
    });
    expect(data.login.outcome).toBe('SIGNED_IN');
  });

  test('ten guesses in one request count as ten', async () => {
    const { email, password } = await api.member('Victim');
    const guesses = repeat(
      10,
      (i) => `a${i}: login(input: {email: "${email}", password: "guess ${i}"}) { outcome retryAfter }`,
    );
    const { data } = await api.gql(`mutation { ${guesses} }`);
    expect(
      Object.values(data).filter((one) => (one as { retryAfter: number | null }).retryAfter !== null),
    ).toHaveLength(5);
    const after = await api.gql('mutation($i: LoginInput!) { login(input: $i) { outcome } }', {
      i: { email, password },
    });
    expect(after.data.login.outcome).toBe('REFUSED');
  });
});

describe('pages', () => {
  const LIST =
    'query($first: Int, $last: Int, $offset: Int) { auditEvents(first: $first, last: $last, offset: $offset) { nodes { id } pageInfo { hasNextPage } } }';

  test.each([
    ['first as a variable', { first: 2_147_483_647 }],
    ['last as a variable', { last: 101 }],
    ['an offset', { offset: 10_001 }],
  ])('%s over the limit is refused', async (_name, variables) => {
    expect(codeOf(await api.gql(LIST, variables, ada.accessToken))).toBe('LIMIT_EXCEEDED');
  });

  test('written into the document, or as the default of a variable, as well', async () => {
    expect(codeOf(await api.gql('{ auditEvents(first: 2147483647) { nodes { id } } }', {}, ada.accessToken))).toBe(
      'LIMIT_EXCEEDED',
    );
    expect(
      codeOf(await api.gql('query($n: Int = 5000) { auditEvents(first: $n) { nodes { id } } }', {}, ada.accessToken)),
    ).toBe('LIMIT_EXCEEDED');
    expect(
      codeOf(
        await api.gql('{ ...f } fragment f on Query { auditEvents(last: 101) { nodes { id } } }', {}, ada.accessToken),
      ),
    ).toBe('LIMIT_EXCEEDED');
  });

  test('inside pages are counted together', async () => {
    const query =
      '{ roles(first: 100) { nodes { rolePermissions(first: 100) { nodes { role { rolePermissions(first: 100) { nodes { permission } } } } } } } }';
    expect(codeOf(await api.gql(query, {}, ada.accessToken))).toBe('LIMIT_EXCEEDED');
  });

  test('have a hundred rows when nobody says how many, and say that there are more', async () => {
    const admin = await api.db.connect('admin');
    const organization = (await api.gql('{ currentOrganization { id } }', {}, ada.accessToken)).data.currentOrganization
      .id;
    await admin.query(
      "insert into access.roles (organization_id, name) select $1, 'role ' || i from generate_series(1, 150) i",
      [organization],
    );
    await admin.end();
    const query =
      'query($first: Int, $last: Int) { roles(first: $first, last: $last) { nodes { id } pageInfo { hasNextPage hasPreviousPage } } }';
    const sizes = async (variables: object) => {
      const { nodes, pageInfo } = (await api.gql(query, variables, ada.accessToken)).data.roles;
      return [nodes.length, pageInfo.hasNextPage, pageInfo.hasPreviousPage];
    };
    expect(await sizes({})).toEqual([100, true, false]);
    expect(await sizes({ first: null })).toEqual([100, true, false]);
    expect(await sizes({ first: 3 })).toEqual([3, true, false]);
    expect(await sizes({ last: 3 })).toEqual([3, false, true]);
    const plain = await api.gql('{ roles { nodes { id } } }', {}, ada.accessToken);
    expect(plain.data.roles.nodes).toHaveLength(100);
    const literal = await api.gql('{ roles(first: 7) { nodes { id } } }', {}, ada.accessToken);
    expect(literal.data.roles.nodes).toHaveLength(7);
    const backwards = await api.gql('{ roles(last: 7) { nodes { id } } }', {}, ada.accessToken);
    expect(backwards.data.roles.nodes).toHaveLength(7);
  });
});

test('an ordinary document with fragments, aliases and variables runs', async () => {
  const query =
    'query Me($n: Int!) { me: currentUser { ...who } auditEvents(first: $n) { nodes { id action } } } fragment who on Profile { id email }';
  const { data, errors } = await api.gql(query, { n: 5 }, ada.accessToken);
  expect(errors).toBeUndefined();
  expect(data.me.email).toBe(ada.email.toLowerCase());
});
