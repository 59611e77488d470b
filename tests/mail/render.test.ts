// What stands in our mails: both languages, links of this installation, and nothing that a stranger could smuggle in.
import { describe, expect, test } from 'vitest';
import { renderMail } from '../../src/mail/render.ts';
import { german } from '../../src/mail/templates/de.ts';
import { english } from '../../src/mail/templates/en.ts';

const TOKEN = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP_';
const BASE = 'https://id.example.org';

const mailOf = (kind: string, locale = 'en', variables: Record<string, unknown> = {}, recipient = 'ada@example.com') =>
  renderMail({ recipient, kind, locale, variables: { token: TOKEN, code: '123456', ...variables } }, BASE);

const KINDS = [
  'verification',
  'already_registered',
  'password_reset',
  'password_changed',
  'invitation',
  'invitation_code',
];

test('each kind stands in each language, and the two differ', () => {
  expect(Object.keys(english.mails).sort()).toEqual([...KINDS].sort());
  expect(Object.keys(german.mails).sort()).toEqual([...KINDS].sort());
  for (const kind of KINDS) {
    const [en, de] = [mailOf(kind, 'en', { organization: 'Acme' }), mailOf(kind, 'de', { organization: 'Acme' })];
    expect(de.subject, kind).not.toBe(en.subject);
    expect(de.text, kind).not.toBe(en.text);
    expect(de.links, kind).toEqual(en.links);
    expect(de.code, kind).toEqual(en.code);
  }
});

test.each([
  ['verification', `${BASE}/api/auth/verify-email/${TOKEN}`, '123456'],
  ['password_reset', `${BASE}/api/auth/reset-password/${TOKEN}`, null],
  ['invitation', `${BASE}/api/auth/accept-invitation/${TOKEN}`, null],
  ['invitation_code', undefined, '123456'],
  ['already_registered', undefined, null],
  ['password_changed', undefined, null],
])('%s carries the link and the code it should, in text and html alike', (kind, link, code) => {
  const mail = mailOf(kind);
  expect(mail.links).toEqual(link ? [link] : []);
  expect(mail.code).toBe(code);
  for (const form of [mail.text, mail.html]) {
    expect(form.includes(TOKEN)).toBe(link !== undefined);
    expect(form.includes('123456')).toBe(code !== null);
  }
});

test('the whole of a mail reads like this', () => {
  expect(mailOf('password_reset', 'en', { name: 'Ada Lovelace' }).text).toBe(`Hello Ada Lovelace,

a new password was asked for. If it was you, choose it here:

${BASE}/api/auth/reset-password/${TOKEN}

The link works once and not for long.

If it was not you, ignore this mail. Your password stays as it is.

-- 
This mail was sent automatically. Nobody reads answers to it.
`);
});

test('a language we do not have is English, and a region does not matter', () => {
  expect(mailOf('verification', 'fr').subject).toBe(mailOf('verification', 'en').subject);
  expect(mailOf('verification', 'de-AT').subject).toBe(mailOf('verification', 'de').subject);
  expect(mailOf('verification', '').subject).toBe(mailOf('verification', 'en').subject);
});

describe('what a stranger types', () => {
  test('does not stand in a mail to an address that nobody proved', () => {
    for (const kind of ['verification', 'already_registered']) {
      const mail = mailOf(kind, 'en', { name: 'WIN AT evil.example', organization: 'WIN AT evil.example' });
      expect(mail.text + mail.html + mail.subject, kind).not.toContain('WIN');
    }
  });

  test('is no markup in html', () => {
    const mail = mailOf('password_reset', 'en', { name: '<img src=x onerror="alert(1)">&\'' });
    expect(mail.html).not.toContain('<img');
    expect(mail.html).toContain('&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;&#39;');
  });

  test('is one line, not long, and no link', () => {
    const name = `Ada\r\nBcc: eve@evil.example\r\n\r\nhttps://evil.example/login www.evil.example\u202e\u2028${'x'.repeat(500)}`;
    const { text } = mailOf('password_changed', 'en', { name });
    const [greeting = ''] = text.split('\n');
    expect(greeting).toMatch(/^Hello Ada Bcc:/);
    expect(greeting.length).toBeLessThan(120);
    for (const bad of ['evil.example', '//', '@', '\r', '\u202e', '\u2028']) expect(text).not.toContain(bad);
  });

  test('that is no text is left out', () => {
    expect(mailOf('password_changed', 'en', { name: { toString: 'x' } }).text).toMatch(/^Hello,/);
    expect(mailOf('password_changed', 'en', { name: null }).text).toMatch(/^Hello,/);
  });
});

describe('a mail is refused', () => {
  test.each([
    'ada@example.com\r\nBcc: eve@example.com',
    'ada@example.com, eve@example.com',
    'Ada <ada@example.com>',
    'ada',
    '@example.com',
    'ada@',
    'a b@example.com',
    'ada@exam\u0000ple.com',
    `${'a'.repeat(250)}@example.com`,
    '',
  ])('to %j', (recipient) => {
    expect(() => mailOf('password_changed', 'en', {}, recipient)).toThrow('the recipient is not an e-mail address');
  });

  test('without the token it needs, or with one that is none', () => {
    for (const token of [undefined, null, '', 7, '../../evil', 'abc"><script>', 'x'.repeat(15)]) {
      expect(() => mailOf('verification', 'en', { token })).toThrow('this mail needs a token');
    }
  });

  test('of a kind that nobody wrote', () => {
    for (const kind of ['nothing', 'constructor', '__proto__', ''])
      expect(() => mailOf(kind)).toThrow('there is no mail of this kind');
  });
});
