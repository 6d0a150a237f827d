// Which keys a watcher wants, as they lie in their store: by key and by prefix, without two that say the same.

/** Undefined where a list is empty of both: then all keys of the place are wanted. */
type Wanted = { readonly prefixes: readonly Uint8Array[]; readonly keys: readonly Uint8Array[] }

/** A part of a store in the order of its bytes: one key, or all with a prefix; without what the place adds. */
export type WatchedRange = { readonly type: 'key' | 'prefix'; readonly bytes: Uint8Array }

export class WatchFilter {
  /** What the keys of the place begin with, in bytes: no part of what the watcher sees. */
  readonly placeBytes: number
  /** In the order of bytes; none covers another. */
  readonly ranges: readonly WatchedRange[]
  /** As they lie in the store, one character a byte. */
  readonly keys: ReadonlySet<string>
  readonly prefixes: readonly string[]

  constructor(place: Uint8Array, { prefixes, keys }: Wanted) {
    this.placeBytes = place.length
    this.ranges = disjoint(prefixes.length + keys.length === 0 ? [Buffer.alloc(0)] : prefixes, keys)
    const inStore = (type: WatchedRange['type']) =>
      this.ranges
        .filter((range) => range.type === type)
        .map(({ bytes }) => Buffer.concat([place, bytes]).toString('latin1'))
    this.keys = new Set(inStore('key'))
    this.prefixes = inStore('prefix')
  }

  /** `name`: a key as it lies in the store, one character a byte. */
  matches(name: string): boolean {
    return this.keys.has(name) || this.prefixes.some((prefix) => name.startsWith(prefix))
  }
}

function disjoint(prefixes: readonly Uint8Array[], keys: readonly Uint8Array[]): readonly WatchedRange[] {
  const all: readonly WatchedRange[] = [
    ...prefixes.map((bytes) => ({ type: 'prefix', bytes }) as const),
    ...keys.map((bytes) => ({ type: 'key', bytes }) as const),
  ]
  // A prefix comes before whatever it covers, and before the key that it is.
  const ordered = all.toSorted((left, right) => {
    const order = Buffer.compare(left.bytes, right.bytes)
    return order === 0 ? Number(left.type === 'key') - Number(right.type === 'key') : order
  })
  const kept: WatchedRange[] = []
  for (const range of ordered) {
    const before = kept.at(-1)
    if (before === undefined || !covers(before, range.bytes)) kept.push(range)
  }
  // A key between a prefix and what that prefix covers cannot be: all that it covers lies together.
  return kept
}

function covers({ type, bytes }: WatchedRange, other: Uint8Array): boolean {
  const isLonger = type === 'prefix' && other.length >= bytes.length
  return Buffer.compare(bytes, isLonger ? other.subarray(0, bytes.length) : other) === 0
}
