// What a command finds: the rows it names, fetched before it is applied, because applying touches memory only.

import { permits, permitsOperation } from './grants.ts'
import type { Overlay } from './overlay.ts'
import { rowName } from './overlay.ts'
import { placeOf } from './places.ts'
import { checkRecord, readRecord } from './record.ts'
import { hashRow } from './row-hash.ts'
import type { RowPlace, Standing } from './state-changes.ts'
import { maxNumberBytes } from './state-decide.ts'
import type { KeptRecord } from './state-history.ts'
import { isRecord, recordsWith } from './state-rows.ts'
import { isAlone, type Known, keyIn, locate, rowPlace, type Step } from './state-steps.ts'
import { type StateTime, Stretch } from './state-time.ts'
import { pages } from './state-verify.ts'
import type { StateLevel } from './state-writer.ts'
import type { Command, Operation } from './types.ts'

/** The same on every member for ever: a change is a change of what commands mean. */
export const rangeBounds = {
  /** Conditions of a transaction, or operations of one branch. */
  operations: 1000,
  /** Keys that one command may delete by prefix. */
  keys: 100_000,
  /** What the gets and touches in one branch of a transaction may read, and what it may answer, in bytes of values. */
  readBytes: 128 * 1024 * 1024,
  /** What one `collect` takes away: so many records, or the first that bring their values past so many bytes. */
  collected: 1000,
  collectedBytes: 64 * 1024 * 1024,
} as const

/** The records of a range, in the order of their keys. */
type RangeRows = {
  readonly places: readonly RowPlace[]
  /** False where the bound was reached first. */
  readonly whole: boolean
}

/** What stands under what the commands of a stretch name, kept up to date while they are applied. */
export type Found = {
  /** Rows by name; undefined where there is none. Those of records are checked. */
  readonly rows: Map<string, Uint8Array | undefined>
  /** For a command that stands alone: the records it names or ranges over, by row name. */
  readonly standing: ReadonlyMap<string, Standing>
  /** For a command that stands alone: what its range, or each operation's, holds. */
  readonly ranges: ReadonlyMap<object, RangeRows>
}

export type FetchOptions = {
  readonly level: StateLevel
  readonly overlay: Pick<Overlay, 'get' | 'within'>
  readonly known: Known
  /** Whether the history takes the row of this record when it goes: then it is kept whole. */
  readonly keepsRow: (record: KeptRecord) => boolean
  readonly time: StateTime
}

// One read of LevelDB takes at most this many keys, and this many bytes should each value be as large as any may be.
const readKeys = 256
const readBytes = 32 * 1024 * 1024

/** Everything that the commands of a stretch need. Nothing is applied meanwhile. */
export async function fetchFor(steps: readonly Step[], options: FetchOptions): Promise<Found> {
  const rows = await fetchRows(steps, options)
  const [step] = steps
  const command = step?.type === 'command' && isAlone(step.command) ? step.command : undefined
  if (command === undefined) return { rows, standing: new Map(), ranges: new Map() }
  const gathering = new Gathering(options)
  await gather(command, gathering, options.known)
  return { rows, standing: gathering.standing, ranges: gathering.ranges }
}

async function fetchRows(
  steps: readonly Step[],
  { level, overlay }: FetchOptions,
): Promise<Map<string, Uint8Array | undefined>> {
  const rows = new Map<string, Uint8Array | undefined>()
  const missing: RowPlace[] = []
  const want = (place: RowPlace): void => {
    if (rows.has(place.name)) return
    const waiting = overlay.get(place.name)
    // Held on to here: a batch that ends meanwhile takes it out of the overlay.
    rows.set(place.name, waiting?.value)
    if (waiting === undefined) missing.push(place)
  }
  for (const step of steps) {
    if (step.type !== 'command') continue
    if (step.row !== undefined) want(step.row)
    if (step.memory !== undefined) want(step.memory)
  }
  if (missing.length === 0) return rows
  const found = await level.getMany(missing.map(({ key }) => key))
  for (const [at, { key, name }] of missing.entries()) {
    const row = found[at]
    rows.set(name, row === undefined || !isRecord(key) ? row : checkRecord(key, row))
  }
  return rows
}

/** The record in a row that was checked, with its value. */
export function standingOf(row: Uint8Array): Standing & { readonly value: Uint8Array } {
  const { value, contentType, revision, createdRevision, expires } = readRecord(row)
  return { value, contentType, revision, createdRevision, expires, size: value.length, row }
}

async function gather(command: Command, gathering: Gathering, known: Known): Promise<void> {
  switch (command.type) {
    case 'deleteRange':
      await gathering.range(command, rangeOf(command, command.token, known), { keys: rangeBounds.keys })
      break
    case 'collect':
      await gathering.range(command, recordsWith(command.store, new Uint8Array()), {
        keys: rangeBounds.collected,
        bytes: rangeBounds.collectedBytes,
      })
      break
    case 'expire':
      await gathering.records(
        command.records.map(({ store, key }) => ({ place: rowPlace(store, key), keeps: () => false })),
      )
      break
    case 'transaction':
      // It is refused as it stands, before anything is looked at.
      if ([command.if, command.then, command.else].some(({ length }) => length > rangeBounds.operations))
        break
      for (const branch of [command.then, command.else]) {
        await gatherBranch(branch, command.token, { gathering, known })
      }
      await gathering.records(
        command.if.flatMap((condition) => {
          const place = locate(condition, command.token, known)
          const wanted = condition.type === 'value' ? condition.value.length : -1
          return place === undefined ? [] : [{ place, keeps: (size: number) => size === wanted }]
        }),
      )
  }
}

async function gatherBranch(
  branch: readonly Operation[],
  token: string,
  { gathering, known }: { readonly gathering: Gathering; readonly known: Known },
): Promise<void> {
  let keys: number = rangeBounds.keys
  let room: number = rangeBounds.readBytes
  const wanted: Wanted[] = []
  for (const operation of branch) {
    if (operation.type === 'deletePrefix') {
      const { places } = await gathering.range(operation, rangeOf(operation, token, known), { keys })
      keys -= places.length
      continue
    }
    const place = locate(operation, token, known)
    const principal = known.tokens.get(token)?.principal
    if (place === undefined || principal === undefined || !permitsOperation(principal, operation)) continue
    wanted.push({ place, keeps: keeps(operation) })
  }
  const reading = new Map<string, boolean>()
  await gathering.records(
    wanted.map(({ place, keeps: fits }) => ({
      place,
      keeps: (size) => {
        if (fits !== 'reads') return fits(size)
        const decided = reading.get(place.name)
        if (decided !== undefined) return decided
        room -= size
        reading.set(place.name, room >= 0)
        return room >= 0
      },
    })),
  )
}

type Wanted = {
  readonly place: RowPlace
  /** Whether a value of this size is needed; `reads`: as far as there is room for it. */
  readonly keeps: ((size: number) => boolean) | 'reads'
}

function keeps(operation: Exclude<Operation, { type: 'deletePrefix' }>): Wanted['keeps'] {
  switch (operation.type) {
    case 'get':
    case 'touch':
      return 'reads'
    case 'set': {
      const { length } = operation.value
      return (size) => size === length
    }
    case 'increment':
      return (size) => size <= maxNumberBytes
    default:
      return () => false
  }
}

function checked({ key }: RowPlace, row: Uint8Array | undefined): Buffer | undefined {
  return row === undefined ? undefined : checkRecord(key, row)
}

type Bounds = { readonly gte: Buffer; readonly lt: Buffer }

/** Undefined where there is no such store, or no right to it: then nothing is read for whoever is refused. */
function rangeOf(
  { store, prefix }: { readonly store: string; readonly prefix: Uint8Array },
  token: string,
  { stores, tokens }: Known,
): Bounds | undefined {
  const principal = tokens.get(token)?.principal
  if (principal === undefined || !permits(principal, { store, access: 'read-write', within: prefix }))
    return undefined
  const place = placeOf(principal, store)
  const open = stores.at(place)
  return open === undefined ? undefined : recordsWith(open.number, keyIn(place, prefix))
}

/** Reads records one command names or ranges over, and keeps of each what that command may need. */
class Gathering {
  readonly standing = new Map<string, Standing>()
  readonly ranges = new Map<object, RangeRows>()
  readonly #level: StateLevel
  readonly #overlay: FetchOptions['overlay']
  readonly #stretch: Stretch
  readonly #keysAtOnce: number
  readonly #keepsRow: FetchOptions['keepsRow']

  constructor({ level, overlay, known, keepsRow, time }: FetchOptions) {
    this.#keepsRow = keepsRow
    this.#level = level
    this.#overlay = overlay
    this.#stretch = new Stretch(time)
    this.#keysAtOnce = Math.max(1, Math.min(readKeys, Math.floor(readBytes / known.valueBytes)))
  }

  /** `keeps` is asked with the value's size, once for each place, in order. */
  async records(
    wanted: readonly { readonly place: RowPlace; readonly keeps: (size: number) => boolean }[],
  ): Promise<void> {
    for (let at = 0; at < wanted.length; at += this.#keysAtOnce) {
      const some = wanted.slice(at, at + this.#keysAtOnce)
      // Looked up before LevelDB is: a batch that ends meanwhile takes rows from the one to the other.
      const waiting = some.map(({ place }) => this.#overlay.get(place.name))
      const missing = some.filter((_, n) => waiting[n] === undefined)
      const rows =
        missing.length === 0 ? [] : await this.#level.getMany(missing.map(({ place }) => place.key))
      let next = 0
      for (const [n, { place, keeps: fits }] of some.entries()) {
        const newest = waiting[n]
        const row = newest === undefined ? checked(place, rows[next++]) : newest.value
        if (row !== undefined) this.#keep(place, row, fits)
      }
      if (this.#stretch.over) await this.#stretch.pause()
    }
  }

  /** Reads a range for `owner`, until it has so many keys, or values of so many bytes. */
  async range(
    owner: object,
    bounds: Bounds | undefined,
    limit: { readonly keys: number; readonly bytes?: number },
  ): Promise<RangeRows> {
    if (this.#stretch.over) await this.#stretch.pause()
    const places: RowPlace[] = []
    let bytes = 0
    let whole = true
    if (bounds !== undefined) {
      for await (const { key, value } of this.#merged(bounds)) {
        if (places.length >= limit.keys || bytes >= (limit.bytes ?? Number.POSITIVE_INFINITY)) {
          whole = false
          break
        }
        const place = { key, name: rowName(key) }
        places.push(place)
        bytes += this.#keep(place, value, () => false).size
        if (this.#stretch.over) await this.#stretch.pause()
      }
    }
    const rows = { places, whole }
    this.ranges.set(owner, rows)
    return rows
  }

  #keep(place: RowPlace, row: Uint8Array, fits: (size: number) => boolean): Standing {
    const whole = standingOf(row)
    const kept = this.standing.get(place.name)
    const isKept = fits(whole.size)
    if (kept?.value !== undefined || (kept !== undefined && !isKept)) return kept
    // Whether there is a value must not depend on this node's own history; the row may.
    const rest = this.#keepsRow(whole) ? row : hashRow(place.key, row)
    const standing = isKept ? whole : { ...whole, value: undefined, row: rest }
    this.standing.set(place.name, standing)
    return standing
  }

  /** The rows of a range as they are: LevelDB's, with those that have not come there yet. */
  async *#merged({
    gte,
    lt,
  }: Bounds): AsyncGenerator<{ readonly key: Buffer; readonly value: Uint8Array }, void> {
    const waiting = this.#overlay.within(rowName(gte), rowName(lt))
    const snapshot = this.#level.snapshot()
    let at = 0
    try {
      for await (const page of pages(this.#level, { gte, lt, snapshot })) {
        for (const [bytes, stored] of page) {
          const key = Buffer.from(bytes)
          let newest: Uint8Array | undefined = checkRecord(key, stored)
          for (let next = waiting[at]; next !== undefined; next = waiting[at]) {
            const order = Buffer.compare(next.key, key)
            if (order > 0) break
            at += 1
            if (order === 0) newest = next.value
            else if (next.value !== undefined) yield { key: Buffer.from(next.key), value: next.value }
          }
          if (newest !== undefined) yield { key, value: newest }
        }
      }
      for (const { key, value } of waiting.slice(at)) {
        if (value !== undefined) yield { key: Buffer.from(key), value }
      }
    } finally {
      await snapshot.close()
    }
  }
}
