// The operating system's disk, through Node's callback API.

import * as fs from 'node:fs'
import type { Disk, DiskFile, FileAccess } from './disk.ts'
import { hasCode } from './disk.ts'

/**
 * On Linux a durable file is opened with O_DSYNC: one trip through the thread pool where a write and its fdatasync
 * take two, about a tenth faster for the appends of a log. Elsewhere the flag may leave the bytes in the drive's own
 * cache (macOS), so there it is the write and the sync. Callbacks measured a little faster than `fs/promises`.
 */
const hasDurableWrites = process.platform === 'linux'

const { O_CREAT, O_DSYNC, O_EXCL, O_RDONLY, O_RDWR } = fs.constants

/** The disk of this machine. */
export const realDisk: Disk = {
  list: (directory) => settled<string[]>((done) => fs.readdir(directory, done)),

  async makeDirectory(directory) {
    try {
      await settled<void>((done) => fs.mkdir(directory, done))
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error
    }
  },

  async open(path, how) {
    const fd = await settled<number>((done) => fs.open(path, flags(how), 0o600, done))
    return new RealFile(fd, how.durable === true && !hasDurableWrites)
  },

  rename: (from, to) => settled<void>((done) => fs.rename(from, to, done)),

  remove: (path) => settled<void>((done) => fs.unlink(path, done)),

  removeDirectory: (directory) =>
    settled<void>((done) => fs.rm(directory, { recursive: true, force: true }, done)),

  async syncDirectory(directory) {
    const fd = await settled<number>((done) => fs.open(directory, O_RDONLY, done))
    try {
      await settled<void>((done) => fs.fsync(fd, done))
    } finally {
      await settled<void>((done) => fs.close(fd, done))
    }
  },
}

function flags({ access, durable }: FileAccess): number {
  const base = access === 'read' ? O_RDONLY : O_RDWR
  return base | (access === 'create' ? O_CREAT | O_EXCL : 0) | (durable && hasDurableWrites ? O_DSYNC : 0)
}

class RealFile implements DiskFile {
  readonly #fd: number
  readonly #syncsEveryWrite: boolean

  constructor(fd: number, syncsEveryWrite: boolean) {
    this.#fd = fd
    this.#syncsEveryWrite = syncsEveryWrite
  }

  async size(): Promise<number> {
    return (await settled<fs.Stats>((done) => fs.fstat(this.#fd, done))).size
  }

  async read(position: number, into: Uint8Array): Promise<number> {
    let filled = 0
    while (filled < into.length) {
      const count = await settled<number>((done) =>
        fs.read(this.#fd, into, filled, into.length - filled, position + filled, done),
      )
      if (count === 0) break
      filled += count
    }
    return filled
  }

  async write(position: number, bytes: Uint8Array): Promise<void> {
    // The kernel may take less than all of it, on a disk that is almost full for one; the next try names the error.
    let written = 0
    while (written < bytes.length) {
      written += await settled<number>((done) =>
        fs.write(this.#fd, bytes, written, bytes.length - written, position + written, done),
      )
    }
    if (this.#syncsEveryWrite) await this.sync()
  }

  sync(): Promise<void> {
    return settled<void>((done) => fs.fdatasync(this.#fd, done))
  }

  close(): Promise<void> {
    return settled<void>((done) => fs.close(this.#fd, done))
  }
}

type Callback<T> = (error: Error | null, value?: T) => void

function settled<T>(start: (done: Callback<T>) => void): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    start((error, value) => {
      if (error) reject(error)
      else resolve(value as T)
    })
  })
}
