// What a good programmer writes by hand for one list: node:http and pg, one await after the other, the same check of the
// token and the same SQL as the API, named statements, nothing else.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import { Envelopes } from '../../src/graphql/envelopes.ts';
import { loadApplicationKeys } from '../../src/keyring/application-keys.ts';
import { EnvelopeSealer } from '../../src/keyring/envelope.ts';
import { AccessTokens } from '../../src/sessions/tokens.ts';
import { accessTo } from '../support/access.ts';
import type { ServerOrder } from './place.ts';

const OPEN = { name: 'open', text: "select set_config('role', sessions.open_request($1, $2, $3), true)" };
const LIST = {
  name: 'list',
  text: `select id, action, to_char(occurred_at, 'YYYY-MM-DD"T"HH24:MI:SS.USTZH:TZM') as "occurredAt", actor_id as "actorId"
    from audit.events order by organization_id, id, occurred_at limit $1`,
};

async function bodyOf(request: IncomingMessage): Promise<{ first: number }> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return JSON.parse(Buffer.concat(chunks).toString()) as { first: number };
}

process.once('message', async ({ cluster, database, dataDirectory }: ServerOrder) => {
  const pool = new pg.Pool({ ...accessTo(cluster, database).authenticator, max: 10 });
  const envelopes = new Envelopes(new EnvelopeSealer(pool, await loadApplicationKeys(dataDirectory)));
  const tokens = await AccessTokens.open({ dataDirectory, issuer: 'http://bench.invalid' });

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { first } = await bodyOf(request);
    const bearer = request.headers.authorization?.slice(7) ?? '';
    const token = tokens.recall(bearer) ?? (await tokens.verify(bearer));
    if (token === null) throw new Error('not a good token');
    tokens.remember(token);
    const { credential } = token;
    const envelope = envelopes.at(credential) ?? (await envelopes.seal(credential));
    const metadata = JSON.stringify({
      ip: request.socket.remoteAddress,
      userAgent: null,
      requestId: crypto.randomUUID(),
    });
    const client = await pool.connect();
    try {
      await client.query('begin');
      await client.query({ ...OPEN, values: [credential, envelope, metadata] });
      const { rows } = await client.query({ ...LIST, values: [first] });
      await client.query('commit');
      const body = JSON.stringify({ data: { auditEvents: { nodes: rows } } });
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
      response.end(body);
    } catch (error) {
      await client.query('rollback');
      throw error;
    } finally {
      client.release();
    }
  }

  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.writeHead(500).end());
  });
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));
});
