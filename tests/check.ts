// `npm run check`: types and style of the whole project. Tests that read the code or the database are under tests/.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { projectRoot } from '../src/config.ts';

const checks = [
  ['types', 'typescript/bin/tsc', '-p', '.'],
  ['style', '@biomejs/biome/bin/biome', 'check', '--error-on-warnings', '.'],
] as const;

let failed = 0;
for (const [name, program, ...args] of checks) {
  const file = join(projectRoot, 'node_modules', program);
  const { status } = spawnSync(process.execPath, [file, ...args], { cwd: projectRoot, stdio: 'inherit' });
  process.stdout.write(`${name}: ${status === 0 ? 'ok' : 'FAILED'}\n`);
  if (status !== 0) failed += 1;
}
process.exit(failed === 0 ? 0 : 1);
