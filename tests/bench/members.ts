// People for the benchmarks, made through the API like anybody.
import { setTimeout as sleep } from 'node:timers/promises';

export interface Member {
  readonly email: string;
  readonly password: string;
  readonly accessToken: string;
}

type Answer = { data?: Record<string, Record<string, string>> };

export async function ask(port: number, query: string, variables: object): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${port}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query, variables }),
  });
  return (await response.json()) as Answer;
}

export const LOGIN = 'mutation($i: LoginInput!) { login(input: $i) { outcome accessToken } }';

async function tokenFor(port: number, email: string): Promise<string> {
  for (let tries = 0; tries < 200; tries += 1) {
    const response = await fetch(`http://127.0.0.1:${port}/dev/mailbox?to=${encodeURIComponent(email)}`);
    const [mail] = (await response.json()) as { links: string[] }[];
    const token = mail?.links[0]?.split('/').at(-1);
    if (token !== undefined) return token;
    await sleep(50);
  }
  throw new Error('no mail came');
}

/** Registers, verifies and signs in. */
export async function makeMember(port: number, name: string): Promise<Member> {
  const email = `${name}@example.com`;
  const password = `the sentence of ${name} is long`;
  const i = { email, password, displayName: name, organizationName: name };
  await ask(port, 'mutation($i: RegisterInput!) { register(input: $i) { outcome } }', { i });
  const token = await tokenFor(port, email);
  await ask(port, 'mutation($i: VerifyEmailInput!) { verifyEmail(input: $i) { outcome } }', { i: { token } });
  const { data } = await ask(port, LOGIN, { i: { email, password } });
  const accessToken = data?.login?.accessToken;
  if (accessToken === undefined) throw new Error(`${name} could not sign in`);
  return { email, password, accessToken };
}
