// Ciphertexts that nobody sealed: one error, and the backend that got them lives on as it was (PG-70, CR-02).
import { randomBytes, randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { Application, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { NONE, Opener } from './opener.ts';

const scale = loadConfig().testScale;
const at = { column: 'identity.people.display_name', organization: NONE, row: crypto.randomUUID() };
const subject = crypto.randomUUID();
let db: TestDatabase;
let app: Application;
let opener: Opener;
/** The same text twice, and one of several blocks. */
let good: Buffer[];

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  opener = await Opener.beside(db, app);
  good = [
    ...(await opener.seal('amoxicillin', subject, [at, at])),
    ...(await opener.seal('x'.repeat(1500), subject, [at])),
  ];
});

const bits = (value: Buffer): Buffer[] =>
  Array.from({ length: value.length * 8 }, (_, bit) => {
    const copy = Buffer.from(value);
    copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    return copy;
  });

/** How often each answer was given. */
async function answers(values: readonly Buffer[]): Promise<Map<string, number>> {
  const count = new Map<string, number>();
  for (let i = 0; i < values.length; i += 1000) {
    const tries = values.slice(i, i + 1000).map((sealed) => ({ sealed, at }));
    for (const said of await opener.open(tries)) count.set(said, (count.get(said) ?? 0) + 1);
  }
  return count;
}

const BAD = 'KEYBD the value cannot be opened';
const ERASED = 'KEYER the key of this value was destroyed';

describe('PG-70: a value that was not sealed here', () => {
  it('opens nothing with any one bit changed: KEYER for the key id, which is no secret, KEYBD for all else', async () => {
    const [first] = good as [Buffer];
    const changed = bits(first);
    const said = await opener.open(changed.map((sealed) => ({ sealed, at })));
    for (const [bit, answer] of said.entries()) {
      // Version byte, then the 16 bytes that name the key.
      expect(answer, `bit ${bit}`).toBe(bit >= 8 && bit < 17 * 8 ? ERASED : BAD);
    }
    expect((await opener.open([{ sealed: first, at }]))[0]).toBe('opened amoxicillin');
  });

  it('opens nothing cut, stretched, turned round or mixed of two', async () => {
    const [first, second, long] = good as [Buffer, Buffer, Buffer];
    const made: Buffer[] = [];
    for (let i = 0; i < first.length; i += 1) {
      made.push(first.subarray(0, i), Buffer.concat([first.subarray(0, 17), first.subarray(18 + i)]));
      made.push(Buffer.concat([first, randomBytes(i + 1)]), Buffer.concat([first, Buffer.alloc(i + 1)]));
      // Head of one, tail of the other: at every cut that changes something.
      const mixed = Buffer.concat([first.subarray(0, i), second.subarray(i)]);
      if (!mixed.equals(first) && !mixed.equals(second)) made.push(mixed);
    }
    for (let i = 16; i < long.length - 80; i += 16) {
      // Blocks left out, doubled and swapped, behind the head of 33 bytes.
      made.push(Buffer.concat([long.subarray(0, 17 + i), long.subarray(33 + i)]));
      made.push(Buffer.concat([long.subarray(0, 33 + i), long.subarray(17 + i)]));
    }
    const said = await answers(made);
    said.delete(ERASED);
    expect([...said.keys()]).toEqual([BAD]);
    expect(said.get(BAD)).toBeGreaterThan(500);
  });

  it('with absurd lengths sealed inside, by somebody with the key, it is the same error and no other', async () => {
    const inside = (length: number, size: number) => {
      const padded = Buffer.alloc(size);
      padded.writeInt32BE(length);
      return padded;
    };
    const absurd = [
      Buffer.alloc(0),
      Buffer.alloc(3),
      ...[-1, 25, 2 ** 31 - 1, -(2 ** 31), 2 ** 30].flatMap((length) => [inside(length, 28), inside(length, 252)]),
      inside(0, 60),
      randomBytes(28),
      randomBytes(40),
    ];
    const [first] = good as [Buffer];
    const keyId = first.subarray(1, 17);
    const sealed = await opener.as('safetypin_keeper', async (client) => {
      const { rows } = await client.query<{ sealed: Buffer }>(
        `select '\\x01'::bytea || $2 || keyring_private.wrap(
             keyring_private.data_key(encode($2, 'hex')::uuid), v,
             '\\x01'::bytea || uuid_send(keyring_private.column_id($3)) || uuid_send($4) || uuid_send($5) || $2) as sealed
           from unnest($1::bytea[]) as v`,
        [[...absurd, first.subarray(0, 0)], keyId, at.column, at.organization, at.row],
      );
      return rows.map((row) => row.sealed);
    });
    expect(await answers(sealed)).toEqual(new Map([[BAD, absurd.length + 1]]));
    // Without the check that is an error of its own, which says what was inside.
    await withoutGuard(db, 'keyring_private.unpad(bytea)', /v_length between 0 and v_size - 4 and/, '', async () => {
      expect([...(await answers(sealed)).keys()].some((said) => /^22\d{3} /.test(said))).toBe(true);
    });
  });

  it('never opens at random, any length and any count; the backend stays and does not grow', async () => {
    const [first, , long] = good as [Buffer, Buffer, Buffer];
    const count = Math.ceil(100_000 * scale);
    const one = (i: number): Buffer => {
      if (i % 4 === 0) return randomBytes(randomInt(i % 64 === 0 ? 20_000 : 400));
      // From here with a key that is there, so that the cipher is reached.
      const head = first.subarray(0, 17);
      if (i % 4 === 1) return Buffer.concat([head, randomBytes(randomInt(400))]);
      if (i % 4 === 2) return Buffer.concat([head, randomBytes(16 * (4 + randomInt(20)))]);
      const copy = Buffer.from(i % 8 === 3 ? first : long);
      for (let flips = 1 + randomInt(8); flips > 0; flips -= 1) {
        const byte = 17 + randomInt(copy.length - 17);
        copy[byte] = (copy[byte] ?? 0) ^ (1 + randomInt(255));
      }
      return copy.equals(first) || copy.equals(long) ? randomBytes(97) : copy;
    };
    const status = (pid: number) => {
      try {
        return readFileSync(`/proc/${pid}/status`, 'utf8');
      } catch {
        return null;
      }
    };
    const pid = async () => (await opener.client.query('select pg_backend_pid() as pid')).rows[0].pid;
    const before = await pid();
    await answers(Array.from({ length: 2000 }, (_, i) => one(i)));
    const warm = await opener.memory(status);
    const said = new Map<string, number>();
    for (let done = 0; done < count; done += 2000) {
      const some = await answers(Array.from({ length: Math.min(2000, count - done) }, (_, i) => one(i)));
      for (const [answer, times] of some) said.set(answer, (said.get(answer) ?? 0) + times);
    }
    expect([...said.keys()].filter((answer) => answer !== BAD && answer !== ERASED)).toEqual([]);
    expect(said.get(BAD)).toBeGreaterThan(count * 0.7);
    const after = await opener.memory(status);
    expect(after.contexts - warm.contexts).toBeLessThan(1024);
    if (after.resident !== null) expect(after.resident - (warm.resident ?? 0)).toBeLessThan(8 * 1024);
    expect(await pid()).toBe(before);
    expect((await opener.open([{ sealed: long, at }]))[0]).toBe(`opened ${'x'.repeat(1500)}`);
  }, 300_000);
});

describe('PG-70: an envelope that was not sealed here', () => {
  const tries = async (client: pg.Client, envelope: Buffer): Promise<string> => {
    await client.query('begin');
    const open = async () => {
      await client.query("select set_config('role', sessions.open_request(null, $1, '{}'), true)", [envelope]);
      await client.query('select keyring.bind_application()');
    };
    const said = await refusal(open());
    await client.query('rollback');
    return said;
  };

  it('opens nothing with any one bit changed', async () => {
    const client = await db.connect('authenticator');
    const envelope = await app.envelopes.seal(null);
    expect(await tries(client, envelope)).toBe('no refusal');
    const said = new Set<string>();
    // At a tenth of the scale one bit of each byte, at the whole all of them.
    const changed = bits(envelope).filter((_, bit) => scale >= 1 || bit % 8 === (bit >> 3) % 8);
    for (const bad of changed) said.add(await tries(client, bad));
    for (let i = 0; i < 2000 * scale; i += 1) said.add(await tries(client, randomBytes(randomInt(300))));
    expect([...said].sort()).toEqual(['KEYBD', 'KEYNO']);
    expect(await tries(client, envelope)).toBe('no refusal');
  });
});
