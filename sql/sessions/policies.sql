-- Purpose: sessions are the person's, in whatever organization; an API key of hers sees none of them.

drop policy if exists select_own on sessions.sessions;
create policy select_own on sessions.sessions for select to safetypin_member using (person_id = (select request.signed_in_id()));
drop policy if exists select_own on sessions.activity;
create policy select_own on sessions.activity for select to safetypin_member
  using (session_id in (select s.id from sessions.sessions s where s.person_id = (select request.signed_in_id())));

select platform_private.admit('safetypin_keeper', 'sessions.sessions', 'select');
select platform_private.admit('safetypin_definer', 'sessions.sessions', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_keeper', 'sessions.activity', 'select');
select platform_private.admit('safetypin_definer', 'sessions.activity', 'select', 'insert', 'update');
select platform_private.admit('safetypin_keeper', 'sessions_private.credentials', 'select');
select platform_private.admit('safetypin_definer', 'sessions_private.credentials', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_definer', 'sessions_private.refresh_tokens', 'select', 'insert', 'update', 'delete');
