// Writers that remember what was acknowledged, so that a test can ask for it afterwards.

import { setTimeout as delay } from 'node:timers/promises'
import { TrivetError } from '../../src/errors.ts'
import type { Client, Store } from '../../src/sdk/index.ts'

/** A write that was acknowledged. Times on the clock of `performance.now()`. */
export type Acknowledged = {
  readonly key: string
  readonly turn: number
  readonly begun: number
  readonly at: number
}

/** Keys of each writer, written in turn again and again, so that the end can be looked at whole. */
const keysEach = 30

export class Writers {
  readonly acknowledged: Acknowledged[] = []
  /** Codes of the calls that failed, with how often. */
  readonly failures = new Map<string, number>()
  readonly #stop = new AbortController()
  readonly #running: Promise<void>[] = []

  /** `count` writers, each with keys of its own, spread over the clients. */
  static async start(clients: readonly Client[], count: number): Promise<Writers> {
    const writers = new Writers()
    const stores = await Promise.all(clients.map((client) => client.open('default')))
    for (let writer = 0; writer < count; writer++) {
      const store = stores[writer % stores.length]
      if (store !== undefined) writers.#running.push(writers.#write(store, writer))
    }
    return writers
  }

  async #write(store: Store, writer: number): Promise<void> {
    for (let turn = 0; !this.#stop.signal.aborted; turn++) {
      const key = `w${writer}-${turn % keysEach}`
      const begun = performance.now()
      try {
        await store.set(key, String(turn))
        this.acknowledged.push({ key, turn, begun, at: performance.now() })
      } catch (error) {
        if (!(error instanceof TrivetError)) throw error
        this.failures.set(error.code, (this.failures.get(error.code) ?? 0) + 1)
        // Nobody answers: no point in asking a thousand times a second.
        await delay(5)
      }
    }
  }

  /** The first acknowledgement of a write that began after `moment`, in milliseconds since then. */
  async gapAfter(moment: number, seconds = 20): Promise<number> {
    const deadline = performance.now() + seconds * 1000
    let from = Math.max(0, this.acknowledged.length - 1)
    for (;;) {
      for (; from < this.acknowledged.length; from++) {
        const one = this.acknowledged[from]
        if (one !== undefined && one.begun > moment) return one.at - moment
      }
      if (performance.now() > deadline) throw new Error(`No write was acknowledged within ${seconds} s`)
      await delay(1)
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    await Promise.all(this.#running)
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? Number.NaN
}

/**
 * Which keys lost an acknowledged write: what is found there is older than the last one acknowledged. A newer one was
 * tried with an unknown outcome, and may be there.
 */
export function lost(acknowledged: readonly Acknowledged[], found: ReadonlyMap<string, string>): string[] {
  const last = new Map<string, number>()
  for (const { key, turn } of acknowledged) last.set(key, Math.max(turn, last.get(key) ?? 0))
  const keys: string[] = []
  for (const [key, turn] of last) {
    const value = found.get(key)?.split(':')[1]
    if (value === undefined || Number(value) < turn)
      keys.push(`${key}: ${value} is there, ${turn} was acknowledged`)
  }
  return keys
}
