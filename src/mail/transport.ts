import { createTransport } from 'nodemailer';
import type { Config } from '../config.ts';
import { failureOf, JobFailure } from '../worker/failure.ts';
import type { Mail, MailTransport } from './mail.ts';
import { mailbox } from './mailbox.ts';

/** Sends to the mail server of SMTP_URL; without one into the mailbox, except in production. */
export function openTransport(config: Config): MailTransport {
  if (config.smtpUrl !== undefined) return smtpTransport(config, config.smtpUrl);
  if (config.environment === 'production') return missing;
  return mailbox;
}

/** In production a mail waits in its job until somebody says where the mail server is. */
const missing: MailTransport = {
  async send() {
    throw new JobFailure('sending a mail: SMTP_URL is not set');
  },
  close() {},
};

const SECOND = 1000;

function smtpTransport(config: Config, url: string): MailTransport {
  const { protocol, hostname } = new URL(url);
  const local = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname);
  const transport = createTransport({
    url,
    // Links with tokens never go over an open line, where STARTTLS was only offered.
    requireTLS: config.environment === 'production' && protocol === 'smtp:' && !local,
    connectionTimeout: 10 * SECOND,
    greetingTimeout: 10 * SECOND,
    socketTimeout: 20 * SECOND,
    dnsTimeout: 10 * SECOND,
    // A value must never make nodemailer read a file or fetch an address.
    disableFileAccess: true,
    disableUrlAccess: true,
    logger: false,
  });
  return {
    async send(mail, id, signal) {
      await stoppable(transport.sendMail(message(mail, id, config)), signal).catch((error: unknown) => {
        throw failureOf(error, 'sending a mail');
      });
    },
    close: () => transport.close(),
  };
}

function message(mail: Mail, id: string, config: Config) {
  return {
    from: config.mailFrom,
    // As an object: nothing in the address is read as a list or a name.
    to: { name: '', address: mail.to },
    subject: mail.subject,
    text: mail.text,
    html: mail.html,
    // The same for each try, so that a mail server can see that it has it already.
    messageId: `<${id}@${new URL(config.publicUrl).hostname}>`,
    headers: { 'Auto-Submitted': 'auto-generated', 'X-Auto-Response-Suppress': 'All' },
  };
}

/** Gives up when the worker stops: the job is tried again later. */
async function stoppable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let stop = () => {};
  const stopped = new Promise<never>((_resolve, reject) => {
    stop = () => reject(new JobFailure('sending a mail: the worker was stopped', 'stopped'));
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([work, stopped]);
  } finally {
    signal.removeEventListener('abort', stop);
    work.catch(() => {});
  }
}
