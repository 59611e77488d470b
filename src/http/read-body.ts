import type { IncomingMessage } from 'node:http';
import { BodyRefusal } from './body-refusal.ts';
import { parseJson } from './json.ts';

/** How much more than allowed is still read, and thrown away, so that the client can finish and hear why it is refused. */
const DRAINED = 2_000_000;

const TOO_LARGE = 'The request is too large.';

/** JSON in UTF-8 and not compressed: what a page of another origin cannot send without being asked first, and no bomb. */
function checkType({ headers }: IncomingMessage): void {
  const [type, ...parameters] = (headers['content-type'] ?? '').toLowerCase().split(';');
  if (type?.trim() !== 'application/json') throw new BodyRefusal(415, 'BAD_INPUT', 'Please send application/json.');
  const charset = parameters.map((one) => one.trim()).find((one) => one.startsWith('charset='));
  if (charset !== undefined && !/^charset="?utf-?8"?$/.test(charset)) {
    throw new BodyRefusal(415, 'BAD_INPUT', 'Please send UTF-8.');
  }
  if ((headers['content-encoding'] ?? 'identity').toLowerCase() !== 'identity') {
    throw new BodyRefusal(415, 'BAD_INPUT', 'Please send the body without compression.');
  }
}

/** Whether there is a body at all. */
export const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;

/** Reads a body of JSON; every refusal is a BodyRefusal. A client that goes away is no error of ours. */
export function readJson(request: IncomingMessage, limit: number): Promise<unknown> {
  checkType(request);
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= limit) chunks.push(chunk);
      else if (length > limit + DRAINED) {
        request.pause();
        reject(new BodyRefusal(413, 'LIMIT_EXCEEDED', TOO_LARGE));
      }
    });
    request.once('end', () => {
      try {
        if (length > limit) throw new BodyRefusal(413, 'LIMIT_EXCEEDED', TOO_LARGE);
        resolve(parseJson(chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks)));
      } catch (error) {
        reject(error);
      }
    });
    request.once('error', () => reject(new BodyRefusal(400, 'BAD_INPUT', 'The body ended early.')));
  });
}
