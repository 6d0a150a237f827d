// What leaves a replica, under one rule: nothing is promised before it is durable.
//
// A message may leave at once. A promise (a vote, an acknowledgement, a request for votes) rests on hard state and entries
// as they are when it is made, so it leaves with the end of the save that takes them, and of every save before it.

import { assert } from './assert.ts'
import type { Log } from './log.ts'
import type { Duty, HardState, MemberId, Message } from './types.ts'

export type SaveDuty = Extract<Duty, { type: 'save' }>

export type OutboxOptions = {
  readonly self: MemberId
  /** What is durable at the start. */
  readonly hardState: HardState
  /** A save outstanding for longer, in ticks, makes a leader hand over and anybody refuse to campaign (rule 14). */
  readonly saveStallTicks: number
}

/** A save under way: what becomes true, and which promises may leave, once it is durable. */
type Saving = { readonly duty: SaveDuty; readonly promises: readonly Message[]; ticks: number }

export class Outbox {
  readonly #options: OutboxOptions
  readonly #log: Log
  /** May leave at once. */
  #messages: Message[] = []
  /** May leave only after the next save. */
  #promises: Message[] = []
  /** What the last save handed out said, so that only changes are saved. */
  #handedHardState: HardState
  #saving: Saving | undefined
  #stalled = false

  constructor(options: OutboxOptions, log: Log) {
    this.#options = options
    this.#log = log
    this.#handedHardState = options.hardState
  }

  /** A save has hung and none has succeeded since. */
  get stalled(): boolean {
    return this.#stalled
  }

  get isSaving(): boolean {
    return this.#saving !== undefined
  }

  tick(): void {
    if (this.#saving === undefined) return
    this.#saving.ticks++
    if (this.#saving.ticks >= this.#options.saveStallTicks) this.#stalled = true
  }

  send(message: Message): void {
    this.#messages.push(message)
  }

  /** One to this replica itself does not leave: the save that makes it true hands it back. */
  promise(message: Message): void {
    if (message.type !== 'appended' || !this.#joined(message)) this.#promises.push(message)
  }

  /** One acknowledgement says what several would: appends that arrive while a save is under way are answered together. */
  #joined(message: Extract<Message, { type: 'appended' }>): boolean {
    const at = this.#promises.findLastIndex(({ type, to }) => type === 'appended' && to === message.to)
    const earlier = this.#promises[at]
    if (earlier?.type !== 'appended' || earlier.term !== message.term) return false
    if (message.matchIndex > earlier.matchIndex) this.#promises[at] = message
    return true
  }

  /** Hands out all that may leave now. */
  takeMessages(): readonly Message[] {
    const messages = this.#messages
    this.#messages = []
    return messages
  }

  /** Hands out what must become durable. Undefined while a save is under way, and when there is nothing to save. */
  nextSave(hardState: HardState): SaveDuty | undefined {
    if (this.#saving !== undefined) return undefined
    const entries = this.#log.takeUnsaved()
    const promises = this.#promises
    this.#promises = []
    const handed = this.#handedHardState
    const changed = hardState.term !== handed.term || hardState.votedFor !== handed.votedFor
    if (entries.length === 0 && !changed) {
      // All that they rest on is durable already.
      const own = this.#release(promises)
      assert(own.length === 0, 'a candidate votes for itself in a term that is not durable yet')
      return undefined
    }
    this.#handedHardState = hardState
    const duty: SaveDuty = { type: 'save', hardState: changed ? hardState : undefined, entries }
    this.#saving = { duty, promises, ticks: 0 }
    return duty
  }

  /** The save is durable: its promises may leave. Returns those of this replica to itself, a candidate's own vote (rule 5). */
  saved(duty: SaveDuty): readonly Message[] {
    const saving = this.#saving
    assert(saving?.duty === duty, 'the save under way is the one that ends')
    this.#saving = undefined
    this.#stalled = false
    const last = duty.entries.at(-1)
    if (last !== undefined) this.#log.saved(last)
    return this.#release(saving.promises)
  }

  #release(promises: readonly Message[]): readonly Message[] {
    const { self } = this.#options
    for (const promise of promises) if (promise.to !== self) this.#messages.push(promise)
    return promises.filter((promise) => promise.to === self)
  }
}
