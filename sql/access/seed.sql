-- Purpose: the catalog of permissions, and which built-in roles hold them.

set local row_security = on;

insert into access.permissions (name, description, default_roles) values
  ('organization.read',   'See the organization.',                       '{owner,admin,member,viewer}'),
  ('organization.update', 'Rename the organization and change settings.', '{owner,admin}'),
  ('organization.close',  'Close the organization.',                     '{owner}'),
  ('member.read',         'See who belongs to the organization.',        '{owner,admin,member,viewer}'),
  ('member.invite',       'Invite people.',                              '{owner,admin}'),
  ('member.update',       'Give and take roles.',                        '{owner,admin}'),
  ('member.remove',       'Remove members.',                             '{owner,admin}'),
  ('role.read',           'See roles and what they permit.',             '{owner,admin,member,viewer}'),
  ('role.create',         'Make roles.',                                 '{owner,admin}'),
  ('role.update',         'Change roles.',                               '{owner,admin}'),
  ('role.delete',         'Remove roles.',                               '{owner,admin}'),
  ('session.read',        'See the sessions of members.',                '{owner,admin}'),
  ('session.end',         'End the sessions of members.',                '{owner,admin}'),
  ('audit.read',          'Read the audit trail.',                       '{owner,admin}'),
  ('key.read',            'See how far work on keys and sealed values is.', '{owner}'),
  ('row.read',            'Read rows of the application''s tables.',     '{owner,admin,member,viewer}'),
  ('row.create',          'Add rows to the application''s tables.',      '{owner,admin,member}'),
  ('row.update',          'Change rows of the application''s tables.',   '{owner,admin,member}'),
  ('row.delete',          'Remove rows of the application''s tables.',   '{owner,admin}')
on conflict (name) do update set description = excluded.description, default_roles = excluded.default_roles;

reset row_security;
