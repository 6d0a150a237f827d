// The disk as the log sees it: the few calls whose failure and ordering matter, so that a simulator can stand behind them.
//
// What is promised, and nothing more: bytes are safe from a loss of power once a sync of their file resolved, and a
// name (created, renamed or removed) once a sync of its directory did. Whatever was not synced may be readable and
// still be lost, in any part and in any order. Errors are Node's: `code` is ENOSPC, EIO, ENOENT, EEXIST and so on.

/** One open file. Calls may overlap; overlapping writes to the same bytes leave either. */
export interface DiskFile {
  /** The file's length in bytes. */
  size(): Promise<number>
  /** Fills `into` from `position` on and resolves to how many bytes there were: fewer only at the end of the file. */
  read(position: number, into: Uint8Array): Promise<number>
  /**
   * Writes all of `bytes` at `position`; a gap before it reads as zeros. A rejected write may have written any part.
   * The bytes must not change until it settles.
   */
  write(position: number, bytes: Uint8Array): Promise<void>
  /**
   * Makes everything durable that was written before the call. After a rejection nothing is known of what was not
   * yet durable, and another sync proves nothing about it: the bytes must be written again elsewhere.
   */
  sync(): Promise<void>
  close(): Promise<void>
}

/** How to open a file: `create` makes a new one and rejects with EEXIST when the name is taken. */
export type FileAccess = {
  readonly access: 'read' | 'write' | 'create'
  /** Every write is a write and its sync in one: durable when it resolves. Syncs no write made through another handle. */
  readonly durable?: boolean
}

export interface Disk {
  /** The names in a directory, in no order. */
  list(directory: string): Promise<readonly string[]>
  /** Makes a directory in one that exists; one that is there already is fine. */
  makeDirectory(directory: string): Promise<void>
  open(path: string, how: FileAccess): Promise<DiskFile>
  /** Moves a file, or a directory with all in it, in one step. A file of the name `to` is replaced. */
  rename(from: string, to: string): Promise<void>
  /** Removes a file. */
  remove(path: string): Promise<void>
  /** Removes a directory and all in it, in no order; none there is fine. */
  removeDirectory(directory: string): Promise<void>
  /** Makes the names in this directory durable: those created, renamed and removed before the call. */
  syncDirectory(directory: string): Promise<void>
}

/** Whether an operation failed with one of Node's system error codes, such as `ENOENT`. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}

/** Whether an operation failed because the disk, or the share of it this user may take, is full. */
export function isFull(error: unknown): boolean {
  return hasCode(error, 'ENOSPC') || hasCode(error, 'EDQUOT')
}
