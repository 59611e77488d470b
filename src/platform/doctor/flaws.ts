// Releases that repaired what an attacker can use, by the first minor of each major version that has the repair.
// Newest first. A new round of fixes is a new entry here.

interface Repair {
  readonly fixedIn: Readonly<Record<number, number>>;
  readonly flaws: string;
  /** What an attacker gains, in a few words. */
  readonly gain: string;
  /** Older ones are not to be used at all: what we rest on (pgcrypto) is what is broken. */
  readonly forbidden?: true;
}

const REPAIRS: readonly Repair[] = [
  {
    fixedIn: { 18: 7, 17: 12, 16: 16, 15: 20 },
    flaws: 'CVE-2026-6460, CVE-2026-120141',
    gain: 'a user of the database runs code as the server',
  },
  {
    fixedIn: { 18: 6, 17: 11, 16: 15, 15: 19 },
    flaws: 'CVE-2026-14680, CVE-2026-16239',
    gain: 'any user of the database runs code as the server',
  },
  {
    fixedIn: { 18: 4, 17: 10, 16: 14, 15: 18 },
    flaws: 'CVE-2026-6473, CVE-2026-6479',
    gain: 'memory is overwritten by input, and the server crashed by anybody who reaches it',
  },
  {
    fixedIn: { 18: 2, 17: 8, 16: 12, 15: 16 },
    flaws: 'CVE-2026-2005, CVE-2026-2006',
    gain: 'whoever hands in a ciphertext runs code as the server',
    forbidden: true,
  },
];

/** What is known against a version of PostgreSQL, as server_version_num. */
export function flawsOf(version: number): { flaws: string; gain: string; update: string; forbidden: boolean } | null {
  const [major, minor] = [Math.floor(version / 10_000), version % 10_000];
  const open = REPAIRS.filter(({ fixedIn }) => minor < (fixedIn[major] ?? 0));
  const [newest] = open;
  const worst = open.at(-1);
  if (!newest || !worst) return null;
  return {
    flaws: open.map(({ flaws }) => flaws).join(', '),
    gain: worst.gain,
    update: `${major}.${newest.fixedIn[major]}`,
    forbidden: worst.forbidden === true,
  };
}

const POOLER_REPAIRS = [
  { fixedIn: [1, 26, 1], flaw: 'CVE-2026-107350 (a user of the pooler signs in as any other)' },
  { fixedIn: [1, 25, 2], flaw: 'CVE-2026-6664 (anybody who reaches it crashes it)' },
  { fixedIn: [1, 25, 1], flaw: 'CVE-2025-12819 (search_path of the server chosen by whoever connects)' },
] as const;

/** What is known against a version of PgBouncer, such as 1.25.2. */
export function poolerFlawsOf(version: string): string[] {
  const parts = version.split('.').map(Number);
  const older = (fixed: readonly number[]) => {
    const at = fixed.findIndex((part, i) => (parts[i] ?? 0) !== part);
    return at >= 0 && (parts[at] ?? 0) < (fixed[at] ?? 0);
  };
  return POOLER_REPAIRS.filter(({ fixedIn }) => older(fixedIn)).map(({ flaw }) => flaw);
}
