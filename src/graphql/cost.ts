import type { GraphQLError } from 'postgraphile/graphql';
import { Kind, type ValueNode } from 'postgraphile/graphql';
import { LIMITS, limitError } from './limits.ts';

/** What a selection costs: so much by itself, and so much for each row of the pages in it. See LIMITS for the rules. */
export interface Cost {
  readonly own: number;
  readonly pages: readonly Page[];
}

/** A field that gives a page, by its arguments or by a size that is known. */
export interface Page {
  readonly size: Readonly<Record<string, ValueNode | undefined>> | number;
  readonly row: Cost;
}

export const NOTHING: Cost = { own: 0, pages: [] };

export const sum = (costs: readonly Cost[]): Cost => ({
  own: costs.reduce((total, { own }) => total + own, 0),
  pages: costs.flatMap(({ pages }) => pages),
});

/** What an operation would cost, and the refusal if that is too much. */
export interface Estimate {
  readonly cost: number;
  readonly refusal: GraphQLError | null;
}

/** What is known of an operation before it runs. */
export interface OperationShape {
  readonly cost: Cost;
  readonly defaults: Readonly<Record<string, ValueNode>>;
  /** Made once, unless sizes of pages come in variables. */
  readonly estimate: Estimate | null;
}

type Variables = Readonly<Record<string, unknown>>;
type Defaults = OperationShape['defaults'];

const usesVariables = ({ pages }: Cost): boolean =>
  pages.some(
    ({ size, row }) =>
      (typeof size !== 'number' &&
        [size.first, size.last, size.offset].some((value) => value?.kind === Kind.VARIABLE)) ||
      usesVariables(row),
  );

export function shapeOf(cost: Cost, defaults: Defaults): OperationShape {
  const shape = { cost, defaults, estimate: null };
  return usesVariables(cost) ? shape : { ...shape, estimate: estimate(shape, {}) };
}

function numberOf(value: ValueNode | undefined, defaults: Defaults, variables: Variables): number | null {
  if (value?.kind === Kind.INT) return Number(value.value);
  if (value?.kind !== Kind.VARIABLE) return null;
  const name = value.name.value;
  const given = variables[name];
  if (given === undefined) return name in defaults ? numberOf(defaults[name], {}, {}) : null;
  return typeof given === 'number' ? given : null;
}

/** Works the cost out once the variables are known. */
export function estimate({ cost, defaults, estimate }: OperationShape, variables: Variables): Estimate {
  if (estimate !== null) return estimate;
  let refusal: GraphQLError | null = null;
  const sizeOf = (size: Page['size']): number => {
    if (typeof size === 'number') return size;
    const asked = numberOf(size.first, defaults, variables) ?? numberOf(size.last, defaults, variables) ?? LIMITS.page;
    if (asked > LIMITS.page) refusal ??= limitError(`a page has at most ${LIMITS.page} rows`, 'page');
    if ((numberOf(size.offset, defaults, variables) ?? 0) > LIMITS.offset) {
      refusal ??= limitError(`an offset is at most ${LIMITS.offset}; please use a cursor`, 'offset');
    }
    return Math.max(1, asked);
  };
  const total = ({ own, pages }: Cost): number =>
    pages.reduce((costs, { size, row }) => costs + sizeOf(size) * total(row), own);
  const asked = total(cost);
  if (asked > LIMITS.cost)
    refusal ??= limitError(`it may come to ${asked} values, and the most is ${LIMITS.cost}`, 'cost');
  return { cost: asked, refusal };
}
