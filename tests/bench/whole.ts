// The program as a person starts it: how long until it is ready, and what it takes of memory.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Program } from '../runtime/programs.ts';
import { makeWorkplace, type Workplace } from '../runtime/workplace.ts';
import { type Bench, median, type Row } from './bench.ts';
import { QUERY } from './graphql-list.ts';
import { makeMember } from './members.ts';
import type { Place } from './place.ts';

async function timed(workplace: Workplace): Promise<{ program: Program; seconds: number }> {
  const began = performance.now();
  const program = workplace.start();
  await program.says(/is ready on/);
  return { program, seconds: (performance.now() - began) / 1000 };
}

async function stop(program: Program): Promise<void> {
  program.signalGroup('SIGINT');
  await program.ends();
}

const seconds = (name: string, value: number, target: number, size: string): Row => ({
  name,
  value,
  unit: 's',
  baseline: null,
  target,
  met: value <= target,
  size,
});

/** Seconds from `npm start` to ready, the database being there. */
export const start: Bench = {
  name: 'start',
  async run(_place: Place, isFull: boolean) {
    const workplace = await makeWorkplace();
    try {
      await stop((await timed(workplace)).program);
      const times: number[] = [];
      for (let i = 0; i < (isFull ? 9 : 5); i += 1) {
        const { program, seconds } = await timed(workplace);
        times.push(seconds);
        await stop(program);
      }
      return seconds('start', median(times), 3, 'npm start, installed, database exists');
    } finally {
      await workplace.remove();
    }
  },
};

/** Seconds from the first `npm start` to ready, without the install. */
export const firstStart: Bench = {
  name: 'start_first',
  async run(_place: Place, isFull: boolean) {
    const times: number[] = [];
    for (let i = 0; i < (isFull ? 5 : 3); i += 1) {
      const workplace = await makeWorkplace();
      try {
        const { program, seconds } = await timed(workplace);
        times.push(seconds);
        await stop(program);
      } finally {
        await workplace.remove();
      }
    }
    return seconds('start_first', median(times), 8, 'npm start, installed, no database yet');
  },
};

const residentMegabytes = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

/** Resident memory of the server's process, API and worker in one, while it lists; the highest after warm-up. */
export const memory: Bench = {
  name: 'memory',
  async run(place: Place, isFull: boolean) {
    const workplace = await makeWorkplace();
    try {
      const { program } = await timed(workplace);
      const pid = program.serverPid();
      const { accessToken } = await makeMember(workplace.port, 'lister');
      const headers = { 'content-type': 'application/json', authorization: `Bearer ${accessToken}` };
      const bodies = Array.from({ length: 8 }, () => JSON.stringify({ query: QUERY }));
      const load = (time: number) =>
        place.load({ port: workplace.port, path: '/graphql', headers, bodies, seconds: time });
      await load(5);
      let highest = 0;
      let isOver = false;
      const watching = (async () => {
        while (!isOver) {
          highest = Math.max(highest, residentMegabytes(pid));
          await sleep(100);
        }
      })();
      await load(isFull ? 60 : 10);
      isOver = true;
      await watching;
      await stop(program);
      const target = 300;
      return {
        name: 'memory',
        value: highest,
        unit: 'MB',
        baseline: null,
        target,
        met: highest <= target,
        size: 'API and worker in one process, 8 connections listing',
      };
    } finally {
      await workplace.remove();
    }
  },
};
