import { styleText } from 'node:util';
import { log } from './platform/log.ts';

let isRecorded = false;

/** From now on steps are records of the log, for where nobody looks on. */
export function recordProgress(): void {
  isRecorded = true;
}

/** One step of a start or a stop. */
export function progress(line: string): void {
  if (isRecorded) log('info', 'progress', { line });
  else process.stdout.write(`  ${styleText('dim', line)}\n`);
}

/** What the ready screen tells. */
export interface Ready {
  readonly url: string;
  /** The data directory, for the embedded database. */
  readonly dataDirectory: string | undefined;
  /** Whether mails stay in the mailbox of development. */
  readonly mailbox: boolean;
  readonly worker: boolean;
  readonly environment: string;
}

/** The end of a start: where it is, and what to do next. In production one line, for a log. */
export function readyScreen(ready: Ready): void {
  const seconds = process.uptime().toFixed(1);
  if (ready.environment === 'production') {
    progress(`SafetyPin is ready on ${ready.url} after ${seconds} s`);
    return;
  }
  const rows = [
    ['Try it', `${ready.url}/`, 'queries and mutations in the browser'],
    ['GraphQL', `${ready.url}/graphql`, 'for your own client, with POST'],
  ];
  if (ready.mailbox) rows.push(['Mailbox', `${ready.url}/dev/mailbox`, 'what would have been mailed']);
  rows.push(['Commands', 'npm run safetypin -- --help', 'migrate, sql, doctor and more']);
  if (ready.dataDirectory) rows.push(['Data', ready.dataDirectory, 'remove it to begin anew']);
  const width = Math.max(...rows.map(([, where = '']) => where.length));
  const lines = rows.map(([name = '', where = '', what = '']) => {
    return `  ${styleText('bold', name.padEnd(9))} ${where.padEnd(width)}  ${styleText('dim', what)}`;
  });
  const title = styleText(['bold', 'green'], `SafetyPin is ready on ${ready.url}`);
  const next = 'Next: register, read the mail in the mailbox, verify, sign in. README.md walks through it.';
  const jobs = ready.worker ? [] : ['  Jobs do not run here: start npm run safetypin -- worker beside it.'];
  const screen = ['', `${title}  ${styleText('dim', `${seconds} s`)}`, '', ...lines, '', `  ${next}`, ...jobs];
  process.stdout.write(`${[...screen, '  Ctrl-C stops everything.', ''].join('\n')}\n`);
}
