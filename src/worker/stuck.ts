// graphile-worker keeps for ever what it was told when it first asked for its tasks, a failure too: a worker that starts
// while the database goes away would take no job any more, and say nothing. Seen when connections were cut just then.
import type { WorkerEvents } from 'graphile-worker';

/** So long may taking jobs fail while the database answers. */
const PATIENCE = 5_000;

/** Calls `onStuck` once when a run cannot take jobs although the database answers; `answered` is when it last did. */
export function watchStuck(events: WorkerEvents, answered: () => number, onStuck: () => void): void {
  let since: number | undefined;
  const works = () => {
    since = undefined;
  };
  events.on('worker:getJob:empty', works);
  events.on('job:start', works);
  events.on('worker:getJob:error', () => {
    since ??= Date.now();
    if (Date.now() - since < PATIENCE || answered() <= since) return;
    since = Number.POSITIVE_INFINITY;
    onStuck();
  });
}
