// A backup on its way in: its rows go into stores that nobody can open, and all of it shows at once, or nothing ever does.

import assert from 'node:assert/strict'
import type { ErrorCode } from '../errors.ts'
import { TrivetError } from '../errors.ts'
import {
  BackupDigest,
  type BackupHeader,
  type BackupRow,
  decodeHeader,
  decodeRows,
  placeOfRow,
} from './backup-format.ts'
import { isHolder, isName, isTitle } from './names.ts'
import { type Row, rowName } from './overlay.ts'
import type { RecordChanges } from './state-changes.ts'
import { isContentType, maxKeyBytes } from './state-decide.ts'
import {
  decodeRestore,
  decodeRestoreHeader,
  encodeRestore,
  encodeRestoreHeader,
  lastExpiry,
  type RestoreRow,
  recordKey,
  restoreHeaderKey,
  restoreKey,
} from './state-rows.ts'
import { appOf, type OpenStore, type StoreTable, storeBounds } from './state-stores.ts'
import { mostTokens, type TokenTable } from './state-tokens.ts'
import type { Outcome, RestoreCommand, Token } from './types.ts'

/** One that nothing is heard of for so long is over, in milliseconds of log time. */
export const restorePatienceMs = 2 * 60 * 1000

/** All of the state that a restore is judged by, and all that it changes. */
export type Restoring = {
  readonly token: Token | undefined
  readonly stores: StoreTable
  readonly tokens: TokenTable
  readonly changes: RecordChanges
  /** The largest value the cluster takes, in bytes. */
  readonly valueBytes: number
  /** The revision of the state. */
  readonly revision: number
  /** The stamp of the entry, in milliseconds since the epoch. */
  readonly time: number
}

type Refused = Extract<Outcome, { type: 'refused' }>

type Underway = {
  readonly row: RestoreRow
  readonly header: BackupHeader
  readonly stores: readonly OpenStore[]
}

/** The restore under way, if any. At most one is. */
export class Restore {
  #underway: Underway | undefined
  #rows: Row[] = []

  /** As it stands in LevelDB. */
  static load(rows: readonly Row[], stores: StoreTable): Restore {
    const restore = new Restore()
    const [progress, header] = rows
    if (progress?.value === undefined || header?.value === undefined) return restore
    const row = decodeRestore(progress.value)
    restore.#underway = {
      row,
      header: decodeHeader(decodeRestoreHeader(header.value)),
      stores: row.stores.map((number) => {
        const store = stores.numbered(number)
        assert(store !== undefined, 'The stores of a restore are there')
        return store
      }),
    }
    return restore
  }

  /** When it is over should nothing more come of it, in milliseconds since the epoch; undefined while there is none. */
  get overAt(): number | undefined {
    const { row } = this.#underway ?? {}
    return row === undefined ? undefined : row.heardAt + restorePatienceMs
  }

  /** What an entry with this stamp does to a restore that nothing was heard of for long. */
  begin(time: number, stores: StoreTable): void {
    if (this.overAt !== undefined && time >= this.overAt) this.#abandon(stores)
  }

  /** Carries a command out, or leaves all as it is and says why. */
  carryOut({ restore, step }: RestoreCommand, state: Restoring): Outcome {
    if (state.token === undefined) return refused('unauthenticated')
    if (state.token.principal.type !== 'admin') return refused('access-denied')
    if (step.type === 'begin') return this.#begin(restore, step.header, state)
    const underway = this.#underway
    if (underway?.row.id !== restore) {
      // What is to go is gone.
      return step.type === 'drop' ? { type: 'done' } : refused('change-in-progress')
    }
    switch (step.type) {
      case 'rows':
        return this.#take(underway, step, state)
      case 'link':
        return this.#link(underway, step, state)
      case 'drop':
        this.#abandon(state.stores)
        return { type: 'done' }
      default:
        throw new assert.AssertionError({ message: `No meaning for step ${step satisfies never}` })
    }
  }

  /** The rows that changed since it was last asked, for one batch. */
  takeRows(): readonly Row[] {
    const rows = this.#rows
    this.#rows = []
    return rows
  }

  #begin(id: string, bytes: Uint8Array, state: Restoring): Outcome {
    const { stores, tokens, valueBytes, time } = state
    if (this.#underway?.row.id === id) return { type: 'done' }
    if (this.#underway !== undefined) return refused('change-in-progress')
    if (!isEmpty(stores)) return refused('condition-failed')
    const header = soundHeader(bytes)
    if (header === undefined) return refused('invalid-request')
    const bounds = { ...storeBounds, tokens: mostTokens - tokens.size }
    const apps = header.stores.filter(({ name }) => appOf(name) !== undefined).length
    if (header.stores.length - apps > bounds.named) return tooMany(bounds.named, 'stores')
    if (apps > bounds.apps) return tooMany(bounds.apps, 'apps')
    if (header.tokens.length > bounds.tokens) return tooMany(bounds.tokens, 'tokens')
    const opened = header.stores.map(({ name, ttl, maxValueBytes }) =>
      stores.createHidden({
        name,
        ...(ttl === undefined ? {} : { ttl }),
        ...(maxValueBytes === undefined ? {} : { maxValueBytes: Math.min(maxValueBytes, valueBytes) }),
      }),
    )
    const row: RestoreRow = {
      id,
      next: 1,
      rows: 0,
      digest: BackupDigest.begin(bytes).hex,
      last: undefined,
      stores: opened.map(({ number }) => number),
      heardAt: time,
    }
    this.#underway = { row, header, stores: opened }
    this.#rows.push(encodeRestoreHeader(bytes), encodeRestore(row))
    return { type: 'done' }
  }

  #take(
    { row, header, stores }: Underway,
    { number, rows }: { readonly number: number; readonly rows: Uint8Array },
    { changes, valueBytes, revision, time }: Restoring,
  ): Outcome {
    if (number < row.next) return { type: 'done' }
    if (number > row.next) return refused('invalid-request')
    const digest = new BackupDigest(row.digest)
    const taken = soundRows(rows, { after: row.last, header, valueBytes })
    if (taken === undefined) return refused('invalid-request')
    for (const { row: one, bytes } of taken) digest.add(placeOfRow(one), bytes)
    changes.carryOut(
      taken.flatMap(({ row: { store: at, key, ...after } }) => {
        const store = stores[at]
        if (store === undefined) return []
        const rowKey = recordKey(store.number, key)
        return [{ store, place: { key: rowKey, name: rowName(rowKey) }, before: undefined, after }]
      }),
      { revision, time, rows: new Map() },
    )
    const last = taken.at(-1)?.row
    this.#keep({
      ...row,
      next: number + 1,
      rows: row.rows + taken.length,
      digest: digest.hex,
      last: last === undefined ? row.last : placeOfRow(last).toString('hex'),
      heardAt: time,
    })
    return { type: 'done' }
  }

  #link(
    { row, header, stores: opened }: Underway,
    { rows, digest }: { readonly rows: number; readonly digest: string },
    { stores, tokens, revision }: Restoring,
  ): Outcome {
    const refusal = !isEmpty(stores)
      ? refused('condition-failed')
      : row.rows !== rows || row.digest !== digest
        ? refused('invalid-request')
        : undefined
    if (refusal !== undefined) {
      this.#abandon(stores)
      return refusal
    }
    for (const store of opened) stores.show(store)
    addTokens(header.tokens, tokens)
    this.#forget()
    return { type: 'restored', revision: Math.max(revision + 1, header.revision) }
  }

  /** Its stores are collected like any that were dropped. */
  #abandon(stores: StoreTable): void {
    for (const store of this.#underway?.stores ?? []) stores.abandon(store)
    this.#forget()
  }

  #keep(row: RestoreRow): void {
    assert(this.#underway !== undefined, 'Only a restore under way goes on')
    this.#underway = { ...this.#underway, row }
    this.#rows.push(encodeRestore(row))
  }

  #forget(): void {
    this.#underway = undefined
    this.#rows.push({ key: restoreKey, value: undefined }, { key: restoreHeaderKey, value: undefined })
  }
}

function refused(code: ErrorCode): Refused {
  return { type: 'refused', code }
}

function tooMany(limit: number, field: 'stores' | 'apps' | 'tokens'): Refused {
  return { type: 'refused', code: 'overloaded', limit, field }
}

/** Whether there is no key at all. */
function isEmpty(stores: StoreTable): boolean {
  return [...stores.statuses(), ...stores.apps()].every(({ keys }) => keys === 0)
}

/** Undefined for bytes that are no header, or for one that no cluster can have written. */
function soundHeader(bytes: Uint8Array): BackupHeader | undefined {
  try {
    const header = decodeHeader(bytes)
    const { stores, tokens } = header
    const distinct =
      new Set(stores.map(({ name }) => name)).size === stores.length &&
      new Set(tokens.map(({ hash }) => hash)).size === tokens.length
    const named = stores.every(({ name }) => isName(name) || isHolder(appOf(name) ?? ''))
    const sound = distinct && named && stores.some(({ name }) => name === 'default')
    return sound && tokens.every(({ name }) => isTitle(name)) ? header : undefined
  } catch (error) {
    if (error instanceof TrivetError) return undefined
    throw error
  }
}

/** Undefined for bytes that are no rows, or not those that can come next. */
function soundRows(
  bytes: Uint8Array,
  {
    after,
    header,
    valueBytes,
  }: { readonly after: string | undefined; readonly header: BackupHeader; readonly valueBytes: number },
): readonly { readonly row: BackupRow; readonly bytes: Buffer }[] | undefined {
  try {
    const rows = [...decodeRows(bytes)]
    let before: Uint8Array | undefined = after === undefined ? undefined : Buffer.from(after, 'hex')
    for (const { row } of rows) {
      const place = placeOfRow(row)
      if (before !== undefined && Buffer.compare(before, place) >= 0) return undefined
      if (!isSound(row, header, valueBytes)) return undefined
      before = place
    }
    return rows
  } catch (error) {
    if (error instanceof TrivetError) return undefined
    throw error
  }
}

function isSound(row: BackupRow, header: BackupHeader, valueBytes: number): boolean {
  const { store, key, value, contentType, revision, createdRevision, expires = 1 } = row
  return (
    store < header.stores.length &&
    key.length > 0 &&
    // The prefix of an app's holder comes on top.
    key.length <= maxKeyBytes + 256 &&
    value.length <= valueBytes &&
    isContentType(contentType) &&
    revision > 0 &&
    revision <= header.revision &&
    createdRevision > 0 &&
    createdRevision <= revision &&
    expires <= lastExpiry
  )
}

/**
 * The tokens of the backup, under their names. One of the cluster's own whose name is among them goes on under another, so that
 * nobody who could administer it is shut out; one with a secret of the backup's is the backup's from now on.
 */
function addTokens(restored: readonly Token[], tokens: TokenTable): void {
  const own = tokens.list()
  const names = new Set(restored.map(({ name }) => name))
  const hashes = new Set(restored.map(({ hash }) => hash))
  const taken = new Set([...names, ...own.map(({ name }) => name)])
  const renamed = new Map<string, string>()
  for (const { name } of own) {
    if (!names.has(name) || renamed.has(name)) continue
    const fresh = freeName(name, taken)
    taken.add(fresh)
    renamed.set(name, fresh)
  }
  for (const token of own) tokens.remove(token)
  for (const token of restored) tokens.add(token)
  for (const token of own) {
    if (hashes.has(token.hash)) continue
    const { name, mintedBy } = token
    const minter = mintedBy === undefined ? {} : { mintedBy: renamed.get(mintedBy) ?? mintedBy }
    tokens.add({ ...token, name: renamed.get(name) ?? name, ...minter })
  }
}

const longestName = 63

function freeName(name: string, taken: ReadonlySet<string>): string {
  for (let number = 2; ; number++) {
    const suffix = `-${number}`
    const fresh = name.slice(0, longestName - suffix.length) + suffix
    if (!taken.has(fresh)) return fresh
  }
}
