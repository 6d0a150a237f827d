// Browsers of other origins: who may read our answers, decided by @fastify/cors for routes and told by hand before them.

import cors from '@fastify/cors'
import type { App } from './app.ts'
import { headers } from './protocol.ts'

/** Whole origins, as browsers send them: `https://app.example.com`. None: no page of another origin reads anything. */
export type Origins = readonly string[]

const exposed = [...Object.values(headers), 'ETag', 'Retry-After', 'Server-Timing'].filter(
  (name) => !/^(Trivet-(Timeout|Session)|Idempotency-Key)$/.test(name),
)

const allowed = [
  'Accept',
  'Authorization',
  'Content-Type',
  'If-Match',
  'If-None-Match',
  'Last-Event-ID',
  'traceparent',
  headers.idempotencyKey,
  headers.session,
  headers.timeout,
]

/** How long a browser may remember a preflight, in seconds. */
const maxAge = 600

/** Answers preflights, without a token, and tells browsers what they may read. Comes before every other hook. */
export function addCors(app: App, origins: Origins): void {
  if (origins.length === 0) return
  app.register(cors, {
    origin: (origin, done) => done(null, origin !== undefined && origins.includes(origin) ? origin : false),
    methods: ['GET', 'HEAD', 'PUT', 'POST', 'DELETE'],
    allowedHeaders: allowed,
    exposedHeaders: exposed,
    credentials: false,
    strictPreflight: false,
    maxAge,
  })
}

/** The same for an answer to what never came to a route. */
export function corsHeaders(
  origins: Origins,
  origin: string | undefined,
): readonly (readonly [string, string])[] {
  if (origins.length === 0) return []
  if (origin === undefined || !origins.includes(origin)) return [['Vary', 'Origin']]
  return [
    ['Vary', 'Origin'],
    ['Access-Control-Allow-Origin', origin],
    ['Access-Control-Expose-Headers', exposed.join(', ')],
  ]
}
