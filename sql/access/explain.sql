-- Purpose: the answer to why somebody may or may not do something: verdict, reason, sentence, smallest change, deciding rows.

grant create on schema access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.explain(
  organization_id uuid, person_id uuid, api_key access.api_keys, permission text, command text, table_name text, column_name text,
  owner_id uuid, row_seen text, row_owner uuid, self boolean, assurance integer, all_roles boolean, for_owner boolean,
  out verdict text, out reason text, out sentence text, out change text, out deciding jsonb
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_command text := lower(explain.command);
  v_organization access.organizations;
  v_person record;
  v_what text;
  v_table record;
  v_name text;
  v_held record;
  v_step record;
  v_permission text;
  v_at timestamptz;
  v_needs integer;
  v_missing text[] := '{}';
  v_wait timestamptz;
  v_waits boolean := true;
begin
  select o.* into v_organization from access.organizations o where o.id = explain.organization_id;
  select p.status, m.created_at into v_person
    from access.memberships m
    join identity.people p on p.id = m.person_id
    where m.organization_id = explain.organization_id and m.person_id = explain.person_id;
  deciding := jsonb_build_array(jsonb_build_object('kind', 'organization', 'status', v_organization.status,
    'closesAt', nullif(v_organization.closes_at, 'infinity')));
  if api_key.service_account_id is null then
    deciding := deciding || jsonb_build_object('kind', 'person', 'status', v_person.status, 'memberSince', v_person.created_at);
  end if;
  if api_key.id is not null then
    deciding := deciding || jsonb_build_object('kind', 'key', 'permissions', api_key.permissions,
      'serviceAccount', api_key.service_account_id, 'expiresAt', api_key.expires_at, 'revokedAt', api_key.revoked_at);
  end if;
  <<answer>>
  begin
    if (explain.permission is null) = (explain.table_name is null) or (explain.command is null) <> (explain.table_name is null)
      or (explain.column_name is not null and coalesce(v_command, 'delete') = 'delete') then
      reason := 'QUESTION_UNCLEAR';
      exit answer;
    end if;
    if api_key.service_account_id is null and v_person.status is null then
      reason := 'NOT_FOUND';
      exit answer;
    end if;
    if explain.permission is not null and not exists (select from access.permissions p where p.name = explain.permission) then
      reason := 'PERMISSION_UNKNOWN';
      exit answer;
    end if;
    if v_command <> all ('{select,insert,update,delete}') then
      reason := 'COMMAND_UNKNOWN';
      exit answer;
    end if;
    if explain.table_name is not null then
      v_table := access_private.find_table(explain.table_name, for_owner);
      v_name := v_table.full_name;
      if v_table.standing = 'UNKNOWN' or v_table.standing = 'UNRULED' and not for_owner then
        reason := 'TABLE_' || v_table.standing;
        exit answer;
      end if;
      v_what := format('%s %s of %s', v_command, case when row_seen is null or v_command = 'insert' then 'rows' else 'this row' end, v_name);
    else
      v_what := format('do what %s is for', explain.permission);
    end if;

    -- From here on there is an answer, unless whose row it is decides and may not be seen.
    verdict := 'DENIED';
    if v_organization.status <> 'active' or v_organization.closes_at <= clock_timestamp() then
      reason := 'ORGANIZATION_INACTIVE';
      exit answer;
    end if;
    if v_person.status <> 'active' then
      reason := 'PERSON_INACTIVE';
      exit answer;
    end if;
    if api_key.revoked_at is not null or api_key.expires_at <= clock_timestamp() then
      reason := 'KEY_OVER';
      exit answer;
    end if;
    if explain.permission is not null then
      v_held := access_private.explain_held(organization_id, person_id, api_key, explain.permission, self);
      deciding := deciding || v_held.grants;
      reason := v_held.reason;
      v_permission := explain.permission;
      v_at := v_held.at;
      if reason = 'HELD' then
        verdict := 'ALLOWED';
      else
        v_missing := array[explain.permission];
        v_waits := reason = 'NOT_YET';
        v_wait := v_at;
      end if;
      exit answer;
    end if;
    if v_table.standing <> 'RULED' then
      reason := case v_table.standing when 'PARTITION' then 'PARTITION' else 'NOT_PROTECTED' end;
      exit answer;
    end if;
    if not (select c.relrowsecurity from pg_class c where c.oid = v_table.relation) then
      verdict := null;
      reason := 'TABLE_UNRULED';
      exit answer;
    end if;
    deciding := deciding || jsonb_build_object('kind', 'session', 'assurance', explain.assurance);
    if row_seen is not null and v_command <> 'insert' then
      deciding := deciding || jsonb_build_object('kind', 'row', 'found', row_seen in ('SEEN', 'OWNER_HIDDEN'), 'owner', row_owner,
        'own', case when row_seen = 'SEEN' then api_key.id is null and coalesce(row_owner = explain.person_id, false) end);
      if row_seen = 'ELSEWHERE' then
        reason := 'OTHER_ORGANIZATION';
        exit answer;
      end if;
    end if;

    v_step := access_private.explain_command(v_table.relation, v_command, organization_id, person_id, api_key, explain.column_name,
      coalesce(explain.owner_id, explain.person_id), row_seen, row_owner, self, explain.assurance);
    verdict := v_step.verdict;
    reason := v_step.reason;
    v_permission := v_step.permission;
    v_at := v_step.at;
    v_missing := v_step.missing;
    v_needs := v_step.needs;
    v_waits := v_step.waits;
    v_wait := v_step.wait;
    deciding := deciding || v_step.deciding || access_private.explain_policies(v_table.relation, v_command);
    if verdict = 'ALLOWED' and row_seen = 'NONE' and v_command <> 'insert' then
      -- Of others' rows nothing is told that the asker does not see.
      verdict := case when self then 'DENIED' end;
      reason := 'ROW_NOT_FOUND';
    end if;
  end answer;

  if verdict is null then
    verdict := 'REFUSED';
    deciding := '[]';
  end if;
  sentence := access_private.explain_sentence(verdict, reason, v_what, v_permission, v_at, v_needs, explain.assurance)
    || case when verdict = 'ALLOWED' and deciding @> '[{"kind": "policy"}]' then ' Policies of the table''s own may narrow it.' else '' end;
  change := case
    when verdict <> 'DENIED' then null
    when reason in ('CLOSED', 'NOT_GRANTED', 'NOT_PROTECTED', 'OTHER_ROLES') then case
      when for_owner then format('select access.protect(%L, …);', v_name)
      else 'whoever owns the table opens it with access.protect()' end
    when reason in ('SCOPE', 'KEY_OVER') then 'make another API key'
    when api_key.service_account_id is not null then 'make another service account'
    when reason = 'PERSON_INACTIVE' then 'make the account active'
    when reason = 'ORGANIZATION_INACTIVE' then 'make the organization active'
    when reason = 'PARTITION' then 'ask for the partitioned table'
    else concat_ws(' and ',
      case
        when cardinality(v_missing) = 0 then case when reason = 'NOT_OWN' then 'put in one''s own name' end
        when v_waits then 'wait until ' || to_char(v_wait at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')
        else coalesce('grant the role ' || quote_ident(access_private.smallest_role(organization_id, v_missing, all_roles)),
          'grant a role that gives ' || array_to_string(v_missing, ' and ')) end,
      case v_needs when 2 then 'sign in with a second factor' when 3 then 'sign in with a passkey or security key' end) end;
end $$;
comment on function access_private.explain(uuid, uuid, access.api_keys, text, text, text, text, uuid, text, uuid, boolean, integer, boolean, boolean) is
  'ALLOWED, DENIED or REFUSED (no answer), a reason in one word, a sentence, the smallest change, and the rows that decided. row_seen: null (no row asked), SEEN, OWNER_HIDDEN, ELSEWHERE (in another organization) or NONE.';

create or replace function access_private.explain_for_owner(
  person_id uuid, permission text, command text, table_name text, row_seen text, row_owner uuid, row_organization uuid,
  organization_id uuid, assurance integer,
  out verdict text, out reason text, out sentence text, out change text, out deciding jsonb
)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows the reading of rules, roles and grants of every organization; only owners of tables are granted it.
declare
  v_organization uuid := coalesce(explain_for_owner.organization_id, row_organization, (
    -- min() is not for uuid.
    select (array_agg(m.organization_id))[1] from access.memberships m
    where m.person_id = explain_for_owner.person_id having count(*) = 1));
begin
  if v_organization is null then
    verdict := 'REFUSED';
    reason := 'ORGANIZATION_UNCLEAR';
    sentence := access_private.explain_sentence(verdict, reason, null, null, null, null, null);
    deciding := '[]';
    return;
  end if;
  select x.* into verdict, reason, sentence, change, deciding
    from access_private.explain(v_organization, explain_for_owner.person_id, null, explain_for_owner.permission,
      explain_for_owner.command, explain_for_owner.table_name, null, null,
      case when row_organization <> v_organization then 'ELSEWHERE' else row_seen end, row_owner,
      false, explain_for_owner.assurance, true, true) x;
end $$;
comment on function access_private.explain_for_owner(uuid, text, text, text, text, uuid, uuid, uuid, integer) is
  'What access.explain() asks, once it has looked the row up as whoever calls it.';

reset role;
reset row_security;
revoke create on schema access_private from safetypin_definer;

create or replace function access.row_seen(
  relation oid, key_column name, organization_column name, owner_column name, key text,
  out seen text, out owner_id uuid, out organization_id uuid
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Invoker: what is said of a row is what who asks can see of it. So a row that he cannot see is one that does not exist.
declare
  v_table text;
  v_type text;
begin
  seen := 'NONE';
  select format('%I.%I', n.nspname, c.relname), case
      when a.atttypid = 'uuid'::regtype and row_seen.key ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then 'uuid'
      when a.atttypid = any (array['smallint', 'integer', 'bigint']::regtype[]) and row_seen.key ~ '^-?[0-9]{1,18}$' then 'bigint'
      when a.atttypid = any (array['text', 'varchar']::regtype[]) then 'text' end
    into v_table, v_type
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attname = row_seen.key_column
    where c.oid = row_seen.relation and has_schema_privilege(n.oid, 'usage') and has_column_privilege(c.oid, a.attnum, 'select');
  if v_type is null then
    return;
  end if;
  if owner_column is null or has_column_privilege(relation, owner_column, 'select') then
    execute format('select %L, %s, %s from %s t where t.%I = $1::%s limit 1', 'SEEN',
        case when owner_column is null then 'null' else format('t.%I', owner_column) end,
        case when has_column_privilege(relation, organization_column, 'select') then format('t.%I', organization_column) else 'null' end,
        v_table, key_column, v_type)
      into seen, owner_id, organization_id using key;
  else
    execute format('select %L from %s t where t.%I = $1::%s limit 1', 'OWNER_HIDDEN', v_table, key_column, v_type)
      into seen using key;
  end if;
  seen := coalesce(seen, 'NONE');
end $$;
comment on function access.row_seen(oid, name, name, name, text) is
  'Whether whoever calls it sees the row with this key (SEEN, OWNER_HIDDEN, NONE), and whose it is. For what explains access.';

create or replace function access.explain(
  person_id uuid, what text, table_name text default null, row_key text default null,
  organization_id uuid default null, assurance integer default 1,
  out verdict text, out reason text, out sentence text, out change text, out deciding jsonb
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Invoker: only who owns the table sees its rows here.
declare
  v_place record;
  v_row record;
begin
  v_place := access.explain_place(table_name, lower(what));
  v_row := access.row_seen(v_place.relation, v_place.key_column, v_place.organization_column, v_place.owner_column, row_key);
  select x.* into verdict, reason, sentence, change, deciding
    from access_private.explain_for_owner(explain.person_id,
      case when explain.table_name is null then what end, case when explain.table_name is not null then what end,
      explain.table_name, case when row_key is not null then v_row.seen end, v_row.owner_id, v_row.organization_id,
      explain.organization_id, explain.assurance) x;
end $$;
comment on function access.explain(uuid, text, text, text, uuid, integer) is
  'For a DBA: why a person may or may not do something: a permission, or a command on a table and a row. In the row''s organization, the given one, or the only one of that person; with a session of the given assurance level.';
