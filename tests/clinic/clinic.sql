-- Tables of an application of one's own, under SafetyPin's rules: npm run safetypin -- sql tests/clinic/clinic.sql
create schema clinic;
create table clinic.patients (organization_id uuid not null, id uuid default platform.uuid_v7(), name text not null, ssn text,
  primary key (organization_id, id));
create table clinic.visits (organization_id uuid not null, id uuid default platform.uuid_v7(), patient_id uuid not null, reason text,
  primary key (organization_id, id), foreign key (organization_id, patient_id) references clinic.patients);
select access.protect('clinic.patients');
select access.protect('clinic.visits');
select access.define_permission('patient.read_ssn', 'Read social security numbers.');
select keyring.seal_column('clinic.patients', 'ssn', subject => 'id', permission => 'patient.read_ssn', searchable => true);
