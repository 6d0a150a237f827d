// Tells watchers of one node what happens to keys: first from the history on the disk, then as it is applied.
//
// A stream that comes back reads the history as of one LevelDB snapshot. Once that is near enough to now, it is put
// among those who are told before the snapshot is taken: whatever the snapshot has not got is then in its outbox, and what both
// have is dropped from there. So nothing is left out between the two, and nothing told twice.

import { TrivetError } from '../errors.ts'
import { permits } from '../store/grants.ts'
import { placeOf } from '../store/places.ts'
import type { ChangeEvent, Position } from '../store/state-changes.ts'
import type { StateMachine } from '../store/state-machine.ts'
import type { ConsistentRead, Item } from '../store/types.ts'
import type { QueueLevel, WatchEnd, WatchEvent, WatchQuery, WatchStream } from './surface.ts'
import { type WatchedRange, WatchFilter } from './watch-filter.ts'
import { WatchIndex } from './watch-index.ts'
import { Watcher } from './watcher.ts'

/** What is watched. */
export type WatchedState = Pick<
  StateMachine,
  'revision' | 'token' | 'store' | 'follow' | 'openHistory' | 'openRead'
>

export type WatchHubOptions = {
  /** Milliseconds, monotonic. */
  readonly now: () => number
  /** What may wait for one slow reader, in bytes; 4 MiB unless given. */
  readonly outboxBytes?: number
  /** How many streams there may be at a time; 20,000 unless given. */
  readonly maxWatchers?: number
}

/** A stream that is not more revisions behind is told of changes while it reads the rest of the history. */
const nearRevisions = 10_000

/** How often a stream is told how far it has come: a tick less than the 5 s that are promised. */
const progressMs = 4000

/** How long a node without a leader vouches for the tokens of its streams (`safety.md`, rule 20). */
const leaderlessMs = 10_000

/** How long one LevelDB snapshot is read from at most: it keeps what it shows on the disk. */
const readingMs = 600_000

/** What is read of a snapshot at once. */
const pageKeys = 1000
const pageBytes = 1024 * 1024

/** The most keys and prefixes that one stream may name. */
const maxRanges = 64

/** Ends a stream from within. */
class Ended extends Error {
  readonly end: WatchEnd

  constructor(end: WatchEnd) {
    super(end.type)
    this.end = end
  }
}

export class WatchHub {
  readonly #now: () => number
  readonly #outboxBytes: number
  readonly #maxWatchers: number
  readonly #watchers = new Set<Watcher>()
  readonly #index = new WatchIndex<Watcher>()
  #state: WatchedState | undefined
  #unfollow: () => void = () => undefined
  #leaderSeen: number
  #closed = false

  constructor({ now, outboxBytes = 4 * 1024 * 1024, maxWatchers = 20_000 }: WatchHubOptions) {
    this.#now = now
    this.#outboxBytes = outboxBytes
    this.#maxWatchers = maxWatchers
    this.#leaderSeen = now()
  }

  /** How many streams there are. */
  get size(): number {
    return this.#watchers.size
  }

  /** The streams, and the fullest outbox of any. */
  get queues(): readonly QueueLevel[] {
    const waiting = [...this.#watchers].reduce((most, { waitingBytes }) => Math.max(most, waitingBytes), 0)
    return [
      { queue: 'watchers', unit: 'requests', size: this.#watchers.size, bound: this.#maxWatchers },
      { queue: 'watch outbox', unit: 'bytes', size: waiting, bound: this.#outboxBytes },
    ]
  }

  /** From now on this state is watched, or none. The streams of the one before end: they go on elsewhere, or anew. */
  show(state: WatchedState | undefined): void {
    if (state === this.#state) return
    this.#unfollow()
    this.#endAll({ type: 'closing' })
    this.#state = state
    this.#unfollow =
      state?.follow({
        changed: (events) => this.#changed(events),
        authorityChanged: () => this.#judgeAll(),
      }) ?? (() => undefined)
  }

  /** See `NodeSurface.watch`. */
  watch(query: WatchQuery, { signal }: { readonly signal?: AbortSignal | undefined } = {}): WatchStream {
    const state = this.#ready()
    const { start, prefixes, keys } = query
    const store = this.#admit(state, query)
    if (prefixes.length + keys.length > maxRanges) {
      throw new TrivetError('invalid-request', `A watch names at most ${maxRanges} keys and prefixes`, {
        field: prefixes.length > 0 ? 'prefix' : 'key',
        limit: maxRanges,
        actual: prefixes.length + keys.length,
      })
    }
    if (start.type === 'after' && start.position.revision > state.revision) {
      const { revision } = start.position
      throw new TrivetError(
        'invalid-request',
        `The revision ${revision} is still to come: the last one is ${state.revision}`,
        { field: 'from', limit: state.revision, actual: revision },
      )
    }
    const watcher = new Watcher(query, { ...store, outboxBytes: this.#outboxBytes })
    const from = start.type === 'after' ? start.position : { revision: state.revision }
    return {
      [Symbol.asyncIterator]: () => this.#stream(watcher, state, from, signal),
      close: () => watcher.end({ type: 'closing' }),
    }
  }

  /** To be called about every second. */
  tick({ hasLeader }: { readonly hasLeader: boolean }): void {
    const now = this.#now()
    if (hasLeader) this.#leaderSeen = now
    if (now - this.#leaderSeen >= leaderlessMs) this.#endAll({ type: 'closing' })
    const revision = this.#state?.revision ?? 0
    for (const watcher of this.#watchers) {
      if (watcher.progressAt === undefined || watcher.progressAt > now) continue
      watcher.progressAt = now + progressMs
      watcher.progress(revision)
    }
  }

  /** Ends every stream; none begins any more. */
  close(): void {
    this.#closed = true
    this.show(undefined)
  }

  #ready(): WatchedState {
    if (this.#closed) throw new TrivetError('shutting-down', 'This node is stopping')
    if (this.#state === undefined) throw new TrivetError('not-ready', 'This node has no state to watch yet')
    const limit = this.#maxWatchers
    if (this.#watchers.size < limit) return this.#state
    throw new TrivetError('overloaded', `${limit} streams are open on this node already`, {
      field: 'watchers',
      limit,
      actual: limit + 1,
    })
  }

  // ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────

  #admit(state: WatchedState, query: WatchQuery): { readonly store: number; readonly filter: WatchFilter } {
    const token = state.token(query.token)
    if (token === undefined) {
      throw new TrivetError('unauthenticated', 'This token is not valid, or not any more')
    }
    if (!isPermitted(state, query)) {
      throw new TrivetError(
        'access-denied',
        `The token ${token.name} has no grant to read all of this in the store ${query.store}`,
      )
    }
    const place = placeOf(token.principal, query.store)
    const status = state.store(place)
    if (status === undefined) throw new TrivetError('no-such-store', `There is no store ${query.store}`)
    const prefix = typeof place === 'string' ? new Uint8Array() : place.prefix
    return { store: status.number, filter: new WatchFilter(prefix, query) }
  }

  #judgeAll(): void {
    const state = this.#state
    if (state === undefined) return
    for (const watcher of this.#watchers) {
      const end = judge(state, watcher)
      if (end !== undefined) watcher.end(end)
    }
  }

  // ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────

  #changed(events: readonly ChangeEvent[]): void {
    for (const event of events) {
      if (!this.#index.has(event.store)) continue
      this.#index.find(event.store, nameOf(event.key), (watcher) => watcher.tell(event))
    }
  }

  #endAll(end: WatchEnd): void {
    for (const watcher of this.#watchers) watcher.end(end)
  }

  // ── one stream ───────────────────────────────────────────────────────────────────────────────────────────────

  async *#stream(
    watcher: Watcher,
    state: WatchedState,
    from: Position,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<readonly WatchEvent[], void> {
    const abort = () => watcher.end('gone')
    signal?.addEventListener('abort', abort, { once: true })
    if (signal?.aborted === true) abort()
    this.#watchers.add(watcher)
    // Between the question and the first event asked for, all may have changed.
    if (this.#state !== state) watcher.end({ type: 'closing' })
    const end = judge(state, watcher)
    if (end !== undefined) watcher.end(end)
    try {
      const isNow = yield* this.#toNow(watcher, state, from)
      while (watcher.ended === undefined) {
        const events = await watcher.take()
        if (events.length > 0) yield events
      }
      // What waits follows upon all before it, or is not told at all.
      const rest = isNow ? await watcher.take() : []
      if (watcher.ended !== 'gone') yield [...rest, watcher.ended]
    } finally {
      signal?.removeEventListener('abort', abort)
      watcher.end('gone')
      this.#watchers.delete(watcher)
      this.#index.remove(watcher)
    }
  }

  /** Everything up to the moment from which on the watcher is told of changes as they happen. False when it is over before. */
  async *#toNow(
    watcher: Watcher,
    state: WatchedState,
    from: Position,
  ): AsyncGenerator<readonly WatchEvent[], boolean> {
    try {
      let position = from
      if (watcher.query.start.type === 'snapshot') position = yield* this.#snapshot(watcher, state)
      position = yield* this.#catchUp(watcher, state, position)
      if (watcher.ended !== undefined) return false
      watcher.skipThrough(position.revision)
      watcher.progressAt = this.#now() + progressMs
      yield [progressOf(position.revision)]
      return true
    } catch (error) {
      if (error instanceof Ended) watcher.end(error.end)
      // A state that was closed under the reader: whoever took it away has ended the stream.
      else if (watcher.ended === undefined) throw error
      return false
    }
  }

  async *#snapshot(watcher: Watcher, state: WatchedState): AsyncGenerator<readonly WatchEvent[], Position> {
    const read = await state.openRead()
    const until = this.#now() + readingMs
    try {
      for (const range of watcher.filter.ranges) {
        for await (const items of itemsOf(read, watcher, placeIn(state, watcher), range)) {
          if (watcher.ended !== undefined) return { revision: read.revision }
          if (this.#now() >= until) throw new Ended({ type: 'lagged' })
          if (items.length > 0) yield items.map((item) => standing(item, watcher.query.values))
        }
      }
    } finally {
      await read.close()
    }
    yield [progressOf(read.revision)]
    return { revision: read.revision }
  }

  /** Reads the history, again and again while it is far from now. Returns what it has come to. */
  async *#catchUp(
    watcher: Watcher,
    state: WatchedState,
    from: Position,
  ): AsyncGenerator<readonly WatchEvent[], Position> {
    let position = from
    for (let isTold = false; !isTold && watcher.ended === undefined; ) {
      isTold = state.revision - position.revision <= nearRevisions
      if (isTold) this.#index.add(watcher)
      if (position.n === undefined && position.revision >= state.revision) break
      const history = await state.openHistory()
      try {
        const { revision, n } = position
        const isKept = n === undefined ? revision >= history.since : revision > history.since
        // What was kept at the start may go while it is read too slowly.
        if (!isKept)
          throw new Ended(
            position === from ? { type: 'compacted', oldest: history.since } : { type: 'lagged' },
          )
        yield* this.#told(watcher, history.pages(queryOf(watcher, position)))
        position = { revision: history.through }
      } finally {
        await history.close()
      }
    }
    return position
  }

  async *#told(
    watcher: Watcher,
    pages: ReturnType<Awaited<ReturnType<WatchedState['openHistory']>>['pages']>,
  ): AsyncGenerator<readonly WatchEvent[], void> {
    const until = this.#now() + readingMs
    let progressAt = this.#now() + progressMs
    for await (const { events, through } of pages) {
      if (watcher.ended !== undefined) return
      const now = this.#now()
      if (now >= until) throw new Ended({ type: 'lagged' })
      const isDue = now >= progressAt
      if (isDue) progressAt = now + progressMs
      const told = events.map((event) => watcher.eventOf(event))
      if (told.length > 0 || isDue) yield isDue ? [...told, progressOf(through)] : told
    }
  }
}

function queryOf(watcher: Watcher, after: Position) {
  const { filter, store, query } = watcher
  return { after, store, values: query.values, matches: (key: Uint8Array) => filter.matches(nameOf(key)) }
}

/** Why a stream must end, if it must. */
function judge(state: WatchedState, { query, store }: Watcher): WatchEnd | undefined {
  const token = state.token(query.token)
  if (token === undefined || !isPermitted(state, query)) return { type: 'revoked' }
  const status = state.store(placeOf(token.principal, query.store))
  return status?.number === store ? undefined : { type: 'store-dropped' }
}

function isPermitted(state: WatchedState, { token: hash, store, prefixes, keys }: WatchQuery): boolean {
  const token = state.token(hash)
  if (token === undefined) return false
  const all = [...prefixes, ...keys]
  return (all.length === 0 ? [new Uint8Array()] : all).every((within) =>
    permits(token.principal, { store, access: 'read', within }),
  )
}

function placeIn(state: WatchedState, { query }: Watcher) {
  const token = state.token(query.token)
  if (token === undefined) throw new Ended({ type: 'revoked' })
  return placeOf(token.principal, query.store)
}

async function* itemsOf(
  read: ConsistentRead,
  watcher: Watcher,
  store: ReturnType<typeof placeOf>,
  { type, bytes }: WatchedRange,
): AsyncGenerator<readonly Item[], void> {
  const range =
    type === 'prefix' ? { prefix: bytes } : { start: bytes, end: Buffer.concat([bytes, Buffer.of(0)]) }
  let after: Uint8Array | undefined
  while (watcher.ended === undefined) {
    const page = await read.list({ store, ...range, after, limit: pageKeys, maxBytes: pageBytes })
    yield page.items
    after = page.items.at(-1)?.key
    if (!page.more) return
  }
}

function standing({ key, revision, contentType, expires, value }: Item, values: boolean): WatchEvent {
  const record = { contentType, expires, value: values ? value : undefined }
  return { type: 'set', id: undefined, key, revision, record, last: false }
}

function progressOf(revision: number): WatchEvent {
  return { type: 'progress', id: { revision }, revision }
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1')
}
