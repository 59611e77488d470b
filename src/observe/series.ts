// Counters and histograms that cost some tens of nanoseconds to add to: prom-client's hash their labels each time, which
// would be more than all of our own work in a request. It still keeps the registry and writes the text.
import type { Metric } from 'prom-client';

interface Value {
  readonly metricName?: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/** What prom-client's registry asks of a metric. */
interface Registered {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labelNames: readonly string[];
  get(): Promise<Pick<Registered, 'name' | 'help' | 'type'> & { aggregator: string; values: Value[] }>;
}

function registered(
  type: Registered['type'],
  { name, help, labels: labelNames = [] }: Description,
  values: () => Value[] | Promise<Value[]>,
): Metric {
  const metric: Registered = {
    name,
    help,
    type,
    labelNames,
    get: async () => ({ name, help, type, aggregator: 'sum', values: await values() }),
  };
  return metric as unknown as Metric;
}

/** Name by the conventions of Prometheus, a sentence, and names of labels. */
export interface Description {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
}

/** Label values beyond these are counted together: nothing that a client makes up may fill the memory. */
const SERIES = 1000;
const OTHER = 'other';

/** Counts by labels. */
export class Counts {
  readonly metric: Metric;
  readonly #labels: readonly string[];
  readonly #series = new Map<string, { readonly labels: Record<string, string>; value: number }>();

  constructor(description: Description) {
    this.#labels = description.labels ?? [];
    if (this.#labels.length === 0) this.add(0);
    this.metric = registered('counter', description, () => [...this.#series.values()]);
  }

  add(amount: number, ...values: readonly string[]): void {
    const key = values.length === 1 ? (values[0] ?? '') : values.join('\n');
    const known = this.#series.get(key);
    if (known !== undefined) {
      known.value += amount;
      return;
    }
    if (this.#series.size >= SERIES && values.some((value) => value !== OTHER)) {
      this.add(amount, ...values.map(() => OTHER));
      return;
    }
    const labels = Object.fromEntries(this.#labels.map((label, i) => [label, values[i] ?? '']));
    this.#series.set(key, { labels, value: amount });
  }
}

/** Bounds of the buckets, in seconds: from a tenth of a millisecond to half a minute. */
const BOUNDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
] as const;

interface Buckets {
  readonly counts: Float64Array;
  sum: number;
}

/** How long something takes, by one label. */
export class Durations {
  readonly metric: Metric;
  readonly #label: string | undefined;
  readonly #series = new Map<string, Buckets>();

  constructor(description: Description) {
    this.#label = description.labels?.[0];
    this.metric = registered('histogram', description, () =>
      [...this.#series].flatMap(([value, buckets]) => this.#written(description.name, value, buckets)),
    );
  }

  observe(seconds: number, value = ''): void {
    let buckets = this.#series.get(value);
    if (buckets === undefined) {
      buckets = { counts: new Float64Array(BOUNDS.length + 1), sum: 0 };
      this.#series.set(value, buckets);
    }
    let i = 0;
    while (i < BOUNDS.length && seconds > (BOUNDS[i] as number)) i += 1;
    buckets.counts[i] = (buckets.counts[i] ?? 0) + 1;
    buckets.sum += seconds;
  }

  #written(name: string, value: string, { counts, sum }: Buckets): Value[] {
    const labels: Record<string, string> = this.#label === undefined ? {} : { [this.#label]: value };
    let total = 0;
    const values: Value[] = [];
    for (const [i, count] of counts.entries()) {
      total += count;
      values.push({ metricName: `${name}_bucket`, labels: { ...labels, le: BOUNDS[i] ?? '+Inf' }, value: total });
    }
    values.push(
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: total },
    );
    return values;
  }
}

/** One value of a figure, with its labels in order. */
export type Reading = readonly [value: number, ...labels: string[]];

/** A figure read when somebody asks: one, or several by labels; what is not known now is left out. */
export function figure(description: Description, read: () => number | undefined | readonly Reading[]): Metric {
  const { labels = [] } = description;
  return registered('gauge', description, () => {
    const now = read();
    if (now === undefined) return [];
    if (typeof now === 'number') return [{ labels: {}, value: now }];
    return now.map(([value, ...given]) => ({
      labels: Object.fromEntries(labels.map((label, i) => [label, given[i] ?? ''])),
      value,
    }));
  });
}
