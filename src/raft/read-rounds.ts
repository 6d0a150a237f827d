// ReadIndex on the leader: reads gather, one heartbeat round confirms them all (thesis 6.4).

import type { MemberId } from './types.ts'

export type PendingRead = { readonly from: MemberId; readonly id: number }

export type ConfirmedRead = PendingRead & { readonly index: number }

type WaitingRead = ConfirmedRead & { readonly round: number }

/**
 * A read joins the next round, never one already sent: an answer to a round proves that its sender still followed
 * this leader after the round was sent, hence after the read arrived. An answer confirms rounds up to the number it
 * echoes and no further (`safety.md`, rule 19).
 */
export class ReadRounds {
  #sent = 0
  #confirmed = 0
  /** In the order of their rounds. */
  #waiting: WaitingRead[] = []
  /** Reads that came before this leader committed an entry of its own term. */
  #held: PendingRead[] = []

  /** The last round that was sent. */
  get sent(): number {
    return this.#sent
  }

  get size(): number {
    return this.#waiting.length + this.#held.length
  }

  /** Whether reads wait for a round and none is under way that would have to end first. */
  get due(): boolean {
    return this.#confirmed === this.#sent && this.#waiting.length > 0
  }

  /** Keeps a read until the leader knows a commit index of its own term. */
  hold(read: PendingRead): void {
    this.#held.push(read)
  }

  /** The reads held so far can join a round now. */
  release(commitIndex: number): void {
    const held = this.#held
    this.#held = []
    for (const read of held) this.join(read, commitIndex)
  }

  join(read: PendingRead, commitIndex: number): void {
    this.#waiting.push({ ...read, index: commitIndex, round: this.#sent + 1 })
  }

  /** Begins a round and returns its number. */
  begin(): number {
    this.#sent++
    return this.#sent
  }

  /** A quorum has answered `round` or a later one. Returns the reads that this confirms. */
  confirm(round: number): readonly ConfirmedRead[] {
    if (round <= this.#confirmed) return []
    this.#confirmed = round
    const open = this.#waiting.findIndex((read) => read.round > round)
    return this.#waiting.splice(0, open === -1 ? this.#waiting.length : open)
  }

  /** Everything that waits, when leadership ends. */
  drain(): readonly PendingRead[] {
    const reads = [...this.#held, ...this.#waiting]
    this.#held = []
    this.#waiting = []
    return reads
  }
}
