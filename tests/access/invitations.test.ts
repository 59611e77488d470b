// Invitations (LG-08, LG-12): who may invite whom as what, what a token is good for, and how long.
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { accept, actIn, invite, invited, membership } from './invited.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  ada = await app.person('ada');
});

describe('somebody who is invited', () => {
  it('joins with the account of that address, as what was said, and acts there', async () => {
    const bob = await app.person('bob');
    const { token } = await invited(app, ada, bob.email.toUpperCase().toLowerCase(), 'viewer');
    expect(await accept(app, bob, token)).toEqual({
      outcome: 'ACCEPTED',
      reasons: [],
      organization_id: ada.organization,
    });
    expect(await membership(admin, ada.organization, bob)).toBeDefined();
    const there = await actIn(app, bob, ada.organization);
    expect(
      (
        await app.call<{ may: boolean[] }>(
          there.credential,
          "select array[request.can('row.read'), request.can('row.create')] as may",
        )
      ).may,
    ).toEqual([true, false]);
    expect(await accept(app, bob, token)).toMatchObject({ outcome: 'REFUSED', reasons: ['TOKEN_INVALID'] });
    expect(await invite(app, ada, bob.email)).toMatchObject({ outcome: 'REFUSED', reasons: ['ALREADY_MEMBER'] });
  });
});
