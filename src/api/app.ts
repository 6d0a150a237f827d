// What the routes share: the Fastify instance they are added to, what they may use, and how they tell of revision and timing.

import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyReply,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify'
import type { NodeSurface, WriteTiming } from '../node/surface.ts'
import type { AnswerRoom } from './answer-room.ts'
import type { Logger } from './answers.ts'
import type { BodyReader } from './body.ts'
import type { Gate } from './gate.ts'
import type { KeyLane } from './key-lane.ts'
import type { KeyStreamBounds } from './key-streams.ts'
import type { Metrics } from './metrics.ts'
import { headers } from './protocol.ts'
import type { Streams } from './streams.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The handler reads the body itself, after every check that needs none. */
    readsBody?: true
  }
}

export type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>

export type ApiLimits = {
  /** The longest key, in bytes. */
  readonly keyBytes: number
  /** The largest value of a store that sets no limit of its own, in bytes. */
  readonly valueBytes: number
  /** The largest body of a batch or transaction, in bytes; 8 MiB unless given. */
  readonly bodyBytes?: number
}

/** What a route may use. */
export type RouteContext = {
  readonly node: NodeSurface
  readonly gate: Gate
  readonly bodies: BodyReader
  /** What answers reads and sets of one key. */
  readonly lane: KeyLane
  /** What answers being made and sent hold, for those that may hold much. */
  readonly room: AnswerRoom
  readonly metrics: Metrics
  readonly limits: ApiLimits
  readonly logger: Logger
  readonly keyStreams: KeyStreamBounds | undefined
  readonly streams: Streams
  /** True from the moment the server was told to drain. */
  readonly draining: () => boolean
}

/** Says which state an answer was made at, where that is not simply the one of now. */
export function setRevision(reply: FastifyReply, revision: number): void {
  reply.header(headers.revision, String(revision))
}

/** Tells where the time of a write went. */
export function setTiming(reply: FastifyReply, timing: WriteTiming): void {
  reply.header('Server-Timing', timingText(timing))
}

/** The same, for an answer that goes out on Node's own objects. */
export function timingText(timing: WriteTiming): string {
  return (
    `forward;dur=${milliseconds(timing.forward)}, queue;dur=${milliseconds(timing.queue)}, ` +
    `fsync;dur=${milliseconds(timing.fsync)}, quorum;dur=${milliseconds(timing.quorum)}, ` +
    `apply;dur=${milliseconds(timing.apply)}`
  )
}

function milliseconds(duration: number): number {
  return Math.round(duration * 1000) / 1000
}
