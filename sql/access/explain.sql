-- Purpose: the answer to why somebody may or may not do something: verdict, reason, sentence, smallest change, deciding rows.

grant create on schema access, access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.explain_sentence(
  verdict text, reason text, what text, permission text, at timestamptz, needs integer, has integer
) returns text
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select case explain_sentence.verdict
      when 'ALLOWED' then format('Allowed to %s: ', what) when 'DENIED' then format('Not allowed to %s: ', what) else 'No answer: ' end
    || case explain_sentence.reason
      when 'HELD' then format('a role gives %s%s.', permission, ' until ' || t.said)
      when 'OWN_ROW' then 'one''s own row needs no permission.'
      when 'OWN_ROWS' then concat('one''s own rows, which need no permission; rows of others are left out', ', for want of ' || permission, '.')
      when 'ASSIGN' then 'a role allows to put in rows in the name of others.'
      when 'NOT_HELD' then format('no role gives %s.', permission)
      when 'NOT_YET' then format('the role that gives %s counts from %s.', permission, t.said)
      when 'ENDED' then format('the role that gave %s ended at %s.', permission, t.said)
      when 'SCOPE' then format('%s is held, but not by this API key.', permission)
      when 'NOT_OWN' then 'the row is in the name of somebody else.'
      when 'ASSURANCE' then format('it needs a session of assurance level %s, and this has level %s.', needs, has)
      when 'CLOSED' then 'there is no rule that lets anybody.'
      when 'OTHER_ROLES' then 'the rule is for other roles of the database.'
      when 'NOT_GRANTED' then 'there is a rule, but the grant of the database that belongs to it is missing.'
      when 'COLUMN_CLOSED' then 'there is no column of this name that anybody may use so.'
      when 'NOT_PROTECTED' then 'the table is not under rules.'
      when 'PARTITION' then 'rows of a partition are reached through the partitioned table.'
      when 'OTHER_ORGANIZATION' then 'the row belongs to another organization.'
      when 'ROW_NOT_FOUND' then 'there is no such row, or it may not be seen.'
      when 'PERSON_INACTIVE' then 'the account is not active.'
      when 'ORGANIZATION_INACTIVE' then 'the organization is suspended or closed.'
      when 'NOT_FOUND' then 'there is no such member in this organization.'
      when 'NOT_PERMITTED' then 'asking about others needs access.explain.'
      when 'QUESTION_UNCLEAR' then 'ask for a permission, or for a command and a table.'
      when 'PERMISSION_UNKNOWN' then 'there is no such permission.'
      when 'COMMAND_UNKNOWN' then 'a command is select, insert, update or delete.'
      when 'TABLE_UNKNOWN' then 'there is no such table under rules: it is named schema.table.'
      when 'TABLE_UNRULED' then 'other policies than those of access.protect() decide on this table.'
      when 'OWNER_HIDDEN' then 'whose row it is may not be seen.'
      when 'ORGANIZATION_UNCLEAR' then 'say in which organization.'
    end
  from (select to_char(explain_sentence.at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"') as said) t
$$;
comment on function access_private.explain_sentence(text, text, text, text, timestamptz, integer, integer) is
  'An explanation for people: reason by reason. Repeats nothing that was typed.';

create or replace function access_private.smallest_role(organization_id uuid, permissions text[], all_roles boolean) returns text
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select r.name
    from access.roles r
    join access.role_permissions rp on rp.organization_id = r.organization_id and rp.role_id = r.id
    where r.organization_id = smallest_role.organization_id and (r.built_in or smallest_role.all_roles)
    group by r.id, r.name
    having array_agg(rp.permission) @> smallest_role.permissions
    order by count(*), r.name
    limit 1
$$;
comment on function access_private.smallest_role(uuid, text[], boolean) is
  'The role with the fewest permissions that gives all of these; of the built-in ones only, for who may not see roles.';

create or replace function access_private.explain_command(
  relation oid, command text, organization_id uuid, person_id uuid, column_name text, new_owner uuid,
  row_seen text, row_owner uuid, self boolean, assurance integer,
  out verdict text, out reason text, out permission text, out at timestamptz, out missing text[], out needs integer,
  out waits boolean, out wait timestamptz, out deciding jsonb
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_rule access.rules;
  v_closed text;
  v_step record;
  v_one text;
begin
  deciding := '[]';
  missing := '{}';
  waits := true;
  -- A row that a statement names is read by it, so changing and removing it need reading as well.
  foreach v_one in array case when command in ('update', 'delete') then array[command, 'select'] else array[command] end loop
    select r.* into v_rule from access.rules r where r.relation = explain_command.relation and r.command = v_one;
    v_closed := case
      when v_rule.relation is null or v_one = 'insert' and v_rule.permission is null then 'CLOSED'
      when not 'safetypin_member' = any (v_rule.roles) then 'OTHER_ROLES'
      when not access_private.is_granted(relation, v_one) then 'NOT_GRANTED'
      when v_one = command and column_name is not null and not access_private.is_granted(relation, v_one, column_name) then 'COLUMN_CLOSED' end;
    if v_closed is not null then
      verdict := 'DENIED';
      reason := v_closed;
      return;
    end if;
    v_step := access_private.explain_rule(v_rule, organization_id, person_id, self, assurance, case
      when v_one = 'insert' then new_owner = person_id
      when row_seen = 'SEEN' then coalesce(row_owner = person_id, false)
      when row_seen = 'OWNER_HIDDEN' then false end);
    deciding := deciding || v_step.deciding;
    if v_step.passes then
      -- The command's own rule says why; reading only takes away.
      if verdict is null or verdict = 'ALLOWED' and v_step.reason = 'OWN_ROWS' then
        verdict := 'ALLOWED';
        reason := v_step.reason;
        permission := v_rule.permission;
        at := v_step.at;
      end if;
      continue;
    end if;
    if row_seen = 'OWNER_HIDDEN' and v_one <> 'insert' and v_rule.owner_column is not null and v_step.reason <> 'ASSURANCE' then
      verdict := null;
      reason := 'OWNER_HIDDEN';
      return;
    end if;
    if verdict is distinct from 'DENIED' then
      verdict := 'DENIED';
      reason := v_step.reason;
      permission := coalesce(v_step.missing, v_rule.permission);
      at := v_step.at;
    end if;
    missing := missing || v_step.missing;
    needs := greatest(needs, case when assurance < v_rule.assurance then v_rule.assurance end);
    waits := waits and v_step.reason = 'NOT_YET';
    wait := greatest(wait, v_step.at);
  end loop;
  missing := array_remove(missing, null);
end $$;
comment on function access_private.explain_command(oid, text, uuid, uuid, text, uuid, text, uuid, boolean, integer) is
  'Whether the rules and grants of one table let a member do one command, the first reason, all that is missing, and the rows that decided. Verdict is null where the owner of the row decides and may not be seen.';

create or replace function access_private.explain(
  organization_id uuid, person_id uuid, permission text, command text, table_name text, column_name text,
  owner_id uuid, row_seen text, row_owner uuid, self boolean, assurance integer, all_roles boolean, for_owner boolean,
  out verdict text, out reason text, out sentence text, out change text, out deciding jsonb
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_command text := lower(explain.command);
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
  deciding := (
    select jsonb_build_array(
        jsonb_build_object('kind', 'organization', 'status', o.status, 'closesAt', nullif(o.closes_at, 'infinity')),
        jsonb_build_object('kind', 'person', 'status', p.status, 'memberSince', m.created_at))
      from access.memberships m
      join access.organizations o on o.id = m.organization_id
      join identity.people p on p.id = m.person_id
      where m.organization_id = explain.organization_id and m.person_id = explain.person_id);
  <<answer>>
  begin
    if (explain.permission is null) = (explain.table_name is null) or (explain.command is null) <> (explain.table_name is null)
      or (explain.column_name is not null and coalesce(v_command, 'delete') = 'delete') then
      reason := 'QUESTION_UNCLEAR';
      exit answer;
    end if;
    if deciding is null then
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
    if deciding -> 0 ->> 'status' <> 'active' or (deciding -> 0 ->> 'closesAt')::timestamptz <= clock_timestamp() then
      reason := 'ORGANIZATION_INACTIVE';
      exit answer;
    end if;
    if deciding -> 1 ->> 'status' <> 'active' then
      reason := 'PERSON_INACTIVE';
      exit answer;
    end if;
    if explain.permission is not null then
      v_held := access_private.explain_held(organization_id, person_id, explain.permission, self);
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
        'own', case when row_seen = 'SEEN' then coalesce(row_owner = explain.person_id, false) end);
      if row_seen = 'ELSEWHERE' then
        reason := 'OTHER_ORGANIZATION';
        exit answer;
      end if;
    end if;

    v_step := access_private.explain_command(v_table.relation, v_command, organization_id, person_id, explain.column_name,
      coalesce(explain.owner_id, explain.person_id), row_seen, row_owner, self, explain.assurance);
    verdict := v_step.verdict;
    reason := v_step.reason;
    v_permission := v_step.permission;
    v_at := v_step.at;
    v_missing := v_step.missing;
    v_needs := v_step.needs;
    v_waits := v_step.waits;
    v_wait := v_step.wait;
    deciding := deciding || v_step.deciding;
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
  sentence := access_private.explain_sentence(verdict, reason, v_what, v_permission, v_at, v_needs, explain.assurance);
  change := case
    when verdict <> 'DENIED' then null
    when reason in ('CLOSED', 'NOT_GRANTED', 'NOT_PROTECTED', 'OTHER_ROLES') then case
      when for_owner then format('select access.protect(%L, …);', v_name)
      else 'whoever owns the table opens it with access.protect()' end
    when reason = 'SCOPE' then 'use a key that is scoped to it, or sign in'
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
comment on function access_private.explain(uuid, uuid, text, text, text, text, uuid, text, uuid, boolean, integer, boolean, boolean) is
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
    from access_private.explain(v_organization, explain_for_owner.person_id, explain_for_owner.permission,
      explain_for_owner.command, explain_for_owner.table_name, null, null,
      case when row_organization <> v_organization then 'ELSEWHERE' else row_seen end, row_owner,
      false, explain_for_owner.assurance, true, true) x;
end $$;
comment on function access_private.explain_for_owner(uuid, text, text, text, text, uuid, uuid, uuid, integer) is
  'What access.explain() asks, once it has looked the row up as whoever calls it.';

reset role;
reset row_security;
revoke create on schema access, access_private from safetypin_definer;

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
