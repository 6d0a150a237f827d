// Who may connect: members. Everyone else is counted, told why where that is cheap, and reported once a minute.

/** Times in milliseconds. */
const sayAgainAfter = 60_000

/** A stranger is told why it is refused over a connection that ends after this time; so many of them at once. */
const strangerTime = 1_000
const strangersAtOnce = 4

/** What is used of a connection below its encryption. */
export type RawConnection = {
  addEventListener(type: 'close', listener: () => void): void
  abort(reason: Error): void
}

/** Reports refusals, each peer and cause once a minute. */
export class Refusals {
  readonly #report: (peer: string, reason: string) => void
  readonly #saidAt = new Map<string, number>()

  constructor(report: (peer: string, reason: string) => void) {
    this.#report = report
  }

  /** True when it was reported. */
  say(peer: string, cause: string, reason: string): boolean {
    const key = `${peer} ${cause}`
    if (this.#saidAt.has(key) || this.#saidAt.size >= 1_000) return false
    this.#saidAt.set(key, performance.now())
    this.#report(peer, reason)
    return true
  }

  /** To be called now and then, so that things are said again. */
  forget(now: number): void {
    for (const [key, at] of this.#saidAt) if (now - at > sayAgainAfter) this.#saidAt.delete(key)
  }
}

/** Judges connections that come in: first while nothing is known of them, then by the peer id that they proved. */
export class PeerGate {
  readonly #isMember: (peer: string) => boolean
  readonly #refusals: Refusals
  /** Connections that have not proved who they are. */
  readonly #handshakes = new WeakSet<RawConnection>()
  /** Strangers that are being told. */
  readonly #strangers = new Set<string>()
  #refused = 0
  #isShut = false

  constructor(isMember: (peer: string) => boolean, refusals: Refusals) {
    this.#isMember = isMember
    this.#refusals = refusals
  }

  /** Connections refused because the peer id is no member's, or the handshake never came. */
  get refused(): number {
    return this.#refused
  }

  isBeingTold(peer: string): boolean {
    return this.#strangers.has(peer)
  }

  /** A connection came in. Never denies it: who it is will be known after the handshake. */
  watch(raw: RawConnection): boolean {
    this.#handshakes.add(raw)
    raw.addEventListener('close', () => {
      if (this.#handshakes.delete(raw) && !this.#isShut) this.#refused += 1
    })
    return false
  }

  /**
   * Admits members. A stranger is counted, and let in once a minute, for a second, only to be told: whatever stream
   * it opens gets a refusal. More strangers than a few, or the same one again, are turned away without a word.
   */
  denies(peer: string, raw: RawConnection): boolean {
    this.#handshakes.delete(raw)
    if (this.#isShut) return true
    if (this.#isMember(peer)) return false
    this.#refused += 1
    const isNews = this.#refusals.say(peer, 'stranger', `refused ${peer}: it is no member of this cluster.`)
    if (!isNews || this.#strangers.size >= strangersAtOnce) return true
    this.#strangers.add(peer)
    const timer = setTimeout(() => raw.abort(new Error('a stranger was told')), strangerTime)
    raw.addEventListener('close', () => {
      clearTimeout(timer)
      this.#strangers.delete(peer)
    })
    return false
  }

  /** From now on nobody is admitted, and nothing counted. */
  shut(): void {
    this.#isShut = true
  }
}
