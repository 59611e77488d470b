import type { Language } from './template.ts';

const greeting = (name: string) => ({ text: name ? `Hello ${name},` : 'Hello,' });

export const english: Language = {
  footer: 'This mail was sent automatically. Nobody reads answers to it.',
  mails: {
    verification: ({ link, code }) => ({
      subject: 'Confirm your e-mail address',
      parts: [
        greeting(''),
        { text: 'somebody asked for an account with this address. If it was you, confirm the address:' },
        { link, label: 'Confirm address' },
        { text: 'Or type this code where you signed up:' },
        { code },
        { text: 'If it was not you, ignore this mail. Without the confirmation there is no account.' },
      ],
    }),
    already_registered: () => ({
      subject: 'You have an account already',
      parts: [
        greeting(''),
        { text: 'somebody asked for a new account with this address, which has one already. Nothing was changed.' },
        { text: 'If it was you, sign in as usual, or reset your password if you forgot it.' },
        { text: 'If it was not you, there is nothing to do.' },
      ],
    }),
    password_reset: ({ name, link }) => ({
      subject: 'Reset your password',
      parts: [
        greeting(name),
        { text: 'a new password was asked for. If it was you, choose it here:' },
        { link, label: 'Choose a new password' },
        { text: 'The link works once and not for long.' },
        { text: 'If it was not you, ignore this mail. Your password stays as it is.' },
      ],
    }),
    password_changed: ({ name }) => ({
      subject: 'Your password was changed',
      parts: [
        greeting(name),
        { text: 'the password of your account was changed just now, and your other sessions were ended.' },
        { text: 'If it was not you, reset the password at once and tell the people who run this service.' },
      ],
    }),
    invitation: ({ organization, link }) => ({
      subject: 'You are invited',
      parts: [
        greeting(''),
        { text: `you are invited to join ${organization}.` },
        { link, label: 'Accept the invitation' },
        { text: 'If you do not know why, ignore this mail.' },
      ],
    }),
    invitation_code: ({ organization, code }) => ({
      subject: 'Code for your invitation',
      parts: [
        greeting(''),
        {
          text: `somebody wants to accept your invitation to ${organization} with an account of another address. If it is you, type this code there:`,
        },
        { code },
        { text: 'If it is not you, give the code to nobody and tell those who invited you.' },
      ],
    }),
  },
};
