-- Purpose: ids. UUID version 7 (RFC 9562): 48 bits of Unix milliseconds, then random; sorted by time, the same on
-- PostgreSQL 15 to 18. Never used as a secret.

create or replace function platform.uuid_v7() returns uuid
  language sql volatile parallel safe
-- A version 4 uuid has the right variant already; the time goes over its first 48 bits, and two bits turn 4 into 7.
-- No `set`, and `return`: so it is inlined.
return encode(
  set_bit(set_bit(
    overlay(uuid_send(gen_random_uuid())
      placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
      from 1 for 6),
    52, 1), 53, 1), 'hex')::uuid;
comment on function platform.uuid_v7() is 'A new UUID version 7 (RFC 9562).';

create or replace function platform.no_organization() returns uuid
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$ select '00000000-0000-0000-0000-000000000000'::uuid $$;
comment on function platform.no_organization() is 'The zero uuid: stands for "no organization" where a key needs one.';
