// The commands this node answers for: numbered, sent to whoever leads, sent again when in doubt, answered once applied.

import { type ErrorCode, TrivetError } from '../errors.ts'
import { assert } from '../raft/assert.ts'
import type { MemberId } from '../raft/types.ts'
import { commandVersionOf } from '../store/commands.ts'
import type { CommandBatch, NumberedCommand } from '../store/types.ts'
import { spaceThresholds } from './space.ts'
import type { Executed, WaitOptions } from './surface.ts'
import { EarliestDeadline, type Settled, type Settling, SharedWaiter, Waiter } from './waiters.ts'

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
  readonly waiter: Settling<Executed>
  readonly queuedAt: number
  sentAt: number
  /** `queued`: to be sent; `sent`: with a leader; `held`: refused by one who does not lead, sent again with the next tick. */
  state: 'queued' | 'sent' | 'held'
  readonly version: number
  /** The attempts in which it left for a log, this node's own or a leader's, and was not refused: it may be in one by each. */
  readonly attempts: number[]
}

/** Commands that leave together. Attempts count up within the boot; no two are the same. */
export type Attempt = { readonly attempt: number; readonly batch: CommandBatch }

/** What a node to which an attempt was sent says of some of its commands: they entered no log there and will not. */
export type Refusal = {
  readonly from: MemberId
  readonly attempt: number
  readonly numbers: readonly number[]
  readonly code: ErrorCode
}

/**
 * Every command carries (peer, boot, number), so that it can be sent as often as needed and is applied once
 * (`safety.md`, rule 16). What its waiter is told is true: "it entered no log" only if it never left, or every attempt to
 * pass it on was refused (rule 17).
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
  #lastAttempt = 0
  /** The last attempt before the connection to a node broke: what that node says of it now, another life of it may say. */
  readonly #brokenAt = new Map<MemberId, number>()
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
    const refusal = this.#overload(bytes)
    if (refusal !== undefined) return Promise.reject(refusal)
    const number = this.#last + 1
    const waiter = new Waiter<Executed>(options, () => this.#forget(number))
    if (!waiter.settled) this.#admit(bytes, waiter, this.#options.now())
    return waiter.promise
  }

  /** Takes encoded commands, in order, for a caller that waits for all. Resolves and rejects as `NodeSurface.executeMany` says. */
  addMany(commands: readonly Uint8Array[], options: WaitOptions): Promise<readonly Settled<Executed>[]> {
    const numbers: number[] = []
    const waiter = new SharedWaiter<Executed>(commands.length, options, () => {
      for (const number of numbers) this.#forget(number)
    })
    if (waiter.settled) return waiter.promise
    const now = this.#options.now()
    for (const [at, bytes] of commands.entries()) {
      const share = waiter.share(at)
      const refusal = this.#overload(bytes)
      if (refusal === undefined) numbers.push(this.#admit(bytes, share, now))
      else share.reject(refusal)
    }
    return waiter.promise
  }

  #overload(bytes: Uint8Array): TrivetError | undefined {
    const { maxWaitingBytes } = this.#options
    const waiting = this.#queuedBytes + bytes.byteLength
    if (waiting <= maxWaitingBytes) return undefined
    return new TrivetError(
      'overloaded',
      `Commands of ${maxWaitingBytes} bytes are waiting for the leader already`,
      { field: 'waiting commands', limit: maxWaitingBytes, actual: waiting },
    )
  }

  /** Returns its number. */
  #admit(bytes: Uint8Array, waiter: Settling<Executed>, queuedAt: number): number {
    this.#last++
    const number = this.#last
    const pending: Pending = {
      number,
      bytes,
      version: commandVersionOf(bytes) ?? 0,
      waiter,
      queuedAt,
      sentAt: 0,
      state: 'queued',
      attempts: [],
    }
    this.#pending.set(number, pending)
    this.#deadlines.note(waiter.deadline)
    this.#enqueue(pending)
    return number
  }

  /**
   * Takes about `maxBytes` of what waits, to be sent now; undefined when nothing does. Commands above `maxVersion` are not
   * for any log yet (rule 21): they are refused, or left alone if one may have them already.
   */
  take(maxBytes: number, maxVersion = Number.POSITIVE_INFINITY): Attempt | undefined {
    const attempt = this.#lastAttempt + 1
    const commands: NumberedCommand[] = []
    const now = this.#options.now()
    let bytes = 0
    let taken = 0
    for (const pending of this.#queue) {
      if (bytes > 0 && bytes + pending.bytes.byteLength > maxBytes) break
      taken++
      if (pending.waiter.settled) continue
      if (pending.version > maxVersion) {
        this.#withhold(pending)
        continue
      }
      bytes += pending.bytes.byteLength
      pending.state = 'sent'
      pending.sentAt = now
      pending.attempts.push(attempt)
      commands.push({ number: pending.number, bytes: pending.bytes })
    }
    for (const pending of this.#queue.splice(0, taken)) this.#queuedBytes -= pending.bytes.byteLength
    if (commands.length === 0) return undefined
    this.#lastAttempt = attempt
    return {
      attempt,
      batch: { peer: this.#options.self, boot: this.#options.boot, acked: this.acked, commands },
    }
  }

  /** What `take` handed out could not leave: nobody has seen it. */
  putBack({ attempt, batch }: Attempt): void {
    const back: Pending[] = []
    for (const { number } of batch.commands) {
      const pending = this.#pending.get(number)
      if (pending === undefined) continue
      assert(
        pending.state === 'sent' && pending.attempts.at(-1) === attempt,
        'only what was taken last is put back',
      )
      pending.attempts.pop()
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
   * Whoever they were sent to did not take them. Each receiver takes an attempt once at most, however many copies of it
   * arrive, so that a refusal is the last word about the attempt that it names, and about no other.
   */
  refused({ from, attempt, numbers, code }: Refusal): void {
    const isBelieved = attempt > (this.#brokenAt.get(from) ?? 0)
    for (const number of numbers) {
      const pending = this.#pending.get(number)
      const at = pending?.attempts.indexOf(attempt) ?? -1
      if (pending === undefined || at < 0) continue
      const isLatest = at === pending.attempts.length - 1
      if (isBelieved) pending.attempts.splice(at, 1)
      if (pending.state !== 'sent' || !isLatest) continue
      if (code !== 'no-leader' && pending.attempts.length === 0) this.#refuse(pending, code)
      else {
        pending.state = 'held'
        this.#held.push(pending)
      }
    }
  }

  /**
   * The connection to a node broke. It may come back as another life of the same node, which does not remember what the one
   * before took.
   */
  disconnected(peer: MemberId): void {
    this.#brokenAt.set(peer, this.#lastAttempt)
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
        pending.attempts.length > 0
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

  /** The leader does not take it. If a log may have it nevertheless, its outcome or its deadline decides. */
  #withhold(pending: Pending): void {
    if (pending.attempts.length === 0) this.#refuse(pending, 'not-ready')
    else {
      pending.state = 'held'
      this.#held.push(pending)
    }
  }

  #refuse(pending: Pending, code: ErrorCode): void {
    this.#forget(pending.number)
    pending.waiter.reject(new TrivetError(code, refusals[code] ?? `The leader refused the command: ${code}`))
  }

  #forget(number: number): void {
    this.#pending.delete(number)
  }
}

const refusals: { readonly [Code in ErrorCode]?: string } = {
  'not-ready':
    'Some member runs a version of Trivet that does not know this kind of write: it is taken once all are updated',
  overloaded: 'Too many commands wait at the leader already',
  'storage-full': `No quorum of voters has ${spaceThresholds.low / 2 ** 20} MiB free on its disk. Deletes are still taken.`,
}

function unanswered(pending: Pending, when: string): TrivetError {
  return pending.attempts.length > 0
    ? new TrivetError(
        'outcome-unknown',
        `The outcome of the write is not known ${when}: it may take effect, even later`,
      )
    : new TrivetError('no-leader', `The write could not be passed to a leader ${when}: it has no effect`)
}
