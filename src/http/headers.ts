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

export function setSecurityHeaders(response: ServerResponse, isHttps: boolean): void {
  for (const [name, value] of EVERYWHERE) response.setHeader(name, value);
  if (isHttps) response.setHeader('Strict-Transport-Security', HSTS);
}

export function allowRuru(response: ServerResponse): void {
  response.setHeader('Content-Security-Policy', RURU_POLICY);
}
