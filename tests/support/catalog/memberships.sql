-- Who can become whom, and what each role may on the whole server.
select format('role %s: %s', rolname, concat_ws(', ',
         case when rolcanlogin then 'LOGIN' else 'no login' end, case when rolinherit then 'INHERIT' else 'noinherit' end,
         case when rolsuper then 'SUPERUSER' end, case when rolbypassrls then 'BYPASSRLS' end, case when rolcreaterole then 'CREATEROLE' end,
         case when rolcreatedb then 'CREATEDB' end, case when rolreplication then 'REPLICATION' end,
         'may become ' || coalesce((select string_agg(m.roleid::regrole::text, ', ' order by m.roleid::regrole::text)
            from pg_auth_members m where m.member = r.oid), 'nobody'),
         'settings ' || (select string_agg(array_to_string(s.setconfig, ' '), ' ') from pg_db_role_setting s where s.setrole = r.oid))) as line
  from pg_roles r
 where rolname ~ '^safetypin_'
 order by rolname collate "C"
