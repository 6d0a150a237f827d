// One request on its way, and those who wait for it: each gives up in its own time, and the request when all have.

import type { Alarms, Ringing, Slot } from './alarms.ts'
import type { Answer } from './verdict.ts'

export type HttpRequest = {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'
  /** From `/v1` on, encoded. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array<ArrayBuffer> | string
  /** A 2xx has its body in `stream`, to be read on after the call has ended. */
  readonly streams?: true
}

/** What a request hears and says on its way. */
export type Trip = {
  /** How long it is waited for, in milliseconds. */
  readonly patience: number
  readonly signal: AbortSignal
  /** Called before a byte leaves. */
  readonly onSent: () => void
  /** Called when an answer has begun. */
  readonly onHeaders: () => void
}

/** What came of one attempt. `sent`: whether a byte of it may have left. */
export type Delivery =
  | { readonly type: 'answered'; readonly answer: Answer }
  | { readonly type: 'failed'; readonly cause: unknown; readonly sent: boolean }
  /** Given up: its time was over, or its caller did not want it any more. */
  | { readonly type: 'late' | 'aborted'; readonly sent: boolean }

type Waiting = {
  readonly signal: AbortSignal | undefined
  readonly patience: number
  readonly deadline: number
}

/** One who waits. Settled once; what happens to it afterwards changes nothing. */
export class Member<Parcel extends Waiting> implements Ringing {
  readonly parcel: Parcel
  readonly bytes: number
  readonly #resolve: (delivery: Delivery) => void
  readonly #alarms: Alarms
  #slot: Slot
  #shipment: Shipment | undefined
  #settled = false
  readonly #onAbort: (() => void) | undefined

  constructor(parcel: Parcel, bytes: number, resolve: (delivery: Delivery) => void, alarms: Alarms) {
    this.parcel = parcel
    this.bytes = bytes
    this.#resolve = resolve
    this.#alarms = alarms
    const at = Math.min(parcel.patience, parcel.deadline)
    this.#slot = alarms.set(this, { at, now: performance.now() })
    if (parcel.signal === undefined) return
    this.#onAbort = () => this.#giveUp('aborted')
    parcel.signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  get settled(): boolean {
    return this.#settled
  }

  /** It goes with this one. After one that was sent, what it says of having been sent and answered stays true. */
  board(shipment: Shipment): void {
    if (this.#shipment !== undefined) shipment.follow(this.#shipment)
    this.#shipment = shipment
  }

  answered(answer: Answer): void {
    this.#settle({ type: 'answered', answer })
  }

  failed(cause: unknown): void {
    if (!this.#settled) this.#settle({ type: 'failed', cause, sent: this.#sent })
  }

  ring(): void {
    const now = performance.now()
    const { deadline } = this.parcel
    // An answer that has begun in time may take until the deadline.
    if (this.#shipment?.begun === true && now < deadline) {
      this.#slot = this.#alarms.set(this, { at: deadline, now })
    } else {
      this.#giveUp('late')
    }
  }

  get #sent(): boolean {
    return this.#shipment?.sent === true
  }

  #giveUp(type: 'late' | 'aborted'): void {
    if (this.#settled) return
    this.#settle({ type, sent: this.#sent })
    this.#shipment?.leave()
  }

  #settle(delivery: Delivery): void {
    if (this.#settled) return
    this.#settled = true
    this.#alarms.clear(this.#slot, this)
    if (this.#onAbort !== undefined) this.parcel.signal?.removeEventListener('abort', this.#onAbort)
    this.#resolve(delivery)
  }
}

/** A request under way. */
export class Shipment implements Trip {
  readonly #aborter = new AbortController()
  readonly patience: number
  #present: number
  #sent = false
  #begun = false

  /** Waits as long as the most patient of them. */
  constructor(members: readonly Member<Waiting>[]) {
    let patience = 0
    for (const member of members) {
      member.board(this)
      patience = Math.max(patience, Math.min(member.parcel.patience, member.parcel.deadline))
    }
    this.#present = members.length
    this.patience = patience - performance.now()
  }

  get signal(): AbortSignal {
    return this.#aborter.signal
  }

  /** Whether a byte may have left. */
  get sent(): boolean {
    return this.#sent
  }

  /** Whether an answer has begun. */
  get begun(): boolean {
    return this.#begun
  }

  follow(earlier: Shipment): void {
    this.#sent ||= earlier.#sent
    this.#begun ||= earlier.#begun
  }

  readonly onSent = (): void => {
    this.#sent = true
  }

  readonly onHeaders = (): void => {
    this.#begun = true
  }

  /** One of them has given up. */
  leave(): void {
    this.#present -= 1
    if (this.#present === 0) this.#aborter.abort()
  }
}
