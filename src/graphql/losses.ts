import type pg from 'pg';

/**
 * Why connections cannot be used any more. Each is listened to from its first moment on: one that is lost in the very
 * packet that completed its start would otherwise be an error that nobody handles, and end the process.
 */
export class Losses {
  readonly #watched = new WeakSet<pg.ClientBase>();
  readonly #losses = new WeakMap<pg.ClientBase, Error>();

  watch(client: pg.ClientBase): void {
    if (this.#watched.has(client)) return;
    this.#watched.add(client);
    client.on('error', (error) => this.note(client, error));
  }

  /** The first reason stays. */
  note(client: pg.ClientBase, error: Error): void {
    if (!this.#losses.has(client)) this.#losses.set(client, error);
  }

  of(client: pg.ClientBase): Error | undefined {
    return this.#losses.get(client);
  }
}
