import pg from 'pg';
import type { Gone } from './transaction.ts';

/** What of a pg client says which backend it talks to, and how to reach that again. */
interface Backend {
  readonly processID: number;
  readonly secretKey: number;
  readonly host: string;
  readonly port: number;
  readonly ssl: boolean | object;
  readonly sslNegotiation: string;
}

/** What of a pg connection is needed to send a cancel request, which has no answer but the end of the connection. */
interface CancelConnection extends NodeJS.EventEmitter {
  readonly stream: { destroy(): void };
  connect(portOrPath: number | string, host?: string): void;
  requestSsl(): void;
  cancel(processId: number, secretKey: number): void;
}

const CANCEL_MILLISECONDS = 3000;

/**
 * Cancels what a connection is running, as the protocol has it: by a connection of its own. True when the server has
 * closed that one, since by then the signal was sent: nothing that goes out on the first connection from now on can be
 * hit by it. False when that is not known.
 */
export function cancelRunning(client: pg.ClientBase): Promise<boolean> {
  const { processID, secretKey, host, port, ssl, sslNegotiation } = client as unknown as Backend;
  const connection = new pg.Connection({ ssl, sslNegotiation } as object) as unknown as CancelConnection;
  return new Promise((resolve) => {
    let isSent = false;
    const settle = (isDelivered: boolean): void => {
      clearTimeout(timer);
      resolve(isDelivered);
      connection.stream.destroy();
    };
    const timer = setTimeout(settle, CANCEL_MILLISECONDS, false);
    const send = (): void => {
      connection.cancel(processID, secretKey);
      isSent = true;
    };
    connection.on('error', () => settle(false));
    connection.on('end', () => settle(isSent));
    connection.on('sslconnect', send);
    connection.on('connect', () => {
      if (!ssl) send();
      else if (sslNegotiation !== 'direct') connection.requestSsl();
    });
    if (host.startsWith('/')) connection.connect(`${host}/.s.PGSQL.${port}`);
    else connection.connect(port, host);
  });
}

/** What a watch must know of the transaction it watches. */
export interface Watched {
  readonly connection: pg.PoolClient;
  readonly opened: Promise<unknown>;
  /** Statements that were sent and not answered. */
  readonly running: number;
}

/**
 * Cancels what runs for a client that goes away. Not before the request is open: a cancelled `begin` would leave what
 * was sent behind it without a transaction. What stands behind the cancelled statement fails with it, being in the same
 * transaction. Returns what ends the watch and waits for a cancel under way, which must not hit anything later; it says
 * whether the connection can be used again.
 */
export function cancelWhenGone(signal: Gone | undefined, watched: Watched): () => Promise<boolean> {
  if (signal === undefined) return async () => true;
  let isOver = false;
  let canceling: Promise<boolean> | undefined;
  const onAbort = (): void => {
    canceling ??= watched.opened.then(() =>
      watched.running > 0 && !isOver ? cancelRunning(watched.connection) : true,
    );
  };
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  return async () => {
    isOver = true;
    signal.removeEventListener('abort', onAbort);
    return canceling ?? true;
  };
}
