// A load generator in a process of its own: raw sockets, one request in flight on each, nothing parsed but the length. It
// must cost little, since it shares the machine with what it measures.
import { connect } from 'node:net';

/** @typedef {{ port: number, path: string, headers: Record<string, string>, bodies: string[], seconds: number }} Load */

/** @param {Load} load @param {string} body */
function requestOf({ path, headers }, body) {
  const lines = Object.entries({ host: 'bench', 'content-length': String(Buffer.byteLength(body)), ...headers });
  return Buffer.from(`POST ${path} HTTP/1.1\r\n${lines.map(([n, v]) => `${n}: ${v}\r\n`).join('')}\r\n${body}`);
}

/** One connection for each body. @param {Load} load @returns {Promise<{ perSecond: number, failed: number }>} */
function run(load) {
  let done = 0;
  let failed = 0;
  let isOver = false;
  const sockets = load.bodies.map((body) => {
    const request = requestOf(load, body);
    const socket = connect(load.port, '127.0.0.1');
    socket.setNoDelay(true);
    let text = '';
    socket.on('connect', () => socket.write(request));
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      const head = text.indexOf('\r\n\r\n');
      if (head < 0) return;
      const length = Number(/content-length: (\d+)/i.exec(text.slice(0, head))?.[1] ?? Number.NaN);
      if (text.length < head + 4 + length) return;
      if (!text.startsWith('HTTP/1.1 200') || /"errors"|REFUSED/.test(text)) failed += 1;
      text = '';
      done += 1;
      if (!isOver) socket.write(request);
    });
    socket.on('error', () => {
      failed += 1;
    });
    return socket;
  });
  const began = performance.now();
  return new Promise((resolve) => {
    setTimeout(() => {
      isOver = true;
      const perSecond = done / ((performance.now() - began) / 1000);
      for (const socket of sockets) socket.destroy();
      resolve({ perSecond, failed });
    }, load.seconds * 1000);
  });
}

process.on('message', async (/** @type {Load} */ load) => {
  process.send?.(await run(load));
});
