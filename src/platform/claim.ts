import { askOwner, becomeOwner } from './single-owner.mjs';
import { StartupError } from './startup-error.ts';

/** The right to use a data directory, held by one process at a time. */
export interface Claim {
  readonly dataDirectory: string;
  /** What others are told: the address of the API, as soon as there is one. */
  address: string | undefined;
  release(): void;
}

/** A server stays, so that a command can join its database; another command will be done in a moment. */
export type Kind = 'server' | 'command';

/** Who has a data directory, as far as is known. */
export interface Owner {
  readonly kind: Kind | undefined;
  readonly pid: number | undefined;
  readonly address: string | undefined;
}

const LOCK = 'data';

/** Takes the data directory (its real path), or answers undefined when another live process has it. */
export async function claim(dataDirectory: string, kind: Kind = 'command'): Promise<Claim | undefined> {
  const state = { dataDirectory, address: undefined as string | undefined };
  const describe = () => ({ kind, pid: process.pid, address: state.address });
  const owner = await becomeOwner(LOCK, dataDirectory, describe);
  return owner && Object.assign(state, { release: owner.release });
}

/** Asks who has the data directory. */
export async function ownerOf(dataDirectory: string): Promise<Owner> {
  const answer = ((await askOwner(LOCK, dataDirectory)) ?? {}) as Record<keyof Owner, unknown>;
  // Any user of this machine could have answered: nothing that a terminal would obey is repeated.
  const address = typeof answer.address === 'string' && /^https?:\/\/[\w.:[\]-]+$/.test(answer.address);
  return {
    kind: answer.kind === 'server' || answer.kind === 'command' ? answer.kind : undefined,
    pid: typeof answer.pid === 'number' ? answer.pid : undefined,
    address: address ? String(answer.address) : undefined,
  };
}

/** Who has the data directory, in words. */
export async function describeOwner(dataDirectory: string): Promise<string> {
  const { kind, pid, address } = await ownerOf(dataDirectory);
  const who = pid === undefined ? '' : ` (process ${pid})`;
  if (address !== undefined) return `already running on ${address}${who}`;
  const what = kind === 'command' ? 'a command of SafetyPin' : 'another SafetyPin that is starting or stopping';
  return `${dataDirectory} is already in use by ${what}${who}`;
}

/** Takes the data directory, or refuses with a line that says who has it. */
export async function claimOrRefuse(dataDirectory: string, kind: Kind = 'command'): Promise<Claim> {
  const mine = await claim(dataDirectory, kind);
  if (mine) return mine;
  const cure = 'to run a second one, set PORT and SAFETYPIN_DATA_DIR';
  throw new StartupError(`${await describeOwner(dataDirectory)}; ${cure}`);
}
