import { beforeAll, describe, expect, test, vi } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { type Api, type Json, startApi } from './api.ts';

// A host schema whose functions fail in every way; its names and values are what must never be seen outside.
const HOST = `
  create schema probe;
  grant usage on schema probe to safetypin_anonymous, safetypin_member;
  create table probe.secretstash (id int primary key, canaryname text constraint canaryconstraint unique);
  insert into probe.secretstash values (1, 'canaryvalue');
  create function probe.fail(state text) returns text language plpgsql volatile as $$
  begin
    raise exception 'canarymessage' using errcode = state, detail = 'Key (canaryname)=(canaryvalue)', hint = 'canaryhint',
      constraint = 'canaryconstraint', table = 'secretstash', column = 'canaryname', schema = 'probe';
  end $$;
  create function probe.duplicate() returns text language sql volatile security definer as
    $$ insert into probe.secretstash values (2, 'canaryvalue') returning 'x' $$;
  create function probe.forbidden() returns text language sql volatile as
    $$ update probe.secretstash set id = 3 returning 'x' $$;
  create function probe.crash() returns int language sql stable as $$ select 1 / (random() * 0)::int $$;
  create function probe.cast_it(word text) returns int language sql stable as $$ select word::int $$;
  grant execute on all functions in schema probe to safetypin_anonymous, safetypin_member;
`;

let api: Api;
let logged: string[];
beforeAll(async () => {
  api = await startApi({ host: HOST, environment: { SAFETYPIN_SCHEMAS: 'probe' } });
});

async function listen<Result>(work: () => Promise<Result>): Promise<Result> {
  logged = [];
  const spy = vi.spyOn(process.stderr, 'write').mockImplementation((chunk) => logged.push(String(chunk)) > 0);
  const spied = (['log', 'warn', 'error', 'info', 'dir'] as const).map((name) =>
    vi.spyOn(console, name).mockImplementation((...parts: unknown[]) => void logged.push(parts.map(String).join(' '))),
  );
  try {
    return await work();
  } finally {
    for (const one of [spy, ...spied]) one.mockRestore();
  }
}

const LEAKS =
  /canary|secretstash|probe\.|select |insert |violates|constraint|division|pg_|syntax|relation|routine|severity/i;

const fail = (state: string) =>
  listen(() => api.gql('mutation($s: String!) { fail(input: { state: $s }) { result } }', { s: state }));

describe('an error of the register shows its code and sentence and nothing else', () => {
  test.each([
    ['23505', 'CONFLICT'],
    ['22023', 'BAD_INPUT'],
    ['DENYD', 'FORBIDDEN'],
    ['NTFND', 'NOT_FOUND'],
    ['AUTHN', 'UNAUTHENTICATED'],
    ['40001', 'TRY_AGAIN'],
    ['57014', 'TIMEOUT'],
  ])('SQLSTATE %s becomes %s', async (state, code) => {
    const { errors, text, data } = await fail(state);
    expect(data).toEqual({ fail: null });
    expect(errors?.[0]?.extensions).toEqual({ code, requestId: expect.stringMatching(/^[0-9a-f-]{36}$/) });
    expect(errors?.[0]?.path).toEqual(['fail']);
    expect(text).not.toMatch(LEAKS);
    expect(logged).toEqual([]);
  });

  test('a real duplicate key names neither constraint nor value (23505)', async () => {
    const { errors, text } = await listen(() => api.gql('mutation { duplicate(input: {}) { result } }'));
    expect(errors?.[0]?.extensions.code).toBe('CONFLICT');
    expect(text).not.toMatch(LEAKS);
  });

  test('a missing privilege is FORBIDDEN to a member and a request to sign in to anybody else (42501)', async () => {
    const { accessToken } = await api.member('Ruth');
    const asMember = await api.gql('mutation { forbidden(input: {}) { result } }', {}, accessToken);
    expect(asMember.errors?.[0]?.extensions.code).toBe('FORBIDDEN');
    expect(asMember.text).not.toMatch(LEAKS);
    const asNobody = await api.gql('mutation { forbidden(input: {}) { result } }');
    expect(asNobody.errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
    expect(asNobody.text).not.toMatch(LEAKS);
  });

  test('a value of the wrong form is BAD_INPUT and is not repeated (22P02)', async () => {
    const { errors, text } = await listen(() =>
      api.gql('query($w: String!) { castIt(word: $w) }', { w: 'canaryvalue' }),
    );
    expect(errors?.[0]?.extensions.code).toBe('BAD_INPUT');
    expect(text).not.toMatch(LEAKS);
  });
});

describe('an unknown error', () => {
  test('becomes INTERNAL with an id, one redacted line on stderr and one event (AU-10)', async () => {
    const { errors, text, headers } = await fail('XX999');
    const requestId = errors?.[0]?.extensions.requestId;
    expect(errors?.[0]?.extensions.code).toBe('INTERNAL');
    expect(headers.get('x-request-id')).toBe(requestId);
    expect(text).not.toMatch(LEAKS);
    expect(logged).toHaveLength(1);
    expect(logged[0]).not.toMatch(LEAKS);
    expect(JSON.parse(logged[0] ?? '')).toMatchObject({
      event: 'fault',
      requestId,
      sqlstate: 'XX999',
      where: 'graphql:fail',
    });
    const admin = await api.db.connect('admin');
    const found = async () =>
      (
        await admin.query(
          "select details::text from audit.events where action = 'request.fault' and details ->> 'request' = $1",
          [requestId],
        )
      ).rows;
    await vi.waitFor(async () => expect(await found()).toHaveLength(1));
    expect((await found())[0].details).not.toMatch(LEAKS);
    await admin.end();
  });

  test('of arithmetic inside a query is INTERNAL as well', async () => {
    const { errors, text } = await listen(() => api.gql('{ crash }'));
    expect(errors?.[0]?.extensions.code).toBe('INTERNAL');
    expect(text).not.toMatch(LEAKS);
  });

  test('in a flood fills neither the log nor the pool (GQ-14)', async () => {
    const count = 10_000 * loadConfig().testScale;
    let answered = 0;
    const flood = async (): Promise<void> => {
      while (answered < count) {
        answered += 1;
        const { errors } = await api.gql('mutation { fail(input: { state: "XX998" }) { result } }');
        expect(errors?.[0]?.extensions.code).toBe('INTERNAL');
      }
    };
    const began = performance.now();
    await listen(() => Promise.all(Array.from({ length: 20 }, flood)));
    const seconds = Math.ceil((performance.now() - began) / 1000) + 1;
    const lines = logged.join('').trim().split('\n');
    // 20 lines a second, however many faults there are.
    expect(lines.length).toBeLessThanOrEqual(20 * seconds);
    for (const line of lines) expect(JSON.parse(line)).toMatchObject({ level: expect.any(String) });
    expect(await (await api.send('/readyz')).json()).toEqual({ status: 'ok' });
  }, 60_000);

  test('is told to whoever caused it and to nobody beside him', async () => {
    const one = async (i: number) => {
      const name = `canary${i}x`;
      const { errors, text, headers } = await api.gql(`query { ${name}: castIt(word: "${name}value") }`);
      expect(errors).toEqual([
        {
          message: expect.any(String),
          path: [name],
          locations: expect.any(Array),
          extensions: { code: 'BAD_INPUT', requestId: headers.get('x-request-id') },
        },
      ]);
      expect(text.replaceAll(name, '')).not.toMatch(/canary/);
      return headers.get('x-request-id');
    };
    const ids = await Promise.all(Array.from({ length: 100 }, (_, i) => one(i)));
    expect(new Set(ids).size).toBe(100);
  });

  test('writes no line of its own into the log, whatever the names in the document are (GQ-14)', async () => {
    const operationName = 'x\n{"level":"error","event":"forged"}';
    await listen(async () => {
      const response = await api.send('/graphql', {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'user-agent': 'x {"event":"forged"}' },
        body: JSON.stringify({ query: 'mutation { fail(input: { state: "XX997" }) { result } }', operationName }),
      });
      expect((await response.json()) as Json).toMatchObject({ errors: [{ extensions: { code: 'BAD_INPUT' } }] });
      await api.gql('mutation forged { forged: fail(input: { state: "XX997" }) { result } }');
    });
    const lines = logged.join('').trim().split('\n').filter(Boolean);
    for (const line of lines) expect(JSON.parse(line).event).not.toBe('forged');
  });
});

describe('input that is no input', () => {
  test.each([
    ['NUL in a string', { email: 'a\u0000b@example.com', password: 'x\u0000y' }],
    ['half a surrogate pair', { email: '\ud800@example.com', password: '\udfff' }],
    ['SQL for a name', { email: "x' or 1=1 --", password: "'; reset role; --" }],
    ['an empty string', { email: '', password: '' }],
  ])('%s is refused as a sign-in like any other', async (_what, i) => {
    const { data, errors, text } = await listen(() =>
      api.gql('mutation($i: LoginInput!) { login(input: $i) { outcome } }', { i }),
    );
    expect(errors).toBeUndefined();
    expect(data.login.outcome).toBe('REFUSED');
    expect(text).not.toMatch(LEAKS);
    expect(logged).toEqual([]);
  });

  test('registration names what is wrong', async () => {
    const query = 'mutation($i: RegisterInput!) { register(input: $i) { outcome reasons } }';
    const good = {
      email: 'fine@example.com',
      password: 'a fine long sentence',
      displayName: 'F',
      organizationName: 'O',
    };
    const reasons = async (change: object) =>
      (await api.gql(query, { i: { ...good, ...change } })).data.register.reasons;
    expect(await reasons({ email: 'a\u0000@example.com' })).toEqual(['EMAIL_INVALID']);
    expect(await reasons({ displayName: '\ud800' })).toEqual(['DISPLAY_NAME_INVALID']);
    expect(await reasons({ organizationName: '' })).toEqual(['ORGANIZATION_NAME_INVALID']);
    expect(await reasons({ password: '\ud800'.repeat(20) })).toContain('PASSWORD_INVALID');
    expect(await reasons({ password: 'short one' })).toEqual(['PASSWORD_TOO_SHORT']);
    expect(await reasons({ password: 'x y '.repeat(257) })).toContain('PASSWORD_TOO_LONG');
    expect(await reasons({ password: 'passwordpassword' })).toEqual(['PASSWORD_COMMON']);
    expect(await reasons({ password: 'Very Long Name 123', displayName: 'very long name' })).toEqual([
      'PASSWORD_CONTEXT',
    ]);
    expect(await reasons({ password: 'SafetyPin12345678' })).toEqual(['PASSWORD_CONTEXT']);
  });

  test('a password is never repeated in an error about the input around it', async () => {
    const query = 'mutation($i: LoginInput!) { login(input: $i) { outcome } }';
    for (const i of [
      { email: 5, password: 'canarysecret' },
      { password: 'canarysecret' },
      { email: 'x', password: ['canarysecret'] },
      'canarysecret',
    ]) {
      const { errors, text } = await api.gql(query, { i });
      expect(errors?.[0]?.extensions.code).toBe('BAD_INPUT');
      expect(text).not.toContain('canarysecret');
    }
  });

  test('NUL that reaches PostGraphile is BAD_INPUT, not a fault', async () => {
    const { errors } = await listen(() =>
      api.gql('mutation { requestPasswordReset(input: { email: "a\\u0000b" }) { outcome } }'),
    );
    expect(errors?.[0]?.extensions.code).toBe('BAD_INPUT');
    expect(logged).toEqual([]);
  });
});
