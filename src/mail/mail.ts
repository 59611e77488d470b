/** A mail that is ready to be sent. */
export interface Mail {
  readonly to: string;
  readonly subject: string;
  readonly text: string;
  readonly html: string;
  /** The links in it, for the mailbox. */
  readonly links: readonly string[];
  /** The six-digit code in it, if it has one. */
  readonly code: string | null;
}

/** Sends mails, by whatever way. */
export interface MailTransport {
  /** Resolves when the mail was taken over; rejects with a JobFailure otherwise. `id` is the same for each try. */
  send(mail: Mail, id: string, signal: AbortSignal): Promise<void>;
  close(): void;
}
