/**
 * A refusal to start, said to the person at the terminal. The message is one line: what is wrong and what to do.
 * The only error whose message is shown as it is; everything else is a defect and shows its stack.
 */
export class StartupError extends Error {
  override readonly name = 'StartupError';
}

/** The `code` of an error of Node's, such as EACCES. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' ? code : undefined;
}

/** Says what a failed file operation means to whoever chose the folder; anything unknown is passed on as it is. */
export function explainFileError(error: unknown, path: string, cure: string): unknown {
  const meaning: Record<string, string> = {
    EACCES: 'is not accessible to this user',
    EPERM: 'is not accessible to this user',
    EROFS: 'is on a read-only file system',
    ENOTDIR: 'is not a folder, or lies under a file',
    EEXIST: 'is not a folder',
    ENOENT: 'does not exist',
    ENOSPC: 'has no space left on its disk',
    EDQUOT: 'is over its disk quota',
  };
  const said = meaning[codeOf(error) ?? ''];
  return said ? new StartupError(`${path} ${said}: ${cure}`, { cause: error }) : error;
}
