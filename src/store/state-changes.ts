// What applying commands did to keys, event by event: told to those who watch, and kept for those who come back.

/** What stands under a key after a `set`. */
export type ChangedRecord = {
  readonly contentType: string
  /** Milliseconds since the epoch; undefined when it does not expire. */
  readonly expires: number | undefined
  /** Undefined where it was not asked for. */
  readonly value: Uint8Array | undefined
}

/** One key changed. */
export type Change = {
  readonly revision: number
  /** Counted from 1 within the revision. */
  readonly n: number
  readonly type: 'set' | 'delete' | 'expire'
  /** The internal number of the store. */
  readonly store: number
  /** As it lies in the store. Never changed, and no part of a larger buffer that would be kept alive with it. */
  readonly key: Uint8Array
  /** Of a `set`. */
  readonly record?: ChangedRecord | undefined
}

/** A change that knows whether more of its revision follow. */
export type ChangeEvent = Change & {
  /** The last change of its revision. */
  readonly last: boolean
}

/** A place in the order of all changes: after the n-th of a revision, or after all of it where `n` is undefined. */
export type Position = { readonly revision: number; readonly n?: number | undefined }

/** Whether a change comes after a position. */
export function isAfter(change: Change, { revision, n }: Position): boolean {
  if (change.revision !== revision) return change.revision > revision
  return n !== undefined && change.n > n
}

/** Whoever is told what is applied, in its order, while it is applied: neither may throw, nor take long. */
export type Follower = {
  /** All changes of one command. Their values are views of rows that never change. */
  readonly changed: (events: readonly ChangeEvent[]) => void
  /** Tokens or stores are not what they were; changes told before were made under the earlier ones. */
  readonly authorityChanged: () => void
}
