// What is typed into a registration, and what the application says about a password (PW-01, PW-06, PW-07, PW-08, PW-19).
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, GOOD, refusal } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { guess } from './guesses.ts';
import { mailTo, someAddress, tokenOf, verify } from './mailbox.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
});

interface Asked {
  email?: string | null;
  name?: string | null;
  organization?: string | null;
  facts?: unknown;
}

const fields = ({ email = someAddress(), name = 'Ada', organization = null, facts = GOOD }: Asked) => [
  email,
  name,
  organization,
  facts === null ? null : typeof facts === 'string' ? facts : JSON.stringify(facts),
];

/** Both steps say the same: the second is reached without the first by whoever has the login of the application. */
async function reasons(asked: Asked): Promise<string[]> {
  const prepared = await app.call<{ outcome: string | null; reasons: string[] }>(
    null,
    'select * from api_steps.prepare_registration($1, $2, $3, $4)',
    fields(asked),
  );
  const done = await app.call<{ outcome: string; reasons: string[] }>(
    null,
    'select * from api_steps.register($1, $2, $3, $4, $5, $6, $7, $8)',
    [
      ...fields(asked),
      'argon2id',
      { memory: 19456, passes: 2, parallelism: 1, length: 32 },
      randomBytes(16),
      randomBytes(32),
    ],
  );
  expect(done).toEqual({ outcome: prepared.outcome ?? 'VERIFICATION_SENT', reasons: prepared.reasons });
  return prepared.reasons;
}

describe('an address', () => {
  const refused: [string, string | null][] = [
    ['nothing', ''],
    ['null', null],
    ['no sign', 'ada.example.com'],
    ['two signs', 'ada@b@example.com'],
    ['no name', '@example.com'],
    ['no domain', 'ada@'],
    ['no top', 'ada@example'],
    ['a short top', 'ada@example.c'],
    ['two dots', 'a..b@example.com'],
    ['a dot first', '.ada@example.com'],
    ['a dot last', 'ada.@example.com'],
    ['a dot behind the sign', 'ada@.example.com'],
    ['a dot at the end', 'ada@example.com.'],
    ['a hyphen first', 'ada@-example.com'],
    ['two lines', 'ada@example.com\r\nBcc: eve@example.com'],
    ['a line feed', 'ada\n@example.com'],
    ['a tab', 'a\tda@example.com'],
    ['a space', 'a da@example.com'],
    ['a list', 'ada@example.com,eve@example.com'],
    ['a second after a semicolon', 'ada@example.com;eve@example.com'],
    ['a name around it', 'Ada <ada@example.com>'],
    ['quotes', '"ada"@example.com'],
    ['a comment', 'ada(x)@example.com'],
    ['a route', '@a.example:ada@example.com'],
    ['an address of numbers', 'ada@[192.0.2.1]'],
    ['a backslash', 'ada\\@example.com'],
    ['delete', 'ada\u007f@example.com'],
    ['next line', 'ada\u0085@example.com'],
    ['a space that does not break', 'ada\u00a0@example.com'],
    ['an invisible sign', 'ada\u200b@example.com'],
    ['a line separator', 'ada@example\u2028.com'],
    ['a turn of direction', 'ada\u202emoc@example.com'],
    ['a sign that becomes a semicolon', 'ada\u037eeve@example.com'],
    ['a wide space', 'ada\u3000@example.com'],
    ['a byte order mark', '\ufeffada@example.com'],
    ['65 signs before the sign', `${'a'.repeat(65)}@example.com`],
    ['255 bytes', `ada@${'a'.repeat(247)}.com`],
    ['255 bytes in fewer signs', `ada@${'ä'.repeat(130)}.com`],
    ['a megabyte', `${'a'.repeat(1_000_000)}@example.com`],
  ];
  it.each(refused)('with %s is refused', async (_what, email) => {
    expect(await reasons({ email })).toEqual(['EMAIL_INVALID']);
  });

  it.each([
    ['ada.lovelace+news@example.com'],
    ['ada@exämple.com'],
    ['ада@пример.рф'],
    ['ada@xn--exmple-cua.com'],
    ["o'neil@example.co.uk"],
    [`${'a'.repeat(64)}@example.com`],
  ])('%s is good', async (email) => {
    expect(await reasons({ email })).toEqual([]);
  });

  it('is the same however it is typed: case, spaces around it, composed or not', async () => {
    const word = `zoë${randomBytes(4).toString('hex')}`;
    const tag = await app.register(`${word}@example.com`, 'Zoë', null);
    const mail = await mailTo(app, `${word}@example.com`);
    expect(await verify(app, tokenOf(mail))).toBe('VERIFIED');
    for (const typed of [
      `  ${word}@Example.COM `,
      `Z${word.slice(1)}@example.com`,
      `${word}@example.com`.normalize('NFD'),
    ]) {
      expect(await guess(app, typed, tag), typed).toBe('SIGNED_IN');
    }
    for (const other of [`${word.replace('ë', 'e')}@example.com`, `${word}@example.org`, `${word}+x@example.com`]) {
      expect(await guess(app, other, tag), other).toBe('REFUSED');
    }
  });

  it('is written to where it was read: no folding makes another mailbox of it, whatever language the server or the caller speaks', async () => {
    const asTyped = async (collation: string) =>
      (
        await admin.query(
          `select identity_private.normalize_email('INFO\u0130@EXAMPLE.COM' collate ${collation}) as address`,
        )
      ).rows[0].address;
    expect(await asTyped('"C"')).toBe('info\u0130@example.com');
    const { rows } = await admin.query(
      "select quote_ident(collname) as name from pg_collation where collname in ('C', 'POSIX', 'ucs_basic', 'pg_c_utf8', 'unicode', 'tr-x-icu', 'und-x-icu', 'default')",
    );
    for (const { name } of rows) expect(await asTyped(name), name).toBe('info\u0130@example.com');
  });

  it("that is none is nobody's at sign-in, and is not the address that its spelling begins with", async () => {
    const ada = await app.person('ada');
    for (const email of [`${ada.email}\n`, `${ada.email}\u0001`, `malformed ${ada.email}`, `${ada.email},x`]) {
      expect(await guess(app, email, ada.tag)).toBe('REFUSED');
    }
  });
});

describe('a name', () => {
  it.each([
    ['nothing', ''],
    ['null', null],
    ['spaces', '   '],
    ['two lines', 'Ada\nLovelace'],
    ['a bell', 'Ada\u0007'],
    ['delete', 'Ada\u007f'],
    ['next line', 'Ada\u0085'],
    ['a line separator', 'Ada\u2028'],
    ['a turn of direction', 'Ada \u202egnp.exe'],
    ['201 signs', 'a'.repeat(201)],
    ['a megabyte', 'a'.repeat(1_000_000)],
  ])('with %s is refused', async (_what, name) => {
    expect(await reasons({ name })).toEqual(['DISPLAY_NAME_INVALID']);
    if (name !== null && !/[\u0080-\uffff]/.test(name))
      expect(await reasons({ organization: name })).toEqual(['ORGANIZATION_NAME_INVALID']);
  });

  it('of 200 signs in any script is good', async () => {
    for (const name of ['a'.repeat(200), '𝒜'.repeat(200), "Ng\u0169g\u0129 wa Thiong'o", 'محمد', '👩\u200d🚀'])
      expect(await reasons({ name })).toEqual([]);
  });
});

describe('facts about a password', () => {
  it.each<[string, unknown, string[]]>([
    ['14 signs', { ...GOOD, characters: 14 }, ['PASSWORD_TOO_SHORT']],
    ['1025 bytes', { ...GOOD, characters: 1000, bytes: 1025 }, ['PASSWORD_TOO_LONG']],
    ['a common one', { ...GOOD, common: true }, ['PASSWORD_COMMON']],
    ['a name from around it', { ...GOOD, context: true }, ['PASSWORD_CONTEXT']],
    [
      'an endless number of signs',
      '{"characters": 1e300, "bytes": 1e300, "common": false, "context": false}',
      ['PASSWORD_TOO_LONG'],
    ],
    [
      'all of it',
      { characters: 3, bytes: 3, common: true, context: true },
      ['PASSWORD_TOO_SHORT', 'PASSWORD_COMMON', 'PASSWORD_CONTEXT'],
    ],
    ['15 signs', { ...GOOD, characters: 15, bytes: 15 }, []],
    ['64 signs of four bytes', { ...GOOD, characters: 64, bytes: 256 }, []],
  ])('of %s', async (_what, facts, expected) => {
    expect(await reasons({ facts })).toEqual(expected);
  });

  it.each<[string, unknown]>([
    ['are none', null],
    ['are null', 'null'],
    ['are a list', '[]'],
    ['are a word', '"good"'],
    ['say nothing', '{}'],
    ['lack the signs', { bytes: 30, common: false, context: false }],
    ['lack the bytes', { characters: 30, common: false, context: false }],
    ['have null for signs', { ...GOOD, characters: null }],
    ['have a word for signs', { ...GOOD, characters: 'thirty' }],
    ['have a number in quotes', { ...GOOD, characters: '30' }],
    ['have NaN in quotes', { ...GOOD, characters: 'NaN', bytes: 'NaN' }],
    ['have infinity in quotes', { ...GOOD, characters: 'Infinity' }],
    ['have fewer bytes than signs', { ...GOOD, characters: 30, bytes: 29 }],
    ['have more than four bytes a sign', { ...GOOD, characters: 16, bytes: 65 }],
    ['have negative bytes', { ...GOOD, bytes: -1 }],
    ['have negative signs', { ...GOOD, characters: -30 }],
    ['have parts of signs', { ...GOOD, characters: 29.5 }],
    ['have lists for numbers', { ...GOOD, characters: [30] }],
  ])('that %s are refused', async (_what, facts) => {
    expect(await reasons({ facts })).toContain('PASSWORD_INVALID');
  });

  it.each<[string, unknown, string]>([
    ['leave out whether it is common', { characters: 30, bytes: 30, context: false }, 'PASSWORD_COMMON'],
    ['leave out its context', { characters: 30, bytes: 30, common: false }, 'PASSWORD_CONTEXT'],
    ['say null', { ...GOOD, common: null }, 'PASSWORD_COMMON'],
    ['say no in words', { ...GOOD, common: 'no' }, 'PASSWORD_COMMON'],
    ['say maybe', { ...GOOD, context: 'maybe' }, 'PASSWORD_CONTEXT'],
    ['say zero', { ...GOOD, context: 0 }, 'PASSWORD_CONTEXT'],
  ])('that %s are refused', async (_what, facts, reason) => {
    expect(await reasons({ facts })).toEqual([reason]);
  });

  it('do not help a tag that was made more cheaply than asked, or is none', async () => {
    const cost = { memory: 19456, passes: 2, parallelism: 1, length: 32 };
    const register = (scheme: unknown, parameters: unknown, salt: unknown, tag: unknown) =>
      refusal(
        app.call(null, 'select * from api_steps.register($1, $2, $3, $4, $5, $6, $7, $8)', [
          ...fields({}),
          scheme,
          parameters,
          salt,
          tag,
        ]),
      );
    const [salt, tag] = [randomBytes(16), randomBytes(32)];
    expect(await register('argon2id', cost, salt, tag)).toBe('no refusal');
    for (const [scheme, parameters, s, t] of [
      ['argon2i', cost, salt, tag],
      ['plain', cost, salt, tag],
      [null, cost, salt, tag],
      ['argon2id', { ...cost, memory: 8 }, salt, tag],
      ['argon2id', { ...cost, passes: 1 }, salt, tag],
      ['argon2id', {}, salt, tag],
      ['argon2id', null, salt, tag],
      ['argon2id', { ...cost, more: 1 }, salt, tag],
      ['argon2id', cost, salt.subarray(1), tag],
      ['argon2id', cost, null, tag],
      ['argon2id', cost, salt, tag.subarray(1)],
      ['argon2id', cost, salt, Buffer.alloc(0)],
      ['argon2id', cost, salt, null],
    ] as const)
      expect(await register(scheme, parameters, s, t)).toBe('22023');
  });

  it('each reason is given, of several fields at once', async () => {
    expect(await reasons({ email: 'x', name: '', organization: ' ', facts: { ...GOOD, common: true } })).toEqual([
      'EMAIL_INVALID',
      'DISPLAY_NAME_INVALID',
      'ORGANIZATION_NAME_INVALID',
      'PASSWORD_COMMON',
    ]);
  });
});
