// Sensitive columns in GraphQL (DESIGN 5, F5, GQ-07): a query that lists them is a read that writes, and no value is
// told whose record was taken back.
import { beforeAll, describe, expect, test } from 'vitest';
import { Openings } from '../keyring/openings.ts';
import { Application } from '../support/actors.ts';
import { type Clinic, openClinic } from './sealed.ts';

const WARD = `
  create table clinic.notes (
    organization_id uuid not null, id uuid default platform.uuid_v7(), title text not null, diagnosis text,
    primary key (organization_id, id));
  create index on clinic.notes (organization_id, title);
  select access.protect('clinic.notes');
  select keyring.seal_column('clinic.notes', 'diagnosis', class => 'sensitive', permission => 'row.read', searchable => true);
  create function clinic.fails() returns text language plpgsql stable as $$ begin perform 1 / 0; return 'never'; end $$;
  grant execute on function clinic.fails() to safetypin_member;
`;

let clinic: Clinic;
let openings: Openings;

beforeAll(async () => {
  clinic = await openClinic(WARD);
  openings = await Openings.of(await Application.beside(clinic.api.db, clinic.api.config.dataDirectory));
  for (let n = 0; n < 20; n += 1) {
    await asAda('mutation($n: NoteInput!) { createNote(input: { note: $n }) { clientMutationId } }', {
      n: { title: `note ${n}`, diagnosis: `diagnosis-${n}` },
    });
  }
});

const asAda = (query: string, variables: object = {}, headers: Record<string, string> = {}) =>
  clinic.api.gql(query, variables, clinic.ada.accessToken, headers);
const LIST = '{ notes(first: 20) { nodes { title diagnosis } } }';

describe('a list of sensitive values', () => {
  test('leaves an event for each, of the request and with its purpose', async () => {
    const seen = await openings.during(async () => {
      const { data, errors } = await asAda(LIST);
      expect(errors).toBe(undefined);
      expect(data.notes.nodes[7]).toEqual({ title: 'note 7', diagnosis: 'diagnosis-7' });
    });
    expect(seen).toEqual({ numbers: 20, events: 20 });
    expect(await openings.during(() => asAda('{ notes(first: 20) { nodes { title } } }'))).toEqual({
      numbers: 0,
      events: 0,
    });
  });

  test.each([
    ['treatment', 'treatment'],
    ['TREAT/v1.2', 'TREAT/v1.2'],
    ['because of Mrs. Canary', undefined],
    ['x'.repeat(65), undefined],
  ])('keeps the purpose that a client gives, if it is a word: %s', async (given, kept) => {
    await openings.events();
    await asAda('{ notes(first: 1) { nodes { diagnosis } } }', {}, { 'x-purpose': given });
    expect((await openings.events()).map(({ details }) => details.purpose)).toEqual([kept]);
  });

  test('is found by a value, and both are recorded', async () => {
    await openings.events();
    const { data } = await asAda('{ notesByDiagnosis(value: "diagnosis-3") { nodes { title diagnosis } } }');
    expect(data.notesByDiagnosis.nodes).toEqual([{ title: 'note 3', diagnosis: 'diagnosis-3' }]);
    expect(new Set((await openings.events()).map(({ action }) => action))).toEqual(
      new Set(['value.find', 'value.open']),
    );
  });

  test.each([
    '{ notes(first: 3) { nodes { diagnosis } } fails }',
    `mutation { createNote(input: { note: { title: "m", diagnosis: "diagnosis-m" } }) {
      note { diagnosis } query { notes(first: 3) { nodes { diagnosis } } fails } } }`,
  ])('beside a field that fails tells no value whose record was taken back: %s', async (document) => {
    await openings.compare();
    await openings.events();
    const { data, errors } = await asAda(document);
    expect(errors?.length).toBeGreaterThan(0);
    const told = JSON.stringify(data ?? null).match(/diagnosis-/g)?.length ?? 0;
    await openings.compare();
    const events = await openings.events();
    const kept = events.filter(({ action }) => action === 'value.open').length;
    const missing = events.filter(({ action }) => action === 'value.mismatch');
    expect(told).toBeGreaterThan(2);
    expect({ kept, missing }).toEqual({ kept: told, missing: [] });
  });
});
