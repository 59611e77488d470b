import { askOwner, becomeOwner } from './single-owner.mjs';
import { StartupError } from './startup-error.ts';

/** The right to use a data directory, held by one process at a time. */
export interface Claim {
  readonly dataDirectory: string;
  /** What others are told: the address of the API, as soon as there is one. */
  address: string | undefined;
  release(): void;
}

const KIND = 'data';

/** Takes the data directory (its real path), or answers undefined when another live process has it. */
export async function claim(dataDirectory: string): Promise<Claim | undefined> {
  const state = { dataDirectory, address: undefined as string | undefined };
  const owner = await becomeOwner(KIND, dataDirectory, () => ({ pid: process.pid, address: state.address }));
  return owner && Object.assign(state, { release: owner.release });
}

/** Who has the data directory, in words. */
export async function describeOwner(dataDirectory: string): Promise<string> {
  const answer = ((await askOwner(KIND, dataDirectory)) ?? {}) as { pid?: unknown; address?: unknown };
  const { pid, address } = answer;
  const who = typeof pid === 'number' ? ` (process ${pid})` : '';
  // Any user of this machine could have answered: nothing that a terminal would obey is repeated.
  if (typeof address === 'string' && /^https?:\/\/[\w.:[\]-]+$/.test(address)) {
    return `already running on ${address}${who}`;
  }
  return `${dataDirectory} is already in use by another SafetyPin that is starting or stopping${who}`;
}

/** Takes the data directory, or refuses with a line that says who has it. */
export async function claimOrRefuse(dataDirectory: string): Promise<Claim> {
  const mine = await claim(dataDirectory);
  if (mine) return mine;
  const cure = 'to run a second one, set PORT and SAFETYPIN_DATA_DIR';
  throw new StartupError(`${await describeOwner(dataDirectory)}; ${cure}`);
}
