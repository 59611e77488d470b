// What DNS says under a name. An answer is written by somebody else: of it goes on what could be a proof, and no more.
import { Resolver } from 'node:dns/promises';
import type { Config } from '../config.ts';

/** What came of asking. `answered` is false when nobody knows: no server answered, or it could not find out. */
export interface TxtAnswer {
  readonly answered: boolean;
  readonly records: readonly string[];
}

export type TxtLookup = (name: string, signal: AbortSignal) => Promise<TxtAnswer>;

/** There is no such name, or it has no such record. Anything else (SERVFAIL, REFUSED, silence, nonsense) says nothing. */
const NOT_THERE = new Set(['ENOTFOUND', 'ENODATA']);

/** Others may stand under the same name, as many as fit into 64 kB. */
const COULD_PROVE = /^safetypin-verification=[0-9a-f]{1,64}$/;
const MOST_RECORDS = 100;

const UNANSWERED: TxtAnswer = { answered: false, records: [] };

/** Milliseconds that one server is waited for, at first; what does not fit into a packet is asked for over TCP. */
const TIMEOUT = 2_000;
const TRIES = 2;
/** Milliseconds for all of it, whatever the servers do. */
const PATIENCE = 12_000;

/** Asks the servers of `DNS_SERVERS`, one after the other, or those of the machine. */
export function txtLookup({ dnsServers }: Pick<Config, 'dnsServers'>): TxtLookup {
  return async (name, signal) => {
    // One for each question, since only a whole resolver can be cancelled.
    const resolver = new Resolver({ timeout: TIMEOUT, tries: TRIES });
    if (dnsServers.length > 0) resolver.setServers(dnsServers);
    const cancel = () => resolver.cancel();
    const timer = setTimeout(cancel, PATIENCE);
    signal.addEventListener('abort', cancel, { once: true });
    try {
      const found = await resolver.resolveTxt(name);
      const texts = found.map((parts) => parts.join(''));
      return { answered: true, records: texts.filter((text) => COULD_PROVE.test(text)).slice(0, MOST_RECORDS) };
    } catch (error) {
      const { code } = error as { code?: string };
      return NOT_THERE.has(code ?? '') ? { answered: true, records: [] } : UNANSWERED;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', cancel);
    }
  };
}
