import { createHash } from 'node:crypto';
import type { Response } from 'express';

const STYLE =
  'body{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:10vh auto;padding:0 1rem;color:#1a1a1a;background:#fff}' +
  'h1{font-size:1.5rem}label{display:block;font-weight:600}input{font:inherit;width:100%;padding:.6rem;margin:.3rem 0 1rem;' +
  'box-sizing:border-box;border:1px solid #595959;border-radius:.3rem}button{font:inherit;padding:.6rem 1.2rem;border:0;' +
  'border-radius:.3rem;background:#0b5cad;color:#fff}:focus-visible{outline:3px solid #b35900;outline-offset:2px}';
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64');
/** No script at all, one style sheet by its hash, and forms that go nowhere else. */
const POLICY = `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'`;

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};
const escaped = (text: string): string => text.replace(/[&<>"']/g, (sign) => ENTITIES[sign] ?? '');

interface Page {
  readonly title: string;
  /** HTML of ours; whatever came from outside is escaped before. */
  readonly body: string;
  readonly status?: number;
}

/** Answers with a page that works without scripts and is never kept anywhere. */
function sendPage(response: Response, { title, body, status = 200 }: Page): void {
  response.setHeader('Content-Security-Policy', POLICY);
  response
    .status(status)
    .type('html')
    .send(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>${escaped(title)}</title><style>${STYLE}</style></head>
<body><main><h1>${escaped(title)}</h1>${body}</main></body></html>
`);
}

/** Reading the page uses nothing up: mail scanners open every link. Only the button does. */
export const verifyEmailPage = (response: Response): void =>
  sendPage(response, {
    title: 'Confirm your e-mail address',
    body: '<p>Press the button to confirm that this address is yours.</p><form method="post"><button type="submit">Confirm address</button></form>',
  });

export const verifyEmailResult = (response: Response, outcome: string): void =>
  outcome === 'VERIFIED'
    ? sendPage(response, {
        title: 'Address confirmed',
        body: '<p role="status">You can sign in now. This page can be closed.</p>',
      })
    : sendPage(response, {
        title: 'This link is no longer valid',
        body: '<p role="alert">It was used already or is too old. Please ask for a new mail.</p>',
        status: 400,
      });

const REASONS: Readonly<Record<string, string>> = {
  PASSWORD_TOO_SHORT: 'It is too short.',
  PASSWORD_TOO_LONG: 'It is too long.',
  PASSWORD_COMMON: 'It is one of the most used passwords.',
  PASSWORD_CONTEXT: 'It is a name that others can guess.',
};

const RESET_FORM =
  '<form method="post"><label for="password">New password</label>' +
  '<input id="password" name="newPassword" type="password" autocomplete="new-password" required maxlength="1024">' +
  '<button type="submit">Set password</button></form>';

export const resetPasswordPage = (response: Response): void =>
  sendPage(response, {
    title: 'Choose a new password',
    body: `<p>All your sessions end when it is set.</p>${RESET_FORM}`,
  });

export function resetPasswordResult(response: Response, outcome: string, reasons: readonly string[]): void {
  if (outcome === 'CHANGED') {
    sendPage(response, {
      title: 'Password set',
      body: '<p role="status">You can sign in with it now. This page can be closed.</p>',
    });
    return;
  }
  const known = reasons.map((reason) => REASONS[reason]).filter((text) => text !== undefined);
  if (known.length === 0) {
    sendPage(response, {
      title: 'This link is no longer valid',
      body: '<p role="alert">It was used already or is too old. Please ask for a new mail.</p>',
      status: 400,
    });
    return;
  }
  const list = known.map((text) => `<li>${escaped(text)}</li>`).join('');
  const body = `<div role="alert"><p>This password cannot be used:</p><ul>${list}</ul></div>${RESET_FORM}`;
  sendPage(response, { title: 'Choose another password', body, status: 400 });
}

/** Accepting needs a session, which this page has none of: it says what to do, and looks at nothing. */
export const acceptInvitationPage = (response: Response): void =>
  sendPage(response, {
    title: 'You are invited',
    body:
      '<p>Sign in with the account of the address that the invitation was sent to, or make one, and accept the invitation there.</p>' +
      '<p>Its token is the last part of the address of this page. With an account of another address you will be asked for a code, which is sent to the invited one.</p>' +
      '<p>Opening this page used nothing up.</p>',
  });
