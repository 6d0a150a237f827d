// The commands this node answers for: numbered, sent to whoever leads, sent again when in doubt, answered once applied.

import { type ErrorCode, TrivetError } from '../errors.ts'
import { assert } from '../raft/assert.ts'
import type { MemberId } from '../raft/types.ts'
import type { CommandBatch, NumberedCommand } from '../store/types.ts'
import type { Executed, WaitOptions } from './surface.ts'
import { EarliestDeadline, Waiter } from './waiters.ts'

export type OwnCommandsOptions = {
  readonly self: MemberId
  readonly boot: number
  /** Bytes of commands that may wait here to be sent. */
  readonly maxWaitingBytes: number
  /** A command sent this long ago without an outcome is sent again, in milliseconds. */
  readonly resendAfter: number
  /** The clock of `performance.now()`. */
  readonly now: () => number
}

/** When a command was taken and last sent, on the clock of `performance.now()`. */
export type Sent = { readonly queuedAt: number; readonly sentAt: number }

type Pending = NumberedCommand & {
  readonly waiter: Waiter<Executed>
  readonly queuedAt: number
  sentAt: number
  /** `queued`: to be sent; `sent`: with a leader; `held`: refused by one who does not lead, sent again with the next tick. */
  state: 'queued' | 'sent' | 'held'
  /** How often it has left for a log, this node's own or a leader's: once it has, it may be in one. */
  timesSent: number
}

/**
 * Every command carries (peer, boot, number), so that it can be sent as often as needed and is applied once
 * (`safety.md`, rule 16). What its waiter is told is true: "it entered no log" only if it never left, or the one leader that
 * it was sent to said so (rule 17).
 */
export class OwnCommands {
  readonly #options: OwnCommandsOptions
  /** Unanswered commands, in the order of their numbers. */
  readonly #pending = new Map<number, Pending>()
  /** Those in state `queued`, oldest first; may hold commands answered meanwhile. */
  #queue: Pending[] = []
  #queuedBytes = 0
  /** Those in state `held`. */
  #held: Pending[] = []
  #last = 0
  readonly #deadlines = new EarliestDeadline()

  constructor(options: OwnCommandsOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#pending.size
  }

  get waitingBytes(): number {
    return this.#queuedBytes
  }

  get hasQueued(): boolean {
    return this.#queue.length > 0
  }

  /** Every number up to this one is answered: what is remembered of their outcomes may go. */
  get acked(): number {
    for (const number of this.#pending.keys()) return number - 1
    return this.#last
  }

  /** Takes an encoded command. Rejects as `NodeSurface.execute` says. */
  add(bytes: Uint8Array, options: WaitOptions): Promise<Executed> {
    const { maxWaitingBytes } = this.#options
    const waiting = this.#queuedBytes + bytes.byteLength
    if (waiting > maxWaitingBytes) {
      return Promise.reject(
        new TrivetError(
          'overloaded',
          `Commands of ${maxWaitingBytes} bytes are waiting for the leader already`,
          {
            field: 'waiting commands',
            limit: maxWaitingBytes,
            actual: waiting,
          },
        ),
      )
    }
    this.#last++
    const number = this.#last
    const waiter = new Waiter<Executed>(options, () => this.#forget(number))
    if (waiter.settled) return waiter.promise
    const queuedAt = this.#options.now()
    const pending: Pending = { number, bytes, waiter, queuedAt, sentAt: 0, state: 'queued', timesSent: 0 }
    this.#pending.set(number, pending)
    this.#deadlines.note(waiter.deadline)
    this.#enqueue(pending)
    return waiter.promise
  }

  /** Takes about `maxBytes` of what waits, to be sent now; undefined when nothing does. */
  take(maxBytes: number): CommandBatch | undefined {
    const commands: NumberedCommand[] = []
    const now = this.#options.now()
    let bytes = 0
    let taken = 0
    for (const pending of this.#queue) {
      if (bytes > 0 && bytes + pending.bytes.byteLength > maxBytes) break
      taken++
      if (pending.waiter.settled) continue
      bytes += pending.bytes.byteLength
      pending.state = 'sent'
      pending.sentAt = now
      pending.timesSent++
      commands.push({ number: pending.number, bytes: pending.bytes })
    }
    for (const pending of this.#queue.splice(0, taken)) this.#queuedBytes -= pending.bytes.byteLength
    if (commands.length === 0) return undefined
    return { peer: this.#options.self, boot: this.#options.boot, acked: this.acked, commands }
  }

  /** A batch that `take` handed out could not leave: nobody has seen it. */
  putBack(batch: CommandBatch): void {
    const back: Pending[] = []
    for (const { number } of batch.commands) {
      const pending = this.#pending.get(number)
      if (pending === undefined) continue
      assert(pending.state === 'sent' && pending.timesSent > 0, 'only what was taken is put back')
      pending.timesSent--
      pending.state = 'queued'
      this.#queuedBytes += pending.bytes.byteLength
      back.push(pending)
    }
    this.#queue = [...back, ...this.#queue]
  }

  /** When the command of this number was taken and sent; undefined when nobody waits for it any more. */
  sent(number: number): Sent | undefined {
    return this.#pending.get(number)
  }

  /** The command of this number was applied here. */
  decided(number: number, executed: Executed): void {
    const pending = this.#pending.get(number)
    if (pending === undefined) return
    this.#forget(number)
    pending.waiter.resolve(executed)
  }

  /**
   * Whoever they were sent to did not take them. One that does not lead may have led, and logged an earlier copy: its
   * refusal says where not to ask, and nothing of what a log may hold.
   */
  refused(numbers: readonly number[], code: ErrorCode): void {
    for (const number of numbers) {
      const pending = this.#pending.get(number)
      if (pending === undefined || pending.state === 'queued') continue
      if (code !== 'no-leader' && pending.timesSent === 1) {
        this.#forget(number)
        pending.waiter.reject(new TrivetError(code, `The leader refused the command: ${code}`))
      } else if (pending.state === 'sent') {
        pending.state = 'held'
        this.#held.push(pending)
      }
    }
  }

  /** Another leads now, or the way to the leader is another: what was sent may be lost, so it is sent again. */
  resend(): void {
    this.#held = []
    for (const pending of this.#pending.values()) if (pending.state !== 'queued') this.#enqueue(pending)
  }

  /** Sends again what has waited too long, and answers those whose deadline has passed. */
  tick(): void {
    const now = this.#options.now()
    if (this.#deadlines.due(now)) this.#expire(now)
    const held = this.#held
    this.#held = []
    for (const pending of held)
      if (pending.state === 'held' && !pending.waiter.settled) this.#enqueue(pending)
    for (const pending of this.#pending.values()) {
      if (pending.state !== 'sent') continue
      // Sent in the order of their numbers, but for those sent again: the first recent one ends the search.
      if (now - pending.sentAt < this.#options.resendAfter) break
      this.#enqueue(pending)
    }
  }

  #expire(now: number): void {
    for (const [number, pending] of this.#pending) {
      if (pending.waiter.deadline > now) {
        this.#deadlines.note(pending.waiter.deadline)
        continue
      }
      this.#forget(number)
      pending.waiter.reject(unanswered(pending, 'before its deadline'))
    }
  }

  /** The node stops: nobody will learn what becomes of these here. */
  close(): void {
    for (const pending of this.#pending.values()) {
      pending.waiter.reject(
        pending.timesSent > 0
          ? unanswered(pending, 'before this node stopped')
          : new TrivetError('shutting-down', 'This node is stopping; the command was not passed on'),
      )
    }
    this.#pending.clear()
    this.#queue = []
    this.#held = []
    this.#queuedBytes = 0
  }

  #enqueue(pending: Pending): void {
    pending.state = 'queued'
    this.#queue.push(pending)
    this.#queuedBytes += pending.bytes.byteLength
  }

  #forget(number: number): void {
    this.#pending.delete(number)
  }
}

function unanswered(pending: Pending, when: string): TrivetError {
  return pending.timesSent > 0
    ? new TrivetError(
        'outcome-unknown',
        `The outcome of the write is not known ${when}: it may take effect, even later`,
      )
    : new TrivetError('no-leader', `The write could not be passed to a leader ${when}: it has no effect`)
}
