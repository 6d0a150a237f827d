// One watcher: what waits for whoever reads its stream, within a bound, and why the stream ends.

import { assert } from '../raft/assert.ts'
import type { ChangeEvent } from '../store/state-changes.ts'
import type { WatchEnd, WatchEvent, WatchQuery } from './surface.ts'
import type { WatchFilter } from './watch-filter.ts'

/** About what an event takes of memory besides its key and its value. */
const perEvent = 200

/** A change as a watcher sees it. */
type KeyEvent = Extract<WatchEvent, { readonly key: Uint8Array }>

/** Of each change the event that was made of it, with its value and without, so that watchers share it. */
const made = { plain: new WeakMap<ChangeEvent, KeyEvent>(), valued: new WeakMap<ChangeEvent, KeyEvent>() }

export class Watcher {
  readonly query: WatchQuery
  /** The store's internal number. */
  readonly store: number
  readonly filter: WatchFilter
  readonly #outboxBytes: number
  #outbox: WatchEvent[] = []
  #bytes = 0
  #wake: (() => void) | undefined
  #end: WatchEnd | 'gone' | undefined
  /** When the next `progress` is due; undefined while it is not told of changes as they happen. */
  progressAt: number | undefined

  constructor(
    query: WatchQuery,
    { store, filter, outboxBytes }: { store: number; filter: WatchFilter; outboxBytes: number },
  ) {
    this.query = query
    this.store = store
    this.filter = filter
    this.#outboxBytes = outboxBytes
  }

  /** Why it is over: `gone` when nobody reads it any more. */
  get ended(): WatchEnd | 'gone' | undefined {
    return this.#end
  }

  /** What waits to be taken, in bytes. */
  get waitingBytes(): number {
    return this.#outbox.length === 0 ? 0 : this.#bytes
  }

  /** A change that it watches. */
  tell(change: ChangeEvent): void {
    if (this.#end !== undefined) return
    const event = this.#shared(change)
    const value = event.type === 'set' ? (event.record.value?.length ?? 0) : 0
    this.#put(event, perEvent + event.key.length + value)
  }

  progress(revision: number): void {
    if (this.#end === undefined) this.#put({ type: 'progress', id: { revision }, revision }, perEvent)
  }

  /** What waits up to this revision was told in another way. */
  skipThrough(revision: number): void {
    const isLater = (event: WatchEvent): boolean => !('revision' in event) || event.revision > revision
    this.#outbox = this.#outbox.filter(isLater)
  }

  /** The stream is over behind what waits, or at once where nothing more may be told or was taken in time. */
  end(end: WatchEnd | 'gone'): void {
    if (this.#end !== undefined) return
    this.#end = end
    if (end === 'gone' || end.type === 'lagged' || end.type === 'revoked') this.#outbox = []
    this.#wake?.()
  }

  /** What waits, as soon as something does; nothing when the stream is over. */
  async take(): Promise<readonly WatchEvent[]> {
    while (this.#outbox.length === 0 && this.#end === undefined) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#wake = resolve
      await promise
      this.#wake = undefined
    }
    const events = this.#outbox
    this.#outbox = []
    this.#bytes = 0
    return events
  }

  /** The change as this watcher sees it. */
  eventOf({ type, revision, n, last, key, record }: ChangeEvent): KeyEvent {
    const isOnly = n === 1 && last
    const common = {
      id: isOnly ? { revision } : { revision, n },
      key: key.subarray(this.filter.placeBytes),
      revision,
      last: last && !isOnly,
    }
    if (type !== 'set') return { type, ...common }
    assert(record !== undefined, 'A set has written something')
    const { contentType, expires, value } = record
    return { type, ...common, record: { contentType, expires, value: this.query.values ? value : undefined } }
  }

  #shared(change: ChangeEvent): KeyEvent {
    // Parts of an app's store are seen by few, each its own way.
    if (this.filter.placeBytes > 0) return this.eventOf(change)
    const events = this.query.values ? made.valued : made.plain
    let event = events.get(change)
    if (event === undefined) {
      event = this.eventOf(change)
      events.set(change, event)
    }
    return event
  }

  #put(event: WatchEvent, bytes: number): void {
    this.#outbox.push(event)
    this.#bytes += bytes
    if (this.#bytes > this.#outboxBytes) this.end({ type: 'lagged' })
    else this.#wake?.()
  }
}
