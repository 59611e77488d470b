-- A table of an application of one's own, under SafetyPin's rules: npm run safetypin -- sql tests/clinic/clinic.sql
create schema clinic;

create table clinic.patients (
  organization_id uuid not null,
  id uuid default platform.uuid_v7(),
  name text not null,
  primary key (organization_id, id)
);
comment on table clinic.patients is 'Patients of a clinic.';

select access.protect('clinic.patients');
