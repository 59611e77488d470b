/**
 * The one error that is thrown on purpose. `code` is a SQLSTATE of the register (platform.errors), so that errors of
 * PostgreSQL and our own are told apart and shown in the same way.
 */
export class AppError extends Error {
  readonly code: string;
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'AppError';
    this.code = code;
  }
}
