import type { WithPgClient } from 'postgraphile/@dataplan/pg';

/** What row-level security says of a table: whether it keeps tenants apart, and which commands it lets through at all. */
export interface Ruled {
  readonly relation: string;
  /** Whoever reads a row reads it under a policy that demands the active organization. */
  readonly tenant: boolean;
  /** As pg_policy writes them: r, a, w, d. */
  readonly open: readonly string[];
}

// The policies and not access.rules: they are what PostgreSQL does. Of the roles that the login can become, for others
// come by no request; a policy for everybody is one for role 0.
const RULED = `
  select c.oid::text as relation,
      array(select k from unnest(array['r', 'a', 'w', 'd']) k
        where exists (select from pg_policy p where p.polrelid = c.oid and p.polpermissive and p.polcmd in (k, '*'))) as open,
      exists (select from pg_policy p where p.polrelid = c.oid and p.polpermissive and p.polcmd in ('r', '*'))
        and not exists (
          select from pg_policy p cross join unnest(p.polroles) role
          where p.polrelid = c.oid and p.polpermissive and p.polcmd in ('r', '*')
            and (role = 0 or pg_has_role(role, 'member'))
            and not exists (
              select from pg_policy t
              where t.polrelid = c.oid and not t.polpermissive and t.polcmd in ('r', '*')
                and t.polroles && array[role, 0::oid]
                and pg_get_expr(t.polqual, t.polrelid) ~ '^\\(organization_id = \\( SELECT request\\.organization_id\\(\\)')) as tenant
    from pg_class c
    where c.relrowsecurity and c.relkind in ('r', 'p')`;

/** Asks which tables are under row-level security, as the login of the API. */
export async function readRuled(withPgClient: WithPgClient): Promise<readonly Ruled[]> {
  const { rows } = await withPgClient(null, (client) => client.query<Ruled>({ text: RULED }));
  return rows;
}
