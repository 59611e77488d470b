-- Purpose: every number that a rule compares with, in one table, with unit and bounds. SQL reads it; TypeScript
-- does not decide by numbers of its own.

create table if not exists platform.limits (
  name text constraint limits_pkey primary key,
  value bigint not null,
  unit text not null,
  minimum bigint not null,
  maximum bigint not null,
  description text not null,
  constraint limits_value_in_bounds check (value between minimum and maximum)
);
alter table platform.limits enable row level security, force row level security;
comment on table platform.limits is 'Numbers that rules compare with. Changing a value takes effect with the next statement; bounds refuse what would be unsafe.';
comment on column platform.limits.name is 'Dotted name, as given to platform.limit_value().';
comment on column platform.limits.value is 'The number in force.';
comment on column platform.limits.unit is 'Unit of value, minimum and maximum.';
comment on column platform.limits.minimum is 'Lowest value that is allowed.';
comment on column platform.limits.maximum is 'Highest value that is allowed.';
comment on column platform.limits.description is 'What is limited, and the standard it follows where there is one.';

create or replace function platform.limit_value(name text) returns bigint
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- PL/pgSQL keeps the plan between calls; a function in SQL would start anew at each.
  return (select l.value from platform.limits l where l.name = limit_value.name);
end $$;
comment on function platform.limit_value(text) is 'The number in force for a limit; null for an unknown name.';
