// Runs what `safetypin provision` prints, as psql would: variables, \gexec, \connect, and an end at the first error.
import pg from 'pg';
import { splitStatements } from '../../src/platform/sql/statements.ts';

/** Runs a script for psql. `variables` are what -v would set. */
export async function runScript(
  script: string,
  config: pg.ClientConfig,
  variables: Readonly<Record<string, string>>,
): Promise<void> {
  const filled = script.replace(/:'(\w+)'/g, (all, name: string) =>
    variables[name] === undefined ? all : pg.escapeLiteral(variables[name]),
  );
  let client = await connect(config);
  try {
    for (const part of filled.split(/^(\\(?:connect|set) .*)$/m)) {
      const database = /^\\connect "(.*)"$/.exec(part)?.[1];
      if (database) {
        await client.end();
        client = await connect({ ...config, database });
      } else if (!part.startsWith('\\set')) await runPart(client, part);
    }
  } finally {
    await client.end();
  }
}

async function runPart(client: pg.Client, text: string): Promise<void> {
  // \gexec ends a statement and runs each value of its result.
  for (const piece of text.split(/(?<=\\gexec)$/m)) {
    const generates = piece.endsWith('\\gexec');
    const statements = splitStatements(piece.replace(/\\gexec$/, ''));
    for (const [i, { text: statement }] of statements.entries()) {
      const { rows } = await client.query({ text: statement, rowMode: 'array' });
      if (generates && i === statements.length - 1) for (const [value] of rows) await client.query(String(value));
    }
  }
}

async function connect(config: pg.ClientConfig): Promise<pg.Client> {
  const client = new pg.Client(config);
  client.on('error', () => {});
  await client.connect();
  return client;
}
