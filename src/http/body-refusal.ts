/** A body that is refused before anybody looks at what it asks for. Its message is made to be shown. */
export class BodyRefusal extends Error {
  override readonly name = 'BodyRefusal';
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}
