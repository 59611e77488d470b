import type { Language } from './template.ts';

const greeting = (name: string) => ({ text: name ? `Guten Tag ${name},` : 'Guten Tag,' });

export const german: Language = {
  footer: 'Diese Mail wurde automatisch verschickt. Antworten darauf liest niemand.',
  mails: {
    verification: ({ link, code }) => ({
      subject: 'Bestätigen Sie Ihre E-Mail-Adresse',
      parts: [
        greeting(''),
        { text: 'jemand möchte mit dieser Adresse ein Konto anlegen. Waren Sie das, dann bestätigen Sie die Adresse:' },
        { link, label: 'Adresse bestätigen' },
        { text: 'Oder geben Sie diesen Code dort ein, wo Sie sich angemeldet haben:' },
        { code },
        { text: 'Waren Sie es nicht, dann lassen Sie diese Mail liegen. Ohne Bestätigung entsteht kein Konto.' },
      ],
    }),
    already_registered: () => ({
      subject: 'Sie haben schon ein Konto',
      parts: [
        greeting(''),
        {
          text: 'jemand wollte mit dieser Adresse ein neues Konto anlegen; sie hat schon eines. Nichts wurde geändert.',
        },
        { text: 'Waren Sie das, dann melden Sie sich wie immer an oder setzen Sie Ihr Passwort zurück.' },
        { text: 'Waren Sie es nicht, dann ist nichts zu tun.' },
      ],
    }),
    password_reset: ({ name, link }) => ({
      subject: 'Setzen Sie Ihr Passwort zurück',
      parts: [
        greeting(name),
        { text: 'jemand hat ein neues Passwort verlangt. Waren Sie das, dann wählen Sie es hier:' },
        { link, label: 'Neues Passwort wählen' },
        { text: 'Der Link gilt einmal und nicht lange.' },
        { text: 'Waren Sie es nicht, dann lassen Sie diese Mail liegen. Ihr Passwort bleibt, wie es ist.' },
      ],
    }),
    password_changed: ({ name }) => ({
      subject: 'Ihr Passwort wurde geändert',
      parts: [
        greeting(name),
        { text: 'das Passwort Ihres Kontos wurde soeben geändert, und Ihre anderen Sitzungen wurden beendet.' },
        {
          text: 'Waren Sie es nicht, dann setzen Sie es sofort zurück und sagen Sie es denen, die diesen Dienst betreiben.',
        },
      ],
    }),
    invitation: ({ organization, link }) => ({
      subject: 'Sie sind eingeladen',
      parts: [
        greeting(''),
        { text: `Sie sind eingeladen, ${organization} beizutreten.` },
        { link, label: 'Einladung annehmen' },
        { text: 'Wissen Sie nicht, warum, dann lassen Sie diese Mail liegen.' },
      ],
    }),
    invitation_code: ({ organization, code }) => ({
      subject: 'Code für Ihre Einladung',
      parts: [
        greeting(''),
        {
          text: `jemand möchte Ihre Einladung zu ${organization} mit dem Konto einer anderen Adresse annehmen. Sind Sie das, dann geben Sie dort diesen Code ein:`,
        },
        { code },
        {
          text: 'Sind Sie es nicht, dann geben Sie den Code niemandem und sagen Sie es denen, die Sie eingeladen haben.',
        },
      ],
    }),
  },
};
