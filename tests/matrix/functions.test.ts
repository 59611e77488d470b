// Functions × actors (AZ-02, AZ-05, AZ-06), called one by one.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ACTORS } from './actors.ts';
import { declaration, type Line } from './declare.ts';
import type { Routine } from './function-cells.ts';
import { buildPlace, type Place } from './place.ts';
import { allowing, findings, REVIEWED, reached } from './reviewed.ts';
import { routines, runFunctions } from './run-functions.ts';

const DECLARED = '../snapshots/matrix-functions.txt';
const started = performance.now();
let place: Place;
let all: Routine[] = [];
let lines: Line[] = [];
let calls = 0;

const HEAD = `Functions by actors, called with nulls, with what is the actor's own, with another organization's and with unknown things.
What is not written is denied (42501). own, for whom nothing belongs to: what is the owner's, with her secrets. TELLS or
CHANGES OTHERS: what tests/matrix/reviewed.ts gives a reason for. Accept a change with -u after reading it.`;

const declared = (found: readonly Line[]): string => declaration(HEAD, found);

async function runAll(those: readonly Routine[], actors = ACTORS, before: readonly string[] = []): Promise<Line[]> {
  const found: Line[] = [];
  for (const actor of actors) {
    const ran = await runFunctions(place, actor, those, before);
    found.push(...ran.lines);
    calls += ran.calls;
  }
  return found;
}

beforeAll(async () => {
  place = await buildPlace();
  all = await routines(place);
  lines = await runAll(all);
}, 300_000);

afterAll(() => {
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  process.stderr.write(`matrix: ${all.length} functions × ${ACTORS.length} actors: ${calls} calls in ${seconds} s\n`);
});

describe('every call', () => {
  test('comes to what is declared (AZ-02)', async () => {
    await expect(declared(lines)).toMatchFileSnapshot(DECLARED);
  });

  test("reads and changes nothing of another's, but for reviewed reasons (AZ-01, AZ-02, AZ-05, AZ-06)", () => {
    expect(findings(lines)).toEqual([]);
    const used = new Set(lines.filter((line) => reached(line).length > 0).flatMap(allowing));
    expect(
      REVIEWED.filter((one) => !used.has(one)).map(({ because }) => because),
      'reviewed, but found no more',
    ).toEqual([]);
  });

  test('that is allowed to nobody, or has no place in a call, does not answer', () => {
    const answered = (one: Line) => !/^(denied|refused \w+)$/.test(one.outcome);
    expect(lines.filter((one) => answered(one) && /_private\.|^extensions\./.test(one.thing))).toEqual([]);
  });

  test('of somebody who lost access is that of nobody, but for what is recorded (AZ-04)', () => {
    const of = (name: string) =>
      lines
        .filter(({ actor }) => actor === name)
        // The login's other door: whoever has no session may still sign in.
        .filter(({ thing }) => !/^(api_steps|keyring|request)\.|^api\.(request|resend)_/.test(thing))
        .map(({ thing, way, outcome }) => `${thing} ${way} ${outcome.replace(', CHANGES OTHERS in audit.events', '')}`);
    for (const { name } of ACTORS.filter(({ gone }) => gone)) expect(of(name), name).toEqual(of('anonymous-as-member'));
  });
});

const body = (signature: string, guard: string, instead: string): string =>
  `do $do$ begin execute replace(pg_get_functiondef('${signature}'::regprocedure), $a$${guard}$a$, $b$${instead}$b$); end $do$`;

/** Name, what an administrator does, the functions that are looked at, and the line that must tell. */
const SABOTAGES: readonly (readonly [string, string, string, RegExp])[] = [
  [
    'a new function',
    "create function api.odd() returns text language sql as $$ select 'x' $$; revoke all on function api.odd() from public",
    String.raw`^api\.odd`,
    /api\.odd\(\) with called/,
  ],
  [
    'a new function that tells addresses',
    'create function api.odd() returns setof uuid language sql security definer as $$ select id from identity.people $$; grant execute on function api.odd() to safetypin_member',
    String.raw`^api\.odd`,
    /api\.odd\(\) with called by viewer: TELLS/,
  ],
  [
    'execute on an inner function',
    'grant usage on schema keyring_private to safetypin_member; grant execute on function keyring_private.destroy_data_key(uuid) to safetypin_member',
    String.raw`^keyring_private\.destroy_data_key`,
    /destroy_data_key\(uuid\) with foreign by owner: CHANGES keyring_private\.data_keys/,
  ],
  [
    "ending anybody's session",
    body('api.revoke_session(uuid)', 'and s.person_id = request.signed_in_id()', ''),
    String.raw`^api\.revoke_session`,
    /with foreign by viewer: CHANGES .*sessions\.sessions/,
  ],
  [
    'switching to any organization',
    body('sessions_private.choose_organization(uuid, uuid)', 'm.person_id = choose_organization.person_id', 'true'),
    String.raw`^api_steps\.switch_organization`,
    /with foreign by owner: .*CHANGES .*sessions\.sessions/,
  ],
  [
    "anybody's profile",
    body('api."current_user"()', 'where p.id = (select request.signed_in_id())', ''),
    String.raw`^api\."current_user"`,
    /with called by homeless: TELLS/,
  ],
  [
    "anybody's organizations",
    body('api.my_organizations()', 'm.person_id = (select request.signed_in_id()) and', ''),
    String.raw`^api\.my_organizations`,
    /with called by viewer: TELLS/,
  ],
  [
    'mails outside their job',
    body(
      'identity.compose_mail(uuid)',
      "request.task() is distinct from 'mail__send' or request.job_value('id') is distinct from compose_mail.id",
      'false',
    ),
    String.raw`^identity\.compose_mail`,
    /with foreign by scheduled-job: TELLS/,
  ],
  [
    'a trail that anybody appends to',
    'grant usage on schema audit_private to safetypin_member; grant execute on all functions in schema audit_private to safetypin_member',
    String.raw`^audit_private\.append`,
    /append\(.*\) with foreign by viewer: CHANGES audit\.events/,
  ],
];

const WITNESSES = ACTORS.filter(({ name }) => ['owner', 'viewer', 'homeless', 'scheduled-job'].includes(name));

describe('what is broken is seen', () => {
  test.each(SABOTAGES)('%s', async (_name, sql, pattern, expected) => {
    const found = await runAll(await routines(place, pattern, [sql]), WITNESSES, [sql]);
    const those = lines.filter(({ thing }) => new RegExp(pattern).test(thing));
    const others = those.filter(({ actor }) => !WITNESSES.some(({ name }) => name === actor));
    expect(declared([...others, ...found])).not.toBe(declared(those));
    const told = expected.source.includes(':')
      ? findings(found)
      : found.map(({ thing, way }) => `${thing} with ${way}`);
    expect(told.filter((line) => expected.test(line))).not.toEqual([]);
  });
});
