import {
  PgClassExpressionStep,
  type PgCodec,
  PgDeleteSingleStep,
  PgInsertSingleStep,
  PgSelectSingleStep,
  PgUpdateSingleStep,
  pgClassExpression,
  TYPES,
} from 'postgraphile/@dataplan/pg';
import { context, type ExecutionExtra, type Step, UnbatchedStep } from 'postgraphile/grafast';
import { type SQL, sql } from 'postgraphile/pg-sql2';
import type { SafetyPinContext } from './context.ts';
import { type Opened, refusalOf, type SealedColumns } from './sealed-columns.ts';
import type { Door } from './sealed-doors.ts';

/** What a cell begins with that holds plain text: the column is being sealed, and the job has not come to this row. */
const PLAIN = '=';
/** What stands in a cell whose value the asker may not read, where the column says that this is an error. */
const REFUSED = '!';

/** What a row holds where a sealed value is: its token, or what has come of it. */
type Cell = string | Opened | null;

/** Hands on what the rows have by then, which is no text any more. */
const CELL = { ...TYPES.text, name: 'sealed_cell', fromPg: (cell: unknown) => cell } as unknown as typeof TYPES.text;

/** Finds what was opened for a cell. */
class OpenedStep extends UnbatchedStep {
  static override $$export = { moduleName: 'safetypin', exportName: 'OpenedStep' };
  // It throws what the value's problem is.
  override isSyncAndSafe = false;
  readonly #fromPg: PgCodec['fromPg'];

  constructor($cell: Step<Cell>, fromPg: PgCodec['fromPg']) {
    super();
    this.#fromPg = fromPg;
    this.addDependency($cell);
    this.addDependency(context().get('safetypin') as Step<SafetyPinContext>);
  }

  override unbatchedExecute(_extra: ExecutionExtra, cell: Cell, { opened }: SafetyPinContext): unknown {
    if (cell === null || cell === undefined) return null;
    let found: Opened | undefined;
    if (typeof cell === 'string') {
      if (cell.startsWith(PLAIN)) return this.#fromPg(cell.slice(PLAIN.length));
      if (cell === REFUSED) throw refusalOf('DENYD');
      found = opened.get(cell);
    } else found = cell;
    if (found === undefined) throw new Error('a sealed value was not opened');
    if ('problem' in found) throw found.problem;
    return found.value === null ? null : this.#fromPg(found.value);
  }
}

function aliasOf($row: Step): SQL {
  if ($row instanceof PgSelectSingleStep) return $row.getClassStep().alias;
  if ($row instanceof PgInsertSingleStep || $row instanceof PgUpdateSingleStep || $row instanceof PgDeleteSingleStep)
    return $row.alias;
  if ($row instanceof PgClassExpressionStep) return sql.parens($row.expression, true);
  throw new Error(`no sealed values in ${$row}`);
}

/** The text of a value of the codec, as PostGraphile selects it. */
export const textOf = (codec: PgCodec, value: SQL): SQL => {
  const typed = codec === TYPES.text ? value : sql`(${value})::${codec.sqlType}`;
  return codec.castFromPg?.(typed) ?? sql`(${typed})::text`;
};

/** The SQL of a cell: a token for what is sealed, plain text for what is not yet, a mark for what is refused. */
function cellOf(door: Door, codec: PgCodec, row: SQL, mark: string): SQL {
  const column = (name: string): SQL => sql`${row}.${sql.identifier(name)}`;
  const parts = door.row_keys.map(({ name, schema, send }) => sql`${sql.identifier(schema, send)}(${column(name)})`);
  const id = door.row_id === null ? sql`keyring.row_key(${sql.join(parts, ', ')})` : column(door.row_id);
  const token = sql`${sql.literal(`${mark}${door.id}:`)} || ${id} || ':' || encode(${column(door.sealed)}, 'hex')`;
  const plain = sql`${sql.literal(PLAIN)} || ${textOf(codec, column(door.door))}`;
  const refused = door.refusal === 'error' ? sql.literal(REFUSED) : sql.null;
  const allowed = (what: SQL): SQL =>
    door.permission === null
      ? what
      : sql`case when (select request.can(${sql.literal(door.permission)})) then ${what} else ${refused} end`;
  // Without the error there is nothing to ask beforehand: opening asks by itself.
  const sealed = door.refusal === 'error' ? allowed(token) : token;
  return sql`case when ${column(door.sealed)} is not null then ${sealed} when ${column(door.door)} is not null then ${allowed(plain)} end`;
}

/** The plan of a sealed column's field. */
export function openedOf($row: Step, door: Door, codec: PgCodec, columns: SealedColumns): Step {
  const $parent = $row instanceof PgClassExpressionStep ? $row.getParentStep() : $row;
  const cell = pgClassExpression($parent as PgSelectSingleStep, CELL);
  return new OpenedStep(
    cell`${cellOf(door, codec, aliasOf($row), columns.mark)}` as unknown as Step<Cell>,
    codec.fromPg,
  );
}
