// Why a state machine can go on no longer, told apart by what its owner has to do about it.

import { StateDamagedError } from './record.ts'

/**
 * LevelDB could not write or read. After one failed write a LevelDB handle may take further writes, synced ones too,
 * and lose them. Nothing is written through it any more.
 */
export class StateDiskError extends Error {
  override readonly name = 'StateDiskError'
}

/**
 * The end of a state machine: nothing is served from it and nothing written after it. In each case the write-ahead
 * log and the vote are sound, so the node goes on voting and acknowledging unless it stops.
 */
export type StateFailure =
  /**
   * Rows or batches on the disk are not what was written. Closing and opening again does not help: the state is to be
   * replaced, by a snapshot or from the log.
   */
  | { readonly type: 'damaged'; readonly error: StateDamagedError }
  /**
   * The disk refused. The state on it is whole as of a durable batch: close, open the same directory again and apply
   * the log from there. Where the disk is full, that takes free space. One that comes again while reading, after it
   * was opened anew, is a place that the disk cannot read any more, and to be treated as damage.
   */
  | { readonly type: 'disk'; readonly error: StateDiskError }
  /** A command or a row that this build does not know, or a broken invariant: the node must stop. */
  | { readonly type: 'broken'; readonly error: Error }

/** The failure that this error is. Also for errors with which opening rejects. */
export function failureOf(error: Error): StateFailure {
  if (error instanceof StateDamagedError) return { type: 'damaged', error }
  if (error instanceof StateDiskError) return { type: 'disk', error }
  return { type: 'broken', error }
}

/**
 * An error while reading or writing LevelDB, as what it means for the state; one that is not LevelDB's own, as it is.
 */
export function levelFailure(error: unknown, verb: 'read' | 'written'): Error {
  if (error instanceof StateDamagedError || error instanceof StateDiskError) return error
  if (isCorruption(error)) {
    return new StateDamagedError(`The state on this disk is damaged: ${reason(error)}.`, { cause: error })
  }
  if (verb === 'read' && !hasCode(error, 'LEVEL_IO_ERROR')) {
    return error instanceof Error ? error : new Error(String(error))
  }
  return new StateDiskError(
    `The state on this disk can no longer be ${verb}: ${reason(error)}. Nothing acknowledged is lost.`,
    { cause: error },
  )
}

/**
 * Whether LevelDB says that what it read is not what it wrote. Of a file that ends too early it says so in the words for an
 * invalid argument, because it maps files and looks beyond the end; no disk refuses with these.
 */
export function isCorruption(error: unknown): boolean {
  if (hasCode(error, 'LEVEL_CORRUPTION')) return true
  return hasCode(error, 'LEVEL_IO_ERROR') && /: Invalid argument$/.test(reason(error))
}

export function hasCode(error: unknown, code: string): boolean {
  if (!(error instanceof Error)) return false
  return ('code' in error && error.code === code) || hasCode(error.cause, code)
}

/** The deepest cause in LevelDB's own words. */
export function reason(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  return cause instanceof Error ? cause.message : String(cause)
}
