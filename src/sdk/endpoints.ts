// Which endpoint to ask: the one that answered last, unless it gave reason to try the others first; for writes, the leader's.

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
  /** By address, the id of the node that answered there last. */
  readonly #nodes = new Map<string, string>()
  /** The id of the leader, as the last answer had it. */
  #leader: string | undefined
  /** Where it answered. */
  #leading: string | undefined

  constructor(addresses: readonly string[], random: () => number) {
    this.#given = addresses
    this.#addresses = addresses
    this.#current = Math.floor(random() * addresses.length)
  }

  get size(): number {
    return this.#addresses.length
  }

  /** The one that comes first, while none stands behind the others; undefined while some do. */
  undisputed(now: number, write: boolean): string | undefined {
    if (this.#penalties.size > 0) {
      for (const [address, until] of this.#penalties) if (until <= now) this.#penalties.delete(address)
      if (this.#penalties.size > 0) return undefined
    }
    return (write ? this.#leading : undefined) ?? this.#addresses[this.#current]
  }

  /** All of them, best first. `now` is on the clock of `performance.now()`. */
  ordered(now: number, write: boolean): readonly string[] {
    const rotated = [...this.#addresses.slice(this.#current), ...this.#addresses.slice(0, this.#current)]
    const leading = write ? this.#leading : undefined
    const order = leading === undefined ? rotated : [leading, ...rotated.filter((one) => one !== leading)]
    const until = (address: string): number => {
      const end = this.#penalties.get(address) ?? 0
      return end > now ? end : 0
    }
    return order.sort((a, b) => until(a) - until(b))
  }

  /** Who answered at this address, and who leads by its word. */
  heard(address: string, node: string | null, leader: string | null): void {
    const isNews = leader !== null && leader !== this.#leader
    if (node === null || (!isNews && this.#nodes.get(address) === node)) return
    this.#nodes.set(address, node)
    if (leader !== null) this.#leader = leader
    this.#find()
  }

  /** Whether the leader answered there last. */
  leads(address: string): boolean {
    return address === this.#leading
  }

  /** Where the leader may be found, while no address is known to be its. */
  get strangers(): readonly string[] {
    if (this.#leader === undefined || this.#leading !== undefined) return []
    return this.#addresses.filter((address) => !this.#nodes.has(address))
  }

  #find(): void {
    this.#leading = this.#addresses.find((address) => this.#nodes.get(address) === this.#leader)
  }

  /** The members of the cluster are reached at these: they come first, then what the client was given. */
  follow(members: readonly string[]): void {
    const current = this.#addresses[this.#current]
    this.#addresses = [...new Set([...members.filter(isEndpoint).map(parseEndpoint), ...this.#given])]
    for (const known of [this.#penalties, this.#nodes]) {
      for (const address of known.keys()) if (!this.#addresses.includes(address)) known.delete(address)
    }
    this.#find()
    // The one in use stays in use, so that a connection is not given up without need.
    this.#current = Math.max(0, current === undefined ? 0 : this.#addresses.indexOf(current))
  }

  /** It answered, and is the one to ask next; a write, which may have gone to the leader, moves reads only from one in trouble. */
  prefer(address: string, write: boolean): void {
    const current = this.#addresses[this.#current] ?? ''
    if (this.#penalties.size === 0 && (write || address === current)) return
    this.#penalties.delete(address)
    if (write && !this.#penalties.has(current)) return
    this.#current = Math.max(0, this.#addresses.indexOf(address))
  }

  /** It refused, hung or is about to stop: the others come first for a while. */
  penalise(address: string, now: number): void {
    this.#penalties.set(address, now + penaltyMs)
  }
}
