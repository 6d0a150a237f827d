// Who belongs to the cluster beyond the own log: what admitted peers say of newer configurations than this node has.
//
// A node that was away may know nobody of those who belong now, and they would stay strangers to it. So whoever sees from
// a status that a peer goes by an older configuration tells it who the members are (`safety.md`, rule 15). The same word
// tells a node that it was removed while it was away. All of it is about committed configurations: what may be taken back
// need not be known to everybody.

import type { Configuration, Member, MemberId } from '../raft/types.ts'

/** A configuration and the index of the entry that brought it. */
export type Known = { readonly index: number; readonly members: readonly Member[] }

export class Acquaintances {
  readonly #self: MemberId
  /** The newest that each peer has told. */
  readonly #told = new Map<MemberId, Known>()
  /** Members that say that this node is none. */
  readonly #deniers = new Set<MemberId>()
  /** The highest index of a configuration that any peer goes by; below 0 while none has said. */
  #highest = -1

  constructor(self: MemberId) {
    this.#self = self
  }

  /** A peer goes by the configuration at this index. Returns whether it should be told of the one at `own`. */
  heard(index: number, own: number): boolean {
    this.#highest = Math.max(this.#highest, index)
    return index < own
  }

  /** A peer told who the members are. Returns whether that is news. */
  told(from: MemberId, known: Known): boolean {
    this.#highest = Math.max(this.#highest, known.index)
    const before = this.#told.get(from)
    if (before !== undefined && before.index >= known.index) return false
    this.#told.set(from, known)
    return true
  }

  /** A peer does, or does not, say that this node is no member. */
  denied(peer: MemberId): void {
    this.#deniers.add(peer)
  }

  accepted(peer: MemberId): void {
    this.#deniers.delete(peer)
  }

  /** The own log holds a configuration: nothing older is of use, and the word of those who are no members neither. */
  retain(own: Known, admitted: ReadonlySet<MemberId>): void {
    for (const [peer, { index }] of this.#told) {
      if (index <= own.index || !admitted.has(peer)) this.#told.delete(peer)
    }
    for (const peer of this.#deniers) if (!admitted.has(peer)) this.#deniers.delete(peer)
  }

  /** The newest members that are known of: by the own log or by a peer. */
  newest(own: Known): Known {
    let newest = own
    for (const known of this.#told.values()) if (known.index > newest.index) newest = known
    return newest
  }

  /** Everybody whom an admitted peer has named as a member. */
  get named(): readonly Member[] {
    return [...this.#told.values()].flatMap((known) => known.members)
  }

  /**
   * Whether this node was removed: the members know of no newer committed configuration than one without it. While it only
   * lags behind in reading the log, they do.
   */
  isRemoved(own: Known): boolean {
    const { index, members } = this.newest(own)
    return this.#highest >= 0 && index >= this.#highest && !members.some(({ peer }) => peer === this.#self)
  }

  /** Those who say that this node is no member. */
  get deniers(): readonly MemberId[] {
    return [...this.#deniers]
  }
}

/** A configuration of the log as what is known of the members. */
export function knownFrom(at: { readonly index: number; readonly configuration: Configuration }): Known {
  return { index: at.index, members: at.configuration.members }
}
