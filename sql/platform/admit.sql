-- Purpose: row-level security is on and forced everywhere, so our own functions' owners need policies as well. This
-- gives an internal role exactly the commands it names on a table, as grant and policy together.

create or replace function platform_private.admit(role name, relation regclass, variadic commands text[]) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
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
end $$;
comment on function platform_private.admit(name, regclass, text[]) is
  'Grants commands on a table to an internal role, with the policy that lets it through. For migrations only.';
