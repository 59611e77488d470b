import type { Lint } from './lint.ts';

/** SECURITY 2.1, 2.4; FINDINGS F7, F10, F14. */
export const functionLints: readonly Lint[] = [
  {
    name: 'PG-01 a function without the pinned search_path',
    cure: 'set search_path = pg_catalog, pg_temp (an empty path lets pg_temp shadow types)',
    find: `select key, coalesce(array_to_string(proconfig, '; '), 'no setting') as detail from routines
            where prokind <> 'a' and not coalesce(proconfig, '{}') @> '{"search_path=pg_catalog, pg_temp"}'
              -- The names in a body of the form "return …" were resolved when it was made.
              and (prosecdef or prosqlbody is null)`,
    defect: `create function api.odd() returns int language sql set search_path = '' as 'select 1'`,
  },
  {
    name: 'PG-04 EXECUTE held by PUBLIC',
    cure: 'revoke execute on the function from public; grants.sql names who may',
    find: `select key, 'public may execute' as detail from routines, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
            where a.grantee = 0`,
    defect: 'grant execute on function platform.uuid_v7() to public',
  },
  {
    name: 'PG-04 an owner whose next function PUBLIC could execute',
    cure: 'alter default privileges for that role revoke execute on functions from public (not in schema)',
    find: `select rolname as key, 'default privileges of functions' as detail from pg_roles r
            where rolname in ('safetypin_owner', 'safetypin_keeper', 'safetypin_definer')
              and not exists (select from pg_default_acl d where d.defaclrole = r.oid and d.defaclobjtype = 'f' and d.defaclnamespace = 0
                                and not exists (select from aclexplode(d.defaclacl) a where a.grantee = 0))`,
    defect: 'alter default privileges for role safetypin_definer grant execute on functions to public',
  },
  {
    name: 'PG-05 a security definer function of the wrong owner',
    cure: 'safetypin_definer owns it, or safetypin_keeper if it touches a key; never the owner of the tables (F7)',
    find: `select key, pg_get_userbyid(proowner)::text as detail from routines join pg_roles r on r.oid = proowner
            where prosecdef and (rolname not in ('safetypin_definer', 'safetypin_keeper')
              or rolcanlogin or rolsuper or rolbypassrls or rolcreaterole or rolcreatedb)`,
    defect: `create function api.odd() returns int language sql security definer set search_path = pg_catalog, pg_temp as 'select 1';
             alter function api.odd() owner to safetypin_owner`,
  },
  {
    name: 'PG-06 dynamic SQL put together from text',
    cure: "format('%I %L') or using, and a reviewed line here that says why it is dynamic",
    find: `select key, 'execute in its body' as detail from routines
            where prolang = (select oid from pg_language where lanname = 'plpgsql')
              and regexp_replace(source, '--[^\\n]*', '', 'g') ~* '\\mexecute\\M(?!\\s+(function|procedure|on)\\M)'`,
    defect: `create function api.odd(q text) returns void language plpgsql as $$ begin execute 'select ' || q; end $$`,
  },
  {
    name: 'PG-61 a key in a variable inside of a query',
    cure: 'put the key into an assignment or return alone, or make it a column (from (select … as key offset 0)): variables become constants of the plan, and debug_print_plan shows that to whoever calls',
    // What assigns or returns without a query of its own is never planned with its variables.
    find: `select distinct key, btrim(regexp_replace(left(bare, 80), '\\s+', ' ', 'g')) as detail
             from routines,
               regexp_split_to_table(regexp_replace(source, '--[^\\n]*', '', 'g'), ';|\\m(then|else|loop|begin)\\M') as statement,
               regexp_replace(statement, '\\minto\\s+(strict\\s+)?\\w+(\\s*,\\s*\\w+)*', '', 'g') as bare
            where prolang = (select oid from pg_language where lanname = 'plpgsql')
              and pg_get_userbyid(proowner) = 'safetypin_keeper'
              and bare ~ '\\m(select|insert|update|delete|merge|perform|execute|with)\\M'
              and bare ~ '\\mv_(\\w+_)?(key|keys|kek|half|halves|secret)\\M(?!\\.)'`,
    defect: `create function keyring.odd() returns void language plpgsql as $$
             declare v_kek bytea; begin insert into keyring_private.roots (version, half) select 9, v_kek; end $$;
             alter function keyring.odd() owner to safetypin_keeper`,
  },
  {
    name: 'PG-30 a leakproof function',
    cure: 'leave leakproof out: it lets the planner run the function before the policy',
    find: `select key, 'leakproof' as detail from routines where proleakproof`,
    defect: 'alter function platform.uuid_v7() leakproof',
  },
  {
    name: 'PG-50 a function that leaves a setting behind for the next user of the connection',
    cure: 'set_config(…, true), or set local',
    find: `select key, 'set_config(…, false) or a bare set' as detail from routines
            where source ~* 'set_config\\s*\\([^;]*,\\s*false\\s*\\)' or source ~* '(^|;|begin|then|else)\\s*set\\s+(?!local|constraints)(session\\s+)?\\w+(\\.\\w+)?\\s*(=|to)\\s'
               and prolang = (select oid from pg_language where lanname = 'plpgsql')`,
    defect: `create function api.odd() returns void language plpgsql as $$ begin perform set_config('a.b', 'c', false); end $$`,
  },
  {
    name: 'PG-54 an advisory lock that outlives its transaction',
    cure: 'pg_advisory_xact_lock: a pooler hands the connection on',
    find: `select key, 'session lock' as detail from routines where source ~* 'pg_(try_)?advisory_lock(_shared)?\\s*\\('`,
    defect: `create function api.odd() returns void language sql as 'select pg_advisory_lock(1)'`,
  },
  {
    name: 'F10 an assert, which a caller can switch off',
    cure: 'if … then raise exception … end if',
    find: `select key, 'assert' as detail from routines
            where regexp_replace(source, '--[^\\n]*', '', 'g') ~* '(^|;|begin|then|else|loop)\\s*assert\\s'`,
    defect: `create function api.odd() returns void language plpgsql as $$ begin assert false; end $$`,
  },
  {
    name: 'F14 an accessor of the request that is not stable and parallel restricted',
    cure: 'stable parallel restricted: immutable gave one tenant the rows of another, parallel safe gives nothing',
    find: `select key, format('volatility %s, parallel %s', provolatile, proparallel) as detail from routines
            where nspname = 'request' and (provolatile <> 's' or proparallel <> 'r')`,
    defect: 'alter function request.user_id() immutable',
  },
  {
    name: 'F14 a function marked safer than what it calls',
    cure: 'a function that reads the request, the clock or a table is not immutable, and not parallel safe if it calls one that is not',
    find: `select key, format('volatility %s, parallel %s', provolatile, proparallel) as detail from routines
            where (provolatile = 'i' or proparallel = 's') and nspname <> 'request'
              and source ~* '\\m(request|request_private|sessions|access_private)\\.\\w+\\s*\\('`,
    defect: `create function api.odd() returns uuid language sql immutable as 'select request.user_id()'`,
  },
  {
    name: 'a function without a comment',
    cure: 'comment on function: it becomes the description in the API',
    find: `select key, 'no comment' as detail from routines
            where obj_description(id, 'pg_proc') is null and prorettype <> 'trigger'::regtype`,
    defect: `create function api.odd() returns int language sql as 'select 1'`,
  },
];
