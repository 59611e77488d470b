// A real mail server on this machine, which can refuse, wait, or go away.
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { SMTPServer } from 'smtp-server';

/** A mail as the server got it. */
export interface ReceivedMail {
  readonly to: string[];
  readonly raw: string;
  /** The decoded plain text part. */
  readonly text: string;
  readonly headers: string;
}

export interface MailServer {
  readonly port: number;
  readonly url: string;
  readonly mails: ReceivedMail[];
  /** The mail of this number (from 0), as soon as it is there. */
  mail(number: number): Promise<ReceivedMail>;
  /** Set: mails are taken, but the client waits for the answer until it settles. */
  answer: Promise<void> | undefined;
  /** Set: what the server says instead of taking a mail: to its text, or to its recipient already. */
  refusal: { code: number; message: string; stage?: 'recipient' } | undefined;
  close(): Promise<void>;
}

export async function startMailServer(port = 0): Promise<MailServer> {
  const waiting = new Set<() => void>();
  const smtp = new SMTPServer({
    disabledCommands: ['AUTH', 'STARTTLS'],
    logger: false,
    closeTimeout: 100,
    onRcptTo({ address }, _session, callback) {
      const { refusal } = server;
      if (refusal?.stage !== 'recipient') return callback();
      callback(Object.assign(new Error(`${refusal.message} <${address}>`), { responseCode: refusal.code }));
    },
    onData(stream, session, callback) {
      void text(stream).then(async (raw) => {
        const to = session.envelope.rcptTo.map(({ address }) => address);
        const { refusal } = server;
        if (refusal)
          return callback(Object.assign(new Error(`${refusal.message} <${to}>`), { responseCode: refusal.code }));
        server.mails.push({ to, raw, text: plainText(raw), headers: raw.slice(0, raw.indexOf('\r\n\r\n')) });
        for (const wake of waiting) wake();
        await server.answer;
        callback();
      });
    },
  });
  smtp.on('error', () => {});
  const address = await new Promise<AddressInfo>((resolve) => {
    const net = smtp.listen(port, '127.0.0.1', () => resolve(net.address() as AddressInfo));
  });
  const server: MailServer = {
    port: address.port,
    url: `smtp://127.0.0.1:${address.port}`,
    mails: [],
    answer: undefined,
    refusal: undefined,
    async mail(number) {
      while (server.mails.length <= number) {
        await new Promise<void>((resolve) => waiting.add(resolve));
      }
      return server.mails[number] as ReceivedMail;
    },
    close: () => new Promise((resolve) => smtp.close(() => resolve())),
  };
  return server;
}

function plainText(raw: string): string {
  const part = raw.slice(raw.search(/content-type: text\/plain/i));
  const body = part.slice(part.indexOf('\r\n\r\n') + 4).split(/\r\n--/)[0] ?? '';
  if (/content-transfer-encoding: base64/i.test(part.split('\r\n\r\n')[0] ?? ''))
    return Buffer.from(body, 'base64').toString('utf8');
  const bytes = body
    .replace(/=\r\n/g, '')
    .replace(/=([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
