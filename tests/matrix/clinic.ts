/** A host application beside SafetyPin: a table of each kind that access.protect takes. */
export const CLINIC = `
  create schema clinic;
  create table clinic.patients (
    organization_id uuid not null references access.organizations (id) on delete cascade,
    id uuid not null default platform.uuid_v7(), name text not null, doctor_id uuid, ssn text,
    primary key (organization_id, id), unique (organization_id, name));
  comment on table clinic.patients is 'Patients.';
  create table clinic.visits (
    organization_id uuid not null, id bigserial, patient_id uuid not null, reason text,
    primary key (organization_id, id),
    foreign key (organization_id, patient_id) references clinic.patients (organization_id, id) on delete cascade);
  create index on clinic.visits (organization_id, patient_id);
  create table clinic.notes (
    organization_id uuid not null, id uuid not null default platform.uuid_v7(), author_id uuid default request.user_id(), text text,
    primary key (organization_id, id));
  create table clinic.measures (
    organization_id uuid not null, id uuid not null default platform.uuid_v7(), at timestamptz not null default now(), value integer,
    primary key (organization_id, id, at)) partition by range (at);
  create table clinic.measures_all partition of clinic.measures default;
  create table clinic.findings (
    organization_id uuid not null, id uuid not null default platform.uuid_v7(), text text, primary key (organization_id, id));
  create view clinic.names with (security_invoker = true) as select organization_id, id, name from clinic.patients;
  grant select on clinic.names to safetypin_member;
  select access.protect('clinic.patients'), access.protect('clinic.visits'), access.protect('clinic.measures');
  select access.define_permission('note.read', 'Read notes.', '{admin}');
  select access.protect('clinic.notes', owner => 'author_id', "select" => 'note.read', "insert" => 'row.create', "update" => null, "delete" => null);
  select access.protect('clinic.findings', assurance => 2);
  select access.define_permission('patient.read_ssn', 'Read social security numbers.', '{owner,admin}');
  select keyring.seal_column('clinic.patients', 'ssn', subject => 'id', permission => 'patient.read_ssn', searchable => true);
`;
