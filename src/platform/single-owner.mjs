// @ts-check
// One owner per thing, on one machine: for the install (src/start.mjs) and for a data directory (claim.ts).
// The lock is a listening socket in Linux's abstract namespace: the kernel releases it when its process ends, kill -9
// included. A lock file or folder would survive and block the next start. Node built-ins only, parses under Node 18.
import { createHash } from 'node:crypto';
import { unlinkSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * @param {string} kind what is owned, such as "install"
 * @param {string} path the real path of the thing
 */
function address(kind, path) {
  // Hashed because a socket's name ends at 107 bytes and a path does not.
  const name = `safetypin-${kind}-${createHash('sha256').update(path).digest('hex').slice(0, 32)}`;
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  // Before 20.4 Node cut an abstract name at its first byte, which is zero.
  const abstract = process.platform === 'linux' && (major > 20 || (major === 20 && minor >= 4));
  return abstract ? `\0${name}` : join(tmpdir(), `${name}.sock`);
}

/** @param {string} where @param {import('node:net').Server} server @returns {Promise<string | undefined>} */
function listen(where, server) {
  return new Promise((resolve) => {
    /** @param {NodeJS.ErrnoException} error */
    const failed = (error) => resolve(error.code ?? error.message);
    server.once('error', failed);
    server.listen(where, () => {
      server.off('error', failed);
      resolve(undefined);
    });
  });
}

/**
 * What the present owner says of itself, or undefined when nobody answers.
 * @param {string} kind
 * @param {string} path
 * @returns {Promise<unknown>}
 */
export function askOwner(kind, path) {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(address(kind, path));
    socket.setTimeout(2000, () => socket.destroy());
    socket.setEncoding('utf8');
    socket.on('data', (part) => {
      text += part;
    });
    socket.on('error', () => resolve(undefined));
    socket.on('close', () => {
      try {
        resolve(JSON.parse(text));
      } catch {
        resolve(undefined);
      }
    });
  });
}

/**
 * Becomes the one owner of `path`, or answers undefined when somebody else is.
 * @param {string} kind
 * @param {string} path
 * @param {() => unknown} [describe] what to tell others that ask
 * @returns {Promise<{ server: import('node:net').Server, release: () => void } | undefined>}
 */
export async function becomeOwner(kind, path, describe = () => ({ pid: process.pid })) {
  const where = address(kind, path);
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.end(JSON.stringify(describe()));
  });
  // Owning must not by itself keep a process alive that has nothing left to do.
  server.unref();
  let error = await listen(where, server);
  if (error === 'EADDRINUSE' && !where.startsWith('\0') && (await askOwner(kind, path)) === undefined) {
    // A socket file outlives its process where there is no abstract namespace; nobody answers on this one.
    unlinkSync(where);
    error = await listen(where, server);
  }
  if (error === 'EADDRINUSE') return undefined;
  if (error !== undefined) throw new Error(`cannot lock ${path}: ${error}`);
  return { server, release: () => server.close() };
}
