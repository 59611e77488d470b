-- What the matrix needs inside a database of a test; no part of the product. Owned by the administrator, so that it sees
-- what a statement changed whoever ran it, and called by everybody.
create schema matrix;
grant usage on schema matrix to public;

-- Values that say whose a row is, and every row as it was before the first cell, with whose it is: A is an organization,
-- A/ada a person in it.
create table matrix.ids (value text primary key, labels text[] not null);
create table matrix.rows (relation oid, place text, hash text, labels text[]);
create index on matrix.rows (relation, hash);
create table matrix.baseline (relation oid primary key, count bigint, sum numeric);

create function matrix.values_of(content text) returns text[] language sql immutable as $$
  select coalesce(array_agg(distinct m[1]), '{}')
    from regexp_matches(content, '(\m[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\M|\\x[0-9a-f]{16,})', 'g') m
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

-- What changed since the baseline, as relation:whose.
create function matrix.changed(actor text) returns text[]
  language plpgsql security definer set timezone = 'UTC' as $$
declare
  v_relation oid;
  v_found text[];
  v_all text[] := '{}';
begin
  for v_relation in select s.relation from matrix.state() s left join matrix.baseline b using (relation)
      where (s.count, s.sum) is distinct from (b.count, b.sum) loop
    execute format($sql$
      with now as (select t.tableoid || ':' || t.ctid as place, md5(t::text) as hash, to_jsonb(t)::text as content from %1$s t),
      touched as (
        select r.labels from matrix.rows r where r.relation = %2$s and not exists (select from now n where n.place = r.place and n.hash = r.hash)
        union all
        select coalesce((select r.labels from matrix.rows r where r.relation = %2$s and r.hash = n.hash limit 1), matrix.labels_of(n.content))
          from now n where not exists (select from matrix.rows r where r.relation = %2$s and r.place = n.place and r.hash = n.hash)
      )
      select array_agg(distinct %3$L || ':' || matrix.whose($1, labels)) from touched$sql$,
      v_relation::regclass, v_relation, v_relation::regclass) into v_found using actor;
    v_all := v_all || v_found;
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
          changes := matrix.changed(actor);
          outcome := 'done';
        when 'write' then
          execute c.sql;
          get diagnostics rows = row_count;
          changes := matrix.changed(actor);
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

-- Count and digest of every table, one query for all: made anew when a table comes.
create function matrix.make_state() returns void language plpgsql as $$
begin
  execute 'create or replace function matrix.state() returns table (relation oid, count bigint, sum numeric) language sql stable security definer set timezone = ''UTC'' as $q$'
    || (select string_agg(format('select %s::oid, count(*), sum(hashtextextended(t.ctid || t::text, 0)) from %s t', c.oid, c.oid::regclass), ' union all ')
          from pg_class c join matrix.schemas() s on s.oid = c.relnamespace where c.relkind = 'r')
    || '$q$';
end $$;

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
  insert into matrix.baseline select * from matrix.state();
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
