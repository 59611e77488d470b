import type { ServerResponse } from 'node:http';

/** Headers of every answer. None of them may be missing from an error either, so they are set before anything is looked at. */
const EVERYWHERE: readonly (readonly [string, string])[] = [
  ['Cache-Control', 'no-store'],
  ['Content-Security-Policy', "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"],
  ['Cross-Origin-Opener-Policy', 'same-origin'],
  ['Cross-Origin-Resource-Policy', 'same-origin'],
  ['Origin-Agent-Cluster', '?1'],
  ['Referrer-Policy', 'no-referrer'],
  ['X-Content-Type-Options', 'nosniff'],
  ['X-Frame-Options', 'DENY'],
  ['X-Permitted-Cross-Domain-Policies', 'none'],
];

/** Two years, as the preload lists ask; only where the public address is https, or it would lock out plain development. */
const HSTS = 'max-age=63072000; includeSubDomains';

/** Ruru brings inline scripts and workers of its own. Development only. */
const RURU_POLICY =
  "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; " +
  "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self'; frame-ancestors 'none'";

const listed = (isHttps: boolean): readonly (readonly [string, string])[] =>
  isHttps ? [...EVERYWHERE, ['Strict-Transport-Security', HSTS]] : EVERYWHERE;

export function setSecurityHeaders(response: ServerResponse, isHttps: boolean): void {
  for (const [name, value] of listed(isHttps)) response.setHeader(name, value);
}

/** The same as names and values in turn, which Node writes as they are. */
export const rawSecurityHeaders = (isHttps: boolean): readonly string[] => listed(isHttps).flat();

export function allowRuru(response: ServerResponse): void {
  response.setHeader('Content-Security-Policy', RURU_POLICY);
}
