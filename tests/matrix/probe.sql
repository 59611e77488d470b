-- What the matrix needs inside a database of a test; no part of the product. Owned by the administrator, so that it sees
-- what a statement changed whoever ran it, and called by everybody.
create schema matrix;
grant usage on schema matrix to public;

-- Values that say whose a row is, and every row as it was before the first cell, with whose it is: A is an organization,
-- A/ada a person in it.
create table matrix.ids (value text primary key, labels text[] not null);
create table matrix.rows (relation oid, place text, hash text, labels text[]);
create index on matrix.rows (relation, hash);
create table matrix.baseline (relation oid primary key);

create function matrix.values_of(content text) returns text[] language sql immutable as $$
  select coalesce(array_agg(distinct m[1]), '{}')
    from regexp_matches(content, '(\m[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\M|\\x[0-9a-f]{16,}|[a-z]+@matrix\.example)', 'g') m
$$;

create function matrix.labels_of(content text) returns text[] language sql stable security definer as $$
  select coalesce(array_agg(distinct l), '{}') from matrix.ids i cross join unnest(i.labels) l
   where i.value = any (matrix.values_of(content))
$$;

-- own, shared, or OTHERS: whose these labels are, for an actor (A/ada; - has nothing).
create function matrix.whose(actor text, labels text[]) returns text language sql immutable as $$
  select case when labels = '{}' then 'shared'
    when split_part(actor, '/', 1) = all (select split_part(l, '/', 1) from unnest(labels) l) then 'own' else 'OTHERS' end
$$;

-- What an actor saw of a relation, in a word.
create function matrix.describe(actor text, relation oid, hashes text[]) returns text
  language plpgsql security definer set timezone = 'UTC' as $$
declare
  v_others bigint; v_own bigint; v_all bigint; v_mine bigint; v_seen_mine bigint; v_shared bigint; v_all_shared bigint;
begin
  if coalesce(cardinality(hashes), 0) = 0 then
    return 'nothing';
  end if;
  select count(*) filter (where w = 'OTHERS' and seen), count(*) filter (where w = 'own' and seen), count(*) filter (where w = 'own'),
      count(*) filter (where w = 'own' and mine), count(*) filter (where w = 'own' and mine and seen),
      count(*) filter (where w = 'shared' and seen), count(*) filter (where w = 'shared')
    into v_others, v_own, v_all, v_mine, v_seen_mine, v_shared, v_all_shared
    from (select matrix.whose(actor, r.labels) as w, actor = any (r.labels) as mine, r.hash = any (hashes) as seen
            from matrix.rows r where r.relation = describe.relation) x;
  return concat_ws('+',
    case when v_own > 0 then case when v_own = v_all then 'own' when v_own = v_mine and v_seen_mine = v_mine then 'mine' else 'part of own' end end,
    case when v_shared > 0 then case when v_shared = v_all_shared then 'shared' else 'some shared' end end,
    case when v_others > 0 then 'OTHERS' end,
    case when v_others + v_own + v_shared = 0 then 'UNKNOWN' end);
end $$;

-- Rows written to each table by this transaction so far, undone ones too, in the order of the tables.
create function matrix.counters() returns bigint[] language sql volatile security definer as $$
  select array_agg(pg_stat_get_xact_tuples_inserted(b.relation) + pg_stat_get_xact_tuples_updated(b.relation)
    + pg_stat_get_xact_tuples_deleted(b.relation) order by b.relation) from matrix.baseline b
$$;

-- What changed since the baseline, as relation:whose, in tables that were written to since the counters were read.
create function matrix.changed(actor text, counters bigint[]) returns text[]
  language plpgsql security definer set timezone = 'UTC' as $$
declare
  v_relation oid;
  v_found text[];
  v_all text[] := '{}';
  v_now bigint[] := matrix.counters();
begin
  if v_now = counters then
    return v_all;
  end if;
  for v_relation in
      select b.relation from (select relation, row_number() over (order by relation) as position from matrix.baseline) b
       where v_now[b.position] <> counters[b.position] loop
    execute format($sql$
      with touched as (
        select r.labels from matrix.rows r left join %1$s t on t.tableoid || ':' || t.ctid = r.place
         where r.relation = %2$s and t.tableoid is null
        union all
        -- What this transaction wrote.
        select matrix.labels_of(to_jsonb(t)::text) from %1$s t where age(t.xmin) <= 0
      )
      select array_agg(distinct %3$L || ':' || matrix.whose($1, labels)) from touched$sql$,
      v_relation::regclass, v_relation, v_relation::regclass) into v_found using actor;
    v_all := v_all || coalesce(v_found, '{}');
  end loop;
  return v_all;
end $$;

-- Runs as whoever calls: each cell in a subtransaction that is undone. kind: read (gives hashes of rows), count, write,
-- do (nothing but done or refused), call (gives JSON).
create function matrix.run(actor text, cells jsonb) returns table (cell integer, outcome text, rows bigint, changes text[], answer text)
  language plpgsql volatile as $$
declare
  c record;
  v_hashes text[];
  v_counters bigint[] := matrix.counters();
begin
  for c in select e.ordinality::integer as number, e.value ->> 'sql' as sql, e.value ->> 'kind' as kind, (e.value ->> 'relation')::oid as relation
      from jsonb_array_elements(cells) with ordinality e loop
    cell := c.number; outcome := null; rows := null; changes := '{}'; answer := null;
    begin
      case c.kind
        when 'read' then
          execute c.sql into v_hashes;
          rows := coalesce(cardinality(v_hashes), 0);
          outcome := matrix.describe(actor, c.relation, v_hashes);
        when 'count' then
          execute c.sql into rows;
          outcome := 'done';
        when 'call' then
          execute c.sql into answer;
          changes := matrix.changed(actor, v_counters) || case when matrix.told(actor, c.sql, answer) then array['answer:OTHERS'] end;
          outcome := 'done';
        when 'write' then
          execute c.sql;
          get diagnostics rows = row_count;
          changes := matrix.changed(actor, v_counters);
          outcome := 'done';
        else
          execute c.sql;
          outcome := 'done';
      end case;
      raise exception using errcode = 'MTRIX';
    exception
      when sqlstate 'MTRIX' then null;
      when others then outcome := case sqlstate when '42501' then 'denied' else 'refused ' || sqlstate end; rows := null; answer := sqlerrm;
    end;
    -- What was undone counts as well.
    if changes <> '{}' then
      v_counters := matrix.counters();
    end if;
    return next;
  end loop;
end $$;

-- Breaks something inside the transaction of an actor, which is rolled back: to see the matrix notice.
create function matrix.sabotage(sql text) returns void language plpgsql security definer as $$ begin execute sql; end $$;

-- Says whose every value and row is, from the ids that are known to begin with: a row that names a known value passes its
-- labels on to its own key.
create function matrix.learn(seeds jsonb) returns void language plpgsql set timezone = 'UTC' as $$
declare
  v record;
begin
  insert into matrix.ids select e.key, array(select jsonb_array_elements_text(e.value)) from jsonb_each(seeds) e;
  create temp table work (names text[], keys text[]) on commit drop;
  for v in select c.oid::regclass as relation, array_agg(distinct quote_ident(a.attname)) as keys
      from pg_class c join pg_index i on i.indrelid = c.oid and i.indisunique
      join pg_attribute a on a.attrelid = c.oid and a.attnum = any (i.indkey)
      where c.relkind = 'r' and c.relnamespace in (select oid from matrix.schemas()) group by c.oid loop
    execute format('insert into work select matrix.values_of(to_jsonb(t)::text), matrix.values_of(jsonb_build_array(%s)::text) from %s t',
      (select string_agg('t.' || k, ', ') from unnest(v.keys) k), v.relation);
  end loop;
  loop
    insert into matrix.ids
      select k, array_agg(distinct l)
        from work w cross join unnest(w.keys) k
        join matrix.ids i on i.value = any (w.names) cross join unnest(i.labels) l
       where k <> '00000000-0000-0000-0000-000000000000' and not exists (select from matrix.ids x where x.value = k)
       group by k;
    exit when not found;
  end loop;
  drop table work;
end $$;

-- The schemas that are looked at: all but PostgreSQL's own and this one.
create function matrix.schemas() returns table (oid oid, name name) language sql stable as $$
  select n.oid, n.nspname from pg_namespace n where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'matrix')
$$;

-- Notes what there is now, as what cells are compared with.
create function matrix.rebase() returns void language plpgsql security definer set timezone = 'UTC' as $$
declare
  v record;
begin
  delete from matrix.rows;
  delete from matrix.baseline;
  for v in select c.oid, c.oid::regclass as name, c.relkind from pg_class c join matrix.schemas() s on s.oid = c.relnamespace
      where c.relkind in ('r', 'p', 'v', 'm', 'f') loop
    execute format('insert into matrix.rows select %s, %s, md5(t::text), matrix.labels_of(to_jsonb(t)::text) from %s t',
      v.oid, case when v.relkind in ('v', 'm') then 'null' else 't.tableoid || '':'' || t.ctid' end, v.name);
  end loop;
  insert into matrix.baseline select c.oid from pg_class c join matrix.schemas() s on s.oid = c.relnamespace where c.relkind = 'r';
end $$;

-- Everything that can be named in a statement about rows, with a row of each organization and one of nobody's.
create function matrix.catalog(pattern text) returns table (relation jsonb) language plpgsql set timezone = 'UTC' as $$
declare
  v record;
  v_rows jsonb;
begin
  for v in select c.oid, c.oid::regclass as name, c.relkind, c.relacl from pg_class c join matrix.schemas() s on s.oid = c.relnamespace
      where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.oid::regclass::text ~ catalog.pattern order by c.oid::regclass::text collate "C" loop
    v_rows := '{}';
    if v.relkind <> 'S' then
      execute format($sql$
        select coalesce(jsonb_object_agg(whose, content), '{}') from (
          select distinct on (whose) whose, content from (
            select coalesce(left((matrix.labels_of(to_jsonb(t)::text))[1], 1), '-') as whose, to_jsonb(t) as content from %s t) x
          order by whose, (select count(*) from jsonb_object_keys(jsonb_strip_nulls(content))) desc, content::text) y$sql$, v.name) into v_rows;
    end if;
    relation := jsonb_build_object('oid', v.oid, 'name', v.name, 'kind', v.relkind, 'rows', v_rows, 'columns', (
        select jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, null), 'generated', a.attgenerated <> '', 'identity', a.attidentity = 'a',
            'key', exists (select from pg_index i where i.indrelid = v.oid and i.indisprimary and a.attnum = any (i.indkey)),
            'unique', exists (select from pg_index i where i.indrelid = v.oid and i.indisunique and a.attnum = any (i.indkey)),
            'refers', exists (select from pg_constraint k where k.conrelid = v.oid and k.contype = 'f' and a.attnum = any (k.conkey)),
            'insert', (select coalesce(jsonb_agg(r), '[]') from unnest(matrix.roles()) r where has_column_privilege(r, v.oid, a.attnum, 'insert')),
            'update', (select coalesce(jsonb_agg(r), '[]') from unnest(matrix.roles()) r where has_column_privilege(r, v.oid, a.attnum, 'update')))
            order by a.attnum)
          from pg_attribute a where a.attrelid = v.oid and a.attnum > 0 and not a.attisdropped));
    return next;
  end loop;
end $$;

create function matrix.roles() returns text[] language sql immutable as $$
  select array['safetypin_authenticator', 'safetypin_anonymous', 'safetypin_member', 'safetypin_jobs', 'safetypin_auditor']
$$;

-- Every function there is, with the types and names of its arguments.
create function matrix.routines(pattern text) returns table (routine jsonb) language sql stable as $$
  select jsonb_build_object('name', format('%I.%I', s.name, p.proname), 'isTrigger', p.prorettype in ('trigger'::regtype, 'event_trigger'::regtype),
      'title', p.oid::regprocedure::text,
      'arguments', coalesce((select jsonb_agg(jsonb_build_object('name', coalesce(p.proargnames[a.position], ''), 'type', format_type(a.type, null)) order by a.position)
          from unnest(p.proargtypes::oid[]) with ordinality as a (type, position)), '[]'))
    from pg_proc p join matrix.schemas() s on s.oid = p.pronamespace
   where p.prokind in ('f', 'p') and p.oid::regprocedure::text ~ routines.pattern
   order by p.oid::regprocedure::text collate "C"
$$;

-- Whether an answer holds anything of others that was not in the question.
create function matrix.told(actor text, question text, answer text) returns boolean language sql stable security definer as $$
  select exists (
    select from unnest(matrix.values_of(answer)) v join matrix.ids i on i.value = v
     where v <> all (matrix.values_of(question)) and matrix.whose(actor, i.labels) = 'OTHERS')
$$;

-- What a person has that a function can be asked about.
create function matrix.belongings(person uuid, session uuid) returns jsonb language sql stable as $$
  select jsonb_build_object(
    'organization', (select s.organization_id from sessions.sessions s where s.id = session), 'person', person, 'session', session,
    'membership', (select m.id from access.memberships m where m.person_id = person),
    'role', (select mr.role_id from access.memberships m join access.membership_roles mr on mr.membership_id = m.id where m.person_id = person limit 1),
    'membership_role', (select mr.id from access.memberships m join access.membership_roles mr on mr.membership_id = m.id where m.person_id = person limit 1),
    'mail', (select m.id from identity_private.mails m where m.person_id = person or m.lookup = e.lookup order by m.sent_at nulls first limit 1),
    'attempt', (select a.id from identity_private.attempts a where a.account = e.lookup order by a.created_at desc limit 1),
    'registration', (select r.id from identity_private.registrations r where r.lookup = e.lookup limit 1),
    'job', (select j.job_id from platform_private.job_contexts j where j.person_id = person limit 1),
    'job context', (select j.id from platform_private.job_contexts j where j.person_id = person limit 1),
    'credential hash', (select c.hash from sessions_private.credentials c where c.session_id = session limit 1),
    'refresh hash', (select t.hash from sessions_private.refresh_tokens t where t.session_id = session and t.rotated_at is null limit 1),
    'token hash', (select t.hash from identity_private.registrations r join identity_private.tokens t on t.registration_id = r.id where r.lookup = e.lookup limit 1),
    'lookup', e.lookup)
  from identity_private.emails e where e.person_id = person
$$;

-- What others committed since the baseline, as relation:whose.
create function matrix.differences(actor text) returns text[] language plpgsql set timezone = 'UTC' as $$
declare
  v_relation oid;
  v_found text[];
  v_all text[] := '{}';
begin
  for v_relation in select relation from matrix.baseline loop
    execute format($sql$
      with now as (select t.tableoid || ':' || t.ctid as place, md5(t::text) as hash, to_jsonb(t)::text as content from %1$s t),
      known as (select r.place, r.hash, r.labels from matrix.rows r where r.relation = %2$s),
      touched as (
        select k.labels from known k left join now n using (place, hash) where n.place is null
        union all
        select matrix.labels_of(n.content) from now n left join known k using (place, hash) where k.place is null)
      select array_agg(distinct %1$L || ':' || matrix.whose($1, labels)) from touched$sql$, v_relation::regclass, v_relation)
      into v_found using actor;
    v_all := v_all || coalesce(v_found, '{}');
  end loop;
  return v_all;
end $$;
