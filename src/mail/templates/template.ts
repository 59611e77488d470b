/** What a mail is about. The kinds stand in identity.mails; a kind without a template is refused. */
export type MailKind =
  | 'verification'
  | 'already_registered'
  | 'password_reset'
  | 'password_changed'
  | 'invitation'
  | 'invitation_code';

/** What a template may use. Everything is text that somebody else may have typed, and is escaped when rendered. */
export interface Values {
  /** How the person is greeted; empty where we do not know that the address is his. */
  readonly name: string;
  /** Name of the organization of an invitation. */
  readonly organization: string;
  /** Where the mail's button leads; empty if it has none. */
  readonly link: string;
  /** Six digits; empty if it has none. */
  readonly code: string;
}

/** One part of a mail. */
export type Part =
  | { readonly text: string }
  | { readonly link: string; readonly label: string }
  | { readonly code: string };

/** A mail of one kind in one language: plain sentences, no markup. */
export interface Draft {
  readonly subject: string;
  readonly parts: readonly Part[];
}

/** All mails of one language. */
export interface Language {
  readonly mails: Readonly<Record<MailKind, (values: Values) => Draft>>;
  readonly footer: string;
}
