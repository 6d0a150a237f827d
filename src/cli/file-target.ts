// A file that a long command writes: in large pieces, from a place on, and whatever came of it is kept.

import { type FileHandle, open } from 'node:fs/promises'

const gatherBytes = 1024 * 1024

export class FileTarget implements AsyncDisposable {
  readonly #handle: FileHandle
  #at: number
  #waiting: Uint8Array[] = []
  #bytes = 0
  #open = true

  /** The file with its first `keep` bytes, made if it is not there; readable by this user alone. */
  static async open(path: string, keep: number): Promise<FileTarget> {
    const handle = await open(path, keep > 0 ? 'r+' : 'w', 0o600)
    await handle.truncate(keep)
    return new FileTarget(handle, keep)
  }

  private constructor(handle: FileHandle, at: number) {
    this.#handle = handle
    this.#at = at
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#waiting.push(bytes)
    this.#bytes += bytes.length
    if (this.#bytes >= gatherBytes) await this.#flush()
  }

  /** Everything written is on the disk afterwards. Twice is fine. */
  async close(): Promise<void> {
    if (!this.#open) return
    this.#open = false
    try {
      await this.#flush()
      await this.#handle.sync()
    } finally {
      await this.#handle.close()
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #flush(): Promise<void> {
    const bytes = Buffer.concat(this.#waiting)
    this.#waiting = []
    this.#bytes = 0
    let written = 0
    while (written < bytes.length) {
      const { bytesWritten } = await this.#handle.write(bytes, written, bytes.length - written, this.#at)
      written += bytesWritten
      this.#at += bytesWritten
    }
  }
}
