// A real DNS server on this machine, over UDP and TCP, which can say anything or nothing.
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { type Socket as Connection, createServer, type Server } from 'node:net';

/** What a name is answered with. */
export interface Answer {
  /** TXT records, each of one or more strings of at most 255 bytes. */
  readonly txt?: readonly (string | readonly string[])[];
  /** The records stand under this name, to which a CNAME points. */
  readonly cname?: string;
  /** 0: no error. 2: SERVFAIL. 3: NXDOMAIN. 5: REFUSED. */
  readonly rcode?: number;
  /** Nothing at all, or bytes that are no DNS. */
  readonly instead?: 'silence' | 'garbage';
}

export interface DnsServer {
  /** As DNS_SERVERS has it. */
  readonly address: string;
  /** By name, in lower case. Anything else is NXDOMAIN. */
  readonly answers: Map<string, Answer>;
  /** How it was asked: `udp name` or `tcp name`. */
  readonly asked: string[];
  close(): Promise<void>;
}

const MOST_OVER_UDP = 512;

const nameBytes = (name: string): Buffer =>
  Buffer.concat([
    ...name.split('.').map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])),
    Buffer.alloc(1),
  ]);

const record = (name: string, type: number, data: Buffer): Buffer => {
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(type, 0);
  fixed.writeUInt16BE(1, 2);
  fixed.writeUInt32BE(0, 4);
  fixed.writeUInt16BE(data.length, 8);
  return Buffer.concat([nameBytes(name), fixed, data]);
};

const strings = (parts: string | readonly string[]): Buffer =>
  Buffer.concat(
    (typeof parts === 'string' ? [parts] : parts).map((part) =>
      Buffer.concat([Buffer.from([Buffer.byteLength(part)]), Buffer.from(part)]),
    ),
  );

function questionOf(query: Buffer): { name: string; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), end: at + 5 };
}

function reply(query: Buffer, name: string, end: number, answer: Answer, truncated: boolean): Buffer {
  const { txt = [], cname, rcode = 0 } = answer;
  const records = truncated
    ? []
    : [
        ...(cname === undefined ? [] : [record(name, 5, nameBytes(cname))]),
        ...txt.map((parts) => record(cname ?? name, 16, strings(parts))),
      ];
  const head = Buffer.alloc(12);
  query.copy(head, 0, 0, 2);
  head.writeUInt16BE(0x8180 | (truncated ? 0x0200 : 0) | rcode, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(records.length, 6);
  return Buffer.concat([head, query.subarray(12, end), ...records]);
}

export async function startDnsServer(): Promise<DnsServer> {
  const answers = new Map<string, Answer>();
  const asked: string[] = [];
  const answerTo = (query: Buffer, transport: 'udp' | 'tcp'): Buffer | undefined => {
    const { name, end } = questionOf(query);
    asked.push(`${transport} ${name}`);
    const answer = answers.get(name) ?? { rcode: 3 };
    if (answer.instead === 'silence') return undefined;
    if (answer.instead === 'garbage') return Buffer.concat([query.subarray(0, 2), Buffer.alloc(40, 0xff)]);
    const whole = reply(query, name, end, answer, false);
    return transport === 'udp' && whole.length > MOST_OVER_UDP ? reply(query, name, end, answer, true) : whole;
  };

  const connections = new Set<Connection>();
  const tcp: Server = createServer((connection) => {
    connections.add(connection);
    connection.on('close', () => connections.delete(connection)).on('error', () => {});
    let pending = Buffer.alloc(0);
    connection.on('data', (chunk) => {
      pending = Buffer.concat([pending, chunk]);
      while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
        const length = pending.readUInt16BE(0);
        const answer = answerTo(pending.subarray(2, 2 + length), 'tcp');
        pending = pending.subarray(2 + length);
        if (answer === undefined) continue;
        const size = Buffer.alloc(2);
        size.writeUInt16BE(answer.length, 0);
        connection.write(Buffer.concat([size, answer]));
      }
    });
  });
  const udp: Socket = createSocket('udp4');
  udp.on('message', (query, { port, address }) => {
    const answer = answerTo(query, 'udp');
    if (answer !== undefined) udp.send(answer, port, address);
  });
  // One port for both: whichever TCP gets, UDP nearly always can have too.
  for (let tries = 0; ; tries += 1) {
    tcp.listen(0, '127.0.0.1');
    await once(tcp, 'listening');
    try {
      udp.bind((tcp.address() as { port: number }).port, '127.0.0.1');
      await once(udp, 'listening');
      break;
    } catch (error) {
      if (tries === 5) throw error;
      tcp.close();
      await once(tcp, 'close');
    }
  }
  return {
    address: `127.0.0.1:${(tcp.address() as { port: number }).port}`,
    answers,
    asked,
    async close() {
      for (const connection of connections) connection.destroy();
      udp.close();
      tcp.close();
      await once(tcp, 'close');
    },
  };
}
