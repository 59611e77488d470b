// The cipher in SQL and the one in TypeScript, held against each other on random input (CR-01, CR-02, PG-73).
import { randomBytes, randomInt } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { decrypt, encrypt, pad, unpad } from '../../src/keyring/cipher.ts';
import { refusal } from '../support/actors.ts';
import { cloneDatabase } from '../support/database.ts';

const scale = loadConfig().testScale;
/** Pieces that go into one query. */
const AT_ONCE = 250;
let keeper: pg.Client;

beforeAll(async () => {
  keeper = await (await cloneDatabase()).connect('admin');
  await keeper.query('set role safetypin_keeper');
});

const often = (count: number): number[] => Array.from({ length: Math.ceil(count) }, (_, i) => i);
/** Groups of a size that one query takes. */
const groups = <T>(all: readonly T[]): T[][] =>
  often(all.length / AT_ONCE).map((i) => all.slice(i * AT_ONCE, (i + 1) * AT_ONCE));
/** One column of answers, for arrays of arguments. */
async function inSql<T>(expression: string, ...columns: (Buffer | number)[][]): Promise<T[]> {
  const names = columns.map((_, i) => String.fromCharCode(97 + i));
  const types = columns.map((column, i) => `$${i + 1}::${typeof column[0] === 'number' ? 'int' : 'bytea'}[]`);
  const { rows } = await keeper.query(
    `select ${expression} as said from unnest(${types}) with ordinality as t(${names}, at) order by at`,
    columns,
  );
  return rows.map(({ said }) => said);
}

describe('A256CBC-HS512', () => {
  it('CR-01: what SQL seals TypeScript opens, and the other way round, and both seal alike', async () => {
    // Every size up to three blocks, and then any up to 5,000 bytes.
    const all = often(Math.max(200, 5000 * scale)).map((i) => ({
      key: randomBytes(64),
      iv: randomBytes(16),
      plaintext: randomBytes(i < 50 ? i : randomInt(5001)),
      aad: randomBytes(i < 50 ? 50 - i : randomInt(301)),
    }));
    for (const group of groups(all)) {
      const args = [group.map(({ key }) => key), group.map(({ iv }) => iv), group.map(({ plaintext }) => plaintext)];
      const aads = group.map(({ aad }) => aad);
      const sealed = await inSql<[string, string]>(
        '(select jsonb_build_array(e.ciphertext, e.tag) from keyring_private.a256cbc_hs512_encrypt(a, b, c, d) e)',
        ...args,
        aads,
      );
      const ours = group.map(({ key, iv, plaintext, aad }) => encrypt(key, iv, plaintext, aad));
      const hex = (value: Buffer) => `\\x${value.toString('hex')}`;
      expect(sealed).toEqual(ours.map(({ ciphertext, tag }) => [hex(ciphertext), hex(tag)]));
      const opened = await inSql<Buffer>(
        'keyring_private.a256cbc_hs512_decrypt(a, b, c, d, e)',
        group.map(({ key }) => key),
        group.map(({ iv }) => iv),
        ours.map(({ ciphertext }) => ciphertext),
        ours.map(({ tag }) => tag),
        aads,
      );
      expect(Buffer.concat(opened).equals(Buffer.concat(group.map(({ plaintext }) => plaintext)))).toBe(true);
      for (const [i, { key, iv, plaintext, aad }] of group.entries()) {
        const [ciphertext, tag] = (sealed[i] ?? []).map((text) => Buffer.from(text.slice(2), 'hex'));
        expect(decrypt(key, iv, ciphertext as Buffer, tag as Buffer, aad).equals(plaintext)).toBe(true);
      }
    }
  });
});

describe('padding to buckets', () => {
  it('PG-73: is the same in SQL and in TypeScript, up and down', async () => {
    const sizes = [...often(260), 508, 509, 1020, 1021, 4092 - 4, 4092 - 3, 65_532 - 4, 65_532 - 3, 1_000_000];
    const values = sizes.map((size) => randomBytes(size));
    const padded = await inSql<Buffer>('keyring_private.pad(a)', values);
    expect(padded.map((value) => value.length)).toEqual(values.map((value) => pad(value).length));
    for (const [i, value] of values.entries()) {
      expect(pad(value).equals(padded[i] as Buffer)).toBe(true);
      expect(unpad(padded[i] as Buffer).equals(value)).toBe(true);
    }
    const back = await inSql<Buffer>('keyring_private.unpad(a)', padded);
    expect(back.every((value, i) => value.equals(values[i] as Buffer))).toBe(true);
  });

  it('PG-73: what is short looks alike: yes and no, a PIN, an SSN, a birthday, a telephone number', async () => {
    const short = ['', 'true', 'false', '0', '1234', '078-05-1120', '1970-02-28', '+49 30 901820 44', 'x'.repeat(24)];
    const sealed = await inSql<number>('length(keyring_private.pad(a))', short.map(Buffer.from));
    expect(new Set([...sealed, ...short.map((text) => pad(Buffer.from(text)).length)])).toEqual(new Set([28]));
    expect(pad(Buffer.alloc(25)).length).toBe(60);
  });

  it('one way to pad: what pad() did not make is refused with the error of the cipher, by both', async () => {
    const good = pad(Buffer.from('078-05-1120'));
    const withLength = (length: number, size = 28) => {
      const padded = Buffer.alloc(size);
      padded.writeInt32BE(length);
      return padded;
    };
    const bad = [
      Buffer.alloc(0),
      Buffer.alloc(3),
      Buffer.alloc(27),
      Buffer.alloc(29),
      Buffer.alloc(32),
      ...[-1, 25, 28, 2 ** 31 - 1, -(2 ** 31)].map((length) => withLength(length)),
      // A bucket too large, and one too small.
      ...[0, 24, 57].map((length) => withLength(length, 60)),
      Buffer.concat([good, Buffer.alloc(4)]),
      ...often(13).map((i) => Buffer.concat([good.subarray(0, 15 + i), Buffer.from([1]), good.subarray(16 + i)])),
      ...often(2000 * scale).map(() => randomBytes(28)),
    ];
    const said = new Set<string>();
    for (const value of bad) {
      said.add(await refusal(Promise.resolve().then(() => unpad(value))));
      said.add(
        await keeper.query('select keyring_private.unpad($1)', [value]).then(
          () => `opened ${value.toString('hex')}`,
          (error) => `${error.code} ${error.message}`,
        ),
      );
    }
    expect([...said].sort()).toEqual(['KEYBD', 'KEYBD the value cannot be opened']);
  });
});
