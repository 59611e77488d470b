-- Purpose: erasing what was sealed for a subject: its keys are deleted, and the blind indexes of its values, which need no
-- key of the subject's to be guessed at, are emptied in the same transaction. A step of whatever job decides to erase; such
-- a job is made with the subject, and erases nobody else. What stays is ciphertext that nothing opens, here and in every
-- copy that was taken before.

grant create on schema keyring to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace function keyring.destroy_keys(subject uuid) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
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
end $$;
comment on function keyring.destroy_keys(uuid) is
  'Deletes all keys of the subject of this job; whether there were any. keyring.erase() calls it. DENYD outside such a job.';

reset role;
reset row_security;
revoke create on schema keyring from safetypin_keeper;

create or replace function keyring.erase(subject uuid) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
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
end $$;
comment on function keyring.erase(uuid) is
  'Erases all that was sealed for a subject, in a job that was made with it: deletes its keys, and empties its blind indexes in every table; returns in how many rows. What somebody writes for it at that very moment keeps its index: whoever erases first sees to it that nobody writes. DENYD outside such a job.';
