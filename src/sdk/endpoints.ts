// Which endpoint to ask: the one that answered last, unless it gave reason to try the others first.

import { TrivetError } from '../errors.ts'

/** How long an endpoint that refused, hung or is draining stands behind the others. */
const penaltyMs = 5000

/** The addresses without a trailing slash. Throws `invalid-request` for one that is no plain http(s) URL, or for none. */
export function parseEndpoints(addresses: readonly string[]): readonly string[] {
  if (addresses.length === 0) {
    throw new TrivetError('invalid-request', 'At least one endpoint is needed', { field: 'endpoints' })
  }
  return [...new Set(addresses.map(parseEndpoint))]
}

function isEndpoint(address: string): boolean {
  const url = URL.parse(address)
  const plain =
    url !== null && url.username === '' && url.password === '' && url.search === '' && url.hash === ''
  return plain && (url.protocol === 'http:' || url.protocol === 'https:')
}

function parseEndpoint(address: string): string {
  if (!isEndpoint(address)) {
    throw new TrivetError(
      'invalid-request',
      `An endpoint is a URL like https://kv-1:7001, without credentials or query; ${JSON.stringify(address)} is not`,
      { field: 'endpoints' },
    )
  }
  return new URL(address).href.replace(/\/+$/, '')
}

/**
 * The endpoints of a client in the order in which to try them. Sticky, so that connections are reused and a client
 * mostly reads where it wrote; starting at a random one, so that clients spread.
 */
export class Endpoints {
  /** Those that the client was given: they stay, for they may be names for whoever belongs to the cluster. */
  readonly #given: readonly string[]
  #addresses: readonly string[]
  readonly #penalties = new Map<string, number>()
  #current: number

  constructor(addresses: readonly string[], random: () => number) {
    this.#given = addresses
    this.#addresses = addresses
    this.#current = Math.floor(random() * addresses.length)
  }

  get size(): number {
    return this.#addresses.length
  }

  /** The one that comes first, while none stands behind the others; undefined while some do. */
  undisputed(now: number): string | undefined {
    if (this.#penalties.size > 0) {
      for (const [address, until] of this.#penalties) if (until <= now) this.#penalties.delete(address)
      if (this.#penalties.size > 0) return undefined
    }
    return this.#addresses[this.#current]
  }

  /** All of them, best first. `now` is on the clock of `performance.now()`. */
  ordered(now: number): readonly string[] {
    const rotated = [...this.#addresses.slice(this.#current), ...this.#addresses.slice(0, this.#current)]
    const until = (address: string): number => {
      const end = this.#penalties.get(address) ?? 0
      return end > now ? end : 0
    }
    return rotated.sort((a, b) => until(a) - until(b))
  }

  /** The members of the cluster are reached at these: they come first, then what the client was given. */
  follow(members: readonly string[]): void {
    const current = this.#addresses[this.#current]
    this.#addresses = [...new Set([...members.filter(isEndpoint).map(parseEndpoint), ...this.#given])]
    for (const address of this.#penalties.keys()) {
      if (!this.#addresses.includes(address)) this.#penalties.delete(address)
    }
    // The one in use stays in use, so that a connection is not given up without need.
    this.#current = Math.max(0, current === undefined ? 0 : this.#addresses.indexOf(current))
  }

  /** It answered, and is the one to ask next. */
  prefer(address: string): void {
    if (this.#penalties.size === 0 && address === this.#addresses[this.#current]) return
    this.#penalties.delete(address)
    this.#current = Math.max(0, this.#addresses.indexOf(address))
  }

  /** It refused, hung or is about to stop: the others come first for a while. */
  penalise(address: string, now: number): void {
    this.#penalties.set(address, now + penaltyMs)
  }
}
