import type { Mail, MailTransport } from './mail.ts';

/** A mail as `/dev/mailbox` shows it. */
export interface DeliveredMail {
  readonly to: string;
  readonly subject: string;
  readonly text: string;
  readonly links: readonly string[];
  readonly code: string | null;
  /** ISO 8601. */
  readonly sentAt: string;
}

const CAPACITY = 500;

/** What would have been sent, in development: kept in this process, the oldest forgotten first. */
export class Mailbox implements MailTransport {
  #mails: DeliveredMail[] = [];

  async send({ to, subject, text, links, code }: Mail): Promise<void> {
    this.#mails.unshift({ to, subject, text, links, code, sentAt: new Date().toISOString() });
    this.#mails.length = Math.min(this.#mails.length, CAPACITY);
  }

  /** Newest first; only those to one address when it is given. */
  list(to?: string): readonly DeliveredMail[] {
    const wanted = to?.trim().toLowerCase();
    return this.#mails.filter((mail) => wanted === undefined || mail.to.toLowerCase() === wanted);
  }

  close(): void {}
}

/** The one mailbox of this process: the worker fills it, the API shows it. */
export const mailbox = new Mailbox();
