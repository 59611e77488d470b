// The tour of the page beside it, from outside, as any client would walk it: node tests/clinic/tour.mjs [address]
// Two people sign up with an organization each, prove their address, sign in, and add a patient, whose social security
// number is sealed, and a visit; each sees and finds her own, and Bob cannot change what he has the id of.
const base = process.argv[2] ?? 'http://127.0.0.1:5678';
const password = 'correct horse battery staple';

async function graphql(query, variables, token) {
  const response = await fetch(`${base}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(errors.map(({ message }) => message).join(' '));
  return data;
}

async function codeFor(email) {
  for (let tries = 0; tries < 100; tries += 1) {
    const [mail] = await (await fetch(`${base}/dev/mailbox?to=${encodeURIComponent(email)}`)).json();
    if (mail) return mail.code;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`no mail for ${email}`);
}

async function walk(name, ssn) {
  const email = `${name.toLowerCase()}.${Date.now()}@example.com`;
  const { register } = await graphql('mutation ($i: RegisterInput!) { register(input: $i) { outcome reasons } }', {
    i: { email, password, displayName: name, organizationName: `${name}'s clinic` },
  });
  console.log(`${name}: register ${register.outcome} ${register.reasons}`);
  const { verifyEmail } = await graphql('mutation ($i: VerifyEmailInput!) { verifyEmail(input: $i) { outcome } }', {
    i: { email, code: await codeFor(email) },
  });
  const { login } = await graphql('mutation ($i: LoginInput!) { login(input: $i) { outcome accessToken } }', {
    i: { email, password },
  });
  console.log(`${name}: verifyEmail ${verifyEmail.outcome}, login ${login.outcome}`);
  const { createPatient } = await graphql(
    'mutation ($name: String!, $ssn: String) { createPatient(input: { patient: { name: $name, ssn: $ssn } }) { patient { id } } }',
    { name: `a patient of ${name}`, ssn },
    login.accessToken,
  );
  const { id } = createPatient.patient;
  await graphql(
    'mutation ($id: UUID!) { createVisit(input: { visit: { patientId: $id, reason: "Cough" } }) { visit { id } } }',
    { id },
    login.accessToken,
  );
  return { name, token: login.accessToken, patient: id };
}

const people = [await walk('Ada', '078-05-1120'), await walk('Bob', '219-09-9999')];
const [ada, bob] = people;
for (const { name, token } of people) {
  const seen = await graphql('{ patients { nodes { name ssn visits { nodes { reason } } } } }', {}, token);
  console.log(`${name} sees: ${JSON.stringify(seen)}`);
  const found = await graphql('{ patientsBySsn(value: "078-05-1120") { nodes { name } } }', {}, token);
  console.log(`${name} finds 078-05-1120: ${JSON.stringify(found.patientsBySsn.nodes)}`);
}
const variables = { id: ada.patient };
const UPDATE = 'mutation ($id: UUID!) { updatePatient(input: { id: $id, patch: { name: "x" } }) { patient { name } } }';
const { patient } = await graphql('query ($id: UUID!) { patient(id: $id) { name } }', variables, bob.token);
const refusal = await graphql(UPDATE, variables, bob.token).catch((error) => error.message);
console.log(`Bob asks for Ada's patient: ${JSON.stringify(patient)}, and changes it: ${refusal}`);
