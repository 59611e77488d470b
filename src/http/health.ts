import type { Requests } from '../graphql/adaptor.ts';
import { nobody } from './request.ts';

const ANSWER_MILLISECONDS = 2000;
const REMEMBER_MILLISECONDS = 500;

/**
 * Whether requests can be served now: a request is opened, which needs the database, its migrations, and the login. The
 * answer is kept for a moment, so that asking often costs the database nothing.
 */
export function readinessOf(requests: Requests): () => Promise<boolean> {
  let asked = 0;
  let answer: Promise<boolean> = Promise.resolve(false);

  async function ask(): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), ANSWER_MILLISECONDS);
    });
    const opened = requests
      .inRequest(nobody(), (client) => client.query({ text: 'select api."current_user"()' }))
      .then(
        () => true,
        () => false,
      );
    return Promise.race([opened, late]).finally(() => clearTimeout(timer));
  }

  return () => {
    if (Date.now() - asked > REMEMBER_MILLISECONDS) {
      asked = Date.now();
      answer = ask();
    }
    return answer;
  };
}
