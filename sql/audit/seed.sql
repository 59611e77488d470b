-- Purpose: the vocabulary, and the first partitions.

set local row_security = on;

insert into audit.actions (name, category, severity, description) values
  ('registration.request', 'account', 'info', 'Somebody asked for an account and will prove the address.'),
  ('registration.complete', 'account', 'notice', 'An address was proved and the account made.'),
  ('email.verify', 'account', 'notice', 'A person proved an e-mail address.'),
  ('email.refuse', 'account', 'warning', 'A token or code for an e-mail address was refused.'),
  ('verification.request', 'account', 'info', 'A new mail to prove an address was asked for.'),
  ('login.success', 'authentication', 'info', 'A person signed in.'),
  ('login.failure', 'authentication', 'warning', 'A sign-in was refused.'),
  ('login.lock', 'authentication', 'alert', 'An account was locked for a while after failures.'),
  ('password_reset.request', 'account', 'notice', 'A reset of a password was asked for.'),
  ('password_reset.success', 'account', 'notice', 'A password was reset with a token.'),
  ('password_reset.refuse', 'account', 'warning', 'A token for a reset was refused.'),
  ('session.start', 'session', 'info', 'A session began.'),
  ('session.end', 'session', 'info', 'A session ended.'),
  ('session.switch', 'session', 'info', 'A session changed its organization.'),
  ('shell.start', 'session', 'notice', 'An operator opened a shell for SQL.'),
  ('shell.statement', 'access', 'notice', 'An operator gave a statement of SQL; it ran after this was committed.'),
  ('shell.end', 'session', 'info', 'An operator closed a shell for SQL.'),
  ('token.refresh', 'session', 'info', 'A refresh token was exchanged.'),
  ('token.replay', 'session', 'alert', 'An old refresh token was presented; its session was ended.'),
  ('organization.create', 'administration', 'notice', 'An organization was founded.'),
  ('role.create', 'administration', 'notice', 'A role was made.'),
  ('role.update', 'administration', 'notice', 'A role was changed, or what it permits.'),
  ('role.delete', 'administration', 'notice', 'A role was removed, and taken from whoever held it.'),
  ('role.grant', 'administration', 'notice', 'A member was given a role, for a time or without an end.'),
  ('role.revoke', 'administration', 'notice', 'A role was taken from a member.'),
  ('invitation.create', 'administration', 'notice', 'Somebody was invited.'),
  ('invitation.resend', 'administration', 'info', 'An invitation was sent again, under a new token.'),
  ('invitation.revoke', 'administration', 'notice', 'An invitation was taken back.'),
  ('invitation.accept', 'administration', 'notice', 'Somebody accepted an invitation and is a member now.'),
  ('invitation.code', 'account', 'notice', 'A code was asked for, to accept an invitation with an account of another address.'),
  ('member.remove', 'administration', 'notice', 'A member was removed.'),
  ('member.leave', 'administration', 'notice', 'A member left.'),
  ('access.refuse', 'access', 'warning', 'Something was refused for want of a permission.'),
  ('table.protect', 'administration', 'notice', 'A table was put under rules.'),
  ('key.export', 'administration', 'warning', 'The wrapped keys were written to a file.'),
  ('key.import', 'administration', 'alert', 'Wrapped keys were taken from a file.'),
  ('key.rotate', 'administration', 'notice', 'A key of the key tree was replaced.'),
  ('column.seal', 'keys', 'notice', 'A column of a table was sealed, or what it demands was changed.'),
  ('value.open', 'access', 'info', 'A value of a sensitive column was opened.'),
  ('value.find', 'access', 'info', 'Somebody looked for a value in a sensitive column.'),
  ('value.mismatch', 'access', 'alert', 'Values of sensitive columns were read, and what recorded it was rolled back.'),
  ('value.skip', 'access', 'warning', 'The counter of readings jumped in a crash; what was read just before it may be unrecorded.'),
  ('subject.erase', 'keys', 'alert', 'The keys of a subject were destroyed, and with them all that was sealed for it.'),
  ('column.unseal', 'keys', 'alert', 'A sealed column is opened for good, or was.'),
  ('row.insert', 'data', 'info', 'A row was added.'),
  ('row.update', 'data', 'info', 'A row was changed.'),
  ('row.delete', 'data', 'notice', 'A row was removed.'),
  ('job.fail', 'administration', 'alert', 'A job was given up.'),
  ('job.retry', 'administration', 'notice', 'An operator let a job run again.'),
  ('job.drop', 'administration', 'warning', 'An operator removed a job.'),
  ('request.fault', 'access', 'warning', 'A request failed unexpectedly.')
on conflict (name) do update
  set category = excluded.category, severity = excluded.severity, description = excluded.description;

select audit_private.make_partitions();

reset row_security;
