// A file of zeros that takes up room, so that there is some to give when the disk is full (`safety.md`, rule 27).

import { dirname } from 'node:path'
import type { Disk, DiskFile } from './disk.ts'
import { hasCode, isFull } from './disk.ts'

const step = 1024 * 1024

export class Reserve {
  readonly #disk: Disk
  readonly #path: string
  readonly #bytes: number
  #isHeld = false
  /** One thing at a time. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(options: { readonly disk: Disk; readonly path: string; readonly bytes: number }) {
    this.#disk = options.disk
    this.#path = options.path
    this.#bytes = options.bytes
  }

  /** Whether it is known to have its room; after a start it may have it and not be known to. */
  get isHeld(): boolean {
    return this.#isHeld
  }

  /** Takes up the room again, if it was given. False when there is none: then nothing is taken. */
  hold(): Promise<boolean> {
    return this.#next(() => this.#hold())
  }

  /** Gives the room to whoever needs it. False when it had been given already. */
  release(): Promise<boolean> {
    return this.#next(() => this.#release())
  }

  #next(run: () => Promise<boolean>): Promise<boolean> {
    const next = this.#last.then(run, run)
    this.#last = next
    return next
  }

  async #hold(): Promise<boolean> {
    const zeros = Buffer.alloc(Math.min(step, this.#bytes))
    const file = await this.#open()
    try {
      // What a stop or a full disk has left unfinished is finished.
      for (let at = await file.size(); at < this.#bytes; at += zeros.length) {
        await file.write(at, zeros.subarray(0, this.#bytes - at))
        // Little by little: a sync of all of it at once would hold up those of the log.
        await file.sync()
      }
      // What was found whole may not have been durable.
      await file.sync()
    } catch (error) {
      if (!isFull(error)) throw error
      await this.#release()
      return false
    } finally {
      await file.close()
    }
    await this.#disk.syncDirectory(dirname(this.#path))
    this.#isHeld = true
    return true
  }

  async #open(): Promise<DiskFile> {
    try {
      return await this.#disk.open(this.#path, { access: 'write' })
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error
      return this.#disk.open(this.#path, { access: 'create' })
    }
  }

  async #release(): Promise<boolean> {
    this.#isHeld = false
    try {
      await this.#disk.remove(this.#path)
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false
      throw error
    }
    await this.#disk.syncDirectory(dirname(this.#path))
    return true
  }
}
