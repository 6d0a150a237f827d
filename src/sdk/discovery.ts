// Following the members of a cluster: who they are is asked now and then, and when an endpoint gives trouble.

import type { ClusterDescription } from '../api/protocol.ts'

const everyMs = 10_000
const atMostEveryMs = 500

export type DiscoveryPorts = {
  /** Asks any node. */
  readonly load: () => Promise<ClusterDescription>
  readonly follow: (addresses: readonly string[]) => void
  /** Milliseconds, monotonic. */
  readonly now: () => number
}

export class Discovery {
  readonly #ports: DiscoveryPorts
  #timer: ReturnType<typeof setTimeout> | undefined
  #asking = false
  #askedAt = Number.NEGATIVE_INFINITY
  /** Of the state in which the present members were told: what a node that lags says of an earlier one is dropped. */
  #revision = 0
  #stopped = false

  constructor(ports: DiscoveryPorts) {
    this.#ports = ports
  }

  /** The client is in use. From its first request on the members are asked for every so often. */
  used(): void {
    if (this.#timer === undefined && !this.#stopped) void this.#ask()
  }

  /** An endpoint failed or turned the client away. */
  trouble(): void {
    if (this.#asking || this.#stopped) return
    const wait = this.#askedAt + atMostEveryMs - this.#ports.now()
    if (wait <= 0) void this.#ask()
    else this.#askIn(wait)
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  async #ask(): Promise<void> {
    if (this.#asking || this.#stopped) return
    this.#asking = true
    this.#askedAt = this.#ports.now()
    this.#askIn(everyMs)
    try {
      this.#take(await this.#ports.load())
    } catch {
      // Nobody can be asked now. Requests say so themselves, and the timer asks again.
    } finally {
      this.#asking = false
    }
  }

  #take({ members, leader, revision }: ClusterDescription): void {
    // One that sees itself among no members was removed, and one without a leader may be cut off: neither knows.
    if (leader === undefined || !members.some(({ self }) => self) || revision < this.#revision) return
    this.#revision = revision
    this.#ports.follow(members.map(({ http }) => http))
  }

  #askIn(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#ask(), ms)
    unref(this.#timer)
  }
}

/** Where a timer can hold a process, it must not. */
function unref(timer: unknown): void {
  if (typeof timer === 'object' && timer !== null && 'unref' in timer && typeof timer.unref === 'function')
    timer.unref()
}
