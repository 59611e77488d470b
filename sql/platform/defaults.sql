-- Purpose: nothing is granted by default. Global on purpose: `alter default privileges in schema … revoke … from
-- public` has no effect. Each owner says it for what it will create.

alter default privileges revoke execute on functions from public;

set local role safetypin_keeper;
alter default privileges revoke execute on functions from public;
reset role;

set local role safetypin_definer;
alter default privileges revoke execute on functions from public;
reset role;
