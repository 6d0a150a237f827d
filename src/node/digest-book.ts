// What members said of the digests of their states, compared at equal indexes (`safety.md`, rule 9).

import type { MemberId } from '../raft/types.ts'
import type { Digest } from '../store/state-rows.ts'

export type Finding =
  /** Nothing to compare. */
  | { readonly type: 'nothing' }
  /** Everybody who was heard says the same. */
  | { readonly type: 'agreed'; readonly index: number }
  /** A majority of the voters has another digest than this node. */
  | { readonly type: 'outvoted'; readonly index: number }
  /** Digests differ, and none of them is a majority's. */
  | { readonly type: 'torn'; readonly index: number }

/** How many digests of each member are kept. */
const kept = 8

export class DigestBook {
  readonly #self: MemberId
  /** The latest of each member, oldest first. */
  readonly #told = new Map<MemberId, Digest[]>()

  constructor(self: MemberId) {
    this.#self = self
  }

  own(digest: Digest): void {
    this.heard(this.#self, digest)
  }

  heard(peer: MemberId, digest: Digest): void {
    const told = this.#told.get(peer) ?? []
    const at = told.findIndex(({ index }) => index === digest.index)
    // One that has repaired its state says another thing of the same index.
    this.#told.set(peer, at === -1 ? [...told, digest].slice(-kept) : told.with(at, digest))
  }

  /** The state here is another one. */
  forgetOwn(): void {
    this.#told.delete(this.#self)
  }

  /** Compares at the highest index that this node and another voter have told of. */
  compare(voters: readonly MemberId[]): Finding {
    for (const own of (this.#told.get(this.#self) ?? []).toReversed()) {
      const others = voters
        .filter((peer) => peer !== this.#self)
        .map((peer) => this.#told.get(peer)?.find(({ index }) => index === own.index)?.digest)
        .filter((digest) => digest !== undefined)
      if (others.length > 0) return judge(own, others, voters.length)
    }
    return { type: 'nothing' }
  }
}

function judge({ index, digest }: Digest, others: readonly string[], voters: number): Finding {
  if (others.every((other) => other === digest)) return { type: 'agreed', index }
  const isMajority = (candidate: string) => {
    const own = candidate === digest ? 1 : 0
    return (others.filter((other) => other === candidate).length + own) * 2 > voters
  }
  if (isMajority(digest)) return { type: 'agreed', index }
  return others.some(isMajority) ? { type: 'outvoted', index } : { type: 'torn', index }
}
