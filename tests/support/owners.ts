// Taking roles and memberships away with plain SQL. An organization keeps an owner whoever asks, so somebody stands in.
import type pg from 'pg';

type Queryable = Pick<pg.ClientBase, 'query'>;

/** Somebody else who owns each of these organizations, and has no account. */
export async function standIn(admin: Queryable, organizations: readonly string[]): Promise<void> {
  await admin.query(
    `with asked as (select platform.uuid_v7() as person_id, o.id from access.organizations o
        where o.id = any ($1::uuid[]) and not exists (
          select from access.memberships m left join identity_private.passwords w using (person_id)
          where m.organization_id = o.id and w.person_id is null)),
      people as (insert into identity.people (id, status) select person_id, 'active' from asked),
      members as (insert into access.memberships (organization_id, id, person_id)
        select id, platform.uuid_v7(), person_id from asked returning organization_id, id)
      insert into access.membership_roles (organization_id, membership_id, role_id)
        select m.organization_id, m.id, r.id from members m
          join access.roles r on r.organization_id = m.organization_id and r.built_in and r.name = 'owner'`,
    [organizations],
  );
}

/** Takes all roles of everybody else in an organization. */
export async function takeRoles(admin: Queryable, organization: string): Promise<void> {
  await standIn(admin, [organization]);
  await admin.query(
    `delete from access.membership_roles mr using access.memberships m, identity_private.passwords w
       where mr.organization_id = $1 and m.id = mr.membership_id and w.person_id = m.person_id`,
    [organization],
  );
}

/** Takes a person out of all her organizations. */
export async function takeMemberships(admin: Queryable, person: string): Promise<void> {
  const { rows } = await admin.query('select organization_id as id from access.memberships where person_id = $1', [
    person,
  ]);
  await standIn(
    admin,
    rows.map(({ id }) => id),
  );
  await admin.query('delete from access.memberships where person_id = $1', [person]);
}
