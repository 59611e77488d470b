import type { Response } from 'express';
import { retryAfterOf, type SafeFault } from '../platform/errors.ts';

/** Names of input fields, and what is wrong with each. */
export type FieldReasons = Readonly<Record<string, readonly string[]>>;

/** Body of every answer of the REST door. */
export interface RestAnswer {
  readonly success: boolean;
  readonly data: unknown;
  /** A sentence for people, or null. */
  readonly error: string | null;
  readonly meta: { readonly code: string; readonly requestId: string; readonly fields: FieldReasons };
}

export function sendData(response: Response, requestId: string, data: unknown): void {
  const body: RestAnswer = { success: true, data, error: null, meta: { code: 'OK', requestId, fields: {} } };
  response.status(200).json(body);
}

export interface Refusal extends Pick<SafeFault, 'code' | 'status' | 'message'> {
  readonly data?: unknown;
  readonly fields?: FieldReasons;
}

export function sendRefusal(response: Response, requestId: string, refusal: Refusal): void {
  const { code, status, message, data = null, fields = {} } = refusal;
  response.locals.code = code;
  const retryAfter = retryAfterOf(code);
  if (retryAfter !== undefined) response.setHeader('Retry-After', retryAfter);
  const body: RestAnswer = { success: false, data, error: message, meta: { code, requestId, fields } };
  response.status(status).json(body);
}
