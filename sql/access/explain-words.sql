-- Purpose: explanations for people, reason by reason, and which role would do.

grant create on schema access_private to safetypin_definer;
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

reset role;
reset row_security;
revoke create on schema access_private from safetypin_definer;
