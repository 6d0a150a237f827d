// Reads of what was applied: LevelDB's rows, with those in the overlay before them.

import { TrivetError } from '../errors.ts'
import type { Overlay } from './overlay.ts'
import { nameOf, type Place } from './places.ts'
import type { RowPlace } from './state-changes.ts'
import { itemOf, orAborted, type Part, readPage } from './state-list.ts'
import { decodeExpiry, expiriesUntil } from './state-rows.ts'
import { keyIn, rowPlace } from './state-steps.ts'
import type { StoreTable } from './state-stores.ts'
import { type StateTime, Stretch } from './state-time.ts'
import type { TokenTable } from './state-tokens.ts'
import { readMeta } from './state-verify.ts'
import type { StateLevel } from './state-writer.ts'
import type { ConsistentRead, Due, DueRecord, Item, ListPage, ListQuery } from './types.ts'

type StateReadsOptions = {
  readonly level: StateLevel
  readonly overlay: Pick<Overlay, 'get'>
  readonly stores: StoreTable
  readonly tokens: TokenTable
  /** Resolves when everything applied so far is in LevelDB. */
  readonly flush: () => Promise<void>
  /** Runs a read of LevelDB, and ends the state machine if it comes upon damage. Throws when nothing may be read any more. */
  readonly reading: <T>(read: () => Promise<T>) => Promise<T>
  readonly time: StateTime
}

type ListOptions = { readonly signal?: AbortSignal | undefined }

// A row that takes longer than this came from the disk, or only waited for its turn on a busy processor. Where one in eight of the
// last ones did, rows are for a while read by the threads that may wait for a disk. In milliseconds.
const slowMs = 0.3
const slowShare = 1 / 8
const meanOver = 64
const coldForMs = 200
// So many at a time then.
const coldKeys = 16

export class StateReads {
  readonly #options: StateReadsOptions
  /** Until when a row may have to come from the disk, on the clock of `time`. */
  #coldUntil = Number.NEGATIVE_INFINITY
  /** How many of the rows read lately were slow: from 0 to 1. */
  #slow = 0

  constructor(options: StateReadsOptions) {
    this.#options = options
  }

  async get(place: Place, key: Uint8Array): Promise<Item | undefined> {
    const part = this.#partOf(place)
    if (part === undefined) return undefined
    const { overlay, level, reading, time } = this.#options
    const row = rowPlace(part.store, keyIn(place, key))
    const waiting = overlay.get(row.name)
    return reading(async () => {
      let found: Uint8Array | undefined
      if (waiting !== undefined) found = waiting.value
      else found = time.now() < this.#coldUntil ? await level.get(row.key) : this.#atOnce(row.key)
      return found === undefined ? undefined : itemOf(part, row.key, found)
    })
  }

  async getEach(
    place: Place,
    keys: readonly Uint8Array[],
    found: (item: Item | undefined, at: number) => void,
  ): Promise<void> {
    const part = this.#partOf(place)
    const { overlay, level, reading, time } = this.#options
    if (part === undefined) {
      for (const at of keys.keys()) found(undefined, at)
      return
    }
    const rowOf = (key: Uint8Array): RowPlace => rowPlace(part.store, keyIn(place, key))
    const tell = ({ key }: RowPlace, row: Uint8Array | undefined, at: number): void =>
      found(row === undefined ? undefined : itemOf(part, key, row), at)
    await reading(async () => {
      const stretch = new Stretch(time)
      for (let at = 0; at < keys.length; ) {
        if (stretch.over) await stretch.pause()
        if (time.now() < this.#coldUntil) {
          const rows = keys.slice(at, at + coldKeys).map(rowOf)
          const newest = rows.map(({ name }) => overlay.get(name))
          const values = await Promise.all(
            rows.map(({ key }, n) => (newest[n] === undefined ? level.get(key) : newest[n].value)),
          )
          for (const [n, row] of rows.entries()) tell(row, values[n], at + n)
          at += rows.length
        } else {
          const row = rowOf(keys[at] ?? new Uint8Array())
          const newest = overlay.get(row.name)
          tell(row, newest === undefined ? this.#atOnce(row.key) : newest.value, at)
          at += 1
        }
      }
    })
  }

  /** From the memory of LevelDB, where it mostly is: by way of its threads the same takes eight times as long. */
  #atOnce(key: Buffer): Uint8Array | undefined {
    const { level, time } = this.#options
    const start = time.now()
    const value = level.getSync(key)
    const end = time.now()
    this.#slow += ((end - start > slowMs ? 1 : 0) - this.#slow) / meanOver
    if (this.#slow > slowShare) {
      this.#coldUntil = end + coldForMs
      this.#slow = 0
    }
    return value
  }

  async list(query: ListQuery, { signal }: ListOptions = {}): Promise<ListPage> {
    signal?.throwIfAborted()
    const { level, flush, reading } = this.#options
    const part = this.#partOf(query.store)
    if (part === undefined) throw noSuchStore(query.store)
    await orAborted(flush(), signal)
    return reading(async () => {
      const snapshot = level.snapshot()
      try {
        const { revision } = await readMeta(level, snapshot)
        const page = await readPage(level, { snapshot, ...part }, query, signal)
        return { ...page, revision }
      } finally {
        await snapshot.close()
      }
    })
  }

  async openRead(): Promise<ConsistentRead> {
    const { level, flush, reading, stores } = this.#options
    await flush()
    return reading(async () => {
      const snapshot = level.snapshot()
      // As they are now: a name may come to mean another store while this is read.
      const numbers = stores.numbers()
      try {
        const { revision } = await readMeta(level, snapshot)
        const list = async (query: ListQuery, { signal }: ListOptions = {}): Promise<ListPage> => {
          const number = numbers(query.store)
          if (number === undefined) throw noSuchStore(query.store)
          const part = { store: number, prefix: prefixOf(query.store) }
          const page = await reading(() => readPage(level, { snapshot, ...part }, query, signal))
          return { ...page, revision }
        }
        return { revision, list, close: () => snapshot.close() }
      } catch (error) {
        await snapshot.close()
        throw error
      }
    })
  }

  async due(now: number, limit: number): Promise<Due> {
    const { level, flush, reading, tokens } = this.#options
    await flush()
    return reading(async () => {
      const rows = await level.iterator({ ...expiriesUntil(now), limit }).all()
      const records = rows.map(([key, value]) => decodeExpiry(key, value))
      const due: { readonly expires: number; readonly record?: DueRecord; readonly token?: string }[] = [
        ...tokens.due(now).map(({ expires, hash }) => ({ expires, token: hash })),
        ...records.map(({ expires, store, key, revision }) => ({
          expires,
          record: { store, key, revision },
        })),
      ]
      const first = due.sort((left, right) => left.expires - right.expires).slice(0, limit)
      return {
        records: first.flatMap(({ record }) => (record === undefined ? [] : [record])),
        tokens: first.flatMap(({ token }) => (token === undefined ? [] : [token])),
      }
    })
  }

  #partOf(place: Place): Part | undefined {
    const store = this.#options.stores.at(place)
    return store === undefined ? undefined : { store: store.number, prefix: prefixOf(place) }
  }
}

function prefixOf(place: Place): Uint8Array {
  return typeof place === 'string' ? new Uint8Array() : place.prefix
}

function noSuchStore(place: Place): TrivetError {
  return new TrivetError('no-such-store', `There is no store ${nameOf(place)}.`)
}
