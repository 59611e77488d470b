-- Purpose: who reads events: whoever may, in the organization they belong to. Not audited: it is the audit.

select access.protect('audit.events', "select" => 'audit.read', "insert" => null, "update" => null, "delete" => null,
  roles => '{safetypin_member,safetypin_auditor}', audited => false);
