// A watch on the node in this very process: its streams one after another, each where the last one ended.

import { TrivetError } from '../errors.ts'
import type {
  WatchEvent as NodeEvent,
  NodeSurface,
  WatchEnd,
  WatchStart,
  WatchStream,
} from '../node/surface.ts'
import { sleep } from '../sdk/sleep.ts'
import type { WatchEvent, WatchOptions } from '../sdk/types.ts'
import { formatPosition, type Position, parsePosition } from '../sdk/watch-position.ts'
import { entryOf } from './commands.ts'

/** How long to wait before asking again a node that could not go on: it stops, or has no leader. */
const pauseMs = 250

export type WatchTask = {
  /** The hash of the token that watches. */
  readonly token: string
  readonly store: string
  readonly options: WatchOptions
  /** Resolves once what the node shows reflects every write acknowledged before. */
  readonly ready: () => Promise<void>
}

/** See `Store.watch`. */
export async function* watchNode(
  node: NodeSurface,
  { token, store, options, ready }: WatchTask,
): AsyncGenerator<WatchEvent, void, undefined> {
  const { prefix = [], key = [], from, snapshot, signal } = options
  const encoder = new TextEncoder()
  const wanted = {
    token,
    store,
    prefixes: [prefix].flat().map((text) => encoder.encode(text)),
    keys: [key].flat().map((text) => encoder.encode(text)),
    values: true,
  }
  let start: WatchStart = snapshot === true ? { type: 'snapshot' } : { type: 'now' }
  if (from !== undefined) start = { type: 'after', position: parsePosition(String(from)) }
  let begun = false
  for (;;) {
    let stream: WatchStream
    let position: Position
    try {
      await ready()
      // Where one that starts now would go on if it ended before its first event.
      position = { revision: node.state.revision }
      stream = node.watch({ ...wanted, start }, { signal })
    } catch (error) {
      if (!begun || !passes(error)) throw error
      await sleep(pauseMs, signal)
      continue
    }
    begun = true
    if (start.type === 'now') start = { type: 'after', position }
    let end: WatchEnd | undefined
    let halfway = start.type === 'snapshot'
    try {
      for await (const events of stream) {
        for (const event of events) {
          if (isEnd(event)) {
            end = event
            break
          }
          if (event.id !== undefined) {
            start = { type: 'after', position: event.id }
            halfway = false
          }
          yield told(event)
        }
      }
    } finally {
      stream.close()
    }
    signal?.throwIfAborted()
    if (end?.type === 'revoked')
      throw new TrivetError('unauthenticated', 'The token of this watch is not valid any more')
    if (end?.type === 'store-dropped')
      throw new TrivetError('no-such-store', `The store ${store} was dropped`)
    if (end?.type === 'compacted') start = { type: 'snapshot' }
    if (end?.type === 'compacted' || halfway) yield { type: 'reset' }
    if (end === undefined || end.type === 'closing') await sleep(pauseMs, signal)
  }
}

/** Whether a watch that has begun outlasts it: a time without a leader, for one. A node that stops does not come back. */
function passes(error: unknown): boolean {
  return error instanceof TrivetError && error.retryable && error.code !== 'shutting-down'
}

function isEnd(event: NodeEvent): event is WatchEnd {
  return !(
    event.type === 'set' ||
    event.type === 'delete' ||
    event.type === 'expire' ||
    event.type === 'progress'
  )
}

function told(event: Exclude<NodeEvent, WatchEnd>): WatchEvent {
  if (event.type === 'progress')
    return { type: 'progress', revision: event.revision, id: formatPosition(event.id) }
  const { revision } = event
  const key = new TextDecoder().decode(event.key)
  if (event.type !== 'set') return { type: event.type, key, revision, id: formatPosition(event.id) }
  const { value, contentType, expires } = event.record
  if (value === undefined) throw new Error('a watch with values came without them')
  const item = { key: event.key, value, contentType, expires, revision, createdRevision: revision }
  const id = event.id === undefined ? {} : { id: formatPosition(event.id) }
  return { type: 'set', ...entryOf(key, item), ...id }
}
