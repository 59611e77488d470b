-- A table of an application of one's own, under SafetyPin's rules: npm run safetypin -- sql tests/clinic/clinic.sql
create schema clinic;

create table clinic.patients (
  organization_id uuid not null, id uuid default platform.uuid_v7(), primary key (organization_id, id),
  name text not null,
  ssn text
);
select access.protect('clinic.patients');
select access.define_permission('patient.read_ssn', 'Read social security numbers.');
select keyring.seal_column('clinic.patients', 'ssn', subject => 'id', permission => 'patient.read_ssn', searchable => true);

comment on table clinic.patients is 'Patients of a clinic.';
