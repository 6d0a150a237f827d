// The redial loop of one peer: it never gives up, and never dials while a connection stands or a dial is under way.

/** Times in milliseconds. */
const dialTimeout = 3_000
const backOff = { least: 50, most: 1_000 }
/** For a peer that says that this node is no member of its cluster: it is told when that changes, so seldom is enough. */
const discouraged = { least: 5_000, most: 30_000 }
/** Of two nodes that lose each other, the one with the higher peer id lets the other dial first. */
const patience = { least: 60, most: 120 }
const haste = { least: 0, most: 20 }

export type RedialPorts = {
  /** Resolves when a connection stands. */
  readonly dial: (signal: AbortSignal) => Promise<void>
  /** Whether a connection is missing. */
  readonly isNeeded: () => boolean
  /** Whether to leave the first attempt to the peer. */
  readonly patient: boolean
}

type Waiter = { readonly resolve: () => void; readonly reject: (reason: unknown) => void }

export class Redial {
  readonly #ports: RedialPorts
  readonly #stopped = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #dialling = false
  /** Attempts since the last connection that proved sound. One that opens and is closed at once counts as an attempt. */
  #attempts = 0
  #isDiscouraged = false
  #waiters: Waiter[] = []

  constructor(ports: RedialPorts) {
    this.#ports = ports
  }

  /** Dials after the delay that the attempts so far call for. */
  soon(): void {
    if (this.#timer !== undefined || this.#dialling || !this.#isNeeded()) return
    this.#timer = setTimeout(() => void this.#dial(), this.#delay())
  }

  /** Dials at once, or joins the dial under way. Rejects when it fails. */
  async now(signal: AbortSignal): Promise<void> {
    this.#stopped.signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const waiter = { resolve, reject }
    this.#waiters.push(waiter)
    const abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    void this.#dial()
    try {
      await promise
    } finally {
      signal.removeEventListener('abort', abort)
      this.#waiters = this.#waiters.filter((other) => other !== waiter)
    }
  }

  /** A connection stands, whoever dialled it. */
  connected(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    for (const waiter of this.#waiters) waiter.resolve()
  }

  /** A connection has proved sound: the next time, dial without delay. */
  sound(): void {
    this.#attempts = 0
    this.#isDiscouraged = false
  }

  /** The peer does not want this node: from now on dials come seldom, until a connection proves sound. */
  discourage(): void {
    this.#isDiscouraged = true
  }

  stop(): void {
    this.#stopped.abort(new Error('This node is stopping, or the peer is no member any more.'))
    clearTimeout(this.#timer)
    for (const waiter of this.#waiters) waiter.reject(this.#stopped.signal.reason)
  }

  #isNeeded(): boolean {
    return !this.#stopped.signal.aborted && this.#ports.isNeeded()
  }

  #delay(): number {
    const { least, most } =
      this.#attempts > 0
        ? { least: this.#backOff() / 2, most: this.#backOff() }
        : this.#ports.patient
          ? patience
          : haste
    return least + Math.random() * (most - least)
  }

  #backOff(): number {
    const { least, most } = this.#isDiscouraged ? discouraged : backOff
    return Math.min(most, least * 2 ** Math.min(this.#attempts, 10))
  }

  async #dial(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#dialling || !this.#isNeeded()) return
    this.#dialling = true
    this.#attempts += 1
    try {
      await this.#ports.dial(AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(dialTimeout)]))
      for (const waiter of this.#waiters) waiter.resolve()
    } catch (error) {
      for (const waiter of this.#waiters) waiter.reject(error)
    } finally {
      this.#dialling = false
    }
    this.soon()
  }
}
