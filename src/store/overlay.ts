// What has been applied and is not yet known to be in LevelDB: rows in memory that every reader looks at first.

/** A row of LevelDB; `value` is undefined where the row is to go. Neither is ever changed once it is here. */
export type Row = { readonly key: Uint8Array; readonly value: Uint8Array | undefined }

/**
 * Rows in two layers: those written since the last batch was taken, and those of the batch on its way. A row leaves
 * only when its batch is durable, and a newer one of the same key hides it until then.
 */
export class Overlay {
  #fresh = new Map<string, Row>()
  #leaving = new Map<string, Row>()
  #freshBytes = 0
  #leavingBytes = 0

  /** About what it holds of memory, in bytes. */
  get bytes(): number {
    return this.#freshBytes + this.#leavingBytes
  }

  /** The row of this name (`rowName`), newest first; undefined when LevelDB has the newest. */
  get(name: string): Row | undefined {
    return this.#fresh.get(name) ?? this.#leaving.get(name)
  }

  /** The rows whose names lie between these two, the second excluded, in their order; LevelDB may have others. */
  within(from: string, to: string): readonly Row[] {
    const found = new Map<string, Row>()
    for (const layer of [this.#leaving, this.#fresh]) {
      for (const [name, row] of layer) if (name >= from && name < to) found.set(name, row)
    }
    return [...found].sort(([left], [right]) => (left < right ? -1 : 1)).map(([, row]) => row)
  }

  put(name: string, row: Row): void {
    const before = this.#fresh.get(name)
    if (before !== undefined) this.#freshBytes -= weight(before)
    this.#fresh.set(name, row)
    this.#freshBytes += weight(row)
  }

  /** Hands out the rows for one batch. They stay readable until `settle`. */
  take(): readonly Row[] {
    this.#leaving = this.#fresh
    this.#leavingBytes = this.#freshBytes
    this.#fresh = new Map()
    this.#freshBytes = 0
    return [...this.#leaving.values()]
  }

  /** The batch taken last is durable. */
  settle(): void {
    this.#leaving = new Map()
    this.#leavingBytes = 0
  }
}

/** A row's key as a map key: one character a byte. */
export function rowName(key: Buffer): string {
  return key.toString('latin1')
}

// Two buffers, an object, a string of the key and a place in a map cost about this much besides the bytes.
const perRow = 400

function weight(row: Row): number {
  return perRow + 2 * row.key.length + (row.value?.length ?? 0)
}
