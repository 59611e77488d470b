-- Purpose: the catalog of permissions, and which built-in roles hold them.

set local row_security = on;

insert into access.permissions (name, description, default_roles) values
  ('organization.read',   'See the organization.',                       '{owner,admin,member,viewer}'),
  ('organization.update', 'Rename the organization.',                    '{owner,admin}'),
  ('organization.close',  'Close the organization, and take that back.', '{owner}'),
  ('organization.transfer', 'Hand the organization over to another owner.', '{owner}'),
  ('setting.read',        'See the settings of the organization.',       '{owner,admin,member,viewer}'),
  ('setting.update',      'Change the settings of the organization.',    '{owner,admin}'),
  ('plan.read',           'See the plan, its limits and what is used of them.', '{owner,admin}'),
  ('member.read',         'See who belongs to the organization.',        '{owner,admin,member,viewer}'),
  ('member.contact',      'See the e-mail addresses of members.',        '{owner,admin}'),
  ('member.invite',       'Invite people.',                              '{owner,admin}'),
  ('member.update',       'Give and take roles.',                        '{owner,admin}'),
  ('member.remove',       'Remove members.',                             '{owner,admin}'),
  ('invitation.read',     'See who is invited.',                         '{owner,admin}'),
  ('role.read',           'See roles and what they permit.',             '{owner,admin,member,viewer}'),
  ('role.create',         'Make roles.',                                 '{owner,admin}'),
  ('role.update',         'Change roles.',                               '{owner,admin}'),
  ('role.delete',         'Remove roles.',                               '{owner,admin}'),
  ('access.explain',      'Ask why somebody else may or may not do something.', '{owner,admin}'),
  ('domain.read',         'See the domains of the organization.',        '{owner,admin}'),
  ('domain.create',       'Add domains, and have them proved.',          '{owner,admin}'),
  ('domain.update',       'Change who joins by the address of a domain.', '{owner,admin}'),
  ('domain.remove',       'Remove domains.',                             '{owner,admin}'),
  ('service_account.read', 'See service accounts.',                      '{owner,admin}'),
  ('service_account.create', 'Make service accounts.',                   '{owner,admin}'),
  ('service_account.remove', 'Remove service accounts.',                 '{owner,admin}'),
  ('api_key.read',        'See the API keys of others and of service accounts.', '{owner,admin}'),
  ('api_key.create',      'Make API keys.',                              '{owner,admin,member}'),
  ('api_key.rotate',      'Replace API keys.',                           '{owner,admin,member}'),
  ('api_key.revoke',      'End the API keys of others and of service accounts.', '{owner,admin}'),
  ('session.read',        'See the sessions of members.',                '{owner,admin}'),
  ('session.end',         'End the sessions of members.',                '{owner,admin}'),
  ('audit.read',          'Read the audit trail.',                       '{owner,admin}'),
  ('key.read',            'See how far work on keys and sealed values is.', '{owner}'),
  ('row.read',            'Read rows of the application''s tables.',     '{owner,admin,member,viewer}'),
  ('row.create',          'Add rows to the application''s tables.',      '{owner,admin,member}'),
  ('row.update',          'Change rows of the application''s tables.',   '{owner,admin,member}'),
  ('row.delete',          'Remove rows of the application''s tables.',   '{owner,admin}'),
  ('row.assign',          'Add rows in the name of somebody else.',      '{owner,admin}')
on conflict (name) do update set description = excluded.description, default_roles = excluded.default_roles;

-- An operator's numbers survive the next migration: only new ones are added.
insert into access.plans (name, description) values ('default', 'What every organization has until an operator gives it another.')
on conflict (name) do nothing;
insert into access.plan_limits (plan, what, most) values
  ('default', 'api_keys', 1000),
  ('default', 'domains', 100),
  ('default', 'invitations', 1000),
  ('default', 'members', 10000),
  ('default', 'roles', 200),
  ('default', 'service_accounts', 200)
on conflict (plan, what) do nothing;

insert into access.setting_definitions
    (name, type, default_value, minimum, maximum, limit_name, description, read_permission, write_permission) values
  ('api_key.seconds', 'integer', null, 3600, null, 'api_key.maximum_seconds',
    'Longest life of an API key that is made from now on, in seconds.', 'setting.read', 'setting.update'),
  ('invitation.seconds', 'integer', '604800', 3600, 2592000, null,
    'How long an invitation can be accepted, in seconds.', 'setting.read', 'setting.update'),
  ('session.absolute_seconds', 'integer', null, 300, null, 'session.absolute_seconds',
    'How long somebody stays signed in here at most, in seconds, however much the session is used.', 'setting.read', 'setting.update')
on conflict (name) do update
  set default_value = excluded.default_value, minimum = excluded.minimum, maximum = excluded.maximum,
      limit_name = excluded.limit_name, description = excluded.description,
      read_permission = excluded.read_permission, write_permission = excluded.write_permission;

reset row_security;
