// How mails leave: to a real mail server, or into the mailbox in development.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { Mailbox, mailbox } from '../../src/mail/mailbox.ts';
import { renderMail } from '../../src/mail/render.ts';
import { openTransport } from '../../src/mail/transport.ts';
import { type MailServer, startMailServer } from '../support/smtp.ts';

const never = new AbortController().signal;
const ID = '0198c0de-0000-7000-8000-000000000001';
const PRODUCTION = {
  NODE_ENV: 'production',
  DATABASE_URL: 'postgres://admin:secret@db.example.org/safetypin?sslmode=verify-full',
  PUBLIC_URL: 'https://id.example.org',
};
let server: MailServer;

beforeAll(async () => {
  server = await startMailServer();
});
afterAll(() => server.close());

const mail = (locale = 'de') =>
  renderMail(
    {
      recipient: 'ada@example.com',
      kind: 'verification',
      locale,
      variables: { token: 'x'.repeat(43), code: '007007' },
    },
    'https://id.example.org',
  );

const configOf = (environment: Record<string, string>) =>
  loadConfig({ NODE_ENV: 'test', PUBLIC_URL: 'https://id.example.org', ...environment });

test('a mail arrives whole: text, html, subject in its language, and headers that stop automatic answers', async () => {
  const transport = openTransport(configOf({ SMTP_URL: server.url, MAIL_FROM: 'SafetyPin <id@example.org>' }));
  await transport.send(mail(), ID, never);
  transport.close();
  const got = await server.mail(0);
  expect(got.to).toEqual(['ada@example.com']);
  expect(got.text).toContain(`https://id.example.org/api/auth/verify-email/${'x'.repeat(43)}`);
  expect(got.text).toContain('Bestätigung');
  expect(got.raw).toMatch(/content-type: text\/html/i);
  const headers = got.headers.replace(/\r\n\s+/g, ' ');
  expect(headers).toMatch(/^From: SafetyPin <id@example\.org>$/m);
  expect(headers).toMatch(/^To: ada@example\.com$/m);
  expect(headers).toMatch(/^Subject: =\?UTF-8\?/m);
  expect(headers).toMatch(new RegExp(`^Message-ID: <${ID}@id\\.example\\.org>$`, 'm'));
  expect(headers).toMatch(/^Auto-Submitted: auto-generated$/m);
  expect(headers.match(/^(to|cc|bcc|from|subject):/gim)).toHaveLength(3);
});

test('a refusal tells codes and no text of the server', async () => {
  server.refusal = { code: 550, message: 'no such person CANARY' };
  const transport = openTransport(configOf({ SMTP_URL: server.url }));
  const error: Error = await transport.send(mail(), ID, never).then(
    () => new Error('sent'),
    (caught) => caught,
  );
  server.refusal = undefined;
  expect(error.message).toMatch(/^sending a mail: \w+ 550$/);
  expect(`${error.stack}${JSON.stringify(error)}${String(error.cause)}`).not.toMatch(/CANARY|ada@|007007|xxxx/);
});

test('a mail server that is not there is an error, not a wait', async () => {
  const gone = await startMailServer();
  await gone.close();
  const transport = openTransport(configOf({ SMTP_URL: gone.url }));
  await expect(transport.send(mail(), ID, never)).rejects.toThrow('sending a mail: ECONNREFUSED');
});

test('sending ends when the worker is stopped', async () => {
  server.answer = new Promise(() => {});
  const stop = new AbortController();
  const transport = openTransport(configOf({ SMTP_URL: server.url }));
  const sending = transport.send(mail(), ID, stop.signal);
  sending.catch(() => {});
  const before = server.mails.length;
  await server.mail(before);
  stop.abort();
  await expect(sending).rejects.toThrow('the worker was stopped');
  server.answer = undefined;
});

test('in development mails stay here, in production they wait for a mail server', async () => {
  expect(openTransport(configOf({}))).toBe(mailbox);
  expect(openTransport(loadConfig({}))).toBe(mailbox);
  const transport = openTransport(loadConfig(PRODUCTION));
  await expect(transport.send(mail(), ID, never)).rejects.toThrow('SMTP_URL is not set');
});

test('in production a mail never goes over an open line', async () => {
  // This server offers no TLS, and the address is not one that is always this machine, so nothing excuses that.
  const elsewhere = server.url.replace('127.0.0.1', '0.0.0.0');
  const named = openTransport(loadConfig({ ...PRODUCTION, SMTP_URL: elsewhere }));
  const before = server.mails.length;
  await expect(named.send(mail(), ID, never)).rejects.toThrow('sending a mail: ETLS');
  expect(server.mails.length).toBe(before);
  await openTransport(configOf({ SMTP_URL: elsewhere })).send(mail(), ID, never);
  expect(server.mails.length).toBe(before + 1);
});

test('the mailbox shows the newest first, for one address or all, and forgets the oldest', async () => {
  const box = new Mailbox();
  for (let number = 0; number < 510; number += 1) {
    await box.send({ ...mail(), to: `P${number % 2}@example.com`, subject: String(number) });
  }
  expect(box.list()).toHaveLength(500);
  expect(box.list()[0]?.subject).toBe('509');
  expect(box.list().at(-1)?.subject).toBe('10');
  expect(box.list('p1@EXAMPLE.com ').map(({ subject }) => Number(subject) % 2)).not.toContain(0);
  expect(box.list('nobody@example.com')).toEqual([]);
  expect(Object.keys(box.list()[0] ?? {}).sort()).toEqual(['code', 'links', 'sentAt', 'subject', 'text', 'to']);
  expect(Date.now() - Date.parse(box.list()[0]?.sentAt ?? '')).toBeLessThan(5_000);
});
