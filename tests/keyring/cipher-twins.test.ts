// The cipher in SQL and the one in TypeScript, held against each other on random input (CR-01, CR-02, CR-04, PG-73).
import { createCipheriv, createHmac, randomBytes, randomInt } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { decrypt, encrypt, pad, unpad } from '../../src/keyring/cipher.ts';
import { refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

const scale = loadConfig().testScale;
/** Pieces that go into one query. */
const AT_ONCE = 250;
let db: TestDatabase;
let keeper: pg.Client;

beforeAll(async () => {
  db = await cloneDatabase();
  keeper = await db.connect('admin');
  await keeper.query('set role safetypin_keeper');
});

const often = (count: number): number[] => Array.from({ length: Math.ceil(count) }, (_, i) => i);
/** Groups of a size that one query takes. */
const groups = <T>(all: readonly T[]): T[][] =>
  often(all.length / AT_ONCE).map((i) => all.slice(i * AT_ONCE, (i + 1) * AT_ONCE));
const BAD = 'KEYBD the value cannot be opened';
/** Code and message of a refusal. */
const outcome = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'no refusal',
    (error) => `${error.code} ${error.message}`,
  );
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
  }, 120_000);

  it('CR-01: its parts give what the public vectors say: AES-256-CBC (SP 800-38A F.2.5), HMAC-SHA-512 (RFC 4231)', async () => {
    const hex = (text: string) => Buffer.from(text, 'hex');
    const aes = hex('603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4');
    const iv = hex('000102030405060708090a0b0c0d0e0f');
    const plain = hex(
      '6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710',
    );
    const cipher =
      'f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b';
    const key = Buffer.concat([Buffer.alloc(32), aes]);
    const sealed = await keeper.query('select * from keyring_private.a256cbc_hs512_encrypt($1, $2, $3, $4)', [
      key,
      iv,
      plain,
      Buffer.alloc(0),
    ]);
    // A whole block of padding comes behind what the vector has.
    expect(sealed.rows[0].ciphertext.subarray(0, 64).toString('hex')).toBe(cipher);
    expect(encrypt(key, iv, plain, Buffer.alloc(0)).ciphertext.subarray(0, 64).toString('hex')).toBe(cipher);
    // Test cases 1, 2 and 6: a short key, a shorter one, one longer than a block.
    for (const [macKey, data, mac] of [
      ['0b'.repeat(20), Buffer.from('Hi There'), '87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde'],
      [
        Buffer.from('Jefe').toString('hex'),
        Buffer.from('what do ya want for nothing?'),
        '164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554',
      ],
      [
        'aa'.repeat(131),
        Buffer.from('Test Using Larger Than Block-Size Key - Hash Key First'),
        '80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352',
      ],
    ] as const) {
      const { rows } = await keeper.query("select extensions.hmac($1::bytea, $2::bytea, 'sha512') as mac", [
        data,
        hex(macKey),
      ]);
      expect(rows[0].mac.subarray(0, 32).toString('hex')).toBe(mac);
      expect(createHmac('sha512', hex(macKey)).update(data).digest('hex').slice(0, 64)).toBe(mac);
    }
  });

  it('both refuse the same sizes, with the same words', async () => {
    const sealed = encrypt(Buffer.alloc(64), Buffer.alloc(16), Buffer.alloc(20), Buffer.alloc(0));
    const sizes = [0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 128, 1000];
    const tries: [boolean, Buffer[]][] = sizes.flatMap((size) => {
      const some = Buffer.alloc(size);
      const [key, iv, aad] = [Buffer.alloc(64), Buffer.alloc(16), Buffer.alloc(0)];
      return [
        [true, [some, iv, aad, aad]],
        [true, [key, some, aad, aad]],
        [false, [some, iv, sealed.ciphertext, sealed.tag, aad]],
        [false, [key, some, sealed.ciphertext, sealed.tag, aad]],
        [false, [key, iv, some, sealed.tag, aad]],
        [false, [key, iv, sealed.ciphertext, some, aad]],
      ] as [boolean, Buffer[]][];
    });
    const seen = new Map<string, number>();
    for (const [sealing, args] of tries) {
      const name = sealing ? 'a256cbc_hs512_encrypt' : 'a256cbc_hs512_decrypt';
      const places = args.map((_, i) => `$${i + 1}`);
      const call = sealing ? encrypt : decrypt;
      const fromSql = await outcome(keeper.query(`select keyring_private.${name}(${places})`, args));
      const fromNode = await outcome((async () => (call as (...all: Buffer[]) => unknown)(...args))());
      expect(fromNode, `${name} of ${args.map(({ length }) => length)}`).toBe(fromSql);
      seen.set(fromSql, (seen.get(fromSql) ?? 0) + 1);
    }
    expect([...seen.keys()].sort()).toEqual([
      'KEYBD the value cannot be opened',
      'KEYBD the value cannot be sealed',
      'no refusal',
    ]);
    for (const nothing of ['null, $1, $1, $1', '$1, null, $1, $1', '$1, $1, null, $1', '$1, $1, $1, null']) {
      const call = `select keyring_private.a256cbc_hs512_encrypt(${nothing})`;
      expect(await outcome(keeper.query(call, [Buffer.alloc(64)]))).toBe('KEYBD the value cannot be sealed');
    }
  });

  it('CR-02: the tag is looked at before anything is decrypted, and bad padding says what a bad tag says', async () => {
    const [key, iv, aad] = [randomBytes(64), randomBytes(16), randomBytes(40)];
    // Last bytes that are no padding: under a good tag, and under a bad one.
    const ends = [
      Buffer.alloc(16),
      Buffer.alloc(16, 17),
      Buffer.alloc(16, 255),
      Buffer.from(`${'0f'.repeat(14)}0e0f`, 'hex'),
    ];
    const bad = ends.flatMap((block) => {
      const cipher = createCipheriv('aes-256-cbc', key.subarray(32), iv).setAutoPadding(false);
      const ciphertext = Buffer.concat([cipher.update(randomBytes(32)), cipher.update(block), cipher.final()]);
      const bits = Buffer.alloc(8);
      bits.writeBigUInt64BE(BigInt(aad.length) * 8n);
      const tag = createHmac('sha512', key.subarray(0, 32))
        .update(Buffer.concat([aad, iv, ciphertext, bits]))
        .digest()
        .subarray(0, 32);
      return [
        { ciphertext, tag },
        { ciphertext, tag: randomBytes(32) },
      ];
    });
    const sql = 'select keyring_private.a256cbc_hs512_decrypt($1, $2, $3, $4, $5)';
    const errors = new Set<string>();
    for (const { ciphertext, tag } of bad) {
      await keeper.query(sql, [key, iv, ciphertext, tag, aad]).catch(({ length, ...error }) => {
        // Whatever a client is told, where it happened too.
        errors.add(JSON.stringify({ ...error, message: error.message }));
      });
      expect(await outcome((async () => decrypt(key, iv, ciphertext, tag, aad))())).toBe(BAD);
    }
    expect([...errors].map((text) => JSON.parse(text))).toMatchObject([{ code: 'KEYBD' }]);
    // With a decryption that would tell: a bad tag does not get there, a good one does.
    const told = 'keyring_private.a256cbc_hs512_decrypt(bytea,bytea,bytea,bytea,bytea)';
    await withoutGuard(db, told, /v_padded := [^;]+;/, "raise 'decrypted';", async () => {
      const said = [];
      for (const { ciphertext, tag } of bad)
        said.push(await outcome(keeper.query(sql, [key, iv, ciphertext, tag, aad])));
      expect(said).toEqual(ends.flatMap(() => ['P0001 decrypted', BAD]));
    });
  });

  it('CR-04: the same text a million times: no IV twice, no output twice', async () => {
    const count = Math.ceil(1_000_000 * scale);
    const repeated = async (many: number) =>
      (
        await keeper.query(
          `select count(distinct substr(w, 1, 16))::int as ivs, count(distinct w)::int as outputs,
                  count(distinct substr(w, 17, 16))::int as blocks
             from (select keyring_private.wrap($1, '\\x78', '\\x79') as w from generate_series(1, $2::int) offset 0) made`,
          [randomBytes(64), many],
        )
      ).rows[0];
    expect(await repeated(count)).toEqual({ ivs: count, outputs: count, blocks: count });
    await withoutGuard(
      db,
      'keyring_private.wrap(bytea,bytea,bytea)',
      /extensions\.gen_random_bytes\(16\)/,
      "'\\x000102030405060708090a0b0c0d0e0f'",
      async () => {
        expect(await repeated(10)).toEqual({ ivs: 1, outputs: 1, blocks: 1 });
      },
    );
  }, 300_000);
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
