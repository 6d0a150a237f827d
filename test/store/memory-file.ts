// A file of the disk in memory: what reads return, what the platter holds, and which sectors differ because of what.

const sectorBytes = 512

export class MemoryFile {
  readonly type = 'file'
  #view = new Bytes()
  #platter = new Bytes()
  /** Sectors that a sync will bring to the platter. */
  readonly #dirty = new Set<number>()
  /** Sectors that a failed sync gave up: clean as far as the cache knows, and not on the platter. */
  readonly #lost = new Set<number>()
  #lastDurable = 0

  get length(): number {
    return this.#view.length
  }

  /** What reads return, all of it. */
  get contents(): Uint8Array {
    return this.#view.all
  }

  /** Writes to the cache; the bytes before the position, if the file was shorter, become zeros. */
  write(position: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return
    const start = Math.min(position, this.#view.length)
    const end = position + bytes.length
    this.#view.extend(end)
    this.#view.all.set(bytes, position)
    for (const sector of sectorsOf(start, end)) {
      this.#dirty.add(sector)
      this.#lost.delete(sector)
    }
  }

  sync(): void {
    this.#keep(this.#dirty)
  }

  /** Syncs what was written here alone, as a durable write does. */
  syncRange(position: number, length: number): void {
    this.#keep(sectorsOf(position, position + length))
    if (!isZero(this.#view.all.subarray(position, position + length))) this.#lastDurable = position
  }

  /** Where the last durable write of anything but zeros began. */
  get lastDurable(): number {
    return this.#lastDurable
  }

  /** A sync has failed: what was dirty counts as clean from now on, and is not on the platter. */
  giveUp(): void {
    for (const sector of this.#dirty) this.#lost.add(sector)
    this.#dirty.clear()
  }

  /** The cache may drop what it believes to be clean, and then reads what the platter has. */
  evict(isDropped: () => boolean): void {
    for (const sector of this.#lost) {
      if (!isDropped()) continue
      const start = sector * sectorBytes
      const end = Math.min(start + sectorBytes, this.#view.length)
      this.#view.all.fill(0, start, end)
      this.#view.all.set(this.#platter.all.subarray(start, end), start)
      this.#lost.delete(sector)
    }
  }

  /** The cache is gone. Of what was dirty, any sector may have come to the platter before. */
  losePower(isKept: () => boolean): void {
    this.#keep([...this.#dirty].sort((a, b) => a - b).filter(isKept))
    // The length reaches the platter on its own: then what was never written reads as zeros.
    if (this.#view.length > this.#platter.length && isKept()) this.#platter.extend(this.#view.length)
    this.#view = this.#platter.copy()
    this.#dirty.clear()
    this.#lost.clear()
  }

  /** Flips one bit, on the platter and in the cache. */
  flip(bit: number): void {
    const at = bit >>> 3
    for (const { all } of [this.#view, this.#platter]) {
      if (at < all.length) all[at] = (all[at] ?? 0) ^ (1 << (bit & 7))
    }
  }

  #keep(sectors: Iterable<number>): void {
    for (const sector of sectors) {
      if (!this.#dirty.delete(sector)) continue
      const start = sector * sectorBytes
      const end = Math.min(start + sectorBytes, this.#view.length)
      this.#platter.extend(end)
      this.#platter.all.set(this.#view.all.subarray(start, end), start)
    }
  }
}

const zeros = Buffer.alloc(64 * 1024)

/** Whether these bytes are all zeros. */
export function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += zeros.length) {
    const piece = bytes.subarray(at, at + zeros.length)
    if (zeros.compare(piece, 0, piece.length, 0, piece.length) !== 0) return false
  }
  return true
}

function sectorsOf(start: number, end: number): number[] {
  const first = Math.floor(start / sectorBytes)
  return Array.from({ length: Math.ceil(end / sectorBytes) - first }, (_, at) => first + at)
}

/** Bytes that grow, zeros where nothing was put. */
class Bytes {
  #room = new Uint8Array(4096)
  #length = 0

  get length(): number {
    return this.#length
  }

  get all(): Uint8Array {
    return this.#room.subarray(0, this.#length)
  }

  /** Makes them at least so long. */
  extend(length: number): void {
    if (length > this.#room.length) {
      const larger = new Uint8Array(Math.max(length, this.#room.length * 2))
      larger.set(this.all)
      this.#room = larger
    }
    this.#length = Math.max(this.#length, length)
  }

  copy(): Bytes {
    const copy = new Bytes()
    copy.extend(this.#length)
    copy.all.set(this.all)
    return copy
  }
}
