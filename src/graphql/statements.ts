import type pg from 'pg';

/** What of a pg connection is needed to forget a statement; pg has no public door for it. */
interface Wire {
  readonly parsedStatements: Record<string, unknown>;
  readonly submittedNamedStatements: Record<string, unknown>;
  close(message: { type: 'S'; name: string }): void;
}

const wireOf = (client: pg.ClientBase): Wire => (client as unknown as { connection: Wire }).connection;

/**
 * Names of prepared statements, least recently used first, one list per connection.
 * Forgetting one sends the protocol's Close ahead of the next query: no round trip, and no transaction it could fail in
 * (`deallocate` is refused in an aborted one).
 */
export class StatementNames {
  readonly #limit: number;
  readonly #used = new WeakMap<pg.ClientBase, Map<string, true>>();

  /** `limit` 0 turns names off: through a transaction pooler a name may belong to somebody else's statement. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Returns the name to send, or undefined if the statement must stay unnamed. Call it right before sending. */
  use(client: pg.ClientBase, name: string | undefined): string | undefined {
    if (name === undefined || this.#limit === 0) return undefined;
    let used = this.#used.get(client);
    if (used === undefined) {
      used = new Map();
      this.#used.set(client, used);
    }
    if (used.delete(name)) {
      used.set(name, true);
      return name;
    }
    used.set(name, true);
    if (used.size > this.#limit) this.#forgetOldest(client, used);
    return name;
  }

  #forgetOldest(client: pg.ClientBase, used: Map<string, true>): void {
    const wire = wireOf(client);
    for (const name of used.keys()) {
      // One still on its way would be registered again when its answer arrives.
      if (name in wire.submittedNamedStatements) continue;
      used.delete(name);
      if (name in wire.parsedStatements) {
        delete wire.parsedStatements[name];
        wire.close({ type: 'S', name });
      }
      return;
    }
  }
}
