import { BlockList, isIP } from 'node:net';

/** Finds the address a request came from. `X-Forwarded-For` is believed only as far as trusted proxies wrote it. */
export interface ClientAddress {
  (peer: string | undefined, forwardedFor: string | undefined): string | null;
  /** Whether a peer is one of the trusted proxies, whose other headers are believed too. */
  isProxy(peer: string | undefined): boolean;
}

const PEERS = 1000;

/** One spelling per address: no zone, no port, and IPv4 is never written as IPv6. */
function normalize(text: string): string | null {
  const bracketed = /^\[([^\]]+)\](?::\d+)?$/.exec(text);
  let address = bracketed?.[1] ?? text;
  if (/^\d+\.\d+\.\d+\.\d+:\d+$/.test(address)) address = address.slice(0, address.indexOf(':'));
  address = address.replace(/%.*$/, '').toLowerCase();
  if (address.startsWith('::ffff:') && isIP(address.slice(7)) === 4) address = address.slice(7);
  if (isIP(address) === 0) return null;
  // The URL parser writes IPv6 in its shortest form, so that one address has one spelling as a key for limits.
  return isIP(address) === 6 ? new URL(`http://[${address}]/`).hostname.slice(1, -1) : address;
}

/** `networks` are addresses or CIDRs, already checked by the configuration. */
export function trustedClientAddress(networks: readonly string[]): ClientAddress {
  const trusted = new BlockList();
  for (const network of networks) {
    const [address = '', bits] = network.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    trusted.addSubnet(address, bits === undefined ? (family === 'ipv6' ? 128 : 32) : Number(bits), family);
  }
  const isTrusted = (address: string): boolean => trusted.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');

  const peers = new Map<string, string | null>();
  /** Peers are few and come again with each request; making their address uniform is not free. */
  const known = (peer: string): string | null => {
    const seen = peers.get(peer);
    if (seen !== undefined) return seen;
    if (peers.size >= PEERS) peers.clear();
    const address = normalize(peer);
    peers.set(peer, address);
    return address;
  };

  const addressOf = (peer: string | undefined, forwardedFor: string | undefined): string | null => {
    let address = peer === undefined ? null : known(peer);
    if (networks.length === 0 || forwardedFor === undefined) return address;
    const hops = forwardedFor.split(',');
    // From the nearest hop outwards: each is believed only because the one before it is trusted.
    while (address !== null && isTrusted(address) && hops.length > 0) {
      const named = normalize((hops.pop() ?? '').trim());
      if (named === null) return address;
      address = named;
    }
    return address;
  };

  const isProxy = (peer: string | undefined): boolean => {
    const address = peer === undefined || networks.length === 0 ? null : known(peer);
    return address !== null && isTrusted(address);
  };
  return Object.assign(addressOf, { isProxy });
}
