// What a test file opened is closed when the file ends, wherever it was opened: vitest forgets an afterAll that is
// called inside beforeAll or a test.
type Work = () => unknown;

const works: Work[] = [];

/** Does this after the file's last test; what was asked for last is done first. */
export function whenFileEnds(work: Work): void {
  works.push(work);
}

/** Does it all, and then complains about what went wrong. */
export async function endFile(): Promise<void> {
  const errors: unknown[] = [];
  for (let work = works.pop(); work; work = works.pop()) {
    try {
      await work();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors.length === 1 ? errors[0] : new AggregateError(errors, 'cleaning up failed');
}
