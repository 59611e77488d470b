// Clients that ask without a pause while something goes wrong, and what they were told.
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { GraphQLAnswer, Member } from '../api/api.ts';
import type { OwnCluster } from './cluster.ts';

/** Two tables that each write changes both of, and something slow. */
export const WARD = `
  create schema ward;
  comment on schema ward is 'Of a test.';
  create table ward.notes (
    organization_id uuid not null default request.organization_id(), id uuid not null default gen_random_uuid(),
    body text not null, filler text, primary key (organization_id, id));
  create table ward.copies (
    organization_id uuid not null default request.organization_id(), id uuid not null default gen_random_uuid(),
    body text not null, primary key (organization_id, id));
  comment on table ward.notes is 'Of a test.';
  comment on table ward.copies is 'Of a test.';
  grant usage on schema ward to safetypin_member;
  select access.protect('ward.notes');
  select access.protect('ward.copies');
  create function ward.write_twice(body text, pause float8, kilobytes integer) returns integer language plpgsql volatile
    as $$begin
      insert into ward.notes (body, filler)
        select write_twice.body, string_agg(md5(random()::text), '') from generate_series(1, 32 * kilobytes);
      perform pg_sleep(pause);
      insert into ward.copies (body) values (write_twice.body);
      return 2;
    end$$;
  create function ward.nap(seconds float8) returns integer language plpgsql stable
    as $$begin perform pg_sleep(seconds); return 1; end$$;
  grant execute on function ward.write_twice(text, float8, integer), ward.nap(float8) to safetypin_member;`;

export const WRITE =
  'mutation($b: String!, $p: Float!, $k: Int!) { writeTwice(input: { body: $b, pause: $p, kilobytes: $k }) { result } }';
export const ME = '{ currentUser { displayName } }';

export const codeOf = ({ errors }: GraphQLAnswer): string => String(errors?.[0]?.extensions.code ?? 'none');

/** Nothing of the inside may be in an answer. */
export function expectClean(text: string): void {
  const said = text.replace(/"requestId":"[^"]*"/g, '');
  expect(said).not.toMatch(
    / at \S+ \(|node_modules|postgres|ECONN|terminat|\b5[378][0-9P]\d\d\b|safetypin_|disk|connection/i,
  );
}

export interface Load {
  readonly codes: Map<string, number>;
  /** Bodies that were answered as written. */
  readonly written: string[];
  readonly refused: string[];
  stop(): Promise<void>;
}

/** Six clients that write and read without a pause. */
export function load({ api }: OwnCluster, { accessToken }: Member, kilobytes = 0): Load {
  const codes = new Map<string, number>();
  const written: string[] = [];
  const refused: string[] = [];
  let isOver = false;
  const count = (answer: GraphQLAnswer): string => {
    const code = codeOf(answer);
    codes.set(code, (codes.get(code) ?? 0) + 1);
    if (code === 'none') return code;
    expectClean(answer.text);
    expect([answer.status, code, Number(answer.headers.get('retry-after')) > 0]).toEqual([200, code, true]);
    return code;
  };
  const lanes = Array.from({ length: 6 }, async (_, lane) => {
    for (let i = 0; !isOver; i += 1) {
      const b = `${lane}.${i}.${crypto.randomUUID()}`;
      const code = count(await api.gql(WRITE, { b, p: 0.005, k: kilobytes }, accessToken));
      (code === 'none' ? written : refused).push(b);
      count(await api.gql(ME, {}, accessToken));
    }
  });
  // Looked at when it is stopped; until then a refusal is not unhandled.
  for (const lane of lanes) lane.catch(() => {});
  return {
    codes,
    written,
    refused,
    async stop() {
      isOver = true;
      await Promise.all(lanes);
    },
  };
}

/** What was answered as written is there once, in both tables; what was refused is in both or in neither. */
export async function expectWhole(own: OwnCluster, { written, refused }: Load): Promise<void> {
  const rows = await own.admin<{ body: string; seen: string }>(
    `select body, concat_ws(',', sum(n), sum(c)) as seen from (
       select body, 1 as n, 0 as c from ward.notes union all select body, 0, 1 from ward.copies) both_tables
     group by body`,
  );
  const found = new Map(rows.map(({ body, seen }) => [body, seen]));
  expect(written.filter((body) => found.get(body) !== '1,1')).toEqual([]);
  expect(refused.filter((body) => ![undefined, '1,1'].includes(found.get(body)))).toEqual([]);
}

/** Waits until somebody is served again; until then she is told the one code. */
export async function expectServed({ api }: OwnCluster, { accessToken }: Member): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    const answer = await api.gql(ME, {}, accessToken);
    if (answer.data?.currentUser !== undefined && answer.data?.currentUser !== null) return;
    expect(codeOf(answer)).toBe('UNAVAILABLE');
    if (tries === 100) throw new Error('it does not recover');
    await sleep(100);
  }
}
