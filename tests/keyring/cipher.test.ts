// The cipher and sealed values (CR-01 to CR-06, CR-09, PG-61, PG-73; F3, F6).
import { createHmac, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type pg from 'pg';
import { beforeAll, describe, expect, inject, it } from 'vitest';
import { decrypt, encrypt } from '../../src/keyring/cipher.ts';
import { Application, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let app: Application;
let keeper: pg.Client;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  keeper = await db.connect('admin');
  await keeper.query('set role safetypin_keeper');
});

// RFC 7518 appendix B.3.
const B3 = {
  key: Buffer.from(Array.from({ length: 64 }, (_, i) => i)),
  plaintext: Buffer.from(
    'A cipher system must not be required to be secret, and it must be able to fall into the hands of the enemy without inconvenience',
  ),
  iv: Buffer.from('1af38c2dc2b96ffdd86694092341bc04', 'hex'),
  aad: Buffer.from('The second principle of Auguste Kerckhoffs'),
  ciphertext: Buffer.from(
    '4affaaadb78c31c5da4b1b590d10ffbd3dd8d5d302423526912da037ecbcc7bd822c301dd67c373bccb584ad3e9279c2e6d12a1374b77f077553df829410446b36ebd97066296ae6427ea75c2e0846a11a09ccf5370dc80bfecbad28c73f09b3a3b75e662a2594410ae496b2e2e6609e31e6e02cc837f053d21f37ff4f51950bbe2638d09dd7a4930930806d0703b1f6',
    'hex',
  ),
  tag: Buffer.from('4dd3b4c088a7f45c216839645b2012bf2e6269a8c56a816dbc1b267761955bc5', 'hex'),
};

async function sqlDecrypt(key: Buffer, iv: Buffer, ciphertext: Buffer, tag: Buffer, aad: Buffer): Promise<Buffer> {
  return (
    await keeper.query('select keyring_private.a256cbc_hs512_decrypt($1, $2, $3, $4, $5) as plain', [
      key,
      iv,
      ciphertext,
      tag,
      aad,
    ])
  ).rows[0].plain;
}

async function sqlEncrypt(
  key: Buffer,
  iv: Buffer,
  plaintext: Buffer,
  aad: Buffer,
): Promise<{ ciphertext: Buffer; tag: Buffer }> {
  return (
    await keeper.query('select * from keyring_private.a256cbc_hs512_encrypt($1, $2, $3, $4)', [key, iv, plaintext, aad])
  ).rows[0];
}

describe('A256CBC-HS512', () => {
  it('gives what RFC 7518 B.3 says, in SQL and in TypeScript (CR-01)', async () => {
    for (const sealed of [
      await sqlEncrypt(B3.key, B3.iv, B3.plaintext, B3.aad),
      encrypt(B3.key, B3.iv, B3.plaintext, B3.aad),
    ]) {
      expect(sealed.ciphertext.toString('hex')).toBe(B3.ciphertext.toString('hex'));
      expect(sealed.tag.toString('hex')).toBe(B3.tag.toString('hex'));
    }
    expect(await sqlDecrypt(B3.key, B3.iv, B3.ciphertext, B3.tag, B3.aad)).toEqual(B3.plaintext);
    expect(decrypt(B3.key, B3.iv, B3.ciphertext, B3.tag, B3.aad)).toEqual(B3.plaintext);
  });

  it('answers every damage with the same error (CR-02), bad padding under a good tag too', async () => {
    const { key, iv, aad, ciphertext, tag } = B3;
    const flip = (value: Buffer, at: number) => {
      const copy = Buffer.from(value);
      copy[at] = (copy[at] ?? 0) ^ 1;
      return copy;
    };
    // Sealed by hand without padding: the tag is right, the last byte is not a padding.
    const block = Buffer.from('00000000000000000000000000000000', 'hex');
    const { ciphertext: unpadded } = encrypt(key, iv, block, aad);
    const bits = Buffer.alloc(8);
    bits.writeBigUInt64BE(BigInt(aad.length * 8));
    const first = unpadded.subarray(0, 16);
    const goodTag = createHmac('sha512', key.subarray(0, 32))
      .update(Buffer.concat([aad, iv, first, bits]))
      .digest()
      .subarray(0, 32);
    const damages: [Buffer, Buffer, Buffer, Buffer, Buffer][] = [
      [flip(key, 0), iv, ciphertext, tag, aad],
      [flip(key, 63), iv, ciphertext, tag, aad],
      [key, flip(iv, 3), ciphertext, tag, aad],
      [key, iv, flip(ciphertext, 0), tag, aad],
      [key, iv, flip(ciphertext, 143), tag, aad],
      [key, iv, ciphertext, flip(tag, 31), aad],
      [key, iv, ciphertext, tag, flip(aad, 0)],
      [key, iv, ciphertext, tag, aad.subarray(1)],
      [key, iv, ciphertext.subarray(16), tag, aad],
      [key, iv, ciphertext.subarray(1), tag, aad],
      [key, iv, Buffer.alloc(0), tag, aad],
      [key, iv, ciphertext, tag.subarray(1), aad],
      [key.subarray(1), iv, ciphertext, tag, aad],
      [key, iv.subarray(1), ciphertext, tag, aad],
      [key, iv, first, goodTag, aad],
    ];
    const said = new Set<string>();
    for (const damage of damages) {
      for (const open of [() => sqlDecrypt(...damage), async () => decrypt(...damage)]) {
        await open().then(
          () => said.add('opened'),
          (error) => said.add(`${error.code} ${error.message}`),
        );
      }
    }
    expect([...said]).toEqual(['KEYBD the value cannot be opened']);
  });
});

describe('sealed values', () => {
  const none = '00000000-0000-0000-0000-000000000000';
  const column = 'identity.people.display_name';
  /** As the definer's functions would, in an open request. */
  async function asDefiner<T>(work: (client: pg.ClientBase) => Promise<T>, envelope = true): Promise<T> {
    const client = await db.connect('admin');
    await client.query('begin');
    await client.query("select sessions.open_request(null, $1, '{}')", [
      envelope ? await app.envelopes.seal(null) : null,
    ]);
    await client.query('set local role safetypin_definer');
    try {
      return await work(client);
    } finally {
      await client.query('rollback').catch(() => {});
      await client.end();
    }
  }
  const seal = async (
    client: pg.ClientBase,
    text: string,
    row: string,
    subject: string,
    organization = none,
  ): Promise<Buffer> =>
    (
      await client.query('select keyring_private.seal($1, $2, $3, $4, $5) as sealed', [
        column,
        organization,
        row,
        subject,
        text,
      ])
    ).rows[0].sealed;
  const open = async (
    client: pg.ClientBase,
    sealed: Buffer,
    row: string,
    name = column,
    organization = none,
  ): Promise<string> =>
    (await client.query('select keyring_private.open($1, $2, $3, $4) as text', [name, organization, row, sealed]))
      .rows[0].text;
  const uuid = () => crypto.randomUUID();

  it('open in their own column, organization and row, and nowhere else (CR-03)', async () => {
    const [row, subject] = [uuid(), uuid()];
    const places: [string, string, string][] = [
      [uuid(), column, none],
      [row, 'identity.emails.address', none],
      [row, column, uuid()],
    ];
    await asDefiner(async (client) => {
      for (const text of ['', 'amoxicillin', 'Zoë Ångström', '💊'.repeat(300), 'x'.repeat(5000)]) {
        const sealed = await seal(client, text, row, subject);
        expect(sealed.includes(Buffer.from(text || 'never'))).toBe(false);
        expect(await open(client, sealed, row)).toBe(text);
        for (const place of places) {
          await client.query('savepoint here');
          expect(await refusal(open(client, sealed, ...place))).toBe('KEYBD');
          await client.query('rollback to savepoint here');
        }
      }
    });
  });

  it('show neither equality nor length within a bucket (CR-04, PG-73)', async () => {
    await asDefiner(async (client) => {
      const [row, subject] = [uuid(), uuid()];
      const sealed: Buffer[] = [];
      for (let i = 0; i < 50; i += 1) sealed.push(await seal(client, '1'.repeat(i % 20), row, subject));
      expect(new Set(sealed.map((value) => value.toString('hex'))).size).toBe(50);
      expect(new Set(sealed.map((value) => value.length)).size).toBe(1);
    });
  });

  it('are gone when the key of their person is destroyed', async () => {
    await asDefiner(async (client) => {
      const [row, subject] = [uuid(), uuid()];
      const sealed = await seal(client, 'value', row, subject);
      await client.query('select keyring_private.destroy_data_key($1)', [subject]);
      expect(await refusal(open(client, sealed, row))).toBe('KEYER');
    });
  });

  it('need the application: without its key, with another one, or with an envelope for somebody else they stay shut', async () => {
    expect(await refusal(asDefiner((client) => seal(client, 'value', uuid(), uuid()), false))).toBe('KEYNO');
    const ada = await app.person('ada');
    const withEnvelope = (envelope: Buffer) =>
      app.pool.connect().then(async (client) => {
        try {
          await client.query('begin');
          await client.query("select set_config('role', sessions.open_request($1, $2, '{}'), true)", [
            ada.credential,
            envelope,
          ]);
          return (await client.query('select email from api."current_user"()')).rows[0].email;
        } finally {
          await client.query('rollback');
          client.release();
        }
      });
    expect(await withEnvelope(await app.envelopes.seal(ada.credential))).toBe(ada.email);
    expect(await refusal(withEnvelope(await app.envelopes.seal(null)))).toBe('KEYBD');
    expect(await refusal(withEnvelope(await app.envelopes.seal(randomBytes(32))))).toBe('KEYBD');
    expect(await refusal(withEnvelope(randomBytes(121)))).toBe('KEYNO');
    // The envelope stands in a setting that any client can write: another credential's is refused there as well.
    const bob = await app.person('bob');
    expect(
      await refusal(
        app.as(ada.credential, async (client) => {
          await client.query("select set_config('safetypin.envelope', $1, true)", [
            (await app.envelopes.seal(bob.credential)).toString('hex'),
          ]);
          await client.query('select * from api."current_user"()');
        }),
      ),
    ).toBe('KEYBD');
    const other = await Application.beside(await cloneDatabase());
    expect(await refusal(other.rows(null, "select * from api_steps.start_sign_in('x@example.com')"))).toBe(
      'no refusal',
    );
  });

  it('an envelope runs out, and one that claims a long life is refused', async () => {
    const envelope = await app.envelopes.seal(null);
    const admin = await db.connect('admin');
    const transport = (
      await admin.query('select id, key from keyring_private.transport_keys order by created_at desc limit 1')
    ).rows[0];
    const forged = (seconds: number) => {
      const header = Buffer.from(envelope.subarray(0, 25));
      header.writeBigInt64BE(BigInt(Date.now() + seconds * 1000 - 946_684_800_000) * 1000n, 17);
      const iv = randomBytes(16);
      const { ciphertext, tag } = encrypt(transport.key, iv, app.keys.half, Buffer.concat([header, Buffer.alloc(32)]));
      return Buffer.concat([header, iv, ciphertext, tag]);
    };
    const tryIt = async (seconds: number) => {
      const client = await db.connect('authenticator');
      await client.query('begin');
      await client.query("select set_config('role', sessions.open_request(null, $1, '{}'), true)", [forged(seconds)]);
      const said = await refusal(client.query("select * from api_steps.start_sign_in('x@example.com')"));
      await client.end();
      return said;
    };
    expect(await tryIt(30)).toBe('no refusal');
    expect(await tryIt(-1)).toBe('KEYNO');
    expect(await tryIt(3600)).toBe('KEYNO');
    await withoutGuard(
      db,
      'keyring_private.application_halves(bytea)',
      /substr\(v_envelope, 18, 8\) <= timestamptz_send/,
      'false and $&',
      async () => {
        expect(await tryIt(-1)).toBe('no refusal');
      },
    );
  });
});

describe('keys in sight of nobody', () => {
  it('the key of another application is noticed, not used', async () => {
    const clone = await cloneDatabase();
    await Application.beside(clone);
    const stranger = await Application.beside(clone);
    expect(await stranger.call(null, 'select keyring.bind_application() as bound')).toEqual({ bound: false });
  });

  it('neither half and no transport key reaches the server log with every logging switch on (CR-09, PG-61, F6)', async () => {
    const clone = await cloneDatabase();
    const admin = await clone.connect('admin');
    for (const setting of [
      "log_min_duration_statement = '0'",
      "log_statement = 'all'",
      "log_parameter_max_length = '-1'",
      "log_parameter_max_length_on_error = '-1'",
      "session_preload_libraries = 'auto_explain'",
      "auto_explain.log_min_duration = '0'",
      "auto_explain.log_parameter_max_length = '-1'",
      "auto_explain.log_nested_statements = 'on'",
    ]) {
      await admin.query(`alter database ${clone.name} set ${setting}`);
    }
    const loud = await Application.beside(clone);
    const ada = await loud.person('ada');
    await loud.rows(ada.credential, 'select * from api."current_user"()');
    await refusal(loud.rows(null, 'select api_steps.verify_email($1), 1/0', [randomBytes(32)]));
    const log = readFileSync(
      join((await admin.query("select current_setting('data_directory') as d")).rows[0].d, '..', 'postgres.log'),
      'utf8',
    );
    // 15 logs parameters of statements, not yet of their plans.
    expect(log).toMatch(inject('postgres') < 16 ? /with parameters: \$1 = / : /Query Parameters: \$1 = /);
    expect(log).toContain('sessions.open_request');
    const transport = (await admin.query('select key from keyring_private.transport_keys')).rows.map(({ key }) => key);
    const roots = (await admin.query('select half from keyring_private.roots')).rows.map(({ half }) => half);
    const secrets: Buffer[] = [loud.keys.half, ...transport, ...roots];
    expect(secrets.length).toBeGreaterThan(2);
    for (const secret of secrets) {
      expect(log.includes(secret.toString('hex'))).toBe(false);
      expect(log.includes(secret.toString('base64'))).toBe(false);
    }
  });
});
