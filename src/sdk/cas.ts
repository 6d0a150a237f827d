// Compare and swap over one key, by revision: a value that changed and changed back has changed.

import { TrivetError } from '../errors.ts'
import type { CallOptions, Entry, SetOptions, Store, Value } from './types.ts'

export type SwapOptions = Pick<SetOptions, 'contentType' | 'ttl' | 'signal'>

export type Swapped =
  | { readonly swapped: true; readonly revision: number }
  /** Somebody else was first. `cas` is a fresh one, to look again and try again with. */
  | { readonly swapped: false; readonly cas: Cas }

/**
 * One attempt at a read-modify-write.
 *
 * ```ts
 * let cas = store.cas('cart')
 * for (;;) {
 *   const entry = await cas.current()
 *   const result = await cas.swap(withItem(entry?.value))
 *   if (result.swapped) break
 *   cas = result.cas
 * }
 * ```
 */
export interface Cas {
  /** What stands there, undefined when the key is missing; the same however often it is asked. */
  current(options?: CallOptions): Promise<Entry | undefined>
  /**
   * Sets the key if nobody has written it since `current`, which is asked now if it was not before. After `current` said that the key is
   * missing it only inserts.
   */
  swap(value: Value, options?: SwapOptions): Promise<Swapped>
}

export class KeyCas implements Cas {
  readonly #store: Store
  readonly #key: string
  #seen: { readonly entry: Entry | undefined } | undefined

  constructor(store: Store, key: string) {
    this.#store = store
    this.#key = key
  }

  async current(options: CallOptions = {}): Promise<Entry | undefined> {
    if (this.#seen === undefined) {
      const entry = await this.#store.getEntry(this.#key, options)
      // Two that ask at once stand on one answer.
      this.#seen ??= { entry }
    }
    return this.#seen.entry
  }

  async swap(value: Value, options: SwapOptions = {}): Promise<Swapped> {
    const entry = await this.current({ signal: options.signal })
    const condition = entry === undefined ? { ifAbsent: true } : { ifRevision: entry.revision }
    try {
      const { revision } = await this.#store.set(this.#key, value, { ...options, ...condition })
      return { swapped: true, revision }
    } catch (error) {
      if (!(error instanceof TrivetError) || error.code !== 'condition-failed') throw error
      return { swapped: false, cas: new KeyCas(this.#store, this.#key) }
    }
  }
}
