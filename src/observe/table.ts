import type { Registry } from 'prom-client';

interface Described {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly labelNames?: readonly string[];
}

/** Every metric as a row of a table, in order of names: the documentation is what runs. */
export function metricsTable(registry: Registry): string {
  const metrics = registry.getMetricsAsArray() as unknown as Described[];
  const rows = metrics
    .map(({ name, help, type, labelNames = [] }) => [name, type, labelNames.join(', '), help] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, type, labels, help]) => `| \`${name}\` | ${type} | ${labels} | ${help} |`);
  return ['| metric | type | labels | what |', '|---|---|---|---|', ...rows, ''].join('\n');
}
