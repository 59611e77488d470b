import type { Api } from '../api/api.ts';

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** Reads the text format as Prometheus does; a line that is none is an error. */
export function parse(text: string): Sample[] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [, name = '', labels = '', value = ''] = LINE.exec(line) ?? [];
      if (name === '' || !/^(?:[-+]?Inf|Nan|-?[\d.]+(?:e[-+]?\d+)?)$/.test(value))
        throw new Error(`no sample: ${line}`);
      return {
        name,
        labels: Object.fromEntries([...labels.matchAll(LABEL)].map((m) => [m[1], m[2]])),
        value: Number(value),
      };
    });
}

let ahead = 0;
const now = performance.now.bind(performance);
performance.now = () => now() + ahead;

async function read(api: Api): Promise<Sample[]> {
  const response = await api.send('/metrics');
  if (response.status !== 200) throw new Error(`metrics answered ${response.status}`);
  return parse(await response.text());
}

/** What a server in this process shows now: the clock is put past the second for which it remembers. */
export function scrape(api: Api): Promise<Sample[]> {
  ahead += 1100;
  return read(api);
}

/** The same, past the time for which it remembers what the database said. */
export function figures(api: Api): Promise<Sample[]> {
  ahead += 20_000;
  return read(api);
}

/** The sum of all samples of a name that have these labels. */
export const total = (samples: readonly Sample[], name: string, labels: Record<string, string> = {}): number =>
  samples
    .filter(
      (sample) => sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
    )
    .reduce((sum, { value }) => sum + value, 0);
