import { describe, expect, test } from 'vitest';
import { createPasswordHasher } from '../../src/identity/password.ts';
import { commonPasswords, passwordFacts } from '../../src/identity/password-facts.ts';
import { refusal } from '../support/actors.ts';

const recipe = {
  scheme: 'argon2id',
  parameters: { memory: 19456, passes: 2, parallelism: 1, length: 32 },
  salt: Buffer.alloc(16, 7),
};

describe('facts', () => {
  test('count code points, not units or bytes (PW-02)', async () => {
    expect(await passwordFacts('🔑'.repeat(64), [])).toEqual({
      characters: 64,
      bytes: 256,
      common: true,
      context: false,
    });
    expect(await passwordFacts('naïve Ünïcödé phrase', [])).toMatchObject({ characters: 20, common: false });
    expect(await passwordFacts('e\u0301', [])).toMatchObject({ characters: 2 });
  });

  test('take nothing away: spaces at the ends count (PW-05)', async () => {
    expect(await passwordFacts('  x  ', [])).toMatchObject({ characters: 5, bytes: 5 });
  });

  test('half a surrogate pair is no number of characters', async () => {
    expect(await passwordFacts('\ud800 and the rest of it', [])).toMatchObject({ characters: null });
  });

  test('more than 3000 passwords that are long enough are common (PW-06)', async () => {
    const long = [];
    for (const word of await commonPasswords()) {
      const repeated = word.repeat(Math.ceil(15 / word.length));
      if (repeated.length >= 15) long.push(repeated);
      if (long.length === 3000) break;
    }
    for (const password of long) expect((await passwordFacts(password, [])).common, password).toBe(true);
  });

  test.each([
    'password',
    'PASSWORD',
    'PassWordPassWord',
    'qwertyqwertyqwerty',
    '123456789012345',
    'aaaaaaaaaaaaaaaaaaaa',
    'ababababababababab',
    'iloveyouiloveyou',
  ])('%s is common', async (password) => {
    expect((await passwordFacts(password, [])).common).toBe(true);
  });

  // The whole string is compared, so a phrase that holds a common password passes (PW-03, PW-07).
  test.each([
    'my password is longer than that',
    'aaaa bbbb cccc ddd',
    'correct horse battery staple',
    'passwordless future ahead',
  ])('%s is not common', async (password) => {
    expect((await passwordFacts(password, [])).common).toBe(false);
  });

  test.each([
    ['Grace.Hopper1906', ['grace.hopper@navy.example']],
    ['grace.hopper@navy.example', ['grace.hopper@navy.example']],
    ['AdmiralGraceHopper99', ['Admiral Grace Hopper']],
    ['admiral grace hopper', ['Admiral Grace Hopper']],
    ['NavyNavyNavyNavy', ['Navy']],
    ['SafetyPin2026', []],
  ])('%s is a name from its surroundings (PW-08)', async (password, words) => {
    expect((await passwordFacts(password, words)).context).toBe(true);
  });

  test('a name within a phrase is not', async () => {
    expect((await passwordFacts('Navy blue is not my colour', ['Navy'])).context).toBe(false);
    expect((await passwordFacts('anything at all', ['', '   '])).context).toBe(false);
  });

  test('a huge password costs nothing', async () => {
    const began = performance.now();
    expect(await passwordFacts('ab'.repeat(5_000_000), [])).toMatchObject({ bytes: 10_000_000 });
    expect(performance.now() - began).toBeLessThan(500);
  });
});

describe('hashing', () => {
  test('agrees with the vector of the reference implementation', async () => {
    const hasher = createPasswordHasher();
    const vector = {
      scheme: 'argon2id',
      parameters: { memory: 65536, passes: 2, parallelism: 1, length: 32 },
      salt: Buffer.from('somesalt'),
    };
    expect((await hasher.hash('password', vector)).toString('hex')).toBe(
      '09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7',
    );
  });

  test('every byte counts: NUL, spaces, normalisation, position 73, 100 and 1000 (PW-04, PW-05)', async () => {
    const hasher = createPasswordHasher();
    const base = 'x'.repeat(1010);
    const at = (i: number) => `${base.slice(0, i)}y${base.slice(i + 1)}`;
    const all = [base, at(73), at(100), at(1000), `${base} `, 'a\0b', 'a\0c', 'a', 'é', 'e\u0301', 'É'];
    const tags = await Promise.all(all.map(async (password) => (await hasher.hash(password, recipe)).toString('hex')));
    expect(new Set(tags).size).toBe(all.length);
    expect(hasher.computed).toBe(all.length);
  });

  test.each([
    ['memory', { memory: 2 ** 32 + 1 }],
    ['memory below Argon2', { memory: 1 }],
    ['passes', { passes: 2 ** 32 + 1 }],
    ['no passes', { passes: 0 }],
    ['lanes', { parallelism: 256 }],
    ['length', { length: 4 }],
    ['a fraction', { passes: 1.5 }],
    ['text', { memory: '19456' }],
    ['nothing', { memory: undefined }],
  ])('absurd parameters are refused before any memory is taken: %s (PW-17)', async (_name, change) => {
    const hasher = createPasswordHasher();
    await expect(hasher.hash('x', { ...recipe, parameters: { ...recipe.parameters, ...change } })).rejects.toThrow();
  });

  test('an unknown scheme is refused', async () => {
    await expect(createPasswordHasher().hash('x', { ...recipe, scheme: 'md5' })).rejects.toThrow();
  });

  test('a password of ten megabytes is refused before hashing (PW-19)', async () => {
    const hasher = createPasswordHasher();
    expect(await refusal(hasher.hash('x'.repeat(10_000_000), recipe))).toBe('22021');
    expect(hasher.computed).toBe(0);
  });

  test('so many wait for their turn, and whoever comes after is told to try again', async () => {
    const hasher = createPasswordHasher({ atOnce: 1, waiting: 2 });
    const outcomes = await Promise.all(Array.from({ length: 5 }, () => refusal(hasher.hash('x', recipe))));
    expect(outcomes.sort()).toEqual(['53300', '53300', 'no refusal', 'no refusal', 'no refusal']);
    expect(await refusal(hasher.hash('x', recipe))).toBe('no refusal');
  });

  test('a failure gives its turn back', async () => {
    const hasher = createPasswordHasher({ atOnce: 1, waiting: 0 });
    await hasher.hash('x', { ...recipe, scheme: 'md5' }).catch(() => {});
    expect(await refusal(hasher.hash('x', recipe))).toBe('no refusal');
  });
});
