import type { Task, TaskList } from 'graphile-worker';
import type { Tracer } from '../observe/trace.ts';

/** Tasks whose runs each make a span; the same tasks while no traces are made. */
export function traced(tasks: TaskList, tracer: Tracer | undefined): TaskList {
  if (tracer === undefined) return tasks;
  const wrap =
    (name: string, task: Task): Task =>
    async (payload, helpers) => {
      const began = performance.now();
      let failed = true;
      try {
        const result = await task(payload, helpers);
        failed = false;
        return result;
      } finally {
        tracer.job(name, began, performance.now(), failed);
      }
    };
  return Object.fromEntries(Object.entries(tasks).map(([name, task]) => [name, task && wrap(name, task as Task)]));
}
