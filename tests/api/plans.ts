// PostGraphile on one opened request after the other, each statement explained before it runs.
import { makeSchema } from 'postgraphile';
import { execute, hookArgs } from 'postgraphile/grafast';
import { type GraphQLSchema, parse, validate } from 'postgraphile/graphql';
import { schemaPreset } from '../../src/graphql/preset.ts';
import type { Statement } from '../../src/graphql/transaction.ts';
import type { Application, Person } from '../support/actors.ts';

/** A node of a plan as `explain (format json)` prints it. */
export interface PlanNode {
  readonly 'Node Type': string;
  readonly 'Plan Rows': number;
  readonly 'Relation Name'?: string;
  readonly 'Index Cond'?: string;
  readonly Plans?: readonly PlanNode[];
}

export interface Explained {
  readonly sql: string;
  readonly nodes: readonly PlanNode[];
}

const flat = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(flat)];

/** Runs one document as somebody and returns the data with the plans of its statements. */
export type Explain = (document: string) => Promise<{ readonly data: unknown; readonly plans: readonly Explained[] }>;

export async function explainer(
  application: Application,
  who: Person,
  schemas: readonly string[],
): Promise<{ readonly schema: GraphQLSchema; readonly explain: Explain }> {
  const pool = application.db.pool('authenticator', { max: 1 });
  const { schema, resolvedPreset } = await makeSchema(schemaPreset({ pool, schemas }));
  const explain: Explain = async (text) => {
    const plans: Explained[] = [];
    const withPgClient = <Result>(_settings: unknown, work: (client: object) => Promise<Result>): Promise<Result> =>
      application.as(who.credential, (client) => {
        const opened = {
          async query({ text, values = [], arrayMode }: Statement) {
            const explained = await client.query(`explain (format json) ${text}`, [...values]);
            plans.push({ sql: text, nodes: flat(explained.rows[0]['QUERY PLAN'][0].Plan) });
            const { rows, rowCount } = await client.query({
              text,
              values: [...values],
              ...(arrayMode === true && { rowMode: 'array' }),
            } as never);
            return { rows, rowCount, notices: [] };
          },
          withTransaction: (inner: (client: object) => unknown) => inner(opened),
        };
        return work(opened);
      });
    const document = parse(text);
    const invalid = validate(schema, document);
    if (invalid[0] !== undefined) throw invalid[0];
    const contextValue = { pgSettings: null, withPgClient } as never;
    const args = await hookArgs({ schema, document, contextValue, resolvedPreset, requestContext: {} });
    const { data, errors } = (await execute(args)) as { data?: unknown; errors?: readonly Error[] };
    if (errors?.[0] !== undefined) throw errors[0];
    return { data, plans };
  };
  return { schema, explain };
}
