// From what the database says about a mail to its text and html. Values are other people's text: they are made
// harmless here, once for both forms.
import type { Mail } from './mail.ts';
import { german } from './templates/de.ts';
import { english } from './templates/en.ts';
import type { Draft, Language, MailKind, Part } from './templates/template.ts';

/** What identity.compose_mail() answers. */
export interface Composed {
  readonly recipient: string;
  readonly kind: string;
  readonly locale: string;
  readonly variables: Readonly<Record<string, unknown>>;
}

/** A mail that cannot be written. The message holds nothing of the mail. */
export class UnwritableMail extends Error {}

const LANGUAGES: Readonly<Record<string, Language>> = { en: english, de: german };
const LONGEST_VALUE = 80;

/** Where the link of a mail leads. A page answers a GET there; only its button uses the token up. */
const PATHS: Readonly<Partial<Record<MailKind, string>>> = {
  verification: '/api/auth/verify-email/',
  password_reset: '/api/auth/reset-password/',
  invitation: '/api/auth/accept-invitation/',
};

/** Writes a mail. Throws for a kind without a template, an address that is none, or a token that is missing. */
export function renderMail(composed: Composed, publicUrl: string): Mail {
  const language = LANGUAGES[composed.locale.toLowerCase().split('-')[0] ?? ''] ?? english;
  const kind = assertKind(composed.kind, language);
  const link = linkOf(kind, composed.variables, publicUrl);
  const code = typeof composed.variables.code === 'string' ? composed.variables.code : '';
  const name = harmless(composed.variables.name);
  const organization = harmless(composed.variables.organization);
  const draft = language.mails[kind]({ name, organization, link, code });
  return {
    to: assertAddress(composed.recipient),
    subject: draft.subject,
    text: asText(draft, language),
    html: asHtml(draft, language, composed.locale),
    links: draft.parts.flatMap((part) => ('link' in part ? [part.link] : [])),
    code: draft.parts.some((part) => 'code' in part) ? code : null,
  };
}

function assertKind(kind: string, language: Language): MailKind {
  if (!Object.hasOwn(language.mails, kind)) throw new UnwritableMail('there is no mail of this kind');
  return kind as MailKind;
}

/** One mailbox, nothing that a header or a list of recipients could be made from. */
function assertAddress(address: string): string {
  if (address.length > 254 || !/^[^\s<>()[\]\\,;:"@\p{Cc}]+@[^\s<>()[\]\\,;:"@\p{Cc}]+$/u.test(address)) {
    throw new UnwritableMail('the recipient is not an e-mail address');
  }
  return address;
}

function linkOf(kind: MailKind, variables: Composed['variables'], publicUrl: string): string {
  const path = PATHS[kind];
  if (path === undefined) return '';
  const { token } = variables;
  if (typeof token !== 'string' || !/^[\w-]{16,}$/.test(token)) throw new UnwritableMail('this mail needs a token');
  return publicUrl + path + token;
}

/**
 * A name as it may stand in somebody's mail: one line, not long, and no address that a mail program would make into a
 * link. A name is typed by whoever asks for the mail.
 */
function harmless(value: unknown): string {
  if (typeof value !== 'string') return '';
  const line = value.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').trim();
  const short = [...line].slice(0, LONGEST_VALUE).join('');
  return short.replace(/[/\\@]+|:\/\//g, ' ').replace(/\.(?=\S)/g, '.\u2060');
}

function asText({ parts }: Draft, { footer }: Language): string {
  const line = (part: Part) => ('text' in part ? part.text : 'link' in part ? part.link : part.code);
  return `${[...parts.map(line), `-- \n${footer}`].join('\n\n')}\n`;
}

function asHtml({ subject, parts }: Draft, { footer }: Language, locale: string): string {
  const block = (part: Part) => {
    if ('text' in part) return `<p>${escapeHtml(part.text)}</p>`;
    if ('code' in part)
      return `<p style="font-size:24px;letter-spacing:4px"><strong>${escapeHtml(part.code)}</strong></p>`;
    const href = escapeHtml(part.link);
    return `<p><a href="${href}" style="display:inline-block;padding:10px 18px;background:#1a5fb4;color:#fff;border-radius:6px;text-decoration:none">${escapeHtml(part.label)}</a></p><p style="font-size:13px;color:#555">${href}</p>`;
  };
  return [
    `<!doctype html><html lang="${escapeHtml(locale)}"><head><meta charset="utf-8"><title>${escapeHtml(subject)}</title></head>`,
    '<body style="font-family:system-ui,sans-serif;font-size:16px;line-height:1.5;color:#222;max-width:36em;margin:2em auto">',
    ...parts.map(block),
    `<p style="font-size:13px;color:#555">${escapeHtml(footer)}</p>`,
    '</body></html>',
  ].join('\n');
}

function escapeHtml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? '');
}
