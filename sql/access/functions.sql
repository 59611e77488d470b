-- Purpose: who writes the catalog of permissions, the rules and what is kept beside them. access.protect() and its like
-- call these; they belong to the definer, since tables of rules are nobody's to write.

grant create on schema access, access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.table_name(relation regclass) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select format('%I.%I', n.nspname, c.relname)
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.oid = table_name.relation);
end $$;
comment on function access_private.table_name(regclass) is 'Schema and name of a table, quoted, whatever the search path.';

create or replace function access.define_permission(name text, description text, roles text[] default '{owner,admin}') returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
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
end $$;
comment on function access.define_permission(text, text, text[]) is
  'Adds a permission (noun.verb) to the catalog and gives it to built-in roles of all organizations.';

create or replace function access.set_rule(
  relation regclass, command text, organization_column name, owner_column name, permission text, assurance integer, roles name[],
  assign text default null
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
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
end $$;
comment on function access.set_rule(regclass, text, name, name, text, integer, name[], text) is
  'Writes one row of access.rules, or removes it when neither permission nor owner is given. 42501 unless the caller owns the table. access.protect() calls it.';

create or replace function access.keep_protection(
  relation regclass, organization_column name, owner_column name, roles name[], audited boolean, hidden name[]
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
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
end $$;
comment on function access.keep_protection(regclass, name, name, name[], boolean, name[]) is
  'Keeps what a table is protected with besides its rules. 42501 unless the caller owns the table. access.protect() calls it.';

create or replace function access.forget_protection(relation regclass) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
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
end $$;
comment on function access.forget_protection(regclass) is
  'Removes the rules of a table. 42501 unless the caller owns it. access.unprotect() calls it.';

create or replace function access.exempt(object text, reason text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
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
end $$;
comment on function access.exempt(text, text) is
  'Lists a table, view or function of an exposed schema as needing no rules, with the reason; without a reason takes it off the list. 42501 unless the caller owns it. TABLE for what is not there, or for no reason in words.';

reset role;
reset row_security;
revoke create on schema access, access_private from safetypin_definer;
