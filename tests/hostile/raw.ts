// PostgreSQL's protocol by hand, for bytes that no driver would send.
import type pg from 'pg';

const int16 = (value: number) => {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
};
const int32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
};
const text = (value: string | Buffer) => Buffer.concat([Buffer.from(value as string), Buffer.alloc(1)]);

function message(type: string, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
}

/** Sends messages; the SQLSTATE of the server's complaint, or `ok`. The driver waits until the server is ready again. */
function exchange(client: pg.ClientBase, messages: Buffer): Promise<string> {
  return new Promise((resolve) => {
    const nothing = () => {};
    // What the driver calls while a query of its own runs.
    client.query({
      submit: (connection: unknown) =>
        void (connection as { stream: { write(data: Buffer): void } }).stream.write(messages),
      handleError: ({ code }: { code?: string }) => resolve(code ?? 'none'),
      handleReadyForQuery: () => resolve('ok'),
      handleRowDescription: nothing,
      handleDataRow: nothing,
      handleCommandComplete: nothing,
      handlePortalSuspended: nothing,
      handleEmptyQuery: nothing,
    } as unknown as pg.Submittable);
  });
}

/** A statement as one simple message, its text any bytes. */
export const simple = (client: pg.ClientBase, statement: Buffer): Promise<string> =>
  exchange(client, message('Q', text(statement)));

/** A statement with parameters in text format, each any bytes or null. */
export function bound(client: pg.ClientBase, statement: string, values: readonly (Buffer | null)[]): Promise<string> {
  const parameters = values.flatMap((value) => (value === null ? [int32(-1)] : [int32(value.length), value]));
  return exchange(
    client,
    Buffer.concat([
      message('P', text(''), text(statement), int16(0)),
      message('B', text(''), text(''), int16(0), int16(values.length), ...parameters, int16(0)),
      message('E', text(''), int32(0)),
      message('S'),
    ]),
  );
}
