-- default privileges
of safetypin_definer on functions: safetypin_definer=X/safetypin_definer
of safetypin_keeper on functions: safetypin_keeper=X/safetypin_keeper
of safetypin_owner on functions: safetypin_owner=X/safetypin_owner

-- extension pgcrypto
schema extensions

-- extension plpgsql
schema pg_catalog

-- function access.clean_up(batch integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.clean_up(batch integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_over constant timestamptz := clock_timestamp() - make_interval(secs => platform.limit_value('keep.invitation_seconds'));
  v_keys_over constant timestamptz := clock_timestamp() - make_interval(secs => platform.limit_value('keep.api_key_seconds'));
  v_count integer;
  v_total integer := 0;
begin
  if request.task() is distinct from 'access__clean_up' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  -- Its mails and tokens go before it, by identity.clean_up(): a cascade would wait for rows that are in use.
  delete from access.invitations i
    using (select o.organization_id, o.id from access.invitations o
           where least(o.ended_at, o.expires_at) < v_over
             and not exists (select from identity_private.tokens t where t.organization_id = o.organization_id and t.invitation_id = o.id)
             and not exists (select from identity_private.mails m where m.organization_id = o.organization_id and m.invitation_id = o.id)
           limit least(greatest(batch, 1), 10000) for update skip locked) old
    where i.organization_id = old.organization_id and i.id = old.id;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;
  delete from access.api_keys k
    using (select o.organization_id, o.id from access.api_keys o
           where least(o.revoked_at, o.expires_at) < v_keys_over
           limit least(greatest(batch, 1), 10000) for update skip locked) old
    where k.organization_id = old.organization_id and k.id = old.id;
  get diagnostics v_count = row_count;
  return v_total + v_count;
end $function$
comment 'Task access__clean_up: removes a batch of invitations that are over, with their addresses, and of API keys that ended long ago; returns how many. DENYD outside it.'

-- function access.close_organizations(batch integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.close_organizations(batch integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_count integer;
begin
  if request.task() is distinct from 'access__close_organizations' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  with closed as (
    update access.organizations o
      set status = 'closed', updated_at = clock_timestamp(), version = o.version + 1
      from (select c.id from access.organizations c
            where c.closes_at <= clock_timestamp() and c.status <> 'closed'
            order by c.id
            limit least(greatest(batch, 1), 1000) for no key update skip locked) over
      where o.id = over.id
      returning o.id)
  select count(*) filter (where audit_private.append('organization.end', c.id) is not null)::integer into v_count from closed c;
  return v_count;
end $function$
comment 'Task access__close_organizations: says closed of organizations that are over already by the clock; returns how many. DENYD outside it.'

-- function access.define_permission(name text, description text, roles text[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.define_permission(name text, description text, roles text[] DEFAULT '{owner,admin}'::text[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Borrows the right to write the catalog; only owners of tables are granted it, and it can add, never take.
begin
  insert into access.permissions (name, description, default_roles)
    values (define_permission.name, define_permission.description, define_permission.roles)
    on conflict on constraint permissions_pkey do update
      set description = excluded.description, default_roles = excluded.default_roles;
  insert into access.role_permissions (organization_id, role_id, permission)
    select r.organization_id, r.id, define_permission.name
    from access.roles r
    where r.built_in and r.name = any (define_permission.roles)
    on conflict do nothing;
end $function$
comment 'Adds a permission (noun.verb) to the catalog and gives it to built-in roles of all organizations.'

-- function access.define_setting(name text, type text, default_value jsonb, description text, minimum bigint, maximum bigint, allowed text[], read_permission text, write_permission text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.define_setting(name text, type text, default_value jsonb, description text, minimum bigint DEFAULT NULL::bigint, maximum bigint DEFAULT NULL::bigint, allowed text[] DEFAULT NULL::text[], read_permission text DEFAULT 'setting.read'::text, write_permission text DEFAULT 'setting.update'::text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Borrows the right to write the catalog; only owners of tables are granted it, and it can add, never take.
declare
  v_definition access.setting_definitions;
begin
  v_definition.name := define_setting.name;
  v_definition.type := define_setting.type;
  v_definition.default_value := define_setting.default_value;
  v_definition.minimum := define_setting.minimum;
  v_definition.maximum := define_setting.maximum;
  v_definition.allowed := define_setting.allowed;
  v_definition.description := define_setting.description;
  v_definition.read_permission := define_setting.read_permission;
  v_definition.write_permission := define_setting.write_permission;
  -- No role is there in all organizations: a role is off until one is chosen.
  if v_definition.type = 'role' and coalesce(v_definition.default_value, 'null') <> 'null'
    or v_definition.type <> 'role' and not access_private.setting_fits(v_definition, v_definition.default_value)
  then
    raise exception 'the default of % must be %', v_definition.name,
      case v_definition.type when 'role' then 'null' else access_private.setting_allows(v_definition) end using errcode = '22023';
  end if;
  insert into access.setting_definitions as d select v_definition.*
    on conflict on constraint setting_definitions_pkey do update
      set default_value = excluded.default_value, minimum = excluded.minimum, maximum = excluded.maximum,
          allowed = excluded.allowed, description = excluded.description,
          read_permission = excluded.read_permission, write_permission = excluded.write_permission
      where d.type = excluded.type and d.limit_name is null;
  if not found then
    raise exception 'there is a setting % already, of another type or under a limit', v_definition.name using errcode = '22023';
  end if;
end $function$
comment 'Adds a setting (noun.word) that organizations can change, or changes its bounds and default. 22023 for a default out of its own bounds.'

-- function access.due_domains(batch integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.due_domains(batch integer)
 RETURNS TABLE(organization_id uuid, id uuid, challenge_name text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now constant timestamptz := clock_timestamp();
  -- Whoever takes one has ten minutes to say what DNS answered; then it is anybody's again.
  v_until constant timestamptz := v_now + interval '10 minutes';
begin
  perform access_private.check_domain_task();
  if request.task() = 'access__check_domain' then
    return query
      update access.domains d set next_check_at = v_until
        where d.organization_id = request.organization_id() and d.id = request.job_value('id')
          and access_private.living(d.organization_id)
        returning d.organization_id, d.id, d.challenge_name;
    return;
  end if;
  return query
    with due as (
      select d.organization_id, d.id
        from access.domains d
        where d.next_check_at <= v_now and access_private.living(d.organization_id)
        order by d.next_check_at
        limit least(greatest(due_domains.batch, 1), 1000)
        for no key update skip locked)
    update access.domains d set next_check_at = v_until
      from due
      where d.organization_id = due.organization_id and d.id = due.id
      returning d.organization_id, d.id, d.challenge_name;
end $function$
comment 'Tasks access__check_domains and access__check_domain: takes a batch of domains that DNS is to be asked about. DENYD outside them.'

-- function access.exempt(object text, reason text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.exempt(object text, reason text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Borrows the right to write the list. The check: who calls must be able to act as the object's owner.
declare
  v_object text;
  v_owner oid;
begin
  select format('%I.%I', n.nspname, c.relname), c.relowner into v_object, v_owner
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where format('%I.%I', n.nspname, c.relname) = exempt.object;
  if not found then
    -- By the text: the definer may not use a host's schema.
    select p.oid::regprocedure::text, p.proowner into v_object, v_owner
      from pg_proc p where p.prosecdef and p.oid::regprocedure::text = exempt.object;
  end if;
  -- What is gone, or was renamed, is taken off by its old name.
  if v_object is null and reason is null then
    v_object := exempt.object;
  elsif v_object is null then
    raise exception 'there is no table or view, and no function that runs as its owner, named %', exempt.object using errcode = 'TABLE',
      hint = 'Name it as access.gaps() does: with its schema, and a function with the types of its arguments.';
  elsif not pg_has_role(session_user, v_owner, 'member') then
    raise exception 'only the owner of % can exempt it', v_object using errcode = '42501';
  end if;
  if reason is null then
    delete from access.exemptions e where e.object = v_object;
  elsif length(btrim(reason)) not between 10 and 1000 then
    raise exception 'say in words why % needs no rules', v_object using errcode = 'TABLE';
  else
    insert into access.exemptions as e (object, reason) values (v_object, btrim(exempt.reason))
      on conflict on constraint exemptions_pkey do update set reason = excluded.reason where e.reason <> excluded.reason;
  end if;
  if found then
    perform audit_private.append('table.exempt', relation => v_object, details => jsonb_build_object('reason', btrim(reason)));
  end if;
end $function$
comment 'Lists a table, view or function of an exposed schema as needing no rules, with the reason; without a reason takes it off the list. 42501 unless the caller owns it. TABLE for what is not there, or for no reason in words.'

-- function access.explain(person_id uuid, what text, table_name text, row_key text, organization_id uuid, assurance integer, OUT verdict text, OUT reason text, OUT sentence text, OUT change text, OUT deciding jsonb)
owner safetypin_owner
CREATE OR REPLACE FUNCTION access.explain(person_id uuid, what text, table_name text DEFAULT NULL::text, row_key text DEFAULT NULL::text, organization_id uuid DEFAULT NULL::uuid, assurance integer DEFAULT 1, OUT verdict text, OUT reason text, OUT sentence text, OUT change text, OUT deciding jsonb)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
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
end $function$
comment 'For a DBA: why a person may or may not do something: a permission, or a command on a table and a row. In the row''s organization, the given one, or the only one of that person; with a session of the given assurance level.'

-- function access.explain_place(table_name text, command text, OUT relation oid, OUT key_column name, OUT organization_column name, OUT owner_column name)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.explain_place(table_name text, command text, OUT relation oid, OUT key_column name, OUT organization_column name, OUT owner_column name)
 RETURNS record
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows the reading of rules; says only where a row of a protected table is looked up, which is then done by who asks.
begin
  select f.relation, r.organization_column, r.owner_column into relation, organization_column, owner_column
    from access_private.find_table(explain_place.table_name, false) f
    join access.rules r on r.relation = f.relation and r.command = explain_place.command
    where f.standing = 'RULED';
  select a.attname into key_column
    from pg_index i
    cross join unnest(i.indkey) with ordinality as k (attnum, position)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = explain_place.relation and i.indisprimary
    -- A partitioned table's key has more columns; the first after the organization names the row.
    order by a.attname = organization_column, k.position
    limit 1;
end $function$
comment 'By which column a row of a protected table is named, and which columns say whose it is, for one command; nulls if nothing is under a rule there.'

-- function access.forget_protection(relation regclass)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.forget_protection(relation regclass)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Borrows the right to remove rules. The check is that of set_rule().
begin
  if not exists (select from pg_class c where c.oid = forget_protection.relation and pg_has_role(session_user, c.relowner, 'member')) then
    raise exception 'only the owner of a table can take its rules away' using errcode = '42501';
  end if;
  delete from access.rules r where r.relation = forget_protection.relation;
  delete from access.protections p where p.relation = forget_protection.relation;
  if found then
    perform audit_private.append('table.unprotect', relation => access_private.table_name(forget_protection.relation));
  end if;
end $function$
comment 'Removes the rules of a table. 42501 unless the caller owns it. access.unprotect() calls it.'

-- function access.gaps(schemas name[])
owner safetypin_owner
CREATE OR REPLACE FUNCTION access.gaps(schemas name[] DEFAULT '{}'::name[])
 RETURNS TABLE(object text, what text, line text, stops boolean)
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select * from access_private.gaps_of_protected()
  union all
  select * from access_private.gaps_of_schemas(gaps.schemas)
$function$
comment 'Where rules do not hold, each with the line to run: tables under rules that are not as their rules say any more, and in these schemas whatever is neither under rules nor exempt (access.exempt). No row means none. A server does not start with one that stops it. Changes nothing.'

-- function access.give_plan(slug text, plan text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.give_plan(slug text, plan text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- As for suspend_organization().
declare
  v_id uuid := access_private.operate(slug);
begin
  if not exists (select from access.plans p where p.name = give_plan.plan) then
    raise exception 'no plan %', give_plan.plan using errcode = 'P0002';
  end if;
  update access.organizations o
    set plan = give_plan.plan, updated_at = clock_timestamp(), version = o.version + 1
    where o.id = v_id and o.plan <> give_plan.plan;
  if found then
    perform audit_private.append('organization.plan', v_id, details => jsonb_build_object('plan', give_plan.plan));
  end if;
  return found;
end $function$
comment 'Gives an organization a plan; nothing is taken from one that has more than the plan allows. False if it had that plan; P0002 if there is no such organization or plan. For operators; recorded.'

-- function access.keep_protection(relation regclass, organization_column name, owner_column name, roles name[], audited boolean, hidden name[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.keep_protection(relation regclass, organization_column name, owner_column name, roles name[], audited boolean, hidden name[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Borrows the right to write what protect() was given. The check is that of set_rule().
begin
  if not exists (select from pg_class c where c.oid = keep_protection.relation and pg_has_role(session_user, c.relowner, 'member')) then
    raise exception 'only the owner of a table can set its rules' using errcode = '42501';
  end if;
  insert into access.protections as p (relation, organization_column, owner_column, roles, audited, hidden)
    values (keep_protection.relation, keep_protection.organization_column, keep_protection.owner_column, keep_protection.roles,
      keep_protection.audited, keep_protection.hidden)
    on conflict on constraint protections_pkey do update
      set organization_column = excluded.organization_column, owner_column = excluded.owner_column, roles = excluded.roles,
          audited = excluded.audited, hidden = excluded.hidden
      where (p.organization_column, p.owner_column, p.roles, p.audited, p.hidden)
        is distinct from (excluded.organization_column, excluded.owner_column, excluded.roles, excluded.audited, excluded.hidden);
  if found then
    -- Tables that were dropped have none any more.
    delete from access.rules r where not exists (select from pg_class c where c.oid = r.relation);
    delete from access.protections p where not exists (select from pg_class c where c.oid = p.relation);
    perform audit_private.append('table.protect', relation => access_private.table_name(keep_protection.relation),
      details => jsonb_build_object('organization', keep_protection.organization_column, 'owner', keep_protection.owner_column,
        'roles', keep_protection.roles, 'audited', keep_protection.audited, 'hidden', keep_protection.hidden));
  end if;
end $function$
comment 'Keeps what a table is protected with besides its rules. 42501 unless the caller owns the table. access.protect() calls it.'

-- function access.list_organizations()
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.list_organizations()
 RETURNS TABLE(slug text, name text, status text, plan text, members integer, created_at timestamp with time zone, closes_at timestamp with time zone)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Borrows reading all organizations; granted to the owner alone.
  select o.slug, o.name, o.status, o.plan, access_private.used(o.id, 'members'), o.created_at, nullif(o.closes_at, 'infinity')
    from access.organizations o
    order by o.created_at, o.id
$function$
comment 'All organizations, oldest first. For operators.'

-- function access.note_domain_check(organization_id uuid, id uuid, answered boolean, records text[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.note_domain_check(organization_id uuid, id uuid, answered boolean, records text[])
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_domain access.domains;
  v_answer text;
begin
  perform access_private.check_domain_task(id);
  select d.* into v_domain from access.domains d
    where d.organization_id = note_domain_check.organization_id and d.id = note_domain_check.id;
  perform access_private.hold_domain(v_domain.domain);
  -- As it is now that it is held.
  select d.* into v_domain from access.domains d
    where d.organization_id = note_domain_check.organization_id and d.id = note_domain_check.id
    for no key update;
  if not found then
    return null;
  end if;
  v_answer := case
    when answered is not true then 'unanswered'
    when v_domain.challenge_value = any (records) then 'proved'
    else 'absent' end;
  if v_answer = 'proved' and exists (select from access.shared_domains s where s.domain = v_domain.domain) then
    v_answer := 'taken';
  elsif v_answer = 'proved' and not access_private.claim_domain(v_domain) then
    v_answer := 'taken';
  end if;
  update access.domains d
    set checked_at = clock_timestamp(), last_answer = v_answer,
        failures = case v_answer when 'proved' then 0 when 'unanswered' then d.failures else d.failures + 1 end,
        status = case v_answer when 'proved' then 'verified' else d.status end,
        verified_at = case when v_answer = 'proved' and d.status <> 'verified' then clock_timestamp() else d.verified_at end,
        lost_at = case v_answer when 'proved' then null else d.lost_at end,
        next_check_at = access_private.next_domain_check(d, v_answer)
    where d.organization_id = v_domain.organization_id and d.id = v_domain.id;
  if v_answer = 'proved' and v_domain.status <> 'verified' then
    perform audit_private.append('domain.verify', v_domain.organization_id, relation => 'access.domains', row_id => v_domain.id::text);
  elsif v_answer = 'taken' and v_domain.last_answer is distinct from 'taken' then
    perform audit_private.append('domain.refuse', v_domain.organization_id, relation => 'access.domains', row_id => v_domain.id::text);
  elsif v_answer <> 'proved' and not access_private.fail_domain(v_domain, answered is true)
    and v_answer = 'absent' and v_domain.status = 'verified' and v_domain.failures = 0 then
    perform audit_private.append('domain.fail', v_domain.organization_id, relation => 'access.domains', row_id => v_domain.id::text);
  end if;
  return v_answer;
end $function$
comment 'Tasks access__check_domains and access__check_domain: what DNS answered about a domain. answered is false when it did not, which counts as nothing. Returns proved, absent, unanswered or taken; null if the domain is gone. DENYD outside them.'

-- function access.protect(relation regclass, organization name, owner name, "select" text, insert text, update text, delete text, assurance integer, roles name[], audited boolean, assign text, hidden name[])
owner safetypin_owner
CREATE OR REPLACE FUNCTION access.protect(relation regclass, organization name DEFAULT 'organization_id'::name, owner name DEFAULT NULL::name, "select" text DEFAULT 'row.read'::text, insert text DEFAULT 'row.create'::text, update text DEFAULT 'row.update'::text, delete text DEFAULT 'row.delete'::text, assurance integer DEFAULT 1, roles name[] DEFAULT '{safetypin_member}'::name[], audited boolean DEFAULT true, assign text DEFAULT 'row.assign'::text, hidden name[] DEFAULT '{}'::name[])
 RETURNS SETOF text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
begin
  perform access_private.take_table(relation);
  return query select * from access_private.run(relation, array(
    select access.protect_plan(relation, organization, owner, "select", "insert", "update", "delete", assurance, roles, audited, assign, hidden)));
end $function$
comment 'Puts a table under rules: writes access.rules and compiles them into one restrictive policy for the tenant and one permissive policy for the rest per command, grants by column, the audit trigger and missing indexes. A null permission closes a command. A row is inserted in one''s own name unless one holds assign. Idempotent; returns the lines it ran, none when all is so already. TABLE names what the table lacks.'

-- function access.protect_plan(relation regclass, organization name, owner name, "select" text, insert text, update text, delete text, assurance integer, roles name[], audited boolean, assign text, hidden name[])
owner safetypin_owner
CREATE OR REPLACE FUNCTION access.protect_plan(relation regclass, organization name DEFAULT 'organization_id'::name, owner name DEFAULT NULL::name, "select" text DEFAULT 'row.read'::text, insert text DEFAULT 'row.create'::text, update text DEFAULT 'row.update'::text, delete text DEFAULT 'row.delete'::text, assurance integer DEFAULT 1, roles name[] DEFAULT '{safetypin_member}'::name[], audited boolean DEFAULT true, assign text DEFAULT 'row.assign'::text, hidden name[] DEFAULT '{}'::name[])
 RETURNS SETOF text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
declare
  v_permissions text[] := array["select", "insert", "update", "delete"];
  v_what text;
  v_line text;
begin
  select string_agg(o.what, E'\n'), string_agg(o.line, E'\n') into v_what, v_line
    from access_private.obstacles(relation, organization, owner, v_permissions || case when owner is not null then assign end, assurance, roles, hidden) o;
  if v_what is not null then
    raise exception '%', v_what using errcode = 'TABLE', hint = coalesce(v_line, '');
  end if;
  return query
    select d.line
      from access_private.differences(relation, organization, owner, v_permissions, assurance, roles, audited, assign, hidden) d
      order by d.place, d.line;
end $function$
comment 'What access.protect() with the same arguments would run, a line each; nothing when all is so already. TABLE names what the table lacks, with the lines that add it as hint.'

-- function access.renew(relation regclass)
owner safetypin_owner
CREATE OR REPLACE FUNCTION access.renew(relation regclass)
 RETURNS SETOF text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
declare
  v record;
begin
  select k.* into v from access_private.kept(relation) k;
  if not found then
    raise exception '% is under no rules', access_private.table_name(relation) using errcode = 'TABLE',
      hint = format('select access.protect(%L);', access_private.table_name(relation));
  end if;
  return query select access.protect(relation, v.organization, v.owner, v.permissions[1], v.permissions[2], v.permissions[3], v.permissions[4],
    v.assurance, v.roles, v.audited, v.assign, v.hidden);
end $function$
comment 'Puts a table under its rules again, after columns were added or something was changed by hand: access.protect() as it was called last. TABLE for a table under none.'

-- function access.resume_organization(slug text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.resume_organization(slug text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- As for suspend_organization().
declare
  v_id uuid := access_private.operate(slug);
begin
  update access.organizations o
    set status = 'active', updated_at = clock_timestamp(), version = o.version + 1
    where o.id = v_id and o.status = 'suspended';
  if found then
    perform audit_private.append('organization.resume', v_id);
  end if;
  return found;
end $function$
comment 'Takes a suspension back: people sign in anew. False if it was not suspended; P0002 if there is none. For operators; recorded.'

-- function access.row_seen(relation oid, key_column name, organization_column name, owner_column name, key text, OUT seen text, OUT owner_id uuid, OUT organization_id uuid)
owner safetypin_owner
CREATE OR REPLACE FUNCTION access.row_seen(relation oid, key_column name, organization_column name, owner_column name, key text, OUT seen text, OUT owner_id uuid, OUT organization_id uuid)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
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
end $function$
comment 'Whether whoever calls it sees the row with this key (SEEN, OWNER_HIDDEN, NONE), and whose it is. For what explains access.'

-- function access.set_rule(relation regclass, command text, organization_column name, owner_column name, permission text, assurance integer, roles name[], assign text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.set_rule(relation regclass, command text, organization_column name, owner_column name, permission text, assurance integer, roles name[], assign text DEFAULT NULL::text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Borrows the right to write rules. The check instead: who calls must be able to act as the table's owner.
begin
  if not exists (select from pg_class c where c.oid = set_rule.relation and pg_has_role(session_user, c.relowner, 'member')) then
    raise exception 'only the owner of a table can set its rules' using errcode = '42501';
  end if;
  if set_rule.permission is null and set_rule.owner_column is null then
    delete from access.rules r where r.relation = set_rule.relation and r.command = set_rule.command;
  else
    insert into access.rules as r (relation, command, organization_column, owner_column, permission, assurance, roles, assign)
      values (set_rule.relation, set_rule.command, set_rule.organization_column, set_rule.owner_column,
        set_rule.permission, set_rule.assurance, set_rule.roles, set_rule.assign)
      on conflict on constraint rules_pkey do update
        set organization_column = excluded.organization_column, owner_column = excluded.owner_column,
            permission = excluded.permission, assurance = excluded.assurance, roles = excluded.roles,
            assign = excluded.assign
        where (r.organization_column, r.owner_column, r.permission, r.assurance, r.roles, r.assign)
          is distinct from (excluded.organization_column, excluded.owner_column, excluded.permission, excluded.assurance, excluded.roles, excluded.assign);
  end if;
  if found then
    perform audit_private.append('table.protect', relation => access_private.table_name(set_rule.relation),
      details => jsonb_build_object('command', set_rule.command, 'permission', set_rule.permission, 'owner', set_rule.owner_column,
        'organization', set_rule.organization_column, 'assurance', set_rule.assurance, 'assign', set_rule.assign));
  end if;
end $function$
comment 'Writes one row of access.rules, or removes it when neither permission nor owner is given. 42501 unless the caller owns the table. access.protect() calls it.'

-- function access.setting(name text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.setting(name text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
-- Borrows reading settings. The check: the active organization's, and the permission to read that one.
declare
  v_organization uuid := request.organization_id();
begin
  if v_organization is null or not exists (select from access.setting_definitions d
      where d.name = setting.name and (d.read_permission is null or request.can(d.read_permission))) then
    return null;
  end if;
  return access_private.setting(v_organization, setting.name);
end $function$
comment 'The value of a setting that counts in the active organization; null for who may not read it. For rules and functions of a host application.'

-- function access.share_domain(domain text, shared boolean)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.share_domain(domain text, shared boolean DEFAULT true)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Borrows the right to write the list; only operators, who work as the owner, are granted it.
declare
  v_domain text := access_private.ascii_domain(domain);
begin
  if v_domain is null then
    raise exception 'not a domain' using errcode = '22023';
  end if;
  if shared then
    insert into access.shared_domains (domain) values (v_domain) on conflict on constraint shared_domains_pkey do nothing;
  else
    delete from access.shared_domains s where s.domain = v_domain;
  end if;
  return v_domain;
end $function$
comment 'Puts a domain on the list of those where anybody has an address, or takes it off; returns it as DNS has it. From then on nobody joins by it, whoever proved it. 22023 for what is no domain. For operators.'

-- function access.suspend_organization(slug text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access.suspend_organization(slug text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Borrows changing organizations; granted to the owner alone.
declare
  v_id uuid := access_private.operate(slug);
begin
  update access.organizations o
    set status = 'suspended', updated_at = clock_timestamp(), version = o.version + 1
    where o.id = v_id and o.status = 'active';
  if found then
    perform audit_private.append('organization.suspend', v_id);
  end if;
  return found;
end $function$
comment 'Nobody acts in the organization from the next statement on; its sessions end. False if it was not active; P0002 if there is none. For operators; recorded.'

-- function access.unprotect(relation regclass)
owner safetypin_owner
CREATE OR REPLACE FUNCTION access.unprotect(relation regclass)
 RETURNS SETOF text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET quote_all_identifiers TO 'off'
AS $function$
declare
  v record;
  v_table text := access_private.table_name(relation);
begin
  perform access_private.take_table(relation);
  select k.* into v from access_private.kept(relation) k;
  if not found then
    return;
  end if;
  return query select * from access_private.run(relation, array(
    -- As if nothing were allowed to anybody: the same lines.
    select d.line
      from access_private.differences(relation, v.organization, null, array[null, null, null, null]::text[], 1, v.roles, false, null, v.hidden) d
      where d.place in (10, 20, 21, 22, 23, 30, 90)
      order by d.place, d.line)
    || format('select access.forget_protection(%L);', v_table));
end $function$
comment 'Takes the rules of a table away: policies, grants, and what records its changes. It stays closed: row-level security is on, and nobody has a policy. Returns the lines it ran.'

-- function access_private.accept_invitation(token bytea, proven boolean, OUT outcome text, OUT reasons text[], OUT organization_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.accept_invitation(token bytea, proven boolean, OUT outcome text, OUT reasons text[], OUT organization_id uuid)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_person uuid := request.signed_in_id();
  v_invitation access.invitations;
  v_membership uuid := platform.uuid_v7();
begin
  if v_person is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  outcome := 'REFUSED';
  v_invitation := access_private.live_invitation(token);
  if v_invitation.id is null then
    reasons := access_private.refused('invitation.accept', '{TOKEN_INVALID}');
    return;
  end if;
  -- Read anew after that: others accept, revoke and remove at the same moment.
  perform access_private.take_turn(v_invitation.organization_id);
  v_invitation := access_private.live_invitation(token);
  reasons := case
    when v_invitation.id is null or request.signed_in_id() is distinct from v_person
      or not access_private.may_invite(v_invitation.organization_id, v_invitation.invited_by,
        access_private.held_by_role(v_invitation.organization_id, v_invitation.role_id), v_invitation.role_valid_until)
      then array['TOKEN_INVALID']
    when exists (
        select from access.memberships m where m.organization_id = v_invitation.organization_id and m.person_id = v_person)
      then array['ALREADY_MEMBER']
    when proven is not true and not exists (
        select from access_private.invitation_addresses a
          join identity_private.emails e on e.lookup = a.lookup
          where a.organization_id = v_invitation.organization_id and a.invitation_id = v_invitation.id
            and e.person_id = v_person and e.verified_at is not null)
      then array['CODE_NEEDED']
    when not access_private.room(v_invitation.organization_id, 'members') then array['LIMIT_REACHED']
    else '{}' end;
  if reasons <> '{}' then
    perform access_private.refused('invitation.accept', reasons);
    return;
  end if;
  update identity_private.tokens t set consumed_at = clock_timestamp()
    where t.organization_id = v_invitation.organization_id and t.invitation_id = v_invitation.id and t.consumed_at is null;
  update access.invitations i set status = 'accepted', ended_at = clock_timestamp(), accepted_by = v_person
    where i.organization_id = v_invitation.organization_id and i.id = v_invitation.id;
  insert into access.memberships (organization_id, id, person_id) values (v_invitation.organization_id, v_membership, v_person);
  insert into access.membership_roles (organization_id, membership_id, role_id, valid_until, granted_by)
    values (v_invitation.organization_id, v_membership, v_invitation.role_id, v_invitation.role_valid_until, v_invitation.invited_by);
  perform audit_private.append('invitation.accept', v_invitation.organization_id, details => jsonb_build_object(
    'invitation', v_invitation.id, 'membership', v_membership, 'role', v_invitation.role_id,
    'invitedBy', v_invitation.invited_by, 'byCode', proven));
  outcome := 'ACCEPTED';
  organization_id := v_invitation.organization_id;
end $function$
comment 'Makes whoever is signed in a member, once for each token. proven: a code that was sent to the invited address was given; otherwise it must be one of the person''s own. AUTHN for nobody.'

-- function access_private.acting_in()
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.acting_in()
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if request.kind() is distinct from 'session' then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  if request.organization_id() is null then
    raise exception 'no organization is active' using errcode = 'DENYD';
  end if;
  return request.organization_id();
end $function$
comment 'The organization that the asker acts in. AUTHN for nobody, DENYD while no organization is active.'

-- function access_private.ascii_domain(typed text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.ascii_domain(typed text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
-- Two that differ in a sign differ in what comes out: what only looks alike never is. Folded is the case of ASCII alone,
-- as in addresses (identity_private.normalize_email).
declare
  v_domain text collate "C" := case when octet_length(typed) <= 1000 then lower(normalize(btrim(typed), nfc) collate "C") end;
begin
  -- Not what stands for a dot elsewhere, and nothing that cannot be seen.
  if v_domain is null
    or v_domain ~ E'[\u0001-\u0020\u007f-\u00a0\u00ad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\u3002\uff0e\uff61\ufeff]' then
    return null;
  end if;
  -- The dot at the end is the root of DNS.
  v_domain := regexp_replace(v_domain, '[.]$', '');
  select string_agg(case when l.label ~ E'[^\u0001-\u007f]' then 'xn--' || access_private.punycode(l.label) else l.label end, '.' order by l.place)
    into v_domain
    from regexp_split_to_table(v_domain, '[.]') with ordinality as l (label, place);
  return case when length(v_domain) <= 230
    and v_domain ~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z][a-z0-9-]{0,61}[a-z0-9]$' then v_domain end;
end $function$
comment 'A domain as DNS has it: in ASCII (Punycode), lower case, without a dot at the end; null if it is none.'

-- function access_private.ask_for_invitation_mail(kind text, organization_id uuid, invitation_id uuid, asked_by uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.ask_for_invitation_mail(kind text, organization_id uuid, invitation_id uuid, asked_by uuid DEFAULT NULL::uuid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_id uuid;
begin
  insert into identity_private.mails (kind, lookup, organization_id, invitation_id, asked_by)
    select ask_for_invitation_mail.kind, a.lookup, a.organization_id, a.invitation_id, ask_for_invitation_mail.asked_by
      from access_private.invitation_addresses a
      where a.organization_id = ask_for_invitation_mail.organization_id and a.invitation_id = ask_for_invitation_mail.invitation_id
    returning id into strict v_id;
  perform platform.enqueue('mail__send', json_build_object('id', v_id));
end $function$
comment 'Puts a mail to the address of an invitation into the outbox, with its job, in this transaction.'

-- function access_private.below_ceiling(organization_id uuid, role_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.below_ceiling(organization_id uuid, role_id uuid)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select not exists (
    select from access.role_permissions rp
      join access.permissions p on p.name = rp.permission
      where rp.organization_id = below_ceiling.organization_id and rp.role_id = below_ceiling.role_id
        and not p.default_roles && array['member', 'viewer'])
$function$
comment 'Whether a role permits nothing but what the built-in roles member and viewer are made with.'

-- function access_private.check_domain_task(id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.check_domain_task(id uuid DEFAULT NULL::uuid)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if request.task() = 'access__check_domains'
    or request.task() = 'access__check_domain' and (check_domain_task.id is null or request.job_value('id') = check_domain_task.id) then
    return;
  end if;
  raise exception 'only the jobs of this name may do this' using errcode = 'DENYD';
end $function$
comment 'DENYD outside the jobs that check domains; one that checks a single domain does so for no other.'

-- function access_private.claim_domain(domain access.domains)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.claim_domain(domain access.domains)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_before access_private.domain_owners;
  v_until constant timestamptz := clock_timestamp() + make_interval(secs => platform.limit_value('domain.proof_seconds'));
  v_now access_private.domain_owners;
begin
  select o.* into v_before from access_private.domain_owners o where o.domain = claim_domain.domain.domain;
  -- One statement decides: a proof that stands is not taken away, whoever proves what.
  insert into access_private.domain_owners as o (domain, organization_id, domain_id, proved_until, holds_until)
    values (claim_domain.domain.domain, claim_domain.domain.organization_id, claim_domain.domain.id, v_until,
      v_until + make_interval(secs => platform.limit_value('domain.grace_seconds')))
    on conflict on constraint domain_owners_pkey do update
      set organization_id = excluded.organization_id, domain_id = excluded.domain_id,
          proved_until = excluded.proved_until, holds_until = excluded.holds_until
      where o.domain_id = excluded.domain_id or o.proved_until <= clock_timestamp()
        or not access_private.living(o.organization_id)
    returning o.* into v_now;
  if v_now.domain is null then
    -- Whoever owns it is asked now: is the record gone, the proof ends, and the next to prove it gets it.
    update access.domains d set next_check_at = clock_timestamp()
      where d.organization_id = v_before.organization_id and d.id = v_before.domain_id;
    return false;
  end if;
  if v_before.domain_id is distinct from v_now.domain_id and v_before.domain_id is not null then
    perform access_private.lose_domain(v_before.organization_id, v_before.domain_id, 'proved by another');
  end if;
  return true;
end $function$
comment 'Makes the domain that was proved now the organization''s; false while another''s proof stands. Whoever calls it holds the domain.'

-- function access_private.client_columns(relation regclass, organization name, owner name, permissions text[], hidden name[])
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.client_columns(relation regclass, organization name, owner name, permissions text[], hidden name[])
 RETURNS TABLE(kind text, number smallint)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
begin
  return query
    -- By column, for reading too: a column that is added later is nobody's until somebody says so. Keys, the tenant and
    -- generated columns are never written by a client, nor what stands beside a sealed column (see keyring/doors.sql), and
    -- whose row it is never changes.
    with mine as (
      select a.attnum, a.attname,
          a.attgenerated = '' and a.attname <> organization and a.attname <> all (hidden) and a.attname not in (
            select h from keyring.doors() d cross join unnest(array[d.sealed, d.index_a, d.index_b]) h
            where d.relation = client_columns.relation and h is not null) as written,
          a.attidentity, a.atthasdef,
          exists (select from pg_index i where i.indrelid = a.attrelid and i.indisprimary and a.attnum = any (i.indkey)) as key
        from pg_attribute a
        where a.attrelid = client_columns.relation and a.attnum > 0 and not a.attisdropped
    )
    select 'SELECT', m.attnum from mine m where (permissions[1] is not null or owner is not null) and m.attname <> all (hidden)
    union all
    select 'INSERT', m.attnum from mine m
      where permissions[2] is not null and m.written and m.attidentity <> 'a' and (not m.key or not m.atthasdef and m.attidentity = '')
    union all
    select 'UPDATE', m.attnum from mine m
      where permissions[3] is not null and m.written and m.attidentity = '' and not m.key and m.attname is distinct from owner;
end $function$
comment 'Which columns of a table under rules clients may read, insert and update.'

-- function access_private.condition(command text, owner name, permission text, assign text, assurance integer, stored boolean)
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.condition(command text, owner name, permission text, assign text, assurance integer, stored boolean)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
-- Twice the same: as we write it, and as PostgreSQL gives it back.
declare
  v_ask text := case when stored then '( SELECT request.can(%L::text) AS can)' else '(select request.can(%L))' end;
  v_and text := case when stored then ' AND ' else ' and ' end;
  v_or text := case when stored then ' OR ' else ' or ' end;
  v_can text := format(v_ask, permission);
  -- In one's own name an API key inserts too, with the permission; rows of one's own it does not reach for being that.
  v_who text := case when command = 'insert' and permission is not null then 'user_id' else 'owner_id' end;
  v_own text := quote_ident(owner) || format(case when stored then ' = ( SELECT request.%1$I() AS %1$I)' else ' = (select request.%1$I())' end, v_who);
  v_condition text;
begin
  if stored then
    v_own := '(' || v_own || ')';
  end if;
  if permission is null then
    v_condition := v_own;
  elsif owner is null then
    v_condition := v_can;
  elsif command <> 'insert' then
    v_condition := v_can || v_or || v_own;
  elsif assign is null then
    -- Having a row to one's name is no permission to make one, and nobody makes rows in another's name unasked.
    v_condition := v_can || v_and || v_own;
  else
    v_condition := v_can || v_and || '(' || v_own || v_or || format(v_ask, assign) || ')';
  end if;
  if stored and permission is not null and owner is not null then
    v_condition := '(' || v_condition || ')';
  end if;
  if assurance > 1 then
    v_condition := case when stored then format('((( SELECT request.assurance() AS assurance) >= %s) AND %s)', assurance, v_condition)
      else format('(select request.assurance()) >= %s and (%s)', assurance, v_condition) end;
  end if;
  return v_condition;
end $function$
comment 'What the permissive policy of a command demands, as we write it or as PostgreSQL gives back what is stored.'

-- function access_private.differences(relation regclass, organization name, owner name, permissions text[], assurance integer, roles name[], audited boolean, assign text, hidden name[])
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.differences(relation regclass, organization name, owner name, permissions text[], assurance integer, roles name[], audited boolean, assign text, hidden name[])
 RETURNS TABLE(place integer, what text, line text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET row_security TO 'on'
 SET quote_all_identifiers TO 'off'
AS $function$
declare
  v_table text := access_private.table_name(relation);
  v_class pg_class;
begin
  select c.* into v_class from pg_class c where c.oid = differences.relation;
  if not v_class.relrowsecurity then
    return query select 10, 'row-level security is off'::text, format('alter table %s enable row level security;', v_table);
  end if;
  return query select * from access_private.differing_grants(relation, organization, owner, permissions, roles, hidden);
  return query select * from access_private.differing_policies(relation, organization, owner, permissions, assurance, roles, assign);
  return query
    select 40, format('%I has no default', a.attname), format('alter table %s alter column %I set default %s;', v_table, a.attname,
        case when a.attname = organization then 'request.organization_id()' else 'request.user_id()' end)
      from pg_attribute a
      where a.attrelid = differences.relation and not a.atthasdef and a.attidentity = ''
        and (a.attname = organization and differences.relation <> 'access.organizations'::regclass or a.attname = owner and permissions[2] is not null);
  return query
    select 50, format('the rule for %s is not kept', c.command),
        format('select access.set_rule(%L, %L, %L, %L, %L, %s, %L, %L);', v_table, c.command, organization, c.owner, c.permission, differences.assurance, differences.roles, c.assign)
      from (
        select u.command, u.permission, case when u.permission is not null or u.command = 'select' then differences.owner end as owner,
            case when u.command = 'insert' and u.permission is not null and differences.owner is not null then differences.assign end as assign
          from unnest(array['select', 'insert', 'update', 'delete'], permissions) u (command, permission)) c
      left join access.rules r on r.relation = differences.relation and r.command = c.command
      where case when c.permission is null and c.owner is null then r.relation is not null
        else (r.organization_column, r.owner_column, r.permission, r.assurance, r.roles, r.assign)
          is distinct from (organization, c.owner, c.permission, differences.assurance, differences.roles, c.assign) end;
  if not exists (select from access.protections p where p.relation = differences.relation
      and (p.organization_column, p.roles, p.audited, p.hidden) = (organization, differences.roles, differences.audited, differences.hidden)
      and p.owner_column is not distinct from owner) then
    return query select 51, 'what it is protected with is not kept'::text,
      format('select access.keep_protection(%L, %L, %L, %L, %L, %L);', v_table, organization, owner, roles, audited, hidden);
  end if;
  return query
    select 71, format('%I may not use the schema', r.rolname),
        format('grant usage on schema %I to %I;', n.nspname, r.rolname)
      from pg_roles r
      join pg_namespace n on n.oid = v_class.relnamespace
      where r.rolname = any (differences.roles)
        and not exists (select from aclexplode(n.nspacl) x where x.grantee = r.oid and x.privilege_type = 'USAGE');
  -- A serial column takes its next value with the rights of who inserts.
  return query
    select case when permissions[2] is null then 23 else 72 end, format(case when permissions[2] is null then '%I may take numbers' else '%I cannot take its next number' end, r.rolname),
        format(case when permissions[2] is null then 'revoke usage on sequence %s from %I;' else 'grant usage on sequence %s to %I;' end,
          access_private.table_name(d.objid), r.rolname)
      from pg_depend d
      join pg_class s on s.oid = d.objid and s.relkind = 'S'
      join pg_roles r on r.rolname = any (differences.roles)
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = differences.relation and d.deptype = 'a'
        and (permissions[2] is null) = has_sequence_privilege(r.oid, s.oid, 'usage');
  return query select * from access_private.differing_indexes(relation, organization, owner);
  -- The trigger runs with the rights of who writes.
  return query
    select 89, format('what %I changes cannot be recorded', r.rolname), format('select audit.let_record(%L);', r.rolname)
      from pg_roles r
      where audited and (r.rolname = any (differences.roles) or r.oid = v_class.relowner)
        and not has_function_privilege(r.oid, 'audit.append_change(oid, text, jsonb, jsonb, text[])', 'execute');
  return query select * from access_private.differing_trigger(relation, organization, audited);
end $function$
comment 'What a table lacks to be under these rules, each with its line, in order of place. Permissions are those of select, insert, update and delete.'

-- function access_private.differing_grants(relation regclass, organization name, owner name, permissions text[], roles name[], hidden name[])
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.differing_grants(relation regclass, organization name, owner name, permissions text[], roles name[], hidden name[])
 RETURNS TABLE(place integer, what text, line text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET quote_all_identifiers TO 'off'
AS $function$
#variable_conflict use_column
begin
  return query
    with who as (
      select o.oid, quote_ident(o.rolname) as name, o.rolname = any (roles) as ruled
        from pg_roles o where o.rolname = any (roles || access_private.run_time_roles())
      union all
      select 0, 'public', true
    ), wanted as (
      select w.oid, c.kind, c.number
        from who w cross join access_private.client_columns(relation, organization, owner, permissions, hidden) c
        where w.ruled and w.oid <> 0
      union all
      select w.oid, 'DELETE', 0 from who w where w.ruled and w.oid <> 0 and permissions[4] is not null
    ), have as (
      select x.grantee as oid, x.privilege_type as kind, 0 as number, x.is_grantable
        from pg_class c cross join aclexplode(c.relacl) x where c.oid = differing_grants.relation
      union all
      select x.grantee, x.privilege_type, a.attnum, x.is_grantable
        from pg_attribute a cross join aclexplode(a.attacl) x where a.attrelid = differing_grants.relation and not a.attisdropped
    ), excess as (
      -- Of other roles, what no policy holds: without a policy the rest gives them nothing.
      select h.*
        from have h join who w on w.oid = h.oid
        where (h.is_grantable or not exists (select from wanted n where (n.oid, n.kind, n.number) = (h.oid, h.kind, h.number)))
          and (w.ruled or h.kind in ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN'))
    ), lacking as (
      select n.*
        from wanted n
        where not exists (select from have h where (h.oid, h.kind, h.number) = (n.oid, n.kind, n.number) and not h.is_grantable)
          -- What is revoked of the table is revoked of its columns.
          or exists (select from excess e where (e.oid, e.kind, e.number) = (n.oid, n.kind, 0))
    ), lines as (
      select 20 as place, e.oid, lower(e.kind) as kind, null::text as columns, bool_or(e.is_grantable) as cascades
        from excess e where e.number = 0 group by e.oid, e.kind
      union all
      select 21, e.oid, lower(e.kind), string_agg(quote_ident(a.attname), ', ' order by a.attnum), bool_or(e.is_grantable)
        from excess e join pg_attribute a on a.attrelid = differing_grants.relation and a.attnum = e.number
        where e.number > 0 and not exists (select from excess t where (t.oid, t.kind, t.number) = (e.oid, e.kind, 0))
        group by e.oid, e.kind
      union all
      select 70, l.oid, lower(l.kind), string_agg(quote_ident(a.attname), ', ' order by a.attnum), false
        from lacking l left join pg_attribute a on a.attrelid = differing_grants.relation and a.attnum = l.number and l.number > 0
        group by l.oid, l.kind
    ), told as (
      select l.place, w.name, bool_or(l.cascades) as cascades,
          string_agg(l.kind || coalesce(' (' || l.columns || ')', ''), ', ' order by array_position(array['select', 'insert', 'update', 'delete'], l.kind), l.kind) as rights
        from lines l join who w on w.oid = l.oid
        group by l.place, w.name
    )
    select t.place, format(case when t.place = 70 then '%s may not yet: %s' else '%s may more than the rules say: %s' end, t.name, t.rights),
        format(case when t.place = 70 then 'grant %s on table %s to %s;' else 'revoke %s on table %s from %s%s;' end,
          t.rights, access_private.table_name(differing_grants.relation), t.name, case when t.cascades then ' cascade' else '' end)
      from told t
    union all
    -- The parts of a table are behind it: by their own name they know no rules.
    select 22, format('%s is reached past the rules by %s', access_private.table_name(h.inhrelid), w.name),
        format('revoke all on table %s from %s;', access_private.table_name(h.inhrelid), w.name)
      from access_private.heirs(relation) h (inhrelid)
      join pg_class c on c.oid = h.inhrelid
      join who w on exists (select from aclexplode(c.relacl) x where x.grantee = w.oid)
        or exists (select from pg_attribute a cross join aclexplode(a.attacl) x where a.attrelid = c.oid and x.grantee = w.oid);
end $function$
comment 'What roles may on a table under rules, more or less than the rules say, and the lines that make it so.'

-- function access_private.differing_indexes(relation regclass, organization name, owner name)
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.differing_indexes(relation regclass, organization name, owner name)
 RETURNS TABLE(place integer, what text, line text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET quote_all_identifiers TO 'off'
AS $function$
#variable_conflict use_column
begin
  return query
    with numbers as (
      select a.attname, a.attnum from pg_attribute a where a.attrelid = differing_indexes.relation and a.attnum > 0 and not a.attisdropped
    ), key as (
      select n.attnum, k.position
        from pg_index i cross join unnest(i.indkey) with ordinality k (attnum, position) join numbers n on n.attnum = k.attnum
        where i.indrelid = differing_indexes.relation and i.indisprimary and n.attname <> organization
    ), due as (
      select 1 as rank, array[(select n.attnum from numbers n where n.attname = organization)] || (select min(k.attnum) from key k
          where k.position = (select min(f.position) from key f)) as columns
      union all
      select 2, array[(select n.attnum from numbers n where n.attname = organization), (select n.attnum from numbers n where n.attname = owner)]
        where owner is not null
      union all
      -- What is removed over there looks here for what refers to it.
      select 3, c.conkey from pg_constraint c where c.conrelid = differing_indexes.relation and c.contype = 'f'
    ), wanted as (
      select min(d.rank) as rank, array_remove(d.columns, null) as columns from due d group by 2
    )
    select 80, format('no index begins with (%s)', c.names), format('create index on %s (%s);', access_private.table_name(differing_indexes.relation), c.names)
      from wanted w
      cross join lateral (
        select string_agg(quote_ident(n.attname), ', ' order by u.position) as names
          from unnest(w.columns) with ordinality u (attnum, position) join numbers n on n.attnum = u.attnum) c
      where not exists (
          select from pg_index i join pg_class x on x.oid = i.indexrelid join pg_am m on m.oid = x.relam
            where i.indrelid = differing_indexes.relation and i.indpred is null and i.indisvalid and m.amname = 'btree'
              -- The policy of the tenant needs it first; for a foreign key the order says nothing.
              and (w.rank = 3 or i.indkey[0] = w.columns[1])
              and (select array_agg(k order by k) from unnest((i.indkey::smallint[])[0:cardinality(w.columns) - 1]) k)
                = (select array_agg(k order by k) from unnest(w.columns) k))
        -- One that is to be made serves the shorter one too.
        and not exists (select from wanted l where cardinality(l.columns) > cardinality(w.columns) and l.columns[1:cardinality(w.columns)] = w.columns)
      order by w.rank;
end $function$
comment 'Indexes that a table under rules lacks: for the tenant with the key, for the owner, and for foreign keys.'

-- function access_private.differing_policies(relation regclass, organization name, owner name, permissions text[], assurance integer, roles name[], assign text)
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.differing_policies(relation regclass, organization name, owner name, permissions text[], assurance integer, roles name[], assign text)
 RETURNS TABLE(place integer, what text, line text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET quote_all_identifiers TO 'off'
AS $function$
#variable_conflict use_column
begin
  return query
    -- One restrictive policy for the tenant and one permissive for the rest, so that the index on the tenant serves.
    with commands as (
      select c.command, c.sign::"char" as sign, c.permission
        from unnest(array['select', 'insert', 'update', 'delete'], '{r,a,w,d}'::text[], permissions) as c (command, sign, permission)
        where c.permission is not null or c.command = 'select' and owner is not null
    ), due as (
      select format('safetypin_tenant_%s', c.command)::name as name, c.command, c.sign, false as permissive,
          format('(%I = (select request.organization_id()))', organization) as condition,
          format('(%I = ( SELECT request.organization_id() AS organization_id))', organization) as stored
        from commands c
      union all
      select format('safetypin_may_%s', c.command)::name, c.command, c.sign, true,
          '(' || access_private.condition(c.command, owner, c.permission, assign, assurance, false) || ')',
          access_private.condition(c.command, owner, c.permission, assign, assurance, true)
        from commands c
    ), have as (
      select p.polname as name, p.polcmd as sign, p.polpermissive as permissive,
          pg_get_expr(p.polqual, p.polrelid) as using, pg_get_expr(p.polwithcheck, p.polrelid) as check,
          (select array_agg(o order by o) from unnest(p.polroles) o) as roles
        from pg_policy p
        where p.polrelid = differing_policies.relation and p.polname ~ '^safetypin_(may|tenant)_(select|insert|update|delete)$'
    ), same as (
      select d.name
        from due d
        join have h on h.name = d.name and h.sign = d.sign and h.permissive = d.permissive
        where h.using is not distinct from case when d.command <> 'insert' then d.stored end
          and h.check is not distinct from case when d.command in ('insert', 'update') then d.stored end
          and h.roles = (select array_agg(r.oid order by r.oid) from pg_roles r where r.rolname = any (differing_policies.roles))
    )
    select 30, format('the policy %I is not what the rule says', h.name),
        format('drop policy %I on %s;', h.name, access_private.table_name(differing_policies.relation))
      from have h
      where h.name not in (select s.name from same s)
    union all
    select 60, format('there is no policy for %s', d.command), format('create policy %I on %s%s for %s to %s%s%s;',
        d.name, access_private.table_name(differing_policies.relation), case when d.permissive then '' else ' as restrictive' end, d.command,
        (select string_agg(quote_ident(r), ', ') from unnest(differing_policies.roles) r),
        case when d.command <> 'insert' then ' using ' || d.condition else '' end,
        case when d.command in ('insert', 'update') then ' with check ' || d.condition else '' end)
      from due d
      where d.name not in (select s.name from same s);
end $function$
comment 'The policies that are not what the rules of a table say, and the lines that make them so.'

-- function access_private.differing_trigger(relation regclass, organization name, audited boolean)
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.differing_trigger(relation regclass, organization name, audited boolean)
 RETURNS TABLE(place integer, what text, line text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET quote_all_identifiers TO 'off'
AS $function$
declare
  v_table text := access_private.table_name(relation);
  v_arguments name[];
  v_trigger pg_trigger;
begin
  select t.* into v_trigger from pg_trigger t where t.tgrelid = differing_trigger.relation and t.tgname = '_800_audit';
  if not audited then
    if v_trigger.tgfoid = 'audit.record_change()'::regprocedure then
      return query select 90, 'its changes are recorded, which was not asked for'::text, format('drop trigger _800_audit on %s;', v_table);
    end if;
    return;
  end if;
  select array_agg(a.attname order by k.position) into v_arguments
    from pg_index i
    cross join unnest(i.indkey) with ordinality as k (attnum, position)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = differing_trigger.relation and i.indisprimary;
  v_arguments := organization || v_arguments
    || case when exists (select from keyring.doors() d where d.relation = differing_trigger.relation) then array['~doors'::name] else '{}' end;
  -- 29: after insert, delete and update, for each row.
  if v_trigger.oid is null or v_trigger.tgfoid <> 'audit.record_change()'::regprocedure or v_trigger.tgtype <> 29
    or v_trigger.tgqual is not null or cardinality(v_trigger.tgattr::smallint[]) > 0
    or v_trigger.tgargs <> (select string_agg(convert_to(u.name, getdatabaseencoding()) || '\x00', '' order by u.position)
      from unnest(v_arguments) with ordinality u (name, position)) then
    return query select 91, 'its changes are not recorded'::text, format(
      'create or replace trigger _800_audit after insert or update or delete on %s for each row execute function audit.record_change(%s);',
      v_table, (select string_agg(quote_literal(u.name), ', ' order by u.position) from unnest(v_arguments) with ordinality u (name, position)));
    v_trigger.tgenabled := 'O';
  end if;
  if v_trigger.tgenabled <> 'A' then
    return query select 92, 'the trigger that records its changes can be switched off'::text, format('alter table %s enable always trigger _800_audit;', v_table);
  end if;
  return query
    select 93, format('the trigger that records changes is switched off on a part of it, %s', access_private.table_name(t.tgrelid)),
        format('alter table %s enable always trigger _800_audit;', access_private.table_name(t.tgrelid))
      from access_private.heirs(relation) h (inhrelid)
      join pg_trigger t on t.tgrelid = h.inhrelid and t.tgfoid = 'audit.record_change()'::regprocedure and t.tgparentid <> 0 and t.tgenabled <> 'A'
      where v_trigger.tgenabled = 'A';
end $function$
comment 'Whether the changes of a table under rules are recorded as asked, and the lines that make it so.'

-- function access_private.end_membership(organization_id uuid, person_id uuid, action text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.end_membership(organization_id uuid, person_id uuid, action text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- Nobody walks back in with an invitation that was never needed.
  perform access_private.revoke_invitations(end_membership.organization_id, array(
    select i.id
      from identity_private.emails e
      join access_private.invitation_addresses a on a.lookup = e.lookup and a.organization_id = end_membership.organization_id
      join access.invitations i on i.organization_id = a.organization_id and i.id = a.invitation_id and i.status = 'open'
      where e.person_id = end_membership.person_id));
  -- Roles go with it, and by triggers what was held and the sessions. Jobs ask for the membership at each statement.
  delete from access.memberships m
    where m.organization_id = end_membership.organization_id and m.person_id = end_membership.person_id;
  perform audit_private.append(end_membership.action, end_membership.organization_id,
    details => jsonb_build_object('person', end_membership.person_id));
end $function$
comment 'Ends a membership with all that hangs on it, under the given audit action. Whoever calls it has taken their turn and seen to the last owner.'

-- function access_private.explain(organization_id uuid, person_id uuid, api_key access.api_keys, permission text, command text, table_name text, column_name text, owner_id uuid, row_seen text, row_owner uuid, self boolean, assurance integer, all_roles boolean, for_owner boolean, OUT verdict text, OUT reason text, OUT sentence text, OUT change text, OUT deciding jsonb)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.explain(organization_id uuid, person_id uuid, api_key access.api_keys, permission text, command text, table_name text, column_name text, owner_id uuid, row_seen text, row_owner uuid, self boolean, assurance integer, all_roles boolean, for_owner boolean, OUT verdict text, OUT reason text, OUT sentence text, OUT change text, OUT deciding jsonb)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
end $function$
comment 'ALLOWED, DENIED or REFUSED (no answer), a reason in one word, a sentence, the smallest change, and the rows that decided. row_seen: null (no row asked), SEEN, OWNER_HIDDEN, ELSEWHERE (in another organization) or NONE.'

-- function access_private.explain_command(relation oid, command text, organization_id uuid, person_id uuid, api_key access.api_keys, column_name text, new_owner uuid, row_seen text, row_owner uuid, self boolean, assurance integer, OUT verdict text, OUT reason text, OUT permission text, OUT at timestamp with time zone, OUT missing text[], OUT needs integer, OUT waits boolean, OUT wait timestamp with time zone, OUT deciding jsonb)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.explain_command(relation oid, command text, organization_id uuid, person_id uuid, api_key access.api_keys, column_name text, new_owner uuid, row_seen text, row_owner uuid, self boolean, assurance integer, OUT verdict text, OUT reason text, OUT permission text, OUT at timestamp with time zone, OUT missing text[], OUT needs integer, OUT waits boolean, OUT wait timestamp with time zone, OUT deciding jsonb)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
    v_step := access_private.explain_rule(v_rule, organization_id, person_id, api_key, self, assurance, case
      when v_one = 'insert' then coalesce(new_owner = person_id, false)
      -- A key reaches no row for being its person's own.
      when api_key.id is not null then false
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
end $function$
comment 'Whether the rules and grants of one table let a member do one command, the first reason, all that is missing, and the rows that decided. Verdict is null where the owner of the row decides and may not be seen.'

-- function access_private.explain_for_owner(person_id uuid, permission text, command text, table_name text, row_seen text, row_owner uuid, row_organization uuid, organization_id uuid, assurance integer, OUT verdict text, OUT reason text, OUT sentence text, OUT change text, OUT deciding jsonb)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.explain_for_owner(person_id uuid, permission text, command text, table_name text, row_seen text, row_owner uuid, row_organization uuid, organization_id uuid, assurance integer, OUT verdict text, OUT reason text, OUT sentence text, OUT change text, OUT deciding jsonb)
 RETURNS record
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
end $function$
comment 'What access.explain() asks, once it has looked the row up as whoever calls it.'

-- function access_private.explain_held(organization_id uuid, person_id uuid, api_key access.api_keys, permission text, self boolean, OUT reason text, OUT at timestamp with time zone, OUT grants jsonb)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.explain_held(organization_id uuid, person_id uuid, api_key access.api_keys, permission text, self boolean, OUT reason text, OUT at timestamp with time zone, OUT grants jsonb)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now timestamptz := clock_timestamp();
  v_valid tstzmultirange;
  v_held boolean;
begin
  grants := '[]';
  if api_key.id is not null and not explain_held.permission = any (api_key.permissions) then
    reason := 'SCOPE';
    return;
  end if;
  if api_key.service_account_id is not null then
    reason := case when exists (
        select from access.service_accounts s
          where s.organization_id = explain_held.organization_id and s.id = api_key.service_account_id
            and s.status = 'active' and explain_held.permission = any (s.permissions)) then 'HELD' else 'NOT_HELD' end;
    at := api_key.expires_at;
    return;
  end if;
  select h.valid into v_valid from access_private.held_permissions h
    where h.organization_id = explain_held.organization_id and h.person_id = explain_held.person_id
      and h.permission = explain_held.permission;
  v_held := coalesce(v_valid @> v_now, false);
  -- One's own are asked as policies ask them.
  reason := case
    when v_held and (not self or coalesce(request.can(explain_held.permission), false)) then 'HELD'
    when v_held then 'SCOPE'
    when exists (select from unnest(v_valid) w where lower(w) > v_now) then 'NOT_YET'
    when v_valid is not null then 'ENDED'
    else 'NOT_HELD' end;
  at := nullif(case reason
    when 'NOT_YET' then (select min(lower(w)) from unnest(v_valid) w where lower(w) > v_now)
    when 'ENDED' then (select max(upper(w)) from unnest(v_valid) w)
    else least(api_key.expires_at, (select upper(w) from unnest(v_valid) w where w @> v_now)) end, 'infinity');
  grants := (
    select coalesce(jsonb_agg(jsonb_build_object('kind', 'grant', 'permission', explain_held.permission, 'role', r.name,
        'validFrom', nullif(mr.valid_from, '-infinity'), 'validUntil', nullif(mr.valid_until, 'infinity'),
        'now', v_now >= mr.valid_from and v_now < mr.valid_until) order by mr.valid_from, r.name, mr.id), '[]')
      from access.memberships m
      join access.membership_roles mr on mr.organization_id = m.organization_id and mr.membership_id = m.id
      join access.role_permissions rp on rp.organization_id = mr.organization_id and rp.role_id = mr.role_id
        and rp.permission = explain_held.permission
      join access.roles r on r.organization_id = mr.organization_id and r.id = mr.role_id
      where m.organization_id = explain_held.organization_id and m.person_id = explain_held.person_id);
end $function$
comment 'Whether a member, or an API key, holds a permission now: HELD (at: until when), SCOPE (the key was not made for it), NOT_YET (at: from when), ENDED (at: since when) or NOT_HELD; and the grants that say so.'

-- function access_private.explain_policies(relation regclass, command text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.explain_policies(relation regclass, command text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select coalesce(jsonb_agg(jsonb_build_object('kind', 'policy', 'name', p.polname) order by p.polname), '[]')
    from pg_policy p
    where p.polrelid = explain_policies.relation and not p.polpermissive and p.polname !~ '^safetypin_'
      and p.polcmd in ('*', case explain_policies.command when 'select' then 'r' when 'insert' then 'a' when 'update' then 'w' else 'd' end)
$function$
comment 'Restrictive policies that the table''s owner made beside the rules: they narrow what the rules allow, by conditions that nobody here can answer for.'

-- function access_private.explain_rule(rule access.rules, organization_id uuid, person_id uuid, api_key access.api_keys, self boolean, assurance integer, own boolean, OUT passes boolean, OUT reason text, OUT at timestamp with time zone, OUT missing text, OUT deciding jsonb)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.explain_rule(rule access.rules, organization_id uuid, person_id uuid, api_key access.api_keys, self boolean, assurance integer, own boolean, OUT passes boolean, OUT reason text, OUT at timestamp with time zone, OUT missing text, OUT deciding jsonb)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- What access.protect() writes into a policy, asked of one person or key. Own is null where no row is asked about.
declare
  v_held record;
  v_assign record;
begin
  deciding := jsonb_build_array(jsonb_build_object('kind', 'rule', 'table', (
      select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = rule.relation),
    'command', rule.command, 'permission', rule.permission, 'ownerColumn', rule.owner_column,
    'assign', rule.assign, 'assurance', rule.assurance));
  if rule.permission is not null then
    v_held := access_private.explain_held(organization_id, person_id, api_key, rule.permission, self);
    deciding := deciding || v_held.grants;
  end if;
  at := case when rule.permission is not null then v_held.at end;
  if rule.permission is not null and v_held.reason <> 'HELD'
    and (rule.owner_column is null or rule.command = 'insert' or not coalesce(own, true)) then
    reason := v_held.reason;
    missing := rule.permission;
  elsif rule.owner_column is not null and rule.command = 'insert' and not coalesce(own, true) then
    v_assign := access_private.explain_held(organization_id, person_id, api_key, rule.assign, self);
    deciding := deciding || v_assign.grants;
    passes := v_assign.reason = 'HELD';
    reason := case when passes then 'ASSIGN' else 'NOT_OWN' end;
    missing := case when not passes then rule.assign end;
  elsif rule.permission is not null and v_held.reason = 'HELD' then
    passes := true;
    reason := 'HELD';
  else
    passes := coalesce(own, true);
    reason := case when own then 'OWN_ROW' when own is null then 'OWN_ROWS' else 'NOT_OWN' end;
    at := null;
  end if;
  passes := coalesce(passes, false);
  if passes and assurance < rule.assurance then
    passes := false;
    reason := 'ASSURANCE';
  end if;
end $function$
comment 'Whether one rule lets a member through, why, until or from when, which permission is missing, and the rows that decided.'

-- function access_private.explain_sentence(verdict text, reason text, what text, permission text, at timestamp with time zone, needs integer, has integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.explain_sentence(verdict text, reason text, what text, permission text, at timestamp with time zone, needs integer, has integer)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
      when 'SCOPE' then format('the API key was not made for %s.', permission)
      when 'KEY_OVER' then 'the API key has ended.'
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
$function$
comment 'An explanation for people: reason by reason. Repeats nothing that was typed.'

-- function access_private.fail_domain(domain access.domains, answered boolean)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.fail_domain(domain access.domains, answered boolean)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if answered then
    -- The first time that it is gone; later ones do not put the end off.
    update access_private.domain_owners o
      set proved_until = least(o.proved_until, clock_timestamp()),
          holds_until = least(o.holds_until, clock_timestamp() + make_interval(secs => platform.limit_value('domain.grace_seconds')))
      where o.domain = fail_domain.domain.domain and o.domain_id = fail_domain.domain.id;
  end if;
  -- A server that does not answer says nothing; but nobody holds a domain for ever because of that.
  delete from access_private.domain_owners o where o.domain = fail_domain.domain.domain and o.domain_id = fail_domain.domain.id and o.holds_until <= clock_timestamp();
  if fail_domain.domain.status = 'verified'
    and not exists (select from access_private.domain_owners o where o.domain = fail_domain.domain.domain and o.domain_id = fail_domain.domain.id) then
    perform access_private.lose_domain(fail_domain.domain.organization_id, fail_domain.domain.id,
      case when answered then 'not proved again' else 'no answer' end);
    return true;
  end if;
  return false;
end $function$
comment 'A domain was not proved: true if it is lost by that. Whoever calls it holds the domain.'

-- function access_private.find_table(name text, for_owner boolean, OUT relation oid, OUT full_name text, OUT standing text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.find_table(name text, for_owner boolean, OUT relation oid, OUT full_name text, OUT standing text)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- No cast to regclass: that raises for what is no name.
begin
  select r.relation, format('%I.%I', n.nspname, c.relname), 'RULED' into find_table.relation, full_name, standing
    from (select distinct r.relation from access.rules r) r
    join pg_class c on c.oid = r.relation
    join pg_namespace n on n.oid = c.relnamespace
    where find_table.name in (format('%I.%I', n.nspname, c.relname), n.nspname || '.' || c.relname)
    order by find_table.name = format('%I.%I', n.nspname, c.relname) desc
    limit 1;
  if found then
    return;
  end if;
  -- Without its schema, if only one is meant.
  select min(r.relation::oid), min(format('%I.%I', n.nspname, c.relname)), 'RULED' into find_table.relation, full_name, standing
    from (select distinct r.relation from access.rules r) r
    join pg_class c on c.oid = r.relation
    join pg_namespace n on n.oid = c.relnamespace
    where c.relname = find_table.name
    having count(*) = 1;
  if found then
    return;
  end if;
  select c.oid, format('%I.%I', n.nspname, c.relname),
      case when exists (
          select from pg_partition_ancestors(c.oid) a join access.rules r on r.relation = a.relid) then 'PARTITION'
        else 'UNRULED' end
    into find_table.relation, full_name, standing
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where find_table.name in (format('%I.%I', n.nspname, c.relname), n.nspname || '.' || c.relname)
      and c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname !~ '^(pg_|information_schema$)'
      -- Nobody learns what other tables there are.
      and (for_owner or has_schema_privilege('safetypin_member', n.oid, 'usage') and (
        has_any_column_privilege('safetypin_member', c.oid, 'select, insert, update')
        or has_table_privilege('safetypin_member', c.oid, 'delete')
        or c.relispartition and exists (
          select from pg_partition_ancestors(c.oid) a join access.rules r on r.relation = a.relid)))
    limit 1;
  standing := coalesce(standing, 'UNKNOWN');
end $function$
comment 'The table of this name: RULED, a PARTITION of one that is, UNRULED (a member may use it, or the owner asks), or UNKNOWN.'

-- function access_private.found_organization(name text, person_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.found_organization(name text, person_id uuid)
 RETURNS uuid
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_id uuid := platform.uuid_v7();
  v_membership uuid := platform.uuid_v7();
begin
  insert into access.organizations (id, name, created_by) values (v_id, found_organization.name, found_organization.person_id);
  insert into access.roles (organization_id, name, built_in)
    select v_id, r, true from unnest(array['owner', 'admin', 'member', 'viewer']) r;
  insert into access.role_permissions (organization_id, role_id, permission)
    select r.organization_id, r.id, p.name
    from access.roles r
    join access.permissions p on r.name = any (p.default_roles)
    where r.organization_id = v_id;
  insert into access.memberships (organization_id, id, person_id) values (v_id, v_membership, found_organization.person_id);
  insert into access.membership_roles (organization_id, membership_id, role_id)
    select v_id, v_membership, r.id from access.roles r where r.organization_id = v_id and r.name = 'owner';
  perform audit_private.append('organization.create', v_id, found_organization.person_id);
  return v_id;
end $function$
comment 'Founds an organization with its four roles and its first owner.'

-- function access_private.gaps_of_protected()
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.gaps_of_protected()
 RETURNS TABLE(object text, what text, line text, stops boolean)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
declare
  v_relation regclass;
  v record;
begin
  for v_relation in
    select c.oid::regclass from access.protections p join pg_class c on c.oid = p.relation order by access_private.table_name(c.oid)
  loop
    select k.* into v from access_private.kept(v_relation) k;
    return query
      select access_private.table_name(v_relation), o.what, o.line, true
        from access_private.obstacles(v_relation, v.organization, v.owner, v.permissions || v.assign, v.assurance, v.roles, v.hidden) o;
    -- Whoever takes the column away that the rest is about hears of that alone.
    continue when found;
    return query
      -- An index that is missing is slow, and lets nobody past.
      select access_private.table_name(v_relation), d.what, d.line, d.place <> 80
        from access_private.differences(v_relation, v.organization, v.owner, v.permissions, v.assurance, v.roles, v.audited, v.assign, v.hidden) d
        order by d.place, d.line;
  end loop;
end $function$
comment 'What is not as the rules of the tables under rules say.'

-- function access_private.gaps_of_schemas(schemas name[])
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.gaps_of_schemas(schemas name[])
 RETURNS TABLE(object text, what text, line text, stops boolean)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET quote_all_identifiers TO 'off'
AS $function$
  with recursive over (id, ancestor) as (
    select i.inhrelid, i.inhparent from pg_inherits i
    union
    select o.id, i.inhparent from over o join pg_inherits i on i.inhrelid = o.ancestor
  ), here as (
    select c.oid, c.relkind, c.reloptions, c.relispartition, format('%I.%I', n.nspname, c.relname) as name
      from pg_namespace n join pg_class c on c.relnamespace = n.oid
      where n.nspname = any (gaps_of_schemas.schemas) and c.relkind in ('r', 'p', 'v', 'm', 'f')
  ), borrowed as (
    -- What runs with the rights of its owner: for whoever may call it, and behind whatever has it as a trigger.
    select p.oid::regprocedure::text as name, pg_get_userbyid(p.proowner) as owner, p.prokind
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where p.prosecdef and pg_get_userbyid(p.proowner) not in ('safetypin_definer', 'safetypin_keeper')
        and (n.nspname = any (gaps_of_schemas.schemas) and exists (
            select from pg_roles r where r.rolname = any (access_private.run_time_roles()) and has_function_privilege(r.oid, p.oid, 'execute'))
          or exists (
            select from pg_trigger t where t.tgfoid = p.oid and not t.tgisinternal and (
              t.tgrelid in (select x.relation from access.protections x) or t.tgrelid in (select h.oid from here h))))
  )
  select g.name, g.what, g.line, true
    from (
      select h.name, 'not under rules' as what, format('select access.protect(%L);', coalesce((
            select access_private.table_name(a.relid) from pg_partition_ancestors(h.oid) with ordinality a (relid, level) where h.relispartition order by a.level desc limit 1),
          h.name)) as line
        from here h
        where h.relkind in ('r', 'p')
          and not exists (select from access.protections p where p.relation = h.oid)
          and not exists (select from over o join access.protections p on p.relation = o.ancestor where o.id = h.oid)
      union all
      select h.name, 'a view that reads with the rights of its owner, past all rules', format('alter view %s set (security_invoker = true);', h.name)
        from here h
        where h.relkind = 'v' and not coalesce((select o.option_value::boolean from pg_options_to_table(h.reloptions) o where o.option_name = 'security_invoker'), false)
      union all
      select h.name, case h.relkind when 'm' then 'a materialized view holds rows of everybody, and knows no rules' else 'a foreign table knows no rules' end,
          format('select access.exempt(%L, ''…'');', h.name)
        from here h
        where h.relkind in ('m', 'f')
      union all
      select b.name, format('runs with the rights of %s, past all rules', b.owner),
          format('alter %s %s security invoker;', case b.prokind when 'p' then 'procedure' else 'function' end, b.name)
        from borrowed b
    ) g
    where not exists (select from access.exemptions e where e.object = g.name)
    order by g.name, g.what
$function$
comment 'What in these schemas is neither under rules nor exempt, and what goes past rules anywhere.'

-- function access_private.has_owner(organization_id uuid, but_not uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.has_owner(organization_id uuid, but_not uuid DEFAULT NULL::uuid)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select exists (
    select from access.roles r
      join access.membership_roles mr on mr.organization_id = r.organization_id and mr.role_id = r.id
      join access.memberships m on m.organization_id = mr.organization_id and m.id = mr.membership_id
      join identity.people p on p.id = m.person_id and p.status = 'active'
      where r.organization_id = has_owner.organization_id and r.built_in and r.name = 'owner'
        and mr.valid_from <= clock_timestamp() and mr.valid_until = 'infinity'
        and m.person_id is distinct from has_owner.but_not)
    -- Whoever is no owner takes none along: where the only one is suspended, others still come and go.
    or has_owner.but_not is not null and not exists (
      select from access.roles r
        join access.membership_roles mr on mr.organization_id = r.organization_id and mr.role_id = r.id
        join access.memberships m on m.organization_id = mr.organization_id and m.id = mr.membership_id
        where r.organization_id = has_owner.organization_id and r.built_in and r.name = 'owner'
          and m.person_id = has_owner.but_not)
$function$
comment 'Whether somebody active owns the organization without an end; with a person who is about to go: whether that takes no owner away, or leaves one.'

-- function access_private.heirs(relation regclass)
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.heirs(relation regclass)
 RETURNS SETOF oid
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
begin
  return query
    with recursive heirs as (
      select i.inhrelid from pg_inherits i where i.inhparent = heirs.relation
      union
      select i.inhrelid from pg_inherits i join heirs h on i.inhparent = h.inhrelid
    )
    select inhrelid from heirs;
end $function$
comment 'The parts of a table and what inherits from it, all the way down.'

-- function access_private.held_by_role(organization_id uuid, role_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.held_by_role(organization_id uuid, role_id uuid)
 RETURNS text[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select coalesce(array_agg(rp.permission order by rp.permission), '{}')
    from access.role_permissions rp
    where rp.organization_id = held_by_role.organization_id and rp.role_id = held_by_role.role_id
$function$
comment 'What a role permits.'

-- function access_private.hold_domain(domain text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.hold_domain(domain text)
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- A lock of the transaction, keyed by the domain: there may be no row yet that could be locked instead.
  select pg_advisory_xact_lock(hashtextextended('safetypin domain ' || hold_domain.domain, 0))
$function$
comment 'Whatever decides whose a domain is takes its turn until the end of the transaction.'

-- function access_private.holding()
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.holding()
 RETURNS TABLE(permission text, valid tstzmultirange)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select h.permission, h.valid
    from access_private.held_permissions h
    where h.organization_id = (select request.organization_id()) and h.person_id = (select request.signed_in_id())
$function$
comment 'What the person who is signed in holds in the active organization, and when: what can be handed on. Nothing for an API key, which hands on nothing.'

-- function access_private.invitation_mail(organization_id uuid, invitation_id uuid, OUT recipient text, OUT locale text, OUT organization text, OUT expires_at timestamp with time zone)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.invitation_mail(organization_id uuid, invitation_id uuid, OUT recipient text, OUT locale text, OUT organization text, OUT expires_at timestamp with time zone)
 RETURNS record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select keyring_private.open('access.invitations.address', a.organization_id, a.invitation_id, a.address),
      coalesce(p.locale, 'en'), o.name, i.expires_at
    from access.invitations i
    join access_private.invitation_addresses a on a.organization_id = i.organization_id and a.invitation_id = i.id
    join access.organizations o on o.id = i.organization_id and o.status = 'active' and o.closes_at > clock_timestamp()
    -- In the language of whoever invites: that of the invited address, if it has an account, is nobody's to tell.
    left join identity.people p on p.id = i.invited_by
    where i.organization_id = invitation_mail.organization_id and i.id = invitation_mail.invitation_id
      and i.status = 'open' and i.expires_at > clock_timestamp()
$function$
comment 'What identity.compose_mail() writes to the address of an invitation; nulls if nobody can accept it any more.'

-- function access_private.is_granted(relation oid, command text, column_name text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.is_granted(relation oid, command text, column_name text DEFAULT NULL::text)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select has_schema_privilege('safetypin_member', c.relnamespace, 'usage') and case
      when is_granted.command = 'delete' then has_table_privilege('safetypin_member', c.oid, 'delete')
      when is_granted.column_name is null then has_any_column_privilege('safetypin_member', c.oid, is_granted.command)
      else exists (
        select from pg_attribute a
        where a.attrelid = c.oid and a.attname = is_granted.column_name and a.attnum > 0 and not a.attisdropped
          and has_column_privilege('safetypin_member', c.oid, a.attnum, is_granted.command)) end
    from pg_class c
    where c.oid = is_granted.relation
$function$
comment 'Whether members have the grant of the database that a command needs, on a column or on any.'

-- function access_private.join_by_address(person_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.join_by_address(person_id uuid)
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
  v_email record;
  v_domain access_private.domain_owners;
  v_organization uuid;
  v_role uuid;
  v_room boolean;
  v_reason text;
  v_membership uuid;
  v_joined uuid[] := '{}';
begin
  for v_email in
    select e.lookup, access_private.ascii_domain(split_part(
        keyring_private.open('identity.emails.address', platform.no_organization(), e.id, e.address), '@', 2)) as domain
      from identity_private.emails e
      join identity.people p on p.id = e.person_id and p.status = 'active'
      where e.person_id = join_by_address.person_id and e.verified_at is not null
      order by e.id
  loop
    select o.organization_id into v_organization from access_private.domain_owners o where o.domain = v_email.domain;
    continue when not found or access_private.setting_role(v_organization, 'domain.join_role') is null;
    perform access_private.take_turn(v_organization);
    -- Decided by what stands now: roles, settings and members do not change until the end of the transaction.
    v_role := access_private.setting_role(v_organization, 'domain.join_role');
    v_room := access_private.room(v_organization, 'members');
    select o.* into v_domain from access_private.domain_owners o
      where o.domain = v_email.domain and o.organization_id = v_organization and o.holds_until > clock_timestamp()
        and not exists (select from access.shared_domains s where s.domain = o.domain);
    continue when not found or v_role is null or not access_private.living(v_organization)
      or exists (select from access.memberships m
        where m.organization_id = v_organization and m.person_id = join_by_address.person_id);
    v_reason := case
      when exists (select from access_private.kept_out k where k.organization_id = v_organization
        and (k.lookup = v_email.lookup or k.person_id = join_by_address.person_id)) then 'KEPT_OUT'
      when not access_private.below_ceiling(v_organization, v_role) then 'ABOVE_CEILING'
      when not v_room then 'LIMIT_REACHED'
      end;
    if v_reason is not null then
      perform audit_private.append('access.refuse', v_organization, join_by_address.person_id,
        jsonb_build_object('what', 'domain.join', 'reasons', array[v_reason]), 'access.domains', v_domain.domain_id::text);
      continue;
    end if;
    v_membership := platform.uuid_v7();
    insert into access.memberships (organization_id, id, person_id) values (v_organization, v_membership, join_by_address.person_id);
    insert into access.membership_roles (organization_id, membership_id, role_id) values (v_organization, v_membership, v_role);
    perform audit_private.append('member.join', v_organization, join_by_address.person_id,
      jsonb_build_object('membership', v_membership, 'role', v_role, 'domain', v_domain.domain_id));
    v_joined := v_joined || v_organization;
  end loop;
  return v_joined;
end $function$
comment 'Called when a person has proved an address: makes her a member of the organization that owns its domain, if its setting domain.join_role names a role below the ceiling. Not who was a member before. Returns which organizations.'

-- function access_private.kept(relation regclass)
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.kept(relation regclass)
 RETURNS TABLE(organization name, owner name, permissions text[], assurance integer, roles name[], audited boolean, assign text, hidden name[])
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET row_security TO 'on'
AS $function$
#variable_conflict use_column
begin
  return query
    select p.organization_column, p.owner_column,
        array(select r.permission from unnest(array['select', 'insert', 'update', 'delete']) with ordinality u (command, position)
          left join access.rules r on r.relation = p.relation and r.command = u.command order by u.position),
        coalesce((select max(r.assurance) from access.rules r where r.relation = p.relation), 1),
        p.roles, p.audited, (select max(r.assign) from access.rules r where r.relation = p.relation), p.hidden
      from access.protections p
      where p.relation = kept.relation;
end $function$
comment 'What access.protect() was given for a table; no row if it is under no rules.'

-- function access_private.key_holds(api_key access.api_keys)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.key_holds(api_key access.api_keys)
 RETURNS text[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select array(
    select distinct u.name from unnest(key_holds.api_key.permissions) as u (name)
      where exists (
          select from access_private.held_permissions h
            where h.organization_id = key_holds.api_key.organization_id and h.person_id = key_holds.api_key.person_id
              and h.permission = u.name and h.valid @> clock_timestamp())
        or exists (
          select from access.service_accounts s
            where s.organization_id = key_holds.api_key.organization_id and s.id = key_holds.api_key.service_account_id
              and s.status = 'active' and u.name = any (s.permissions))
      order by u.name)
$function$
comment 'Which of its permissions a key has now, by whose it is. Whether the key itself still stands is another question.'

-- function access_private.line_for_key(relation regclass, organization name)
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.line_for_key(relation regclass, organization name)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
  select format('alter table %s %sadd primary key (%s);', access_private.table_name(line_for_key.relation),
      case when not exists (select from pg_attribute a where a.attrelid = line_for_key.relation and a.attname = 'id' and not a.attisdropped)
        then 'add column id uuid default platform.uuid_v7(), ' else '' end,
      concat_ws(', ', quote_ident(organization), 'id', (
        -- A partitioned table's key holds what it is divided by.
        select string_agg(quote_ident(a.attname), ', ' order by k.position)
          from pg_partitioned_table p cross join unnest(p.partattrs) with ordinality k (attnum, position)
          join pg_attribute a on a.attrelid = p.partrelid and a.attnum = k.attnum
          where p.partrelid = line_for_key.relation and a.attname <> all (array['id', organization]))))
$function$
comment 'The line that gives a table a primary key which begins with the organization.'

-- function access_private.line_for_organization(relation regclass, organization name)
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.line_for_organization(relation regclass, organization name)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
declare
  v_table text := access_private.table_name(relation);
  v_has_rows boolean := false;
begin
  if has_table_privilege(relation, 'select') then
    execute format('select exists (select from %s)', v_table) into v_has_rows;
  end if;
  -- Without a default, which protect() sets: PostgreSQL would ask for it now, for nobody. Rows that are there already are
  -- somebody's, and only people know whose; that they are, the owner cannot see, so it is believed of them.
  return case when not v_has_rows
    then format('alter table %s add column %I uuid not null references access.organizations (id) on delete cascade;', v_table, organization)
    else format('alter table %s add column %I uuid not null default ''…'', add foreign key (%2$I) references access.organizations (id) on delete cascade not valid; alter table %1$s alter column %2$I drop default;',
      v_table, organization) end;
end $function$
comment 'The line that adds the column for the organization; … stands for the organization of the rows that are there.'

-- function access_private.live_invitation(token bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.live_invitation(token bytea)
 RETURNS access.invitations
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select i.*
    from identity_private.tokens t
    join access.invitations i on i.organization_id = t.organization_id and i.id = t.invitation_id
    join access.organizations o on o.id = i.organization_id and o.status = 'active' and o.closes_at > clock_timestamp()
    where t.hash = sha256(live_invitation.token) and t.purpose = 'invitation'
      and t.consumed_at is null and t.expires_at > clock_timestamp()
      and i.status = 'open' and i.expires_at > clock_timestamp()
      and i.role_id is not null and i.role_valid_until > clock_timestamp()
$function$
comment 'The open invitation of a live token; null for any other token.'

-- function access_private.living(organization_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.living(organization_id uuid)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select exists (select from access.organizations o
    where o.id = living.organization_id and o.status = 'active' and o.closes_at > clock_timestamp())
$function$
comment 'Whether somebody can act in an organization now.'

-- function access_private.looks_built_in(name text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.looks_built_in(name text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- Signs of Greek and Cyrillic that look like those of the four names, and digits; marks, spaces and the rest go.
  select regexp_replace(lower(translate(normalize(looks_built_in.name, nfkd),
      E'\u0391\u0392\u0395\u0399\u039c\u039d\u039f\u03b1\u03bf\u03b9\u03bd\u0410\u0412\u0415\u0406\u041c\u041e\u0430\u0435\u043c\u043e\u0456\u0475\u0501\u051d\u013101|',
      'abeimnoaoivabeimoaemoivdwioii')), '[^a-z0-9]', '', 'g')
    in ('owner', 'admin', 'member', 'viewer')
$function$
comment 'Whether people would take a name for that of a built-in role.'

-- function access_private.lose_domain(organization_id uuid, id uuid, because text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.lose_domain(organization_id uuid, id uuid, because text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  update access.domains d
    set status = 'lost', lost_at = clock_timestamp(), next_check_at = null
    where d.organization_id = lose_domain.organization_id and d.id = lose_domain.id;
  perform audit_private.append('domain.lose', lose_domain.organization_id,
    details => jsonb_build_object('because', because), relation => 'access.domains', row_id => lose_domain.id::text);
end $function$
comment 'A domain is not the organization''s any more. Whoever calls it has its row of owners.'

-- function access_private.may_invite(organization_id uuid, person_id uuid, permissions text[], until timestamp with time zone)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.may_invite(organization_id uuid, person_id uuid, permissions text[], until timestamp with time zone)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select exists (
      select from access.memberships m
        join identity.people p on p.id = m.person_id and p.status = 'active'
        where m.organization_id = may_invite.organization_id and m.person_id = may_invite.person_id)
    and exists (
      select from access_private.held_permissions h
        where h.organization_id = may_invite.organization_id and h.person_id = may_invite.person_id
          and h.permission = 'member.invite' and h.valid @> clock_timestamp())
    and not exists (
      select from unnest(may_invite.permissions) as u (permission)
        where not exists (
          select from access_private.held_permissions h
            where h.organization_id = may_invite.organization_id and h.person_id = may_invite.person_id
              and h.permission = u.permission and h.valid @> tstzrange(clock_timestamp(), may_invite.until)))
$function$
comment 'Whether somebody is an active member who may invite now and holds all of these permissions until then: what was asked when they invited is asked again when it is accepted.'

-- function access_private.next_domain_check(domain access.domains, answer text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.next_domain_check(domain access.domains, answer text)
 RETURNS timestamp with time zone
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case
    when answer = 'proved' then clock_timestamp() + make_interval(secs => platform.limit_value('domain.proof_seconds'))
    when domain.status <> 'verified'
      and coalesce(domain.asked_at, domain.created_at) < clock_timestamp() - make_interval(secs => platform.limit_value('domain.pending_seconds')) then null
    when answer = 'unanswered' then clock_timestamp() + make_interval(secs => platform.limit_value('domain.retry_seconds'))
    when domain.status = 'verified' then clock_timestamp() + interval '1 day'
    -- Soon at first, while whoever added it waits; once a day in the end.
    else clock_timestamp() + least(interval '10 minutes' * (2 ^ least(domain.failures, 10)), interval '1 day')
  end
$function$
comment 'When DNS is asked again; null for not until somebody asks.'

-- function access_private.not_held(permissions text[], valid tstzrange)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.not_held(permissions text[], valid tstzrange)
 RETURNS text[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select coalesce(array_agg(p.permission order by p.permission), '{}')
    from (select distinct u.permission from unnest(not_held.permissions) as u (permission)) p
    where not exists (
      select from access_private.holding() h
        where h.permission = p.permission
          -- What is past harms nobody.
          and h.valid @> not_held.valid * tstzrange(clock_timestamp(), 'infinity', '[]'))
$function$
comment 'Which of these permissions the asker does not hold for the whole of that time, as far as it is ahead: nobody hands on what they do not hold, nor for longer.'

-- function access_private.obstacles(relation regclass, organization name, owner name, permissions text[], assurance integer, roles name[], hidden name[])
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.obstacles(relation regclass, organization name, owner name, permissions text[], assurance integer, roles name[], hidden name[])
 RETURNS TABLE(what text, line text)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET quote_all_identifiers TO 'off'
AS $function$
-- A table is named with its schema in each line, whatever the search path of who runs it.
declare
  v_table text := access_private.table_name(relation);
  v_class pg_class;
  v_column pg_attribute;
  v_parent text;
  v_new text;
begin
  select c.* into v_class from pg_class c where c.oid = obstacles.relation;
  if v_class.relkind not in ('r', 'p') then
    return query select format('%s is not a table', v_table), case v_class.relkind
      when 'v' then format('alter view %s set (security_invoker = true);', v_table)
      when 'm' then format('drop materialized view %s;', v_table)
      when 'f' then format('drop foreign table %s;', v_table) end;
    return;
  end if;
  if v_class.relpersistence = 't' then
    return query select format('%s is temporary: it is gone before anybody could reach it', quote_ident(v_class.relname)),
      format('drop table %s;', v_table);
    return;
  end if;
  if v_class.relispartition then
    select access_private.table_name(a.relid) into v_parent from pg_partition_ancestors(relation) with ordinality a (relid, level) order by a.level desc limit 1;
    return query select format('%s is a part of %s, and under the rules of that', v_table, v_parent), format('select access.protect(%L);', v_parent);
    return;
  end if;
  return query
    select format('%s inherits from %s: its rows are read through that one, past its rules', v_table, access_private.table_name(i.inhparent)),
        format('alter table %s no inherit %s;', v_table, access_private.table_name(i.inhparent))
      from pg_inherits i where i.inhrelid = obstacles.relation;

  -- A host may have a column of our name that says something else.
  v_new := case when organization = 'organization_id' then 'tenant_id' else 'organization_id' end;
  select a.* into v_column from pg_attribute a
    where a.attrelid = obstacles.relation and a.attname = organization and a.attnum > 0 and not a.attisdropped;
  if not found then
    return query select format('%s needs a column %I of type uuid, not null', v_table, organization),
      access_private.line_for_organization(relation, organization);
  elsif v_column.atttypid <> 'uuid'::regtype then
    return query select format('%s needs a column of type uuid, not null, that says whose a row is: %I is of type %s; add one, and say organization => %L',
        v_table, organization, format_type(v_column.atttypid, v_column.atttypmod), v_new),
      access_private.line_for_organization(relation, v_new);
  elsif not v_column.attnotnull then
    return query select format('%s needs a column %I of type uuid, not null: it may be null', v_table, organization),
      format('alter table %s alter column %I set not null;', v_table, organization);
  elsif v_column.attgenerated <> '' then
    return query select format('%s.%I is generated', v_table, organization), format('alter table %s alter column %I drop expression;', v_table, organization);
  end if;
  if owner is not null then
    select a.* into v_column from pg_attribute a
      where a.attrelid = obstacles.relation and a.attname = owner and a.attnum > 0 and not a.attisdropped;
    if not found then
      return query select format('%s needs a column %I of type uuid', v_table, owner),
        format('alter table %s add column %I uuid references identity.people (id) on delete set null;', v_table, owner);
    elsif v_column.atttypid <> 'uuid'::regtype then
      return query select format('%s needs a column of type uuid for whose own row it is: %I is of type %s', v_table, owner,
        format_type(v_column.atttypid, v_column.atttypmod)),
        format('alter table %s alter column %I type uuid using %2$I::text::uuid;', v_table, owner);
    end if;
  end if;
  if not exists (select from pg_index i where i.indrelid = obstacles.relation and i.indisprimary) then
    return query select format('%s needs a primary key', v_table), access_private.line_for_key(relation, organization);
  end if;
  return query
    select format('%s has no column %I to hide', v_table, h), null::text from unnest(hidden) h
      where not exists (select from pg_attribute a where a.attrelid = obstacles.relation and a.attname = h and a.attnum > 0 and not a.attisdropped);
  if hidden <> '{}' and exists (select from keyring.doors() d where d.relation = obstacles.relation) then
    return query select format('%s has sealed columns, which are read with the whole row: no column of it can be hidden', v_table), null::text;
  end if;

  -- Permissive policies add up (a restrictive one of the host's narrows, and may stay), and what a rule does is done in the name of the table's owner, past all policies.
  return query
    select format('%s has policies of its own for these roles: %I', v_table, p.polname), format('drop policy %I on %s;', p.polname, v_table)
      from pg_policy p
      where p.polrelid = obstacles.relation and p.polname !~ '^safetypin_(may|tenant)_(select|insert|update|delete)$'
        and p.polpermissive
        and p.polroles && (select array_agg(r.oid) || 0::oid from pg_roles r where r.rolname = any (roles || access_private.run_time_roles()))
        and not (p.polname in ('safetypin_work', 'safetypin_work_update') and p.polroles = array['safetypin_jobs'::regrole::oid]
          and pg_get_expr(p.polqual, p.polrelid) = format('( SELECT keyring.at_work((%L::regclass)::oid) AS at_work)', p.polrelid::regclass)
          and coalesce(pg_get_expr(p.polwithcheck, p.polrelid), pg_get_expr(p.polqual, p.polrelid)) = pg_get_expr(p.polqual, p.polrelid))
      order by p.polname;
  return query
    select format('%s has a rule, which acts in its owner''s name past all policies: %I', v_table, w.rulename), format('drop rule %I on %s;', w.rulename, v_table)
      from pg_rewrite w where w.ev_class = obstacles.relation order by w.rulename;
  return query
    select format('there is no permission %s', p), format('select access.define_permission(%L, ''…'');', p)
      from (select distinct u.p from unnest(permissions) u (p) where u.p is not null) u
      where not exists (select from access.permissions c where c.name = u.p);
  if coalesce(assurance not between 1 and 3, true) then
    return query select format('assurance is from 1 to 3, not %s', assurance), null::text;
  end if;
  return query
    select case when o.oid is null then format('there is no role %I', r) else format('no policy holds the role %I', r) end, null::text
      from unnest(roles) r left join pg_roles o on o.rolname = r
      where o.oid is null or o.rolsuper or o.rolbypassrls or pg_has_role(o.oid, v_class.relowner, 'member');
  if coalesce(roles, '{}') = '{}' then
    return query select 'rules are for at least one role', null::text;
  end if;
end $function$
comment 'Why a table cannot be under these rules, each with the line that changes it where there is one.'

-- function access_private.operate(slug text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.operate(slug text)
 RETURNS uuid
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_id uuid;
begin
  select o.id into v_id from access.organizations o where o.slug = operate.slug;
  if not found then
    raise exception 'no organization %', operate.slug using errcode = 'P0002';
  end if;
  perform access_private.take_turn(v_id);
  return v_id;
end $function$
comment 'The organization of a slug, whose turn this transaction has then. P0002 if there is none.'

-- function access_private.outranks(organization_id uuid, person_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.outranks(organization_id uuid, person_id uuid)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- As of now and from now on: whoever will be an owner tomorrow is not removed by an admin today.
  select not exists (
    select from access_private.held_permissions h
      cross join lateral unnest(h.valid) as w (valid)
      where h.organization_id = outranks.organization_id and h.person_id = outranks.person_id
        and upper(w.valid) > clock_timestamp()
        and access_private.not_held(array[h.permission], w.valid) <> '{}')
$function$
comment 'Whether the asker holds all that a member holds: nobody acts on who holds more. True for oneself.'

-- function access_private.punycode(label text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.punycode(label text)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
-- RFC 3492, section 6.3, with its names of numbers: base 36, tmin 1, tmax 26, skew 38, damp 700.
declare
  v_points integer[] := array(
    select ascii(s.sign) from regexp_split_to_table(punycode.label, '') with ordinality as s (sign, place) order by s.place);
  v_text text := coalesce((
    select string_agg(chr(u.point), '' order by u.place) from unnest(v_points) with ordinality as u (point, place) where u.point < 128), '');
  v_basic integer := length(v_text);
  v_done integer := v_basic;
  v_n integer := 128;
  v_bias bigint := 72;
  v_delta bigint := 0;
  v_point integer;
  v_q bigint;
  v_k bigint;
  v_t bigint;
begin
  if v_basic > 0 then
    v_text := v_text || '-';
  end if;
  while v_done < cardinality(v_points) loop
    select min(u.point) into v_point from unnest(v_points) as u (point) where u.point >= v_n;
    v_delta := v_delta + (v_point - v_n)::bigint * (v_done + 1);
    v_n := v_point;
    foreach v_point in array v_points loop
      if v_point < v_n then
        v_delta := v_delta + 1;
      elsif v_point = v_n then
        v_q := v_delta;
        v_k := 36;
        loop
          v_t := least(greatest(v_k - v_bias, 1), 26);
          exit when v_q < v_t;
          v_text := v_text || substr('abcdefghijklmnopqrstuvwxyz0123456789', (v_t + (v_q - v_t) % (36 - v_t))::integer + 1, 1);
          v_q := (v_q - v_t) / (36 - v_t);
          v_k := v_k + 36;
        end loop;
        v_text := v_text || substr('abcdefghijklmnopqrstuvwxyz0123456789', v_q::integer + 1, 1);
        v_delta := v_delta / case when v_done = v_basic then 700 else 2 end;
        v_done := v_done + 1;
        v_delta := v_delta + v_delta / v_done;
        v_k := 0;
        while v_delta > 455 loop
          v_delta := v_delta / 35;
          v_k := v_k + 36;
        end loop;
        v_bias := v_k + 36 * v_delta / (v_delta + 38);
        v_delta := 0;
      end if;
    end loop;
    v_delta := v_delta + 1;
    v_n := v_n + 1;
  end loop;
  return v_text;
end $function$
comment 'A label in Punycode (RFC 3492), without the xn-- before it.'

-- function access_private.record_grants(action text, organization_id uuid, grants uuid[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.record_grants(action text, organization_id uuid, grants uuid[])
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select audit_private.append(record_grants.action, record_grants.organization_id, relation => 'access.membership_roles', row_id => mr.id::text,
      details => jsonb_build_object('person', m.person_id, 'membership', mr.membership_id, 'role', mr.role_id,
        'valid_from', mr.valid_from, 'valid_until', mr.valid_until, 'granted_by', mr.granted_by))
    from access.membership_roles mr
    join access.memberships m on m.organization_id = mr.organization_id and m.id = mr.membership_id
    where mr.organization_id = record_grants.organization_id and mr.id = any (record_grants.grants)
$function$
comment 'Records that roles are given (role.grant) or, before they are, taken (role.revoke): which, of whom, for how long.'

-- function access_private.refused(what text, reasons text[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.refused(what text, reasons text[])
 RETURNS text[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform audit_private.append('access.refuse', details => jsonb_build_object('what', what, 'reasons', reasons));
  return reasons;
end $function$
comment 'Records a refusal and gives the reasons back. What was refused is one of our words, never what somebody typed.'

-- function access_private.reseal_invitations(batch integer, INOUT after uuid, OUT rows_done integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.reseal_invitations(batch integer, INOUT after uuid, OUT rows_done integer)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_after uuid := after;
begin
  with held as materialized (
      select x.organization_id, x.invitation_id as id from access_private.invitation_addresses x
        where (v_after is null or x.invitation_id > v_after) and keyring.is_stale(x.address)
        order by x.invitation_id limit batch for no key update skip locked),
    done as (
      update access_private.invitation_addresses x
        set address = keyring_private.reseal('access.invitations.address', x.invitation_id, x.organization_id, x.address, x.organization_id)
        from held h where x.organization_id = h.organization_id and x.invitation_id = h.id)
    select count(*), max(h.id::text)::uuid into rows_done, after from held h;
  if after is null and exists (select from access_private.invitation_addresses x where keyring.is_stale(x.address)) then
    rows_done := null;
  end if;
end $function$
comment 'Seals a batch of addresses of invitations anew, when data keys were replaced: see identity/reseal.sql.'

-- function access_private.revoke_invitations(organization_id uuid, ids uuid[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.revoke_invitations(organization_id uuid, ids uuid[])
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_id uuid;
  v_count integer := 0;
begin
  for v_id in
    update access.invitations i set status = 'revoked', ended_at = clock_timestamp()
      where i.organization_id = revoke_invitations.organization_id and i.id = any (ids) and i.status = 'open'
      returning i.id
  loop
    perform audit_private.append('invitation.revoke', revoke_invitations.organization_id, details => jsonb_build_object('invitation', v_id));
    v_count := v_count + 1;
  end loop;
  update identity_private.tokens t set consumed_at = clock_timestamp()
    where t.organization_id = revoke_invitations.organization_id and t.invitation_id = any (ids) and t.consumed_at is null;
  return v_count;
end $function$
comment 'Takes open invitations back, and their tokens; returns how many. Whoever calls it has taken their turn.'

-- function access_private.role_faults(organization_id uuid, role_id uuid, name text, description text, permissions text[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.role_faults(organization_id uuid, role_id uuid, name text, description text, permissions text[])
 RETURNS text[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select array_remove(array[
    case when not access_private.valid_name(role_faults.name)
        or length(btrim(role_faults.name)) > platform.limit_value('role.name_length')
        or role_faults.name collate "C" ~ E'[\u200b-\u200f\u2060-\u2064]' then 'NAME_INVALID'
      when access_private.looks_built_in(role_faults.name)
        or nullif(access_private.role_named(role_faults.organization_id, role_faults.name), role_faults.role_id) is not null
        then 'NAME_TAKEN' end,
    case when role_faults.description is null or length(role_faults.description) > 1000
        or role_faults.description collate "C" ~ E'[\u0001-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]' then 'VALUE_INVALID' end,
    case when role_faults.permissions is null or exists (
        select from unnest(role_faults.permissions) u (permission)
          where not exists (select from access.permissions p where p.name = u.permission)) then 'PERMISSION_UNKNOWN'
      -- A role has no end, and whoever holds it may hold it for ever.
      when access_private.not_held(role_faults.permissions || access_private.held_by_role(role_faults.organization_id, role_faults.role_id),
        tstzrange(clock_timestamp(), 'infinity')) <> '{}' then 'NOT_HELD' end], null)
$function$
comment 'Why a role cannot be made (role_id null) or become like this; empty if it can. Who makes or changes it holds, without an end, all that it permits and is to permit.'

-- function access_private.role_named(organization_id uuid, name text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.role_named(organization_id uuid, name text)
 RETURNS uuid
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select r.id from access.roles r
    where r.organization_id = role_named.organization_id
      -- As in the unique index.
      and lower(btrim(regexp_replace(normalize(r.name, nfkc), '\s+', ' ', 'g')))
        = lower(btrim(regexp_replace(normalize(role_named.name, nfkc), '\s+', ' ', 'g')))
$function$
comment 'The role of that name, however it is written; null if there is none.'

-- function access_private.room(organization_id uuid, what text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.room(organization_id uuid, what text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Whoever adds one has the turn until the end of the transaction, so what is counted here still holds when it is added.
declare
  v_most integer;
begin
  perform access_private.take_turn(room.organization_id);
  select l.most into v_most
    from access.organizations o
    join access.plan_limits l on l.plan = o.plan and l.what = room.what
    where o.id = room.organization_id;
  -- What is not counted is asked for by mistake, and told even where nothing limits it.
  return access_private.used(room.organization_id, room.what) < v_most is not false;
end $function$
comment 'Whether the organization''s plan has room for one more; takes the organization''s turn. A function that adds one refuses with LIMIT_REACHED when not.'

-- function access_private.run(relation regclass, lines text[])
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.run(relation regclass, lines text[])
 RETURNS SETOF text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET client_min_messages TO 'warning'
AS $function$
declare
  v_line text;
begin
  foreach v_line in array lines loop
    execute v_line;
    return next v_line;
  end loop;
end $function$
comment 'Runs lines that a function before this one made of names in the catalog, with the rights of who calls.'

-- function access_private.run_time_roles()
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.run_time_roles()
 RETURNS name[]
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select array['safetypin_authenticator', 'safetypin_anonymous', 'safetypin_member', 'safetypin_jobs', 'safetypin_auditor']::name[]
$function$
comment 'The roles that people and jobs work as.'

-- function access_private.scope_reasons(permissions text[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.scope_reasons(permissions text[])
 RETURNS text[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select case
    when coalesce(cardinality(scope_reasons.permissions), 0) not between 1 and 1000 then '{VALUE_INVALID}'::text[]
    when exists (
      select from unnest(scope_reasons.permissions) as u (name)
        where not exists (select from access.permissions p where p.name = u.name)) then '{PERMISSION_UNKNOWN}'
    else '{}' end
$function$
comment 'Why these cannot be permissions of a key; empty if they can.'

-- function access_private.setting(organization_id uuid, name text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.setting(organization_id uuid, name text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
  v_definition access.setting_definitions;
  v_value jsonb;
begin
  select d.* into v_definition from access.setting_definitions d where d.name = setting.name;
  if not found then
    raise exception 'no such setting' using errcode = '22023';
  end if;
  select s.value into v_value from access.settings s
    where s.organization_id = setting.organization_id and s.name = setting.name;
  if not found then
    return access_private.setting_default(v_definition);
  end if;
  if v_definition.type = 'integer' and jsonb_typeof(v_value) = 'number' then
    -- Bounds that were drawn closer count at once.
    return to_jsonb(greatest(least((v_value #>> '{}')::bigint, access_private.setting_most(v_definition)), v_definition.minimum));
  end if;
  return case when access_private.setting_fits(v_definition, v_value)
    then v_value else access_private.setting_default(v_definition) end;
end $function$
comment 'The value of a setting that counts in an organization: what it has set, within the bounds of now, else the default. Of a role: its id as text, or null. 22023 for an unknown setting.'

-- function access_private.setting_allows(definition access.setting_definitions)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.setting_allows(definition access.setting_definitions)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return case definition.type
    when 'integer' then format('a whole number from %s to %s', coalesce(definition.minimum, -9007199254740991),
      coalesce(access_private.setting_most(definition), 9007199254740991))
    when 'boolean' then 'true or false'
    when 'text' then case when definition.allowed is null
      then format('a text of %s to %s characters', coalesce(definition.minimum, 0), coalesce(definition.maximum, 1000))
      else 'one of: ' || array_to_string(definition.allowed, ', ') end
    when 'role' then 'name or id of a role that permits nothing you may not do, or null'
  end;
end $function$
comment 'What a setting can be, for people.'

-- function access_private.setting_default(definition access.setting_definitions)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.setting_default(definition access.setting_definitions)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return case when definition.type = 'integer'
    then to_jsonb(least(coalesce((definition.default_value #>> '{}')::bigint, platform.limit_value(definition.limit_name)),
      access_private.setting_most(definition)))
    else coalesce(definition.default_value, 'null') end;
end $function$
comment 'What counts where an organization has set nothing.'

-- function access_private.setting_fits(definition access.setting_definitions, value jsonb)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.setting_fits(definition access.setting_definitions, value jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
  v_text constant text := value #>> '{}';
begin
  return coalesce(case definition.type
    when 'integer' then case when jsonb_typeof(value) = 'number' then
        v_text::numeric = trunc(v_text::numeric)
        and v_text::numeric between coalesce(definition.minimum, -9007199254740991)
          and coalesce(access_private.setting_most(definition), 9007199254740991) end
    when 'boolean' then jsonb_typeof(value) = 'boolean'
    when 'text' then jsonb_typeof(value) = 'string'
        and length(v_text) between coalesce(definition.minimum, 0) and coalesce(definition.maximum, 1000)
        and v_text collate "C" !~ E'[\u0001-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff]'
        and (definition.allowed is null or v_text = any (definition.allowed))
    -- Whether there is such a role is asked where the organization is known.
    when 'role' then jsonb_typeof(value) in ('null', 'string')
  end, false);
end $function$
comment 'Whether a value is of the setting''s type and within its bounds.'

-- function access_private.setting_most(definition access.setting_definitions)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.setting_most(definition access.setting_definitions)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return least(definition.maximum, platform.limit_value(definition.limit_name));
end $function$
comment 'The highest value that a setting can have now; null without one.'

-- function access_private.setting_number(organization_id uuid, name text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.setting_number(organization_id uuid, name text)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (access_private.setting(organization_id, name) #>> '{}')::bigint;
end $function$
comment 'The value of an integer setting that counts in an organization.'

-- function access_private.setting_role(organization_id uuid, name text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.setting_role(organization_id uuid, name text)
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (access_private.setting(organization_id, name) #>> '{}')::uuid;
end $function$
comment 'The role that a setting names in an organization; null if none.'

-- function access_private.slug(name text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.slug(name text)
 RETURNS text
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- Letters lose their accents by being taken apart (NFKD); the few that do not come apart are named here.
  select coalesce(nullif(rtrim(left(btrim(regexp_replace(lower(replace(replace(replace(replace(
        translate(regexp_replace(normalize(slug.name, nfkd), E'[\u0300-\u036f]', '', 'g'), 'øØłŁđĐðÐıħĦÆŒÞẞ', 'oOlLdDdDihHæœþß'),
        'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th') collate "C"),
      '[^a-z0-9]+', '-', 'g'), '-'), 40), '-'), ''), 'organization')
    || '-' || (select string_agg(substr('abcdefghijklmnopqrstuvwxyz234567', (get_byte(r.bytes, i) & 31) + 1, 1), '')
      from (select uuid_send(gen_random_uuid()) as bytes) r, generate_series(0, 5) i)
$function$
comment 'A name in ASCII with 30 random bits behind it: whoever asks for one learns nothing about whose there are.'

-- function access_private.smallest_role(organization_id uuid, permissions text[], all_roles boolean)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.smallest_role(organization_id uuid, permissions text[], all_roles boolean)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select r.name
    from access.roles r
    join access.role_permissions rp on rp.organization_id = r.organization_id and rp.role_id = r.id
    where r.organization_id = smallest_role.organization_id and (r.built_in or smallest_role.all_roles)
    group by r.id, r.name
    having array_agg(rp.permission) @> smallest_role.permissions
    order by count(*), r.name
    limit 1
$function$
comment 'The role with the fewest permissions that gives all of these; of the built-in ones only, for who may not see roles.'

-- function access_private.table_name(relation regclass)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.table_name(relation regclass)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (
    select format('%I.%I', n.nspname, c.relname)
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.oid = table_name.relation);
end $function$
comment 'Schema and name of a table, quoted, whatever the search path.'

-- function access_private.take_table(relation regclass)
owner safetypin_owner
CREATE OR REPLACE FUNCTION access_private.take_table(relation regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_owner name;
begin
  select o.rolname into v_owner from pg_class c join pg_roles o on o.oid = c.relowner where c.oid = take_table.relation;
  if not pg_has_role(current_user, v_owner, 'usage') then
    raise exception 'must be owner of table %', access_private.table_name(relation) using errcode = '42501', hint = format('set role %I;', v_owner);
  end if;
  -- Two who protect one table take turns; readers and writers go on.
  if exists (select from pg_class c where c.oid = take_table.relation and c.relkind in ('r', 'p')) then
    execute format('lock table only %s in share update exclusive mode', access_private.table_name(relation));
  end if;
end $function$
comment 'Who protects a table waits for another who does. 42501 for who does not own it.'

-- function access_private.take_turn(organization_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.take_turn(organization_id uuid)
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  insert into access_private.ownership as o (organization_id) values (take_turn.organization_id)
    on conflict on constraint ownership_pkey do update set turns = o.turns + 1
$function$
comment 'Changes of members, roles and grants of one organization take turns until the end of the transaction. 40001 in REPEATABLE READ, when another was faster.'

-- function access_private.take_turn_to(permission text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.take_turn_to(permission text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- Whoever may not is told before: nobody keeps others waiting with what is refused. A key makes no roles and grants none.
  if request.signed_in_id() is null or not request.can(take_turn_to.permission) then
    return false;
  end if;
  perform access_private.take_turn(access_private.acting_in());
  -- What was so before the turn may not be so any more.
  return coalesce(request.can(take_turn_to.permission), false);
end $function$
comment 'Whether a person who is signed in may do this in the active organization; if so, the turn is hers until the end of the transaction.'

-- function access_private.tg__forget_held()
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.tg__forget_held()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- What is emptied is not told row by row.
begin
  if tg_table_name = 'membership_roles'
    and exists (select from access.organizations o where o.status <> 'closed') then
    raise exception 'an organization keeps an owner' using errcode = 'LASTO';
  end if;
  delete from access_private.held_permissions;
  return null;
end $function$
comment 'Roles, what they permit or who holds them was emptied: nobody may do anything any more. LASTO as long as there are organizations, which keep their owners.'

-- function access_private.tg_keep_owner()
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.tg_keep_owner()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Whatever took it, by whichever way: somebody must be left who owns the organization.
declare
  v_organization uuid;
begin
  for v_organization in
    select distinct c.organization_id
    from changed c
    left join access.roles r on r.organization_id = c.organization_id and r.id = c.role_id
    -- What else is taken leaves the owners as they are. A role that is gone may have been theirs.
    where r.id is null or r.built_in and r.name = 'owner'
    order by c.organization_id
  loop
    continue when not exists (select from access.organizations o where o.id = v_organization and o.status <> 'closed');
    perform access_private.take_turn(v_organization);
    if not access_private.has_owner(v_organization) then
      raise exception 'an organization keeps an owner' using errcode = 'LASTO';
    end if;
  end loop;
  return null;
end $function$
comment 'LASTO when nobody owns the organization any more.'

-- function access_private.tg_membership_roles__work_out()
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.tg_membership_roles__work_out()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
declare
  v_row record;
begin
  for v_row in
    select c.organization_id, array_agg(c.membership_id) as memberships
    from changed c
    group by c.organization_id
    order by c.organization_id
  loop
    -- Closing one or emptying it takes its rows with it.
    continue when not exists (select from access.organizations o where o.id = v_row.organization_id);
    perform access_private.take_turn(v_row.organization_id);
    perform access_private.work_out(v_row.organization_id, array(
      select m.person_id from access.memberships m
      where m.organization_id = v_row.organization_id and m.id = any (v_row.memberships)));
  end loop;
  return null;
end $function$
comment 'Roles were given or taken: works out anew what their holders may do.'

-- function access_private.tg_memberships__keep_out()
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.tg_memberships__keep_out()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
begin
  insert into access_private.kept_out as k (organization_id, lookup, person_id)
    select c.organization_id, e.lookup, e.person_id
      from changed c
      join access.organizations o on o.id = c.organization_id
      join identity_private.emails e on e.person_id = c.person_id
      order by c.organization_id, e.lookup
    on conflict on constraint kept_out_pkey do update set person_id = excluded.person_id, since = excluded.since;
  return null;
end $function$
comment 'Members left or were removed: they do not come back by their address alone.'

-- function access_private.tg_memberships__let_in()
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.tg_memberships__let_in()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
begin
  delete from access_private.kept_out k
    using changed c
    where k.organization_id = c.organization_id
      and (k.person_id = c.person_id
        or k.lookup in (select e.lookup from identity_private.emails e where e.person_id = c.person_id));
  return null;
end $function$
comment 'Somebody became a member, however: what kept her out is over.'

-- function access_private.tg_memberships__work_out()
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.tg_memberships__work_out()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
declare
  v_row record;
begin
  for v_row in
    select c.organization_id, array_agg(c.person_id) as people
    from changed c
    group by c.organization_id
    order by c.organization_id
  loop
    continue when not exists (select from access.organizations o where o.id = v_row.organization_id);
    perform access_private.take_turn(v_row.organization_id);
    perform access_private.work_out(v_row.organization_id, v_row.people);
  end loop;
  -- Of an organization that is gone, too: nothing refers to what was worked out.
  delete from access_private.held_permissions h
    using changed c
    where h.organization_id = c.organization_id and h.person_id = c.person_id
      and not exists (select from access.organizations o where o.id = c.organization_id);
  return null;
end $function$
comment 'Members left, or a membership is another person''s: works out anew what they may do.'

-- function access_private.tg_organizations__slug()
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.tg_organizations__slug()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
begin
  loop
    new.slug := access_private.slug(new.name);
    exit when not exists (select from access.organizations o where o.slug = new.slug);
  end loop;
  return new;
end $function$
comment 'The server alone makes slugs.'

-- function access_private.tg_role_permissions__work_out()
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.tg_role_permissions__work_out()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
declare
  v_row record;
begin
  for v_row in
    select c.organization_id, array_agg(distinct c.role_id) as roles
    from changed c
    group by c.organization_id
    order by c.organization_id
  loop
    continue when not exists (select from access.organizations o where o.id = v_row.organization_id);
    perform access_private.take_turn(v_row.organization_id);
    perform access_private.work_out(v_row.organization_id, array(
      select distinct m.person_id
      from access.membership_roles mr
      join access.memberships m on m.organization_id = mr.organization_id and m.id = mr.membership_id
      where mr.organization_id = v_row.organization_id and mr.role_id = any (v_row.roles)));
  end loop;
  return null;
end $function$
comment 'Roles permit more or less: works out anew what their holders may do.'

-- function access_private.used(organization_id uuid, what text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.used(organization_id uuid, what text)
 RETURNS integer
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- One line for each thing that a plan can limit, in the order of their names.
  case what
    when 'api_keys' then
      return (select count(*) from access.api_keys k
        where k.organization_id = used.organization_id and k.revoked_at is null and k.expires_at > clock_timestamp());
    when 'domains' then
      return (select count(*) from access.domains d where d.organization_id = used.organization_id);
    when 'invitations' then
      return (select count(*) from access.invitations i
        where i.organization_id = used.organization_id and i.status = 'open' and i.expires_at > clock_timestamp());
    when 'members' then
      return (select count(*) from access.memberships m where m.organization_id = used.organization_id);
    when 'roles' then
      return (select count(*) from access.roles r where r.organization_id = used.organization_id and not r.built_in);
    when 'service_accounts' then
      return (select count(*) from access.service_accounts s where s.organization_id = used.organization_id and s.status = 'active');
    else
      raise exception 'nothing of this name is counted' using errcode = '22023';
  end case;
end $function$
comment 'How many of something an organization has. 22023 for what is not counted.'

-- function access_private.valid_label(name text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.valid_label(name text)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select access_private.valid_name(name) and length(btrim(name)) <= 100
$function$
comment 'Whether a text can be the name of an API key or a service account.'

-- function access_private.valid_name(name text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.valid_name(name text)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- As for the names of people: no control signs, and none that turn the direction of what stands around it.
  select coalesce(length(btrim(name)) between 1 and platform.limit_value('organization.name_length')
    and name collate "C" !~ E'[\u0001-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff]', false)
$function$
comment 'Whether a text can be the name of an organization.'

-- function access_private.work_out(organization_id uuid, people uuid[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION access_private.work_out(organization_id uuid, people uuid[])
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  with asked as (
    select distinct u.person_id from unnest(work_out.people) as u (person_id)
  ), now_held as (
    select m.person_id, rp.permission, range_agg(tstzrange(mr.valid_from, mr.valid_until)) as valid
      from asked a
      join access.memberships m on m.organization_id = work_out.organization_id and m.person_id = a.person_id
      join access.membership_roles mr on mr.organization_id = m.organization_id and mr.membership_id = m.id
      join access.role_permissions rp on rp.organization_id = mr.organization_id and rp.role_id = mr.role_id
      group by m.person_id, rp.permission
  ), gone as (
    delete from access_private.held_permissions h
      using asked a
      where h.organization_id = work_out.organization_id and h.person_id = a.person_id
        and not exists (select from now_held n where n.person_id = h.person_id and n.permission = h.permission)
  )
  insert into access_private.held_permissions (organization_id, person_id, permission, valid)
    select work_out.organization_id, n.person_id, n.permission, n.valid from now_held n
    on conflict on constraint held_permissions_pkey do update set valid = excluded.valid
      where held_permissions.valid is distinct from excluded.valid
$function$
comment 'Works out anew what members may do. Whoever calls it has taken their turn, in a statement before.'

-- function api.add_domain(domain text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.add_domain(domain text)
 RETURNS api.domain_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
  v_domain text := access_private.ascii_domain(domain);
  v_row access.domains;
  v_room boolean;
begin
  if not request.can('domain.create') then
    return ('REFUSED', access_private.refused('domain.create', '{NOT_PERMITTED}'), null, null, null)::api.domain_result;
  end if;
  if v_domain is null then
    return ('REFUSED', '{DOMAIN_INVALID}', null, null, null)::api.domain_result;
  end if;
  if exists (select from access.shared_domains s where s.domain = v_domain) then
    return ('REFUSED', access_private.refused('domain.create', '{DOMAIN_SHARED}'), null, null, null)::api.domain_result;
  end if;
  -- Beside the plan's number there is one for everybody: each domain is asked about for weeks. Two statements, for the
  -- second sees what was added while the first waited for its turn.
  v_room := access_private.room(v_organization, 'domains');
  if not v_room or access_private.used(v_organization, 'domains') >= platform.limit_value('domain.per_organization') then
    return ('REFUSED', access_private.refused('domain.create', '{LIMIT_REACHED}'), null, null, null)::api.domain_result;
  end if;
  -- Whether another organization has it is not asked here, so nobody learns it by adding.
  insert into access.domains (organization_id, domain, added_by)
    values (v_organization, v_domain, request.user_id())
    on conflict on constraint domains_domain_unique do nothing
    returning * into v_row;
  if not found then
    return ('REFUSED', '{DOMAIN_EXISTS}', null, null, null)::api.domain_result;
  end if;
  perform audit_private.append('domain.add', details => jsonb_build_object('domain', v_domain), relation => 'access.domains', row_id => v_row.id::text);
  return ('CREATED', '{}', v_row.id, v_row.challenge_name, v_row.challenge_value)::api.domain_result;
end $function$
comment 'Adds a domain to the active organization, and says which TXT record proves it. REFUSED with NOT_PERMITTED (domain.create), DOMAIN_INVALID, DOMAIN_SHARED (anybody can have an address there), LIMIT_REACHED or DOMAIN_EXISTS.'

-- function api.api_key_reach(id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.api_key_reach(id uuid DEFAULT NULL::uuid)
 RETURNS api.api_key_reach
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows the reading of rules and of what others hold; the check is that of the key's row.
declare
  v_key access.api_keys;
  v_reach api.api_key_reach;
begin
  select k.* into v_key from access.api_keys k
    where k.organization_id = request.organization_id() and k.id = coalesce(api_key_reach.id, request.api_key_id())
      and (k.person_id = request.signed_in_id() or k.id = request.api_key_id() or request.can('api_key.read'));
  if not found then
    return null;
  end if;
  v_reach.id := v_key.id;
  v_reach.permissions := v_key.permissions;
  v_reach.held := access_private.key_holds(v_key);
  v_reach.is_live := v_key.revoked_at is null and v_key.expires_at > clock_timestamp() and (
    exists (select from identity.people p where p.id = v_key.person_id and p.status = 'active')
    or exists (select from access.service_accounts s
      where s.organization_id = v_key.organization_id and s.id = v_key.service_account_id and s.status = 'active'));
  v_reach.reaches := array(
    select format('%s %I.%I', r.command, n.nspname, c.relname)
      from access.rules r
      join pg_class c on c.oid = r.relation
      join pg_namespace n on n.oid = c.relnamespace
      -- A key proves no second factor.
      where r.permission = any (v_reach.held) and r.assurance <= 1 and 'safetypin_member' = any (r.roles)
      order by n.nspname, c.relname, r.command);
  v_reach.expires_at := v_key.expires_at;
  select u.last_used_at into v_reach.last_used_at from access.api_key_use u
    where u.organization_id = v_key.organization_id and u.key_id = v_key.id;
  return v_reach;
end $function$
comment 'What an API key of the active organization can do: for whose it is, for the key itself, and with api_key.read; null for any other. Without an id the key that asks.'

-- function api.change_member_role(membership_id uuid, role text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.change_member_role(membership_id uuid, role text)
 RETURNS api.member_role_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
-- Borrows giving and taking roles; the checks are member.update, that the asker holds all that the member holds, and
-- without an end what the new role permits.
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid;
  v_role uuid;
  v_reason text;
  v_id uuid := platform.uuid_v7();
begin
  if not access_private.take_turn_to('member.update') then
    return ('REFUSED', access_private.refused('member.role', '{NOT_PERMITTED}'), null)::api.member_role_result;
  end if;
  select m.person_id into v_person
    from access.memberships m where m.organization_id = v_organization and m.id = change_member_role.membership_id;
  v_role := access_private.role_named(v_organization, role);
  v_reason := case
    when v_person is null then 'NOT_FOUND'
    when v_role is null then 'ROLE_UNKNOWN'
    when not access_private.outranks(v_organization, v_person) then 'OUTRANKED'
    when access_private.not_held(access_private.held_by_role(v_organization, v_role), tstzrange(clock_timestamp(), 'infinity')) <> '{}'
      then 'NOT_HELD' end;
  if v_reason is not null then
    return ('REFUSED', access_private.refused('member.role', array[v_reason]), null)::api.member_role_result;
  end if;
  begin
    -- The new one first: whoever stays an owner is one all the time.
    insert into access.membership_roles (organization_id, id, membership_id, role_id, valid_from, granted_by)
      values (v_organization, v_id, change_member_role.membership_id, v_role, clock_timestamp(), request.user_id());
    perform access_private.record_grants('role.revoke', v_organization, array(
      select mr.id from access.membership_roles mr
        where mr.organization_id = v_organization and mr.membership_id = change_member_role.membership_id and mr.id <> v_id));
    delete from access.membership_roles mr
      where mr.organization_id = v_organization and mr.membership_id = change_member_role.membership_id and mr.id <> v_id;
    perform access_private.record_grants('role.grant', v_organization, array[v_id]);
  exception when sqlstate 'LASTO' then
    return ('REFUSED', access_private.refused('member.role', '{LAST_OWNER}'), null)::api.member_role_result;
  end;
  return ('CHANGED', '{}', v_id)::api.member_role_result;
end $function$
comment 'Takes all roles from a member and gives one without an end, by its name. Needs member.update, to hold all that the member holds, and without an end what the role permits. REFUSED with NOT_PERMITTED, NOT_FOUND, ROLE_UNKNOWN, OUTRANKED, NOT_HELD or LAST_OWNER.'

-- function api.change_setting(name text, value jsonb)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.change_setting(name text, value jsonb)
 RETURNS api.setting_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
begin
  return api_steps.set_setting(name, value, false);
end $function$
comment 'Sets a setting of the active organization. REFUSED with NOT_FOUND, NOT_PERMITTED, VALUE_INVALID (allowed says what it can be), NOT_HELD, for a role that permits more than the caller may do, or ABOVE_CEILING, for one of domain.join_role that permits more than members have.'

-- function api.close_organization()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.close_organization()
 RETURNS api.closing_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
  v_closes_at timestamptz;
begin
  -- Sessions that begin wait for it: each ends with the organization.
  if not access_private.take_turn_to('organization.close') then
    return ('REFUSED', access_private.refused('organization.close', '{NOT_PERMITTED}'), null)::api.closing_result;
  end if;
  update access.organizations o
    set closes_at = clock_timestamp() + make_interval(secs => platform.limit_value('organization.grace_seconds')),
        updated_at = clock_timestamp(), version = o.version + 1
    where o.id = v_organization and o.closes_at = 'infinity'
    returning o.closes_at into v_closes_at;
  if not found then
    select o.closes_at into v_closes_at from access.organizations o where o.id = v_organization;
    return ('REFUSED', '{CLOSING}', v_closes_at)::api.closing_result;
  end if;
  perform audit_private.append('organization.close', details => jsonb_build_object('closes_at', v_closes_at));
  return ('CHANGED', '{}', v_closes_at)::api.closing_result;
end $function$
comment 'Closes the active organization after a time of grace, until which everything works and reopenOrganization takes it back. closesAt says when; sessions in it end then at the latest. REFUSED with NOT_PERMITTED, or CLOSING if it is closing already.'

-- function api.create_organization(name text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.create_organization(name text)
 RETURNS api.created_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
  v_person uuid := request.signed_in_id();
begin
  if v_person is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  if not access_private.valid_name(name) then
    return ('REFUSED', '{NAME_INVALID}', null)::api.created_result;
  end if;
  -- The person's row is held, so that the limit holds when two are founded at once.
  perform from identity.people p where p.id = v_person for no key update;
  if (select count(*) from access.organizations o where o.created_by = v_person) >= platform.limit_value('organization.per_person') then
    return ('REFUSED', access_private.refused('organization.create', '{LIMIT_REACHED}'), null)::api.created_result;
  end if;
  return ('CREATED', '{}', access_private.found_organization(btrim(name), v_person))::api.created_result;
end $function$
comment 'Founds an organization with the caller as its owner; switchOrganization makes it active. REFUSED with NAME_INVALID or LIMIT_REACHED; AUTHN for nobody.'

-- function api.create_role(name text, description text, permissions text[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.create_role(name text, description text DEFAULT ''::text, permissions text[] DEFAULT '{}'::text[])
 RETURNS api.created_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
-- Borrows writing roles; the checks are role.create, and that the asker holds what the role is to permit.
declare
  v_organization uuid := access_private.acting_in();
  v_id uuid := platform.uuid_v7();
  v_reasons text[];
begin
  if not access_private.take_turn_to('role.create') then
    return ('REFUSED', access_private.refused('role.create', '{NOT_PERMITTED}'), null)::api.created_result;
  end if;
  v_reasons := access_private.role_faults(v_organization, null, name, description, permissions);
  if v_reasons <> '{}' then
    return ('REFUSED', access_private.refused('role.create', v_reasons), null)::api.created_result;
  end if;
  if not access_private.room(v_organization, 'roles') then
    return ('REFUSED', access_private.refused('role.create', '{LIMIT_REACHED}'), null)::api.created_result;
  end if;
  insert into access.roles (organization_id, id, name, description)
    values (v_organization, v_id, btrim(create_role.name), create_role.description);
  insert into access.role_permissions (organization_id, role_id, permission)
    select distinct v_organization, v_id, u.permission from unnest(create_role.permissions) u (permission);
  perform audit_private.append('role.create', relation => 'access.roles', row_id => v_id::text, details => jsonb_build_object(
    'permissions', access_private.held_by_role(v_organization, v_id)));
  return ('CREATED', '{}', v_id)::api.created_result;
end $function$
comment 'Makes a role out of permissions that the caller holds without an end. Needs role.create. REFUSED with NOT_PERMITTED, NAME_INVALID, NAME_TAKEN (also for what looks like a built-in role), VALUE_INVALID (description), PERMISSION_UNKNOWN, NOT_HELD or LIMIT_REACHED (of the plan).'

-- function api.create_service_account(name text, permissions text[], description text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.create_service_account(name text, permissions text[], description text DEFAULT ''::text)
 RETURNS api.created_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
  v_id uuid := platform.uuid_v7();
  v_reasons text[] := access_private.scope_reasons(create_service_account.permissions);
  v_name text := btrim(create_service_account.name);
begin
  if not access_private.take_turn_to('service_account.create') then
    v_reasons := '{NOT_PERMITTED}';
  elsif not access_private.valid_label(v_name) then
    v_reasons := '{NAME_INVALID}';
  elsif length(create_service_account.description) > 1000 then
    v_reasons := '{VALUE_INVALID}';
  elsif v_reasons <> '{}' then
    null;
  -- It outlives whoever makes it, so all of it must be held without an end.
  elsif access_private.not_held(create_service_account.permissions, tstzrange(clock_timestamp(), 'infinity')) <> '{}' then
    v_reasons := '{NOT_HELD}';
  elsif exists (select from access.service_accounts s
      where s.organization_id = v_organization and s.name = v_name and s.status = 'active') then
    v_reasons := '{NAME_TAKEN}';
  elsif not access_private.room(v_organization, 'service_accounts') then
    v_reasons := '{LIMIT_REACHED}';
  end if;
  if v_reasons <> '{}' then
    return ('REFUSED', access_private.refused('service_account.create', v_reasons), null)::api.created_result;
  end if;
  insert into access.service_accounts (organization_id, id, name, description, permissions, created_by)
    values (v_organization, v_id, v_name, coalesce(create_service_account.description, ''),
      array(select distinct u.p from unnest(create_service_account.permissions) as u (p) order by u.p), request.signed_in_id());
  perform audit_private.append('service_account.create', details => jsonb_build_object('serviceAccount', v_id));
  return ('CREATED', '{}', v_id)::api.created_result;
end $function$
comment 'Makes a service account, which may do at most what is given here. Demands service_account.create, and all of that without an end. REFUSED with NOT_PERMITTED, NAME_INVALID, NAME_TAKEN, VALUE_INVALID, PERMISSION_UNKNOWN, NOT_HELD or LIMIT_REACHED.'

-- function api.current_organization()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.current_organization()
 RETURNS access.organizations
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- Nobody is in no organization, and has no right to look either.
  if request.organization_id() is null then
    return null;
  end if;
  return (select o from access.organizations o where o.id = request.organization_id());
end $function$
comment 'The active organization; null if there is none.'

-- function api.current_session()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.current_session()
 RETURNS sessions.sessions
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if request.session_id() is null then
    return null;
  end if;
  return (select s from sessions.sessions s where s.id = request.session_id());
end $function$
comment 'This session; null for nobody.'

-- function api.current_user()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api."current_user"()
 RETURNS api.profile
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows the reading of one's own sealed name and address; the check is the sealed person id.
  select p.id,
    keyring_private.open('identity.emails.address', platform.no_organization(), e.id, e.address),
    keyring_private.open('identity.people.display_name', platform.no_organization(), p.id, f.display_name),
    e.verified_at is not null, p.locale, p.created_at
  from identity.people p
  left join identity_private.emails e on e.person_id = p.id and e.is_primary
  left join identity_private.profiles f on f.person_id = p.id
  where p.id = (select request.signed_in_id())
$function$
comment 'The person who is signed in; null for nobody.'

-- function api.delete_role(id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.delete_role(id uuid)
 RETURNS api.removed_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows removing roles; the checks are role.delete, and that the asker holds what the role permits.
declare
  v_organization uuid := access_private.acting_in();
  v_role access.roles;
  v_permissions text[];
  v_grants integer;
begin
  if not access_private.take_turn_to('role.delete') then
    return ('REFUSED', access_private.refused('role.delete', '{NOT_PERMITTED}'))::api.removed_result;
  end if;
  select r.* into v_role from access.roles r where r.organization_id = v_organization and r.id = delete_role.id;
  if not found or v_role.built_in then
    return ('REFUSED', access_private.refused('role.delete', case when found then '{BUILT_IN}' else '{NOT_FOUND}' end::text[]))::api.removed_result;
  end if;
  v_permissions := access_private.held_by_role(v_organization, v_role.id);
  if access_private.not_held(v_permissions, tstzrange(clock_timestamp(), 'infinity')) <> '{}' then
    return ('REFUSED', access_private.refused('role.delete', '{NOT_HELD}'))::api.removed_result;
  end if;
  -- First from whoever holds it: so it is worked out once.
  delete from access.membership_roles mr where mr.organization_id = v_organization and mr.role_id = v_role.id;
  get diagnostics v_grants = row_count;
  delete from access.roles r where r.organization_id = v_organization and r.id = v_role.id;
  perform audit_private.append('role.delete', relation => 'access.roles', row_id => v_role.id::text,
    details => jsonb_build_object('permissions', v_permissions, 'grants', v_grants));
  return ('REMOVED', '{}')::api.removed_result;
end $function$
comment 'Removes a role, and takes it from whoever holds it. Needs role.delete, and to hold without an end all that it permits. REFUSED with NOT_PERMITTED, NOT_FOUND, BUILT_IN or NOT_HELD.'

-- function api.explain_access(person_id uuid, permission text, command text, table_name text, row_id uuid, row_key text, column_name text, owner_id uuid, key_id uuid)
owner safetypin_owner
CREATE OR REPLACE FUNCTION api.explain_access(person_id uuid DEFAULT NULL::uuid, permission text DEFAULT NULL::text, command text DEFAULT NULL::text, table_name text DEFAULT NULL::text, row_id uuid DEFAULT NULL::uuid, row_key text DEFAULT NULL::text, column_name text DEFAULT NULL::text, owner_id uuid DEFAULT NULL::uuid, key_id uuid DEFAULT NULL::uuid)
 RETURNS api.access_explanation
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Invoker: the row is looked up with the rights of who asks.
declare
  v_key text := coalesce(row_key, row_id::text);
  v_place record;
  v_row record;
begin
  if v_key is null then
    return api_steps.explain_access(person_id, key_id, permission, command, table_name, column_name, owner_id, null, null);
  end if;
  v_place := access.explain_place(table_name, lower(command));
  v_row := access.row_seen(v_place.relation, v_place.key_column, v_place.organization_column, v_place.owner_column, v_key);
  return api_steps.explain_access(person_id, key_id, permission, command, table_name, column_name, owner_id, v_row.seen, v_row.owner_id);
end $function$
comment 'Why a member of the active organization may or may not do something now: hold a permission, or run a command (select, insert, update, delete) on a table (schema.table) under access.protect(), on a column of it, on one row by rowId (rowKey where keys are no UUIDs), or adding one in the name of ownerId. About oneself without personId, or an API key of one''s own by keyId; about others it needs access.explain. A row that the asker cannot see does not exist here. An update or delete is of rows that the statement names, which must be readable too.'

-- function api.grant_role(membership_id uuid, role_id uuid, valid_from timestamp with time zone, valid_until timestamp with time zone)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.grant_role(membership_id uuid, role_id uuid, valid_from timestamp with time zone DEFAULT NULL::timestamp with time zone, valid_until timestamp with time zone DEFAULT NULL::timestamp with time zone)
 RETURNS api.created_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows giving roles; the checks are member.update, and that the asker holds for all of that time what the role permits.
declare
  v_organization uuid := access_private.acting_in();
  v_from timestamptz;
  v_until timestamptz := coalesce(grant_role.valid_until, 'infinity');
  v_reason text;
  v_id uuid := platform.uuid_v7();
begin
  if not access_private.take_turn_to('member.update') then
    return ('REFUSED', access_private.refused('role.grant', '{NOT_PERMITTED}'), null)::api.created_result;
  end if;
  -- Nobody had the role before now, whatever is said about it.
  v_from := greatest(grant_role.valid_from, clock_timestamp());
  v_reason := case
    when not exists (select from access.memberships m where m.organization_id = v_organization and m.id = grant_role.membership_id)
      then 'NOT_FOUND'
    when not exists (select from access.roles r where r.organization_id = v_organization and r.id = grant_role.role_id)
      then 'ROLE_UNKNOWN'
    when v_from >= v_until then 'WINDOW_INVALID'
    when access_private.not_held(access_private.held_by_role(v_organization, grant_role.role_id), tstzrange(v_from, v_until)) <> '{}'
      then 'NOT_HELD'
    when (select count(*) from access.membership_roles mr
        where mr.organization_id = v_organization and mr.membership_id = grant_role.membership_id
          and mr.valid_until > clock_timestamp()) >= platform.limit_value('role.per_member')
      then 'LIMIT_REACHED' end;
  if v_reason is not null then
    return ('REFUSED', access_private.refused('role.grant', array[v_reason]), null)::api.created_result;
  end if;
  insert into access.membership_roles (organization_id, id, membership_id, role_id, valid_from, valid_until, granted_by)
    values (v_organization, v_id, grant_role.membership_id, grant_role.role_id, v_from, v_until, request.user_id());
  perform access_private.record_grants('role.grant', v_organization, array[v_id]);
  return ('CREATED', '{}', v_id)::api.created_result;
end $function$
comment 'Gives a member a role, beside those she has, from a time (default: now) until a time (default: without an end). Needs member.update, and to hold for all of that time what the role permits. REFUSED with NOT_PERMITTED, NOT_FOUND (the membership), ROLE_UNKNOWN, WINDOW_INVALID, NOT_HELD or LIMIT_REACHED.'

-- function api.invitations_email(invitation access.invitations)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.invitations_email(invitation access.invitations)
 RETURNS text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Of the row given only the key is believed.
  select (api_steps.invitation_addresses(array[invitation.id]))[1]
$function$
comment 'Address that was invited.'

-- function api.invite_member(email text, role text, valid_until timestamp with time zone)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.invite_member(email text, role text, valid_until timestamp with time zone DEFAULT NULL::timestamp with time zone)
 RETURNS api.created_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
  v_until constant timestamptz := coalesce(invite_member.valid_until, 'infinity');
  v_address constant text := identity_private.normalize_email(invite_member.email);
  v_lookup bytea;
  v_role uuid;
  v_id uuid := platform.uuid_v7();
  v_reasons text[];
begin
  if not access_private.take_turn_to('member.invite') then
    return ('REFUSED', access_private.refused('member.invite', '{NOT_PERMITTED}'), null)::api.created_result;
  end if;
  select r.id into v_role from access.roles r where r.organization_id = v_organization and r.name = invite_member.role;
  v_reasons := array_remove(array[
    case when v_address is null then 'EMAIL_INVALID' end,
    case when v_role is null then 'ROLE_UNKNOWN' end,
    case when v_until <= clock_timestamp() then 'WINDOW_INVALID' end], null);
  if v_reasons <> '{}' then
    return ('REFUSED', v_reasons, null)::api.created_result;
  end if;
  if access_private.not_held(access_private.held_by_role(v_organization, v_role), tstzrange(clock_timestamp(), v_until)) <> '{}' then
    return ('REFUSED', access_private.refused('member.invite', '{NOT_HELD}'), null)::api.created_result;
  end if;
  v_lookup := identity_private.email_lookup(v_address);
  v_reasons := case
    when exists (
        select from identity_private.emails e
          join access.memberships m on m.person_id = e.person_id and m.organization_id = v_organization
          where e.lookup = v_lookup)
      then array['ALREADY_MEMBER']
    when exists (
        select from access_private.invitation_addresses a
          join access.invitations i on i.organization_id = a.organization_id and i.id = a.invitation_id
          where a.organization_id = v_organization and a.lookup = v_lookup
            and i.status = 'open' and i.expires_at > clock_timestamp())
      then array['ALREADY_INVITED']
    when not access_private.room(v_organization, 'invitations')
        or (select count(*) from access.invitations i
          where i.organization_id = v_organization and i.created_at > clock_timestamp() - interval '1 hour')
        >= platform.limit_value('invitation.per_hour')
      then access_private.refused('member.invite', '{LIMIT_REACHED}')
    else '{}' end;
  if v_reasons <> '{}' then
    return ('REFUSED', v_reasons, null)::api.created_result;
  end if;
  insert into access.invitations (organization_id, id, role_id, role_valid_until, invited_by, expires_at)
    values (v_organization, v_id, v_role, v_until, request.user_id(),
      clock_timestamp() + make_interval(secs => access_private.setting_number(v_organization, 'invitation.seconds')));
  insert into access_private.invitation_addresses (organization_id, invitation_id, address, lookup)
    values (v_organization, v_id,
      keyring_private.seal('access.invitations.address', v_organization, v_id, v_organization, v_address), v_lookup);
  perform access_private.ask_for_invitation_mail('invitation', v_organization, v_id);
  perform audit_private.append('invitation.create', v_organization,
    details => jsonb_build_object('invitation', v_id, 'role', v_role));
  return ('CREATED', '{}', v_id)::api.created_result;
end $function$
comment 'Invites an address to the active organization with one of its roles, by name, for as long as validUntil says. REFUSED with NOT_PERMITTED (member.invite), EMAIL_INVALID, ROLE_UNKNOWN, WINDOW_INVALID, NOT_HELD (the role permits what the caller does not hold, or not for that long), ALREADY_MEMBER, ALREADY_INVITED or LIMIT_REACHED.'

-- function api.key_works()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.key_works()
 RETURNS SETOF api.key_work
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if not coalesce(request.can('key.read'), false) then
    raise exception 'key.read is needed' using errcode = 'DENYD';
  end if;
  return query
    select w.id, w.kind, w.column_name, w.percent, w.created_at, w.updated_at, w.finished_at from keyring.works() w;
end $function$
comment 'Work on keys and sealed values, oldest first. Demands key.read.'

-- function api.leave_organization()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.leave_organization()
 RETURNS api.removed_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid := request.signed_in_id();
begin
  perform access_private.take_turn(v_organization);
  -- Removed while this call waited, or the session is over.
  if v_person is null or request.signed_in_id() is distinct from v_person then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  if not access_private.has_owner(v_organization, v_person) then
    return ('REFUSED', access_private.refused('member.leave', '{LAST_OWNER}'))::api.removed_result;
  end if;
  perform access_private.end_membership(v_organization, v_person, 'member.leave');
  return ('REMOVED', '{}')::api.removed_result;
end $function$
comment 'Leaves the active organization; this session, and every other one in it, ends. REFUSED with LAST_OWNER. AUTHN for nobody.'

-- function api.logout()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.logout()
 RETURNS api.ended_outcome
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if request.session_id() is null or not sessions_private.end_session(request.session_id(), 'logout') then
    return 'REFUSED';
  end if;
  return 'ENDED';
end $function$
comment 'Ends this session, its access tokens and its refresh token.'

-- function api.memberships_display_name(membership access.memberships)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.memberships_display_name(membership access.memberships)
 RETURNS text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Of the row given only the key is believed: anybody can make one up. Lists over GraphQL ask for all at once.
  select (api_steps.member_names(array[membership.id]))[1]
$function$
comment 'Name of the member.'

-- function api.memberships_email(membership access.memberships)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.memberships_email(membership access.memberships)
 RETURNS text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select (api_steps.member_addresses(array[membership.id]))[1]
$function$
comment 'Primary e-mail address of the member; null without member.contact, unless it is one''s own.'

-- function api.my_organizations()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.my_organizations()
 RETURNS SETOF access.organizations
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows reading beyond the active organization; the check is the person's own membership.
  select o.*
  from access.organizations o
  join access.memberships m on m.organization_id = o.id
  where m.person_id = (select request.signed_in_id()) and o.status = 'active' and o.closes_at > clock_timestamp()
  order by m.created_at, o.id
$function$
comment 'Organizations that the caller belongs to, oldest membership first; what switchOrganization takes.'

-- function api.my_permissions()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.my_permissions()
 RETURNS SETOF api.held_permission
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows reading what is worked out about the asker; the check is that it is hers. A key has nothing to hand on, but
-- holds what it was made for as far as whose key it is holds that.
  with held as (
    select h.permission, upper(w.valid) as valid_until
      from access_private.holding() h
      cross join lateral unnest(h.valid) as w (valid)
      where w.valid @> clock_timestamp()
    union all
    select u.permission, least(k.expires_at, (
        select upper(w.valid)
          from access_private.held_permissions h
          cross join lateral unnest(h.valid) as w (valid)
          where h.organization_id = k.organization_id and h.person_id = k.person_id and h.permission = u.permission
            and w.valid @> clock_timestamp()))
      from access.api_keys k
      cross join lateral unnest(access_private.key_holds(k)) as u (permission)
      where k.organization_id = (select request.organization_id()) and k.id = (select request.api_key_id())
  )
  select h.permission, nullif(h.valid_until, 'infinity') from held h order by h.permission
$function$
comment 'What the caller may do now in the active organization, and until when; empty without one, and for an API key (see apiKeyReach). For showing what can be done: each statement is decided anew.'

-- function api.organization_settings()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.organization_settings()
 RETURNS SETOF api.organization_setting
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows reading settings. The check: the active organization's, and for each the permission to read it.
declare
  v_organization uuid := request.organization_id();
begin
  if v_organization is null then
    raise exception 'no organization is active' using errcode = 'DENYD';
  end if;
  return query
    select d.name, d.description, d.type, access_private.setting(v_organization, d.name), access_private.setting_default(d),
        d.minimum::double precision, access_private.setting_most(d)::double precision, d.allowed, s.name is null,
        request.can(d.write_permission)
      from access.setting_definitions d
      left join access.settings s on s.organization_id = v_organization and s.name = d.name
      where d.read_permission is null or request.can(d.read_permission)
      order by d.name;
end $function$
comment 'The settings of the active organization that the caller may see. DENYD while no organization is active.'

-- function api.plan_usage()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.plan_usage()
 RETURNS SETOF api.plan_use
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if not coalesce(request.can('plan.read'), false) then
    raise exception 'plan.read is needed' using errcode = 'DENYD';
  end if;
  return query
    select l.what, access_private.used(o.id, l.what), l.most
      from access.organizations o
      join access.plan_limits l on l.plan = o.plan
      where o.id = request.organization_id()
      order by l.what;
end $function$
comment 'What the plan of the active organization limits, and how much of it is used. Demands plan.read.'

-- function api.remove_domain(id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.remove_domain(id uuid)
 RETURNS api.removed_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
  v_domain text;
begin
  if not request.can('domain.remove') then
    return ('REFUSED', access_private.refused('domain.remove', '{NOT_PERMITTED}'))::api.removed_result;
  end if;
  select d.domain into v_domain from access.domains d where d.organization_id = v_organization and d.id = remove_domain.id;
  perform access_private.hold_domain(v_domain);
  -- What says whose it is goes with it.
  delete from access.domains d where d.organization_id = v_organization and d.id = remove_domain.id;
  if not found then
    return ('REFUSED', access_private.refused('domain.remove', '{NOT_FOUND}'))::api.removed_result;
  end if;
  perform audit_private.append('domain.remove', details => jsonb_build_object('domain', v_domain), relation => 'access.domains', row_id => remove_domain.id::text);
  return ('REMOVED', '{}')::api.removed_result;
end $function$
comment 'Removes a domain from the active organization; members stay. REFUSED with NOT_PERMITTED (domain.remove) or NOT_FOUND.'

-- function api.remove_member(membership_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.remove_member(membership_id uuid)
 RETURNS api.removed_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid;
  v_reason text;
begin
  if not access_private.take_turn_to('member.remove') then
    return ('REFUSED', access_private.refused('member.remove', '{NOT_PERMITTED}'))::api.removed_result;
  end if;
  select m.person_id into v_person from access.memberships m
    where m.organization_id = v_organization and m.id = remove_member.membership_id;
  v_reason := case
    when not found then 'NOT_FOUND'
    when not access_private.outranks(v_organization, v_person) then 'OUTRANKED'
    when not access_private.has_owner(v_organization, v_person) then 'LAST_OWNER'
    end;
  if v_reason is not null then
    return ('REFUSED', access_private.refused('member.remove', array[v_reason]))::api.removed_result;
  end if;
  perform access_private.end_membership(v_organization, v_person, 'member.remove');
  return ('REMOVED', '{}')::api.removed_result;
end $function$
comment 'Removes a member from the active organization: roles, sessions in it and waiting jobs end at once. REFUSED with NOT_PERMITTED (member.remove), NOT_FOUND, OUTRANKED (the member holds more than the caller) or LAST_OWNER.'

-- function api.remove_service_account(id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.remove_service_account(id uuid)
 RETURNS api.removed_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
begin
  if not access_private.take_turn_to('service_account.remove') then
    return ('REFUSED', access_private.refused('service_account.remove', '{NOT_PERMITTED}'))::api.removed_result;
  end if;
  update access.service_accounts s set status = 'removed'
    where s.organization_id = v_organization and s.id = remove_service_account.id and s.status = 'active';
  if not found then
    return ('REFUSED', access_private.refused('service_account.remove', '{NOT_FOUND}'))::api.removed_result;
  end if;
  update access.api_keys k set revoked_at = clock_timestamp()
    where k.organization_id = v_organization and k.service_account_id = remove_service_account.id and k.revoked_at is null;
  perform audit_private.append('service_account.remove', details => jsonb_build_object('serviceAccount', remove_service_account.id));
  return ('REMOVED', '{}')::api.removed_result;
end $function$
comment 'Removes a service account and ends its keys; what it did stays under its id. Demands service_account.remove. REFUSED with NOT_PERMITTED or NOT_FOUND.'

-- function api.rename_organization(name text, version integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.rename_organization(name text, version integer)
 RETURNS api.changed_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
  v_version integer;
begin
  if not coalesce(request.can('organization.update'), false) then
    return ('REFUSED', access_private.refused('organization.rename', '{NOT_PERMITTED}'), null)::api.changed_result;
  end if;
  if not access_private.valid_name(name) then
    return ('REFUSED', '{NAME_INVALID}', null)::api.changed_result;
  end if;
  update access.organizations o
    set name = btrim(rename_organization.name), updated_at = clock_timestamp(), version = o.version + 1
    where o.id = v_organization and o.version = rename_organization.version
    returning o.version into v_version;
  if not found then
    raise exception 'the organization changed in the meantime' using errcode = 'STALE';
  end if;
  perform audit_private.append('organization.rename');
  return ('CHANGED', '{}', v_version)::api.changed_result;
end $function$
comment 'Renames the active organization; its slug stays. Version as it was read: STALE_VERSION if somebody changed it since. REFUSED with NOT_PERMITTED or NAME_INVALID.'

-- function api.reopen_organization()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.reopen_organization()
 RETURNS api.closing_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
begin
  if not access_private.take_turn_to('organization.close') then
    return ('REFUSED', access_private.refused('organization.reopen', '{NOT_PERMITTED}'), null)::api.closing_result;
  end if;
  update access.organizations o
    set closes_at = 'infinity', updated_at = clock_timestamp(), version = o.version + 1
    where o.id = v_organization and o.closes_at < 'infinity' and o.closes_at > clock_timestamp();
  if not found then
    return ('REFUSED', '{NOT_CLOSING}', null)::api.closing_result;
  end if;
  perform audit_private.append('organization.reopen');
  return ('CHANGED', '{}', null)::api.closing_result;
end $function$
comment 'Takes the closing of the active organization back, as long as it is not over. REFUSED with NOT_PERMITTED or NOT_CLOSING.'

-- function api.request_password_reset(email text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.request_password_reset(email text)
 RETURNS api.sent_outcome
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform identity_private.ask_for_mail('password_reset', identity_private.email_lookup(email));
  perform audit_private.append('password_reset.request');
  return 'SENT';
end $function$
comment 'Sends a link to reset a password, if the address is somebody''s. Always SENT.'

-- function api.resend_invitation(invitation_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.resend_invitation(invitation_id uuid)
 RETURNS api.resent_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
  v_invitation access.invitations;
  v_reason text;
begin
  if not access_private.take_turn_to('member.invite') then
    return ('REFUSED', access_private.refused('invitation.resend', '{NOT_PERMITTED}'))::api.resent_result;
  end if;
  select i.* into v_invitation from access.invitations i
    where i.organization_id = v_organization and i.id = resend_invitation.invitation_id
      and i.status = 'open' and i.role_id is not null and i.role_valid_until > clock_timestamp();
  v_reason := case
    when not found then 'NOT_FOUND'
    -- Who sends it again is who invites from now on.
    when access_private.not_held(access_private.held_by_role(v_organization, v_invitation.role_id),
        tstzrange(clock_timestamp(), v_invitation.role_valid_until)) <> '{}' then 'NOT_HELD'
    when (select count(*) from identity_private.mails m
          where m.organization_id = v_organization and m.invitation_id = v_invitation.id and m.kind = 'invitation'
            and m.created_at > clock_timestamp() - interval '1 hour') >= platform.limit_value('mail.per_address_per_hour')
      then 'LIMIT_REACHED'
    end;
  if v_reason is not null then
    return ('REFUSED', access_private.refused('invitation.resend', array[v_reason]))::api.resent_result;
  end if;
  -- The old token is void now, not only when the mail is written.
  update identity_private.tokens t set consumed_at = clock_timestamp()
    where t.organization_id = v_organization and t.invitation_id = v_invitation.id and t.consumed_at is null;
  update access.invitations i
    set invited_by = request.user_id(),
        expires_at = clock_timestamp() + make_interval(secs => access_private.setting_number(v_organization, 'invitation.seconds'))
    where i.organization_id = v_organization and i.id = v_invitation.id;
  perform access_private.ask_for_invitation_mail('invitation', v_organization, v_invitation.id);
  perform audit_private.append('invitation.resend', v_organization, details => jsonb_build_object('invitation', v_invitation.id));
  return ('SENT', '{}')::api.resent_result;
end $function$
comment 'Sends an open invitation again, under a new token and with its whole time ahead, in the name of the caller. The old token is void. REFUSED with NOT_PERMITTED (member.invite), NOT_FOUND, NOT_HELD or LIMIT_REACHED.'

-- function api.resend_verification(email text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.resend_verification(email text)
 RETURNS api.sent_outcome
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_lookup bytea := identity_private.email_lookup(email);
  v_registration uuid;
begin
  select r.id into v_registration
    from identity_private.registrations r
    where r.lookup = v_lookup and r.completed_at is null
      and r.created_at > clock_timestamp() - make_interval(secs => platform.limit_value('token.verification_seconds'))
    order by r.created_at desc
    limit 1;
  -- A mail to nobody is asked for as well, so that both cases take the same work.
  perform identity_private.ask_for_mail('registration', case when v_registration is null then v_lookup end, v_registration);
  perform audit_private.append('verification.request');
  return 'SENT';
end $function$
comment 'Sends the mail that proves an address again, if somebody waits for it. Always SENT.'

-- function api.reset_setting(name text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.reset_setting(name text)
 RETURNS api.setting_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
begin
  return api_steps.set_setting(name, null, true);
end $function$
comment 'Takes back what was set in the active organization: the default counts again. REFUSED with NOT_FOUND or NOT_PERMITTED.'

-- function api.revoke_api_key(id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.revoke_api_key(id uuid)
 RETURNS api.ended_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_person uuid := request.signed_in_id();
  v_key access.api_keys;
begin
  if v_person is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  -- One's own in whatever organization, active or not.
  select k.* into v_key
    from access.api_keys k
    where k.id = revoke_api_key.id
      and (k.organization_id = request.organization_id()
        or (k.organization_id, k.person_id) in (
          select m.organization_id, m.person_id from access.memberships m where m.person_id = v_person));
  if not found or v_key.person_id is distinct from v_person
      and not coalesce(request.can('api_key.read') or request.can('api_key.revoke'), false) then
    return ('REFUSED', access_private.refused('api_key.revoke', '{NOT_FOUND}'))::api.ended_result;
  end if;
  if v_key.person_id is distinct from v_person and not coalesce(request.can('api_key.revoke'), false) then
    return ('REFUSED', access_private.refused('api_key.revoke', '{NOT_PERMITTED}'))::api.ended_result;
  end if;
  update access.api_keys k set revoked_at = clock_timestamp()
    where k.organization_id = v_key.organization_id and k.id = v_key.id
      and k.revoked_at is null and k.expires_at > clock_timestamp();
  if not found then
    return ('REFUSED', '{OVER}')::api.ended_result;
  end if;
  perform audit_private.append('api_key.revoke', v_key.organization_id, details => jsonb_build_object('key', v_key.id));
  return ('ENDED', '{}')::api.ended_result;
end $function$
comment 'Ends an API key: its next statement is refused, also in an open transaction. One''s own always; others with api_key.revoke. REFUSED with NOT_FOUND, NOT_PERMITTED, or OVER if it had ended. AUTHN for nobody, and for keys.'

-- function api.revoke_invitation(invitation_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.revoke_invitation(invitation_id uuid)
 RETURNS api.removed_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
begin
  if not access_private.take_turn_to('member.invite') then
    return ('REFUSED', access_private.refused('invitation.revoke', '{NOT_PERMITTED}'))::api.removed_result;
  end if;
  if access_private.revoke_invitations(v_organization, array[revoke_invitation.invitation_id]) = 0 then
    return ('REFUSED', access_private.refused('invitation.revoke', '{NOT_FOUND}'))::api.removed_result;
  end if;
  return ('REMOVED', '{}')::api.removed_result;
end $function$
comment 'Takes an open invitation back; its token is void at once. REFUSED with NOT_PERMITTED (member.invite) or NOT_FOUND.'

-- function api.revoke_other_sessions()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.revoke_other_sessions()
 RETURNS api.ended_outcome
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if request.session_id() is null then
    return 'REFUSED';
  end if;
  perform sessions_private.end_sessions(request.user_id(), 'revoked', request.session_id());
  return 'ENDED';
end $function$
comment 'Ends all sessions of one''s own but this.'

-- function api.revoke_role(grant_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.revoke_role(grant_id uuid)
 RETURNS api.removed_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows taking roles; the checks are member.update, and that the asker holds all that the member holds.
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid;
begin
  if not access_private.take_turn_to('member.update') then
    return ('REFUSED', access_private.refused('role.revoke', '{NOT_PERMITTED}'))::api.removed_result;
  end if;
  select m.person_id into v_person
    from access.membership_roles mr
    join access.memberships m on m.organization_id = mr.organization_id and m.id = mr.membership_id
    where mr.organization_id = v_organization and mr.id = revoke_role.grant_id;
  if not found then
    return ('REFUSED', access_private.refused('role.revoke', '{NOT_FOUND}'))::api.removed_result;
  end if;
  if not access_private.outranks(v_organization, v_person) then
    return ('REFUSED', access_private.refused('role.revoke', '{OUTRANKED}'))::api.removed_result;
  end if;
  begin
    perform access_private.record_grants('role.revoke', v_organization, array[revoke_role.grant_id]);
    delete from access.membership_roles mr where mr.organization_id = v_organization and mr.id = revoke_role.grant_id;
  exception when sqlstate 'LASTO' then
    return ('REFUSED', access_private.refused('role.revoke', '{LAST_OWNER}'))::api.removed_result;
  end;
  return ('REMOVED', '{}')::api.removed_result;
end $function$
comment 'Takes back one grant of a role, by the id of the membership role; what it gave is over in the member''s next statement. Needs member.update, and to hold all that the member holds. REFUSED with NOT_PERMITTED, NOT_FOUND, OUTRANKED or LAST_OWNER.'

-- function api.revoke_session(session_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.revoke_session(session_id uuid)
 RETURNS api.ended_outcome
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if not exists (select from sessions.sessions s where s.id = revoke_session.session_id and s.person_id = request.signed_in_id())
    or not sessions_private.end_session(revoke_session.session_id, 'revoked') then
    perform audit_private.append('access.refuse', details => '{"what": "revoke session"}');
    return 'REFUSED';
  end if;
  return 'ENDED';
end $function$
comment 'Ends a session of one''s own; its next statement is refused.'

-- function api.transfer_ownership(membership_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.transfer_ownership(membership_id uuid)
 RETURNS api.transfer_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid := request.signed_in_id();
  v_own uuid;
  v_owner uuid;
  v_to uuid;
  v_given uuid[];
  v_status text;
  v_reason text;
begin
  if not access_private.take_turn_to('organization.transfer') then
    return ('REFUSED', access_private.refused('organization.transfer', '{NOT_PERMITTED}'))::api.transfer_result;
  end if;
  select r.id into v_owner from access.roles r
    where r.organization_id = v_organization and r.built_in and r.name = 'owner';
  select m.id into v_own from access.memberships m where m.organization_id = v_organization and m.person_id = v_person;
  select m.person_id, p.status into v_to, v_status
    from access.memberships m
    join identity.people p on p.id = m.person_id
    where m.organization_id = v_organization and m.id = transfer_ownership.membership_id and m.id <> v_own;
  v_reason := case
    when v_to is null then 'NOT_FOUND'
    when v_status <> 'active' then 'NOT_ACTIVE'
    when access_private.not_held(
        access_private.held_by_role(v_organization, v_owner), tstzrange(clock_timestamp(), 'infinity')) <> '{}' then 'NOT_HELD'
    end;
  if v_reason is not null then
    return ('REFUSED', access_private.refused('organization.transfer', array[v_reason]))::api.transfer_result;
  end if;
  -- Given first: there is an owner at each moment.
  with given as (
    insert into access.membership_roles (organization_id, membership_id, role_id, granted_by)
      select v_organization, transfer_ownership.membership_id, v_owner, v_person
      where not exists (
        select from access.membership_roles mr
          where mr.organization_id = v_organization and mr.membership_id = transfer_ownership.membership_id
            and mr.role_id = v_owner and mr.valid_from <= clock_timestamp() and mr.valid_until = 'infinity')
      returning id)
    select coalesce(array_agg(g.id), '{}') into v_given from given g;
  -- Whoever had nothing but this stays as an admin, rather than as somebody who may not even look.
  with given as (
    insert into access.membership_roles (organization_id, membership_id, role_id, granted_by)
      select v_organization, v_own, r.id, v_person
      from access.roles r
      where r.organization_id = v_organization and r.built_in and r.name = 'admin' and not exists (
        select from access.membership_roles mr
          where mr.organization_id = v_organization and mr.membership_id = v_own and mr.role_id <> v_owner
            and mr.valid_from <= clock_timestamp() and mr.valid_until > clock_timestamp())
      returning id)
    select v_given || coalesce(array_agg(g.id), '{}') into v_given from given g;
  perform access_private.record_grants('role.grant', v_organization, v_given);
  perform access_private.record_grants('role.revoke', v_organization, array(
    select mr.id from access.membership_roles mr
      where mr.organization_id = v_organization and mr.membership_id = v_own and mr.role_id = v_owner));
  delete from access.membership_roles mr
    where mr.organization_id = v_organization and mr.membership_id = v_own and mr.role_id = v_owner;
  perform audit_private.append('organization.transfer', details => jsonb_build_object('to', v_to));
  return ('CHANGED', '{}')::api.transfer_result;
end $function$
comment 'Makes another member an owner of the active organization and takes that from the caller, in one transaction; other roles stay, and whoever has none becomes an admin. REFUSED with NOT_PERMITTED, NOT_FOUND, NOT_ACTIVE or NOT_HELD.'

-- function api.update_role(id uuid, version integer, name text, description text, permissions text[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.update_role(id uuid, version integer, name text DEFAULT NULL::text, description text DEFAULT NULL::text, permissions text[] DEFAULT NULL::text[])
 RETURNS api.changed_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
-- Borrows writing roles; the checks are role.update, and that the asker holds what the role permits and is to permit.
declare
  v_organization uuid := access_private.acting_in();
  v_role access.roles;
  v_before text[];
  v_after text[];
  v_reasons text[];
begin
  if not access_private.take_turn_to('role.update') then
    return ('REFUSED', access_private.refused('role.update', '{NOT_PERMITTED}'), null)::api.changed_result;
  end if;
  select r.* into v_role from access.roles r where r.organization_id = v_organization and r.id = update_role.id;
  if not found or v_role.built_in then
    return ('REFUSED', access_private.refused('role.update', case when found then '{BUILT_IN}' else '{NOT_FOUND}' end::text[]), null)::api.changed_result;
  end if;
  if v_role.version is distinct from update_role.version then
    raise exception 'the role was changed' using errcode = 'STALE';
  end if;
  v_before := access_private.held_by_role(v_organization, v_role.id);
  v_reasons := access_private.role_faults(v_organization, v_role.id, coalesce(update_role.name, v_role.name),
    coalesce(update_role.description, v_role.description), coalesce(update_role.permissions, v_before));
  if v_reasons <> '{}' then
    return ('REFUSED', access_private.refused('role.update', v_reasons), null)::api.changed_result;
  end if;
  delete from access.role_permissions rp
    where rp.organization_id = v_organization and rp.role_id = v_role.id and rp.permission <> all (update_role.permissions);
  insert into access.role_permissions (organization_id, role_id, permission)
    select distinct v_organization, v_role.id, u.permission from unnest(update_role.permissions) u (permission)
    on conflict on constraint role_permissions_pkey do nothing;
  update access.roles r
    set name = coalesce(btrim(update_role.name), r.name), description = coalesce(update_role.description, r.description),
        updated_at = clock_timestamp(), version = r.version + 1
    where r.organization_id = v_organization and r.id = v_role.id
    returning r.version into v_role.version;
  v_after := access_private.held_by_role(v_organization, v_role.id);
  perform audit_private.append('role.update', relation => 'access.roles', row_id => v_role.id::text, details => jsonb_build_object(
    'added', array(select p from unnest(v_after) p where p <> all (v_before)),
    'removed', array(select p from unnest(v_before) p where p <> all (v_after))));
  return ('CHANGED', '{}', v_role.version)::api.changed_result;
end $function$
comment 'Changes a role; null leaves something as it is. Whoever holds the role has what it permits in their next statement. Needs role.update, and to hold without an end all that it permits and is to permit. REFUSED with NOT_PERMITTED, NOT_FOUND, BUILT_IN or as createRole; STALE for another version.'

-- function api.verify_domain(id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api.verify_domain(id uuid)
 RETURNS api.asked_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
begin
  if not request.can('domain.create') then
    return ('REFUSED', access_private.refused('domain.verify', '{NOT_PERMITTED}'))::api.asked_result;
  end if;
  update access.domains d set asked_at = clock_timestamp(), failures = case d.status when 'verified' then d.failures else 0 end
    where d.organization_id = v_organization and d.id = verify_domain.id
      and (d.asked_at is null or d.asked_at < clock_timestamp() - make_interval(secs => platform.limit_value('domain.ask_seconds')));
  if not found then
    return ('REFUSED', access_private.refused('domain.verify', case
      when exists (select from access.domains d where d.organization_id = v_organization and d.id = verify_domain.id)
      then '{TOO_SOON}' else '{NOT_FOUND}' end::text[]))::api.asked_result;
  end if;
  perform platform.enqueue('access__check_domain', json_build_object('id', verify_domain.id));
  perform audit_private.append('domain.ask', relation => 'access.domains', row_id => verify_domain.id::text);
  return ('ASKED', '{}')::api.asked_result;
end $function$
comment 'Has DNS asked for the TXT record of a domain, now; what came of it is its status and lastAnswer. REFUSED with NOT_PERMITTED (domain.create), NOT_FOUND or TOO_SOON.'

-- function api_steps.accept_invitation(token bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.accept_invitation(token bytea)
 RETURNS api_steps.accepted_invitation
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_done record := access_private.accept_invitation(token, false);
begin
  return (v_done.outcome, v_done.reasons, v_done.organization_id)::api_steps.accepted_invitation;
end $function$
comment 'Accepts an invitation with an account of its address: ACCEPTED, or REFUSED with TOKEN_INVALID, ALREADY_MEMBER, CODE_NEEDED (the account has another address) or LIMIT_REACHED. AUTHN for nobody.'

-- function api_steps.complete(registration_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.complete(registration_id uuid)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_done record;
begin
  v_done := identity_private.complete_registration(registration_id);
  if v_done.person_id is null then
    perform audit_private.append('email.refuse', details => jsonb_build_object('registration', registration_id));
    return 'REFUSED';
  end if;
  perform audit_private.append('registration.complete', actor_id => v_done.person_id, origin_subject => v_done.person_id);
  perform audit_private.append('email.verify', actor_id => v_done.person_id);
  if v_done.organization_name is not null then
    perform access_private.found_organization(v_done.organization_name, v_done.person_id);
  end if;
  perform access_private.join_by_address(v_done.person_id);
  return 'VERIFIED';
end $function$
comment 'Makes person and organization of a registration whose address was proved; by the address, she may join another.'

-- function api_steps.create_api_key(name text, permissions text[], expires_at timestamp with time zone, service_account_id uuid, secret_hash bytea, prefix text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.create_api_key(name text, permissions text[], expires_at timestamp with time zone, service_account_id uuid, secret_hash bytea, prefix text)
 RETURNS api_steps.api_key_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid := request.signed_in_id();
  v_account uuid := create_api_key.service_account_id;
  v_id uuid := platform.uuid_v7();
  v_most bigint := access_private.setting_number(v_organization, 'api_key.seconds');
  v_until timestamptz := coalesce(create_api_key.expires_at,
    clock_timestamp() + make_interval(secs => least(platform.limit_value('api_key.default_seconds'), v_most)));
  v_reasons text[] := access_private.scope_reasons(create_api_key.permissions);
  v_own text[];
begin
  if not access_private.take_turn_to('api_key.create')
    -- The key of a service account outlives whoever makes it, as the account does.
    or v_account is not null and not coalesce(request.can('service_account.create'), false) then
    v_reasons := '{NOT_PERMITTED}';
  elsif not access_private.valid_label(create_api_key.name) then
    v_reasons := '{NAME_INVALID}';
  elsif v_until <= clock_timestamp()
    or v_until > clock_timestamp() + make_interval(secs => v_most) then
    v_reasons := '{WINDOW_INVALID}';
  elsif v_reasons <> '{}' then
    null;
  elsif v_account is null then
    -- What ends before the key does ends for the key as well.
    if exists (select from unnest(create_api_key.permissions) as u (p) where not coalesce(request.can(u.p), false)) then
      v_reasons := '{NOT_HELD}';
    end if;
  else
    select s.permissions into v_own from access.service_accounts s
      where s.organization_id = v_organization and s.id = v_account and s.status = 'active';
    if not found then
      v_reasons := '{NOT_FOUND}';
    elsif not create_api_key.permissions <@ v_own
      or access_private.not_held(create_api_key.permissions, tstzrange(clock_timestamp(), v_until, '[]')) <> '{}' then
      v_reasons := '{NOT_HELD}';
    end if;
  end if;
  if v_reasons = '{}' and (not access_private.room(v_organization, 'api_keys')
      or platform.limit_value('api_key.per_owner') <= (
        select count(*) from access.api_keys k
          where k.organization_id = v_organization and k.revoked_at is null and k.expires_at > clock_timestamp()
            and (k.service_account_id = v_account or v_account is null and k.person_id = v_person))) then
    v_reasons := '{LIMIT_REACHED}';
  end if;
  if v_reasons <> '{}' then
    return ('REFUSED', access_private.refused('api_key.create', v_reasons), null, null, null)::api_steps.api_key_result;
  end if;
  insert into access.api_keys (organization_id, id, name, person_id, service_account_id, permissions, prefix, expires_at, created_by)
    values (v_organization, v_id, btrim(create_api_key.name), case when v_account is null then v_person end, v_account,
      array(select distinct u.p from unnest(create_api_key.permissions) as u (p) order by u.p),
      create_api_key.prefix, v_until, v_person);
  insert into access_private.api_key_secrets (hash, organization_id, key_id)
    values (create_api_key.secret_hash, v_organization, v_id);
  perform audit_private.append('api_key.create', details => jsonb_build_object('key', v_id, 'serviceAccount', v_account));
  return ('CREATED', '{}', v_id, create_api_key.prefix, v_until)::api_steps.api_key_result;
end $function$
comment 'Makes an API key of one''s own, or of a service account, for a secret of which SQL gets the SHA-256 and how it begins. Demands api_key.create and each permission of the key; for a service account service_account.create as well, and the permissions until the end of the key. REFUSED with NOT_PERMITTED, NAME_INVALID, WINDOW_INVALID, VALUE_INVALID, PERMISSION_UNKNOWN, NOT_FOUND, NOT_HELD or LIMIT_REACHED.'

-- function api_steps.drop_jobs(ids bigint[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.drop_jobs(ids bigint[])
 RETURNS bigint[]
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
declare
  v_done bigint[];
begin
  with gone as (
    delete from graphile_worker._private_jobs j
      using graphile_worker._private_tasks t
      where j.id = any (ids) and t.id = j.task_id and j.locked_at is null
      returning j.id, t.identifier as task)
  select array_agg(g.id order by g.id) filter (where audit_private.append('job.drop',
      details => jsonb_build_object('job', g.id, 'task', g.task)) is not null)
    into v_done
    from gone g;
  return coalesce(v_done, '{}');
end $function$
comment 'Removes jobs for good; returns those that were there and not running. For operators; recorded.'

-- function api_steps.end_shell()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.end_shell()
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if request.session_id() is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  perform audit_private.append('shell.end');
  perform sessions_private.end_session(request.session_id(), 'logout');
end $function$
comment 'Records that this shell was closed and ends its session. AUTHN for nobody.'

-- function api_steps.explain_access(person_id uuid, key_id uuid, permission text, command text, table_name text, column_name text, owner_id uuid, row_seen text, row_owner uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.explain_access(person_id uuid, key_id uuid, permission text, command text, table_name text, column_name text, owner_id uuid, row_seen text, row_owner uuid)
 RETURNS api.access_explanation
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows the reading of rules, roles and grants. Oneself needs nothing, others access.explain, and both end at the active
-- organization. What it is told of the row it believes: who would lie is answered about a row that is not there.
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid := coalesce(explain_access.person_id, request.user_id());
  v_self boolean := v_person = request.user_id();
  v_key access.api_keys;
  v_explained record;
begin
  if explain_access.key_id is not null then
    select k.* into v_key from access.api_keys k
      where k.organization_id = v_organization and k.id = explain_access.key_id;
    v_person := v_key.person_id;
    v_self := coalesce(v_person = request.user_id(), false);
  end if;
  if not v_self and not coalesce(request.can('access.explain'), false) then
    -- Nothing can be recorded in a transaction that only reads; nothing is told there either.
    if not current_setting('transaction_read_only')::boolean then
      perform access_private.refused('access.explain', '{NOT_PERMITTED}');
    end if;
    return ('REFUSED', 'NOT_PERMITTED',
      access_private.explain_sentence('REFUSED', 'NOT_PERMITTED', null, null, null, null, null), null, '[]')::api.access_explanation;
  end if;
  -- One's own key is not oneself: it does less, and has no session.
  v_self := v_self and v_key.id is null;
  v_explained := access_private.explain(v_organization, v_person, v_key, explain_access.permission, explain_access.command,
    explain_access.table_name, explain_access.column_name, explain_access.owner_id, explain_access.row_seen,
    explain_access.row_owner, v_self,
    case
      when v_self then request.assurance()
      when v_key.id is not null then 1
      -- The strongest session there is, for who may see sessions; without one, what a password gives.
      when coalesce(request.can('session.read'), false) then coalesce((
        select max(s.assurance) from sessions.sessions s
        where s.person_id = v_person and s.organization_id = v_organization and s.ends_at > clock_timestamp()), 1)
      else 1 end,
    coalesce(request.can('role.read'), false), false);
  return (v_explained.verdict, v_explained.reason, v_explained.sentence, v_explained.change, v_explained.deciding)::api.access_explanation;
end $function$
comment 'What api.explain_access() asks, once it has looked the row up as whoever asks. REFUSED with NOT_PERMITTED, recorded, about somebody else without access.explain.'

-- function api_steps.finish_email_code(attempt uuid, code text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.finish_email_code(attempt uuid, code text)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_account bytea := identity_private.resolve_attempt(finish_email_code.attempt, 'email_code', convert_to(finish_email_code.code, 'UTF8'));
  v_registration uuid;
begin
  perform identity_private.hold_address(v_account);
  -- Two mails to one address may happen to carry the same code: one of them is meant.
  update identity_private.tokens t set consumed_at = clock_timestamp()
    where t.consumed_at is null and t.hash = (
      select c.hash
        from identity_private.registrations r
        join identity_private.tokens c on c.registration_id = r.id
        where r.lookup = v_account and c.purpose = 'verification'
          and c.consumed_at is null and c.code_expires_at > clock_timestamp()
          and c.code_mac = keyring_private.guess_mac(c.mail_id, convert_to(finish_email_code.code, 'UTF8'))
        order by c.created_at desc
        limit 1)
    returning t.registration_id into v_registration;
  if not found then
    perform audit_private.append('email.refuse');
    return 'REFUSED';
  end if;
  return api_steps.complete(v_registration);
end $function$
comment 'Answers a stored code, once: VERIFIED or REFUSED. GUESS in the transaction that stored it.'

-- function api_steps.finish_invitation_code(attempt uuid, token bytea, code text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.finish_invitation_code(attempt uuid, token bytea, code text)
 RETURNS api_steps.accepted_invitation
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_account bytea := identity_private.resolve_attempt(finish_invitation_code.attempt, 'invitation_code',
    convert_to(finish_invitation_code.code, 'UTF8'));
  v_invitation access.invitations := access_private.live_invitation(finish_invitation_code.token);
  v_done record;
begin
  if request.signed_in_id() is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  -- The attempt was counted against the address of this very invitation, and the code was asked for by this very person.
  update identity_private.tokens t set consumed_at = clock_timestamp()
    from access_private.invitation_addresses a
    where t.organization_id = v_invitation.organization_id and t.invitation_id = v_invitation.id
      and a.organization_id = t.organization_id and a.invitation_id = t.invitation_id and a.lookup = v_account
      and t.purpose = 'invitation_code' and t.person_id = request.signed_in_id()
      and t.consumed_at is null and t.code_expires_at > clock_timestamp()
      and t.code_mac = keyring_private.guess_mac(t.mail_id, convert_to(finish_invitation_code.code, 'UTF8'));
  if not found then
    return ('REFUSED', access_private.refused('invitation.accept', '{CODE_WRONG}'), null)::api_steps.accepted_invitation;
  end if;
  perform identity_private.forgive(v_account);
  v_done := access_private.accept_invitation(finish_invitation_code.token, true);
  return (v_done.outcome, v_done.reasons, v_done.organization_id)::api_steps.accepted_invitation;
end $function$
comment 'Answers a stored code, once, and accepts the invitation if it is right: ACCEPTED, or REFUSED with CODE_WRONG or as accept_invitation. GUESS in the transaction that stored it. AUTHN for nobody.'

-- function api_steps.finish_sign_in(attempt uuid, tag bytea, organization_id uuid, credential_hash bytea, refresh_hash bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.finish_sign_in(attempt uuid, tag bytea, organization_id uuid, credential_hash bytea, refresh_hash bytea)
 RETURNS api_steps.sign_in_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_account bytea := identity_private.resolve_attempt(finish_sign_in.attempt, 'password', finish_sign_in.tag);
  v_person uuid;
  v_status text;
  v_verifier text;
  v_organization uuid;
  v_pending boolean;
  v_right boolean;
  v_result api_steps.sign_in_result;
begin
  -- Held, so that a sign-in with the old password and a new password take their turn: either the session ends with the
  -- others, or the new password is what it is compared with.
  select e.person_id, p.status, keyring_private.open('identity.passwords.verifier', platform.no_organization(), w.person_id, w.verifier)
    into v_person, v_status, v_verifier
    from identity_private.emails e
    join identity.people p on p.id = e.person_id
    join identity_private.passwords w on w.person_id = e.person_id
    where e.lookup = v_account and e.verified_at is not null
    for no key update of p, w;
  v_right := v_verifier = identity_private.verifier(finish_sign_in.tag);
  if v_account is not null and v_right and v_status = 'active' then
    v_organization := sessions_private.choose_organization(v_person, finish_sign_in.organization_id);
    if v_organization is not null or finish_sign_in.organization_id is null then
      perform identity_private.forgive(v_account);
      v_result.session_id := sessions_private.start_session(v_person, v_organization, 1, credential_hash, refresh_hash);
      v_result.access_expires_at := sessions_private.issue(v_result.session_id, credential_hash, refresh_hash);
      select 'SIGNED_IN', s.person_id, s.organization_id, s.assurance, s.authenticated_at, s.ends_at
        into v_result.outcome, v_result.person_id, v_result.organization_id, v_result.assurance, v_result.authenticated_at, v_result.expires_at
        from sessions.sessions s where s.id = v_result.session_id;
      perform audit_private.append('login.success', v_organization, v_person,
        jsonb_build_object('session', v_result.session_id, 'method', 'password'), origin_subject => v_person);
      return v_result;
    end if;
  end if;
  -- Asked whoever it was, so that every refusal takes the same work. The reason stays in the trail.
  v_pending := exists (select from identity_private.registrations r where r.lookup = v_account and r.completed_at is null);
  perform audit_private.append('login.failure', actor_id => v_person, origin_subject => v_person,
    details => jsonb_build_object('because', case
      when v_account is null then 'no_attempt'
      when v_person is null and v_pending then 'unverified'
      when v_person is null then 'unknown'
      when v_right is not true then 'wrong_password'
      when v_status <> 'active' then 'suspended'
      else 'no_organization' end));
  v_result.outcome := 'REFUSED';
  return v_result;
end $function$
comment 'Answers a stored guess, once: SIGNED_IN with a session under the given hashes, or REFUSED, which never says why. GUESS in the transaction that stored the guess.'

-- function api_steps.invitation_addresses(ids uuid[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.invitation_addresses(ids uuid[])
 RETURNS text[]
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows opening; the checks are the active organization, whose key seals them, and invitation.read.
declare
  v_organization uuid := request.organization_id();
  v_may boolean := request.can('invitation.read');
  v_sealed bytea[];
begin
  select array_agg(a.address order by u.n) into v_sealed
    from unnest(ids) with ordinality as u (id, n)
    left join access_private.invitation_addresses a
      on a.organization_id = v_organization and a.invitation_id = u.id and v_may;
  return keyring_private.open_set('access.invitations.address', v_organization, ids, v_sealed);
end $function$
comment 'Addresses that were invited, by invitation, in the order given; null for what is not here, or without invitation.read.'

-- function api_steps.member_addresses(ids uuid[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.member_addresses(ids uuid[])
 RETURNS text[]
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- As for names, with member.contact.
declare
  v_organization uuid := request.organization_id();
  v_may boolean := request.can('member.contact');
  v_own uuid := request.owner_id();
  v_emails uuid[];
  v_sealed bytea[];
begin
  select array_agg(e.id order by u.n), array_agg(e.address order by u.n)
    into v_emails, v_sealed
    from unnest(ids) with ordinality as u (id, n)
    left join access.memberships m on m.organization_id = v_organization and m.id = u.id and (v_may or m.person_id = v_own)
    left join identity_private.emails e on e.person_id = m.person_id and e.is_primary;
  return keyring_private.open_set('identity.emails.address', platform.no_organization(), v_emails, v_sealed);
end $function$
comment 'Primary addresses of members, by membership, in the order given; null as for names, but with member.contact.'

-- function api_steps.member_names(ids uuid[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.member_names(ids uuid[])
 RETURNS text[]
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows opening names; the checks are the active organization, and member.read or one's own membership.
declare
  v_organization uuid := request.organization_id();
  v_may boolean := request.can('member.read');
  v_own uuid := request.owner_id();
  v_people uuid[];
  v_sealed bytea[];
begin
  select array_agg(m.person_id order by u.n), array_agg(f.display_name order by u.n)
    into v_people, v_sealed
    from unnest(ids) with ordinality as u (id, n)
    left join access.memberships m on m.organization_id = v_organization and m.id = u.id and (v_may or m.person_id = v_own)
    left join identity_private.profiles f on f.person_id = m.person_id;
  return keyring_private.open_set('identity.people.display_name', platform.no_organization(), v_people, v_sealed);
end $function$
comment 'Names of members, by membership, in the order given; null for who is not here, or erased, or without member.read.'

-- function api_steps.note_first_use(credential bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.note_first_use(credential bytea)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  update sessions_private.credentials c set first_used_at = clock_timestamp()
    where c.hash = sha256(note_first_use.credential) and c.first_used_at is null
$function$
comment 'Notes that a credential was used; called when a process sees it for the first time.'

-- function api_steps.prepare_password_reset(token bytea, password jsonb)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.prepare_password_reset(token bytea, password jsonb)
 RETURNS api_steps.password_challenge
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_reasons text[] := identity_private.password_reasons(password);
begin
  if api_steps.reset_subject(token) is null then
    perform audit_private.append('password_reset.refuse');
    return ('REFUSED', '{TOKEN_INVALID}', null, null, null)::api_steps.password_challenge;
  end if;
  if cardinality(v_reasons) > 0 then
    return ('REFUSED', v_reasons, null, null, null)::api_steps.password_challenge;
  end if;
  return (null, '{}', 'argon2id', identity_private.new_password_parameters(), extensions.gen_random_bytes(16))::api_steps.password_challenge;
end $function$
comment 'First step of resetPassword: REFUSED with reasons, or how to hash the new password. Uses nothing up.'

-- function api_steps.prepare_registration(email text, display_name text, organization_name text, password jsonb)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.prepare_registration(email text, display_name text, organization_name text, password jsonb)
 RETURNS api_steps.password_challenge
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_reasons text[] := api_steps.registration_reasons(email, display_name, organization_name, password);
begin
  if cardinality(v_reasons) > 0 then
    return ('REFUSED', v_reasons, null, null, null)::api_steps.password_challenge;
  end if;
  return (null, '{}', 'argon2id', identity_private.new_password_parameters(), extensions.gen_random_bytes(16))::api_steps.password_challenge;
end $function$
comment 'First step of register: REFUSED with reasons, or how to hash the password. `password` are facts about it, never the password.'

-- function api_steps.record_fault(request_id uuid, code text, name text, left_out integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.record_fault(request_id uuid, code text, name text, left_out integer DEFAULT 0)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform audit_private.append('request.fault', details => jsonb_build_object(
    'request', request_id, 'code', left(regexp_replace(code, '[^0-9A-Z]', '', 'g'), 5),
    'name', left(regexp_replace(name, '[^A-Za-z0-9_.:/ -]', '', 'g'), 100),
    'left_out', greatest(left_out, 0)));
end $function$
comment 'Records that a request failed unexpectedly, for whoever is signed in: its id, the SQLSTATE and where, no text; and how many were left out before, since a flood is not recorded one by one.'

-- function api_steps.record_statement(statement text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.record_statement(statement text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if request.session_id() is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  if coalesce(btrim(statement), '') = '' then
    raise exception 'there is no statement' using errcode = '22023';
  end if;
  -- Kept whole or not run: half a statement says nothing of what the other half did.
  if octet_length(statement) > 64000 then
    raise exception 'a statement of more than 64000 bytes is not recorded' using errcode = '54000';
  end if;
  perform audit_private.append('shell.statement', statement => record_statement.statement);
end $function$
comment 'Records a statement of a shell, sealed for its operator, before it runs. AUTHN for nobody, 22023 for none, 54000 for one of more than 64000 bytes, KEYNO without an application key.'

-- function api_steps.refresh_session(refresh_token bytea, successor_hash bytea, credential_hash bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.refresh_session(refresh_token bytea, successor_hash bytea, credential_hash bytea)
 RETURNS api_steps.sign_in_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- The successor is derived from the presented token (by HMAC, in TypeScript), so that a lost answer can be given again
-- without having been stored.
declare
  v_hash bytea := sha256(refresh_session.refresh_token);
  v_token sessions_private.refresh_tokens;
  v_session sessions.sessions;
  v_result api_steps.sign_in_result;
begin
  v_result.outcome := 'REFUSED';
  -- All refreshes of one session take their turn, so that parallel ones get one successor.
  select s.* into v_session
    from sessions.sessions s
    where s.id = (select t.session_id from sessions_private.refresh_tokens t where t.hash = v_hash)
    for no key update;
  if not found or v_session.ends_at <= clock_timestamp()
    or not exists (select from identity.people p where p.id = v_session.person_id and p.status = 'active')
    or greatest(v_session.created_at, (select a.last_used_at from sessions.activity a where a.session_id = v_session.id))
       <= clock_timestamp() - make_interval(secs => platform.limit_value('session.idle_seconds')) then
    perform audit_private.append('access.refuse', v_session.organization_id, v_session.person_id, '{"what": "refresh"}');
    return v_result;
  end if;
  select t.* into v_token from sessions_private.refresh_tokens t where t.hash = v_hash;
  if not found then
    -- The session was switched to another organization while this call waited for it: its old tokens are gone.
    perform audit_private.append('access.refuse', v_session.organization_id, v_session.person_id, '{"what": "refresh"}');
    return v_result;
  end if;
  if v_token.rotated_at is null then
    update sessions_private.refresh_tokens t set rotated_at = clock_timestamp(), successor = refresh_session.successor_hash
      where t.hash = v_hash;
    insert into sessions_private.refresh_tokens (hash, session_id) values (refresh_session.successor_hash, v_session.id);
    perform audit_private.append('token.refresh', v_session.organization_id, v_session.person_id, jsonb_build_object('session', v_session.id));
  elsif v_token.successor is distinct from refresh_session.successor_hash
    or exists (select from sessions_private.refresh_tokens t where t.hash = v_token.successor and t.rotated_at is not null)
    or exists (select from sessions_private.credentials c where c.issued_with = v_token.successor and c.first_used_at is not null) then
    -- The successor is in use already: whoever presents this token is not who holds that one.
    perform audit_private.append('token.replay', v_session.organization_id, v_session.person_id,
      jsonb_build_object('session', v_session.id), origin_subject => v_session.person_id);
    perform sessions_private.end_session(v_session.id, 'replay');
    return v_result;
  end if;
  v_result.access_expires_at := sessions_private.issue(v_session.id, refresh_session.credential_hash, refresh_session.successor_hash);
  -- A refresh is a use: what it gives is not refused as idle a moment later.
  insert into sessions.activity as a (session_id, last_used_at) values (v_session.id, clock_timestamp())
    on conflict on constraint activity_pkey do update set last_used_at = greatest(a.last_used_at, excluded.last_used_at);
  v_result.outcome := 'SIGNED_IN';
  v_result.session_id := v_session.id;
  v_result.person_id := v_session.person_id;
  v_result.organization_id := v_session.organization_id;
  v_result.assurance := v_session.assurance;
  v_result.authenticated_at := v_session.authenticated_at;
  v_result.expires_at := v_session.ends_at;
  return v_result;
end $function$
comment 'Exchanges a refresh token for its successor: the same one again while neither it nor an access token issued with it was used (RFC 9700 4.14.2); anything older ends the session.'

-- function api_steps.register(email text, display_name text, organization_name text, password jsonb, scheme text, parameters jsonb, salt bytea, tag bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.register(email text, display_name text, organization_name text, password jsonb, scheme text, parameters jsonb, salt bytea, tag bytea)
 RETURNS api_steps.outcome_with_reasons
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_none constant uuid := platform.no_organization();
  v_reasons text[] := api_steps.registration_reasons(email, display_name, organization_name, password);
  v_id uuid := platform.uuid_v7();
begin
  if cardinality(v_reasons) > 0 then
    return ('REFUSED', v_reasons)::api_steps.outcome_with_reasons;
  end if;
  perform identity_private.check_new_password(scheme, parameters, salt, tag);
  insert into identity_private.registrations (id, email, lookup, display_name, organization_name, scheme, parameters, salt, verifier)
    values (v_id,
      keyring_private.seal('identity.registrations.email', v_none, v_id, v_id, identity_private.normalize_email(email)),
      identity_private.email_lookup(email),
      keyring_private.seal('identity.registrations.display_name', v_none, v_id, v_id, btrim(display_name)),
      keyring_private.seal('identity.registrations.organization_name', v_none, v_id, v_id, btrim(organization_name)),
      register.scheme, register.parameters, register.salt,
      keyring_private.seal('identity.registrations.verifier', v_none, v_id, v_id, identity_private.verifier(tag)));
  perform identity_private.ask_for_mail('registration', null, v_id);
  perform audit_private.append('registration.request', details => jsonb_build_object('registration', v_id), origin_subject => v_id);
  return ('VERIFICATION_SENT', '{}')::api_steps.outcome_with_reasons;
end $function$
comment 'Second step of register: VERIFICATION_SENT, or REFUSED with reasons. The account is made when the address is proved.'

-- function api_steps.registration_reasons(email text, display_name text, organization_name text, password jsonb)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.registration_reasons(email text, display_name text, organization_name text, password jsonb)
 RETURNS text[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select array_remove(array[
    case when identity_private.normalize_email(email) is null then 'EMAIL_INVALID' end,
    case when not identity_private.valid_display_name(display_name) then 'DISPLAY_NAME_INVALID' end,
    case when organization_name is not null and not access_private.valid_name(organization_name) then 'ORGANIZATION_NAME_INVALID' end
  ], null) || identity_private.password_reasons(password)
$function$
comment 'Why a registration is refused; empty if it is not.'

-- function api_steps.report_failed_jobs()
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.report_failed_jobs()
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_count integer;
begin
  if request.task() is distinct from 'platform__report_failures' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  -- A task that nobody knows has no worker, ever. Not at once: it may be that of a newer release, whose migration is on
  -- its way.
  update graphile_worker._private_jobs j set attempts = j.max_attempts, last_error = 'no task of that name'
    where j.id in (
      select w.id from graphile_worker._private_jobs w
        join graphile_worker._private_tasks t on t.id = w.task_id
        where w.locked_at is null and w.attempts < w.max_attempts and w.created_at < clock_timestamp() - interval '10 minutes'
          and not exists (select from platform.tasks p where p.name = t.identifier)
        limit 1000 for update of w skip locked);
  with told as (
    update platform_private.failed_jobs f set reported_at = clock_timestamp()
      where f.job_id in (
        select n.job_id from platform_private.failed_jobs n
          where n.reported_at is null
          limit 1000 for update skip locked)
      returning f.*)
  select count(audit_private.append('job.fail', t.organization_id, details =>
      jsonb_build_object('job', t.job_id, 'task', t.task, 'attempts', t.attempts, 'error', t.error)))
    into v_count
    from told t;
  return v_count;
end $function$
comment 'Task platform__report_failures: an event of severity alert for each job that was given up since the last time; returns how many. DENYD outside it.'

-- function api_steps.request_invitation_code(token bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.request_invitation_code(token bytea)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_person uuid := request.signed_in_id();
  v_invitation access.invitations := access_private.live_invitation(token);
begin
  if v_person is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  if v_invitation.id is null then
    perform access_private.refused('invitation.code', '{TOKEN_INVALID}');
  else
    perform access_private.ask_for_invitation_mail('invitation_code', v_invitation.organization_id, v_invitation.id, v_person);
    perform audit_private.append('invitation.code', v_invitation.organization_id, details => jsonb_build_object('invitation', v_invitation.id));
  end if;
  return 'SENT';
end $function$
comment 'Sends six digits to the address of an invitation, good for whoever is signed in alone. Always SENT. AUTHN for nobody.'

-- function api_steps.reset_password(token bytea, password jsonb, scheme text, parameters jsonb, salt bytea, tag bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.reset_password(token bytea, password jsonb, scheme text, parameters jsonb, salt bytea, tag bytea)
 RETURNS api_steps.outcome_with_reasons
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_reasons text[] := identity_private.password_reasons(password);
  v_person uuid := api_steps.reset_subject(token);
begin
  if cardinality(v_reasons) > 0 then
    return ('REFUSED', v_reasons)::api_steps.outcome_with_reasons;
  end if;
  perform identity_private.check_new_password(scheme, parameters, salt, tag);
  -- One person's resets and sign-ins take their turn.
  perform from identity.people p where p.id = v_person for no key update;
  update identity_private.tokens t set consumed_at = clock_timestamp()
    where t.hash = sha256(reset_password.token) and t.person_id = v_person and t.purpose = 'password_reset'
      and t.consumed_at is null and t.expires_at > clock_timestamp();
  if not found then
    perform audit_private.append('password_reset.refuse');
    return ('REFUSED', '{TOKEN_INVALID}')::api_steps.outcome_with_reasons;
  end if;
  perform identity_private.set_password(v_person, scheme, parameters, salt, identity_private.verifier(tag));
  -- Whoever knew the old password is out, and the owner of the address is told. The lock goes too: the mailbox proved more.
  perform sessions_private.end_sessions(v_person, 'password');
  update identity_private.tokens t set consumed_at = clock_timestamp()
    where t.person_id = v_person and t.purpose = 'password_reset' and t.consumed_at is null;
  perform identity_private.forgive(e.lookup) from identity_private.emails e where e.person_id = v_person;
  perform identity_private.ask_for_mail('password_changed', null, null, v_person);
  perform audit_private.append('password_reset.success', actor_id => v_person, origin_subject => v_person);
  return ('CHANGED', '{}')::api_steps.outcome_with_reasons;
end $function$
comment 'Second step of resetPassword: uses the token once, sets the password and ends all sessions: CHANGED, or REFUSED with reasons.'

-- function api_steps.reset_subject(token bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.reset_subject(token bytea)
 RETURNS uuid
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select t.person_id
  from identity_private.tokens t
  join identity.people p on p.id = t.person_id and p.status = 'active'
  where t.hash = sha256(reset_subject.token) and t.purpose = 'password_reset'
    and t.consumed_at is null and t.expires_at > clock_timestamp()
$function$
comment 'Whose password a live token resets; null for any other token.'

-- function api_steps.retry_jobs(ids bigint[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.retry_jobs(ids bigint[])
 RETURNS bigint[]
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
declare
  v_done bigint[];
begin
  with again as (
    update graphile_worker._private_jobs j
      set attempts = 0, max_attempts = coalesce(p.attempts, j.max_attempts), run_at = clock_timestamp(), last_error = null
      from graphile_worker._private_tasks t
      left join platform.tasks p on p.name = t.identifier
      where j.id = any (ids) and t.id = j.task_id and j.locked_at is null
      returning j.id, t.identifier as task)
  select array_agg(a.id order by a.id) filter (where audit_private.append('job.retry',
      details => jsonb_build_object('job', a.id, 'task', a.task)) is not null)
    into v_done
    from again a;
  perform pg_notify('jobs:insert', '');
  return coalesce(v_done, '{}');
end $function$
comment 'Lets jobs run again from the first try, now; returns those that were there and not running. For operators; recorded.'

-- function api_steps.rotate_api_key(id uuid, overlap_seconds integer, secret_hash bytea, prefix text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.rotate_api_key(id uuid, overlap_seconds integer, secret_hash bytea, prefix text)
 RETURNS api_steps.api_key_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid := request.signed_in_id();
  v_key access.api_keys;
  v_reasons text[] := '{}';
  v_now timestamptz;
begin
  if not access_private.take_turn_to('api_key.rotate') then
    return ('REFUSED', access_private.refused('api_key.rotate', '{NOT_PERMITTED}'), null, null, null)::api_steps.api_key_result;
  end if;
  select k.* into v_key from access.api_keys k
    where k.organization_id = v_organization and k.id = rotate_api_key.id for no key update;
  v_now := clock_timestamp();
  if not found or v_key.person_id is distinct from v_person and not coalesce(request.can('api_key.read'), false) then
    v_reasons := '{NOT_FOUND}';
  -- Whoever has the secret is whose key it is: nobody gets that of somebody else.
  elsif v_key.person_id is not null and v_key.person_id is distinct from v_person
    or v_key.person_id is null and not coalesce(request.can('service_account.create'), false) then
    v_reasons := '{NOT_PERMITTED}';
  elsif v_key.revoked_at is not null or v_key.expires_at <= v_now then
    v_reasons := '{OVER}';
  elsif v_key.person_id is null
    and access_private.not_held(v_key.permissions, tstzrange(v_now, v_key.expires_at, '[]')) <> '{}' then
    v_reasons := '{NOT_HELD}';
  elsif coalesce(rotate_api_key.overlap_seconds, -1) not between 0 and platform.limit_value('api_key.overlap_seconds') then
    v_reasons := '{WINDOW_INVALID}';
  -- Two secrets at most. Without an overlap there is one again, whatever was before.
  elsif rotate_api_key.overlap_seconds > 0 and exists (
      select from access_private.api_key_secrets s
        where s.organization_id = v_organization and s.key_id = v_key.id and s.expires_at > v_now and s.expires_at < 'infinity') then
    v_reasons := '{OVERLAPPING}';
  end if;
  if v_reasons <> '{}' then
    return ('REFUSED', access_private.refused('api_key.rotate', v_reasons), null, null, null)::api_steps.api_key_result;
  end if;
  delete from access_private.api_key_secrets s
    where s.organization_id = v_organization and s.key_id = v_key.id and s.expires_at <= v_now;
  update access_private.api_key_secrets s
    set expires_at = least(s.expires_at, v_now + make_interval(secs => rotate_api_key.overlap_seconds))
    where s.organization_id = v_organization and s.key_id = v_key.id;
  insert into access_private.api_key_secrets (hash, organization_id, key_id)
    values (rotate_api_key.secret_hash, v_organization, v_key.id);
  update access.api_keys k set prefix = rotate_api_key.prefix, rotated_at = v_now
    where k.organization_id = v_organization and k.id = v_key.id;
  perform audit_private.append('api_key.rotate',
    details => jsonb_build_object('key', v_key.id, 'overlapSeconds', rotate_api_key.overlap_seconds));
  return ('ROTATED', '{}', v_key.id, rotate_api_key.prefix, v_key.expires_at)::api_steps.api_key_result;
end $function$
comment 'Gives an API key a new secret; the old one opens requests for the overlap, in seconds. The end of the key stays. A personal key only by whose it is; that of a service account by who could make it. Demands api_key.rotate. REFUSED with NOT_FOUND, NOT_PERMITTED, OVER, NOT_HELD, WINDOW_INVALID, or OVERLAPPING while an earlier rotation overlaps, unless overlap_seconds is 0.'

-- function api_steps.set_setting(name text, value jsonb, reset boolean)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.set_setting(name text, value jsonb, reset boolean)
 RETURNS api.setting_result
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
  v_organization uuid := access_private.acting_in();
  v_definition access.setting_definitions;
  v_value jsonb := coalesce(value, 'null');
  v_role uuid;
  v_old jsonb;
  v_new jsonb;
begin
  select d.* into v_definition from access.setting_definitions d where d.name = set_setting.name;
  if not found then
    return ('REFUSED', '{NOT_FOUND}', null, null)::api.setting_result;
  end if;
  -- First, since what may be handed on with a role is decided by what stands now; and sessions that begin wait for it.
  if not access_private.take_turn_to(v_definition.write_permission) then
    return ('REFUSED', access_private.refused('setting.change', '{NOT_PERMITTED}'), null, null)::api.setting_result;
  end if;
  if not reset and v_definition.type = 'role' and v_value <> 'null' then
    select r.id into v_role from access.roles r
      where r.organization_id = v_organization and v_value #>> '{}' in (r.id::text, r.name)
      order by (r.id::text = v_value #>> '{}') desc
      limit 1;
    v_value := to_jsonb(v_role::text);
  end if;
  if not reset and not access_private.setting_fits(v_definition, v_value) then
    return ('REFUSED', '{VALUE_INVALID}', null, access_private.setting_allows(v_definition))::api.setting_result;
  end if;
  -- Whoever gets a role by a setting gets it from whoever sets it.
  if v_role is not null and access_private.not_held(
      access_private.held_by_role(v_organization, v_role), tstzrange(clock_timestamp(), 'infinity')) <> '{}' then
    return ('REFUSED', access_private.refused('setting.change', '{NOT_HELD}'), null,
      access_private.setting_allows(v_definition))::api.setting_result;
  end if;
  -- Those who join by address had nobody look at them. Asked again when somebody joins.
  if v_role is not null and v_definition.name = 'domain.join_role' and not access_private.below_ceiling(v_organization, v_role) then
    return ('REFUSED', access_private.refused('setting.change', '{ABOVE_CEILING}'), null,
      access_private.setting_allows(v_definition))::api.setting_result;
  end if;
  v_old := access_private.setting(v_organization, v_definition.name);
  if reset then
    delete from access.settings s where s.organization_id = v_organization and s.name = v_definition.name;
  else
    insert into access.settings as s (organization_id, name, value, role_id)
      values (v_organization, v_definition.name, v_value, v_role)
      on conflict on constraint settings_pkey do update
        set value = excluded.value, role_id = excluded.role_id, changed_at = clock_timestamp()
        where (s.value, s.role_id) is distinct from (excluded.value, excluded.role_id);
  end if;
  v_new := access_private.setting(v_organization, v_definition.name);
  perform audit_private.append('setting.change', details => jsonb_build_object(
    'setting', v_definition.name, 'old', v_old, 'new', v_new, 'reset', reset));
  return ('CHANGED', '{}', v_new, null)::api.setting_result;
end $function$
comment 'What api.change_setting() and api.reset_setting() do.'

-- function api_steps.start_email_code(email text, OUT attempt uuid, OUT retry_after integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.start_email_code(email text, OUT attempt uuid, OUT retry_after integer)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_account bytea := identity_private.email_lookup(email);
  v_started record;
begin
  v_started := identity_private.start_attempt('email_code', v_account);
  if v_started.attempt is null then
    perform audit_private.append('email.refuse', details => '{"because": "locked"}');
  elsif v_started.locked then
    perform audit_private.append('login.lock',
      actor_id => (select e.person_id from identity_private.emails e where e.lookup = v_account));
  end if;
  attempt := v_started.attempt;
  retry_after := v_started.retry_after;
end $function$
comment 'Counts an attempt at the code of a mail; attempt is null while the account is locked.'

-- function api_steps.start_invitation_code(token bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.start_invitation_code(token bytea)
 RETURNS api_steps.started_code
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_invitation access.invitations := access_private.live_invitation(token);
  v_account bytea;
  v_started record;
begin
  if request.signed_in_id() is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  if v_invitation.id is null then
    return (null, 'REFUSED', access_private.refused('invitation.accept', '{TOKEN_INVALID}'), null)::api_steps.started_code;
  end if;
  select a.lookup into v_account from access_private.invitation_addresses a
    where a.organization_id = v_invitation.organization_id and a.invitation_id = v_invitation.id;
  -- The one counter of that address, over all doors.
  v_started := identity_private.start_attempt('invitation_code', v_account);
  if v_started.attempt is null then
    return (null, 'REFUSED', access_private.refused('invitation.accept', '{LOCKED}'), v_started.retry_after)::api_steps.started_code;
  end if;
  if v_started.locked then
    perform audit_private.append('login.lock', details => '{"because": "invitation"}');
  end if;
  return (v_started.attempt, null, '{}', null)::api_steps.started_code;
end $function$
comment 'Counts an attempt at the code of an invitation; attempt is null with TOKEN_INVALID, or LOCKED and the whole seconds until another is worth making. AUTHN for nobody.'

-- function api_steps.start_shell(OUT organization text, OUT request_seconds integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.start_shell(OUT organization text, OUT request_seconds integer)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if request.session_id() is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  perform audit_private.append('shell.start', origin_subject => request.user_id());
  select o.name into start_shell.organization from access.organizations o where o.id = request.organization_id();
  request_seconds := platform.limit_value('request.seconds');
end $function$
comment 'Records that this session is a shell; answers the name of its organization and how many seconds a request may last. AUTHN for nobody.'

-- function api_steps.start_sign_in(email text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.start_sign_in(email text)
 RETURNS api_steps.sign_in_challenge
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_account bytea := identity_private.email_lookup(email);
  v_started record;
  v_password identity_private.passwords;
begin
  v_started := identity_private.start_attempt('password', v_account);
  if v_started.attempt is null then
    perform audit_private.append('login.failure', details => '{"because": "locked"}');
    return (null, v_started.retry_after, null, null, null)::api_steps.sign_in_challenge;
  end if;
  if v_started.locked then
    perform audit_private.append('login.lock',
      actor_id => (select e.person_id from identity_private.emails e where e.lookup = v_account));
  end if;
  select p.* into v_password
    from identity_private.emails e
    join identity_private.passwords p on p.person_id = e.person_id
    where e.lookup = v_account;
  -- An unknown account has a salt too, the same each time, and the present cost.
  return (v_started.attempt, null,
    coalesce(v_password.scheme, 'argon2id'),
    coalesce(v_password.parameters, identity_private.new_password_parameters()),
    coalesce(v_password.salt, substr(keyring_private.blind_index('identity.passwords.salt', platform.no_organization(),
      encode(v_account, 'hex')), 1, 16)))::api_steps.sign_in_challenge;
end $function$
comment 'Counts a sign-in and says how to hash the password: scheme, cost and salt, never a hash. attempt is null while the account is locked, with retry_after in whole seconds.'

-- function api_steps.submit_email_code(attempt uuid, code text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.submit_email_code(attempt uuid, code text)
 RETURNS boolean
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select identity_private.submit_attempt(attempt, 'email_code', convert_to(code, 'UTF8')) $function$
comment 'Stores the guessed code of a counted attempt.'

-- function api_steps.submit_invitation_code(attempt uuid, code text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.submit_invitation_code(attempt uuid, code text)
 RETURNS boolean
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select identity_private.submit_attempt(attempt, 'invitation_code', convert_to(code, 'UTF8')) $function$
comment 'Stores the guessed code of a counted attempt.'

-- function api_steps.submit_sign_in(attempt uuid, tag bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.submit_sign_in(attempt uuid, tag bytea)
 RETURNS boolean
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select identity_private.submit_attempt(attempt, 'password', tag) $function$
comment 'Stores the tag of a counted attempt, as HMAC; false if it has a guess already.'

-- function api_steps.switch_organization(organization_id uuid, credential_hash bytea, refresh_hash bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.switch_organization(organization_id uuid, credential_hash bytea, refresh_hash bytea)
 RETURNS api_steps.sign_in_result
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_person uuid := request.user_id();
  v_session uuid := request.session_id();
  v_organization uuid;
  v_result api_steps.sign_in_result;
begin
  v_result.outcome := 'REFUSED';
  if v_person is null or v_session is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  v_organization := sessions_private.choose_organization(v_person, switch_organization.organization_id);
  perform sessions_private.hold_organization(v_organization);
  -- Not hers, or her session is older than sessions may be there.
  if v_organization is null or switch_organization.organization_id is null or not exists (
      select from sessions.sessions s where s.id = v_session
        and sessions_private.latest_end(v_organization, s.created_at) > clock_timestamp()) then
    perform audit_private.append('access.refuse', details => '{"what": "switch"}');
    return v_result;
  end if;
  -- Old tokens stop working: they speak for the other organization.
  update sessions.sessions s set organization_id = v_organization
    where s.id = v_session and s.ends_at > clock_timestamp();
  if not found then
    -- Ended while this call waited for it.
    perform audit_private.append('access.refuse', details => '{"what": "switch"}');
    return v_result;
  end if;
  perform audit_private.append('session.switch', v_organization);
  delete from sessions_private.credentials c where c.session_id = v_session;
  delete from sessions_private.refresh_tokens t where t.session_id = v_session;
  insert into sessions_private.refresh_tokens (hash, session_id) values (switch_organization.refresh_hash, v_session);
  v_result.access_expires_at := sessions_private.issue(v_session, switch_organization.credential_hash, switch_organization.refresh_hash);
  select 'SIGNED_IN', s.id, s.person_id, s.organization_id, s.assurance, s.authenticated_at, s.ends_at
    into v_result.outcome, v_result.session_id, v_result.person_id, v_result.organization_id, v_result.assurance,
      v_result.authenticated_at, v_result.expires_at
    from sessions.sessions s where s.id = v_session;
  return v_result;
end $function$
comment 'Makes another organization of the person the active one, under new tokens; REFUSED if it is not hers. AUTHN for nobody.'

-- function api_steps.verify_email(token bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION api_steps.verify_email(token bytea)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_registration uuid;
begin
  perform identity_private.hold_address(r.lookup)
    from identity_private.tokens t
    join identity_private.registrations r on r.id = t.registration_id
    where t.hash = sha256(verify_email.token);
  update identity_private.tokens t set consumed_at = clock_timestamp()
    where t.hash = sha256(verify_email.token) and t.purpose = 'verification'
      and t.consumed_at is null and t.expires_at > clock_timestamp()
    returning t.registration_id into v_registration;
  if not found then
    perform audit_private.append('email.refuse');
    return 'REFUSED';
  end if;
  return api_steps.complete(v_registration);
end $function$
comment 'Proves an address with the token of its mail, once: VERIFIED or REFUSED.'

-- function audit.append_change(relation oid, operation text, old_row jsonb, new_row jsonb, arguments text[])
owner safetypin_keeper
CREATE OR REPLACE FUNCTION audit.append_change(relation oid, operation text, old_row jsonb, new_row jsonb, arguments text[])
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows from the keeper: appending. Nothing but a trigger may call it, and it takes what stands in a row as JSON: the
-- conversion may run code of the table's owner (a cast to json), which must never run as the keeper.
declare
  v_old jsonb := old_row;
  v_new jsonb := new_row;
  v_arguments text[] := array(select a from unnest(arguments) with ordinality as u (a, n) order by n);
  v_hidden text[];
  v_row jsonb;
  v_changed jsonb;
  v_key text;
  v_table text;
begin
  if pg_trigger_depth() = 0 then
    raise exception 'changes of rows are recorded by triggers alone' using errcode = 'DENYD';
  end if;
  if v_arguments[cardinality(v_arguments)] = '~doors' then
    -- An old value that is only being sealed now, or one that is being unsealed, must not stand here in clear.
    v_hidden := keyring_private.hidden_from_audit(append_change.relation);
    v_old := v_old - v_hidden;
    v_new := v_new - v_hidden;
  end if;
  v_row := coalesce(v_new, v_old);
  if operation = 'UPDATE' then
    select jsonb_object_agg(n.key, jsonb_build_array(v_old -> n.key, n.value))
      into v_changed
      from jsonb_each(v_new) n
      where n.value is distinct from v_old -> n.key;
    if v_changed is null then
      return null;
    end if;
    v_changed := jsonb_build_object('changed', v_changed);
  else
    v_changed := jsonb_build_object('row', v_row);
  end if;
  select string_agg(v_row ->> k.name, ',' order by k.position)
    into v_key
    from unnest(v_arguments) with ordinality as k (name, position)
    where k.position > 1;
  select concat(n.nspname, '.', c.relname) into strict v_table
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = append_change.relation;
  return audit_private.append(
    'row.' || lower(operation),
    case when v_arguments[1] <> '' then (v_row ->> v_arguments[1])::uuid end,
    null, v_changed, v_table, v_key);
end $function$
comment 'For record_change(): appends what changed in a row; null if nothing did. DENYD outside a trigger, CTXNO from a run-time login without a valid seal.'

-- function audit.count_events(since text, OUT until text, OUT counts jsonb)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION audit.count_events(since text, OUT until text, OUT counts jsonb)
 RETURNS record
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows from the keeper: reading events of all organizations; gives numbers only. An event is counted once, by the
-- first call whose snapshot has its transaction: times would miss what was written early and committed late. Bounded by
-- the rows it looks at, and by the index on the transaction.
declare
  v_since pg_snapshot := count_events.since::pg_snapshot;
  v_until pg_snapshot := pg_current_snapshot();
begin
  until := v_until::text;
  select coalesce(jsonb_agg(to_jsonb(c)), '[]') into counts
    from (
      select e.action, left(e.details ->> 'because', 40) as because, count(*) as count
      from (
        select a.action, a.details
        from audit.events a
        where a.transaction_id >= pg_snapshot_xmin(v_since)
          and not pg_visible_in_snapshot(a.transaction_id, v_since)
          and pg_visible_in_snapshot(a.transaction_id, v_until)
        limit 50000) e
      group by e.action, left(e.details ->> 'because', 40)) c;
end $function$
comment 'How many events of each action, and of each reason, became visible since the given pg_snapshot (none for null), and the one to give next time. For metrics: no event, no organization and no person is named.'

-- function audit.ensure_partitions()
owner safetypin_definer
CREATE OR REPLACE FUNCTION audit.ensure_partitions()
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if request.task() is distinct from 'audit__ensure_partitions' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  return audit_private.make_partitions();
end $function$
comment 'Task audit__ensure_partitions: makes partitions ahead of time; returns how many.'

-- function audit.let_record(role name)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION audit.let_record(role name)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  execute format('grant execute on function audit.append_change(oid, text, jsonb, jsonb, text[]) to %I', role);
end $function$
comment 'Lets a role write tables whose changes are recorded. For owners of tables: access.protect() calls it. It lends nothing by itself: outside of a trigger append_change() refuses.'

-- function audit.record_change()
owner safetypin_owner
CREATE OR REPLACE FUNCTION audit.record_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Runs with the rights of who writes: see append_change().
begin
  perform audit.append_change(tg_relid, tg_op, case when tg_op <> 'INSERT' then to_jsonb(old) end,
    case when tg_op <> 'DELETE' then to_jsonb(new) end, tg_argv);
  return null;
end $function$
comment 'Trigger: records what changed in a row, in the same transaction. Arguments: column of the organization or empty, then the key columns; ~doors at the end for a table with sealed columns, whose values in clear and blind indexes are left out.'

-- function audit.statement(event_id uuid)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION audit.statement(event_id uuid)
 RETURNS text
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows the key of whoever gave the statement; the checks are the permission, and the organization it was given in.
declare
  v_event record;
begin
  if not request.can('audit.read') then
    raise exception 'reading the audit trail is not permitted' using errcode = 'DENYD';
  end if;
  select e.organization_id, e.id, e.details ->> 'statement' as statement into v_event
    from audit.events e
    where e.organization_id = request.organization_id() and e.id = statement.event_id and e.action = 'shell.statement';
  if not found then
    return null;
  end if;
  return keyring_private.open('audit.events.statement', v_event.organization_id, v_event.id, decode(v_event.statement, 'hex'));
end $function$
comment 'The SQL that an event shell.statement of the active organization recorded; null for any other event. DENYD without audit.read, KEYER if its operator was erased.'

-- function audit_private.append(action text, organization_id uuid, actor_id uuid, details jsonb, relation text, row_id text, origin_subject uuid, statement text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION audit_private.append(action text, organization_id uuid DEFAULT NULL::uuid, actor_id uuid DEFAULT NULL::uuid, details jsonb DEFAULT '{}'::jsonb, relation text DEFAULT NULL::text, row_id text DEFAULT NULL::text, origin_subject uuid DEFAULT NULL::uuid, statement text DEFAULT NULL::text)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Who acts comes from the seal, which is verified here and not taken from any caller. A caller may name an actor only
-- where nobody is signed in yet.
declare
  v_context record;
  v_metadata jsonb;
  v_zero constant uuid := '00000000-0000-0000-0000-000000000000';
  v_action audit.actions;
  v_id uuid := platform.uuid_v7();
  v_now timestamptz := clock_timestamp();
  v_organization uuid;
  v_actor uuid;
  v_session uuid;
  v_request uuid;
  v_details jsonb := append.details;
begin
  select c.* into v_context from request_private.sealed_context c;
  if not found and session_user in ('safetypin_authenticator', 'safetypin_jobs', 'safetypin_auditor') then
    raise exception 'no sealed context' using errcode = 'CTXNO';
  end if;
  select a.* into v_action from audit.actions a where a.name = append.action;
  if not found then
    raise exception 'no such action' using errcode = '22023';
  end if;
  v_actor := v_context.person_id;
  v_organization := v_context.organization_id;
  v_request := v_context.request_id;
  if v_context.kind = '1' then
    v_session := v_context.subject_id;
  elsif v_context.kind = '3' then
    v_details := v_details || jsonb_build_object('apiKey', v_context.subject_id);
  end if;
  v_actor := coalesce(v_actor, append.actor_id);
  v_organization := coalesce(append.organization_id, v_organization, v_zero);
  v_metadata := v_context.metadata;
  if append.origin_subject is not null and v_metadata is not null then
    v_details := v_details || jsonb_build_object('origin', encode(keyring_private.seal(
      'audit.events.origin', v_organization, v_id, append.origin_subject,
      jsonb_build_object('ip', left(v_metadata ->> 'ip', 64), 'userAgent', left(v_metadata ->> 'userAgent', 400))::text), 'hex'));
  end if;
  if append.statement is not null then
    -- Its literals can be anything about anybody. No hash beside it: that of a short text is guessed.
    v_details := v_details || jsonb_build_object('statement', encode(keyring_private.seal(
      'audit.events.statement', v_organization, v_id, v_actor, append.statement), 'hex'));
  end if;
  insert into audit.events (organization_id, id, occurred_at, action, category, severity, actor_id, session_id,
      request_id, database_role, relation, row_id, details, entry)
    values (v_organization, v_id, v_now, v_action.name, v_action.category, v_action.severity, v_actor, v_session,
      v_request, session_user, append.relation, append.row_id, v_details,
      audit_private.encode_entry(v_id, v_now, v_organization, v_action.name, v_actor, v_session,
        v_request, session_user, append.relation, append.row_id, v_details));
  return v_id;
end $function$
comment 'Appends one event and returns its id. From a run-time login only under a valid seal (CTXNO); 22023 for an unknown action. With origin_subject, IP address and user agent are sealed for that person; a statement of SQL is sealed for the actor.'

-- function audit_private.append_set(action text, ids uuid[], relation text, row_ids text[], details jsonb[])
owner safetypin_keeper
CREATE OR REPLACE FUNCTION audit_private.append_set(action text, ids uuid[], relation text, row_ids text[], details jsonb[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
-- What append() does, for many events of one action at once; the context is verified once.
declare
  v_context record;
  v_action audit.actions;
  v_now timestamptz := clock_timestamp();
  v_organization uuid;
  v_session uuid;
  v_said jsonb := '{}';
begin
  select c.* into v_context from request_private.sealed_context c;
  if not found then
    raise exception 'no sealed context' using errcode = 'CTXNO';
  end if;
  select a.* into v_action from audit.actions a where a.name = append_set.action;
  if not found then
    raise exception 'no such action' using errcode = '22023';
  end if;
  v_organization := coalesce(v_context.organization_id, '00000000-0000-0000-0000-000000000000');
  if v_context.kind = '1' then
    v_session := v_context.subject_id;
  elsif v_context.kind = '3' then
    v_said := jsonb_build_object('apiKey', v_context.subject_id);
  end if;
  -- A word, not a text, which could be about anybody: it stands here in clear.
  if v_context.metadata::jsonb ->> 'purpose' ~* '^[a-z0-9][a-z0-9._:/-]{0,63}$' then
    v_said := v_said || jsonb_build_object('purpose', v_context.metadata::jsonb ->> 'purpose');
  end if;
  insert into audit.events (organization_id, id, occurred_at, action, category, severity, actor_id, session_id,
      request_id, database_role, relation, row_id, details, entry)
    select v_organization, e.id, v_now, v_action.name, v_action.category, v_action.severity, v_context.person_id, v_session,
        v_context.request_id, session_user, append_set.relation, e.row_id, e.details,
        audit_private.encode_entry(e.id, v_now, v_organization, v_action.name, v_context.person_id, v_session,
          v_context.request_id, session_user, append_set.relation, e.row_id, e.details)
      from (select u.id, u.row_id, u.details || v_said as details
        from unnest(append_set.ids, append_set.row_ids, append_set.details) as u (id, row_id, details) offset 0) e;
end $function$
comment 'Appends events of one action and table, with the purpose that the request gave. Only under a valid seal (CTXNO); 22023 for an unknown action.'

-- function audit_private.encode_entry(id uuid, occurred_at timestamp with time zone, organization_id uuid, action text, actor_id uuid, session_id uuid, request_id uuid, database_role text, relation text, row_id text, details jsonb)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION audit_private.encode_entry(id uuid, occurred_at timestamp with time zone, organization_id uuid, action text, actor_id uuid, session_id uuid, request_id uuid, database_role text, relation text, row_id text, details jsonb)
 RETURNS bytea
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN ((((((((((('\x01'::bytea || audit_private.field(uuid_send(id))) || audit_private.field(timestamptz_send(occurred_at))) || audit_private.field(uuid_send(organization_id))) || audit_private.field(convert_to(action, 'UTF8'::name))) || audit_private.field(uuid_send(actor_id))) || audit_private.field(uuid_send(session_id))) || audit_private.field(uuid_send(request_id))) || audit_private.field(convert_to(database_role, 'UTF8'::name))) || audit_private.field(convert_to(relation, 'UTF8'::name))) || audit_private.field(convert_to(row_id, 'UTF8'::name))) || audit_private.field(convert_to((details)::text, 'UTF8'::name)))
comment 'The canonical entry of an event, version 1.'

-- function audit_private.field(value bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION audit_private.field(value bytea)
 RETURNS bytea
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN COALESCE((int4send(length(value)) || value), int4send('-1'::integer))
comment 'One field of a canonical entry: length and bytes, or -1 for null.'

-- function audit_private.make_partitions(months integer)
owner safetypin_owner
CREATE OR REPLACE FUNCTION audit_private.make_partitions(months integer DEFAULT 3)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Owned by the owner of the table, since it makes tables; takes nothing from outside but a number.
declare
  v_from timestamptz;
  v_until timestamptz;
  v_name text;
  v_made integer := 0;
begin
  for i in 0..least(greatest(months, 0), 24) loop
    v_from := date_trunc('month', (clock_timestamp() at time zone 'UTC') + make_interval(months => i)) at time zone 'UTC';
    v_name := 'events_' || to_char(v_from at time zone 'UTC', 'YYYY_MM');
    v_until := date_trunc('month', (v_from at time zone 'UTC') + interval '1 month') at time zone 'UTC';
    -- Events that the default partition caught already stay there: a partition cannot be made over them.
    continue when to_regclass('audit.' || v_name) is not null
      or exists (select from audit.events_default e where e.occurred_at >= v_from and e.occurred_at < v_until);
    execute format('create table audit.%I partition of audit.events for values from (%L) to (%L)',
      v_name, v_from, v_until);
    execute format('alter table audit.%I enable row level security, force row level security', v_name);
    execute format('alter table audit.%I enable always trigger _200_refuse_change', v_name);
    -- Triggers on truncate are not inherited.
    execute format('create trigger _210_refuse_truncate before truncate on audit.%I for each statement execute function audit_private.refuse_change()', v_name);
    execute format('alter table audit.%I enable always trigger _210_refuse_truncate', v_name);
    v_made := v_made + 1;
  end loop;
  return v_made;
end $function$
comment 'Makes the monthly partitions of this month and the given number of months ahead; returns how many were missing.'

-- function audit_private.refuse_change()
owner safetypin_owner
CREATE OR REPLACE FUNCTION audit_private.refuse_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  raise exception 'audit events are never changed' using errcode = 'AUDAP';
end $function$
comment 'Trigger: refuses update, delete and truncate of events, for the owner too.'

-- function identity.clean_up(batch integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity.clean_up(batch integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now constant timestamptz := clock_timestamp();
  v_batch constant integer := least(greatest(batch, 1), 10000);
  -- A registration outlives each token that can complete it, and the tries to send them.
  v_registered constant timestamptz := v_now - make_interval(secs => 2 * platform.limit_value('token.verification_seconds'));
  v_mailed constant timestamptz := v_now - make_interval(secs => platform.limit_value('keep.mail_seconds'));
  v_count integer;
  v_total integer := 0;
begin
  if request.task() is distinct from 'identity__clean_up' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  delete from identity_private.attempts a
    using (select o.id from identity_private.attempts o
           where o.created_at < v_now - make_interval(secs => platform.limit_value('keep.attempt_seconds'))
           limit v_batch for update skip locked) old
    where a.id = old.id;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  delete from identity_private.lockouts l
    using (select o.key from identity_private.lockouts o
           where o.last_at < v_now - make_interval(secs =>
               platform.limit_value('attempt.forget_seconds') + platform.limit_value('attempt.lock_maximum_seconds'))
           limit v_batch for update skip locked) old
    where l.key = old.key;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  -- From the leaves to the root, one row at a time: a cascade would wait for rows that are in use.
  delete from identity_private.tokens t
    using (select o.hash from identity_private.tokens o
           left join identity_private.registrations r on r.id = o.registration_id
           where least(o.consumed_at, o.expires_at) < v_now - make_interval(secs => platform.limit_value('keep.token_seconds'))
             or r.created_at < v_registered
           limit v_batch for update of o skip locked) old
    where t.hash = old.hash;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  delete from identity_private.mails m
    using (select o.id from identity_private.mails o
           left join identity_private.registrations r on r.id = o.registration_id
           where (o.sent_at < v_mailed
               -- Nobody sends it any more: its job was given up, and dropped.
               or o.created_at < v_mailed - make_interval(secs => platform.limit_value('keep.failed_job_seconds'))
               or r.created_at < v_registered)
             and not exists (select from identity_private.tokens t where t.mail_id = o.id)
           limit v_batch for update of o skip locked) old
    where m.id = old.id;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  with gone as (
    delete from identity_private.registrations r
      using (select o.id from identity_private.registrations o
             where o.created_at < v_registered
               and not exists (select from identity_private.mails m where m.registration_id = o.id)
               and not exists (select from identity_private.tokens t where t.registration_id = o.id)
             limit v_batch for update skip locked) old
      where r.id = old.id
      returning r.id)
  select count(keyring_private.destroy_data_key(g.id)) into v_count from gone g;
  return v_total + v_count;
end $function$
comment 'Task identity__clean_up: removes a batch of attempts, lockouts, tokens, mails and registrations (with their keys) that are over; returns how many. DENYD outside it.'

-- function identity.compose_mail(id uuid, OUT recipient text, OUT kind text, OUT locale text, OUT variables jsonb)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity.compose_mail(id uuid, OUT recipient text, OUT kind text, OUT locale text, OUT variables jsonb)
 RETURNS SETOF record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Tokens are made here, at the moment of sending, and given to nobody but the mail: no secret waits in a job, an outbox
-- or a log. A mail that is tried again carries a new token beside the old one.
declare
  v_none constant uuid := platform.no_organization();
  v_mail identity_private.mails;
  v_registration identity_private.registrations;
  v_email identity_private.emails;
  v_expires_at timestamptz;
  v_token bytea;
  v_code text;
  v_hash bytea;
  v_address bytea;
begin
  if request.task() is distinct from 'mail__send' or request.job_value('id') is distinct from compose_mail.id then
    raise exception 'only the job of a mail may do this' using errcode = 'DENYD';
  end if;
  select m.* into v_mail from identity_private.mails m where m.id = compose_mail.id and m.sent_at is null;
  if not found then
    return;
  end if;
  -- Where the address is known no registration waits for it: then its owner is told.
  kind := case v_mail.kind when 'registration' then 'already_registered' else v_mail.kind end;
  variables := '{}';

  if v_mail.registration_id is not null then
    select r.* into v_registration
      from identity_private.registrations r
      where r.id = v_mail.registration_id and r.completed_at is null;
    if not found then
      return;
    end if;
    recipient := keyring_private.open('identity.registrations.email', v_none, v_registration.id, v_registration.email);
    locale := v_registration.locale;
    -- Somebody else's request for an address that has an account: its owner is told, and gets no token.
    kind := case when exists (select from identity_private.emails e where e.lookup = v_registration.lookup)
      then 'already_registered' else 'verification' end;
    variables := jsonb_build_object('name', keyring_private.open('identity.registrations.display_name', v_none,
      v_registration.id, v_registration.display_name));
  elsif v_mail.invitation_id is not null then
    select i.recipient, i.locale, jsonb_build_object('organization', i.organization), i.expires_at
      into recipient, locale, variables, v_expires_at
      from access_private.invitation_mail(v_mail.organization_id, v_mail.invitation_id) i;
    if recipient is null then
      -- Revoked, accepted or over by now.
      update identity_private.mails m set sent_at = clock_timestamp() where m.id = v_mail.id;
      return;
    end if;
  else
    select e.* into v_email
      from identity_private.emails e
      join identity.people p on p.id = e.person_id
      where (e.lookup = v_mail.lookup or e.person_id = v_mail.person_id and e.is_primary) and p.status = 'active';
    if not found then
      -- Nobody's address: nothing is sent, and nobody outside learns it.
      update identity_private.mails m set sent_at = clock_timestamp() where m.id = v_mail.id;
      return;
    end if;
    recipient := keyring_private.open('identity.emails.address', v_none, v_email.id, v_email.address);
    select p.locale, jsonb_build_object('name', keyring_private.open('identity.people.display_name', v_none, p.id, f.display_name))
      into locale, variables
      from identity.people p
      join identity_private.profiles f on f.person_id = p.id
      where p.id = v_email.person_id;
  end if;

  -- One mailbox is not flooded through us, whoever asks. What was left out does not count: else whoever keeps asking
  -- would keep every mail from its owner.
  v_address := coalesce(v_registration.lookup, v_mail.lookup);
  perform identity_private.hold_address(v_address);
  if (select count(*)
      from (select m.id, m.kind, m.composed_at from identity_private.mails m where m.lookup = v_address
            union all
            select m.id, m.kind, m.composed_at
              from identity_private.registrations r
              join identity_private.mails m on m.registration_id = r.id
              where r.lookup = v_address) m
      where m.kind = v_mail.kind and m.id <> v_mail.id
        and m.composed_at > clock_timestamp() - interval '1 hour') >= platform.limit_value('mail.per_address_per_hour') then
    update identity_private.mails m set sent_at = clock_timestamp() where m.id = v_mail.id;
    return;
  end if;
  update identity_private.mails m set composed_at = clock_timestamp() where m.id = v_mail.id;

  if kind in ('verification', 'password_reset', 'invitation', 'invitation_code') then
    v_token := extensions.gen_random_bytes(32);
    v_hash := sha256(v_token);
    v_code := lpad((('x' || encode(extensions.gen_random_bytes(6), 'hex'))::bit(48)::bigint % 1000000)::text, 6, '0');
    -- A token asked for anew voids those of earlier mails.
    update identity_private.tokens t set consumed_at = clock_timestamp()
      where (t.person_id = v_email.person_id or t.registration_id = v_registration.id
          or t.organization_id = v_mail.organization_id and t.invitation_id = v_mail.invitation_id
            and t.person_id is not distinct from v_mail.asked_by)
        and t.purpose = compose_mail.kind and t.mail_id <> v_mail.id and t.consumed_at is null;
    insert into identity_private.tokens (hash, purpose, mail_id, registration_id, person_id, organization_id, invitation_id,
        code_mac, code_expires_at, expires_at)
      values (v_hash, compose_mail.kind, v_mail.id, v_mail.registration_id, coalesce(v_email.person_id, v_mail.asked_by),
        v_mail.organization_id, v_mail.invitation_id,
        keyring_private.guess_mac(v_mail.id, convert_to(v_code, 'UTF8')),
        clock_timestamp() + make_interval(secs => platform.limit_value('token.code_seconds')),
        coalesce(v_expires_at, clock_timestamp() + make_interval(secs => platform.limit_value(
          case compose_mail.kind when 'verification' then 'token.verification_seconds' else 'token.reset_seconds' end))));
    -- Who asked for a code has the invitation's token already; that of this mail opens nothing.
    variables := variables
      || case when kind <> 'invitation_code' then jsonb_build_object(
        'token', translate(rtrim(encode(v_token, 'base64'), '='), '+/', '-_')) else '{}' end
      || case when kind <> 'invitation' then jsonb_build_object('code', v_code) else '{}' end;
  end if;
  return next;
end $function$
comment 'Task mail__send: what to write to whom, with fresh tokens; no row if there is nobody to write to or it was sent. DENYD outside the job of this very mail.'

-- function identity.mark_mail_sent(id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity.mark_mail_sent(id uuid)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if request.task() is distinct from 'mail__send' or request.job_value('id') is distinct from mark_mail_sent.id then
    raise exception 'only the job of a mail may do this' using errcode = 'DENYD';
  end if;
  update identity_private.mails m set sent_at = clock_timestamp() where m.id = mark_mail_sent.id and m.sent_at is null;
end $function$
comment 'Task mail__send: a mail server took the mail. DENYD outside the job of this very mail.'

-- function identity_private.ask_for_mail(kind text, lookup bytea, registration_id uuid, person_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.ask_for_mail(kind text, lookup bytea, registration_id uuid DEFAULT NULL::uuid, person_id uuid DEFAULT NULL::uuid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_id uuid;
begin
  insert into identity_private.mails (kind, lookup, registration_id, person_id)
    values (ask_for_mail.kind, ask_for_mail.lookup, ask_for_mail.registration_id, ask_for_mail.person_id)
    returning id into v_id;
  perform platform.enqueue('mail__send', json_build_object('id', v_id));
end $function$
comment 'Puts a mail into the outbox, with its job, in this transaction.'

-- function identity_private.check_new_password(scheme text, parameters jsonb, salt bytea, tag bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.check_new_password(scheme text, parameters jsonb, salt bytea, tag bytea)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if scheme is distinct from 'argon2id' or parameters is distinct from identity_private.new_password_parameters()
    or length(salt) is distinct from 16 or length(tag) is distinct from 32 then
    raise exception 'the password was not hashed as asked' using errcode = '22023';
  end if;
end $function$
comment '22023 unless a tag was made with the present cost.'

-- function identity_private.complete_registration(registration_id uuid, OUT person_id uuid, OUT organization_name text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.complete_registration(registration_id uuid, OUT person_id uuid, OUT organization_name text)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_none constant uuid := platform.no_organization();
  v_registration identity_private.registrations;
  v_email_id uuid := platform.uuid_v7();
begin
  update identity_private.registrations r set completed_at = clock_timestamp()
    where r.id = complete_registration.registration_id and r.completed_at is null
    returning r.* into v_registration;
  if not found or exists (select from identity_private.emails e where e.lookup = v_registration.lookup) then
    return;
  end if;
  person_id := platform.uuid_v7();
  insert into identity.people (id, locale) values (complete_registration.person_id, v_registration.locale);
  insert into identity_private.emails (id, person_id, address, lookup, verified_at)
    values (v_email_id, complete_registration.person_id,
      keyring_private.seal('identity.emails.address', v_none, v_email_id, complete_registration.person_id,
        keyring_private.open('identity.registrations.email', v_none, v_registration.id, v_registration.email)),
      v_registration.lookup, clock_timestamp());
  insert into identity_private.profiles (person_id, display_name)
    values (complete_registration.person_id,
      keyring_private.seal('identity.people.display_name', v_none, complete_registration.person_id, complete_registration.person_id,
        keyring_private.open('identity.registrations.display_name', v_none, v_registration.id, v_registration.display_name)));
  perform identity_private.set_password(complete_registration.person_id, v_registration.scheme, v_registration.parameters,
    v_registration.salt,
    keyring_private.open('identity.registrations.verifier', v_none, v_registration.id, v_registration.verifier));
  organization_name := keyring_private.open('identity.registrations.organization_name', v_none, v_registration.id,
    v_registration.organization_name);
  -- What was asked for under the same address is void now, and so is what others tried at it before it was proved. The
  -- registration's own key has done its work.
  update identity_private.tokens t set consumed_at = clock_timestamp()
    from identity_private.registrations r
    where t.registration_id = r.id and r.lookup = v_registration.lookup and t.consumed_at is null;
  perform identity_private.forgive(v_registration.lookup);
  perform keyring_private.destroy_data_key(v_registration.id);
end $function$
comment 'Makes the person of a registration whose address was just proved; person_id is null if the address has an account by now. The caller holds the address (hold_address), so that of two at once the second sees the account of the first.'

-- function identity_private.email_lookup(email text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.email_lookup(email text)
 RETURNS bytea
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- What is not an address is looked up as it was typed: it is nobody's, and takes the same work.
  select keyring_private.blind_index('identity.emails.address', platform.no_organization(),
    coalesce(identity_private.normalize_email(email), 'malformed ' || coalesce(email, '')))
$function$
comment 'Blind index of a typed address. KEYNO without an application key.'

-- function identity_private.forgive(account bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.forgive(account bytea)
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  update identity_private.lockouts l set failures = 0, locked_until = null where l.key = forgive.account
$function$
comment 'Forgets the failures of an account, after a success.'

-- function identity_private.hold_address(lookup bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.hold_address(lookup bytea)
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- A lock of the transaction, keyed by the address: there may be no row yet that could be locked instead.
  select pg_advisory_xact_lock(hashtextextended('safetypin address ' || encode(hold_address.lookup, 'hex'), 0))
$function$
comment 'Whoever proves an address, or writes to it, takes their turn until the end of the transaction.'

-- function identity_private.new_password_parameters()
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.new_password_parameters()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jsonb_build_object(
    'memory', platform.limit_value('password.memory'),
    'passes', platform.limit_value('password.passes'),
    'parallelism', platform.limit_value('password.parallelism'),
    'length', 32)
$function$
comment 'Present cost of Argon2id: memory in KiB, passes, parallelism, tag length in bytes.'

-- function identity_private.normalize_email(email text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.normalize_email(email text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- Looked at after composing, which makes a semicolon of U+037E. Case is folded in ASCII only and nothing else is, so
  -- that no two mailboxes become one; by the rules of "C", since with those of a language (Turkish: I to dotless i) a
  -- server would write to another mailbox than was typed, and another server would not find the account again. No
  -- backslash outside E'': what it means there is the caller's choice (standard_conforming_strings).
  select case
    when octet_length(t.address) <= 254
      and t.address ~ '^[^@]{1,64}@[^@]+[.][^@.]{2,}$' and t.address !~ '[.][.]|^[.]|[.]@|@[.]|@-'
      and t.address !~ E'[][\\\\"(),:;<>\u0001-\u0020\u007f-\u00a0\u00ad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]'
    then lower(t.address)
  end
  from (select case when octet_length(normalize_email.email) <= 2000
          then normalize(btrim(normalize_email.email), nfc) end collate "C" as address) t
$function$
comment 'The address in the form that is compared and written to; null if it is not one.'

-- function identity_private.password_reasons(facts jsonb)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.password_reasons(facts jsonb)
 RETURNS text[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- Facts that cannot be true of any text, or are missing, refuse. A code point has one to four bytes in UTF-8.
  select array_remove(array[
    case when f.characters >= 0 and f.characters = trunc(f.characters) and f.bytes = trunc(f.bytes)
           and f.bytes between f.characters and 4 * f.characters then null else 'PASSWORD_INVALID' end,
    case when f.characters < platform.limit_value('password.minimum_length') then 'PASSWORD_TOO_SHORT' end,
    case when f.bytes > platform.limit_value('password.maximum_bytes') then 'PASSWORD_TOO_LONG' end,
    case when facts -> 'common' is distinct from 'false' then 'PASSWORD_COMMON' end,
    case when facts -> 'context' is distinct from 'false' then 'PASSWORD_CONTEXT' end
  ], null)
  from (select
    case jsonb_typeof(facts -> 'characters') when 'number' then (facts ->> 'characters')::numeric end as characters,
    case jsonb_typeof(facts -> 'bytes') when 'number' then (facts ->> 'bytes')::numeric end as bytes) f
$function$
comment 'Why a password is refused, from facts about it: characters (code points), bytes, common (stands in the list), context (is the person''s or the organization''s name). Empty if it is good. SP 800-63B-4 section 3.1.1.2.'

-- function identity_private.reseal_addresses(batch integer, INOUT after uuid, OUT rows_done integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.reseal_addresses(batch integer, INOUT after uuid, OUT rows_done integer)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_after uuid := after;
begin
  with held as materialized (
      select x.id as id from identity_private.emails x
        where (v_after is null or x.id > v_after) and keyring.is_stale(x.address)
        order by x.id limit batch for no key update skip locked),
    done as (
      update identity_private.emails x
        set address = keyring_private.reseal('identity.emails.address', x.id, x.person_id, x.address)
        from held h where x.id = h.id)
    select count(*), max(h.id::text)::uuid into rows_done, after from held h;
  if after is null and exists (select from identity_private.emails x where keyring.is_stale(x.address)) then
    rows_done := null;
  end if;
end $function$
comment 'Seals a batch of addresses anew.'

-- function identity_private.reseal_names(batch integer, INOUT after uuid, OUT rows_done integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.reseal_names(batch integer, INOUT after uuid, OUT rows_done integer)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_after uuid := after;
begin
  with held as materialized (
      select x.person_id as id from identity_private.profiles x
        where (v_after is null or x.person_id > v_after) and keyring.is_stale(x.display_name)
        order by x.person_id limit batch for no key update skip locked),
    done as (
      update identity_private.profiles x
        set display_name = keyring_private.reseal('identity.people.display_name', x.person_id, x.person_id, x.display_name)
        from held h where x.person_id = h.id)
    select count(*), max(h.id::text)::uuid into rows_done, after from held h;
  if after is null and exists (select from identity_private.profiles x where keyring.is_stale(x.display_name)) then
    rows_done := null;
  end if;
end $function$
comment 'Seals a batch of display names anew.'

-- function identity_private.reseal_registrations(batch integer, INOUT after uuid, OUT rows_done integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.reseal_registrations(batch integer, INOUT after uuid, OUT rows_done integer)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_after uuid := after;
begin
  with held as materialized (
      select x.id as id from identity_private.registrations x
        where (v_after is null or x.id > v_after) and keyring.is_stale(x.email)
        order by x.id limit batch for no key update skip locked),
    done as (
      update identity_private.registrations x
        set email = keyring_private.reseal('identity.registrations.email', x.id, x.id, x.email),
          display_name = keyring_private.reseal('identity.registrations.display_name', x.id, x.id, x.display_name),
          organization_name = keyring_private.reseal('identity.registrations.organization_name', x.id, x.id, x.organization_name),
          verifier = keyring_private.reseal('identity.registrations.verifier', x.id, x.id, x.verifier)
        from held h where x.id = h.id)
    select count(*), max(h.id::text)::uuid into rows_done, after from held h;
  if after is null and exists (select from identity_private.registrations x where keyring.is_stale(x.email)) then
    rows_done := null;
  end if;
end $function$
comment 'Seals all of a batch of registrations anew.'

-- function identity_private.reseal_verifiers(batch integer, INOUT after uuid, OUT rows_done integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.reseal_verifiers(batch integer, INOUT after uuid, OUT rows_done integer)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_after uuid := after;
begin
  with held as materialized (
      select x.person_id as id from identity_private.passwords x
        where (v_after is null or x.person_id > v_after) and keyring.is_stale(x.verifier)
        order by x.person_id limit batch for no key update skip locked),
    done as (
      update identity_private.passwords x
        set verifier = keyring_private.reseal('identity.passwords.verifier', x.person_id, x.person_id, x.verifier)
        from held h where x.person_id = h.id)
    select count(*), max(h.id::text)::uuid into rows_done, after from held h;
  if after is null and exists (select from identity_private.passwords x where keyring.is_stale(x.verifier)) then
    rows_done := null;
  end if;
end $function$
comment 'Seals a batch of password verifiers anew.'

-- function identity_private.resolve_attempt(attempt uuid, door text, guess bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.resolve_attempt(attempt uuid, door text, guess bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- A guess of this very transaction could be rolled back after the answer, and with it the count. (pg_current_xact_id is
-- the top-level transaction's, so a savepoint does not help.)
declare
  v_attempt identity_private.attempts;
begin
  update identity_private.attempts a
    set resolved_at = clock_timestamp()
    where a.id = resolve_attempt.attempt and a.door = resolve_attempt.door and a.resolved_at is null
      and a.guess_mac = keyring_private.guess_mac(a.id, resolve_attempt.guess)
      -- Otherwise guesses could be counted, and forgotten, before what they guess at is made.
      and a.created_at > clock_timestamp() - make_interval(secs => platform.limit_value('attempt.answer_seconds'))
    returning a.* into v_attempt;
  if v_attempt.guess_transaction = pg_current_xact_id() then
    raise exception 'attempt is not committed' using errcode = 'GUESS';
  end if;
  return v_attempt.account;
end $function$
comment 'The account of a stored guess, once, and only in a later transaction (GUESS); null for any other guess.'

-- function identity_private.set_password(person_id uuid, scheme text, parameters jsonb, salt bytea, verifier text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.set_password(person_id uuid, scheme text, parameters jsonb, salt bytea, verifier text)
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  insert into identity_private.passwords (person_id, scheme, parameters, salt, verifier)
    values (set_password.person_id, set_password.scheme, set_password.parameters, set_password.salt,
      keyring_private.seal('identity.passwords.verifier', platform.no_organization(), set_password.person_id,
        set_password.person_id, set_password.verifier))
    on conflict on constraint passwords_pkey do update
      set scheme = excluded.scheme, parameters = excluded.parameters, salt = excluded.salt,
          verifier = excluded.verifier, changed_at = clock_timestamp()
$function$
comment 'Sets the password of a person from the verifier of its tag.'

-- function identity_private.start_attempt(door text, account bytea, OUT attempt uuid, OUT retry_after integer, OUT locked boolean)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.start_attempt(door text, account bytea, OUT attempt uuid, OUT retry_after integer, OUT locked boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Counts first, in one statement: whoever is counted may guess once. The attempt that reaches the limit still counts
-- as one; it locks what comes after it.
declare
  v_now timestamptz := clock_timestamp();
  v_failures integer;
begin
  insert into identity_private.lockouts as l (key, failures, last_at)
    values (start_attempt.account, 1, v_now)
    on conflict on constraint lockouts_pkey do update
      set failures = case
            when l.last_at < v_now - make_interval(secs => platform.limit_value('attempt.forget_seconds')) then 1
            else l.failures + 1 end,
          last_at = greatest(l.last_at, v_now),
          locked_until = case
            when l.last_at < v_now - make_interval(secs => platform.limit_value('attempt.forget_seconds')) then null
            when l.failures + 1 >= platform.limit_value('attempt.failures') then v_now + make_interval(secs => least(
              platform.limit_value('attempt.lock_maximum_seconds'),
              platform.limit_value('attempt.lock_seconds')
                * 2 ^ least(l.failures + 1 - platform.limit_value('attempt.failures'), 20))::double precision)
            else null end
      where l.locked_until is null or l.locked_until <= v_now
    returning l.failures, l.locked_until is not null into v_failures, start_attempt.locked;
  if v_failures is null then
    -- By the clock as it is now: this call may have waited for the one that locked.
    select greatest(1, ceil(extract(epoch from l.locked_until - clock_timestamp())))::integer
      into start_attempt.retry_after
      from identity_private.lockouts l
      where l.key = start_attempt.account;
    retry_after := coalesce(retry_after, 1);
    locked := false;
    return;
  end if;
  insert into identity_private.attempts (door, account) values (start_attempt.door, start_attempt.account)
    returning id into start_attempt.attempt;
end $function$
comment 'Counts an attempt on an account, over all doors, and gives its id; null with retry_after in whole seconds while the account is locked. locked: this attempt reached the limit.'

-- function identity_private.submit_attempt(attempt uuid, door text, guess bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.submit_attempt(attempt uuid, door text, guess bytea)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  update identity_private.attempts a
    set guess_mac = keyring_private.guess_mac(a.id, submit_attempt.guess), guess_transaction = pg_current_xact_id()
    where a.id = submit_attempt.attempt and a.door = submit_attempt.door and a.guess_mac is null and a.resolved_at is null
      and submit_attempt.guess is not null
      and a.created_at > clock_timestamp() - make_interval(secs => platform.limit_value('attempt.answer_seconds'));
  return found;
end $function$
comment 'Stores the one guess of a counted attempt; false if it has one already or took too long.'

-- function identity_private.valid_display_name(name text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.valid_display_name(name text)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- Neither control signs nor those that turn the direction of what stands around the name in a mail.
  select coalesce(length(btrim(name)) between 1 and platform.limit_value('person.name_length')
    and name collate "C" !~ E'[\u0001-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff]', false)
$function$
comment 'Whether a text can be the name of a person.'

-- function identity_private.verifier(tag bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION identity_private.verifier(tag bytea)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select encode(sha256(tag), 'hex') $function$
comment 'What is kept of a tag.'

-- function keyring.at_work(relation oid)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.at_work(relation oid)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return exists (
      select from keyring_private.works w
        join keyring_private.sealed_columns c on c.id = w.column_id
        where w.taken_by = pg_current_xact_id_if_assigned() and c.relation = at_work.relation)
    or request.job_value('subject') is not null;
end $function$
comment 'For policies of tables with sealed columns: whether this transaction is a batch of a work on that table, or of an erasure.'

-- function keyring.begin_work(column_id uuid, kind text, total bigint)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.begin_work(column_id uuid, kind text, total bigint)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- The check: who calls must be able to act as the table's owner.
declare
  v_column keyring_private.sealed_columns;
  v_work uuid;
begin
  select c.* into v_column from keyring_private.sealed_columns c where c.id = begin_work.column_id and c.relation is not null for update;
  if not found or not keyring_private.owns(v_column.relation) then
    raise exception 'only the owner of a table can have its columns worked on' using errcode = '42501';
  end if;
  if (kind, v_column.state) not in (('seal', 'sealing'), ('unseal', 'sealing'), ('unseal', 'sealed'), ('reindex', 'sealed'))
    or kind = 'reindex' and not v_column.indexed then
    raise exception 'the column is not in a state for this' using errcode = 'CNFLT';
  end if;
  -- Sealing that is not over yet is turned around.
  if kind = 'unseal' then
    update keyring_private.works w set finished_at = clock_timestamp() where w.column_id = v_column.id and w.finished_at is null;
    update keyring_private.sealed_columns c set state = 'unsealing' where c.id = v_column.id;
  end if;
  if kind = 'reindex' and (select count(*) from keyring_private.index_keys k where k.column_id = v_column.id) <> 1 then
    raise exception 'the column has no index key yet, or two' using errcode = 'CNFLT';
  end if;
  v_work := keyring_private.add_work(kind, v_column.id, total);
  if kind <> 'seal' then
    perform audit_private.append(case kind when 'unseal' then 'column.unseal' else 'key.rotate' end, relation => v_column.relation::regclass::text,
      details => jsonb_build_object('what', kind, 'column', v_column.id, 'class', v_column.class, 'work', v_work));
  end if;
  return v_work;
end $function$
comment 'Notes a work on the rows of a sealed column: seal, unseal or reindex. 42501 unless the caller owns the table, CNFLT while that column has another. keyring.seal_column() and its kin call it.'

-- function keyring.bind_application()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.bind_application()
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_root keyring_private.roots;
begin
  select r.* into v_root from keyring_private.roots r order by r.version desc limit 1 for no key update;
  if v_root.check_value is null then
    update keyring_private.roots r
      set check_value = keyring_private.root_check(keyring_private.key_encryption_key(r.version)),
          application_id = keyring_private.half_id(substr(keyring_private.application_halves(), 1, 32))
      where r.version = v_root.version;
  elsif not keyring_private.holds_roots() then
    return false;
  end if;
  -- Column keys are made with the first half that comes: each is wrapped under it.
  insert into keyring_private.index_keys (column_id, root_version, wrapped)
    select c.id, v_root.version,
           keyring_private.wrap(kek.key, extensions.gen_random_bytes(64), '\x03'::bytea || uuid_send(c.id))
    from keyring_private.sealed_columns c
      -- No variable: those become constants of the plan, which whoever calls can ask to see (debug_print_plan).
      cross join keyring_private.key_encryption_key(v_root.version) as kek (key)
    where not exists (select from keyring_private.index_keys k where k.column_id = c.id);
  return true;
end $function$
comment 'Says whether the application of this request holds the half that belongs to this database; while that is being replaced, both. The first application ever to ask is the one that does.'

-- function keyring.blind_index(column_id uuid, slot text, value text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.blind_index(column_id uuid, slot text, value text)
 RETURNS bytea
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Borrows from the keeper: the index key. The checks are those of opening: who may not read may not find. To find a row by
-- a guess is to read it, so that is recorded too.
declare
  v_asker record := keyring_private.may_open(blind_index.column_id);
  v_column keyring_private.sealed_columns := v_asker.opened;
  v_value text := value;
begin
  if v_column.id is null or not v_column.indexed or value is null then
    return null;
  end if;
  if v_column.class = 'sensitive' then
    perform keyring_private.demand_record();
    perform keyring_private.record_reading('value.find', v_column, array[null::uuid], array[null::uuid]);
  end if;
  if v_column.type <> 'text' then
    v_value := keyring_private.canonical(v_value, v_column.type);
  end if;
  v_value := keyring_private.lookup_form(v_value, v_column.lookup, v_column.type);
  return case when slot = 'b' and v_column.state = 'sealing' then keyring_private.plain_index(v_column.id, v_asker.organization_id, v_value)
    else keyring_private.index_value(v_column.id, slot, v_asker.organization_id, v_value, false, v_asker.credential_hash) end;
end $function$
comment 'The blind index of a value in the active organization, in slot a or b; null where the slot is not in use, and for who may not open the column.'

-- function keyring.clean_up(batch integer)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.clean_up(batch integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_count integer;
begin
  if request.task() is distinct from 'keyring__clean_up' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  -- Fetching a new one does this too. This is for an application that stopped asking: an envelope that was written down
  -- somewhere must not find its key.
  delete from keyring_private.transport_keys k
    using (select o.id from keyring_private.transport_keys o
           where o.created_at < clock_timestamp() - make_interval(secs => 2 * platform.limit_value('transport_key.seconds'))
           limit least(greatest(batch, 1), 10000) for update skip locked) old
    where k.id = old.id;
  get diagnostics v_count = row_count;
  return v_count;
end $function$
comment 'Task keyring__clean_up: removes a batch of transport keys whose life is over twice; returns how many. DENYD outside it.'

-- function keyring.compare_openings(batch integer)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.compare_openings(batch integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
declare
  v_check keyring_private.opening_checks;
  v_counter bigint;
  v_holders text[];
  v_held boolean;
  v_place text;
  v_ranges jsonb;
  v_jump jsonb;
  v_missing bigint;
  v_judged integer;
begin
  if request.task() is distinct from 'keyring__compare_openings' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  -- Rows are looked at after the locks: by a snapshot from before, what was settled in between would be missing.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'the comparison needs read committed' using errcode = '22023';
  end if;
  select c.* into v_check from keyring_private.opening_checks c for update skip locked;
  if not found then
    return 0;
  end if;
  select format('%s/%s', s.system_identifier, d.oid) into v_place
    from pg_control_system() s cross join pg_database d where d.datname = current_database();
  select case when s.is_called then s.last_value else 0 end into v_counter from keyring_private.opening_numbers s;
  if not exists (select from keyring_private.opening_marks m where m.place = v_place) then
    delete from keyring_private.opening_marks;
    insert into keyring_private.opening_marks (place) values (v_place);
    if v_check.judged_at is not null then
      -- The jump is somewhere between what was judged and the counter: looked at as one.
      v_check.has_jump := true;
      v_check.boundary := null;
    end if;
  end if;
  select coalesce(array_agg(distinct l.virtualtransaction), '{}') into v_holders
    from pg_locks l
    where l.relation = 'keyring_private.openings'::regclass and l.mode = 'RowExclusiveLock'
      and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and l.pid is distinct from pg_backend_pid();
  if v_check.boundary is null then
    v_check.judged_to := least(v_check.judged_to, v_counter);
    v_check.boundary := case when v_check.has_jump then v_counter
      else least(v_counter, v_check.judged_to + least(greatest(batch, 1), 100000)) end;
    v_check.bounded_at := clock_timestamp();
    v_check.holders := v_holders;
  end if;
  v_held := v_holders && v_check.holders;
  if v_held and v_check.bounded_at > clock_timestamp() - make_interval(secs => platform.limit_value('opening.held_seconds')) then
    update keyring_private.opening_checks c
      set judged_to = v_check.judged_to, boundary = v_check.boundary, bounded_at = v_check.bounded_at, holders = v_check.holders,
          has_jump = v_check.has_jump;
    return 0;
  end if;

  with compared as (
    delete from keyring_private.openings o where o.number <= v_check.boundary returning o.number, o.opened_at
  ), ends as (
    select c.number, c.opened_at from compared c where c.number > v_check.judged_to
    union all select v_check.judged_to, v_check.judged_at
    union all select v_check.boundary + 1, null
  ), gaps as (
    select lag(e.number) over o + 1 as first, e.number - 1 as last, lag(e.opened_at) over o as after, e.opened_at as before
      from ends e window o as (order by e.number)
  ), jump as (
    -- A crash skips no more numbers than are logged ahead, all in a row.
    select g.first from gaps g
      where v_check.has_jump and g.last - g.first between 0 and 31
      order by g.last - g.first desc, g.first desc limit 1
  ), told as (
    select g.last - g.first + 1 as count, j.first is not null as is_jump, row_number() over (order by g.first) as position,
        jsonb_build_object('first', g.first, 'last', g.last, 'after', g.after, 'before', coalesce(g.before, v_check.bounded_at)) as said
      from gaps g left join jump j on j.first = g.first
      where g.last >= g.first)
  select jsonb_agg(t.said order by t.position) filter (where not t.is_jump and t.position <= 100),
      jsonb_agg(t.said) filter (where t.is_jump), sum(t.count) filter (where not t.is_jump)
    into v_ranges, v_jump, v_missing
    from told t;
  if v_jump is not null then
    perform audit_private.append('value.skip', details => jsonb_build_object('because', 'crash', 'numbers', v_jump));
  end if;
  if v_missing > 0 then
    perform audit_private.append('value.mismatch', details => jsonb_build_object('count', v_missing, 'numbers', v_ranges,
      'because', case when v_held then 'held' else 'unrecorded' end, 'from', v_check.judged_to + 1, 'to', v_check.boundary));
  end if;
  v_judged := v_check.boundary - v_check.judged_to;
  update keyring_private.opening_checks c
    set judged_to = v_check.boundary, judged_at = clock_timestamp(), boundary = null, bounded_at = null, holders = '{}', has_jump = false;
  return v_judged;
end $function$
comment 'Task keyring__compare_openings: compares a batch of numbers that were taken for readings of sensitive columns with those that are recorded; returns how many. What is missing is an event value.mismatch, once; what a crash skipped is value.skip. Waits for transactions that are still reading, at most opening.held_seconds. DENYD outside it.'

-- function keyring.count_rows(relation regclass, condition text, most bigint)
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.count_rows(relation regclass, condition text, most bigint DEFAULT NULL::bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'off'
AS $function$
declare
  v_force boolean := (select c.relforcerowsecurity from pg_class c where c.oid = count_rows.relation);
  v_count bigint;
begin
  -- The owner sees all rows for this one question, and nobody else sees the table meanwhile.
  if v_force then
    execute format('alter table %s no force row level security', relation);
  end if;
  execute format('select count(*) from (select from %s where %s limit %L) r', relation, condition, most) into v_count;
  if v_force then
    execute format('alter table %s force row level security', relation);
  end if;
  return v_count;
end $function$
comment 'For the owner of a table that is locked: how many rows it has for which something is true, policies aside. For keyring.finish() and its kin.'

-- function keyring.destroy_keys(subject uuid)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.destroy_keys(subject uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows from the keeper: deleting keys. The check: a job that was made with this subject.
declare
  v_had_keys boolean;
begin
  if destroy_keys.subject is null or request.job_value('subject') is distinct from destroy_keys.subject then
    raise exception 'only a job with this subject may do this' using errcode = 'DENYD';
  end if;
  v_had_keys := keyring_private.destroy_data_key(destroy_keys.subject);
  perform audit_private.append('subject.erase', details => jsonb_build_object('subject', destroy_keys.subject));
  return v_had_keys;
end $function$
comment 'Deletes all keys of the subject of this job; whether there were any. keyring.erase() calls it. DENYD outside such a job.'

-- function keyring.door(column_id uuid, relation oid, OUT door text, OUT sealed text, OUT index_a text, OUT index_b text, OUT organization text, OUT row_id text, OUT row_keys text[], OUT subject text, OUT required boolean, OUT keep_on_null boolean, OUT state text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.door(column_id uuid, relation oid, OUT door text, OUT sealed text, OUT index_a text, OUT index_b text, OUT organization text, OUT row_id text, OUT row_keys text[], OUT subject text, OUT required boolean, OUT keep_on_null boolean, OUT state text)
 RETURNS record
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- The view keyring_private.doors for one column, twice for each row that is written: so without its aggregates.
declare
  v_relation oid;
  v_names text[];
  v_parts text[];
  v_part text;
begin
  select c.relation, c.required, c.keep_on_null, c.state,
      -- PostgreSQL writes an argument's end as a backslash and three zeros.
      string_to_array(encode(t.tgargs, 'escape'), chr(92) || '000'),
      array(select a.attname::text
        from unnest(t.tgattr::smallint[]) with ordinality as u (number, position)
        join pg_attribute a on a.attrelid = t.tgrelid and a.attnum = u.number
        order by u.position)
    into v_relation, door.required, door.keep_on_null, door.state, v_parts, v_names
    from keyring_private.sealed_columns c
    join pg_trigger t on t.tgrelid = c.relation and t.tgname = '~seal_' || c.id
    where c.id = door.column_id;
  if v_relation is distinct from door.relation
    and (v_relation is null or not exists (select from pg_partition_ancestors(door.relation) a where a = v_relation)) then
    raise exception 'this trigger belongs to another table' using errcode = 'KEYFG';
  end if;
  for i in 1..cardinality(v_names) loop
    foreach v_part in array string_to_array(v_parts[i + 1], ' ') loop
      case v_part
        when 'door' then door := v_names[i];
        when 'sealed' then sealed := v_names[i];
        when 'index_a' then index_a := v_names[i];
        when 'index_b' then index_b := v_names[i];
        when 'organization' then organization := v_names[i];
        when 'id' then row_id := v_names[i];
        when 'key' then row_keys := row_keys || v_names[i];
        when 'subject' then subject := v_names[i];
      end case;
    end loop;
  end loop;
end $function$
comment 'For the triggers: which column of a table, or of a partition of it, plays which part for a sealed column. Tells names, no value. KEYFG for a table that was not sealed.'

-- function keyring.doors()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.doors()
 RETURNS TABLE(id uuid, relation regclass, door text, sealed text, index_a text, index_b text, organization text, row_id text, row_keys text[], subject text, class text, type text, permission text, write_permission text, required boolean, refusal text, state text)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
  select d.id, d.relation::regclass, d.door, d.sealed, d.index_a, d.index_b, d.organization, d.row_id, d.row_keys,
      d.subject, d.class, case when d.type like 'character%' then 'text' else d.type end, d.permission, d.write_permission, d.required, d.refusal, d.state
    from keyring_private.doors d
    order by d.relation::regclass::text, d.door
$function$
comment 'The sealed columns of other tables: names and rules, no value. For the API''s schema, access.protect() and operators.'

-- function keyring.end_batch(rows_done integer, outcome text, problem text, after jsonb)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.end_batch(rows_done integer, outcome text, problem text, after jsonb)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_id uuid;
begin
  select w.id into v_id from keyring_private.works w where w.taken_by = pg_current_xact_id_if_assigned() and w.finished_at is null;
  if v_id is null then
    raise exception 'this transaction has no work' using errcode = 'DENYD';
  end if;
  return keyring_private.note_work(v_id, rows_done, outcome, problem, after);
end $function$
comment 'For the worker: how its batch of the work that this transaction has taken went. DENYD in any other transaction.'

-- function keyring.erase(subject uuid)
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.erase(subject uuid)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Runs as the worker: rows of other tables are nothing for the keeper.
declare
  v_door record;
  v_count integer;
  v_sum integer := 0;
begin
  perform keyring.destroy_keys(subject);
  for v_door in select d.* from keyring.doors() d where d.index_a is not null and coalesce(d.subject, d.organization) is not null loop
    execute format('update %s t set %I = null, %I = null where t.%I = $1 and (t.%2$I is not null or t.%3$I is not null)',
      v_door.relation, v_door.index_a, v_door.index_b, coalesce(v_door.subject, v_door.organization)) using subject;
    get diagnostics v_count = row_count;
    v_sum := v_sum + v_count;
  end loop;
  return v_sum;
end $function$
comment 'Erases all that was sealed for a subject, in a job that was made with it: deletes its keys, and empties its blind indexes in every table; returns in how many rows. What somebody writes for it at that very moment keeps its index: whoever erases first sees to it that nobody writes. DENYD outside such a job.'

-- function keyring.finish(relation regclass, "column" name)
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.finish(relation regclass, "column" name)
 RETURNS SETOF text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET client_min_messages TO 'warning'
AS $function$
-- Invoker: only a table's owner can do what it does.
declare
  v_door record;
begin
  execute format('lock table %s in access exclusive mode', relation);
  select d.* into v_door from keyring.doors() d where d.relation = finish.relation and d.door = "column";
  if not found then
    raise exception '%.% is not sealed', relation, quote_ident("column") using errcode = 'TABLE';
  end if;
  if not keyring.is_over(v_door.id) then
    raise exception 'the job is not through with %.% yet', relation, quote_ident("column") using errcode = 'CNFLT',
      hint = 'safetypin keys shows how far it is.';
  end if;
  -- Asked for here, since an error of the check itself would show the row.
  if keyring.count_rows(relation, format('%I is not null', case v_door.state when 'unsealing' then v_door.sealed else v_door.door end), 1) > 0 then
    raise exception 'there are rows in % that the job did not see', relation using errcode = 'TABLE',
      hint = 'A policy hides them from safetypin_jobs, or a trigger of the table left them as they were.';
  end if;
  if v_door.state = 'unsealing' then
    return query select u from keyring.finish_unsealing(v_door.id) u;
    return;
  end if;
  perform keyring.set_check(relation, v_door.door, v_door.sealed, format('%I is null', v_door.door));
  return next format('%s.%I takes nothing in clear any more', relation, "column");
  return next format('pages that were written before still hold it until: vacuum full %s;', relation);
  return next 'and so do old backups, archives of WAL, and replicas that fell behind; what the audit trail recorded of before stays';
end $function$
comment 'Does what needs the owner of a table once the job is through its rows: after keyring.seal_column() on a table with rows the check that the column is empty, after keyring.unseal_column() all the rest of it. Returns what it did and what is left to do. CNFLT before the job is through.'

-- function keyring.finish_unsealing(column_id uuid)
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.finish_unsealing(column_id uuid)
 RETURNS SETOF text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET client_min_messages TO 'warning'
AS $function$
declare
  v_door record;
  v_table text;
  v_name text;
  v_default text;
  v_unique boolean;
begin
  select d.* into v_door from keyring.doors() d where d.id = column_id;
  v_table := v_door.relation::text;
  select pg_get_expr(f.adbin, f.adrelid) into v_default
    from pg_attrdef f join pg_attribute a on a.attrelid = f.adrelid and a.attnum = f.adnum
    where f.adrelid = v_door.relation and a.attname = v_door.door;
  v_unique := exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey::smallint[])
    where i.indrelid = v_door.relation and i.indisunique and a.attname = v_door.index_a);
  perform keyring.forget_column(column_id);
  for v_name in
    select p.oid::regprocedure::text from pg_proc p
      where p.pronamespace = (select c.relnamespace from pg_class c where c.oid = v_door.relation)
        and p.prosqlbody is not null and pg_get_function_sqlbody(p.oid) like '%' || column_id || '%'
  loop
    execute format('drop function %s', v_name);
    return next 'dropped: ' || v_name;
  end loop;
  for v_name in
    select t.tgname from pg_trigger t
      where t.tgrelid = v_door.relation and not t.tgisinternal and encode(t.tgargs, 'escape') like column_id || '%'
        and t.tgfoid in ('keyring.seal_door()'::regprocedure, 'keyring.guard_door()'::regprocedure, 'keyring.leave_door()'::regprocedure)
  loop
    execute format('drop trigger %I on %s', v_name, v_table);
  end loop;
  perform keyring.set_check(v_door.relation, v_door.door, v_door.sealed, null);
  execute format('alter table %s %s', v_table, (
    select string_agg(format('drop column %I', h), ', ') from unnest(array[v_door.sealed, v_door.index_a, v_door.index_b]) h where h is not null));
  execute format('alter table %s alter column %I set statistics -1', v_table, v_door.door);
  if v_door.type <> 'text' then
    execute format('alter table %s alter column %I drop default, alter column %2$I type %s using %2$I::%3$s', v_table, v_door.door, v_door.type);
    if v_default is not null then
      execute format('alter table %s alter column %I set default (%s)::%s', v_table, v_door.door, v_default, v_door.type);
    end if;
  end if;
  return next format('%s.%I is %s again', v_table, v_door.door, v_door.type);
  if v_unique then
    execute format('create unique index on %s (%s%I)', v_table,
      case when v_door.organization is not null then quote_ident(v_door.organization) || ', ' else '' end, v_door.door);
    return next 'its values are unique as they are written';
  end if;
  if v_door.required then
    if keyring.count_rows(v_door.relation, format('%I is null', v_door.door), 1) > 0 then
      return next 'values that were erased are null: it is not made not null again';
    else
      execute format('alter table %s alter column %I set not null', v_table, v_door.door);
    end if;
  end if;
  execute format('revoke select (%I), update (%1$I) on %s from safetypin_jobs', v_door.door, v_table);
  if not exists (select from keyring.doors() d where d.relation = v_door.relation) then
    execute format('revoke all on %s from safetypin_jobs', v_table);
    execute format('drop policy if exists safetypin_work on %s', v_table);
    execute format('drop policy if exists safetypin_work_update on %s', v_table);
    perform keyring.hide_from_audit(v_door.relation, false);
  end if;
end $function$
comment 'The owner''s last part of unsealing a column. keyring.finish() calls it.'

-- function keyring.forget_column(column_id uuid)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.forget_column(column_id uuid)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- The check: who calls must be able to act as the table's owner.
declare
  v_column keyring_private.sealed_columns;
begin
  select c.* into v_column from keyring_private.sealed_columns c where c.id = forget_column.column_id and c.relation is not null;
  if not found or not keyring_private.owns(v_column.relation) then
    raise exception 'only the owner of a table can unseal its columns' using errcode = '42501';
  end if;
  if v_column.state <> 'unsealing' or not keyring.is_over(v_column.id) then
    raise exception 'the column is not unsealed yet' using errcode = 'CNFLT';
  end if;
  delete from keyring_private.index_keys k where k.column_id = v_column.id;
  delete from keyring_private.sealed_columns c where c.id = v_column.id;
  perform audit_private.append('column.unseal', relation => v_column.relation::regclass::text,
    details => jsonb_build_object('what', 'finish', 'column', v_column.id));
end $function$
comment 'Takes a column that is unsealed out of the register, with its index keys. 42501 unless the caller owns the table, CNFLT before its work is over. keyring.unseal_column() calls it.'

-- function keyring.guard_door()
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.guard_door()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_door record;
  v_new jsonb := to_jsonb(new);
  v_old jsonb;
begin
  select d.* into v_door from keyring.door(tg_argv[0]::uuid, tg_relid) d;
  if tg_op = 'UPDATE' then
    v_old := to_jsonb(old);
  end if;
  -- Rows from before the column was sealed keep their text until the job comes to them.
  if v_door.state <> 'unsealing' and v_new ->> v_door.door is not null
    and (v_door.state = 'sealed' or v_old is null or v_new -> v_door.door is distinct from v_old -> v_door.door) then
    raise exception 'plain text was put into column "%" past its seal', v_door.door using errcode = 'KEYFG', column = v_door.door;
  end if;
  -- What values are found by comes with a value, and changes with it; jobs alone replace or empty it.
  if v_new -> v_door.sealed is not distinct from v_old -> v_door.sealed
      and (v_new -> v_door.index_a is distinct from v_old -> v_door.index_a
        or v_new -> v_door.index_b is distinct from v_old -> v_door.index_b)
      and v_door.state <> 'unsealing' and request.task() is null
    or v_new ->> v_door.sealed is null and v_new ->> v_door.door is null and (v_new ->> v_door.index_a is not null or v_new ->> v_door.index_b is not null) then
    raise exception 'a blind index was put past the seal of column "%"', v_door.door using errcode = 'KEYFG', column = v_door.door;
  end if;
  if v_new ->> v_door.sealed is not null
    and (v_old is null
      or v_new -> v_door.sealed is distinct from v_old -> v_door.sealed
      or v_new -> v_door.organization is distinct from v_old -> v_door.organization
      or v_new -> v_door.subject is distinct from v_old -> v_door.subject
      or v_new -> v_door.row_id is distinct from v_old -> v_door.row_id
      or exists (select from unnest(v_door.row_keys) k where v_new -> k is distinct from v_old -> k)) then
    if v_new -> v_door.sealed = v_old -> v_door.sealed then
      raise exception 'what a sealed value is bound to cannot change' using errcode = 'KEYIM', column = v_door.door,
        hint = 'Organization, key and subject of a row with sealed values stay. Write the value once more in the same statement.';
    end if;
    if keyring.is_stamped(tg_argv[0]::uuid,
        case when v_door.organization is null then '00000000-0000-0000-0000-000000000000'::uuid
          else (v_new ->> v_door.organization)::uuid end,
        keyring.row_of(v_door.row_id, v_door.row_keys, v_new, new), (v_new ->> v_door.subject)::uuid,
        (v_new ->> v_door.sealed)::bytea) is not true then
      raise exception 'the ciphertext in column "%" was not made here', v_door.sealed using errcode = 'KEYFG', column = v_door.sealed;
    end if;
  end if;
  return new;
end $function$
comment 'Trigger behind all others of a table with a sealed column: the door is empty, and the ciphertext was made by seal_door() for this very row (KEYFG); what it is bound to does not change (KEYIM). Argument: id of the column.'

-- function keyring.hide_from_audit(relation regclass, hide boolean)
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.hide_from_audit(relation regclass, hide boolean DEFAULT true)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_trigger record;
begin
  for v_trigger in
    select t.tgname, regexp_replace(pg_get_triggerdef(t.oid), '(, ''~doors'')?\)$', case when hide then ', ''~doors'')' else ')' end) as text
      from pg_trigger t
      where t.tgrelid = hide_from_audit.relation and not t.tgisinternal and t.tgfoid = (
          -- By its name: a cast would demand the schema's usage of whoever owns the table.
          select p.oid from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'audit' and p.proname = 'record_change')
  loop
    execute regexp_replace(v_trigger.text, '^CREATE TRIGGER', 'create or replace trigger');
    execute (select string_agg(format('alter table %s enable always trigger %I', t.tgrelid::regclass, t.tgname), '; ')
      from pg_trigger t where t.tgname = v_trigger.tgname
        and t.tgrelid in (select hide_from_audit.relation union select relid from pg_partition_tree(hide_from_audit.relation)));
  end loop;
end $function$
comment 'Tells the audit trigger of a table whether it has sealed columns: what passes through a door, and blind indexes, are not recorded.'

-- function keyring.index_values(column_id uuid, organizations uuid[], row_ids uuid[], sealed bytea[])
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.index_values(column_id uuid, organizations uuid[], row_ids uuid[], sealed bytea[])
 RETURNS TABLE(number integer, value bytea, problem text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows from the keeper: opening, and the index key; nothing opened leaves it. The check: this transaction has taken the
-- work that replaces the index key of this very column.
declare
  v_column keyring_private.sealed_columns;
  v_slot text;
begin
  if not keyring_private.at_work(index_values.column_id, '{reindex}') then
    raise exception 'only the work that replaces the index key of this column may do this' using errcode = 'DENYD';
  end if;
  select c.* into v_column from keyring_private.sealed_columns c where c.id = index_values.column_id;
  select w.position ->> 'slot' into v_slot
    from keyring_private.works w where w.taken_by = pg_current_xact_id_if_assigned() and w.column_id = v_column.id;
  return query
    select u.n::integer, case when o.problem is null then keyring_private.index_value(v_column.id, v_slot, u.organization,
        keyring_private.lookup_form(o.value, v_column.lookup, v_column.type), false) end, o.problem
      from unnest(organizations, row_ids, index_values.sealed) with ordinality u (organization, row_id, sealed, n)
      cross join lateral keyring_private.open_for_work(v_column.id, u.organization, u.row_id, u.sealed) o;
end $function$
comment 'For the worker: blind indexes of values under the new key; KEYER as a problem for what was erased. DENYD outside that work, KEYBD for what does not open.'

-- function keyring.is_over(column_id uuid)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.is_over(column_id uuid)
 RETURNS boolean
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
  select not exists (select from keyring_private.works w where w.column_id = is_over.column_id and w.finished_at is null)
$function$
comment 'Whether no work on a column is left.'

-- function keyring.is_stale(sealed bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.is_stale(sealed bytea)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return exists (select from keyring_private.data_keys k
    where k.id = encode(substr(sealed, case get_byte(sealed, 0) when 1 then 2 else 18 end, 16), 'hex')::uuid and k.retired_at is not null);
exception when others then
  -- Not one of ours: the guard tells.
  return false;
end $function$
comment 'Whether a value is sealed under a retired key. Tells nothing else of it.'

-- function keyring.is_stamped(column_id uuid, organization_id uuid, row_id uuid, subject uuid, sealed bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.is_stamped(column_id uuid, organization_id uuid, row_id uuid, subject uuid, sealed bytea)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
begin
  -- Both sides are hashed before they are compared: the time it takes says nothing about the right stamp.
  return length(sealed) >= 113 and get_byte(sealed, 0) = 2 and (
    select sha256(substr(sealed, 2, 16)) = sha256(keyring_private.stamp(
        keyring_private.door_data(column_id, organization_id, row_id, substr(sealed, 18, 16))
          || uuid_send(coalesce(subject, organization_id)) || substr(sealed, 18),
        k.inner_pad, k.outer_pad))
      from keyring_private.seal_keys k where k.purpose = 'value');
end $function$
comment 'For the triggers: whether this database sealed a value for this column, organization, row and subject. Opens nothing.'

-- function keyring.leave_door()
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.leave_door()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_mark text := 'safetypin.inserted_' || replace(tg_argv[0], '-', '');
  v_marks text := coalesce(current_setting(v_mark, true), '');
begin
  perform set_config(v_mark, case tg_when when 'BEFORE' then v_marks || '/' else regexp_replace(v_marks, '/[^/]*$', '') end, true);
  return null;
end $function$
comment 'Trigger before and after each statement: makes room for the mark of the row inserted last (see KEYEX), and takes it away again. Its list of columns and its arguments say which column plays which part.'

-- function keyring.let_work(relation regclass, reads name[], writes name[])
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.let_work(relation regclass, reads name[], writes name[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  execute format('grant usage on schema %I to safetypin_jobs', (
    select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = let_work.relation));
  execute format('grant select (%s), update (%s) on %s to safetypin_jobs',
    (select string_agg(distinct quote_ident(c), ', ') from unnest("reads") c where c is not null),
    (select string_agg(quote_ident(c), ', ') from unnest("writes") c), relation);
  -- They count once row security is on, now or later.
  if not exists (select from pg_policy p where p.polrelid = let_work.relation and p.polname = 'safetypin_work') then
    execute format('create policy safetypin_work on %s for select to safetypin_jobs using ((select keyring.at_work(%L::regclass)))', relation, relation);
    execute format('create policy safetypin_work_update on %s for update to safetypin_jobs using ((select keyring.at_work(%L::regclass))) with check ((select keyring.at_work(%2$L::regclass)))',
      relation, relation);
  end if;
  perform keyring.hide_from_audit(relation);
end $function$
comment 'For keyring.seal_column(): what the worker may do on a table with a sealed column, in batches of works on that table alone.'

-- function keyring.open_value(column_id uuid, row_id uuid, sealed bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.open_value(column_id uuid, row_id uuid, sealed bytea)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER COST 1000
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Borrows from the keeper: opening, with the checks of open_values(). A statement over a set of one costs more than the
-- same steps one after the other.
declare
  v_asker record;
  v_key bytea;
begin
  if sealed is null then
    return null;
  end if;
  v_asker := keyring_private.may_open(column_id);
  if (v_asker.opened).id is null then
    return null;
  end if;
  if (v_asker.opened).class = 'sensitive' then
    return keyring_private.open_recorded(column_id, row_id, sealed);
  end if;
  if length(sealed) < 113 or get_byte(sealed, 0) <> 2 or (length(sealed) - 81) % 16 <> 0 then
    raise exception 'the value cannot be opened' using errcode = 'KEYBD';
  end if;
  v_key := keyring_private.find_data_key(encode(substr(sealed, 18, 16), 'hex')::uuid, v_asker.credential_hash);
  if v_key is null then
    return null;
  end if;
  return convert_from(keyring_private.unpad(keyring_private.unwrap(v_key, substr(sealed, 34),
    keyring_private.door_data(column_id, v_asker.organization_id, row_id, substr(sealed, 18, 16)))), 'UTF8');
end $function$
comment 'Opens one value of a sealed column. Null for null, for what was erased, and for who may not (or DENYD, as the column says). KEYBD for what was not sealed for this row, KEYNO without an application key, CTXNO without a request.'

-- function keyring.open_values(column_id uuid, row_ids uuid[], sealed bytea[])
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.open_values(column_id uuid, row_ids uuid[], sealed bytea[])
 RETURNS TABLE(number integer, value text, problem text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
-- Borrows from the keeper: opening. The checks: the permission of the column, and the active organization, which is
-- part of what each value is bound to: a value of another one does not open.
declare
  v_asker record := keyring_private.may_open(open_values.column_id);
  v_column keyring_private.sealed_columns := v_asker.opened;
  v_credential bytea := v_asker.credential_hash;
  v_prefix bytea;
begin
  if v_column.id is null then
    return query select n::integer, null::text, case when s is not null then 'DENYD' end
      from unnest(open_values.sealed) with ordinality u (s, n);
    return;
  end if;
  if cardinality(array_remove(open_values.sealed, null)) = 0 then
    return query select n::integer, null::text, null::text from generate_subscripts(open_values.sealed, 1) n;
    return;
  end if;
  if v_column.class = 'sensitive' then
    perform keyring_private.demand_record();
  end if;
  v_prefix := '\x02'::bytea || uuid_send(v_column.id) || uuid_send(v_asker.organization_id);
  -- Set by set, not value by value: the key-encryption key once, each data key once. Here the construction of cipher.sql
  -- stands written out; a test holds the two against each other.
  return query
    with asked as materialized (
      select u.n::integer as n, u.r, u.s is null as is_null, w.s, encode(substr(w.s, 18, 16), 'hex')::uuid as key_id,
          v_prefix || uuid_send(u.r) || substr(w.s, 18, 16) as data
        from unnest(open_values.row_ids, open_values.sealed) with ordinality u (r, s, n)
        -- What cannot be a sealed value is taken apart nowhere below.
        cross join lateral (select case when length(u.s) >= 113 and get_byte(u.s, 0) = 2 and (length(u.s) - 81) % 16 = 0 then u.s end as s) w
    ), wrapped as materialized (
      select k.id, k.subject, k.root_version, k.wrapped, '\x02'::bytea || uuid_send(k.id) || uuid_send(k.subject) as data
        from keyring_private.data_keys k where k.id in (select a.key_id from asked a)
    ), roots as materialized (
      select r.version, substr(r.key, 1, 32) as mac_key, substr(r.key, 33, 32) as cipher_key
        from (
          select v.version, keyring_private.key_encryption_key(v.version, v_credential) as key
            from (select distinct w.root_version as version from wrapped w) v offset 0) r
    ), keys as materialized (
      select k.id, k.subject, substr(k.key, 1, 32) as mac_key, substr(k.key, 33, 32) as cipher_key
        from (
          -- 64 bytes of key, so 80 of ciphertext.
          select w.id, w.subject, case when length(w.wrapped) = 128
                and extensions.hmac(substr(extensions.hmac(
                    w.data || substr(w.wrapped, 1, 96) || int8send(length(w.data) * 8::bigint), r.mac_key, 'sha512'), 1, 32),
                  r.mac_key, 'sha512')
                = extensions.hmac(substr(w.wrapped, 97), r.mac_key, 'sha512')
              then extensions.decrypt_iv(substr(w.wrapped, 17, 80), r.cipher_key, substr(w.wrapped, 1, 16), 'aes-cbc/pad:none') end as key
            from wrapped w join roots r on r.version = w.root_version offset 0) k
    ), opened as materialized (
      select a.n, a.r, k.subject, a.is_null, k.id is null and a.key_id is not null as is_erased,
          case when extensions.hmac(substr(extensions.hmac(
                a.data || substr(a.s, 34, length(a.s) - 65) || int8send(length(a.data) * 8::bigint), k.mac_key, 'sha512'), 1, 32),
              k.mac_key, 'sha512')
            = extensions.hmac(substr(a.s, length(a.s) - 31), k.mac_key, 'sha512')
          then extensions.decrypt_iv(substr(a.s, 50, length(a.s) - 81), k.cipher_key, substr(a.s, 34, 16), 'aes-cbc/pad:none') end as padded
        from asked a left join keys k on k.id = a.key_id
    ), recorded as materialized (
      -- All is recorded before any of it is given out.
      select case when count(*) > 0 then
          keyring_private.record_reading('value.open', v_column, array_agg(o.r order by o.n), array_agg(o.subject order by o.n)) end
        from opened o where o.padded is not null and v_column.class = 'sensitive'
    )
    select o.n, convert_from(keyring_private.unpad(case
          -- A bucket is four bytes short of whole blocks. Padding is checked by hand, as in cipher.sql: one error for all.
          when substr(o.padded, length(o.padded) - 3) = decode('04040404', 'hex') then substr(o.padded, 1, length(o.padded) - 4)
          when o.padded is not null then ''::bytea
        end), 'UTF8'),
        case when o.is_null or o.padded is not null then null when o.is_erased then 'KEYER' else 'KEYBD' end
      from opened o cross join recorded order by o.n;
end $function$
comment 'Opens values of one sealed column, by row: the value, or why not (DENYD, KEYER for erased, KEYBD). DENYD, KEYNO and CTXNO as errors where nothing can be opened at all.'

-- function keyring.openings_state(OUT judged_at timestamp with time zone, OUT waiting bigint)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.openings_state(OUT judged_at timestamp with time zone, OUT waiting bigint)
 RETURNS record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
  select c.judged_at, greatest(case when s.is_called then s.last_value else 0 end - c.judged_to, 0)
    from keyring_private.opening_checks c cross join keyring_private.opening_numbers s
$function$
comment 'When readings of sensitive columns were compared last, and how many wait for it. For the owner.'

-- function keyring.part_name(base name, suffix text)
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.part_name(base name, suffix text)
 RETURNS name
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- PostgreSQL cuts names at 63 bytes, and two long ones into the same: here they differ by the hash of the whole.
  select case when octet_length(base || suffix) < 64 then base || suffix
    else (select left(base || suffix, n) from generate_series(54, 0, -1) n where octet_length(left(base || suffix, n)) < 55 limit 1)
      || '_' || substr(encode(sha256(convert_to(base || suffix, 'UTF8')), 'hex'), 1, 8) end::name
$function$
comment 'The name of what belongs to a sealed column, its end hashed where it would be too long.'

-- function keyring.plain_index(column_id uuid, organization_id uuid, value text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.plain_index(column_id uuid, organization_id uuid, value text)
 RETURNS bytea
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_column keyring_private.sealed_columns;
begin
  select c.* into v_column from keyring_private.sealed_columns c where c.id = plain_index.column_id and c.state = 'sealing';
  return keyring_private.plain_index(v_column.id, plain_index.organization_id,
    keyring_private.lookup_form(plain_index.value, v_column.lookup, v_column.type));
end $function$
comment 'For keyring.seal_column(): the index of a value that is still plain. Null unless the column is being sealed.'

-- function keyring.register_column(relation regclass, column_id uuid, class text, type text, tenant boolean, permission text, write_permission text, required boolean, indexed boolean, format text, lookup text, refusal text, keep_on_null boolean, state text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.register_column(relation regclass, column_id uuid, class text, type text, tenant boolean, permission text, write_permission text, required boolean, indexed boolean, format text, lookup text, refusal text, keep_on_null boolean, state text)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET standard_conforming_strings TO 'on'
AS $function$
-- The check: who calls must be able to act as the table's owner. Types are PostgreSQL's own: their code runs here.
declare
  v_id uuid := coalesce(column_id, platform.uuid_v7());
begin
  if not exists (select from pg_class c where c.oid = register_column.relation and pg_has_role(session_user, c.relowner, 'member')) then
    raise exception 'only the owner of a table can seal its columns' using errcode = '42501';
  end if;
  if type !~ '^(text|character( varying)?\([0-9]+\)|smallint|integer|bigint|numeric(\([0-9]+,-?[0-9]+\))?|real|double precision|boolean|date|time(\([0-6]\))? without time zone|timestamp(\([0-6]\))? with(out)? time zone|interval(\([0-6]\))?|uuid|json|jsonb|inet)$' then
    raise exception 'a column of type % cannot be sealed', type using errcode = 'TABLE',
      hint = 'Make it text, json, or another type of PostgreSQL itself that is neither array nor row; the option format takes a check.';
  end if;
  if column_id is null then
    insert into keyring_private.sealed_columns (id, relation, class, type, tenant, permission, write_permission, required, indexed, format, lookup, refusal, keep_on_null, state)
      values (v_id, register_column.relation, register_column.class, register_column.type, register_column.tenant, register_column.permission,
        register_column.write_permission, register_column.required, register_column.indexed, register_column.format, register_column.lookup,
        register_column.refusal, register_column.keep_on_null, register_column.state);
  else
    update keyring_private.sealed_columns c
      set class = register_column.class, permission = register_column.permission, write_permission = register_column.write_permission,
        required = register_column.required, format = register_column.format, refusal = register_column.refusal,
        keep_on_null = register_column.keep_on_null, state = register_column.state
      where c.id = register_column.column_id and c.relation = register_column.relation;
  end if;
  perform audit_private.append('column.seal', relation => register_column.relation::text, details => jsonb_build_object('column', v_id,
    'class', class, 'permission', permission, 'writePermission', write_permission, 'required', required, 'state', state));
  return v_id;
end $function$
comment 'Writes a sealed column into the register, or changes what it demands. 42501 unless the caller owns the table. keyring.seal_column() calls it.'

-- function keyring.reseal_values(column_id uuid, organizations uuid[], row_ids uuid[], subjects uuid[], sealed bytea[])
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.reseal_values(column_id uuid, organizations uuid[], row_ids uuid[], subjects uuid[], sealed bytea[])
 RETURNS TABLE(number integer, value bytea, problem text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows from the keeper: opening and sealing; nothing opened leaves it. The check: this transaction has taken the work
-- that seals this very column anew.
begin
  if not keyring_private.at_work(reseal_values.column_id, '{reseal}') then
    raise exception 'only the work that seals this column anew may do this' using errcode = 'DENYD';
  end if;
  return query
    select u.n::integer, case when o.problem is null then keyring_private.seal_for_door(
        reseal_values.column_id, u.organization, u.row_id, coalesce(u.subject, u.organization), o.value) end, o.problem
      from unnest(organizations, row_ids, subjects, reseal_values.sealed) with ordinality u (organization, row_id, subject, sealed, n)
      cross join lateral keyring_private.open_for_work(reseal_values.column_id, u.organization, u.row_id, u.sealed) o;
end $function$
comment 'For the worker: values of a column sealed anew, each under its subject''s current key; KEYER as a problem for what was erased. DENYD outside that work, KEYBD for what does not open.'

-- function keyring.rotate_application(next bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.rotate_application(next bytea)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
declare
  v_work uuid;
begin
  if length(next) is distinct from 8 or exists (select from keyring_private.roots r where r.application_id = next) then
    raise exception 'no id of another half' using errcode = '22023';
  end if;
  v_work := keyring_private.add_rewrap(jsonb_build_object('application', encode(next, 'hex')));
  -- Every process asks for another transport key now, and says which halves it holds.
  update keyring_private.transport_keys t set retired_at = clock_timestamp() where t.retired_at is null;
  perform audit_private.append('key.rotate', details => jsonb_build_object('what', 'application', 'work', v_work));
  return v_work;
end $function$
comment 'Replaces the application''s half by the next one, named by its id, see half_id(): once every process holds both, a new root bound to it, all keys under that, the old root deleted. Returns the work that does it. CNFLT while a rotation is under way, 22023 if it is the present one. For the owner.'

-- function keyring.rotate_data_keys(subject uuid, destroy boolean)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.rotate_data_keys(subject uuid DEFAULT NULL::uuid, destroy boolean DEFAULT false)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
declare
  v_work uuid;
  v_position jsonb := jsonb_strip_nulls(jsonb_build_object('subject', subject));
begin
  v_work := keyring_private.add_work('reseal', null,
    (select count(*) from keyring_private.data_keys k where k.retired_at is null and k.subject = coalesce(rotate_data_keys.subject, k.subject)),
    v_position || jsonb_build_object('phase', 'retire', 'destroy', destroy));
  perform keyring_private.add_work('reseal', c.id, null, v_position)
    from keyring_private.sealed_columns c
    where c.relation is not null and c.state <> 'unsealing' or c.reseals is not null;
  perform audit_private.append('key.rotate',
    details => v_position || jsonb_build_object('what', 'data', 'destroy', destroy, 'work', v_work));
  return v_work;
end $function$
comment 'Gives a subject, or all, a new data key, and seals their values anew. Old keys stay for what cannot be sealed anew (IP addresses and statements in the audit trail, backups), unless destroy says that they go at the end. Returns the work that does it. CNFLT while a rotation is under way. For the owner.'

-- function keyring.rotate_index_key(relation regclass, "column" name)
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.rotate_index_key(relation regclass, "column" name)
 RETURNS uuid
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_door record;
  v_count bigint;
begin
  select d.* into v_door from keyring.doors() d where d.relation = rotate_index_key.relation and d.door = "column";
  if not found or v_door.index_a is null then
    raise exception '%.% has no blind index', relation, quote_ident("column") using errcode = 'TABLE';
  end if;
  select c.reltuples into v_count from pg_class c where c.oid = relation;
  return keyring.begin_work(v_door.id, 'reindex', nullif(greatest(v_count, 0), 0) * 2);
end $function$
comment 'Replaces the key of a column''s blind index: another key in the other slot, both filled, then the old one emptied and its key destroyed. Values are found, and unique ones refused, all the time. Returns the work that does it. 42501 unless the caller owns the table, CNFLT while the column is worked on.'

-- function keyring.rotate_root()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.rotate_root()
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
declare
  v_work uuid := keyring_private.add_rewrap('{}');
begin
  perform audit_private.append('key.rotate', details => jsonb_build_object('what', 'root', 'work', v_work));
  return v_work;
end $function$
comment 'Replaces the database''s half: a new root, all keys under it, the old one deleted. Returns the work that does it. CNFLT while a rotation is under way. For the owner.'

-- function keyring.rotate_transport()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.rotate_transport()
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
declare
  v_count integer;
begin
  update keyring_private.transport_keys t set retired_at = clock_timestamp() where t.retired_at is null;
  get diagnostics v_count = row_count;
  perform audit_private.append('key.rotate', details => jsonb_build_object('what', 'transport'));
  return v_count;
end $function$
comment 'Takes back the transport keys: each process fetches another one with its next request, and reads its halves anew. What is on its way is good for its minute. Returns how many there were. For the owner.'

-- function keyring.row_key(VARIADIC parts bytea[])
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.row_key(VARIADIC parts bytea[])
 RETURNS uuid
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select encode(substr(sha256('safetypin row'::bytea || string_agg(int4send(coalesce(length(p), -1)) || coalesce(p, ''), ''::bytea order by n)), 1, 16), 'hex')::uuid
  from unnest(parts) with ordinality as u (p, n)
$function$
comment 'A uuid for a row that several columns name, from their binary forms (int8send, textsend …).'

-- function keyring.row_of(row_id text, row_keys text[], row_values jsonb, changed anyelement)
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.row_of(row_id text, row_keys text[], row_values jsonb, changed anyelement)
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_parts text;
  v_id uuid;
begin
  if row_id is not null then
    return (row_values ->> row_id)::uuid;
  end if;
  -- The binary form of a value is the same whatever a client has set; its text is not.
  select string_agg(format('%s(($1).%I)', t.typsend, k.name), ', ' order by k.position) into v_parts
    from unnest(row_keys) with ordinality as k (name, position)
    join pg_attribute a on a.attrelid = (select r.typrelid from pg_type r where r.oid = pg_typeof(changed)) and a.attname = k.name
    join pg_type t on t.oid = a.atttypid;
  execute format('select keyring.row_key(%s)', v_parts) using changed into v_id;
  return v_id;
end $function$
comment 'For the triggers: the uuid that stands for a row in associated data: its own, or one made of all its keys.'

-- function keyring.seal_column(relation regclass, "column" name, subject name, class text, permission text, searchable boolean, options jsonb)
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.seal_column(relation regclass, "column" name, subject name DEFAULT NULL::name, class text DEFAULT 'personal'::text, permission text DEFAULT NULL::text, searchable boolean DEFAULT false, options jsonb DEFAULT '{}'::jsonb)
 RETURNS SETOF text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET client_min_messages TO 'warning'
 SET standard_conforming_strings TO 'on'
 SET "DateStyle" TO 'ISO, YMD'
 SET "IntervalStyle" TO 'iso_8601'
 SET "TimeZone" TO 'UTC'
 SET extra_float_digits TO '1'
AS $function$
-- Invoker: only a table's owner can do what it does.
declare
  v_kind "char";
  v_name name;
  v_schema name;
  v_owner name;
  v_table text;
  v_attribute pg_attribute;
  v_role text;
  v_declared text;
  v_type text;
  v_force boolean;
  v_when text;
  v_user text;
  v_required boolean;
  v_unique boolean := coalesce((options ->> 'unique')::boolean, false);
  v_indexed boolean;
  v_organization name := coalesce(options ->> 'organization', 'organization_id');
  v_keys name[];
  v_id_column name;
  v_columns text;
  v_arguments text;
  v_id uuid;
  v_state text := 'sealed';
  v_has_rows boolean;
  v_is_wrong boolean;
  v_count bigint;
  v_reader text;
  v_row text;
  v_unknown text;
  v_hidden name[];
  v_said text[] := '{}';
begin
  select c.relkind, c.relname, n.nspname, r.rolname, c.relforcerowsecurity into v_kind, v_name, v_schema, v_owner, v_force
    from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles r on r.oid = c.relowner
    where c.oid = seal_column.relation;
  v_table := format('%I.%I', v_schema, v_name);
  if v_kind is null or v_kind not in ('r', 'p') or exists (select from pg_inherits i where i.inhrelid = seal_column.relation)
    or v_kind = 'r' and exists (select from pg_inherits i where i.inhparent = seal_column.relation)
    or exists (select from pg_class c where c.oid = seal_column.relation and (c.relpersistence = 't' or c.reloftype <> 0)) then
    raise exception '% is not a table of its own: it is a view, temporary, of a type, a part of another or has parts that inherit', v_table
      using errcode = 'TABLE', hint = 'Of a partitioned table, seal the whole.';
  end if;
  select string_agg(o, ', ') into v_unknown from jsonb_object_keys(options) o
    where o not in ('required', 'unique', 'format', 'lookup', 'refusal', 'write', 'keep_on_null', 'organization');
  if v_unknown is not null then
    raise exception 'no such option: %', v_unknown using errcode = '22023',
      hint = 'There are required, unique, format, lookup, refusal, write, keep_on_null and organization.';
  end if;
  -- What never leaves the database has no door.
  if class not in ('personal', 'sensitive') then
    raise exception 'no such class: %', class using errcode = '22023', hint = 'There are personal and sensitive.';
  end if;
  execute format('lock table %s in access exclusive mode', v_table);
  select a.* into v_attribute from pg_attribute a
    where a.attrelid = seal_column.relation and a.attname = "column" and a.attnum > 0 and not a.attisdropped;
  if not found then
    raise exception '% has no column %', v_table, quote_ident("column") using errcode = 'TABLE';
  end if;
  if exists (select from keyring.doors() d where d.relation = seal_column.relation and "column" in (d.door, d.sealed, d.index_a, d.index_b)) then
    raise exception '%.% is sealed already', v_table, quote_ident("column") using errcode = 'TABLE',
      hint = 'keyring.unseal_column() gives it back.';
  end if;
  if v_attribute.attgenerated <> '' or v_attribute.attidentity <> '' then
    raise exception '%.% is generated: nobody writes it', v_table, quote_ident("column") using errcode = 'TABLE';
  end if;

  select array_agg(a.attname order by k.position) into v_keys
    from pg_index i cross join unnest(i.indkey) with ordinality as k (attnum, position)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = seal_column.relation and i.indisprimary and k.position <= i.indnkeyatts;
  if v_keys is null then
    raise exception '% needs a primary key', v_table using errcode = 'TABLE';
  end if;
  if not exists (select from pg_attribute a where a.attrelid = seal_column.relation and a.attname = v_organization and a.atttypid = 'uuid'::regtype and a.attnotnull) then
    if options ? 'organization' and options -> 'organization' <> 'null' or v_organization = any (v_keys) then
      raise exception '% needs a column % of type uuid, not null', v_table, quote_ident(v_organization) using errcode = 'TABLE';
    end if;
    v_organization := null;
  end if;
  if subject is not null and not exists (select from pg_attribute a where a.attrelid = seal_column.relation and a.attname = subject and a.atttypid = 'uuid'::regtype) then
    raise exception '% needs a column % of type uuid', v_table, quote_ident(subject) using errcode = 'TABLE';
  end if;
  if "column" = any (v_keys || v_organization || subject) or exists (
      select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = seal_column.relation and d.objsubid = v_attribute.attnum
        and d.refclassid = 'pg_class'::regclass and d.refobjid = d.objid and d.refobjsubid = 0) then
    raise exception '%.% is a key: what rows are found, ordered or divided by cannot be sealed', v_table, quote_ident("column") using errcode = 'TABLE';
  end if;
  if exists (select from pg_attribute a where a.attrelid = seal_column.relation and a.attgenerated <> ''
      and a.attname = any (v_keys || v_organization || subject)) then
    raise exception 'what rows of % are named by is generated: it is not there yet when values are sealed', v_table using errcode = 'TABLE';
  end if;
  -- Whatever would go on working with plain text, or without a word with none.
  select pg_describe_object(d.classid, d.objid, 0), d.classid::regclass::text into v_unknown, v_user
    from pg_depend d
    where d.refclassid = 'pg_class'::regclass and d.refobjid = seal_column.relation and d.refobjsubid = v_attribute.attnum
      and not exists (select from pg_attrdef f where d.classid = 'pg_attrdef'::regclass and f.oid = d.objid
        and f.adrelid = d.refobjid and f.adnum = d.refobjsubid)
      and not exists (select from pg_class c where d.classid = 'pg_class'::regclass and c.oid = d.objid and c.relkind = 'S')
      and not exists (select from pg_constraint c where d.classid = 'pg_constraint'::regclass and c.oid = d.objid and c.contype = 'n')
    order by d.classid, d.objid limit 1;
  if found then
    raise exception '%.% is used by %', v_table, quote_ident("column"), v_unknown using errcode = 'TABLE', hint = case v_user
      when 'pg_class' then 'Drop it: searchable => true finds values by equality.'
      when 'pg_constraint' then 'Drop it: the options unique and format take the place of constraints.'
      else 'Drop it, seal, and make it again without the column, which is always empty; views read by its function.' end;
  end if;
  if exists (select from pg_rewrite r where r.ev_class = seal_column.relation) then
    raise exception '% has rules: they see plain text, and put it where they like', v_table using errcode = 'TABLE', hint = 'Use triggers.';
  end if;
  select t.tgname into v_unknown from pg_trigger t
    where t.tgrelid in (select seal_column.relation union select relid from pg_partition_tree(seal_column.relation))
      and not t.tgisinternal and t.tgtype & 3 = 3 and t.tgtype & 20 <> 0
      and (t.tgname < '!!seal_'::name or t.tgname >= '~~seal_'::name) and t.tgfoid not in ('keyring.seal_door()'::regprocedure, 'keyring.guard_door()'::regprocedure)
    limit 1;
  if found then
    raise exception 'trigger % of % would run before values are sealed, or after they are checked', quote_ident(v_unknown), v_table
      using errcode = 'TABLE', hint = 'Rename it: alter trigger … rename to.';
  end if;
  if permission is not null and not exists (select from access.permissions p where p.name = permission)
    or options ->> 'write' is not null and not exists (select from access.permissions p where p.name = options ->> 'write') then
    raise exception 'no such permission' using errcode = 'TABLE', hint = 'access.define_permission() makes one.';
  end if;
  -- A row is named by the one uuid of its key beside the organization, if that is all of the key, or if the uuid is made
  -- for the row (a default, no reference): the rest is then what the table is divided by, and a row may move. Else by all of
  -- its key, in binary: so equal keys must be equal in binary as well, which PostgreSQL knows of a type as btequalimage
  -- (operator class, function 4).
  select min(a.attname) into v_id_column from pg_attribute a
    where a.attrelid = seal_column.relation and a.attname = any (v_keys) and a.attname is distinct from v_organization and a.atttypid = 'uuid'::regtype
      and (cardinality(array_remove(v_keys, v_organization)) = 1
        or a.atthasdef and not exists (select from pg_constraint f where f.conrelid = a.attrelid and f.contype = 'f' and a.attnum = any (f.conkey)))
    having count(*) = 1;

  select min(a.attname) into v_unknown
    from pg_index i cross join unnest(i.indkey, i.indclass, i.indcollation) with ordinality as k (attnum, class, collation_id, position)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    join pg_opclass o on o.oid = k.class
    where i.indrelid = seal_column.relation and i.indisprimary and k.position <= i.indnkeyatts and a.attname is distinct from v_organization
      and (not exists (select from pg_amproc p where p.amprocfamily = o.opcfamily and p.amproclefttype = o.opcintype and p.amprocnum = 4)
        or exists (select from pg_collation c where c.oid = k.collation_id and not c.collisdeterministic)
        or a.atttypid = 'bpchar'::regtype and a.atttypmod = -1);
  if v_id_column is null and v_unknown is not null then
    raise exception 'key column % of %: equal values of its type may be written differently, so they cannot name a row', quote_ident(v_unknown), v_table
      using errcode = 'TABLE', hint = 'Give the table a key of type uuid, bigint or text.';
  end if;

  v_declared := format_type(v_attribute.atttypid, v_attribute.atttypmod);
  v_type := case when v_declared in ('character varying', 'bpchar') then 'text' else v_declared end;
  v_required := coalesce((options ->> 'required')::boolean, v_attribute.attnotnull);
  v_indexed := searchable or v_unique;
  if v_indexed and v_type ~ '^(json|interval)' then
    raise exception 'a column of type % can be neither searchable nor unique', v_type using errcode = 'TABLE';
  end if;
  if v_unique and exists (select from pg_partitioned_table p where p.partrelid = seal_column.relation and (p.partnatts > 1 or p.partattrs[0] is distinct from (
      select a.attnum from pg_attribute a where a.attrelid = seal_column.relation and a.attname = v_organization))) then
    raise exception 'a column of a partitioned table can be unique only where the organization alone divides it' using errcode = 'TABLE';
  end if;
  perform '' ~ (options ->> 'format');
  -- The owner sees all rows for this one question, and nobody else sees the table meanwhile.
  if v_force then
    execute format('alter table %s no force row level security', v_table);
  end if;
  perform set_config('row_security', 'off', true);
  execute format('select exists (select from %s where %I is not null)', v_table, "column") into v_has_rows;
  if v_has_rows then
    v_state := 'sealing';
    execute format('select count(*) from %s where %I is not null', v_table, "column") into v_count;
    -- What it would not take is refused at once, and not found by the job.
    execute format('select exists (select from %s where %I::text !~ $1)', v_table, "column") using options ->> 'format' into v_is_wrong;
    if v_is_wrong then
      raise exception 'there are values in %.% that do not have its form', v_table, quote_ident("column") using errcode = 'TABLE';
    end if;
  end if;
  if v_required then
    execute format('select exists (select from %s where %I is null)', v_table, "column") into v_is_wrong;
    if v_is_wrong then
      raise exception 'there are rows without a value in %.%, which is to be required', v_table, quote_ident("column") using errcode = 'TABLE';
    end if;
  end if;
  perform set_config('row_security', 'on', true);
  if v_force then
    execute format('alter table %s force row level security', v_table);
  end if;
  v_id := keyring.register_column(seal_column.relation, null, class, v_type, v_organization is not null, permission,
    case when options ? 'write' then options ->> 'write' else permission end, v_required, v_indexed, options ->> 'format',
    coalesce(options ->> 'lookup', 'exact'), coalesce(options ->> 'refusal', 'null'), coalesce((options ->> 'keep_on_null')::boolean, false), v_state);

  -- The columns beside it. `if not exists` is left out on purpose: a column of that name is somebody else's.
  v_hidden := array[keyring.part_name("column", '_sealed')]
    || case when v_indexed then array[keyring.part_name("column", '_index_a'), keyring.part_name("column", '_index_b')] else '{}' end;
  execute format('alter table %s %s', v_table, (select string_agg(format('add column %I bytea', h), ', ') from unnest(v_hidden) h));
  -- Whoever may read the column goes on reading rows as a whole.
  for v_role in
    select case when x.grantee = 0 then 'public' else x.grantee::regrole::text end from aclexplode(v_attribute.attacl) x where x.privilege_type = 'SELECT'
  loop
    execute format('grant select (%s) on %s to %s', (select string_agg(quote_ident(h), ', ') from unnest(v_hidden) h), v_table, v_role);
  end loop;
  -- A default is kept, as text. ANALYZE keeps samples of values: what it has goes with the old type, and it takes no more.
  execute format('alter table %s alter column %I type text using %I::text, alter column %I set statistics 0, alter column %I set statistics 0',
    v_table, "column", "column", "column", v_hidden[1]);
  if v_indexed and v_has_rows then
    -- Finding, and unique values, without a gap until the job is through: what is still plain, and what is sealed
    -- meanwhile, carry the same in slot b. By a rewrite, which runs no trigger.
    execute format('alter table %s alter column %I type bytea using keyring.plain_index(%L, %s, %I)', v_table, v_hidden[3], v_id,
      case when v_organization is null then '''00000000-0000-0000-0000-000000000000''' else quote_ident(v_organization) end, "column");
  end if;
  execute format('alter table %s alter column %I drop not null', v_table, "column");
  execute format('alter table %s add constraint %I check (%I is null%s)', v_table, keyring.part_name("column", '_is_sealed'), "column",
    case when v_has_rows then format(' or %I is null', v_hidden[1]) else '' end);
  execute format('comment on column %s.%I is %L', v_table, v_hidden[1], 'What was sealed of ' || "column" || '.');

  select string_agg(quote_ident(c.name), ', ' order by c.position), string_agg(quote_literal(c.parts), ', ' order by c.position)
    into v_columns, v_arguments
    from (
      select x.name, string_agg(x.part, ' ' order by x.position) as parts, min(x.position) as position
      from (
        select "column" as name, 'door' as part, 1 as position
        union all select v_hidden[1], 'sealed', 2
        union all select v_hidden[2], 'index_a', 3 where v_indexed
        union all select v_hidden[3], 'index_b', 4 where v_indexed
        union all select v_organization, 'organization', 5 where v_organization is not null
        union all select v_id_column, 'id', 6 where v_id_column is not null
        union all select k, 'key', 6 + n::integer from unnest(v_keys) with ordinality u (k, n)
          where v_id_column is null and k is distinct from v_organization
        union all select subject, 'subject', 99 where subject is not null) x
      group by x.name) c;
  -- Names sort the triggers: first, last, and behind. None holds the column's name, which may be long, and may change.
  execute format('create trigger %I before insert or update of %I on %s for each row execute function keyring.seal_door(%L)',
    '!!seal_' || v_id, "column", v_table, v_id);
  execute format('create trigger %I before insert on %s for each row when (%s) execute function keyring.guard_door(%L)',
    '~~seal_' || v_id || '_insert', v_table,
    (select string_agg(format('new.%I is not null', c), ' or ') from unnest("column" || v_hidden) c), v_id);
  execute format('create trigger %I before update on %s for each row when (new.%I is not null or (%s) is distinct from (%s)) execute function keyring.guard_door(%L)',
    '~~seal_' || v_id || '_update', v_table, "column",
    (select string_agg(format('new.%I', c), ', ') from unnest(v_hidden || v_keys || v_organization || subject) c where c is not null),
    (select string_agg(format('old.%I', c), ', ') from unnest(v_hidden || v_keys || v_organization || subject) c where c is not null), v_id);
  foreach v_when in array array['before', 'after'] loop
    execute format('create trigger %I %s insert or update of %s on %s for each statement execute function keyring.leave_door(%L, %s)',
      case v_when when 'before' then '!!enter_' else '~seal_' end || v_id, v_when, v_columns, v_table, v_id, v_arguments);
  end loop;
  -- Said of the table and of each part of it that is there.
  execute (
    select string_agg(format('alter table %s enable always trigger %I', t.tgrelid::regclass, t.tgname), '; ')
    from pg_trigger t where t.tgrelid in (select seal_column.relation union select relid from pg_partition_tree(seal_column.relation))
      and t.tgname in ('!!seal_' || v_id, '~~seal_' || v_id || '_insert', '~~seal_' || v_id || '_update', '~seal_' || v_id, '!!enter_' || v_id));

  -- The function to read by, and to find by.
  v_row := case when v_id_column is not null then format('p.%I', v_id_column) else format('keyring.row_key(%s)', (
    select string_agg(format('%s(p.%I)', t.typsend, a.attname), ', ' order by array_position(v_keys, a.attname))
    from pg_attribute a join pg_type t on t.oid = a.atttypid
    where a.attrelid = seal_column.relation and a.attname = any (v_keys) and a.attname is distinct from v_organization)) end;
  v_reader := format('%I.%I', v_schema, keyring.part_name(v_name, '_' || "column"));
  execute format('create function %s(p %s) returns %s language sql volatile return coalesce(keyring.open_value(%L::uuid, %s, p.%I), p.%I)::%s',
    v_reader, v_table, v_declared, v_id, v_row, v_hidden[1], "column", v_declared);
  execute format('comment on function %s(%s) is %L', v_reader, v_table,
    E'@behavior -*\nOpens ' || "column" || ': null for who may not, and for what was erased.');
  execute format('revoke execute on function %s(%s) from public; grant execute on function %s(%s) to safetypin_member, safetypin_jobs, safetypin_auditor',
    v_reader, v_table, v_reader, v_table);
  v_said := v_said || format('read with %s(%s)', v_reader, v_name);
  if v_indexed then
    for i in 2..3 loop
      begin
        execute format('create %sindex on %s (%s%I)', case when v_unique then 'unique ' else '' end, v_table,
          case when v_organization is not null then quote_ident(v_organization) || ', ' else '' end, v_hidden[i]);
      exception when unique_violation then
        raise exception 'there are equal values in %.%, which is to be unique', v_table, quote_ident("column") using errcode = 'TABLE';
      end;
    end loop;
  end if;
  if searchable then
    v_reader := format('%I.%I', v_schema, keyring.part_name(v_name, '_by_' || "column"));
    execute format($f$create function %s(value text) returns setof %s language sql stable rows 1
      begin atomic
        -- The row as a whole: naming its columns would forbid to change any of them.
        select p from %s p where %s(p.%I = (select keyring.blind_index(%L::uuid, 'a', value)) or p.%I = (select keyring.blind_index(%L::uuid, 'b', value)));
      end$f$, v_reader, v_table, v_table,
      case when v_organization is not null then format('p.%I = (select request.organization_id()) and ', v_organization) else '' end,
      v_hidden[2], v_id, v_hidden[3], v_id);
    execute format('comment on function %s(text) is %L', v_reader, 'Finds by ' || "column" || ': nothing for who may not read it.');
    execute format('revoke execute on function %s(text) from public; grant execute on function %s(text) to safetypin_member, safetypin_jobs', v_reader, v_reader);
    v_said := v_said || format('find with %s(value)', v_reader);
  end if;
  -- A table of somebody else, sealed by an administrator: the functions are that owner's too. What a foreign key changes
  -- is changed in the owner's name, who then runs the triggers.
  if v_owner <> current_user then
    execute format('alter function %I.%I(%s) owner to %I', v_schema, keyring.part_name(v_name, '_' || "column"), v_table, v_owner);
    if searchable then
      execute format('alter function %s(text) owner to %I', v_reader, v_owner);
    end if;
    if exists (select from pg_roles r where r.rolname = current_user and r.rolsuper) then
      execute format('grant usage on schema keyring to %I', v_owner);
      execute format('grant execute on function keyring.door(uuid, oid), keyring.is_stamped(uuid, uuid, uuid, uuid, bytea),
        keyring.seal_value(uuid, uuid, uuid, uuid, text), keyring.row_of(text, text[], jsonb, anyelement), keyring.row_key(bytea[]) to %I', v_owner);
    end if;
  end if;
  perform keyring.let_work(seal_column.relation, v_keys || v_organization || subject || "column" || v_hidden, "column" || v_hidden);
  if v_has_rows then
    perform keyring.begin_work(v_id, 'seal', v_count * case when v_indexed then 2 else 1 end);
    v_said := v_said || array[
      format('a job seals the %s values that are there: safetypin keys shows how far it is', v_count),
      format('then: select keyring.finish(%L, %L);', v_table, "column"),
      format('and then, since old pages hold plain text: vacuum full %s; so do old backups, archives of WAL and replicas that fell behind, and what the audit trail recorded of before', v_table)];
  end if;
  return query select unnest(v_said);
end $function$
comment 'Seals a column: it takes plain text from any client and is empty ever after; what was written stands sealed beside it, under the key of the row''s subject (a column with a uuid; none: the organization), and opens for who holds the permission. searchable: equality can be looked up. Options: required, unique, format (regular expression), lookup (exact, lower, alphanumeric), refusal (null, error), write (permission to write; default: the same), keep_on_null, organization. Returns what it did. TABLE names what the table lacks.'

-- function keyring.seal_door()
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.seal_door()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_door record;
  v_row jsonb := to_jsonb(new);
  v_value text;
  v_organization uuid;
  v_sealed record;
  v_new jsonb;
  -- A stack of marks, one for each statement under way: one inside of another must not take the other's away.
  v_mark text := 'safetypin.inserted_' || replace(tg_argv[0], '-', '');
  v_marks text := coalesce(current_setting(v_mark, true), '');
  v_now text := extract(epoch from statement_timestamp())::text;
begin
  select d.* into v_door from keyring.door(tg_argv[0]::uuid, tg_relid) d;
  v_value := v_row ->> v_door.door;
  if v_value is null then
    if tg_op = 'INSERT' then
      perform set_config(v_mark, regexp_replace(v_marks, '[^/]*$', ''), true);
      if v_door.required and v_row ->> v_door.sealed is null then
        raise exception 'null value in column "%" of relation "%" is refused', v_door.door, tg_table_name
          using errcode = '23502', schema = tg_table_schema, table = tg_table_name, column = v_door.door;
      end if;
      return new;
    end if;
    -- `excluded` has what this trigger left of the inserted row: taking that for an explicit null would lose the value.
    if substring(v_marks from '[^/]*$') = v_now then
      raise exception 'excluded.% is empty: the value is sealed already', v_door.door
        using errcode = 'KEYEX', table = tg_table_name, column = v_door.door,
        hint = 'Write the value once more, instead of excluded. A MERGE or a query with several parts that inserts values writes no null into others: use two statements.';
    end if;
    if v_door.keep_on_null then
      return new;
    end if;
    if v_door.required then
      raise exception 'null value in column "%" of relation "%" is refused', v_door.door, tg_table_name
        using errcode = '23502', schema = tg_table_schema, table = tg_table_name, column = v_door.door;
    end if;
  end if;
  v_organization := case when v_door.organization is null then '00000000-0000-0000-0000-000000000000'::uuid
    else (v_row ->> v_door.organization)::uuid end;
  select s.* into v_sealed
    from keyring.seal_value(tg_argv[0]::uuid, v_organization,
      keyring.row_of(v_door.row_id, v_door.row_keys, v_row, new), (v_row ->> v_door.subject)::uuid,
      v_value) s;
  -- Plain is null, except while the column is being unsealed.
  v_new := jsonb_build_object(v_door.sealed, v_sealed.sealed, v_door.door, v_sealed.plain);
  if v_door.index_a is not null then
    v_new := v_new || jsonb_build_object(v_door.index_a, v_sealed.index_a, v_door.index_b, v_sealed.index_b);
  end if;
  if tg_op = 'INSERT' and v_door.state <> 'unsealing' then
    perform set_config(v_mark, regexp_replace(v_marks, '[^/]*$', '') || v_now, true);
  end if;
  return jsonb_populate_record(new, v_new);
end $function$
comment 'Trigger of a sealed column: seals what came through the door and empties it; an explicit null in an update erases. Argument: id of the column. 23502 for null in a required one, KEYEX for excluded, and the errors of keyring.seal_value(). Never names a value.'

-- function keyring.seal_value(column_id uuid, organization_id uuid, row_id uuid, subject uuid, value text, OUT sealed bytea, OUT index_a bytea, OUT index_b bytea, OUT plain text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.seal_value(column_id uuid, organization_id uuid, row_id uuid, subject uuid, value text, OUT sealed bytea, OUT index_a bytea, OUT index_b bytea, OUT plain text)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Borrows from the keeper: sealing. What it gives can be stored by nobody but the triggers; the checks: the active
-- organization (or the job that goes through the rows), and the permission to write the column.
declare
  v_column keyring_private.sealed_columns;
  v_value text := value;
  v_standing record;
  v_credential bytea;
  v_form text;
begin
  select c.* into v_column from keyring_private.sealed_columns c where c.id = seal_value.column_id and c.relation is not null;
  if not found then
    raise exception 'no such sealed column' using errcode = '22023';
  end if;
  if pg_trigger_depth() = 0 then
    -- Called by hand it would answer what its blind index is to who may write a value and read none.
    raise exception 'values are sealed by triggers' using errcode = 'DENYD';
  end if;
  -- A work that goes through the rows of a table is asked for first: it does so for each of them.
  if v_column.state = 'sealed' or not keyring_private.at_work(seal_value.column_id) then
    v_standing := request_private.standing(v_column.write_permission);
    v_credential := v_standing.credential_hash;
    if organization_id is distinct from '00000000-0000-0000-0000-000000000000' and organization_id is distinct from v_standing.organization_id
        or v_column.write_permission is not null and not v_standing.may then
      if not keyring_private.at_work(seal_value.column_id) then
        if request.kind() is null then
          raise exception 'sealing needs a request that is open' using errcode = 'CTXNO';
        end if;
        raise exception 'this column may not be written' using errcode = 'DENYD';
      end if;
    end if;
  end if;
  if value is null then
    return;
  end if;
  if v_column.type <> 'text' then
    v_value := keyring_private.canonical(v_value, v_column.type);
  end if;
  if v_value !~ v_column.format then
    raise exception 'the value has not the form of its column' using errcode = '23514';
  end if;
  if v_column.state = 'unsealing' then
    plain := v_value;
  else
    sealed := keyring_private.seal_for_door(column_id, organization_id, row_id, coalesce(subject, organization_id), v_value,
      v_credential);
  end if;
  if v_column.indexed then
    v_form := keyring_private.lookup_form(v_value, v_column.lookup, v_column.type);
    index_a := keyring_private.index_value(column_id, 'a', organization_id, v_form, true, v_credential);
    index_b := case when v_column.state = 'sealing' then keyring_private.plain_index(column_id, organization_id, v_form)
      else keyring_private.index_value(column_id, 'b', organization_id, v_form, false, v_credential) end;
  end if;
end $function$
comment 'For the triggers: seals a value for a row of a sealed column, with its blind indexes; null for null. While the column is being unsealed, plain is the value as its type writes it. CTXNO, DENYD for who may not write it and outside of a trigger, 22023 and 23514 for what the column does not take, KEYNO without an application key. Never names a value.'

-- function keyring.set_check(relation regclass, door text, sealed text, condition text)
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.set_check(relation regclass, door text, sealed text, condition text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_name name;
begin
  for v_name in
    select c.conname from pg_constraint c
      where c.conrelid = set_check.relation and c.contype = 'c' and c.conkey <@ (
        select array_agg(a.attnum) from pg_attribute a where a.attrelid = set_check.relation and a.attname in (door, sealed))
        and pg_get_expr(c.conbin, c.conrelid) ~* ' is null'
  loop
    execute format('alter table %s drop constraint %I', relation, v_name);
  end loop;
  if condition is not null then
    execute format('alter table %s add constraint %I check (%s)', relation, keyring.part_name(door, '_is_sealed'), condition);
  end if;
end $function$
comment 'Puts another check on a door, or none.'

-- function keyring.take_work(batch integer, OUT id uuid, OUT kind text, OUT step text, OUT column_id uuid, OUT relation oid, OUT "position" jsonb, OUT answer integer)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.take_work(batch integer, OUT id uuid, OUT kind text, OUT step text, OUT column_id uuid, OUT relation oid, OUT "position" jsonb, OUT answer integer)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_batch integer := least(greatest(batch, 1), 10000);
  v_work keyring_private.works;
  v_column keyring_private.sealed_columns;
  v_done integer;
  v_problem text;
begin
  if request.task() is distinct from 'keyring__work' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  -- One in a transaction: what runs inside a batch, a trigger of a table's owner say, takes no other column's work.
  if exists (select from keyring_private.works w where w.taken_by = pg_current_xact_id_if_assigned()) then
    raise exception 'this transaction has a work already' using errcode = 'DENYD';
  end if;
  select w.* into v_work
    from keyring_private.works w
    where w.finished_at is null and w.run_at <= clock_timestamp()
    order by w.id
    limit 1 for update skip locked;
  if not found then
    answer := 0;
    return;
  end if;
  update keyring_private.works w set taken_by = pg_current_xact_id() where w.id = v_work.id;
  select c.* into v_column from keyring_private.sealed_columns c where c.id = v_work.column_id and c.relation is not null;
  if v_column.id is not null and not exists (select from pg_class c where c.oid = v_column.relation) then
    -- The table was dropped.
    answer := keyring_private.note_work(v_work.id, null, 'finished');
    return;
  end if;
  step := (keyring_private.steps(v_work.kind, v_column.indexed))[coalesce((v_work.position ->> 'step')::integer, 0) + 1];
  if v_column.id is not null and step in ('rows', 'fill', 'clear') then
    id := v_work.id;
    kind := v_work.kind;
    column_id := v_column.id;
    relation := v_column.relation;
    "position" := v_work.position;
    return;
  end if;
  begin
    if v_column.id is not null then
      answer := keyring_private.note_work(v_work.id, null,
        case when keyring_private.do_step(v_work, v_column, step) then 'over' else 'wait' end);
      return;
    end if;
    case v_work.kind
      when 'rewrap' then v_done := keyring_private.work_rewrap(v_work, v_batch);
      when 'reseal' then v_done := keyring_private.work_reseal(v_work, v_batch);
    end case;
  exception when others then
    -- The envelope of this job is of no use: the worker must hear of it, so that it makes another.
    if sqlstate = 'KEYNO' then
      raise;
    end if;
    v_problem := sqlstate;
  end;
  answer := keyring_private.note_work(v_work.id, v_done,
    case when v_done = 0 then 'finished' when v_done is null then 'wait' else 'more' end, v_problem);
end $function$
comment 'Takes the oldest unfinished work that nobody is at. One that is the keeper''s is done, one batch of it, and the answer is how many rows (0: there is no work); one on rows of another table is told to the worker, for keyring.work_rows(). DENYD outside the job keyring__work, and twice in a transaction.'

-- function keyring.transport_key(halves bytea[], OUT id uuid, OUT key bytea, OUT expires_at timestamp with time zone)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.transport_key(halves bytea[] DEFAULT '{}'::bytea[], OUT id uuid, OUT key bytea, OUT expires_at timestamp with time zone)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- The key is an answer, never a parameter: parameters are what logs print.
declare
  v_life interval := make_interval(secs => platform.limit_value('transport_key.seconds'));
begin
  -- One at a time, so that all processes of an application share one key. The lock ends with this transaction.
  perform pg_advisory_xact_lock(hashtextextended('safetypin transport key', 0));
  delete from keyring_private.transport_keys t where t.created_at < clock_timestamp() - 2 * v_life;
  select t.id, t.key, t.created_at + v_life into transport_key.id, transport_key.key, transport_key.expires_at
    from keyring_private.transport_keys t
    where t.created_at > clock_timestamp() - v_life * 0.9 and t.retired_at is null
    order by t.created_at desc
    limit 1;
  if not found then
    insert into keyring_private.transport_keys as t (key) values (extensions.gen_random_bytes(64))
      returning t.id, t.key, t.created_at + v_life into transport_key.id, transport_key.key, transport_key.expires_at;
  end if;
  -- While the application's half is being replaced, one process that does not hold the next one holds all of it up.
  update keyring_private.transport_keys t set behind_at = clock_timestamp()
    where t.id = transport_key.id and exists (
      select from keyring_private.works w
        where w.kind = 'rewrap' and w.finished_at is null
          and decode(w.position ->> 'application', 'hex') <> all (coalesce(transport_key.halves, '{}')));
end $function$
comment 'The key under which the application seals its half for a request (64 bytes, A256CBC-HS512), and when to fetch the next one. Takes the ids of the halves which that process holds, see half_id(). For the logins only.'

-- function keyring.transport_state(OUT created_at timestamp with time zone, OUT on_their_way bigint)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.transport_state(OUT created_at timestamp with time zone, OUT on_their_way bigint)
 RETURNS record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
  select max(t.created_at) filter (where t.retired_at is null),
         count(*) filter (where t.retired_at > clock_timestamp() - make_interval(secs => platform.limit_value('envelope.seconds')))
    from keyring_private.transport_keys t
$function$
comment 'When the transport key in use was made, null without one, and how many that were taken back still open what is on its way. For the owner.'

-- function keyring.tree()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.tree()
 RETURNS TABLE(root integer, application text, created_at timestamp with time zone, is_bound boolean, data_keys bigint, retired_keys bigint, index_keys bigint, oldest_key timestamp with time zone)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
  select r.version, encode(r.application_id, 'hex'), r.created_at, r.check_value is not null,
         d.current, d.retired, (select count(*) from keyring_private.index_keys i where i.root_version = r.version), d.oldest
    from keyring_private.roots r
    cross join lateral (
      select count(*) filter (where k.retired_at is null) as current, count(k.retired_at) as retired, min(k.created_at) as oldest
        from keyring_private.data_keys k where k.root_version = r.version) d
    order by r.version
$function$
comment 'The state of the key tree, root by root, without any key. For the owner.'

-- function keyring.unseal_column(relation regclass, "column" name, sensitive boolean)
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.unseal_column(relation regclass, "column" name, sensitive boolean DEFAULT false)
 RETURNS SETOF text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET client_min_messages TO 'warning'
AS $function$
-- Invoker: only a table's owner can do what it does.
declare
  v_door record;
  v_count bigint;
begin
  execute format('lock table %s in access exclusive mode', relation);
  select d.* into v_door from keyring.doors() d where d.relation = unseal_column.relation and d.door = "column";
  if not found then
    raise exception '%.% is not sealed', relation, quote_ident("column") using errcode = 'TABLE';
  end if;
  if v_door.state = 'unsealing' then
    return query select f from keyring.finish(relation, "column") f;
    return;
  end if;
  if v_door.class = 'sensitive' and not sensitive then
    raise exception '%.% is sensitive: unsealed, nobody records who reads it', relation, quote_ident("column") using errcode = 'TABLE',
      hint = 'If that is meant: keyring.unseal_column(…, sensitive => true).';
  end if;
  perform keyring.set_check(relation, v_door.door, v_door.sealed, format('%I is null or %I is null', v_door.door, v_door.sealed));
  v_count := keyring.count_rows(relation, format('%I is not null', v_door.sealed));
  perform keyring.begin_work(v_door.id, 'unseal', v_count);
  return next format('a job opens the %s values that are there: safetypin keys shows how far it is', v_count);
  return next format('then: select keyring.unseal_column(%L, %L);', relation, "column");
end $function$
comment 'Gives a sealed column back. The first call has a job open what is sealed, while everybody reads and writes; the second, once that is through, gives the column its type again and removes all that was beside it. Whoever may read the row reads the column then, from the first call on. TABLE for a sensitive one, unless that is said.'

-- function keyring.unseal_values(column_id uuid, organizations uuid[], row_ids uuid[], sealed bytea[])
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.unseal_values(column_id uuid, organizations uuid[], row_ids uuid[], sealed bytea[])
 RETURNS TABLE(number integer, value text, problem text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows from the keeper: opening. The check: this transaction has taken the work that unseals this very column.
begin
  if not keyring_private.at_work(unseal_values.column_id, '{unseal}') then
    raise exception 'only the work that unseals this column may do this' using errcode = 'DENYD';
  end if;
  return query
    select u.n::integer, o.value, o.problem
      from unnest(organizations, row_ids, unseal_values.sealed) with ordinality u (organization, row_id, sealed, n)
      cross join lateral keyring_private.open_for_work(unseal_values.column_id, u.organization, u.row_id, u.sealed) o;
end $function$
comment 'For the worker: values of a column that is being unsealed. DENYD outside that work, KEYBD for what does not open.'

-- function keyring.work(batch integer)
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.work(batch integer)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_work record;
  v_rows record;
  v_problem text;
begin
  select w.* into v_work from keyring.take_work(batch) w;
  if v_work.id is null then
    return v_work.answer;
  end if;
  begin
    -- Rows of a batch are locked until its end: some tenths of a second.
    select r.* into v_rows
      from keyring.work_rows(v_work.kind, v_work.step, v_work.column_id, v_work.relation, v_work."position", least(greatest(batch, 1), 250)) r;
  exception when others then
    -- The envelope of this job is of no use: the worker must hear of it, so that it makes another.
    if sqlstate = 'KEYNO' then
      raise;
    end if;
    v_problem := sqlstate;
  end;
  if v_problem is not null then
    return keyring.end_batch(null, 'more', v_problem, null);
  end if;
  return keyring.end_batch(v_rows.rows_done, v_rows.outcome, null, v_rows.after);
end $function$
comment 'Task keyring__work: does one batch of the oldest unfinished work that nobody is at; 0 when there is none. A batch that fails leaves its SQLSTATE and is tried again. DENYD outside its job. Runs as the worker: only what it asks of the keeper runs as that.'

-- function keyring.work_rows(kind text, step text, column_id uuid, relation oid, "position" jsonb, batch integer, OUT rows_done integer, OUT outcome text, OUT after jsonb)
owner safetypin_owner
CREATE OR REPLACE FUNCTION keyring.work_rows(kind text, step text, column_id uuid, relation oid, "position" jsonb, batch integer, OUT rows_done integer, OUT outcome text, OUT after jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Goes over the table by its primary key. A row that somebody holds is left out: nobody waits for this, and this waits for
-- nobody. What was left out is found when it begins anew, which it does until there is nothing.
declare
  v_door record;
  v_table text := relation::regclass::text;
  v_keys text;
  v_named text;
  v_names text;
  v_after text;
  v_row text;
  v_needed text;
  v_call text;
  v_change text;
  v_else text;
  v_is_left boolean;
  v_old text;
  v_new text;
begin
  select d.* into v_door from keyring.door(column_id, relation) d;
  select string_agg(format('t.%I', a.attname), ', ' order by k.position),
      string_agg(format('t.%I as k%s', a.attname, k.position), ', ' order by k.position),
      string_agg(format('k%s', k.position), ', ' order by k.position),
      string_agg(format('($2 ->> %s)::%s', k.position - 1, format_type(a.atttypid, a.atttypmod)), ', ' order by k.position),
      format('keyring.row_key(%s)', string_agg(format('%s(t.%I)', y.typsend, a.attname), ', ' order by array_position(v_door.row_keys, a.attname::text))
        filter (where a.attname = any (v_door.row_keys)))
    into v_keys, v_named, v_names, v_after, v_row
    from pg_index i cross join unnest(i.indkey) with ordinality as k (attnum, position)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    join pg_type y on y.oid = a.atttypid
    where i.indrelid = work_rows.relation and i.indisprimary and k.position <= i.indnkeyatts;

  v_new := case when "position" ->> 'slot' = 'b' then v_door.index_b else v_door.index_a end;
  v_old := case when "position" ->> 'slot' = 'b' then v_door.index_a else v_door.index_b end;
  case kind || ' ' || step
    when 'seal rows' then
      v_needed := format('t.%I is not null', v_door.door);
      v_change := format('%1$I = t.%1$I', v_door.door);
    when 'seal clear' then
      v_needed := format('t.%I is not null', v_door.index_b);
      v_change := format('%I = null', v_door.index_b);
    when 'unseal rows' then
      v_needed := format('t.%I is not null', v_door.sealed);
      v_call := format('keyring.unseal_values(%L, a.organizations, a.row_ids, a.sealed)', column_id);
      -- What was erased stays null. Its row is not written through the door, where a required column refuses null.
      v_change := format('%I = o.value', v_door.door);
      v_else := (select string_agg(format('%I = null', c), ', ') from unnest(array[v_door.sealed, v_door.index_a, v_door.index_b]) c where c is not null);
    when 'reseal rows' then
      v_needed := format('keyring.is_stale(t.%I)', v_door.sealed)
        || case when "position" ? 'subject' then format(' and t.%I = %L', coalesce(v_door.subject, v_door.organization), "position" ->> 'subject') else '' end;
      v_call := format('keyring.reseal_values(%L, a.organizations, a.row_ids, a.subjects, a.sealed)', column_id);
      v_change := format('%I = o.value', v_door.sealed);
    when 'reindex fill' then
      v_needed := format('t.%I is not null and t.%I is null', v_old, v_new);
      v_call := format('keyring.index_values(%L, a.organizations, a.row_ids, a.sealed)', column_id);
      v_change := format('%I = o.value', v_new);
      v_else := format('%I = null', v_old);
    when 'reindex clear' then
      v_needed := format('t.%I is not null', v_old);
      v_change := format('%I = null', v_old);
  end case;

  execute concat('with locked as materialized (select ', v_named, ', ',
      coalesce('t.' || quote_ident(v_door.organization), '''00000000-0000-0000-0000-000000000000''::uuid'), ' as organization, ',
      coalesce('t.' || quote_ident(v_door.row_id), v_row), ' as row_id, ', coalesce('t.' || quote_ident(v_door.subject), 'null::uuid'), ' as subject, ', 't.' || quote_ident(v_door.sealed), ' as sealed from ', v_table,
      ' t where ', v_needed, case when "position" -> 'after' is not null then format(' and (%s) > (%s)', v_keys, v_after) end,
      ' order by ', v_keys, ' limit $1 for no key update of t skip locked),
    picked as materialized (select row_number() over (order by ', v_names, ')::integer as number, l.* from locked l),
    opened as materialized (', coalesce('select o.number, o.value, o.problem from (select array_agg(organization order by number) as organizations,
        array_agg(row_id order by number) as row_ids, array_agg(subject order by number) as subjects, array_agg(sealed order by number) as sealed from picked) a
      cross join lateral ' || v_call || ' o', 'select null::integer as number'), '),
    changed as (update ', v_table, ' t set ', v_change, ' from picked p left join opened o on o.number = p.number where (',
      v_keys, ') = (', v_names, ')', case when v_else is not null then ' and o.problem is null' end, ' returning 1),
    others as (', coalesce('update ' || v_table || ' t set ' || v_else || ' from picked p join opened o on o.number = p.number where ('
      || v_keys || ') = (' || v_names || ') and o.problem is not null returning 1', 'select where false'), ')
    select (select count(*) from changed) + (select count(*) from others),
      (select jsonb_build_array(', v_names, ') from picked order by number desc limit 1)')
    using batch, "position" -> 'after' into rows_done, after;
  if after is not null then
    outcome := 'more';
    return;
  end if;
  execute concat('select exists (select from ', v_table, ' t where ', v_needed, ')') into v_is_left;
  outcome := case when v_is_left then 'wait' else 'over' end;
end $function$
comment 'One batch of a work on the rows of a table with a sealed column, as the worker: how many rows, whether the step is over, and the key of the last row. keyring.work() calls it.'

-- function keyring.works()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring.works()
 RETURNS TABLE(id uuid, kind text, column_id uuid, column_name text, done bigint, total bigint, percent integer, created_at timestamp with time zone, updated_at timestamp with time zone, finished_at timestamp with time zone, problem text)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
  select w.id, w.kind, w.column_id, coalesce(c.name, d.relation || '.' || d.door), w.done, w.total,
         case when w.finished_at is not null then 100
              else least(99, 100 * w.done / nullif(w.total, 0))::integer end,
         w.created_at, w.updated_at, w.finished_at, w.problem
    from keyring_private.works w
    left join keyring_private.sealed_columns c on c.id = w.column_id
    left join keyring_private.doors d on d.id = w.column_id
    order by w.id
$function$
comment 'All works on keys and values, oldest first, and how far they are. For the owner.'

-- function keyring_private.a256cbc_hs512_decrypt(key bytea, iv bytea, ciphertext bytea, tag bytea, aad bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.a256cbc_hs512_decrypt(key bytea, iv bytea, ciphertext bytea, tag bytea, aad bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_mac_key bytea := substr(key, 1, 32);
  v_padded bytea;
  v_padding integer;
begin
  -- Tags are compared under a second MAC: the time of the comparison says nothing about the right one.
  if length(key) = 64 and length(iv) = 16 and length(tag) = 32 and aad is not null
    and length(ciphertext) > 0 and length(ciphertext) % 16 = 0
    and extensions.hmac(substr(extensions.hmac(
          aad || iv || ciphertext || int8send(length(aad) * 8::bigint), v_mac_key, 'sha512'), 1, 32), v_mac_key, 'sha512')
      = extensions.hmac(tag, v_mac_key, 'sha512') then
    -- The padding is checked by hand, so that bad padding under a good tag gives the same error as all else.
    v_padded := extensions.decrypt_iv(ciphertext, substr(key, 33, 32), iv, 'aes-cbc/pad:none');
    v_padding := get_byte(v_padded, length(v_padded) - 1);
    if v_padding between 1 and 16
      and ltrim(substr(v_padded, length(v_padded) - v_padding + 1), set_byte(decode('00', 'hex'), 0, v_padding)) = ''::bytea then
      return substr(v_padded, 1, length(v_padded) - v_padding);
    end if;
  end if;
  raise exception 'the value cannot be opened' using errcode = 'KEYBD';
end $function$
comment 'A256CBC-HS512 (RFC 7518 5.2.5). The tag is checked before anything is decrypted; KEYBD for every failure alike.'

-- function keyring_private.a256cbc_hs512_encrypt(key bytea, iv bytea, plaintext bytea, aad bytea, OUT ciphertext bytea, OUT tag bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.a256cbc_hs512_encrypt(key bytea, iv bytea, plaintext bytea, aad bytea, OUT ciphertext bytea, OUT tag bytea)
 RETURNS record
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if length(key) is distinct from 64 or length(iv) is distinct from 16 or plaintext is null or aad is null then
    raise exception 'the value cannot be sealed' using errcode = 'KEYBD';
  end if;
  ciphertext := extensions.encrypt_iv(plaintext, substr(key, 33, 32), iv, 'aes-cbc/pad:pkcs');
  tag := substr(extensions.hmac(aad || iv || ciphertext || int8send(length(aad) * 8::bigint), substr(key, 1, 32), 'sha512'), 1, 32);
end $function$
comment 'A256CBC-HS512 (RFC 7518 5.2.5): 64-byte key, 16-byte IV; gives ciphertext and 32-byte tag. KEYBD for other sizes.'

-- function keyring_private.add_rewrap("position" jsonb)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.add_rewrap("position" jsonb)
 RETURNS uuid
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if not exists (select from keyring_private.roots r where r.check_value is not null) then
    raise exception 'no application has brought its half to this database yet' using errcode = 'KEYNO', hint = 'Start the server once.';
  end if;
  return keyring_private.add_work('rewrap', null,
    (select count(*) from keyring_private.data_keys) + (select count(*) from keyring_private.index_keys), add_rewrap."position");
end $function$
comment 'Notes that all keys are to be wrapped anew. CNFLT while that is under way, KEYNO before the first application came.'

-- function keyring_private.add_work(kind text, column_id uuid, total bigint, "position" jsonb)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.add_work(kind text, column_id uuid, total bigint, "position" jsonb DEFAULT '{}'::jsonb)
 RETURNS uuid
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_id uuid;
begin
  insert into keyring_private.works as w (kind, column_id, total, position)
    values (add_work.kind, add_work.column_id, add_work.total, add_work."position")
    on conflict do nothing
    returning w.id into v_id;
  if v_id is null then
    raise exception 'a work of this kind is not finished yet' using errcode = 'CNFLT';
  end if;
  return v_id;
end $function$
comment 'Notes a work to be done; returns its id. CNFLT while one of its kind and column is unfinished.'

-- function keyring_private.application_halves(credential_hash bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.application_halves(credential_hash bytea DEFAULT NULL::bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_envelope bytea;
  v_setting text := current_setting('safetypin.envelope', true);
  v_credential bytea := credential_hash;
  v_seconds bigint;
  v_life bigint;
  v_key bytea;
begin
  -- Who has read the context of this transaction already brings it from there.
  if v_credential is null then
    v_credential := (select c.credential_hash from request_private.sealed_context c);
  end if;
  if v_credential is null or coalesce(v_setting, '') = '' or length(v_setting) not in (242, 306) or v_setting ~ '[^0-9a-f]' then
    raise exception 'no application key in this request' using errcode = 'KEYNO';
  end if;
  v_envelope := decode(v_setting, 'hex');
  select max(l.value) filter (where l.name = 'envelope.seconds'), max(l.value) filter (where l.name = 'transport_key.seconds')
    into v_seconds, v_life
    from platform.limits l where l.name in ('envelope.seconds', 'transport_key.seconds');
  if substr(v_envelope, 18, 8) <= timestamptz_send(clock_timestamp())
    -- An envelope is short-lived: one that claims more was not made by an application of ours.
    or substr(v_envelope, 18, 8) > timestamptz_send(clock_timestamp() + make_interval(secs => v_seconds + 5)) then
    raise exception 'the application key in this request has run out' using errcode = 'KEYNO';
  end if;
  select t.key into v_key
    from keyring_private.transport_keys t
    where t.id = encode(substr(v_envelope, 2, 16), 'hex')::uuid
      -- Twice its life: an application replaces its key after one, and its last envelope is still good for a minute.
      and t.created_at > clock_timestamp() - make_interval(secs => 2 * v_life)
      -- One that was retired opens what was on its way then.
      and (t.retired_at is null or t.retired_at > clock_timestamp() - make_interval(secs => v_seconds));
  if v_key is null then
    raise exception 'the transport key of this request is gone' using errcode = 'KEYNO';
  end if;
  return keyring_private.unwrap(v_key, substr(v_envelope, 26), substr(v_envelope, 1, 25) || v_credential);
end $function$
comment 'What the application holds, from this transaction''s envelope: its half of the key (32 bytes), and the next one behind it while it changes. KEYNO if there is none, it ran out or its transport key is gone; KEYBD if it is for another credential.'

-- function keyring_private.at_work(column_id uuid, kinds text[])
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.at_work(column_id uuid, kinds text[] DEFAULT NULL::text[])
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return pg_current_xact_id_if_assigned() is not null and exists (
    select from keyring_private.works w
      where w.taken_by = pg_current_xact_id_if_assigned() and w.column_id = at_work.column_id
        and (at_work.kinds is null or w.kind = any (at_work.kinds)));
end $function$
comment 'Whether this transaction is a batch of a work on a column: it has taken it, and can take no other.'

-- function keyring_private.blind_index(column_name text, organization_id uuid, value text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.blind_index(column_name text, organization_id uuid, value text)
 RETURNS bytea
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_column uuid := keyring_private.column_id(blind_index.column_name);
  v_key bytea;
begin
  if value is null then
    return null;
  end if;
  select keyring_private.unwrap(keyring_private.key_encryption_key(k.root_version), k.wrapped, '\x03'::bytea || uuid_send(v_column))
    into v_key
    from keyring_private.index_keys k
    where k.column_id = v_column and k.slot = 'a';
  if v_key is null then
    raise exception 'the index key is not there' using errcode = 'KEYNO';
  end if;
  return extensions.hmac(uuid_send(blind_index.organization_id) || convert_to(value, 'UTF8'), v_key, 'sha256');
end $function$
comment 'HMAC-SHA-256 of organization (zero uuid for what is unique everywhere) and value under the column''s own key, for looking up a sealed value.'

-- function keyring_private.canonical(value text, type text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.canonical(value text, type text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_length integer := substring(type from '^character.*[(]([0-9]+)[)]$');
  v_text text;
begin
  if v_length is not null then
    -- A cast would cut without a word. Spaces too many are cut by PostgreSQL itself.
    if length(rtrim(value, ' ')) > v_length and rtrim(substr(value, v_length + 1), ' ') <> '' then
      raise exception 'the value is too long for its column' using errcode = '22001';
    end if;
    return case when type like 'character(%' then rtrim(value, ' ') else left(value, v_length) end;
  end if;
  begin
    -- Read as the client has set it, as a plain column would; written as nobody has set it. `type` is one of the list in
    -- keyring.register_column(): PostgreSQL's own, so nobody's code runs here.
    execute format('select keyring_private.written($1::%s)', type) using value into v_text;
  exception when others then
    -- PostgreSQL's own message would hold the value.
    raise exception 'the value is not a %', type using errcode = '22023';
  end;
  return v_text;
end $function$
comment 'A value as its type writes it, whatever the client has set; 22023 and 22001 for what the type does not take.'

-- function keyring_private.column_id(name text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.column_id(name text)
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_id uuid;
begin
  select c.id into strict v_id from keyring_private.sealed_columns c where c.name = column_id.name;
  return v_id;
end $function$
comment 'Id of a sealed column by its name; P0002 if there is none.'

-- function keyring_private.data_key(key_id uuid)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.data_key(key_id uuid)
 RETURNS bytea
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_key bytea := keyring_private.find_data_key(key_id);
begin
  if v_key is null then
    raise exception 'the key of this value was destroyed' using errcode = 'KEYER';
  end if;
  return v_key;
end $function$
comment 'A data key, unwrapped. KEYER if it was destroyed: what it sealed is erased.'

-- function keyring_private.demand_record()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.demand_record()
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if current_setting('transaction_read_only')::boolean then
    raise exception 'reading this column is recorded, and nothing can be recorded in a read-only transaction' using errcode = 'KEYRO',
      hint = 'Ask for it in a transaction that may write, on the primary.';
  end if;
end $function$
comment 'KEYRO where a reading cannot be recorded: in a read-only transaction, on a replica.'

-- function keyring_private.destroy_data_key(subject uuid)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.destroy_data_key(subject uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  delete from keyring_private.data_keys k where k.subject = destroy_data_key.subject;
  return found;
end $function$
comment 'Erases everything sealed for a subject by deleting its keys, the retired ones too.'

-- function keyring_private.do_step(work keyring_private.works, sealed_column keyring_private.sealed_columns, step text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.do_step(work keyring_private.works, sealed_column keyring_private.sealed_columns, step text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_slot text := work.position ->> 'slot';
  v_root integer;
begin
  case step
    when 'wait' then
      return keyring_private.has_waited(work);
    when 'turn' then
      -- The keys are retired first, and whoever still used them is over.
      return keyring_private.may_reseal();
    when 'key' then
      select case k.slot when 'a' then 'b' else 'a' end into strict v_slot
        from keyring_private.index_keys k where k.column_id = work.column_id;
      -- Held until this transaction ends: a rotation must not delete the root under our feet.
      select r.version into strict v_root from keyring_private.roots r order by r.version desc limit 1 for key share;
      insert into keyring_private.index_keys (column_id, slot, root_version, wrapped)
        values (work.column_id, v_slot, v_root, keyring_private.wrap(keyring_private.key_encryption_key(v_root),
          extensions.gen_random_bytes(64), '\x03'::bytea || uuid_send(work.column_id)));
      update keyring_private.works w set position = w.position || jsonb_build_object('slot', v_slot) where w.id = work.id;
      return true;
    when 'drop' then
      delete from keyring_private.index_keys k where k.column_id = work.column_id and k.slot <> v_slot;
      return true;
    when 'sealed' then
      update keyring_private.sealed_columns c set state = 'sealed' where c.id = sealed_column.id and c.state = 'sealing';
      return true;
  end case;
end $function$
comment 'One of the keeper''s steps of a work on rows; whether it is over, else it is tried again.'

-- function keyring_private.door_data(column_id uuid, organization_id uuid, row_id uuid, key_id bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.door_data(column_id uuid, organization_id uuid, row_id uuid, key_id bytea)
 RETURNS bytea
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN (((('\x02'::bytea || uuid_send(column_id)) || uuid_send(organization_id)) || uuid_send(row_id)) || key_id)
comment 'Associated data of a value in a door''s column.'

-- function keyring_private.ensure_data_key(subject uuid, credential_hash bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.ensure_data_key(subject uuid, credential_hash bytea DEFAULT NULL::bytea)
 RETURNS uuid
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_id uuid;
  v_version integer;
begin
  select k.id into v_id from keyring_private.data_keys k where k.subject = ensure_data_key.subject and k.retired_at is null;
  if found then
    return v_id;
  end if;
  v_id := platform.uuid_v7();
  v_version := keyring_private.newest_root();
  insert into keyring_private.data_keys (id, subject, root_version, wrapped)
    values (v_id, ensure_data_key.subject, v_version, keyring_private.wrap(
      keyring_private.key_encryption_key(v_version, credential_hash), extensions.gen_random_bytes(64),
      '\x02'::bytea || uuid_send(v_id) || uuid_send(ensure_data_key.subject)))
    on conflict do nothing;
  -- Somebody else may have been first: there is one current key for each subject.
  select k.id into v_id from keyring_private.data_keys k where k.subject = ensure_data_key.subject and k.retired_at is null;
  return v_id;
end $function$
comment 'Id of the subject''s current data key; makes one if there is none.'

-- function keyring_private.everybody_holds_next()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.everybody_holds_next()
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if exists (select from keyring_private.transport_keys t
      where t.retired_at is null and t.behind_at is not null) then
    -- Somebody holds the old half only. All are asked again; whoever reads the same again holds it up again.
    update keyring_private.transport_keys t set retired_at = clock_timestamp() where t.retired_at is null;
  end if;
  -- What was sealed before they were asked has run out after this.
  return not exists (select from keyring_private.transport_keys t
    where t.retired_at > clock_timestamp() - make_interval(secs => platform.limit_value('envelope.seconds') + 5));
end $function$
comment 'Whether each envelope that is good now brings the next half too. Asks all processes again if one of them does not hold it.'

-- function keyring_private.export_check(digest bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.export_check(digest bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (select sha256(k.outer_pad || sha256(k.inner_pad || digest)) from keyring_private.seal_keys k where k.purpose = 'export');
end $function$
comment 'HMAC-SHA-256 that only this database, or a copy of it, makes: of an exported file, and of nothing as its name.'

-- function keyring_private.export_data_keys(after uuid, batch integer)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.export_data_keys(after uuid, batch integer)
 RETURNS TABLE(id uuid, line text)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select k.id, jsonb_build_object('key', k.id, 'subject', k.subject, 'root', k.root_version, 'wrapped', encode(k.wrapped, 'base64'),
      'created', k.created_at, 'retired', k.retired_at)::text
    from keyring_private.data_keys k
    where k.id > after
    order by k.id
    limit batch
$function$
comment 'Lines of an exported file: data keys, in the order of their ids.'

-- function keyring_private.export_index_keys()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.export_index_keys()
 RETURNS SETOF text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jsonb_build_object('column', k.column_id, 'slot', k.slot, 'root', k.root_version, 'wrapped', encode(k.wrapped, 'base64'),
      'created', k.created_at)::text
    from keyring_private.index_keys k order by k.column_id, k.slot
$function$
comment 'Lines of an exported file: the keys of blind indexes.'

-- function keyring_private.export_roots()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.export_roots()
 RETURNS SETOF text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select jsonb_build_object('root', r.version, 'half', encode(r.half, 'hex'), 'application', encode(r.application_id, 'hex'),
      'check', encode(r.check_value, 'hex'), 'created', r.created_at)::text
    from keyring_private.roots r where r.check_value is not null order by r.version
$function$
comment 'Lines of an exported file: the roots.'

-- function keyring_private.find_data_key(key_id uuid, credential_hash bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.find_data_key(key_id uuid, credential_hash bytea DEFAULT NULL::bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_key keyring_private.data_keys;
begin
  select k.* into v_key from keyring_private.data_keys k where k.id = find_data_key.key_id;
  if not found then
    return null;
  end if;
  return keyring_private.unwrap(
    keyring_private.key_encryption_key(v_key.root_version, credential_hash), v_key.wrapped,
    '\x02'::bytea || uuid_send(v_key.id) || uuid_send(v_key.subject));
end $function$
comment 'A data key, unwrapped; null if it was destroyed. The credential''s hash, if the caller has it from the context of this transaction: that saves reading it again.'

-- function keyring_private.guess_mac(attempt uuid, guess bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.guess_mac(attempt uuid, guess bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (select sha256(k.outer_pad || sha256(k.inner_pad || uuid_send(attempt) || guess))
          from keyring_private.seal_keys k
          where k.purpose = 'guess');
end $function$
comment 'HMAC-SHA-256 of a guess, under a key of this database; how guesses and short codes rest.'

-- function keyring_private.half_id(half bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.half_id(half bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return substr(sha256('safetypin half '::bytea || half), 1, 8);
end $function$
comment 'Which half of the application''s this is: eight bytes that say nothing of it.'

-- function keyring_private.has_waited(work keyring_private.works)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.has_waited(work keyring_private.works)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Whoever began before the last step may still write by what held then: such a transaction can have an old snapshot
-- without having written yet, so its id alone would not tell. It holds its virtual id locked until its end.
declare
  v_wait jsonb := work.position -> 'wait';
begin
  if v_wait is null then
    select jsonb_build_object('next', pg_snapshot_xmax(pg_current_snapshot())::text, 'running', coalesce(jsonb_agg(l.virtualtransaction), '[]'))
      into v_wait
      from pg_locks l
      left join pg_stat_activity a on a.pid = l.pid
      where l.locktype = 'virtualxid' and l.granted and l.mode = 'ExclusiveLock' and l.pid <> pg_backend_pid()
        and coalesce(a.datname, current_database()) = current_database()
        and a.backend_type is distinct from 'autovacuum worker';
    update keyring_private.works w set position = w.position || jsonb_build_object('wait', v_wait) where w.id = work.id;
  end if;
  return not exists (select from pg_locks l where l.locktype = 'virtualxid' and v_wait -> 'running' ? l.virtualtransaction)
    -- What was prepared for a commit in two phases has no virtual id any more.
    and not exists (select from pg_prepared_xacts p where p.database = current_database()
      and age(p.transaction) >= age((v_wait ->> 'next')::xid8::xid));
end $function$
comment 'Whether every transaction is over that had begun when this was asked first.'

-- function keyring_private.hidden_from_audit(relation oid)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.hidden_from_audit(relation oid)
 RETURNS text[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- A work is one event at its beginning, not one for each row.
  select coalesce(array_agg(h.name) filter (where h.name is not null), '{}')
    from keyring_private.doors d
    cross join unnest(array[d.door, d.index_a, d.index_b, case when keyring_private.at_work(d.id) then d.sealed end]) h (name)
    where d.relation = hidden_from_audit.relation or d.relation in (select pg_partition_ancestors(hidden_from_audit.relation))
$function$
comment 'Columns of a table that the audit trail leaves out: doors and blind indexes, and what is sealed anew by a work.'

-- function keyring_private.holds_roots()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.holds_roots()
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_halves bytea := keyring_private.application_halves();
  v_root keyring_private.roots;
begin
  for v_root in select r.* from keyring_private.roots r loop
    if v_root.application_id is null
      or v_root.application_id not in (
        keyring_private.half_id(substr(v_halves, 1, 32)), keyring_private.half_id(substr(v_halves, 33, 32)))
      or keyring_private.root_check(keyring_private.key_encryption_key(v_root.version)) is distinct from v_root.check_value then
      return false;
    end if;
  end loop;
  return true;
end $function$
comment 'Whether the application of this request brings what each root is bound to. False before the first one came.'

-- function keyring_private.import_data_keys(lines jsonb, OUT added bigint, OUT renewed bigint, OUT unknown bigint)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.import_data_keys(lines jsonb, OUT added bigint, OUT renewed bigint, OUT unknown bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  select count(*) into unknown
    from jsonb_to_recordset(lines) l (subject uuid)
    where not exists (select from identity.people p where p.id = l.subject)
      and not exists (select from access.organizations o where o.id = l.subject);
  -- Of two current keys of one subject the one of the file stays current.
  update keyring_private.data_keys k set retired_at = clock_timestamp()
    from jsonb_to_recordset(lines) l (key uuid, subject uuid, retired timestamptz)
    where k.subject = l.subject and k.retired_at is null and k.id <> l.key and l.retired is null;
  with written as (
    insert into keyring_private.data_keys as k (id, subject, root_version, wrapped, created_at, retired_at)
      select l.key, l.subject, l.root, decode(l.wrapped, 'base64'), l.created, l.retired
        from jsonb_to_recordset(lines) l (key uuid, subject uuid, root integer, wrapped text, created timestamptz, retired timestamptz)
      on conflict on constraint data_keys_pkey do update
        set root_version = excluded.root_version, wrapped = excluded.wrapped, retired_at = excluded.retired_at
        where k.root_version < excluded.root_version and k.subject = excluded.subject
      returning xmax = 0 as is_new)
    select count(*) filter (where is_new), count(*) filter (where not is_new) into added, renewed from written;
end $function$
comment 'Adds data keys, and takes those under a newer root; counts those of a subject that is neither a person nor an organization here.'

-- function keyring_private.import_index_keys(lines jsonb, OUT added bigint, OUT renewed bigint, OUT replaced bigint)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.import_index_keys(lines jsonb, OUT added bigint, OUT renewed bigint, OUT replaced bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- A key that was replaced since: the values that were restored must be indexed anew.
  select count(*) into replaced
    from jsonb_to_recordset(lines) l ("column" uuid, slot text, created timestamptz)
    join keyring_private.index_keys k on k.column_id = l."column" and k.slot = l.slot and k.created_at <> l.created;
  with written as (
    insert into keyring_private.index_keys as k (column_id, slot, root_version, wrapped, created_at)
      select l."column", l.slot, l.root, decode(l.wrapped, 'base64'), l.created
        from jsonb_to_recordset(lines) l ("column" uuid, slot text, root integer, wrapped text, created timestamptz)
        where exists (select from keyring_private.sealed_columns c where c.id = l."column")
      on conflict on constraint index_keys_pkey do update
        set root_version = excluded.root_version, wrapped = excluded.wrapped, created_at = excluded.created_at
        where k.root_version < excluded.root_version
      returning xmax = 0 as is_new)
    select count(*) filter (where is_new), count(*) filter (where not is_new) into added, renewed from written;
end $function$
comment 'Adds keys of blind indexes, and takes those under a newer root; counts those whose columns must be indexed anew.'

-- function keyring_private.import_roots(transport uuid, sealed bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.import_roots(transport uuid, sealed bytea)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_count integer;
begin
  if exists (select from keyring_private.works w where w.kind = 'rewrap' and w.finished_at is null) then
    raise exception 'a rotation is under way' using errcode = 'CNFLT';
  end if;
  insert into keyring_private.roots (version, half, application_id, check_value, created_at)
    select s.version, s.half, s.application_id, s.check_value, s.created_at
      from keyring_private.sealed_roots(import_roots.transport, import_roots.sealed) s
    on conflict on constraint roots_pkey do update
      set half = excluded.half, application_id = excluded.application_id, check_value = excluded.check_value
      -- A root that no application has come to yet has no keys.
      where roots.check_value is null;
  get diagnostics v_count = row_count;
  if exists (
      select from keyring_private.sealed_roots(import_roots.transport, import_roots.sealed) s
        join keyring_private.roots r on r.version = s.version
        where r.half <> s.half) then
    raise exception 'this database has made other roots since' using errcode = 'CNFLT';
  end if;
  return v_count;
end $function$
comment 'Adds roots of an exported file; returns how many were not there. CNFLT where this database has another root of that number, or while a rotation is under way.'

-- function keyring_private.index_value(column_id uuid, slot text, organization_id uuid, value text, make boolean, credential_hash bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.index_value(column_id uuid, slot text, organization_id uuid, value text, make boolean, credential_hash bytea DEFAULT NULL::bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_key bytea;
  v_is_new boolean;
  v_version integer;
begin
  select keyring_private.unwrap(
      keyring_private.key_encryption_key(k.root_version, index_value.credential_hash), k.wrapped, '\x03'::bytea || uuid_send(k.column_id))
    into v_key
    from keyring_private.index_keys k
    where k.column_id = index_value.column_id and k.slot = index_value.slot;
  v_is_new := v_key is null;
  if v_is_new and make and not exists (select from keyring_private.index_keys k where k.column_id = index_value.column_id) then
    v_version := keyring_private.newest_root();
    insert into keyring_private.index_keys (column_id, slot, root_version, wrapped)
      values (index_value.column_id, index_value.slot, v_version, keyring_private.wrap(
        keyring_private.key_encryption_key(v_version), extensions.gen_random_bytes(64), '\x03'::bytea || uuid_send(index_value.column_id)))
      on conflict on constraint index_keys_pkey do nothing;
    return keyring_private.index_value(column_id, slot, organization_id, value, false);
  end if;
  return extensions.hmac(uuid_send(organization_id) || convert_to(value, 'UTF8'), v_key, 'sha256');
end $function$
comment 'Blind index of a value in one slot; null where the slot has no key. The first value of a column makes the key.'

-- function keyring_private.key_encryption_key(version integer, credential_hash bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.key_encryption_key(version integer, credential_hash bytea DEFAULT NULL::bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_root keyring_private.roots;
  v_halves bytea;
  v_half bytea;
begin
  select r.* into v_root from keyring_private.roots r where r.version = key_encryption_key.version;
  if not found then
    return null;
  end if;
  v_halves := keyring_private.application_halves(credential_hash);
  v_half := substr(v_halves, 1, 32);
  if v_root.application_id is not null and keyring_private.half_id(v_half) <> v_root.application_id then
    v_half := substr(v_halves, 33, 32);
    if keyring_private.half_id(v_half) <> v_root.application_id then
      -- It may have been replaced since this process read it: it reads anew when it hears of this.
      raise exception 'the application does not hold its half of this key' using errcode = 'KEYNO';
    end if;
  end if;
  -- HKDF's extract step (RFC 5869) with the database's half as salt; 64 bytes, as the cipher wants.
  return extensions.hmac('safetypin kek '::bytea || int4send(v_root.version) || v_half, v_root.half, 'sha512');
end $function$
comment 'The 64-byte key that wraps data keys, derived from both halves; never stored. KEYNO if the application brings another half than the one this root is bound to.'

-- function keyring_private.keys_without(ids uuid[], made timestamp with time zone, erase boolean, OUT missing bigint, OUT younger bigint)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.keys_without(ids uuid[], made timestamp with time zone, erase boolean, OUT missing bigint, OUT younger bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  select count(*) filter (where k.created_at < made), count(*) filter (where k.created_at >= made) into missing, younger
    from keyring_private.data_keys k
    where not exists (select from unnest(ids) i (id) where i.id = k.id);
  if erase and younger > 0 then
    raise exception 'this database has made keys since that file was written' using errcode = 'CNFLT';
  end if;
  if erase then
    delete from keyring_private.data_keys k
      where k.created_at < made and not exists (select from unnest(ids) i (id) where i.id = k.id);
  end if;
end $function$
comment 'Counts the data keys that an exported file does not have: missing there, so erased between the backup and the file, or younger than it. Deletes the missing ones if told to; CNFLT if there are younger ones, since then that file is not today''s.'

-- function keyring_private.lookup_form(value text, lookup text, type text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.lookup_form(value text, lookup text, type text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN (type = 'numeric'::text) THEN (trim_scale((value)::numeric))::text WHEN ((value = '-0'::text) AND (type = ANY (ARRAY['real'::text, 'double precision'::text]))) THEN '0'::text WHEN (lookup = 'exact'::text) THEN value WHEN (lookup = 'lower'::text) THEN lower(value) ELSE lower(regexp_replace(value, '[^[:alnum:]]'::text, ''::text, 'g'::text)) END
comment 'What of a value counts when it is looked for.'

-- function keyring_private.may_open(column_id uuid, OUT opened keyring_private.sealed_columns, OUT organization_id uuid, OUT credential_hash bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.may_open(column_id uuid, OUT opened keyring_private.sealed_columns, OUT organization_id uuid, OUT credential_hash bytea)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_standing record;
begin
  select c.* into opened from keyring_private.sealed_columns c where c.id = may_open.column_id and c.relation is not null;
  if not found then
    raise exception 'no such sealed column' using errcode = '22023';
  end if;
  v_standing := request_private.standing(opened.permission);
  if not v_standing.may then
    if request.kind() is null then
      raise exception 'opening needs a request that is open' using errcode = 'CTXNO';
    end if;
    if opened.refusal = 'error' then
      raise exception 'this column may not be opened' using errcode = 'DENYD';
    end if;
    opened := null;
    return;
  end if;
  organization_id := case when opened.tenant then v_standing.organization_id else platform.no_organization() end;
  credential_hash := v_standing.credential_hash;
end $function$
comment 'The column, if who asks may open it, with the organization that its values are bound to and the hash of the credential; null, or DENYD where the column says so, if not. CTXNO without a request.'

-- function keyring_private.may_reseal()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.may_reseal()
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select not exists (select from keyring_private.works w
    where w.kind = 'reseal' and w.column_id is null and w.finished_at is null and coalesce(w.position ->> 'phase', 'retire') in ('retire', 'wait'))
$function$
comment 'Whether the keys of a rotation of data keys are retired, and nobody is left who seals under them.'

-- function keyring_private.newest_root()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.newest_root()
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_version integer;
begin
  -- A rotation that is just over deletes the one that we saw. Then there is a newer one.
  for i in 1..5 loop
    select r.version into v_version from keyring_private.roots r order by r.version desc limit 1 for key share;
    exit when found;
  end loop;
  return v_version;
end $function$
comment 'The root under which new keys are wrapped, held until this transaction ends: no rotation deletes it meanwhile.'

-- function keyring_private.next_root(work keyring_private.works)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.next_root(work keyring_private.works)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_old keyring_private.roots;
  v_bound bytea;
  v_version integer;
begin
  select r.* into strict v_old from keyring_private.roots r order by r.version desc limit 1 for no key update;
  -- Nothing is wrapped under a key that only this process could make again.
  if keyring_private.root_check(keyring_private.key_encryption_key(v_old.version)) is distinct from v_old.check_value then
    raise exception 'the half of this application is not the one of this database' using errcode = 'KEYBD';
  end if;
  v_bound := coalesce(decode(work.position ->> 'application', 'hex'), v_old.application_id);
  v_version := v_old.version + 1;
  insert into keyring_private.roots (version, half, application_id) values (v_version, extensions.gen_random_bytes(32), v_bound);
  update keyring_private.roots r
    set check_value = keyring_private.root_check(keyring_private.key_encryption_key(v_version))
    where r.version = v_version;
  update keyring_private.works w set position = w.position || jsonb_build_object('root', v_version) where w.id = work.id;
  return v_version;
end $function$
comment 'Makes the root that a rotation leads to and notes it in its work. KEYNO if this process does not hold the half it is bound to, KEYBD if it holds another than the present root''s.'

-- function keyring_private.note_work(work_id uuid, rows_done integer, outcome text, problem text, after jsonb)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.note_work(work_id uuid, rows_done integer, outcome text, problem text DEFAULT NULL::text, after jsonb DEFAULT NULL::jsonb)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_work keyring_private.works;
  v_step integer;
  v_steps text[];
begin
  select w.* into strict v_work from keyring_private.works w where w.id = note_work.work_id;
  v_step := coalesce((v_work.position ->> 'step')::integer, 0) + (case when outcome = 'over' then 1 else 0 end);
  select keyring_private.steps(v_work.kind, c.indexed) into v_steps
    from keyring_private.sealed_columns c where c.id = v_work.column_id and c.relation is not null;
  -- A work that failed or waits stands in nobody's way.
  update keyring_private.works w
    set done = w.done + coalesce(rows_done, 0), problem = note_work.problem, updated_at = clock_timestamp(),
        position = case
          when v_steps is null or note_work.problem is not null then w.position
          when outcome = 'over' then w.position - 'after' - 'wait' || jsonb_build_object('step', v_step)
          when note_work.after is not null then w.position || jsonb_build_object('after', note_work.after)
          when rows_done is not null then w.position - 'after'
          else w.position
        end,
        finished_at = case when outcome = 'finished' or outcome = 'over' and v_step >= cardinality(v_steps) then clock_timestamp() end,
        run_at = case
          when note_work.problem is not null then clock_timestamp() + interval '30 seconds'
          when outcome = 'wait' then greatest(w.run_at, clock_timestamp() + interval '5 seconds')
          else w.run_at
        end
    where w.id = v_work.id;
  return greatest(rows_done, 1);
end $function$
comment 'Notes how a batch went: more, over (the step is), finished or wait, or its problem; and the key of the last row. Returns what the worker is told.'

-- function keyring_private.open(column_name text, organization_id uuid, row_id uuid, sealed bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.open(column_name text, organization_id uuid, row_id uuid, sealed bytea)
 RETURNS text
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_key_id uuid;
  v_padded bytea;
begin
  if sealed is null then
    return null;
  end if;
  if length(sealed) < 97 or get_byte(sealed, 0) <> 1 then
    raise exception 'the value cannot be opened' using errcode = 'KEYBD';
  end if;
  v_key_id := encode(substr(sealed, 2, 16), 'hex')::uuid;
  v_padded := keyring_private.unwrap(
    keyring_private.data_key(v_key_id), substr(sealed, 18),
    '\x01'::bytea || uuid_send(keyring_private.column_id(open.column_name)) || uuid_send(open.organization_id)
      || uuid_send(open.row_id) || uuid_send(v_key_id));
  return convert_from(keyring_private.unpad(v_padded), 'UTF8');
end $function$
comment 'Opens what seal() made, in the same column, organization and row; null stays null. KEYER if it was erased, KEYNO without an application key, KEYBD for all else.'

-- function keyring_private.open_for_work(column_id uuid, organization_id uuid, row_id uuid, sealed bytea, OUT value text, OUT problem text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.open_for_work(column_id uuid, organization_id uuid, row_id uuid, sealed bytea, OUT value text, OUT problem text)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if length(sealed) < 113 or get_byte(sealed, 0) <> 2 then
    raise exception 'the value cannot be opened' using errcode = 'KEYBD';
  end if;
  value := convert_from(keyring_private.unpad(keyring_private.unwrap(
      keyring_private.data_key(encode(substr(sealed, 18, 16), 'hex')::uuid), substr(sealed, 34),
      keyring_private.door_data(column_id, organization_id, row_id, substr(sealed, 18, 16)))), 'UTF8');
exception when sqlstate 'KEYER' then
  problem := 'KEYER';
end $function$
comment 'Opens a value of a door''s column, without asking who may. KEYER as a problem, all else as an error.'

-- function keyring_private.open_recorded(column_id uuid, row_id uuid, sealed bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.open_recorded(column_id uuid, row_id uuid, sealed bytea)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_opened record;
begin
  select o.* into v_opened from keyring.open_values(column_id, array[row_id], array[sealed]) o;
  if v_opened.problem = 'KEYBD' then
    raise exception 'the value cannot be opened' using errcode = 'KEYBD';
  end if;
  return v_opened.value;
end $function$
comment 'Opens one value of a sensitive column, which leaves a record.'

-- function keyring_private.open_set(column_name text, organization_id uuid, row_ids uuid[], sealed bytea[])
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.open_set(column_name text, organization_id uuid, row_ids uuid[], sealed bytea[])
 RETURNS text[]
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- open() for a list of our own values: the key-encryption key once, not for each.
declare
  v_prefix bytea := '\x01'::bytea || uuid_send(keyring_private.column_id(column_name)) || uuid_send(open_set.organization_id);
  v_values text[] := array_fill(null::text, array[coalesce(cardinality(sealed), 0)]);
  v_key keyring_private.data_keys;
  v_version integer;
  v_root bytea;
begin
  for i in 1..cardinality(v_values) loop
    continue when sealed[i] is null;
    if length(sealed[i]) < 97 or get_byte(sealed[i], 0) <> 1 then
      raise exception 'the value cannot be opened' using errcode = 'KEYBD';
    end if;
    select k.* into v_key from keyring_private.data_keys k where k.id = encode(substr(sealed[i], 2, 16), 'hex')::uuid;
    continue when not found;
    if v_key.root_version is distinct from v_version then
      v_version := v_key.root_version;
      v_root := keyring_private.key_encryption_key(v_version);
    end if;
    v_values[i] := convert_from(keyring_private.unpad(keyring_private.unwrap(
      keyring_private.unwrap(v_root, v_key.wrapped, '\x02'::bytea || uuid_send(v_key.id) || uuid_send(v_key.subject)),
      substr(sealed[i], 18), v_prefix || uuid_send(row_ids[i]) || substr(sealed[i], 2, 16))), 'UTF8');
  end loop;
  return v_values;
end $function$
comment 'Opens what seal() made, for a list of rows of one column and organization; null for null and for what was erased. KEYNO without an application key, KEYBD for all else.'

-- function keyring_private.owns(relation oid)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.owns(relation oid)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select exists (select from pg_class c where c.oid = owns.relation and pg_has_role(session_user, c.relowner, 'member')) $function$
comment 'Whether who is connected can act as the owner of a table.'

-- function keyring_private.pad(value bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.pad(value bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 IMMUTABLE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_size integer := 28;
begin
  while v_size < length(value) + 4 loop
    v_size := v_size * 2 + 4;
  end loop;
  return int4send(length(value)) || value || decode(repeat('00', v_size - 4 - length(value)), 'hex');
end $function$
comment 'Length (int4), value, zeros, up to 28, 60, 124, 252 … bytes in all: what is sealed shows its bucket, not its length.'

-- function keyring_private.plain_index(column_id uuid, organization_id uuid, form text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.plain_index(column_id uuid, organization_id uuid, form text)
 RETURNS bytea
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (select sha256(k.outer_pad || sha256(k.inner_pad || '\x03'::bytea || uuid_send(column_id) || uuid_send(organization_id)
        || convert_to(form, 'UTF8')))
    from keyring_private.seal_keys k where k.purpose = 'value');
end $function$
comment 'What stands in slot b while the rows of a column are being sealed: tells equal values where some are still plain. Under a key of this database alone, since no application takes part when a column is sealed; taken out at the end.'

-- function keyring_private.record_reading(action text, sealed_column keyring_private.sealed_columns, row_ids uuid[], subjects uuid[])
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.record_reading(action text, sealed_column keyring_private.sealed_columns, row_ids uuid[], subjects uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
-- One plan for all: one for each call would cost a third of it.
-- The numbers are taken by the insert itself, so the lock on the table comes first: see above.
declare
  v_details jsonb;
  v_relation text;
  v_events uuid[];
  v_numbers bigint[];
begin
  -- As in keyring_private.doors, where the door is the first in the trigger's list of columns.
  select format('%s.%s', n.nspname, c.relname), jsonb_build_object('column', sealed_column.id, 'name', a.attname)
    into v_relation, v_details
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_trigger t on t.tgrelid = c.oid and t.tgname = '~seal_' || sealed_column.id
    join pg_attribute a on a.attrelid = c.oid and a.attnum = t.tgattr[0]
    where c.oid = sealed_column.relation;
  with kept as (
    insert into keyring_private.openings (number, event_id)
      select nextval('keyring_private.opening_numbers'), platform.uuid_v7()
      from generate_series(1, cardinality(record_reading.row_ids))
      returning number, event_id)
  select array_agg(k.number order by k.number), array_agg(k.event_id order by k.number) into v_numbers, v_events from kept k;
  perform audit_private.append_set(record_reading.action, v_events, v_relation, record_reading.row_ids::text[], (
    select array_agg(v_details || jsonb_build_object('number', u.number)
        || case when u.subject is null then '{}' else jsonb_build_object('subject', u.subject) end order by u.position)
      from unnest(v_numbers, record_reading.subjects) with ordinality as u (number, subject, position)));
end $function$
comment 'Numbers and records readings of a sensitive column, one event each: column, row, and the subject whose key sealed it; never the value.'

-- function keyring_private.reseal(column_name text, row_id uuid, subject uuid, sealed bytea, organization_id uuid)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.reseal(column_name text, row_id uuid, subject uuid, sealed bytea, organization_id uuid DEFAULT '00000000-0000-0000-0000-000000000000'::uuid)
 RETURNS bytea
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if not keyring_private.at_work(keyring_private.column_id(column_name), '{reseal}')
    and not (column_name like 'identity.registrations.%' and keyring_private.at_work(keyring_private.column_id('identity.registrations.email'), '{reseal}')) then
    raise exception 'only the work that seals this column anew may do this' using errcode = 'DENYD';
  end if;
  return case when sealed is not null then keyring_private.seal(column_name, organization_id, row_id, subject,
    keyring_private.open(column_name, organization_id, row_id, sealed)) end;
end $function$
comment 'Seals a value of one of our own columns anew, under its subject''s current key. DENYD outside the work on that column.'

-- function keyring_private.reseal_own(work keyring_private.works, batch integer)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.reseal_own(work keyring_private.works, batch integer)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_step text := (select c.reseals from keyring_private.sealed_columns c where c.id = work.column_id);
  v_count integer;
  v_after uuid;
begin
  if not keyring_private.may_reseal() then
    return null;
  end if;
  execute format('select r.rows_done, r.after from %s($1, $2) r', v_step::regproc)
    using batch, (work.position ->> 'after')::uuid into v_count, v_after;
  -- What somebody held is found when it begins anew.
  update keyring_private.works w set position = w.position || jsonb_build_object('after', v_after) where w.id = work.id;
  return case when v_after is not null then greatest(v_count, 1) else v_count end;
end $function$
comment 'A batch of one of our own columns, by the function that its row in the register names: 0 when nothing is left, null when something was held.'

-- function keyring_private.retire_data_key(subject uuid)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.retire_data_key(subject uuid)
 RETURNS uuid
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  update keyring_private.data_keys k set retired_at = clock_timestamp()
    where k.subject = retire_data_key.subject and k.retired_at is null;
  if not found then
    return null;
  end if;
  return keyring_private.ensure_data_key(retire_data_key.subject);
end $function$
comment 'Gives a subject a new current data key and returns its id; null if there is none to retire. What the old ones sealed stays readable until they are deleted.'

-- function keyring_private.retire_keys(work keyring_private.works, batch integer)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.retire_keys(work keyring_private.works, batch integer)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_subject uuid;
  v_count integer := 0;
begin
  for v_subject in
    select k.subject from keyring_private.data_keys k
      where k.retired_at is null and k.created_at < work.created_at
        and k.subject = coalesce((work.position ->> 'subject')::uuid, k.subject)
      limit batch for no key update skip locked
  loop
    perform keyring_private.retire_data_key(v_subject);
    v_count := v_count + 1;
  end loop;
  return v_count;
end $function$
comment 'Retires a batch of the keys of a rotation of data keys; returns how many.'

-- function keyring_private.root_check(key bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.root_check(key bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return extensions.hmac('safetypin check'::bytea, key, 'sha256');
end $function$
comment 'What is kept of a key-encryption key to know it again.'

-- function keyring_private.seal(column_name text, organization_id uuid, row_id uuid, subject uuid, value text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.seal(column_name text, organization_id uuid, row_id uuid, subject uuid, value text)
 RETURNS bytea
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_key_id uuid;
begin
  if value is null then
    return null;
  end if;
  v_key_id := keyring_private.ensure_data_key(seal.subject);
  return '\x01'::bytea || uuid_send(v_key_id) || keyring_private.wrap(
    keyring_private.data_key(v_key_id),
    keyring_private.pad(convert_to(value, 'UTF8')),
    '\x01'::bytea || uuid_send(keyring_private.column_id(seal.column_name)) || uuid_send(seal.organization_id)
      || uuid_send(seal.row_id) || uuid_send(v_key_id));
end $function$
comment 'Seals a text for a subject, bound to column, organization (zero uuid if none) and row; null stays null. KEYNO without an application key.'

-- function keyring_private.seal_for_door(column_id uuid, organization_id uuid, row_id uuid, subject uuid, value text, credential_hash bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.seal_for_door(column_id uuid, organization_id uuid, row_id uuid, subject uuid, value text, credential_hash bytea DEFAULT NULL::bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_key_id uuid := keyring_private.ensure_data_key(subject, credential_hash);
  v_data bytea := keyring_private.door_data(column_id, organization_id, row_id, uuid_send(v_key_id));
  v_sealed bytea;
begin
  v_sealed := uuid_send(v_key_id) || keyring_private.wrap(
    keyring_private.find_data_key(v_key_id, credential_hash), keyring_private.pad(convert_to(value, 'UTF8')), v_data);
  return (select '\x02'::bytea || keyring_private.stamp(v_data || uuid_send(seal_for_door.subject) || v_sealed, k.inner_pad, k.outer_pad) || v_sealed
    from keyring_private.seal_keys k where k.purpose = 'value');
end $function$
comment 'Seals a value for a row of a door''s column under the subject''s current key.'

-- function keyring_private.sealed_roots(transport uuid, sealed bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.sealed_roots(transport uuid, sealed bytea)
 RETURNS TABLE(version integer, half bytea, application_id bytea, check_value bytea, created_at timestamp with time zone)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_opened bytea;
  v_one bytea;
begin
  v_opened := keyring_private.unwrap(
    (select t.key from keyring_private.transport_keys t where t.id = transport and t.retired_at is null), sealed,
    '\x04'::bytea || uuid_send(transport));
  for i in 0 .. length(v_opened) / 84 - 1 loop
    v_one := substr(v_opened, 84 * i + 1, 84);
    version := ('x' || encode(substr(v_one, 1, 4), 'hex'))::bit(32)::integer;
    half := substr(v_one, 5, 32);
    application_id := substr(v_one, 37, 8);
    check_value := substr(v_one, 45, 32);
    created_at := to_timestamp(('x' || encode(substr(v_one, 77, 8), 'hex'))::bit(64)::bigint / 1000.0);
    return next;
  end loop;
end $function$
comment 'Roots that come sealed under a transport key: 84 bytes each (version 4, half 32, application 8, check 32, milliseconds since 1970 8). KEYBD if they do not open.'

-- function keyring_private.stamp(data bytea, inner_pad bytea, outer_pad bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.stamp(data bytea, inner_pad bytea, outer_pad bytea)
 RETURNS bytea
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN substr(sha256((outer_pad || sha256((inner_pad || data)))), 1, 16)
comment 'The first half of an HMAC-SHA-256 under the two padded blocks of a key.'

-- function keyring_private.steps(kind text, indexed boolean)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.steps(kind text, indexed boolean)
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE kind WHEN 'seal'::text THEN CASE WHEN indexed THEN ARRAY['rows'::text, 'wait'::text, 'sealed'::text, 'wait'::text, 'clear'::text] ELSE ARRAY['rows'::text, 'sealed'::text] END WHEN 'unseal'::text THEN ARRAY['wait'::text, 'rows'::text] WHEN 'reseal'::text THEN ARRAY['turn'::text, 'rows'::text] WHEN 'reindex'::text THEN ARRAY['key'::text, 'wait'::text, 'fill'::text, 'wait'::text, 'drop'::text, 'wait'::text, 'clear'::text] ELSE NULL::text[] END
comment 'The steps of a work on rows. rows, fill and clear are the worker''s, see keyring.work_rows(); the others the keeper''s, see keyring_private.do_step().'

-- function keyring_private.unpad(padded bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.unpad(padded bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 IMMUTABLE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_size integer := length(padded);
  v_length integer;
begin
  if v_size >= 28 and ((v_size + 4) & (v_size + 3)) = 0 then
    v_length := (get_byte(padded, 0) << 24) + (get_byte(padded, 1) << 16) + (get_byte(padded, 2) << 8) + get_byte(padded, 3);
    -- One way to pad each value: the smallest bucket that takes it, and nothing but zeros behind it.
    if v_length between 0 and v_size - 4 and (v_size = 28 or v_length > v_size / 2 - 6)
      and ltrim(substr(padded, v_length + 5), decode('00', 'hex')) = ''::bytea then
      return substr(padded, 5, v_length);
    end if;
  end if;
  raise exception 'the value cannot be opened' using errcode = 'KEYBD';
end $function$
comment 'The reverse of pad(); KEYBD for what pad() did not make.'

-- function keyring_private.unwrap(key bytea, wrapped bytea, aad bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.unwrap(key bytea, wrapped bytea, aad bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if length(wrapped) < 64 then
    raise exception 'the value cannot be opened' using errcode = 'KEYBD';
  end if;
  return keyring_private.a256cbc_hs512_decrypt(
    key, substr(wrapped, 1, 16), substr(wrapped, 17, length(wrapped) - 48), substr(wrapped, length(wrapped) - 31), aad);
end $function$
comment 'Opens what wrap() made; KEYBD for every failure.'

-- function keyring_private.work_reseal(work keyring_private.works, batch integer)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.work_reseal(work keyring_private.works, batch integer)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_phase text := work.position ->> 'phase';
  v_next text;
  v_count integer := 0;
begin
  if work.column_id is not null then
    return keyring_private.reseal_own(work, batch);
  end if;
  case v_phase
    when 'retire' then
      v_count := keyring_private.retire_keys(work, least(batch, 1000));
      v_next := case when v_count = 0 then 'wait' end;
    when 'wait' then
      if not keyring_private.has_waited(work) then
        return null;
      end if;
      v_next := 'values';
    when 'values' then
      if exists (select from keyring_private.works w where w.kind = 'reseal' and w.column_id is not null and w.finished_at is null) then
        return null;
      end if;
      v_next := 'last';
    when 'last' then
      -- Whoever reads still may have begun while values stood under the keys that go now.
      if (work.position ->> 'destroy')::boolean and not keyring_private.has_waited(work) then
        return null;
      end if;
      v_next := 'end';
    else
      if (work.position ->> 'destroy')::boolean then
        delete from keyring_private.data_keys k using (
            select o.id from keyring_private.data_keys o
              where o.retired_at is not null and o.subject = coalesce((work.position ->> 'subject')::uuid, o.subject) limit batch) old
          where k.id = old.id;
        get diagnostics v_count = row_count;
      end if;
      return v_count;
  end case;
  if v_next is not null then
    update keyring_private.works w set position = w.position - 'wait' || jsonb_build_object('phase', v_next) where w.id = work.id;
  end if;
  return greatest(v_count, 1);
end $function$
comment 'One batch of a rotation of data keys: retires them, waits for whoever uses them still and for the columns, and destroys them if that was asked for; or a batch of one of our own columns.'

-- function keyring_private.work_rewrap(work keyring_private.works, batch integer)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.work_rewrap(work keyring_private.works, batch integer)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_root integer := (work.position ->> 'root')::integer;
  v_count integer;
  v_others integer;
begin
  if v_root is null then
    if work.position ? 'application' and not keyring_private.everybody_holds_next() then
      return null;
    end if;
    v_root := keyring_private.next_root(work);
  end if;
  -- Each root's key is derived once, not once for each row.
  with keks as materialized (
      select r.version, keyring_private.key_encryption_key(r.version) as key from keyring_private.roots r where r.version <= v_root),
    old as (
      select k.id from keyring_private.data_keys k where k.root_version < v_root limit batch for no key update skip locked)
    update keyring_private.data_keys k
      set root_version = v_root, wrapped = keyring_private.wrap(
        n.key, keyring_private.unwrap(o.key, k.wrapped, '\x02'::bytea || uuid_send(k.id) || uuid_send(k.subject)),
        '\x02'::bytea || uuid_send(k.id) || uuid_send(k.subject))
      from old, keks o, keks n
      where k.id = old.id and o.version = k.root_version and n.version = v_root;
  get diagnostics v_count = row_count;
  if v_count > 0 then
    return v_count;
  end if;
  with keks as materialized (
      select r.version, keyring_private.key_encryption_key(r.version) as key from keyring_private.roots r where r.version <= v_root),
    old as (
      select k.column_id, k.slot from keyring_private.index_keys k where k.root_version < v_root limit batch for no key update skip locked)
    update keyring_private.index_keys k
      set root_version = v_root, wrapped = keyring_private.wrap(
        n.key, keyring_private.unwrap(o.key, k.wrapped, '\x03'::bytea || uuid_send(k.column_id)),
        '\x03'::bytea || uuid_send(k.column_id))
      from old, keks o, keks n
      where k.column_id = old.column_id and k.slot = old.slot and o.version = k.root_version and n.version = v_root;
  get diagnostics v_count = row_count;
  if v_count > 0 then
    return v_count;
  end if;
  -- Whoever is making a key under an old root holds it until the commit, which shows that key to the next statement.
  with held as (select r.version from keyring_private.roots r where r.version < v_root for update skip locked)
    select count(*) into v_count from held;
  select count(*) into v_others from keyring_private.roots r where r.version < v_root;
  if v_count < v_others
    or exists (select from keyring_private.data_keys k where k.root_version < v_root)
    or exists (select from keyring_private.index_keys k where k.root_version < v_root) then
    return null;
  end if;
  delete from keyring_private.roots r where r.version < v_root;
  return 0;
end $function$
comment 'One batch of a rotation of the root: makes the new one, wraps keys under it, and when all are, deletes the old one.'

-- function keyring_private.wrap(key bytea, plaintext bytea, aad bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.wrap(key bytea, plaintext bytea, aad bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_iv bytea := extensions.gen_random_bytes(16);
  v_sealed record;
begin
  v_sealed := keyring_private.a256cbc_hs512_encrypt(key, v_iv, plaintext, aad);
  return v_iv || v_sealed.ciphertext || v_sealed.tag;
end $function$
comment 'Seals under a fresh random IV; returns IV, ciphertext and tag in one.'

-- function keyring_private.written(value anyelement)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION keyring_private.written(value anyelement)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "DateStyle" TO 'ISO, YMD'
 SET "IntervalStyle" TO 'iso_8601'
 SET "TimeZone" TO 'UTC'
 SET extra_float_digits TO '1'
AS $function$
begin
  return value::text;
end $function$
comment 'A value as text that each client reads alike, whatever it has set.'

-- function platform.beat()
owner safetypin_definer
CREATE OR REPLACE FUNCTION platform.beat()
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- Nothing is written while nobody copies this server.
  if not exists (select from pg_stat_replication) then
    return false;
  end if;
  insert into platform_private.heartbeat as h (at) values (clock_timestamp())
    on conflict on constraint heartbeat_pkey do update set at = excluded.at;
  return true;
end $function$
comment 'Called by each server process every second or two: lets replicas know how old their copy is. Returns whether there is a replica.'

-- function platform.clean_up(batch integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION platform.clean_up(batch integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_batch integer := least(greatest(batch, 1), 10000);
  v_count integer;
  v_total integer := 0;
begin
  if request.task() is distinct from 'platform__clean_up' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  -- Its context and its note go with it.
  delete from graphile_worker._private_jobs j
    using (select w.id from graphile_worker._private_jobs w
           join platform_private.failed_jobs f on f.job_id = w.id
           where w.locked_at is null and w.attempts >= w.max_attempts
             and f.failed_at < clock_timestamp() - make_interval(secs => platform.limit_value('keep.failed_job_seconds'))
           limit v_batch for update of w skip locked) old
    where j.id = old.id;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;
  -- Left behind when jobs were removed past their trigger: nobody holds these.
  delete from platform_private.job_contexts c
    using (select o.id from platform_private.job_contexts o
           where o.created_at < clock_timestamp() - interval '1 day'
             and not exists (select from graphile_worker._private_jobs w where w.id = o.job_id)
           limit v_batch) old
    where c.id = old.id;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;
  delete from platform_private.failed_jobs f
    where f.failed_at < clock_timestamp() - interval '1 day'
      and not exists (select from graphile_worker._private_jobs w where w.id = f.job_id);
  return v_total;
end $function$
comment 'Task platform__clean_up: removes a batch of jobs that were given up long ago, and of contexts without a job; returns how many. DENYD outside it.'

-- function platform.enqueue(task text, payload json)
owner safetypin_definer
CREATE OR REPLACE FUNCTION platform.enqueue(task text, payload json)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_task platform.tasks;
  v_organization uuid := request.organization_id();
  v_person uuid := request.user_id();
  v_lane uuid := coalesce(v_organization, v_person, platform.no_organization());
  v_waiting integer;
  v_job bigint;
begin
  select t.* into v_task from platform.tasks t where t.name = enqueue.task and not t.scheduled;
  if not found then
    raise exception 'no task of that name' using errcode = '22023';
  end if;
  -- Ids and nothing else: a payload is kept in clear for as long as its job is. (json keeps a key that is there twice.)
  if json_typeof(payload) is distinct from 'object'
    or array(select e.key from json_each(payload) e order by e.key collate "C")
      <> array(select k.name from unnest(v_task.payload) k (name) order by k.name collate "C")
    or exists (
      select from json_each(payload) e
      where json_typeof(e.value) <> 'string'
        or (payload ->> e.key) !~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$') then
    raise exception 'a payload of this task holds other things' using errcode = '22023';
  end if;
  -- The n-th waiting job of an organization comes after the n-1 first ones of every other: whoever asks for a hundred
  -- thousand waits for themselves. Counted only so far that counting stays cheap.
  select count(*) into v_waiting
    from (select from platform_private.job_contexts c where c.lane = v_lane
          limit platform.limit_value('job.turn_depth')) c;
  v_job := graphile_worker.safetypin_add_job(enqueue.task, enqueue.payload, v_task.attempts, v_waiting);
  insert into platform_private.job_contexts (job_id, task, organization_id, person_id, permissions, lane, payload)
    values (v_job, v_task.name, v_organization, v_person,
      -- What an API key sets going has no more than the key.
      array(select p from unnest(v_task.permissions) p where request.kind() is distinct from 'key' or request.can(p)),
      v_lane, enqueue.payload::jsonb);
  return v_job;
end $function$
comment 'Makes a job of a known task in this transaction, on behalf of who asks now. For definer functions only. 22023 for an unknown task, or a payload that is not the ids which the task names.'

-- function platform.limit_value(name text)
owner safetypin_owner
CREATE OR REPLACE FUNCTION platform.limit_value(name text)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  -- PL/pgSQL keeps the plan between calls; a function in SQL would start anew at each.
  return (select l.value from platform.limits l where l.name = limit_value.name);
end $function$
comment 'The number in force for a limit; null for an unknown name.'

-- function platform.no_organization()
owner safetypin_owner
CREATE OR REPLACE FUNCTION platform.no_organization()
 RETURNS uuid
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ select '00000000-0000-0000-0000-000000000000'::uuid $function$
comment 'The zero uuid: stands for "no organization" where a key needs one.'

-- function platform.open_job(job_id bigint, envelope bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION platform.open_job(job_id bigint, envelope bytea)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Borrows from the keeper: reading the job and sealing a context. Instead of a credential it demands that the job is
-- locked by a worker now.
declare
  v_task platform.tasks;
  v_context platform_private.job_contexts;
begin
  -- As for a request, see sessions.open_request(): the job can be opened anew with another envelope.
  if envelope is not null and not exists (
      select from keyring_private.transport_keys t where uuid_send(t.id) = substr(envelope, 2, 16) and t.retired_at is null) then
    raise exception 'the transport key of this job is gone' using errcode = 'KEYNO';
  end if;
  select t.* into v_task
    from graphile_worker.jobs j
    join platform.tasks t on t.name = j.task_identifier
    where j.id = open_job.job_id and j.locked_at is not null;
  if not found then
    raise exception 'the job is not running now' using errcode = 'CTXJB';
  end if;
  select c.* into v_context
    from platform_private.job_contexts c
    where c.job_id = open_job.job_id and c.task = v_task.name;
  if not found then
    if not v_task.scheduled then
      raise exception 'the job has no context' using errcode = 'CTXJB';
    end if;
    insert into platform_private.job_contexts (job_id, task, permissions)
      values (open_job.job_id, v_task.name, v_task.permissions)
      returning * into v_context;
  end if;
  if not request_private.job_stands(v_context.id) then
    raise exception 'who asked for this job may not do it any more' using errcode = 'CTXRV';
  end if;
  perform request_private.write_context(
    (select request_private.seal(b.body, k.inner_pad, k.outer_pad) || b.body
      from (select request_private.body(2, clock_timestamp() + make_interval(secs => v_task.seconds),
          v_context.id, v_context.person_id, v_context.organization_id, null, 0, '{}') as body offset 0) b
        join keyring_private.seal_keys k on k.purpose = 'request'),
    open_job.envelope);
  return 'safetypin_jobs';
end $function$
comment 'Opens the context of a job that is locked by a worker now; returns the role to run as. CTXJB if it is not running or was not made by platform.enqueue(), CTXRV if who asked for it may not do it any more, KEYNO if the envelope''s transport key is gone or was taken back.'

-- function platform.queue_state()
owner safetypin_definer
CREATE OR REPLACE FUNCTION platform.queue_state()
 RETURNS TABLE(task text, state text, jobs bigint, oldest_seconds double precision)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- A task that is not ours is one label: nobody makes labels without end.
  select coalesce(p.name, 'unknown'), j.state, count(*),
         greatest(0, extract(epoch from clock_timestamp() - min(j.since)))::double precision
    from (select w.task_id,
            case
              when w.locked_at is not null then 'running'
              when w.attempts >= w.max_attempts then 'failed'
              when w.run_at <= clock_timestamp() then 'waiting'
              when w.attempts > 0 then 'retrying'
              else 'scheduled'
            end as state,
            case
              when w.locked_at is not null then w.locked_at
              when w.attempts >= w.max_attempts then coalesce(f.failed_at, w.updated_at)
              when w.run_at <= clock_timestamp() then w.run_at
              else w.created_at
            end as since
          from graphile_worker._private_jobs w
          left join platform_private.failed_jobs f on f.job_id = w.id) j
    join graphile_worker._private_tasks t on t.id = j.task_id
    left join platform.tasks p on p.name = t.identifier
    group by 1, 2
$function$
comment 'Jobs by task and state, and how long the oldest has been: waiting (due, age since it was due), running (since it was taken), retrying and scheduled (due later, since it was made), failed (for good, since it was given up). For metrics.'

-- function platform.tg_jobs__forget_context()
owner safetypin_definer
CREATE OR REPLACE FUNCTION platform.tg_jobs__forget_context()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
begin
  delete from platform_private.job_contexts c where c.job_id = old.id;
  delete from platform_private.failed_jobs f where f.job_id = old.id;
  return null;
end $function$
comment 'A job is done or gone: so is whom it acted for. Otherwise a job made up under an old id would open that context.'

-- function platform.tg_jobs__note_failure()
owner safetypin_definer
CREATE OR REPLACE FUNCTION platform.tg_jobs__note_failure()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
-- Here, and not in the worker: a job whose worker died in the last try is noted as well.
begin
  if new.locked_at is null and new.attempts >= new.max_attempts then
    insert into platform_private.failed_jobs as f (job_id, task, organization_id, attempts, error)
      select new.id, t.identifier, c.organization_id, new.attempts, left(new.last_error, 200)
        from graphile_worker._private_tasks t
        left join platform_private.job_contexts c on c.job_id = new.id
        where t.id = new.task_id
      on conflict on constraint failed_jobs_pkey do nothing;
  else
    delete from platform_private.failed_jobs f where f.job_id = new.id;
  end if;
  return null;
end $function$
comment 'A job is not tried again, or is after all: so says platform_private.failed_jobs.'

-- function platform.troubled_jobs(most integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION platform.troubled_jobs(most integer DEFAULT 200)
 RETURNS TABLE(id bigint, task text, state text, attempts integer, attempts_allowed integer, since timestamp with time zone, error text)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
  select w.id, t.identifier, case when f.job_id is null then 'retrying' else 'failed' end,
         w.attempts::integer, w.max_attempts::integer, coalesce(f.failed_at, w.created_at), coalesce(f.error, left(w.last_error, 200))
    from graphile_worker._private_jobs w
    join graphile_worker._private_tasks t on t.id = w.task_id
    left join platform_private.failed_jobs f on f.job_id = w.id
    where f.job_id is not null or w.attempts > 0 and w.last_error is not null
    order by f.job_id is null, 6
    limit least(greatest(most, 1), 10000)
$function$
comment 'Jobs that were given up, oldest first, then those that failed and are tried again: what an operator looks at. No payload, no text of others.'

-- function platform.uuid_v7()
owner safetypin_owner
CREATE OR REPLACE FUNCTION platform.uuid_v7()
 RETURNS uuid
 LANGUAGE sql
 PARALLEL SAFE
RETURN (encode(set_bit(set_bit(OVERLAY(uuid_send(gen_random_uuid()) PLACING SUBSTRING(int8send(((EXTRACT(epoch FROM clock_timestamp()) * (1000)::numeric))::bigint) FROM 3) FROM 1 FOR 6), (52)::bigint, 1), (53)::bigint, 1), 'hex'::text))::uuid
comment 'A new UUID version 7 (RFC 9562).'

-- function platform_private.admit(role name, relation regclass, VARIADIC commands text[])
owner safetypin_owner
CREATE OR REPLACE FUNCTION platform_private.admit(role name, relation regclass, VARIADIC commands text[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_command text;
  v_policy name;
begin
  if role not in ('safetypin_keeper', 'safetypin_definer', 'safetypin_owner') then
    raise exception 'only internal roles are admitted' using errcode = '22023';
  end if;
  foreach v_command in array commands loop
    execute format('grant %s on table %s to %I', v_command, relation, role);
    v_policy := format('%s_by_%s', v_command, substr(role, 11));
    execute format('drop policy if exists %I on %s', v_policy, relation);
    execute format('create policy %I on %s for %s to %I %s', v_policy, relation, v_command, role,
      case v_command when 'insert' then 'with check (true)' when 'update' then 'using (true) with check (true)' else 'using (true)' end);
  end loop;
end $function$
comment 'Grants commands on a table to an internal role, with the policy that lets it through. For migrations only.'

-- function request.api_key_id()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request.api_key_id()
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (select c.subject_id from request_private.other_context c where c.kind = '3');
end $function$
comment 'The API key of this request; null for anybody else.'

-- function request.assurance()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request.assurance()
 RETURNS integer
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_assurance integer;
begin
  select c.assurance into v_assurance from request_private.session_context c;
  if not found then
    select c.assurance into v_assurance from request_private.other_context c;
  end if;
  return v_assurance;
end $function$
comment 'Authenticator assurance level of the session, 1 to 3 (SP 800-63B); 1 for API keys, 0 for nobody and for jobs.'

-- function request.can(permission text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request.can(permission text)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_context record;
begin
  -- Held permissions are kept per membership with their times, so a grant that ends is over in the next statement.
  if exists (
      select from request_private.session_context c
        join access_private.held_permissions h
          on h.organization_id = c.organization_id and h.person_id = c.person_id
      where h.permission = can.permission and h.valid @> clock_timestamp()) then
    return true;
  end if;
  select c.kind, c.subject_id, c.organization_id into v_context from request_private.other_context c;
  if v_context.kind = '3' then
    -- A key has what it was made for, as far as whose key it is has that too, now.
    return exists (
      select from access.api_keys k
        where k.organization_id = v_context.organization_id and k.id = v_context.subject_id
          and can.permission = any (k.permissions)
          and case
              when k.person_id is not null then exists (
                select from access_private.held_permissions h
                  where h.organization_id = k.organization_id and h.person_id = k.person_id
                    and h.permission = can.permission and h.valid @> clock_timestamp())
              else exists (
                select from access.service_accounts a
                  where a.organization_id = k.organization_id and a.id = k.service_account_id
                    and can.permission = any (a.permissions))
            end);
  end if;
  return exists (
    select from platform_private.job_contexts j
    where v_context.kind = '2' and j.id = v_context.subject_id and can.permission = any (j.permissions)
      -- The task's permission lends nothing to a person who does not hold it, or does not any more.
      and (j.person_id is null or exists (
        select from access_private.held_permissions h
        where h.organization_id = j.organization_id and h.person_id = j.person_id
          and h.permission = can.permission and h.valid @> clock_timestamp())));
end $function$
comment 'Whether the asker holds a permission (noun.verb) in the active organization, now. In policies always as (select request.can(…)).'

-- function request.id()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request.id()
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (select c.request_id from request_private.sealed_context c);
end $function$
comment 'Id of the request, for correlation with the log of the API.'

-- function request.job_value(name text)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request.job_value(name text)
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (select (j.payload ->> job_value.name)::uuid from request_private.other_context c
    join platform_private.job_contexts j on j.id = c.subject_id where c.kind = '2');
end $function$
comment 'Inside a job: an id that it was made with, by name; null elsewhere. A function of a task acts on nothing else.'

-- function request.kind()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request.kind()
 RETURNS text
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if exists (select from request_private.session_context) then
    return 'session';
  end if;
  return (select case c.kind when '2' then 'job' when '3' then 'key' else 'anonymous' end from request_private.other_context c);
end $function$
comment 'anonymous, session, key or job; null without a valid context.'

-- function request.organization_id()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request.organization_id()
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_id uuid;
begin
  select c.organization_id into v_id from request_private.session_context c;
  if not found then
    select c.organization_id into v_id from request_private.other_context c;
  end if;
  return v_id;
end $function$
comment 'The active organization; null if none. In policies always as (select request.organization_id()).'

-- function request.owner_id()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request.owner_id()
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_id uuid;
begin
  select c.person_id into v_id from request_private.session_context c;
  if not found then
    -- An API key is for the permissions that it has, and for nothing besides.
    select c.person_id into v_id from request_private.other_context c where c.kind <> '3';
  end if;
  return v_id;
end $function$
comment 'The person whose own rows the asker reaches without a permission; null if there is none, as for every API key. In policies always as (select request.owner_id()).'

-- function request.service_account_id()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request.service_account_id()
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (select k.service_account_id from request_private.other_context c
    join access.api_keys k on k.organization_id = c.organization_id and k.id = c.subject_id
    where c.kind = '3');
end $function$
comment 'The service account that asks by an API key; null for anybody else.'

-- function request.session_id()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request.session_id()
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (select c.subject_id from request_private.session_context c);
end $function$
comment 'The session of this request; null for anonymous requests, API keys and jobs.'

-- function request.signed_in_id()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request.signed_in_id()
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (select c.person_id from request_private.session_context c where c.kind = '1');
end $function$
comment 'The person who signed in for this request; null for anybody else. For what a person does for herself alone: joining, leaving, founding.'

-- function request.task()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request.task()
 RETURNS text
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (select j.task from request_private.other_context c
    join platform_private.job_contexts j on j.id = c.subject_id where c.kind = '2');
end $function$
comment 'Name of the task, inside a job; null elsewhere.'

-- function request.user_id()
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request.user_id()
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_id uuid;
begin
  select c.person_id into v_id from request_private.session_context c;
  if not found then
    select c.person_id into v_id from request_private.other_context c;
  end if;
  return v_id;
end $function$
comment 'The person who asks, herself or by an API key of hers; null if nobody does. In policies always as (select request.user_id()).'

-- function request_private.body(kind integer, deadline timestamp with time zone, session_id uuid, person_id uuid, organization_id uuid, credential_hash bytea, assurance integer, metadata jsonb)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request_private.body(kind integer, deadline timestamp with time zone, session_id uuid, person_id uuid, organization_id uuid, credential_hash bytea, assurance integer, metadata jsonb)
 RETURNS text
 LANGUAGE sql
RETURN concat('2', kind, encode(((int4send(pg_backend_pid()) || timestamptz_send(now())) || timestamptz_send(deadline)), 'hex'::text), gen_random_uuid(), COALESCE(session_id, '00000000-0000-0000-0000-000000000000'::uuid), COALESCE(person_id, '00000000-0000-0000-0000-000000000000'::uuid), COALESCE(organization_id, '00000000-0000-0000-0000-000000000000'::uuid), COALESCE(encode(credential_hash, 'hex'::text), repeat('0'::text, 64)), assurance, COALESCE(((metadata ->> 'requestId'::text))::uuid, gen_random_uuid()), metadata)
comment 'Body of a context for this transaction.'

-- function request_private.job_stands(context_id uuid)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request_private.job_stands(context_id uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- A job is never more than who asked for it: not after a suspension, and not after leaving.
begin
  return exists (
    select from platform_private.job_contexts j
      join platform.tasks t on t.name = j.task
      where j.id = job_stands.context_id
        and (not t.needs_asker
          or (j.person_id is null or exists (
                select from identity.people p where p.id = j.person_id and p.status = 'active'))
            and (j.organization_id is null or exists (
                select from access.organizations o
                where o.id = j.organization_id and o.status = 'active' and o.closes_at > clock_timestamp()))
            and (j.person_id is null or j.organization_id is null or exists (
                select from access.memberships m
                where m.organization_id = j.organization_id and m.person_id = j.person_id))));
end $function$
comment 'Whether a job may still act: its context is there, and who asked for it is active and a member, unless the task does without.'

-- function request_private.key_context(credential_hash bytea, metadata jsonb)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request_private.key_context(credential_hash bytea, metadata jsonb)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (
    select request_private.seal(o.body, o.inner_pad, o.outer_pad) || o.body
      from (
        select s.inner_pad, s.outer_pad, request_private.body(
            3, clock_timestamp() + make_interval(secs => r.value),
            k.id, k.person_id, k.organization_id, c.hash, 1, metadata) as body
          from platform.limits r
          join keyring_private.seal_keys s on s.purpose = 'request'
          join access_private.api_key_secrets c on c.hash = key_context.credential_hash
          join access.api_keys k on k.organization_id = c.organization_id and k.id = c.key_id
          -- A shell is for people.
          where r.name = 'request.seconds' and session_user <> 'safetypin_auditor'
            and request_private.key_stands(k.organization_id, k.id, c.hash)
          offset 0
      ) o);
end $function$
comment 'The sealed context of a request with an API key, by the SHA-256 of its secret; null unless the key stands.'

-- function request_private.key_stands(organization_id uuid, key_id uuid, credential_hash bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request_private.key_stands(organization_id uuid, key_id uuid, credential_hash bytea)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Read at each statement: what was revoked, removed or ran out is over in the next one.
begin
  return exists (
    select from access_private.api_key_secrets s
      join access.api_keys k on k.organization_id = s.organization_id and k.id = s.key_id
      join access.organizations o on o.id = k.organization_id and o.status = 'active' and o.closes_at > clock_timestamp()
      where s.hash = key_stands.credential_hash and s.expires_at > clock_timestamp()
        and k.organization_id = key_stands.organization_id and k.id = key_stands.key_id
        and k.revoked_at is null and k.expires_at > clock_timestamp()
        and case
            when k.person_id is not null then exists (
              select from access.memberships m
                join identity.people p on p.id = m.person_id and p.status = 'active'
                where m.organization_id = k.organization_id and m.person_id = k.person_id)
            else exists (
              select from access.service_accounts a
                where a.organization_id = k.organization_id and a.id = k.service_account_id and a.status = 'active')
          end);
end $function$
comment 'Whether an API key may still act: neither it nor this secret of it is over, its organization lives, and whose key it is is active and a member, or an active service account.'

-- function request_private.seal(body text, inner_pad bytea, outer_pad bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request_private.seal(body text, inner_pad bytea, outer_pad bytea)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN encode(sha256((outer_pad || sha256((inner_pad || convert_to(body, 'UTF8'::name))))), 'hex'::text)
comment 'Seal of a body: HMAC-SHA-256 in hex, under the two padded blocks of a key.'

-- function request_private.standing(permission text, OUT organization_id uuid, OUT credential_hash bytea, OUT may boolean)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request_private.standing(permission text, OUT organization_id uuid, OUT credential_hash bytea, OUT may boolean)
 RETURNS record
 LANGUAGE plpgsql
 STABLE PARALLEL RESTRICTED
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  select c.organization_id, c.credential_hash,
      standing.permission is null or exists (
        select from access_private.held_permissions h
          where h.organization_id = c.organization_id and h.person_id = c.person_id
            and h.permission = standing.permission and h.valid @> clock_timestamp())
    into standing.organization_id, standing.credential_hash, standing.may
    from request_private.session_context c;
  if not found then
    organization_id := request.organization_id();
    may := case when permission is null then request.kind() is not null else request.can(permission) end;
  end if;
end $function$
comment 'organization_id() and can() in one query, for what is asked once for each value: whether the asker holds a permission (null: whether there is a request at all). The hash of the credential, null if another query must ask for it.'

-- function request_private.write_context(context text, envelope bytea)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION request_private.write_context(context text, envelope bytea)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  if coalesce(current_setting('safetypin.context', true), '') <> '' then
    raise exception 'this transaction has a context already' using errcode = 'CTXAG';
  end if;
  -- Two transactions of one message share now(), and a context would be good in both. A request that is opened in
  -- a later message than `begin` cannot be: whatever begins after it begins later.
  if statement_timestamp() <= transaction_timestamp() then
    raise exception 'open the request in a later message than begin' using errcode = 'CTXTX';
  end if;
  if octet_length(context) > 4096 then
    raise exception 'the metadata of a request are too long' using errcode = '22023';
  end if;
  return set_config('safetypin.envelope', coalesce(encode(envelope, 'hex'), ''), true)
    || set_config('safetypin.context', context, true);
end $function$
comment 'Writes the sealed context of this transaction. CTXAG if it has one, CTXTX if it began in this very message, 22023 for metadata of more than about 3,500 bytes.'

-- function sessions.clean_up(batch integer)
owner safetypin_definer
CREATE OR REPLACE FUNCTION sessions.clean_up(batch integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_now constant timestamptz := clock_timestamp();
  v_batch constant integer := least(greatest(batch, 1), 10000);
  v_over constant timestamptz := v_now - make_interval(secs => platform.limit_value('keep.credential_seconds'));
  v_count integer;
  v_total integer := 0;
begin
  if request.task() is distinct from 'sessions__clean_up' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  -- That a credential was used is what gives an old refresh token away, for as long as the one after it was not used.
  delete from sessions_private.credentials c
    using (select o.hash from sessions_private.credentials o
           where o.expires_at < v_over
             and not (o.first_used_at is not null and exists (
               select from sessions_private.refresh_tokens t
               join sessions.sessions s on s.id = t.session_id
               where t.hash = o.issued_with and t.rotated_at is null and s.ends_at > v_now))
           limit v_batch for update skip locked) old
    where c.hash = old.hash;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  -- While a session lives each old token of it is kept: presenting one is theft.
  delete from sessions_private.refresh_tokens t
    using (select o.hash from sessions_private.refresh_tokens o
           join sessions.sessions s on s.id = o.session_id
           where s.ends_at < v_over
           limit v_batch for update of o skip locked) old
    where t.hash = old.hash;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  delete from sessions.sessions s
    using (select o.id from sessions.sessions o
           where o.ends_at < v_now - make_interval(secs => platform.limit_value('keep.session_seconds'))
             and not exists (select from sessions_private.credentials c where c.session_id = o.id)
             and not exists (select from sessions_private.refresh_tokens t where t.session_id = o.id)
           limit v_batch for update skip locked) old
    where s.id = old.id;
  get diagnostics v_count = row_count;
  return v_total + v_count;
end $function$
comment 'Task sessions__clean_up: removes a batch of credentials, of refresh tokens and of sessions that are over; returns how many. DENYD outside it.'

-- function sessions.open_request(credential bytea, envelope bytea, metadata jsonb)
owner safetypin_keeper
CREATE OR REPLACE FUNCTION sessions.open_request(credential bytea, envelope bytea, metadata jsonb)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Writes nothing, so that a slow request never stands in the way of a revocation.
declare
  v_context text;
begin
  if pg_is_in_recovery() then
    -- A replica does not know of revocations that it has not been sent yet. It has no transport keys either.
    if not exists (select from platform_private.heartbeat h where h.at > clock_timestamp() - interval '5 seconds') then
      raise exception 'this replica is behind' using errcode = 'OLDCP';
    end if;
  -- A crash empties the table of transport keys, and a rotation takes them back. Refused here, while nothing was done
  -- yet, the request can be opened anew with another envelope and nobody notices.
  elsif envelope is not null and not exists (
      select from keyring_private.transport_keys t where uuid_send(t.id) = substr(envelope, 2, 16) and t.retired_at is null) then
    raise exception 'the transport key of this request is gone' using errcode = 'KEYNO';
  end if;
  if length(credential) = 33 then
    -- An API key. No session has a credential of this length, so neither is ever looked for among the others.
    v_context := request_private.key_context(sha256(credential), metadata);
  else
    -- One query for all of it: every statement here is paid for by every request.
    select request_private.seal(o.body, o.inner_pad, o.outer_pad) || o.body into v_context
      from (
        select k.inner_pad, k.outer_pad, request_private.body(
            case when credential is null then 0 else 1 end, clock_timestamp() + make_interval(secs => r.value),
            s.id, s.person_id, m.organization_id, c.hash, coalesce(s.assurance, 0), metadata) as body
          from platform.limits r
          join platform.limits i on i.name = 'session.idle_seconds'
          join keyring_private.seal_keys k on k.purpose = 'request'
          left join sessions_private.credentials c on c.hash = sha256(credential) and c.expires_at > clock_timestamp()
          left join sessions.sessions s on s.id = c.session_id and s.ends_at > clock_timestamp()
          left join identity.people p on p.id = s.person_id and p.status = 'active'
          left join access.organizations o on o.id = s.organization_id and o.status = 'active' and o.closes_at > clock_timestamp()
          left join access.memberships m on m.organization_id = o.id and m.person_id = s.person_id
          left join sessions.activity a on a.session_id = s.id
          where r.name = 'request.seconds'
            and (credential is null
              or p.id is not null
                and greatest(s.created_at, a.last_used_at) > clock_timestamp() - make_interval(secs => i.value))
          offset 0
      ) o;
  end if;
  if v_context is null then
    raise exception 'no live session or key for this credential' using errcode = 'AUTHN';
  end if;
  v_context := request_private.write_context(v_context, envelope);
  return case
    when session_user = 'safetypin_auditor' then 'safetypin_auditor'
    when credential is null then 'safetypin_anonymous'
    else 'safetypin_member'
  end;
end $function$
comment 'Opens the request of this transaction: select set_config(''role'', sessions.open_request($1, $2, $3), true), all bound. Credential (32 bytes of a session, 33 of an API key, null for nobody), envelope of the application''s half of the key (may be null: then sealed values stay shut), metadata {ip, userAgent, requestId}. Returns the role to become. AUTHN without a live session or key, OLDCP on a replica that is more than 5 s behind, KEYNO if the envelope''s transport key is gone or was taken back, CTXAG if the transaction has a context, CTXTX in the message that began it.'

-- function sessions.record_activity(credential_hashes bytea[], used_at timestamp with time zone[])
owner safetypin_definer
CREATE OR REPLACE FUNCTION sessions.record_activity(credential_hashes bytea[], used_at timestamp with time zone[])
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_count integer;
  v_keys integer;
begin
  -- One batch at a time; a batch that meets another is dropped, the next one brings the same sessions again.
  if not pg_try_advisory_xact_lock(hashtextextended('safetypin activity', 0)) then
    return 0;
  end if;
  -- Only a use that was possible counts: a request with the credential of a session that was idle too long was refused,
  -- and must not bring it back to life.
  insert into sessions.activity as a (session_id, last_used_at)
    select c.session_id, least(max(u.at), clock_timestamp())
      from unnest(credential_hashes, used_at) as u (hash, at)
      join sessions_private.credentials c on c.hash = u.hash and c.expires_at > u.at
      join sessions.sessions s on s.id = c.session_id and s.ends_at > clock_timestamp()
      left join sessions.activity l on l.session_id = s.id
      where u.at < greatest(s.created_at, l.last_used_at)
        + make_interval(secs => platform.limit_value('session.idle_seconds'))
      group by c.session_id
      order by c.session_id
    on conflict on constraint activity_pkey do update
      set last_used_at = greatest(a.last_used_at, excluded.last_used_at);
  get diagnostics v_count = row_count;
  insert into access.api_key_use as a (organization_id, key_id, person_id, last_used_at)
    select k.organization_id, k.id, k.person_id, least(max(u.at), clock_timestamp())
      from unnest(credential_hashes, used_at) as u (hash, at)
      join access_private.api_key_secrets c on c.hash = u.hash and c.expires_at > u.at
      join access.api_keys k on k.organization_id = c.organization_id and k.id = c.key_id
        and k.expires_at > u.at and (k.revoked_at is null or k.revoked_at > u.at)
      where u.at >= k.created_at
      group by k.organization_id, k.id
      order by k.organization_id, k.id
    on conflict on constraint api_key_use_pkey do update
      set last_used_at = greatest(a.last_used_at, excluded.last_used_at);
  get diagnostics v_keys = row_count;
  return v_count + v_keys;
end $function$
comment 'Notes the last use of credentials (SHA-256), gathered by the application and sent about once a minute; returns how many sessions and API keys were noted.'

-- function sessions_private.choose_organization(person_id uuid, wanted uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION sessions_private.choose_organization(person_id uuid, wanted uuid)
 RETURNS uuid
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  -- The one that was asked for, else where the person was last, else the oldest membership.
  select m.organization_id
  from access.memberships m
  join access.organizations o on o.id = m.organization_id and o.status = 'active' and o.closes_at > clock_timestamp()
  left join lateral (
    select max(s.created_at) as at from sessions.sessions s
    where s.person_id = m.person_id and s.organization_id = m.organization_id) last on true
  where m.person_id = choose_organization.person_id
    and (choose_organization.wanted is null or m.organization_id = choose_organization.wanted)
  order by last.at desc nulls last, m.created_at
  limit 1
$function$
comment 'Active organization of a new session; null if there is none, or the wanted one is not the person''s.'

-- function sessions_private.end_session(session_id uuid, because text)
owner safetypin_definer
CREATE OR REPLACE FUNCTION sessions_private.end_session(session_id uuid, because text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_session sessions.sessions;
begin
  update sessions.sessions s set ends_at = clock_timestamp(), ended_because = end_session.because
    where s.id = end_session.session_id and s.ends_at > clock_timestamp()
    returning s.* into v_session;
  if not found then
    return false;
  end if;
  perform audit_private.append('session.end', v_session.organization_id, v_session.person_id,
    jsonb_build_object('session', v_session.id, 'because', end_session.because));
  return true;
end $function$
comment 'Ends a session now; false if it was over.'

-- function sessions_private.end_sessions(person_id uuid, because text, keep uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION sessions_private.end_sessions(person_id uuid, because text, keep uuid DEFAULT NULL::uuid)
 RETURNS integer
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  select count(*) filter (where sessions_private.end_session(s.id, end_sessions.because))::integer
  from sessions.sessions s
  where s.person_id = end_sessions.person_id and s.ends_at > clock_timestamp()
    and s.id is distinct from end_sessions.keep
$function$
comment 'Ends all sessions of a person but one; returns how many.'

-- function sessions_private.hold_organization(organization_id uuid)
owner safetypin_definer
CREATE OR REPLACE FUNCTION sessions_private.hold_organization(organization_id uuid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  perform from access_private.ownership o where o.organization_id = hold_organization.organization_id for share;
end $function$
comment 'Before a session comes into an organization: waits for the turns of those who change it, and they for this one. So a setting that shrinks, or a closing, meets the session, or the session meets it. 40001 in REPEATABLE READ.'

-- function sessions_private.issue(session_id uuid, credential_hash bytea, refresh_hash bytea, OUT access_expires_at timestamp with time zone)
owner safetypin_definer
CREATE OR REPLACE FUNCTION sessions_private.issue(session_id uuid, credential_hash bytea, refresh_hash bytea, OUT access_expires_at timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  select least(s.ends_at, clock_timestamp() + make_interval(secs => platform.limit_value('session.access_seconds')))
    into access_expires_at
    from sessions.sessions s where s.id = issue.session_id;
  insert into sessions_private.credentials (hash, session_id, issued_with, expires_at)
    values (issue.credential_hash, issue.session_id, issue.refresh_hash, issue.access_expires_at);
end $function$
comment 'Issues a credential for a session beside a refresh token, both given as SHA-256; returns its end.'

-- function sessions_private.latest_end(organization_id uuid, created_at timestamp with time zone)
owner safetypin_definer
CREATE OR REPLACE FUNCTION sessions_private.latest_end(organization_id uuid, created_at timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
  return (select least(o.closes_at, latest_end.created_at
      + make_interval(secs => access_private.setting_number(o.id, 'session.absolute_seconds')))
    from access.organizations o where o.id = latest_end.organization_id);
end $function$
comment 'When a session that began then is over in an organization, at the latest; null without an organization.'

-- function sessions_private.start_session(person_id uuid, organization_id uuid, assurance integer, credential_hash bytea, refresh_hash bytea)
owner safetypin_definer
CREATE OR REPLACE FUNCTION sessions_private.start_session(person_id uuid, organization_id uuid, assurance integer, credential_hash bytea, refresh_hash bytea)
 RETURNS uuid
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
  v_id uuid := platform.uuid_v7();
begin
  -- One person's sign-ins take their turn here, so that the number of sessions holds in a race too.
  perform from identity.people p where p.id = start_session.person_id for no key update;
  perform sessions_private.hold_organization(start_session.organization_id);
  perform sessions_private.end_session(s.id, 'limit')
    from (select s.id from sessions.sessions s
          where s.person_id = start_session.person_id and s.ends_at > clock_timestamp()
          order by s.created_at desc
          offset platform.limit_value('session.parallel') - 1) s;
  insert into sessions.sessions (id, person_id, organization_id, assurance, ends_at)
    values (v_id, start_session.person_id, start_session.organization_id, start_session.assurance,
      clock_timestamp() + make_interval(secs => platform.limit_value('session.absolute_seconds')));
  insert into sessions_private.refresh_tokens (hash, session_id) values (start_session.refresh_hash, v_id);
  return v_id;
end $function$
comment 'Starts a session and its family of refresh tokens; ends the oldest when the person has too many.'

-- function sessions_private.tg_memberships__end_sessions()
owner safetypin_definer
CREATE OR REPLACE FUNCTION sessions_private.tg_memberships__end_sessions()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
begin
  perform sessions_private.end_session(s.id, 'membership')
    from sessions.sessions s
    where s.person_id = old.person_id and s.organization_id = old.organization_id;
  return null;
end $function$
comment 'A membership ended: the person''s sessions in that organization end.'

-- function sessions_private.tg_organizations__end_sessions()
owner safetypin_definer
CREATE OR REPLACE FUNCTION sessions_private.tg_organizations__end_sessions()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
begin
  if new.status <> 'active' and old.status = 'active' then
    perform sessions_private.end_session(s.id, 'organization')
      from sessions.sessions s
      where s.organization_id = new.id;
  end if;
  -- Over by the clock, in an open transaction too, without anybody asking the organization at each statement.
  if new.closes_at < old.closes_at then
    update sessions.sessions s set ends_at = new.closes_at
      where s.organization_id = new.id and s.ends_at > new.closes_at;
  end if;
  return null;
end $function$
comment 'An organization is not active any more: the sessions in it end. It is going to close: they end with it.'

-- function sessions_private.tg_people__end_sessions()
owner safetypin_definer
CREATE OR REPLACE FUNCTION sessions_private.tg_people__end_sessions()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
begin
  if new.status <> 'active' and old.status = 'active' then
    perform sessions_private.end_sessions(new.id, 'person');
  end if;
  return null;
end $function$
comment 'A person is not active any more: all sessions end.'

-- function sessions_private.tg_sessions__cap()
owner safetypin_definer
CREATE OR REPLACE FUNCTION sessions_private.tg_sessions__cap()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
begin
  -- An end in the past stays what it is, and an earlier one than before is never too late.
  if new.organization_id is not null and new.ends_at > clock_timestamp()
    and (tg_op = 'INSERT' or new.organization_id is distinct from old.organization_id or new.ends_at > old.ends_at)
  then
    new.ends_at := least(new.ends_at, sessions_private.latest_end(new.organization_id, new.created_at));
  end if;
  return new;
end $function$
comment 'No session in an organization lasts longer than its setting session.absolute_seconds says, nor than the organization.'

-- function sessions_private.tg_settings__cap_sessions()
owner safetypin_definer
CREATE OR REPLACE FUNCTION sessions_private.tg_settings__cap_sessions()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
AS $function$
declare
  v_setting access.settings := case when tg_op = 'DELETE' then old else new end;
  v_most interval;
begin
  if v_setting.name = 'session.absolute_seconds' then
    v_most := make_interval(secs => access_private.setting_number(v_setting.organization_id, v_setting.name));
    update sessions.sessions s set ends_at = s.created_at + v_most
      where s.organization_id = v_setting.organization_id and s.ends_at > clock_timestamp() and s.ends_at > s.created_at + v_most;
  end if;
  return null;
end $function$
comment 'A shorter session.absolute_seconds counts for the sessions that live, too. A longer one gives nothing back to them.'

-- schema access
owner safetypin_owner
comment 'Organizations, memberships, roles, permissions, and access.protect().'

-- schema access_private
owner safetypin_owner
comment 'What is worked out from roles and grants.'

-- schema api
owner safetypin_owner
comment 'Functions of the GraphQL API that compose several domains.'

-- schema api_steps
owner safetypin_owner
comment 'Steps of sign-up, sign-in and recovery, called by the TypeScript layer; not served by themselves.'

-- schema audit
owner safetypin_owner
comment 'The audit trail: append-only events, one canonical entry each.'

-- schema audit_private
owner safetypin_owner
comment 'Internal parts of the audit trail.'

-- schema extensions
owner safetypin_owner
comment 'Functions of PostgreSQL extensions. Only the keeper and the definer may call them.'

-- schema identity
owner safetypin_owner
comment 'People.'

-- schema identity_private
owner safetypin_owner
comment 'Addresses, passwords, tokens and attempts; no run-time role reaches it.'

-- schema keyring
owner safetypin_owner
comment 'Sealed columns: what an application or a DBA calls.'

-- schema keyring_private
owner safetypin_owner
comment 'Keys and cipher; keeper only. A key is opened from two halves: one here, one held by the application.'

-- schema platform
owner safetypin_owner
comment 'Ground for all domains: error register, limits, ids, jobs.'

-- schema platform_private
owner safetypin_owner
comment 'Internal parts of platform; no run-time role reaches it.'

-- schema public
owner pg_database_owner
comment 'standard public schema'

-- schema request
owner safetypin_owner
comment 'Who is asking: accessors over the sealed context of the current transaction.'

-- schema request_private
owner safetypin_owner
comment 'Verification of the sealed context; keeper only.'

-- schema sessions
owner safetypin_owner
comment 'Sessions, and opening a request with one.'

-- schema sessions_private
owner safetypin_owner
comment 'Credentials and refresh tokens, as hashes; no run-time role reaches it.'

-- sequence keyring_private.opening_numbers
bigint start 1 increment 1 owned by nobody
comment 'Counts what was read of sensitive columns. Never goes back.'

-- table access.api_key_use
owner safetypin_owner row security forced with (fillfactor=70)
organization_id uuid not null default request.organization_id() -- Organization.
key_id uuid not null -- API key.
person_id uuid -- Member whose key it is; null for the key of a service account.
last_used_at timestamp with time zone not null -- Last use, to about a minute.
constraint api_key_use_key_exists FOREIGN KEY (organization_id, key_id) REFERENCES access.api_keys(organization_id, id) ON DELETE CASCADE
constraint api_key_use_pkey PRIMARY KEY (organization_id, key_id)
CREATE INDEX api_key_use_organization_id_person_id_idx ON access.api_key_use USING btree (organization_id, person_id)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy safetypin_may_select as permissive for select to safetypin_member using ((( SELECT request.can('api_key.read'::text) AS can) OR (person_id = ( SELECT request.owner_id() AS owner_id))))
policy safetypin_tenant_select as restrictive for select to safetypin_member using ((organization_id = ( SELECT request.organization_id() AS organization_id)))
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Last use of API keys, written in batches, apart from the key so that use never waits for a revocation or the other way round.'

-- table access.api_keys
owner safetypin_owner row security forced
organization_id uuid not null default request.organization_id() -- Organization that it acts in.
id uuid not null default platform.uuid_v7() -- UUID version 7; not a secret.
name text not null -- What it is for, for people.
person_id uuid -- Member whose key it is; null for the key of a service account.
service_account_id uuid -- Service account whose key it is; null for a personal key.
permissions text[] not null -- What it may do at most.
prefix text not null -- How its newest secret begins, to recognize it by.
expires_at timestamp with time zone not null -- When it ends; no job has to run for that.
revoked_at timestamp with time zone -- When it was ended before its time; null if it was not.
rotated_at timestamp with time zone -- When it got its newest secret; null if that is its first.
created_by uuid -- Who made it; null once that person is gone.
created_at timestamp with time zone not null default clock_timestamp() -- When it was made.
constraint api_keys_creator_exists FOREIGN KEY (created_by) REFERENCES identity.people(id) ON DELETE SET NULL
constraint api_keys_member_exists FOREIGN KEY (organization_id, person_id) REFERENCES access.memberships(organization_id, person_id) ON DELETE CASCADE
constraint api_keys_name_length CHECK (((length(name) >= 1) AND (length(name) <= 100)))
constraint api_keys_one_owner CHECK (((person_id IS NULL) <> (service_account_id IS NULL)))
constraint api_keys_organization_exists FOREIGN KEY (organization_id) REFERENCES access.organizations(id) ON DELETE CASCADE
constraint api_keys_pkey PRIMARY KEY (organization_id, id)
constraint api_keys_prefix_form CHECK ((prefix ~ '^sp_[A-Za-z0-9_-]{9}$'::text))
constraint api_keys_service_account_exists FOREIGN KEY (organization_id, service_account_id) REFERENCES access.service_accounts(organization_id, id) ON DELETE CASCADE
CREATE INDEX api_keys_created_by_idx ON access.api_keys USING btree (created_by)
CREATE INDEX api_keys_person_idx ON access.api_keys USING btree (organization_id, person_id)
CREATE INDEX api_keys_service_account_idx ON access.api_keys USING btree (organization_id, service_account_id)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy safetypin_may_select as permissive for select to safetypin_member using ((( SELECT request.can('api_key.read'::text) AS can) OR (person_id = ( SELECT request.owner_id() AS owner_id))))
policy safetypin_tenant_select as restrictive for select to safetypin_member using ((organization_id = ( SELECT request.organization_id() AS organization_id)))
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
CREATE TRIGGER _800_audit AFTER INSERT OR DELETE OR UPDATE ON access.api_keys FOR EACH ROW EXECUTE FUNCTION audit.record_change('organization_id', 'organization_id', 'id') -- enabled always
comment 'API keys: personal ones, of a member, and those of service accounts. What a key may do is what it and its owner both may.'

-- table access.domains
owner safetypin_owner row security forced
organization_id uuid not null default request.organization_id() -- Organization.
id uuid not null default platform.uuid_v7() -- UUID version 7.
domain text collate "C" not null -- The domain in ASCII and lower case, as DNS has it. It stands for itself: neither for what is under it nor above.
status text not null default 'pending'::text -- pending: not proved yet. verified: proved, and again every 30 days. lost: was, and is not any more.
challenge text not null default encode((uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex'::text) -- Random part of the TXT record, for this organization and this domain alone.
challenge_name text generated always as (('_safetypin-challenge.'::text || domain)) stored -- Name of the TXT record that proves the domain.
challenge_value text generated always as (('safetypin-verification='::text || challenge)) stored -- Value of the TXT record. Others may stand beside it.
added_by uuid -- Who added it; null once that person is gone.
created_at timestamp with time zone not null default clock_timestamp() -- When it was added.
asked_at timestamp with time zone -- When somebody last asked for a check; null if nobody has.
checked_at timestamp with time zone -- When DNS was last asked.
last_answer text -- proved; absent: DNS has no such record; unanswered: DNS did not answer, which says nothing; taken: proved, but another organization's proof stands.
next_check_at timestamp with time zone default clock_timestamp() -- When DNS is asked next; null: when somebody asks for it.
failures integer not null default 0 -- How often in a row the record was not there.
verified_at timestamp with time zone -- Since when it is verified.
lost_at timestamp with time zone -- When it was lost.
constraint domains_adder_exists FOREIGN KEY (added_by) REFERENCES identity.people(id) ON DELETE SET NULL
constraint domains_domain_form CHECK (((length(domain) <= 230) AND (domain ~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z][a-z0-9-]{0,61}[a-z0-9]$'::text)))
constraint domains_domain_unique UNIQUE (organization_id, domain)
constraint domains_last_answer_known CHECK ((last_answer = ANY (ARRAY['proved'::text, 'absent'::text, 'unanswered'::text, 'taken'::text])))
constraint domains_organization_exists FOREIGN KEY (organization_id) REFERENCES access.organizations(id) ON DELETE CASCADE
constraint domains_pkey PRIMARY KEY (organization_id, id)
constraint domains_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'verified'::text, 'lost'::text])))
CREATE INDEX domains_added_by_idx ON access.domains USING btree (added_by)
CREATE INDEX domains_next_check_at_idx ON access.domains USING btree (next_check_at) WHERE (next_check_at IS NOT NULL)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy safetypin_may_select as permissive for select to safetypin_member using (( SELECT request.can('domain.read'::text) AS can))
policy safetypin_tenant_select as restrictive for select to safetypin_member using ((organization_id = ( SELECT request.organization_id() AS organization_id)))
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Domains that an organization says are its own, and how far the proof is.'

-- table access.exemptions
owner safetypin_owner row security forced
object text not null -- Table, view or function (with the types of its arguments), with its schema.
reason text not null -- Why it needs no rules, for whoever reviews it.
constraint exemptions_pkey PRIMARY KEY (object)
constraint exemptions_reason_length CHECK (((length(reason) >= 10) AND (length(reason) <= 1000)))
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_owner as permissive for select to safetypin_owner using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'What is in an exposed schema and under no rules, each with the reason. access.gaps() passes over it.'

-- table access.invitations
owner safetypin_owner row security forced
organization_id uuid not null default request.organization_id() -- Organization.
id uuid not null default platform.uuid_v7() -- UUID version 7; not the token, which stands in the mail alone.
role_id uuid -- Role that whoever accepts gets; null once that role is gone, and then nobody can accept.
role_valid_until timestamp with time zone not null default 'infinity'::timestamp with time zone -- Until when they hold that role.
status text not null default 'open'::text -- open, accepted or revoked. One that ran out stays open: see expiresAt.
invited_by uuid -- Who invited, or sent it again. It is void when they could not invite to that role any more.
accepted_by uuid -- Who accepted; null until then, and once that person is gone.
created_at timestamp with time zone not null default clock_timestamp() -- When it was made.
expires_at timestamp with time zone not null -- Nobody can accept it from then on.
ended_at timestamp with time zone -- When it was accepted or revoked; null while it is open.
constraint invitations_accepter_exists FOREIGN KEY (accepted_by) REFERENCES identity.people(id) ON DELETE SET NULL
constraint invitations_end_is_known CHECK (((status = 'open'::text) = (ended_at IS NULL)))
constraint invitations_inviter_exists FOREIGN KEY (invited_by) REFERENCES identity.people(id) ON DELETE SET NULL
constraint invitations_organization_exists FOREIGN KEY (organization_id) REFERENCES access.organizations(id) ON DELETE CASCADE
constraint invitations_pkey PRIMARY KEY (organization_id, id)
constraint invitations_role_exists FOREIGN KEY (organization_id, role_id) REFERENCES access.roles(organization_id, id) ON DELETE SET NULL (role_id)
constraint invitations_status_known CHECK ((status = ANY (ARRAY['open'::text, 'accepted'::text, 'revoked'::text])))
CREATE INDEX invitations_accepted_by_idx ON access.invitations USING btree (accepted_by)
CREATE INDEX invitations_created_at_idx ON access.invitations USING btree (organization_id, created_at)
CREATE INDEX invitations_invited_by_idx ON access.invitations USING btree (invited_by)
CREATE INDEX invitations_role_idx ON access.invitations USING btree (organization_id, role_id)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy safetypin_may_select as permissive for select to safetypin_member using (( SELECT request.can('invitation.read'::text) AS can))
policy safetypin_tenant_select as restrictive for select to safetypin_member using ((organization_id = ( SELECT request.organization_id() AS organization_id)))
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
CREATE TRIGGER _800_audit AFTER INSERT OR DELETE OR UPDATE ON access.invitations FOR EACH ROW EXECUTE FUNCTION audit.record_change('organization_id', 'organization_id', 'id') -- enabled always
comment 'Who was asked to join an organization, and what became of it.'

-- table access.membership_roles
owner safetypin_owner row security forced
organization_id uuid not null default request.organization_id() -- Organization.
id uuid not null default platform.uuid_v7() -- UUID version 7.
membership_id uuid not null -- Membership.
role_id uuid not null -- Role.
valid_from timestamp with time zone not null default '-infinity'::timestamp with time zone -- From when it counts.
valid_until timestamp with time zone not null default 'infinity'::timestamp with time zone -- Until when it counts; no job has to run for it to end.
granted_by uuid -- Who granted it; null once that person is gone, and for the founder.
created_at timestamp with time zone not null default clock_timestamp() -- When it was granted.
constraint membership_roles_granter_exists FOREIGN KEY (granted_by) REFERENCES identity.people(id) ON DELETE SET NULL
constraint membership_roles_membership_exists FOREIGN KEY (organization_id, membership_id) REFERENCES access.memberships(organization_id, id) ON DELETE CASCADE
constraint membership_roles_pkey PRIMARY KEY (organization_id, id)
constraint membership_roles_role_exists FOREIGN KEY (organization_id, role_id) REFERENCES access.roles(organization_id, id) ON DELETE CASCADE
constraint membership_roles_window_order CHECK ((valid_from < valid_until))
CREATE INDEX membership_roles_granted_by_idx ON access.membership_roles USING btree (granted_by)
CREATE INDEX membership_roles_membership_idx ON access.membership_roles USING btree (organization_id, membership_id)
CREATE INDEX membership_roles_role_idx ON access.membership_roles USING btree (organization_id, role_id)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy safetypin_may_select as permissive for select to safetypin_member using (( SELECT request.can('member.read'::text) AS can))
policy safetypin_tenant_select as restrictive for select to safetypin_member using ((organization_id = ( SELECT request.organization_id() AS organization_id)))
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
CREATE TRIGGER _500_forget_held AFTER TRUNCATE ON access.membership_roles FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg__forget_held()
CREATE TRIGGER _500_work_out_changed AFTER UPDATE ON access.membership_roles REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_membership_roles__work_out()
CREATE TRIGGER _500_work_out_gone AFTER DELETE ON access.membership_roles REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_membership_roles__work_out()
CREATE TRIGGER _500_work_out_new AFTER INSERT ON access.membership_roles REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_membership_roles__work_out()
CREATE TRIGGER _510_work_out_left AFTER UPDATE ON access.membership_roles REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_membership_roles__work_out()
CREATE TRIGGER _600_keep_owner_changed AFTER UPDATE ON access.membership_roles REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_keep_owner()
CREATE TRIGGER _600_keep_owner_gone AFTER DELETE ON access.membership_roles REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_keep_owner()
CREATE TRIGGER _800_audit AFTER INSERT OR DELETE OR UPDATE ON access.membership_roles FOR EACH ROW EXECUTE FUNCTION audit.record_change('organization_id', 'organization_id', 'id') -- enabled always
comment 'Roles that a member holds, each for its time.'

-- table access.memberships
owner safetypin_owner row security forced
organization_id uuid not null default request.organization_id() -- Organization.
id uuid not null default platform.uuid_v7() -- UUID version 7.
person_id uuid not null -- Person.
created_at timestamp with time zone not null default clock_timestamp() -- Since when.
constraint memberships_organization_exists FOREIGN KEY (organization_id) REFERENCES access.organizations(id) ON DELETE CASCADE
constraint memberships_person_exists FOREIGN KEY (person_id) REFERENCES identity.people(id) ON DELETE CASCADE
constraint memberships_person_unique UNIQUE (organization_id, person_id)
constraint memberships_pkey PRIMARY KEY (organization_id, id)
CREATE INDEX memberships_person_id_idx ON access.memberships USING btree (person_id, organization_id)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy safetypin_may_select as permissive for select to safetypin_member using ((( SELECT request.can('member.read'::text) AS can) OR (person_id = ( SELECT request.owner_id() AS owner_id))))
policy safetypin_tenant_select as restrictive for select to safetypin_member using ((organization_id = ( SELECT request.organization_id() AS organization_id)))
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
CREATE TRIGGER _500_work_out_changed AFTER UPDATE ON access.memberships REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_memberships__work_out()
CREATE TRIGGER _500_work_out_gone AFTER DELETE ON access.memberships REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_memberships__work_out()
CREATE TRIGGER _510_end_sessions AFTER DELETE ON access.memberships FOR EACH ROW EXECUTE FUNCTION sessions_private.tg_memberships__end_sessions()
CREATE TRIGGER _510_work_out_left AFTER UPDATE ON access.memberships REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_memberships__work_out()
CREATE TRIGGER _520_keep_out AFTER DELETE ON access.memberships REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_memberships__keep_out()
CREATE TRIGGER _520_let_in AFTER INSERT ON access.memberships REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_memberships__let_in()
CREATE TRIGGER _800_audit AFTER INSERT OR DELETE OR UPDATE ON access.memberships FOR EACH ROW EXECUTE FUNCTION audit.record_change('organization_id', 'organization_id', 'id') -- enabled always
comment 'Who belongs to an organization.'

-- table access.organizations
owner safetypin_owner row security forced
id uuid not null default platform.uuid_v7() -- UUID version 7.
name text not null -- Name for people; not unique.
status text not null default 'active'::text -- Nobody acts in an organization that is not active.
closes_at timestamp with time zone not null default 'infinity'::timestamp with time zone -- Nobody acts in it from then on; no job has to run for it to be over.
created_by uuid -- Who founded it; null once that person is gone.
created_at timestamp with time zone not null default clock_timestamp() -- When it was founded.
updated_at timestamp with time zone not null default clock_timestamp() -- When it last changed.
version integer not null default 1 -- Grows with each change; for optimistic locking.
plan text not null default 'default'::text -- Plan: how many of what it may have. Given by operators.
slug text not null -- Name for addresses, made by the server; it stays when the name changes.
constraint organizations_creator_exists FOREIGN KEY (created_by) REFERENCES identity.people(id) ON DELETE SET NULL
constraint organizations_name_length CHECK (((length(name) >= 1) AND (length(name) <= 1000)))
constraint organizations_pkey PRIMARY KEY (id)
constraint organizations_plan_exists FOREIGN KEY (plan) REFERENCES access.plans(name) ON DELETE RESTRICT
constraint organizations_slug_form CHECK ((slug ~ '^[a-z0-9-]{8,60}$'::text))
constraint organizations_slug_unique UNIQUE (slug)
constraint organizations_status_known CHECK ((status = ANY (ARRAY['active'::text, 'suspended'::text, 'closed'::text])))
CREATE INDEX organizations_closing_idx ON access.organizations USING btree (closes_at) WHERE ((status <> 'closed'::text) AND (closes_at < 'infinity'::timestamp with time zone))
CREATE INDEX organizations_created_by_idx ON access.organizations USING btree (created_by)
CREATE INDEX organizations_plan_idx ON access.organizations USING btree (plan)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy safetypin_may_select as permissive for select to safetypin_member using (( SELECT request.can('organization.read'::text) AS can))
policy safetypin_tenant_select as restrictive for select to safetypin_member using ((id = ( SELECT request.organization_id() AS organization_id)))
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
CREATE TRIGGER _100_slug BEFORE INSERT ON access.organizations FOR EACH ROW EXECUTE FUNCTION access_private.tg_organizations__slug()
CREATE TRIGGER _500_end_sessions AFTER UPDATE OF status, closes_at ON access.organizations FOR EACH ROW EXECUTE FUNCTION sessions_private.tg_organizations__end_sessions()
CREATE TRIGGER _800_audit AFTER INSERT OR DELETE OR UPDATE ON access.organizations FOR EACH ROW EXECUTE FUNCTION audit.record_change('id', 'id') -- enabled always
comment 'An organization: the tenant.'

-- table access.permissions
owner safetypin_owner row security forced
name text not null -- noun.verb.
description text not null -- What it permits, for people.
default_roles text[] not null default '{owner,admin}'::text[] -- Built-in roles that hold it.
constraint permissions_name_form CHECK ((name ~ '^[a-z_]+\.[a-z_]+$'::text))
constraint permissions_pkey PRIMARY KEY (name)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy insert_by_owner as permissive for insert to safetypin_owner with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_owner as permissive for select to safetypin_owner using (true)
policy select_signed_in as permissive for select to safetypin_member using ((( SELECT request.kind() AS kind) = ANY (ARRAY['session'::text, 'key'::text])))
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
policy update_by_owner as permissive for update to safetypin_owner using (true) with check (true)
comment 'What can be permitted, noun.verb. A host application adds its own with access.define_permission().'

-- table access.plan_limits
owner safetypin_owner row security forced
plan text not null -- Plan.
what text not null -- What is counted; one of those that access_private.used() knows.
most integer not null -- So many, and no more. Lowering it takes nothing from those who have more.
constraint plan_limits_most_range CHECK ((most >= 0))
constraint plan_limits_pkey PRIMARY KEY (plan, what)
constraint plan_limits_plan_exists FOREIGN KEY (plan) REFERENCES access.plans(name) ON DELETE CASCADE
constraint plan_limits_what_form CHECK ((what ~ '^[a-z_]+$'::text))
policy delete_by_owner as permissive for delete to safetypin_owner using (true)
policy insert_by_owner as permissive for insert to safetypin_owner with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_owner as permissive for select to safetypin_owner using (true)
policy update_by_owner as permissive for update to safetypin_owner using (true) with check (true)
CREATE TRIGGER _800_audit AFTER INSERT OR DELETE OR UPDATE ON access.plan_limits FOR EACH ROW EXECUTE FUNCTION audit.record_change('', 'plan', 'what') -- enabled always
comment 'How many of what an organization of a plan may have. What has no line may be as many as anybody likes.'

-- table access.plans
owner safetypin_owner row security forced
name text not null -- Name, in lower case.
description text not null -- What it is, for people.
constraint plans_name_form CHECK ((name ~ '^[a-z][a-z0-9_]{0,62}$'::text))
constraint plans_pkey PRIMARY KEY (name)
policy delete_by_owner as permissive for delete to safetypin_owner using (true)
policy insert_by_owner as permissive for insert to safetypin_owner with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_owner as permissive for select to safetypin_owner using (true)
policy update_by_owner as permissive for update to safetypin_owner using (true) with check (true)
CREATE TRIGGER _800_audit AFTER INSERT OR DELETE OR UPDATE ON access.plans FOR EACH ROW EXECUTE FUNCTION audit.record_change('', 'name') -- enabled always
comment 'Plans that an organization can have. For operators.'

-- table access.protections
owner safetypin_owner row security forced
relation regclass not null -- Protected table.
organization_column name not null -- Column that says whose row it is.
owner_column name -- Column with the person whose own row it is.
roles name[] not null -- Database roles that the rules are for.
audited boolean not null -- Whether its changes are recorded row by row.
hidden name[] not null default '{}'::name[] -- Columns that no client reads or writes.
constraint protections_pkey PRIMARY KEY (relation)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_owner as permissive for select to safetypin_owner using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Tables under rules: what access.protect() was given besides the rules of each command, so that access.renew() and access.gaps() need not be told.'

-- table access.role_permissions
owner safetypin_owner row security forced
organization_id uuid not null default request.organization_id() -- Organization.
role_id uuid not null -- Role.
permission text not null -- Permission.
constraint role_permissions_permission_exists FOREIGN KEY (permission) REFERENCES access.permissions(name) ON DELETE CASCADE
constraint role_permissions_pkey PRIMARY KEY (organization_id, role_id, permission)
constraint role_permissions_role_exists FOREIGN KEY (organization_id, role_id) REFERENCES access.roles(organization_id, id) ON DELETE CASCADE
CREATE INDEX role_permissions_permission_idx ON access.role_permissions USING btree (permission)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy safetypin_may_select as permissive for select to safetypin_member using (( SELECT request.can('role.read'::text) AS can))
policy safetypin_tenant_select as restrictive for select to safetypin_member using ((organization_id = ( SELECT request.organization_id() AS organization_id)))
policy select_by_definer as permissive for select to safetypin_definer using (true)
CREATE TRIGGER _500_forget_held AFTER TRUNCATE ON access.role_permissions FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg__forget_held()
CREATE TRIGGER _500_work_out_changed AFTER UPDATE ON access.role_permissions REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_role_permissions__work_out()
CREATE TRIGGER _500_work_out_gone AFTER DELETE ON access.role_permissions REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_role_permissions__work_out()
CREATE TRIGGER _500_work_out_new AFTER INSERT ON access.role_permissions REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_role_permissions__work_out()
CREATE TRIGGER _510_work_out_left AFTER UPDATE ON access.role_permissions REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION access_private.tg_role_permissions__work_out()
comment 'What a role permits.'

-- table access.roles
owner safetypin_owner row security forced
organization_id uuid not null default request.organization_id() -- Organization.
id uuid not null default platform.uuid_v7() -- UUID version 7.
name text not null -- Name, unique in the organization.
description text not null default ''::text -- What it is for, for people.
built_in boolean not null default false -- Built-in roles hold the permissions that name them in access.permissions.
created_at timestamp with time zone not null default clock_timestamp() -- When it was made.
updated_at timestamp with time zone not null default clock_timestamp() -- When it last changed, or what it permits.
version integer not null default 1 -- Grows with each change; for optimistic locking.
constraint roles_description_length CHECK ((length(description) <= 1000))
constraint roles_name_length CHECK (((length(name) >= 1) AND (length(name) <= 100)))
constraint roles_name_unique UNIQUE (organization_id, name)
constraint roles_organization_exists FOREIGN KEY (organization_id) REFERENCES access.organizations(id) ON DELETE CASCADE
constraint roles_pkey PRIMARY KEY (organization_id, id)
CREATE UNIQUE INDEX roles_name_key ON access.roles USING btree (organization_id, lower(btrim(regexp_replace(NORMALIZE(name, NFKC), '\s+'::text, ' '::text, 'g'::text))))
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy safetypin_may_select as permissive for select to safetypin_member using (( SELECT request.can('role.read'::text) AS can))
policy safetypin_tenant_select as restrictive for select to safetypin_member using ((organization_id = ( SELECT request.organization_id() AS organization_id)))
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
CREATE TRIGGER _800_audit AFTER INSERT OR DELETE OR UPDATE ON access.roles FOR EACH ROW EXECUTE FUNCTION audit.record_change('organization_id', 'organization_id', 'id') -- enabled always
comment 'Roles of an organization: owner, admin, member and viewer are built in.'

-- table access.rules
owner safetypin_owner row security forced
relation regclass not null -- Protected table.
command text not null -- select, insert, update or delete. A command without a row is allowed to nobody.
organization_column name not null -- Column that says whose row it is.
owner_column name -- Column with the person whose own row it is. Own rows need no permission, but inserting does, and one's own name there.
permission text -- Permission that the command needs.
assurance integer not null default 1 -- Assurance level that the session needs (SP 800-63B).
roles name[] not null default '{safetypin_member}'::name[] -- Database roles that the rule is for.
assign text -- Permission that lets an insert name somebody else in the owner column; without one nobody may.
constraint rules_assign_exists FOREIGN KEY (assign) REFERENCES access.permissions(name) ON DELETE RESTRICT
constraint rules_assign_of_insert CHECK (((assign IS NULL) OR ((command = 'insert'::text) AND (owner_column IS NOT NULL))))
constraint rules_assurance_range CHECK (((assurance >= 1) AND (assurance <= 3)))
constraint rules_command_known CHECK ((command = ANY (ARRAY['select'::text, 'insert'::text, 'update'::text, 'delete'::text])))
constraint rules_permission_exists FOREIGN KEY (permission) REFERENCES access.permissions(name) ON DELETE RESTRICT
constraint rules_pkey PRIMARY KEY (relation, command)
constraint rules_says_who CHECK (((permission IS NOT NULL) OR (owner_column IS NOT NULL)))
CREATE INDEX rules_assign_idx ON access.rules USING btree (assign)
CREATE INDEX rules_permission_idx ON access.rules USING btree (permission)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_owner as permissive for select to safetypin_owner using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Rules as data: what access.protect() compiles into policies, one row per table and command.'

-- table access.service_accounts
owner safetypin_owner row security forced
organization_id uuid not null default request.organization_id() -- Organization.
id uuid not null default platform.uuid_v7() -- UUID version 7.
name text not null -- Name, unique among those that are active.
description text not null default ''::text -- What it is for, for people.
status text not null default 'active'::text -- active, or removed: then none of its keys opens anything.
permissions text[] not null -- What it may do at most. Whoever made it held all of it, without an end.
created_by uuid -- Who made it; null once that person is gone.
created_at timestamp with time zone not null default clock_timestamp() -- When it was made.
constraint service_accounts_creator_exists FOREIGN KEY (created_by) REFERENCES identity.people(id) ON DELETE SET NULL
constraint service_accounts_description_length CHECK ((length(description) <= 1000))
constraint service_accounts_name_length CHECK (((length(name) >= 1) AND (length(name) <= 100)))
constraint service_accounts_organization_exists FOREIGN KEY (organization_id) REFERENCES access.organizations(id) ON DELETE CASCADE
constraint service_accounts_pkey PRIMARY KEY (organization_id, id)
constraint service_accounts_status_known CHECK ((status = ANY (ARRAY['active'::text, 'removed'::text])))
CREATE INDEX service_accounts_created_by_idx ON access.service_accounts USING btree (created_by)
CREATE UNIQUE INDEX service_accounts_name_unique ON access.service_accounts USING btree (organization_id, name) WHERE (status = 'active'::text)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy safetypin_may_select as permissive for select to safetypin_member using (( SELECT request.can('service_account.read'::text) AS can))
policy safetypin_tenant_select as restrictive for select to safetypin_member using ((organization_id = ( SELECT request.organization_id() AS organization_id)))
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
CREATE TRIGGER _800_audit AFTER INSERT OR DELETE OR UPDATE ON access.service_accounts FOR EACH ROW EXECUTE FUNCTION audit.record_change('organization_id', 'organization_id', 'id') -- enabled always
comment 'Programs that act in an organization in their own name. They belong to the organization: they stay when whoever made them leaves.'

-- table access.setting_definitions
owner safetypin_owner row security forced
name text not null -- noun.word.
type text not null -- integer, boolean, text or role: a role of the organization, or null.
default_value jsonb -- Counts where nothing was set; null: the limit's value, or nothing.
minimum bigint -- Lowest number, or length of the shortest text.
maximum bigint -- Highest number, or length of the longest text.
allowed text[] -- The texts that can be chosen; null: any.
limit_name text -- Limit of the installation that no organization goes beyond; see platform.limits.
description text not null -- What it does, for people.
read_permission text -- Who sees it; null: whoever acts in the organization.
write_permission text not null -- Who changes it.
constraint setting_definitions_allowed_fits CHECK (((type = 'text'::text) OR (allowed IS NULL)))
constraint setting_definitions_bounds_fit CHECK (((type = ANY (ARRAY['integer'::text, 'text'::text])) OR (num_nonnulls(minimum, maximum, limit_name) = 0)))
constraint setting_definitions_bounds_order CHECK ((minimum <= maximum))
constraint setting_definitions_limit_exists FOREIGN KEY (limit_name) REFERENCES platform.limits(name) ON DELETE RESTRICT
constraint setting_definitions_limit_fits CHECK (((type = 'integer'::text) OR (limit_name IS NULL)))
constraint setting_definitions_name_form CHECK (((name ~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$'::text) AND (length(name) <= 100)))
constraint setting_definitions_pkey PRIMARY KEY (name)
constraint setting_definitions_reader_exists FOREIGN KEY (read_permission) REFERENCES access.permissions(name) ON DELETE RESTRICT
constraint setting_definitions_type_known CHECK ((type = ANY (ARRAY['integer'::text, 'boolean'::text, 'text'::text, 'role'::text])))
constraint setting_definitions_writer_exists FOREIGN KEY (write_permission) REFERENCES access.permissions(name) ON DELETE RESTRICT
CREATE INDEX setting_definitions_limit_idx ON access.setting_definitions USING btree (limit_name)
CREATE INDEX setting_definitions_reader_idx ON access.setting_definitions USING btree (read_permission)
CREATE INDEX setting_definitions_writer_idx ON access.setting_definitions USING btree (write_permission)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy insert_by_owner as permissive for insert to safetypin_owner with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_owner as permissive for select to safetypin_owner using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
policy update_by_owner as permissive for update to safetypin_owner using (true) with check (true)
comment 'What organizations may set. A host application adds its own with access.define_setting().'

-- table access.settings
owner safetypin_owner row security forced
organization_id uuid not null default request.organization_id() -- Organization.
name text not null -- Setting.
value jsonb not null -- Value, of the setting's type.
role_id uuid -- The role, where the value is one: a setting goes with its role.
changed_at timestamp with time zone not null default clock_timestamp() -- When it was set last.
constraint settings_definition_exists FOREIGN KEY (name) REFERENCES access.setting_definitions(name) ON DELETE CASCADE
constraint settings_organization_exists FOREIGN KEY (organization_id) REFERENCES access.organizations(id) ON DELETE CASCADE
constraint settings_pkey PRIMARY KEY (organization_id, name)
constraint settings_role_exists FOREIGN KEY (organization_id, role_id) REFERENCES access.roles(organization_id, id) ON DELETE CASCADE
CREATE INDEX settings_name_idx ON access.settings USING btree (name)
CREATE INDEX settings_role_idx ON access.settings USING btree (organization_id, role_id)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
CREATE TRIGGER _500_cap_sessions AFTER INSERT OR DELETE OR UPDATE ON access.settings FOR EACH ROW EXECUTE FUNCTION sessions_private.tg_settings__cap_sessions()
CREATE TRIGGER _800_audit AFTER INSERT OR DELETE OR UPDATE ON access.settings FOR EACH ROW EXECUTE FUNCTION audit.record_change('organization_id', 'organization_id', 'name') -- enabled always
comment 'What organizations have set. Written by api.change_setting() and api.reset_setting() alone.'

-- table access.shared_domains
owner safetypin_owner row security forced
domain text collate "C" not null -- The domain in ASCII and lower case.
constraint shared_domains_domain_form CHECK ((domain ~ '^[a-z0-9.-]+[.][a-z0-9-]+$'::text))
constraint shared_domains_pkey PRIMARY KEY (domain)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy insert_by_owner as permissive for insert to safetypin_owner with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_owner as permissive for select to safetypin_owner using (true)
CREATE TRIGGER _800_audit AFTER INSERT OR DELETE OR UPDATE ON access.shared_domains FOR EACH ROW EXECUTE FUNCTION audit.record_change('', 'domain') -- enabled always
comment 'Domains whose addresses anybody can have: no organization gets one, and nobody joins by it. Operators add theirs.'

-- table access_private.api_key_secrets
owner safetypin_owner row security forced
hash bytea not null -- SHA-256 of the 33 bytes.
organization_id uuid not null -- Organization.
key_id uuid not null -- API key.
expires_at timestamp with time zone not null default 'infinity'::timestamp with time zone -- End of a secret that another one replaced.
created_at timestamp with time zone not null default clock_timestamp() -- When it was made.
constraint api_key_secrets_hash_length CHECK ((length(hash) = 32))
constraint api_key_secrets_key_exists FOREIGN KEY (organization_id, key_id) REFERENCES access.api_keys(organization_id, id) ON DELETE CASCADE
constraint api_key_secrets_pkey PRIMARY KEY (hash)
CREATE INDEX api_key_secrets_key_idx ON access_private.api_key_secrets USING btree (organization_id, key_id)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'What opens a request with an API key: 256 random bits behind a byte for the kind, kept as SHA-256. Two while a rotation overlaps.'

-- table access_private.domain_owners
owner safetypin_owner row security forced
domain text collate "C" not null -- The domain.
organization_id uuid not null -- Organization that owns it.
domain_id uuid not null -- Row of access.domains.
proved_until timestamp with time zone not null -- Until then nobody else gets it, whatever they prove. Ends at once when DNS says that the record is gone.
holds_until timestamp with time zone not null -- Until then people join by it; no job has to run for it to end.
constraint domain_owners_domain_exists FOREIGN KEY (organization_id, domain_id) REFERENCES access.domains(organization_id, id) ON DELETE CASCADE
constraint domain_owners_pkey PRIMARY KEY (domain)
CREATE INDEX domain_owners_domain_idx ON access_private.domain_owners USING btree (organization_id, domain_id)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Whose a domain is: its key is the rule that there is one owner.'

-- table access_private.held_permissions
owner safetypin_owner row security forced
organization_id uuid not null -- Organization.
person_id uuid not null -- Person.
permission text not null -- Permission.
valid tstzmultirange not null -- Times at which at least one of the member's roles gives it.
constraint held_permissions_pkey PRIMARY KEY (organization_id, person_id, permission)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Worked out from roles and grants by triggers: what a member may do, and when. Read at each request.can().'

-- table access_private.invitation_addresses
owner safetypin_owner row security forced
organization_id uuid not null -- Organization, whose key seals the address.
invitation_id uuid not null -- Invitation.
address bytea not null -- Sealed: access.invitations.address.
lookup bytea not null -- Blind index of the address, as in identity_private.emails.
constraint invitation_addresses_invitation_exists FOREIGN KEY (organization_id, invitation_id) REFERENCES access.invitations(organization_id, id) ON DELETE CASCADE
constraint invitation_addresses_pkey PRIMARY KEY (organization_id, invitation_id)
CREATE INDEX invitation_addresses_lookup_idx ON access_private.invitation_addresses USING btree (lookup, organization_id)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Sealed parts of an invitation.'

-- table access_private.kept_out
owner safetypin_owner row security forced
organization_id uuid not null -- Organization.
lookup bytea not null -- Blind index of the address, as in identity_private.emails: it stays when the account goes, or a new account would be a way back.
person_id uuid -- Whose address it was; null once that person is gone.
since timestamp with time zone not null default clock_timestamp() -- Since when.
constraint kept_out_organization_exists FOREIGN KEY (organization_id) REFERENCES access.organizations(id) ON DELETE CASCADE
constraint kept_out_person_exists FOREIGN KEY (person_id) REFERENCES identity.people(id) ON DELETE SET NULL
constraint kept_out_pkey PRIMARY KEY (organization_id, lookup)
CREATE INDEX kept_out_person_idx ON access_private.kept_out USING btree (person_id)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Who is not a member any more does not come back by address alone; an invitation ends that.'

-- table access_private.ownership
owner safetypin_owner row security forced with (fillfactor=50)
organization_id uuid not null -- Organization.
turns bigint not null default 0 -- How many changes took their turn.
constraint ownership_organization_exists FOREIGN KEY (organization_id) REFERENCES access.organizations(id) ON DELETE CASCADE
constraint ownership_pkey PRIMARY KEY (organization_id)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'One row for each organization, which every change of members, roles and grants updates first: so they take turns, also in REPEATABLE READ, where a lock alone would let the second one work with what it read before.'

-- table audit.actions
owner safetypin_owner row security forced
name text not null -- noun.verb, past tense of nothing: what was done or tried.
category text not null -- Group of actions.
severity text not null -- How loud it is.
description text not null -- What an event of this action says.
constraint actions_category_known CHECK ((category = ANY (ARRAY['authentication'::text, 'session'::text, 'account'::text, 'access'::text, 'data'::text, 'keys'::text, 'administration'::text])))
constraint actions_name_form CHECK ((name ~ '^[a-z_]+\.[a-z_]+$'::text))
constraint actions_pkey PRIMARY KEY (name)
constraint actions_severity_known CHECK ((severity = ANY (ARRAY['info'::text, 'notice'::text, 'warning'::text, 'alert'::text])))
policy insert_by_owner as permissive for insert to safetypin_owner with check (true)
policy select_all as permissive for select to safetypin_member, safetypin_auditor using ((( SELECT request.kind() AS kind) = ANY (ARRAY['session'::text, 'key'::text])))
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
policy select_by_owner as permissive for select to safetypin_owner using (true)
policy update_by_owner as permissive for update to safetypin_owner using (true) with check (true)
comment 'Vocabulary of actions. An event of an unknown action is refused.'

-- table audit.events
owner safetypin_owner row security forced partition by RANGE (occurred_at)
organization_id uuid not null default request.organization_id() -- Organization; the zero uuid for what belongs to none.
id uuid not null default platform.uuid_v7() -- UUID version 7.
occurred_at timestamp with time zone not null default clock_timestamp() -- Moment of the event, by the database's clock.
action text not null -- What was done or tried, from audit.actions.
category text not null -- Category of the action.
severity text not null -- Severity of the action.
actor_id uuid -- Person who acted; null for nobody or an operator.
session_id uuid -- Session of the actor.
request_id uuid -- Request, for correlation with the log of the API.
database_role text not null -- Login that was connected.
relation text -- Table of a row event, schema.name.
row_id text -- Key of the row of a row event.
details jsonb not null default '{}'::jsonb -- What changed or why, and apiKey if an API key asked; personal values are sealed.
entry bytea not null -- The event in canonical form, version 1: what is proved. The other columns are copies for queries.
transaction_id xid8 not null default pg_current_xact_id() -- Transaction that wrote it, for the sealer.
constraint events_entry_version CHECK ((get_byte(entry, 0) = 1))
constraint events_pkey PRIMARY KEY (organization_id, id, occurred_at)
CREATE INDEX events_actor_idx ON ONLY audit.events USING btree (organization_id, actor_id, occurred_at DESC)
CREATE INDEX events_organization_time_idx ON ONLY audit.events USING btree (organization_id, occurred_at DESC, id)
CREATE INDEX events_transaction_idx ON ONLY audit.events USING btree (transaction_id)
policy insert_by_keeper as permissive for insert to safetypin_keeper with check (true)
policy safetypin_may_select as permissive for select to safetypin_member, safetypin_auditor using (( SELECT request.can('audit.read'::text) AS can))
policy safetypin_tenant_select as restrictive for select to safetypin_member, safetypin_auditor using ((organization_id = ( SELECT request.organization_id() AS organization_id)))
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
CREATE TRIGGER _200_refuse_change BEFORE DELETE OR UPDATE ON audit.events FOR EACH ROW EXECUTE FUNCTION audit_private.refuse_change() -- enabled always
CREATE TRIGGER _210_refuse_truncate BEFORE TRUNCATE ON audit.events FOR EACH STATEMENT EXECUTE FUNCTION audit_private.refuse_change() -- enabled always
comment 'What happened. Appended by audit_private.append() alone; partitioned by month.'

-- table audit.events_default
owner safetypin_owner row security forced partition of audit.events DEFAULT
organization_id uuid not null default request.organization_id()
id uuid not null default platform.uuid_v7()
occurred_at timestamp with time zone not null default clock_timestamp()
action text not null
category text not null
severity text not null
actor_id uuid
session_id uuid
request_id uuid
database_role text not null
relation text
row_id text
details jsonb not null default '{}'::jsonb
entry bytea not null
transaction_id xid8 not null default pg_current_xact_id()
constraint events_default_pkey PRIMARY KEY (organization_id, id, occurred_at)
constraint events_entry_version CHECK ((get_byte(entry, 0) = 1))
CREATE INDEX events_default_organization_id_actor_id_occurred_at_idx ON audit.events_default USING btree (organization_id, actor_id, occurred_at DESC)
CREATE INDEX events_default_organization_id_occurred_at_id_idx ON audit.events_default USING btree (organization_id, occurred_at DESC, id)
CREATE INDEX events_default_transaction_id_idx ON audit.events_default USING btree (transaction_id)
policy select_by_owner as permissive for select to safetypin_owner using (true)
CREATE TRIGGER _210_refuse_truncate BEFORE TRUNCATE ON audit.events_default FOR EACH STATEMENT EXECUTE FUNCTION audit_private.refuse_change() -- enabled always
comment 'Catches events of months whose partition was not made in time, so that no event is ever refused.'

-- table identity.people
owner safetypin_owner row security forced
id uuid not null default platform.uuid_v7() -- UUID version 7; never given to anybody else.
status text not null default 'active'::text -- Only active people can sign in.
locale text not null default 'en'::text -- Language of mails, BCP 47.
created_at timestamp with time zone not null default clock_timestamp() -- When the account was made.
updated_at timestamp with time zone not null default clock_timestamp() -- When it last changed.
version integer not null default 1 -- Grows with each change; for optimistic locking.
constraint people_locale_form CHECK ((locale ~ '^[a-z]{2}(-[A-Z]{2})?$'::text))
constraint people_pkey PRIMARY KEY (id)
constraint people_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'active'::text, 'suspended'::text, 'deactivated'::text, 'erased'::text])))
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
policy select_own as permissive for select to safetypin_member using ((id = ( SELECT request.signed_in_id() AS signed_in_id)))
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
CREATE TRIGGER _500_end_sessions AFTER UPDATE OF status ON identity.people FOR EACH ROW EXECUTE FUNCTION sessions_private.tg_people__end_sessions()
CREATE TRIGGER _800_audit AFTER INSERT OR DELETE OR UPDATE ON identity.people FOR EACH ROW EXECUTE FUNCTION audit.record_change('', 'id') -- enabled always
comment 'A person. Global: belongs to no organization; memberships say where.'

-- table identity_private.attempts
owner safetypin_owner row security forced
id uuid not null default platform.uuid_v7() -- UUID version 7.
door text not null -- What is guessed.
account bytea not null -- Blind index of the address.
guess_mac bytea -- Keyed hash of the guess.
guess_transaction xid8 -- Transaction that stored the guess.
created_at timestamp with time zone not null default clock_timestamp() -- When it was counted.
resolved_at timestamp with time zone -- When it was answered.
constraint attempts_door_known CHECK ((door = ANY (ARRAY['password'::text, 'email_code'::text, 'invitation_code'::text])))
constraint attempts_pkey PRIMARY KEY (id)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'One guess each: counted when it starts, stored before it is answered, answered once and only in a later transaction. A rollback never gives a try back.'

-- table identity_private.emails
owner safetypin_owner row security forced
id uuid not null default platform.uuid_v7() -- UUID version 7.
person_id uuid not null -- Whose address it is.
address bytea not null -- Sealed: identity.emails.address.
lookup bytea not null -- Blind index of the normalised address.
is_primary boolean not null default true -- The address that mails go to.
verified_at timestamp with time zone -- When the person proved it; null if never.
constraint emails_lookup_unique UNIQUE (lookup)
constraint emails_person_exists FOREIGN KEY (person_id) REFERENCES identity.people(id) ON DELETE CASCADE
constraint emails_pkey PRIMARY KEY (id)
CREATE INDEX emails_person_id_idx ON identity_private.emails USING btree (person_id)
CREATE UNIQUE INDEX emails_primary_unique ON identity_private.emails USING btree (person_id) WHERE is_primary
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'E-mail addresses of people.'

-- table identity_private.lockouts
owner safetypin_owner row security forced with (fillfactor=50)
key bytea not null -- Blind index of the account's address, known or not.
failures integer not null -- Attempts since the last success.
last_at timestamp with time zone not null -- Last attempt.
locked_until timestamp with time zone -- Attempts are refused until then.
constraint lockouts_pkey PRIMARY KEY (key)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Failed attempts by account, over all doors. Logged: a crash forgives nothing. No index on what changes.'

-- table identity_private.mails
owner safetypin_owner row security forced
id uuid not null default platform.uuid_v7() -- UUID version 7; all that the job's payload holds.
kind text not null -- What the mail is about.
lookup bytea -- Blind index of a typed address, which may be nobody's.
registration_id uuid -- Registration whose address is written to.
person_id uuid -- Person whose primary address is written to.
organization_id uuid -- Organization of the invitation.
invitation_id uuid -- Invitation whose address is written to.
asked_by uuid -- Who wants to accept the invitation with an account of another address: the code is good for nobody else.
created_at timestamp with time zone not null default clock_timestamp() -- When it was asked for.
sent_at timestamp with time zone -- When a mail server took it, or when it was found that nobody gets it; null while it waits.
composed_at timestamp with time zone -- When it was last written for sending: what the hourly limit of an address counts.
constraint mails_asker_exists FOREIGN KEY (asked_by) REFERENCES identity.people(id) ON DELETE CASCADE
constraint mails_has_recipient CHECK ((num_nonnulls(lookup, registration_id, person_id) = 1))
constraint mails_invitation_exists FOREIGN KEY (organization_id, invitation_id) REFERENCES access.invitations(organization_id, id) ON DELETE CASCADE
constraint mails_kind_known CHECK ((kind = ANY (ARRAY['registration'::text, 'password_reset'::text, 'password_changed'::text, 'invitation'::text, 'invitation_code'::text])))
constraint mails_names_asker CHECK (((kind = 'invitation_code'::text) = (asked_by IS NOT NULL)))
constraint mails_names_invitation CHECK (((kind = ANY (ARRAY['invitation'::text, 'invitation_code'::text])) = (num_nonnulls(organization_id, invitation_id, lookup) = 3)))
constraint mails_person_exists FOREIGN KEY (person_id) REFERENCES identity.people(id) ON DELETE CASCADE
constraint mails_pkey PRIMARY KEY (id)
constraint mails_registration_exists FOREIGN KEY (registration_id) REFERENCES identity_private.registrations(id) ON DELETE CASCADE
CREATE INDEX mails_asked_by_idx ON identity_private.mails USING btree (asked_by)
CREATE INDEX mails_invitation_idx ON identity_private.mails USING btree (organization_id, invitation_id)
CREATE INDEX mails_lookup_idx ON identity_private.mails USING btree (lookup, kind, created_at DESC)
CREATE INDEX mails_person_id_idx ON identity_private.mails USING btree (person_id)
CREATE INDEX mails_registration_id_idx ON identity_private.mails USING btree (registration_id)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Mails asked for. Whether there is anybody to write to is found out by the job, so that asking takes the same work for a known and an unknown address.'

-- table identity_private.passwords
owner safetypin_owner row security forced
person_id uuid not null -- Whose password it is.
scheme text not null -- Hash function of the tag (Argon2id, RFC 9106).
parameters jsonb not null -- Cost: memory in KiB, passes, parallelism, tag length in bytes.
salt bytea not null -- 16 random bytes.
verifier bytea not null -- Sealed: hex of the SHA-256 of the tag. A dump without the application's key cannot check a guess.
changed_at timestamp with time zone not null default clock_timestamp() -- When it was set.
constraint passwords_person_exists FOREIGN KEY (person_id) REFERENCES identity.people(id) ON DELETE CASCADE
constraint passwords_pkey PRIMARY KEY (person_id)
constraint passwords_salt_length CHECK (((length(salt) >= 16) AND (length(salt) <= 64)))
constraint passwords_scheme_known CHECK ((scheme = 'argon2id'::text))
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'How a password is checked: the application computes a tag from scheme, parameters and salt; its SHA-256 must be the verifier.'

-- table identity_private.profiles
owner safetypin_owner row security forced
person_id uuid not null -- The person.
display_name bytea -- Sealed: identity.people.display_name.
constraint profiles_person_exists FOREIGN KEY (person_id) REFERENCES identity.people(id) ON DELETE CASCADE
constraint profiles_pkey PRIMARY KEY (person_id)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Sealed parts of a person.'

-- table identity_private.registrations
owner safetypin_owner row security forced
id uuid not null default platform.uuid_v7() -- UUID version 7; also the subject of the key that seals the row.
email bytea not null -- Sealed: identity.registrations.email.
lookup bytea not null -- Blind index of the address, as in emails.
display_name bytea not null -- Sealed: identity.registrations.display_name.
organization_name bytea -- Sealed: identity.registrations.organization_name.
locale text not null default 'en'::text -- Language of the mail.
scheme text not null -- As in passwords.
parameters jsonb not null -- As in passwords.
salt bytea not null -- As in passwords.
verifier bytea not null -- Sealed: identity.registrations.verifier.
created_at timestamp with time zone not null default clock_timestamp() -- When it was asked for.
completed_at timestamp with time zone -- When the address was proved.
constraint registrations_pkey PRIMARY KEY (id)
constraint registrations_scheme_known CHECK ((scheme = 'argon2id'::text))
CREATE INDEX registrations_lookup_idx ON identity_private.registrations USING btree (lookup, created_at DESC)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Accounts asked for. The account is made when the address is proved, with the password of that very request, so that nobody can plant a password under somebody else''s address.'

-- table identity_private.tokens
owner safetypin_owner row security forced
hash bytea not null -- SHA-256 of the token.
purpose text not null -- A token of one purpose is refused for another.
mail_id uuid not null -- Mail it went out with. Tokens of a repeated mail live side by side; using one uses them all.
registration_id uuid -- What it completes.
person_id uuid -- Whom it is for.
organization_id uuid -- Organization of the invitation.
invitation_id uuid -- Invitation that it accepts, or that its code helps to accept.
code_mac bytea -- The six-digit code of the same mail, as keyed hash.
code_expires_at timestamp with time zone -- End of the code's life, sooner than the token's.
created_at timestamp with time zone not null default clock_timestamp() -- When it was made.
expires_at timestamp with time zone not null -- End of its life.
consumed_at timestamp with time zone -- When it was used or voided.
constraint tokens_has_subject CHECK ((((registration_id IS NOT NULL) = (purpose = 'verification'::text)) AND ((person_id IS NOT NULL) = (purpose = ANY (ARRAY['password_reset'::text, 'invitation_code'::text]))) AND (num_nonnulls(organization_id, invitation_id) =
CASE
    WHEN (purpose = ANY (ARRAY['invitation'::text, 'invitation_code'::text])) THEN 2
    ELSE 0
END)))
constraint tokens_hash_length CHECK ((length(hash) = 32))
constraint tokens_invitation_exists FOREIGN KEY (organization_id, invitation_id) REFERENCES access.invitations(organization_id, id) ON DELETE CASCADE
constraint tokens_mail_exists FOREIGN KEY (mail_id) REFERENCES identity_private.mails(id) ON DELETE CASCADE
constraint tokens_person_exists FOREIGN KEY (person_id) REFERENCES identity.people(id) ON DELETE CASCADE
constraint tokens_pkey PRIMARY KEY (hash)
constraint tokens_purpose_known CHECK ((purpose = ANY (ARRAY['verification'::text, 'password_reset'::text, 'invitation'::text, 'invitation_code'::text])))
constraint tokens_registration_exists FOREIGN KEY (registration_id) REFERENCES identity_private.registrations(id) ON DELETE CASCADE
CREATE INDEX tokens_invitation_idx ON identity_private.tokens USING btree (organization_id, invitation_id)
CREATE INDEX tokens_mail_id_idx ON identity_private.tokens USING btree (mail_id)
CREATE INDEX tokens_person_id_idx ON identity_private.tokens USING btree (person_id, purpose)
CREATE INDEX tokens_registration_id_idx ON identity_private.tokens USING btree (registration_id)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'One-time tokens sent by mail: 256 random bits, kept as SHA-256, bound to a purpose and a subject, used once.'

-- table keyring_private.data_keys
owner safetypin_keeper row security forced
id uuid not null default platform.uuid_v7() -- Key id, part of the associated data of each value.
subject uuid not null -- Whose key it is; not a foreign key.
root_version integer not null -- Root whose key-encryption key wraps it.
wrapped bytea not null -- IV, ciphertext and tag of the 64-byte key (A256CBC-HS512).
created_at timestamp with time zone not null default clock_timestamp() -- When the key was made.
retired_at timestamp with time zone -- When another took its place: it opens what it sealed and seals no more. Null for the current one.
constraint data_keys_pkey PRIMARY KEY (id)
constraint data_keys_root_exists FOREIGN KEY (root_version) REFERENCES keyring_private.roots(version) ON DELETE RESTRICT
CREATE INDEX data_keys_retired_idx ON keyring_private.data_keys USING btree (subject) WHERE (retired_at IS NOT NULL)
CREATE INDEX data_keys_root_version_idx ON keyring_private.data_keys USING btree (root_version)
CREATE UNIQUE INDEX data_keys_current_unique ON keyring_private.data_keys USING btree (subject) WHERE (retired_at IS NULL)
policy keeper_delete as permissive for delete to safetypin_keeper using (true)
policy keeper_insert as permissive for insert to safetypin_keeper with check (true)
policy keeper_select as permissive for select to safetypin_keeper using (true)
policy keeper_update as permissive for update to safetypin_keeper using (true) with check (true)
comment 'Data keys of people, organizations and registrations, wrapped: one current for each, and those it had before. Deleting all of a subject erases all that was sealed for it.'

-- table keyring_private.index_keys
owner safetypin_keeper row security forced
column_id uuid not null -- The sealed column.
slot text not null default 'a'::text -- Which of the two index columns of a door it fills. SafetyPin's own columns have a alone.
root_version integer not null -- Root whose key-encryption key wraps it.
wrapped bytea not null -- IV, ciphertext and tag of the 64-byte key.
created_at timestamp with time zone not null default clock_timestamp() -- When the key was made.
constraint index_keys_pkey PRIMARY KEY (column_id, slot)
constraint index_keys_root_exists FOREIGN KEY (root_version) REFERENCES keyring_private.roots(version) ON DELETE RESTRICT
constraint index_keys_slot_known CHECK ((slot = ANY (ARRAY['a'::text, 'b'::text])))
CREATE INDEX index_keys_root_version_idx ON keyring_private.index_keys USING btree (root_version)
policy keeper_delete as permissive for delete to safetypin_keeper using (true)
policy keeper_insert as permissive for insert to safetypin_keeper with check (true)
policy keeper_select as permissive for select to safetypin_keeper using (true)
policy keeper_update as permissive for update to safetypin_keeper using (true) with check (true)
comment 'Keys of the blind indexes of sealed columns, wrapped. Two while one is replaced.'

-- table keyring_private.opening_checks
owner safetypin_keeper row security forced
is_only boolean not null default true -- True: there is one row.
judged_to bigint not null default 0 -- Numbers up to here were compared, once and for all.
judged_at timestamp with time zone -- When that was; null before the first time.
boundary bigint -- Numbers up to here are next; null when none were seen.
bounded_at timestamp with time zone -- When the boundary was read from the counter.
holders text[] not null default '{}'::text[] -- Transactions that were reading then: the comparison waits for these.
has_jump boolean not null default false -- The server crashed or the database was restored since the last comparison: the counter may have jumped.
constraint opening_checks_boundary_ahead CHECK ((boundary >= judged_to))
constraint opening_checks_is_only CHECK (is_only)
constraint opening_checks_pkey PRIMARY KEY (is_only)
policy keeper_delete as permissive for delete to safetypin_keeper using (true)
policy keeper_insert as permissive for insert to safetypin_keeper with check (true)
policy keeper_select as permissive for select to safetypin_keeper using (true)
policy keeper_update as permissive for update to safetypin_keeper using (true) with check (true)
comment 'How far the comparison is: one row.'

-- table keyring_private.opening_marks
owner safetypin_keeper row security forced unlogged
place text not null -- Cluster and database: a logical restore puts the row back, elsewhere.
constraint opening_marks_pkey PRIMARY KEY (place)
policy keeper_delete as permissive for delete to safetypin_keeper using (true)
policy keeper_insert as permissive for insert to safetypin_keeper with check (true)
policy keeper_select as permissive for select to safetypin_keeper using (true)
policy keeper_update as permissive for update to safetypin_keeper using (true) with check (true)
comment 'Says that the counter has stood here without a crash since the last comparison.'

-- table keyring_private.openings
owner safetypin_keeper row security forced
number bigint not null -- From opening_numbers.
event_id uuid not null -- The event that records it.
opened_at timestamp with time zone not null default clock_timestamp() -- When it was read.
constraint openings_pkey PRIMARY KEY (number)
policy keeper_delete as permissive for delete to safetypin_keeper using (true)
policy keeper_insert as permissive for insert to safetypin_keeper with check (true)
policy keeper_select as permissive for select to safetypin_keeper using (true)
policy keeper_update as permissive for update to safetypin_keeper using (true) with check (true)
comment 'Numbers of readings that are recorded; removed when they were compared with the counter.'

-- table keyring_private.roots
owner safetypin_keeper row security forced
version integer not null -- Grows with each rotation; the highest is in use.
half bytea not null -- 32 random bytes.
check_value bytea -- HMAC under the key-encryption key: tells whether an application holds the right half. Null until the first one came.
created_at timestamp with time zone not null default clock_timestamp() -- When the half was made.
application_id bytea -- Which half of the application's it is bound to, see half_id(). Null until the first one came.
constraint roots_application_id_length CHECK ((length(application_id) = 8))
constraint roots_half_length CHECK ((length(half) = 32))
constraint roots_pkey PRIMARY KEY (version)
policy keeper_delete as permissive for delete to safetypin_keeper using (true)
policy keeper_insert as permissive for insert to safetypin_keeper with check (true)
policy keeper_select as permissive for select to safetypin_keeper using (true)
policy keeper_update as permissive for update to safetypin_keeper using (true) with check (true)
comment 'The database''s half of the key-encryption key. Useless without the application''s half.'

-- table keyring_private.seal_keys
owner safetypin_keeper row security forced
purpose text not null -- request: seals contexts. guess: guesses of attempts at rest. value: stamps of values in other tables. export: signs files of keys.
inner_pad bytea not null -- Key xor 0x36.
outer_pad bytea not null -- Key xor 0x5c.
constraint seal_keys_inner_pad_length CHECK ((length(inner_pad) = 64))
constraint seal_keys_outer_pad_length CHECK ((length(outer_pad) = 64))
constraint seal_keys_pkey PRIMARY KEY (purpose)
policy keeper_delete as permissive for delete to safetypin_keeper using (true)
policy keeper_insert as permissive for insert to safetypin_keeper with check (true)
policy keeper_select as permissive for select to safetypin_keeper using (true)
policy keeper_update as permissive for update to safetypin_keeper using (true) with check (true)
comment 'HMAC-SHA-256 keys of this database, kept as the two padded blocks of RFC 2104.'

-- table keyring_private.sealed_columns
owner safetypin_keeper row security forced
id uuid not null default platform.uuid_v7() -- Given once; stands in the associated data, so that renaming leaves values readable.
name text -- What functions call one of our own by; null for a door.
class text not null default 'personal'::text -- personal: read by whoever may read the row. secret: never leaves the database. sensitive: each reading is recorded.
created_at timestamp with time zone not null default clock_timestamp() -- When the column was sealed.
relation regclass -- Table of a door; which of its columns play which part stands in the triggers: see doors.sql.
tenant boolean not null default true -- Whether each row belongs to an organization, which its value is bound to.
type text not null default 'text'::text -- Type of the values, as format_type() writes it.
permission text -- What opening demands beside the row; null for nothing.
write_permission text -- What writing demands beside the right to write the row; null for nothing.
required boolean not null default false -- Refuses null, as NOT NULL would.
indexed boolean not null default false -- Has a blind index: can be found, or is unique.
format text -- Regular expression that a value must match; null for none.
lookup text not null default 'exact'::text -- What counts as equal: exact; lower: whatever the case; alphanumeric: letters and digits alone, whatever the case.
refusal text not null default 'null'::text -- What one gets who may not open: null, or the error DENYD.
keep_on_null boolean not null default false -- An explicit null in an update changes nothing, for clients that write back all columns.
state text not null default 'sealed'::text -- sealing, unsealing: a job goes through the rows.
reseals text -- Of our own: function (batch, after) that seals its values anew under their current keys. Null where nothing is ever changed.
constraint sealed_columns_class_known CHECK ((class = ANY (ARRAY['personal'::text, 'secret'::text, 'sensitive'::text])))
constraint sealed_columns_lookup_known CHECK ((lookup = ANY (ARRAY['exact'::text, 'lower'::text, 'alphanumeric'::text])))
constraint sealed_columns_name_or_relation CHECK ((num_nonnulls(name, relation) = 1))
constraint sealed_columns_name_unique UNIQUE (name)
constraint sealed_columns_pkey PRIMARY KEY (id)
constraint sealed_columns_refusal_known CHECK ((refusal = ANY (ARRAY['null'::text, 'error'::text])))
constraint sealed_columns_state_known CHECK ((state = ANY (ARRAY['sealing'::text, 'sealed'::text, 'unsealing'::text])))
CREATE INDEX sealed_columns_relation_idx ON keyring_private.sealed_columns USING btree (relation)
policy keeper_delete as permissive for delete to safetypin_keeper using (true)
policy keeper_insert as permissive for insert to safetypin_keeper with check (true)
policy keeper_select as permissive for select to safetypin_keeper using (true)
policy keeper_update as permissive for update to safetypin_keeper using (true) with check (true)
comment 'Columns whose values are sealed: SafetyPin''s own, by name, and the doors of other tables, by table.'

-- table keyring_private.transport_keys
owner safetypin_keeper row security forced unlogged
id uuid not null default platform.uuid_v7() -- Named in each envelope.
key bytea not null -- 64 bytes for A256CBC-HS512.
created_at timestamp with time zone not null default clock_timestamp() -- When the key was made.
retired_at timestamp with time zone -- When it was taken back before its time: no request opens with it any more, and what was on its way is good for its minute.
behind_at timestamp with time zone -- When a process asked last that did not hold the next half of the application's, while that is being replaced.
constraint transport_keys_key_length CHECK ((length(key) = 64))
constraint transport_keys_pkey PRIMARY KEY (id)
policy keeper_delete as permissive for delete to safetypin_keeper using (true)
policy keeper_insert as permissive for insert to safetypin_keeper with check (true)
policy keeper_select as permissive for select to safetypin_keeper using (true)
policy keeper_update as permissive for update to safetypin_keeper using (true) with check (true)
comment 'Keys that seal the application''s half on its way into a request; replaced daily and deleted.'

-- table keyring_private.works
owner safetypin_keeper row security forced
id uuid not null default platform.uuid_v7() -- Id, in the order of their making.
kind text not null -- rewrap: keys under the newest root. seal, unseal: a column's old rows. reseal: values under the newest data key. reindex: blind indexes under the newest index key.
column_id uuid -- The sealed column; null if it is about keys. Not a foreign key: a work outlives its column.
"position" jsonb not null default '{}'::jsonb -- Where it is, as its kind writes it: ids and keys of rows, never a value.
done bigint not null default 0 -- Rows done.
total bigint -- Rows to do, as estimated at its start; null if unknown.
created_at timestamp with time zone not null default clock_timestamp() -- When it was asked for.
updated_at timestamp with time zone not null default clock_timestamp() -- When a batch was tried last.
run_at timestamp with time zone not null default clock_timestamp() -- Not tried before.
finished_at timestamp with time zone -- When nothing was left; null while there is.
problem text -- SQLSTATE of the last batch if it failed. It is tried again.
taken_by xid8 -- Transaction of the last batch: while that runs, nobody else sees it, and it alone may do what the work needs.
constraint works_done_range CHECK ((done >= 0))
constraint works_kind_known CHECK ((kind = ANY (ARRAY['rewrap'::text, 'seal'::text, 'unseal'::text, 'reseal'::text, 'reindex'::text])))
constraint works_pkey PRIMARY KEY (id)
constraint works_problem_is_code CHECK ((problem ~ '^[0-9A-Z]{5}$'::text))
constraint works_total_range CHECK ((total >= 0))
CREATE INDEX works_finished_at_idx ON keyring_private.works USING btree (finished_at)
CREATE UNIQUE INDEX works_unfinished_unique ON keyring_private.works USING btree (kind, column_id) NULLS NOT DISTINCT WHERE (finished_at IS NULL)
policy keeper_delete as permissive for delete to safetypin_keeper using (true)
policy keeper_insert as permissive for insert to safetypin_keeper with check (true)
policy keeper_select as permissive for select to safetypin_keeper using (true)
policy keeper_update as permissive for update to safetypin_keeper using (true) with check (true)
comment 'Long work on keys and sealed values, done in batches by keyring.work().'

-- table platform.errors
owner safetypin_owner row security forced
sqlstate text not null -- Five characters as in `raise … using errcode`; our own follow PostgreSQL's rules for implementation-defined states.
code text not null -- Stable upper-case name in `extensions.code` and in the REST envelope.
http_status integer not null -- Status of the REST door.
message text not null -- Sentence for people; holds no value of a row, no SQL and no name of a constraint.
constraint errors_code_form CHECK ((code ~ '^[A-Z][A-Z_]{2,40}$'::text))
constraint errors_http_status_range CHECK (((http_status >= 400) AND (http_status <= 599)))
constraint errors_message_length CHECK (((length(message) >= 5) AND (length(message) <= 200)))
constraint errors_pkey PRIMARY KEY (sqlstate)
constraint errors_sqlstate_form CHECK ((sqlstate ~ '^[0-9A-Z]{5}$'::text))
policy insert_by_owner as permissive for insert to safetypin_owner with check (true)
policy select_all as permissive for select to safetypin_authenticator, safetypin_anonymous, safetypin_member, safetypin_jobs, safetypin_auditor using (true)
policy select_by_owner as permissive for select to safetypin_owner using (true)
policy update_by_owner as permissive for update to safetypin_owner using (true) with check (true)
comment 'Register of errors: SQLSTATE, API code, HTTP status and the only sentence a client sees.'

-- table platform.limits
owner safetypin_owner row security forced
name text not null -- Dotted name, as given to platform.limit_value().
value bigint not null -- The number in force.
unit text not null -- Unit of value, minimum and maximum.
minimum bigint not null -- Lowest value that is allowed.
maximum bigint not null -- Highest value that is allowed.
description text not null -- What is limited, and the standard it follows where there is one.
constraint limits_pkey PRIMARY KEY (name)
constraint limits_value_in_bounds CHECK (((value >= minimum) AND (value <= maximum)))
policy insert_by_owner as permissive for insert to safetypin_owner with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
policy select_by_owner as permissive for select to safetypin_owner using (true)
policy update_by_owner as permissive for update to safetypin_owner using (true) with check (true)
CREATE TRIGGER _800_audit AFTER INSERT OR DELETE OR UPDATE ON platform.limits FOR EACH ROW EXECUTE FUNCTION audit.record_change('', 'name') -- enabled always
comment 'Numbers that rules compare with. Changing a value takes effect with the next statement; bounds refuse what would be unsafe.'

-- table platform.tasks
owner safetypin_owner row security forced
name text not null -- Task identifier of graphile-worker, domain__verb.
permissions text[] not null default '{}'::text[] -- What request.can() answers true for, inside a job of this task.
scheduled boolean not null default false -- True: runs by the clock, for no organization and nobody.
seconds integer not null default 60 -- How long one opened job context may act.
description text not null -- What the task does, for operators.
attempts integer not null default 16 -- How often it is tried. The pauses grow by e: 10 tries take 3.6 hours, 16 take 40.
payload text[] not null default '{}'::text[] -- Names in the payload. Each must be there, no other may, and each value is a uuid: ids, never personal data.
needs_asker boolean not null default true -- True: refused once who asked for it is not active or not a member any more, or the organization is not active. False: carries out what is decided already, such as a notice.
constraint tasks_attempts_range CHECK (((attempts >= 1) AND (attempts <= 25)))
constraint tasks_name_form CHECK ((name ~ '^[a-z]+__[a-z_]+$'::text))
constraint tasks_pkey PRIMARY KEY (name)
constraint tasks_seconds_range CHECK (((seconds >= 1) AND (seconds <= 3600)))
policy insert_by_owner as permissive for insert to safetypin_owner with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
policy select_by_owner as permissive for select to safetypin_owner using (true)
policy update_by_owner as permissive for update to safetypin_owner using (true) with check (true)
comment 'What the worker may run. A job acts with the permissions of its task and nothing more.'

-- table platform_private.failed_jobs
owner safetypin_owner row security forced
job_id bigint not null -- Id of the job in graphile-worker.
task text not null -- Task of the job.
organization_id uuid -- Organization that it acted for; null if none.
attempts integer not null -- How often it was tried.
error text -- What was being done, and codes: never a value.
failed_at timestamp with time zone not null default clock_timestamp() -- When it was given up.
reported_at timestamp with time zone -- When its audit event was written.
constraint failed_jobs_pkey PRIMARY KEY (job_id)
CREATE INDEX failed_jobs_unreported_idx ON platform_private.failed_jobs USING btree (job_id) WHERE (reported_at IS NULL)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Jobs that are not tried again, one row each, until somebody retries or drops them or they are cleaned away.'

-- table platform_private.heartbeat
owner safetypin_owner row security forced with (fillfactor=50)
one boolean not null default true -- There is one row.
at timestamp with time zone not null -- Clock of the primary.
constraint heartbeat_is_one CHECK (one)
constraint heartbeat_pkey PRIMARY KEY (one)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'When the primary last said that it lives: how a replica knows how old what it shows is.'

-- table platform_private.job_contexts
owner safetypin_owner row security forced
id uuid not null default platform.uuid_v7() -- Stands in the sealed context of the job where a session id would.
job_id bigint not null -- Id of the job in graphile-worker.
task text not null -- Task of the job.
organization_id uuid -- Active organization when the job was made; null if none.
person_id uuid -- Who made the job; null if nobody was signed in.
permissions text[] not null -- Permissions of the task when the job was made.
created_at timestamp with time zone not null default clock_timestamp() -- When the job was made.
lane uuid not null default '00000000-0000-0000-0000-000000000000'::uuid -- Whose jobs take turns with those of others: the organization, else the person, else the zero uuid.
payload jsonb not null default '{}'::jsonb -- What the job was made for: ids by name. Read instead of the payload in the queue, which the worker's login could change.
constraint job_contexts_job_id_unique UNIQUE (job_id)
constraint job_contexts_pkey PRIMARY KEY (id)
constraint job_contexts_task_exists FOREIGN KEY (task) REFERENCES platform.tasks(name) ON DELETE RESTRICT
CREATE INDEX job_contexts_lane_idx ON platform_private.job_contexts USING btree (lane)
CREATE INDEX job_contexts_task_idx ON platform_private.job_contexts USING btree (task)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy insert_by_keeper as permissive for insert to safetypin_keeper with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
comment 'On whose behalf a job acts; written in the same transaction as the job, from the sealed context.'

-- table sessions.activity
owner safetypin_owner row security forced with (fillfactor=70)
session_id uuid not null -- Session.
last_used_at timestamp with time zone not null -- Last use, to about a minute.
constraint activity_pkey PRIMARY KEY (session_id)
constraint activity_session_exists FOREIGN KEY (session_id) REFERENCES sessions.sessions(id) ON DELETE CASCADE
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
policy select_own as permissive for select to safetypin_member using ((session_id IN ( SELECT s.id
   FROM sessions.sessions s
  WHERE (s.person_id = ( SELECT request.signed_in_id() AS signed_in_id)))))
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Last use of sessions, written in batches, apart from the session so that use never waits for revocation or the other way round.'

-- table sessions.sessions
owner safetypin_owner row security forced
id uuid not null default platform.uuid_v7() -- UUID version 7; not a secret.
person_id uuid not null -- Whose session it is.
organization_id uuid -- Active organization.
assurance integer not null default 1 -- Authenticator assurance level, 1 to 3 (SP 800-63B).
created_at timestamp with time zone not null default clock_timestamp() -- When it began.
authenticated_at timestamp with time zone not null default clock_timestamp() -- When the person last proved who they are.
ends_at timestamp with time zone not null -- Absolute end, not moved by use; set to the moment when the session is ended.
ended_because text -- Why it was ended before its time; null if it was not.
constraint sessions_assurance_range CHECK (((assurance >= 1) AND (assurance <= 3)))
constraint sessions_ended_because_known CHECK ((ended_because = ANY (ARRAY['logout'::text, 'revoked'::text, 'replay'::text, 'password'::text, 'person'::text, 'membership'::text, 'organization'::text, 'limit'::text])))
constraint sessions_organization_exists FOREIGN KEY (organization_id) REFERENCES access.organizations(id) ON DELETE CASCADE
constraint sessions_person_exists FOREIGN KEY (person_id) REFERENCES identity.people(id) ON DELETE CASCADE
constraint sessions_pkey PRIMARY KEY (id)
CREATE INDEX sessions_organization_id_idx ON sessions.sessions USING btree (organization_id)
CREATE INDEX sessions_person_id_idx ON sessions.sessions USING btree (person_id, created_at DESC)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
policy select_own as permissive for select to safetypin_member using ((person_id = ( SELECT request.signed_in_id() AS signed_in_id)))
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
CREATE TRIGGER _200_cap BEFORE INSERT OR UPDATE OF organization_id, ends_at ON sessions.sessions FOR EACH ROW EXECUTE FUNCTION sessions_private.tg_sessions__cap() -- enabled always
comment 'A session of a person. Global: a session has one active organization at a time, or none.'

-- table sessions_private.credentials
owner safetypin_owner row security forced
hash bytea not null -- SHA-256 of the credential.
session_id uuid not null -- Session that it opens.
issued_with bytea -- Hash of the refresh token that was issued beside it.
expires_at timestamp with time zone not null -- End of the access token.
first_used_at timestamp with time zone -- First use: from then on the refresh token before it is spent for good.
constraint credentials_hash_length CHECK ((length(hash) = 32))
constraint credentials_pkey PRIMARY KEY (hash)
constraint credentials_session_exists FOREIGN KEY (session_id) REFERENCES sessions.sessions(id) ON DELETE CASCADE
CREATE INDEX credentials_issued_with_idx ON sessions_private.credentials USING btree (issued_with)
CREATE INDEX credentials_session_id_idx ON sessions_private.credentials USING btree (session_id)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy select_by_keeper as permissive for select to safetypin_keeper using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'What an access token carries: 256 random bits, kept as SHA-256.'

-- table sessions_private.refresh_tokens
owner safetypin_owner row security forced
hash bytea not null -- SHA-256 of the token.
session_id uuid not null -- Session; its absolute end is the token's.
successor bytea -- Hash of the token it was exchanged for.
created_at timestamp with time zone not null default clock_timestamp() -- When it was issued.
rotated_at timestamp with time zone -- When it was first exchanged.
constraint refresh_tokens_hash_length CHECK ((length(hash) = 32))
constraint refresh_tokens_pkey PRIMARY KEY (hash)
constraint refresh_tokens_rotated_has_successor CHECK (((successor IS NULL) = (rotated_at IS NULL)))
constraint refresh_tokens_session_exists FOREIGN KEY (session_id) REFERENCES sessions.sessions(id) ON DELETE CASCADE
constraint refresh_tokens_successor_length CHECK ((length(successor) = 32))
CREATE INDEX refresh_tokens_session_id_idx ON sessions_private.refresh_tokens USING btree (session_id)
policy delete_by_definer as permissive for delete to safetypin_definer using (true)
policy insert_by_definer as permissive for insert to safetypin_definer with check (true)
policy select_by_definer as permissive for select to safetypin_definer using (true)
policy update_by_definer as permissive for update to safetypin_definer using (true) with check (true)
comment 'Refresh tokens of a session, oldest to newest, as SHA-256.'

-- type api.access_explanation
verdict api.explained_verdict -- What the statement would do now; REFUSED is no answer, and the reason says why there is none.
reason text -- In one word. Allowed: HELD, OWN_ROW, OWN_ROWS (only those), ASSIGN. Denied: NOT_HELD, NOT_YET, ENDED, SCOPE and KEY_OVER (of an API key), NOT_OWN, ASSURANCE, ROW_NOT_FOUND, CLOSED (no rule), COLUMN_CLOSED, PARTITION, NOT_GRANTED, OTHER_ROLES, PERSON_INACTIVE, ORGANIZATION_INACTIVE. Refused: NOT_PERMITTED, NOT_FOUND (no such member), QUESTION_UNCLEAR, PERMISSION_UNKNOWN, COMMAND_UNKNOWN, TABLE_UNKNOWN, TABLE_UNRULED, ROW_NOT_FOUND, OWNER_HIDDEN.
sentence text -- For people.
change text -- The smallest change that would allow it; null where it is allowed or none would.
deciding jsonb -- The rows that decided, a list of objects by kind: organization, person, key, session, row, rule, grant.

-- type api.api_key_reach
id uuid -- API key.
permissions text[] -- What it was made for.
held text[] -- What of that it has now: whose key it is has it too.
reaches text[] -- Commands and tables that what it has now opens, as "select clinic.patients".
is_live boolean -- Whether it opens anything at all now.
expires_at timestamp with time zone -- When it ends, or ended.
last_used_at timestamp with time zone -- Last use, to about a minute; null for none.

-- type api.asked_outcome
owner safetypin_owner enum 'ASKED', 'REFUSED'
comment 'Whether the worker was asked to do something.'

-- type api.asked_result
outcome api.asked_outcome
reasons text[]

-- type api.changed_outcome
owner safetypin_owner enum 'CHANGED', 'REFUSED'
comment 'Whether something was changed.'

-- type api.changed_result
outcome api.changed_outcome
reasons text[]
version integer

-- type api.closing_result
outcome api.changed_outcome
reasons text[]
closes_at timestamp with time zone -- When the organization is over; null if it goes on.

-- type api.created_outcome
owner safetypin_owner enum 'CREATED', 'REFUSED'
comment 'Whether something was made.'

-- type api.created_result
outcome api.created_outcome
reasons text[]
id uuid

-- type api.domain_result
outcome api.created_outcome
reasons text[]
id uuid
challenge_name text
challenge_value text

-- type api.ended_outcome
owner safetypin_owner enum 'ENDED', 'REFUSED'
comment 'Whether something was ended; REFUSED says nothing about why.'

-- type api.ended_result
outcome api.ended_outcome
reasons text[]

-- type api.explained_verdict
owner safetypin_owner enum 'ALLOWED', 'DENIED', 'REFUSED'
comment 'ALLOWED, DENIED, or REFUSED: no answer.'

-- type api.held_permission
permission text -- noun.verb.
valid_until timestamp with time zone -- Until when, as roles and grants are now; null for no end.

-- type api.key_work
id uuid -- Id, in the order of their making.
kind text -- rewrap: keys under a new root. seal, unseal: a column. reseal: values under new data keys. reindex: blind indexes under new keys.
"column" text -- The sealed column, or its table; null if it is about keys.
percent integer -- How far it is; null while that is not known.
created_at timestamp with time zone -- When it was asked for.
updated_at timestamp with time zone -- When it went on last.
finished_at timestamp with time zone -- When nothing was left; null while there is.

-- type api.member_role_result
outcome api.changed_outcome
reasons text[]
id uuid

-- type api.organization_setting
name text -- noun.word, as changeSetting takes it.
description text -- What it does.
type text -- integer, boolean, text or role.
value jsonb -- The value that counts. Of a role: its id, or null.
default_value jsonb -- The value that counts where nothing is set.
minimum double precision -- Lowest number, or length of the shortest text.
maximum double precision -- Highest number, or length of the longest text.
allowed text[] -- The texts that can be chosen; null: any.
is_default boolean -- Whether nothing is set.
can_change boolean -- Whether the caller may change it.

-- type api.plan_use
what text -- members, roles and so on.
used integer -- How many there are.
most integer -- How many there may be.

-- type api.profile
id uuid
email text
display_name text
email_verified boolean
locale text
created_at timestamp with time zone

-- type api.removed_outcome
owner safetypin_owner enum 'REMOVED', 'REFUSED'
comment 'Whether something was removed.'

-- type api.removed_result
outcome api.removed_outcome
reasons text[]

-- type api.resent_outcome
owner safetypin_owner enum 'SENT', 'REFUSED'
comment 'Whether something was sent again.'

-- type api.resent_result
outcome api.resent_outcome
reasons text[]

-- type api.sent_outcome
owner safetypin_owner enum 'SENT'
comment 'Always SENT: whether there was anybody to write to is not said.'

-- type api.setting_result
outcome api.changed_outcome
reasons text[]
value jsonb
allowed text -- What it can be, for people; null unless the value was refused.

-- type api.transfer_result
outcome api.changed_outcome
reasons text[]

-- type api_steps.accepted_invitation
outcome text
reasons text[]
organization_id uuid

-- type api_steps.api_key_result
outcome text
reasons text[]
id uuid
prefix text
expires_at timestamp with time zone

-- type api_steps.outcome_with_reasons
outcome text
reasons text[]

-- type api_steps.password_challenge
outcome text
reasons text[]
scheme text
parameters jsonb
salt bytea

-- type api_steps.sign_in_challenge
attempt uuid
retry_after integer
scheme text
parameters jsonb
salt bytea

-- type api_steps.sign_in_result
outcome text
session_id uuid
person_id uuid
organization_id uuid
assurance integer
authenticated_at timestamp with time zone
access_expires_at timestamp with time zone
expires_at timestamp with time zone
retry_after integer
mfa_methods text[]

-- type api_steps.started_code
attempt uuid
outcome text
reasons text[]
retry_after integer

-- view keyring_private.doors
owner safetypin_keeper with (security_invoker=true)
id uuid
relation regclass
class text
type text
permission text
write_permission text
required boolean
indexed boolean
format text
lookup text
refusal text
keep_on_null boolean
state text
door text collate "C" -- The column that takes plain text and is always empty.
sealed text collate "C" -- The hidden column with what was sealed.
index_a text collate "C" -- First blind index, or null.
index_b text collate "C" -- Second blind index, in use while the index key is replaced.
organization text collate "C" -- The column with the organization, or null.
row_id text collate "C" -- The uuid that names a row, or null where row_keys do.
row_keys text[] collate "C" -- The columns that name a row together.
subject text collate "C" -- The column with whose key seals; null: the organization's.
 SELECT id,
    relation,
    class,
    type,
    permission,
    write_permission,
    required,
    indexed,
    format,
    lookup,
    refusal,
    keep_on_null,
    state,
    door,
    sealed,
    index_a,
    index_b,
    organization,
    row_id,
    row_keys,
    subject
   FROM (keyring_private.sealed_columns c
     CROSS JOIN LATERAL ( SELECT max((attname)::text) FILTER (WHERE ('door'::text = ANY (parts))) AS door,
            max((attname)::text) FILTER (WHERE ('sealed'::text = ANY (parts))) AS sealed,
            max((attname)::text) FILTER (WHERE ('index_a'::text = ANY (parts))) AS index_a,
            max((attname)::text) FILTER (WHERE ('index_b'::text = ANY (parts))) AS index_b,
            max((attname)::text) FILTER (WHERE ('organization'::text = ANY (parts))) AS organization,
            max((attname)::text) FILTER (WHERE ('id'::text = ANY (parts))) AS row_id,
            array_agg((attname)::text ORDER BY "position") FILTER (WHERE ('key'::text = ANY (parts))) AS row_keys,
            max((attname)::text) FILTER (WHERE ('subject'::text = ANY (parts))) AS subject
           FROM ((pg_trigger t
             CROSS JOIN LATERAL ( SELECT number,
                    string_to_array(parts, ' '::text) AS parts,
                    "position"
                   FROM UNNEST((tgattr)::smallint[], (string_to_array(encode(tgargs, 'escape'::text), '\000'::text))[2:]) WITH ORDINALITY l(number, parts, "position")) x)
             JOIN pg_attribute a ON (((attrelid = tgrelid) AND (attnum = number))))
          WHERE ((tgrelid = (relation)::oid) AND (tgname = ('~seal_'::text || id)))) p)
  WHERE ((relation IS NOT NULL) AND (door IS NOT NULL));
comment 'The sealed columns of other tables, with the names that their parts have now.'

-- view request_private.other_context
owner safetypin_keeper with (security_invoker=true)
kind text
subject_id uuid
person_id uuid
organization_id uuid
credential_hash bytea
assurance integer
request_id uuid
metadata text
 SELECT kind,
    subject_id,
    person_id,
    organization_id,
    credential_hash,
    assurance,
    request_id,
    metadata
   FROM request_private.sealed_context c
  WHERE
        CASE kind
            WHEN '0'::text THEN true
            WHEN '2'::text THEN request_private.job_stands(subject_id)
            WHEN '3'::text THEN request_private.key_stands(organization_id, subject_id, credential_hash)
            ELSE false
        END;
comment 'The context of this transaction if it is anonymous or belongs to a job or an API key that may still act.'

-- view request_private.sealed_context
owner safetypin_keeper with (security_invoker=true)
kind text -- 0 anonymous, 1 session, 2 job, 3 API key.
subject_id uuid -- Session, context of the job, or API key.
person_id uuid -- Who asks; null for nobody.
organization_id uuid -- Active organization; null if none.
credential_hash bytea -- SHA-256 of the credential; zero bytes if none.
assurance integer -- Authenticator assurance level, 0 to 3.
request_id uuid -- Id of the request.
metadata text -- JSON text, as the application gave it.
 SELECT substr(body, 2, 1) AS kind,
    (substr(body, 79, 36))::uuid AS subject_id,
    NULLIF((substr(body, 115, 36))::uuid, '00000000-0000-0000-0000-000000000000'::uuid) AS person_id,
    NULLIF((substr(body, 151, 36))::uuid, '00000000-0000-0000-0000-000000000000'::uuid) AS organization_id,
    decode(substr(body, 187, 64), 'hex'::text) AS credential_hash,
    (substr(body, 251, 1))::integer AS assurance,
    (substr(body, 252, 36))::uuid AS request_id,
    substr(body, 288) AS metadata
   FROM ( SELECT
                CASE
                    WHEN (sha256(convert_to(seal, 'UTF8'::name)) = sha256(convert_to(request_private.seal(body, inner_pad, outer_pad), 'UTF8'::name))) THEN body
                    ELSE NULL::text
                END AS body
           FROM (( SELECT substr(setting, 1, 64) AS seal,
                    substr(setting, 65) AS body
                   FROM ( SELECT current_setting('safetypin.context'::text, true) AS setting
                         OFFSET 0) c
                  WHERE (setting <> ''::text)
                 OFFSET 0) s
             CROSS JOIN keyring_private.seal_keys k)
          WHERE (purpose = 'request'::text)
         OFFSET 0) b
  WHERE ((substr(body, 3, 24) = encode((int4send(pg_backend_pid()) || timestamptz_send(now())), 'hex'::text)) AND ((substr(body, 27, 16) COLLATE "C") > encode(timestamptz_send(clock_timestamp()), 'hex'::text)));
comment 'The context of this transaction if its seal is good and its deadline ahead. Does not ask whether the session still lives: the audit of the statement that ended it needs that.'

-- view request_private.session_context
owner safetypin_keeper with (security_invoker=true)
kind text
subject_id uuid
person_id uuid
organization_id uuid
credential_hash bytea
assurance integer
request_id uuid
metadata text
 SELECT kind,
    subject_id,
    person_id,
    organization_id,
    credential_hash,
    assurance,
    request_id,
    metadata
   FROM (request_private.sealed_context c
     JOIN sessions.sessions s ON ((id = subject_id)))
  WHERE ((kind = '1'::text) AND (ends_at > clock_timestamp()));
comment 'The context of this transaction if it belongs to a session that is live now.'
