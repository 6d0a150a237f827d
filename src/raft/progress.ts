// What a leader knows of one follower, and how much it may send it.

import { assert } from './assert.ts'
import { entryBytes } from './log.ts'
import type { Entry } from './types.ts'

type InFlight = { readonly lastIndex: number; readonly bytes: number }

/**
 * `probe`: where the logs part is not known; one message at a time until an answer says so.
 * `replicate`: they agree up to `matchIndex`; messages follow each other without waiting, within the window.
 * `snapshot`: the follower needs entries that the log no longer has; nothing is sent before it has got a snapshot.
 */
export class Progress {
  state: 'probe' | 'replicate' | 'snapshot' = 'probe'
  /** The follower's log equals ours up to here, durably. Never goes back within a term. */
  matchIndex = 0
  /** The next entry to send. Above `matchIndex`; in `replicate` it runs ahead of it. */
  nextIndex: number
  /** In `probe`: a message is out, and nothing more is sent before an answer or the next heartbeat's. */
  paused = false
  /** From where entries for it are being read from disk. Once `nextIndex` is another, what comes of that is not awaited. */
  fetchingFrom: number | undefined
  /** The tick at which it was last heard from. */
  heardAt: number
  /** Its connection ended and nothing has come from it since. */
  gone = false
  /** The latest round it has answered. */
  answeredRound = 0
  /** The commit index it was last told. */
  toldCommit = 0
  /** Somebody there waits for entries up to here to be committed: it is told of these at once. */
  awaitedIndex = 0
  /**
   * It was removed by the configuration at this index, and is told so: it stays until it knows that entry to be committed, or
   * has been silent for too long.
   */
  leavingAt: number | undefined
  #inFlight: InFlight[] = []
  #inFlightBytes = 0
  /** `matchIndex` when a heartbeat was last answered: no progress since then means that something was lost. */
  #matchAtHeartbeat = 0

  constructor(options: { readonly nextIndex: number; readonly now: number }) {
    this.nextIndex = options.nextIndex
    this.heardAt = options.now
  }

  get inFlightBytes(): number {
    return this.#inFlightBytes
  }

  /** Whether a message with entries may be sent. */
  maySend(windowBytes: number): boolean {
    if (this.fetchingFrom === this.nextIndex || this.state === 'snapshot') return false
    return this.state === 'probe' ? !this.paused : this.#inFlightBytes < windowBytes
  }

  sent(entries: readonly Entry[]): void {
    if (this.state === 'probe') {
      this.paused = true
      return
    }
    const last = entries.at(-1)
    if (last === undefined) return
    assert(last.index >= this.nextIndex, 'replication runs forward')
    let bytes = 0
    for (const entry of entries) bytes += entryBytes(entry)
    this.#inFlight.push({ lastIndex: last.index, bytes })
    this.#inFlightBytes += bytes
    this.nextIndex = last.index + 1
  }

  /** Something came from it. */
  heard(now: number): void {
    this.heardAt = now
    this.gone = false
  }

  /** The follower acknowledged up to `index`. Late and repeated answers change nothing. Returns whether it is news. */
  acknowledged(index: number): boolean {
    const probing = this.state !== 'replicate'
    if (index < this.matchIndex || (index === this.matchIndex && !probing)) return false
    this.matchIndex = index
    this.nextIndex = Math.max(this.nextIndex, index + 1)
    let done = 0
    for (const message of this.#inFlight) {
      if (message.lastIndex > index) break
      this.#inFlightBytes -= message.bytes
      done++
    }
    this.#inFlight.splice(0, done)
    if (probing) {
      this.state = 'replicate'
      this.paused = false
      this.nextIndex = index + 1
    }
    return true
  }

  /**
   * The follower has no entry at `prevIndex`; `shared` is the last index the two logs may share. Ignored when it answers
   * a message that newer knowledge has overtaken.
   */
  rejected(prevIndex: number, shared: number): void {
    if (this.state === 'snapshot') return
    const stale = this.state === 'probe' ? prevIndex !== this.nextIndex - 1 : prevIndex <= this.matchIndex
    if (stale) return
    this.probe()
    this.nextIndex = Math.max(Math.min(prevIndex, shared + 1), this.matchIndex + 1)
  }

  /** What is under way may be lost: begin again from what is certain. */
  probe(): void {
    this.state = 'probe'
    this.paused = false
    this.fetchingFrom = undefined
    this.nextIndex = this.matchIndex + 1
    this.#inFlight = []
    this.#inFlightBytes = 0
  }

  /** The log begins after `nextIndex`: only a snapshot helps. */
  needSnapshot(): void {
    this.probe()
    this.state = 'snapshot'
  }

  /** A heartbeat was answered. Returns whether entries sent before the last one are still unanswered. */
  stalledAtHeartbeat(): boolean {
    const stalled =
      this.state === 'replicate' && this.#inFlight.length > 0 && this.#matchAtHeartbeat === this.matchIndex
    this.#matchAtHeartbeat = this.matchIndex
    return stalled
  }
}
