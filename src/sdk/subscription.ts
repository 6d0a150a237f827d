// One watch: which keys it is about, how far it has been told, and what waits for its reader.

import type { WatchEvent, WatchOptions } from './types.ts'
import { isAfter, type Position, parsePosition } from './watch-position.ts'

/** What may wait for a reader, in bytes of keys and values. */
const queueBytes = 4 * 1024 * 1024

/** The most prefixes and keys of one stream. */
export const mostFilters = 64

/** Which keys: all of them when it names none. */
export class Filter {
  readonly #prefixes: ReadonlySet<string>
  readonly #keys: ReadonlySet<string>

  constructor(prefixes: Iterable<string>, keys: Iterable<string>) {
    this.#prefixes = new Set(prefixes)
    this.#keys = new Set(keys)
  }

  get isAll(): boolean {
    return (this.#prefixes.size === 0 && this.#keys.size === 0) || this.#prefixes.has('')
  }

  get parameters(): readonly (readonly [name: 'prefix' | 'key', value: string])[] {
    if (this.isAll) return []
    const prefixes = Array.from(this.#prefixes, (prefix) => ['prefix', prefix] as const)
    return [...prefixes, ...Array.from(this.#keys, (key) => ['key', key] as const)]
  }

  matches(key: string): boolean {
    if (this.isAll || this.#keys.has(key)) return true
    for (const prefix of this.#prefixes) if (key.startsWith(prefix)) return true
    return false
  }

  includes(other: Filter): boolean {
    if (this.isAll) return true
    if (other.isAll) return false
    return other.parameters.every(([name, value]) =>
      name === 'key' ? this.matches(value) : [...this.#prefixes].some((prefix) => value.startsWith(prefix)),
    )
  }
}

/** What covers all of them; undefined when it names more than a stream may. */
export function union(filters: readonly Filter[]): Filter | undefined {
  if (filters.some(({ isAll }) => isAll)) return new Filter([], [])
  const parameters = filters.flatMap((filter) => filter.parameters)
  const named = (wanted: 'prefix' | 'key'): string[] =>
    parameters.filter(([name]) => name === wanted).map(([, value]) => value)
  const whole = new Filter(named('prefix'), named('key'))
  return whole.parameters.length > mostFilters ? undefined : whole
}

type Waiting = { readonly event: WatchEvent; readonly bytes: number }

export class Subscription {
  readonly filter: Filter
  #position: Position | undefined
  /** Where its next stream begins, unless it has a position: with a snapshot, or now. */
  #start: 'now' | 'snapshot'
  /** Keys of a snapshot have been handed on that is not complete yet. */
  #halfway = false
  readonly #waiting: Waiting[] = []
  #bytes = 0
  #failure: { readonly error: unknown } | undefined
  #parked = false
  #established = false
  #wakeReader: (() => void) | undefined
  #wakeStream: (() => void) | undefined
  #leave: (() => void) | undefined

  constructor({ prefix = [], key = [], from, snapshot }: WatchOptions) {
    this.filter = new Filter([prefix].flat(), [key].flat())
    this.#position = from === undefined ? undefined : parsePosition(String(from))
    this.#start = snapshot === true ? 'snapshot' : 'now'
  }

  /** Everything up to here has been handed on. */
  get position(): Position | undefined {
    return this.#position
  }

  get wantsSnapshot(): boolean {
    return this.#position === undefined && this.#start === 'snapshot'
  }

  get startsNow(): boolean {
    return this.#position === undefined && this.#start === 'now'
  }

  get isFull(): boolean {
    return this.#bytes > queueBytes
  }

  get isDrained(): boolean {
    return this.#waiting.length === 0
  }

  /** A stream for it has been open once. */
  get isEstablished(): boolean {
    return this.#established
  }

  /** It lagged behind, and no stream serves it. */
  get isParked(): boolean {
    return this.#parked
  }

  // ── for the stream ───────────────────────────────────────────────────────────────────────────────────────────

  /** A stream serves it from now on; `leave` is how it is told that nobody reads any more. */
  served(leave: () => void): void {
    this.#parked = false
    this.#leave = leave
  }

  /** A stream begins. What was seen of a snapshot that broke off may be gone by now. */
  begin(): void {
    if (this.#halfway) this.#push({ type: 'reset' }, 0)
    this.#halfway = false
  }

  established(): void {
    this.#established = true
  }

  reached(position: Position): void {
    this.#position = position
  }

  /** Hands on what is new and concerns it. `position`: of the event, undefined within a snapshot. */
  take(event: WatchEvent, position: Position | undefined): void {
    if (position !== undefined) {
      if (this.#position !== undefined && !isAfter(position, this.#position)) {
        // Told before. That everything up to here is told is worth saying to one that has just begun.
        if (event.type !== 'progress' || isAfter(this.#position, position)) return
      }
      this.#position = position
      this.#halfway = false
    }
    if (event.type === 'progress') this.#progress(event)
    else if (event.type === 'reset' || this.filter.matches(event.key)) {
      if (position === undefined) this.#halfway = true
      this.#push(event, bytesOf(event))
    }
  }

  /** What it would have been told next is not kept any more: it begins anew, with a snapshot. */
  reset(): void {
    this.#position = undefined
    this.#start = 'snapshot'
    this.#halfway = false
    this.#push({ type: 'reset' }, 0)
  }

  fail(error: unknown): void {
    this.#failure = { error }
    this.#wakeReader?.()
  }

  park(): void {
    this.#parked = true
    this.#leave = undefined
    this.#wakeReader?.()
  }

  /** Resolves when there is room for more. Rejects with the signal's reason. */
  async room(signal: AbortSignal): Promise<void> {
    while (this.isFull) {
      signal.throwIfAborted()
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const onAbort = (): void => reject(signal.reason)
      this.#wakeStream = resolve
      signal.addEventListener('abort', onAbort, { once: true })
      await promise.finally(() => signal.removeEventListener('abort', onAbort))
    }
  }

  // ── for the reader ───────────────────────────────────────────────────────────────────────────────────────────

  /** The next event. Rejects with what ended the watch, once all before it are taken, or with the signal's reason. */
  async next(signal: AbortSignal | undefined): Promise<WatchEvent> {
    for (;;) {
      signal?.throwIfAborted()
      const waiting = this.#waiting.shift()
      if (waiting !== undefined) {
        this.#bytes -= waiting.bytes
        if (!this.isFull) this.#wakeStream?.()
        return waiting.event
      }
      if (this.#failure !== undefined) throw this.#failure.error
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const onAbort = (): void => reject(signal?.reason)
      this.#wakeReader = resolve
      signal?.addEventListener('abort', onAbort, { once: true })
      await promise.finally(() => signal?.removeEventListener('abort', onAbort))
    }
  }

  leave(): void {
    this.#leave?.()
    this.#leave = undefined
  }

  /** Of several in a row the last says it all. */
  #progress(event: WatchEvent): void {
    if (this.#waiting.at(-1)?.event.type === 'progress') this.#waiting.pop()
    this.#push(event, 0)
  }

  #push(event: WatchEvent, bytes: number): void {
    this.#waiting.push({ event, bytes })
    this.#bytes += bytes
    this.#wakeReader?.()
  }
}

function bytesOf(event: WatchEvent): number {
  switch (event.type) {
    case 'set':
      return 200 + event.key.length + event.value.length
    case 'delete':
    case 'expire':
      return 200 + event.key.length
    default:
      return 0
  }
}
