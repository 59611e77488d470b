// The dashboard and the table of metrics say what runs.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { projectRoot } from '../../src/config.ts';
import { createPasswordHasher } from '../../src/identity/password.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { metricsTable } from '../../src/observe/table.ts';
import { startHeartbeat } from '../../src/platform/heartbeat.ts';
import { type Api, startApi } from '../api/api.ts';
import { Application } from '../support/actors.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { scrape } from './scrape.ts';

interface Target {
  readonly expr: string;
  readonly datasource: { readonly type: string; readonly uid: string };
}

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly datasource?: Target['datasource'];
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly Target[];
}

interface Variable {
  readonly name: string;
  readonly type: string;
  readonly query: string | { readonly query: string };
}

const dashboard = JSON.parse(readFileSync(join(projectRoot, 'src/observe/dashboard.json'), 'utf8')) as {
  readonly schemaVersion: number;
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly Variable[] };
};
const targets = dashboard.panels.flatMap(({ targets = [] }) => targets);
const expressions = targets.map(({ expr }) => expr);
const METRIC = /\b(?:safetypin|nodejs|process)_[a-z0-9_]+/g;
const family = (name: string): string => name.replace(/_(?:bucket|sum|count)$/, '');

let api: Api;
/** Names of the labels of each metric, and its kind. */
const known = new Map<string, { readonly type: string; readonly labels: readonly string[] }>();
let table: string;
beforeAll(async () => {
  api = await startApi();
  const app = await Application.beside(api.db);
  const heartbeat = startHeartbeat(app.pool);
  const metrics = createMetrics({
    pool: app.pool,
    auditor: api.db.config('auditor'),
    hasher: createPasswordHasher(),
    sealer: app.envelopes,
    heartbeat,
  });
  whenFileEnds(() => Promise.all([heartbeat.stop(), metrics.close()]).then(() => {}));
  table = metricsTable(metrics.registry);
  for (const row of table.split('\n').slice(2)) {
    const [, name = '', type = '', labels = ''] = row.split('|').map((cell) => cell.trim().replaceAll('`', ''));
    if (name !== '') known.set(name, { type, labels: labels === '' ? [] : labels.split(', ') });
  }
});

test('the table of metrics is made from what runs', async () => {
  await expect(table).toMatchFileSnapshot('../../src/observe/metrics.md');
});

test('names follow the conventions of Prometheus, and each has a sentence', () => {
  for (const [name, { type }] of known) {
    if (!name.startsWith('safetypin_')) continue;
    expect(name.endsWith('_total'), name).toBe(type === 'counter');
    if (type === 'histogram') expect(name).toMatch(/_seconds$/);
    expect(name).not.toMatch(/_(?:ms|milliseconds|minutes|kb|mb|percent)\b/);
  }
  for (const row of table.trim().split('\n').slice(2)) expect(row).toMatch(/\| \S.*\. ?\|$|\| \S.* \|$/);
});

test('a running server shows every metric of the table', async () => {
  await api.gql('{ currentUser { id } }');
  await scrape(api);
  const text = await (await api.send('/metrics')).text();
  for (const name of known.keys()) expect(text).toContain(`# TYPE ${name} `);
});

describe('the dashboard', () => {
  test('asks only for metrics and labels that exist', () => {
    expect(expressions.length).toBeGreaterThan(30);
    for (const expression of expressions) {
      const names = expression.match(METRIC) ?? [];
      expect(names.length, expression).toBeGreaterThan(0);
      for (const name of names) {
        const metric = known.get(name) ?? known.get(family(name));
        expect(metric, `${name} in ${expression}`).toBeDefined();
        const isPart = known.get(name) === undefined;
        expect(isPart, name).toBe(metric?.type === 'histogram');
        const given = [...expression.matchAll(/(?:[{,]\s*)([a-z]+)(?:=~|!=|=)/g)].map((match) => match[1] ?? '');
        const by = [...expression.matchAll(/by \(([^)]*)\)/g)].flatMap((match) => (match[1] ?? '').split(/, */));
        for (const label of [...given, ...by]) {
          expect([...(metric?.labels ?? []), 'job', 'instance', 'le', 'kind'], expression).toContain(label);
        }
      }
    }
  });

  test('has a panel for every metric of ours', () => {
    const shown = new Set(expressions.flatMap((expression) => expression.match(METRIC) ?? []).map(family));
    expect([...known.keys()].filter((name) => name.startsWith('safetypin_') && !shown.has(family(name)))).toEqual([]);
  });

  test('takes rates of counters and quantiles of buckets, and sums no count that all processes share', () => {
    for (const expression of expressions) {
      for (const [name, { type }] of known) {
        if (!new RegExp(`\\b${name}\\b`).test(expression)) continue;
        if (type === 'counter') expect(expression).toMatch(new RegExp(`rate\\(${name}\\b`));
        if (type === 'gauge') expect(expression).not.toMatch(new RegExp(`rate\\(${name}\\b`));
      }
      if (expression.includes('_bucket')) expect(expression).toMatch(/histogram_quantile\(0\.\d+, sum by \(le/);
      if (
        /safetypin_(?:sign_ins|registrations|verifications|password_resets|audit_events|account_locks)/.test(expression)
      ) {
        expect(expression).not.toMatch(/\bsum\b/);
      }
    }
  });

  test('has balanced expressions', () => {
    for (const expression of expressions) {
      const open: string[] = [];
      for (const sign of expression.replace(/"[^"]*"/g, '')) {
        if ('([{'.includes(sign)) open.push(sign);
        if (')]}'.includes(sign)) expect(open.pop(), expression).toBe({ ')': '(', ']': '[', '}': '{' }[sign]);
      }
      expect(open, expression).toEqual([]);
    }
  });

  test('lets whoever imports it choose the data source', () => {
    const [first, ...others] = dashboard.templating.list;
    expect(first).toMatchObject({ name: 'datasource', type: 'datasource', query: 'prometheus' });
    expect(others.map(({ name }) => name)).toEqual(['job', 'instance']);
    const source = { type: 'prometheus', uid: `$\{datasource}` };
    for (const panel of dashboard.panels)
      if (panel.type !== 'row') expect(panel.datasource, panel.title).toEqual(source);
    for (const target of targets) expect(target.datasource).toEqual(source);
    const used = new Set(
      JSON.stringify(dashboard)
        .match(/\$\{?[a-z_]+/g)
        ?.map((name) => name.replace(/\W/g, '')),
    );
    used.delete('__rate_interval');
    used.delete('__all');
    expect([...used].sort()).toEqual(['datasource', 'instance', 'job']);
  });

  test('has panels of their own ids and places, in rows of 24', () => {
    const { panels } = dashboard;
    expect(dashboard.schemaVersion).toBeGreaterThanOrEqual(36);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const taken = new Set<string>();
    for (const { title, gridPos } of panels) {
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          expect(taken.has(`${x} ${y}`), title).toBe(false);
          taken.add(`${x} ${y}`);
        }
      }
    }
  });
});
