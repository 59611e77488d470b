// Listens to everything this process writes, as whoever keeps the log would.
import { vi } from 'vitest';
import { flushLog, setUpLog } from '../../src/platform/log.ts';
import type { LogLevel } from '../../src/platform/log-line.ts';

export interface Heard<Result> {
  readonly result: Result;
  readonly text: string;
  /** The records of the log, in order. */
  // biome-ignore lint/suspicious/noExplicitAny: each test knows what it looks for.
  readonly lines: readonly any[];
}

/** Runs work while the log has a level, and returns all that was written meanwhile. */
export async function hear<Result>(
  level: LogLevel,
  work: () => Promise<Result>,
  o: { readable?: boolean } = {},
): Promise<Heard<Result>> {
  let text = '';
  const take = (chunk: unknown): boolean => {
    text += String(chunk);
    return true;
  };
  const spies = [
    vi.spyOn(process.stderr, 'write').mockImplementation(take),
    vi.spyOn(process.stdout, 'write').mockImplementation(take),
    ...(['log', 'warn', 'error', 'info', 'dir'] as const).map((name) =>
      vi
        .spyOn(console, name)
        .mockImplementation((...parts: unknown[]) => void take(`${parts.map(String).join(' ')}\n`)),
    ),
  ];
  setUpLog({ level, ...o });
  try {
    const result = await work();
    flushLog();
    const lines = text
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line));
    return { result, text, lines };
  } finally {
    for (const spy of spies) spy.mockRestore();
    setUpLog({ level: 'warn' });
  }
}
