// Concurrent operations of a client share requests: what arrives while one is under way goes together in the next.

import { type BatchRequest, type MsgpackForm, msgpackType, operationLimits } from '../api/protocol.ts'
import { unpackBatch } from './answers.ts'
import { pack } from './codec.ts'
import type { SingleOperation } from './operations.ts'
import type { Place } from './session.ts'
import type { Answer, Effect } from './verdict.ts'

/** An operation above this goes alone: packing would only copy it. */
const largeBytes = 64 * 1024

/** What a batch holds at most: well below what the server takes. */
const batchBytes = 1024 * 1024

/** So long a request that hangs holds up those behind it. */
const longestWaitMs = 20

export type HttpRequest = {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'
  /** From `/v1` on, encoded. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array<ArrayBuffer> | string
}

/** One operation on its way to one endpoint. */
export type Parcel = {
  readonly endpoint: string
  readonly operation: SingleOperation
  /** The route of its own; undefined where its key fits into no URL, so that it travels in a batch even alone. */
  readonly single: HttpRequest | undefined
  readonly effect: Effect
  readonly place: Place | undefined
} & Trip

/** What one attempt hears and says on its way. */
export type Trip = {
  /** How long it is waited for, in milliseconds. */
  readonly patience: number
  readonly signal: AbortSignal
  /** Called before a byte leaves. */
  readonly onSent: () => void
  /** Called when an answer has begun. */
  readonly onHeaders: () => void
}

export type Post = (endpoint: string, request: HttpRequest, trip: Trip) => Promise<Answer>

type Member = {
  readonly parcel: Parcel
  readonly bytes: number
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: unknown) => void
}

/** Whoever may travel together: to one endpoint, reads apart from the writes of one session. */
type Lane = {
  readonly name: string
  underWay: number
  readonly waiting: Member[]
  timer: ReturnType<typeof setTimeout> | undefined
}

/** Sends operations: one at once and by its own route when none is under way, in batches else. */
export class Packer {
  readonly #post: Post
  readonly #lanes = new Map<string, Lane>()

  constructor(post: Post) {
    this.#post = post
  }

  /** Resolves with the operation's own answer, whether it came alone or in a batch. Rejects as the request that carried it. */
  send(parcel: Parcel): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>()
    const member = { parcel, bytes: bytesOf(parcel.operation), resolve, reject }
    // A write under a key of its own cannot share the request, whose header the key is.
    const apart = parcel.effect === 'once' && parcel.place?.numbered === undefined
    if (apart || member.bytes > largeBytes) {
      void this.#ship([member])
      return promise
    }
    const lane = this.#lane(parcel)
    lane.waiting.push(member)
    if (lane.underWay === 0 || isFull(lane.waiting)) this.#go(lane)
    else lane.timer ??= setTimeout(() => this.#go(lane), longestWaitMs)
    return promise
  }

  #lane({ endpoint, effect, place }: Parcel): Lane {
    const name = `${endpoint} ${effect} ${place?.numbered?.session ?? ''}`
    const lane = this.#lanes.get(name) ?? { name, underWay: 0, waiting: [], timer: undefined }
    this.#lanes.set(name, lane)
    return lane
  }

  /** Sends what waits, as much as goes into one request. */
  #go(lane: Lane): void {
    clearTimeout(lane.timer)
    lane.timer = undefined
    const members = load(lane.waiting)
    if (members.length === 0) {
      if (lane.underWay === 0) this.#lanes.delete(lane.name)
      return
    }
    lane.underWay += 1
    void this.#ship(members).then(() => {
      lane.underWay -= 1
      this.#go(lane)
    })
    if (lane.waiting.length > 0) lane.timer = setTimeout(() => this.#go(lane), longestWaitMs)
  }

  /** Settles every member; never rejects. */
  async #ship(members: readonly Member[]): Promise<void> {
    // Whoever gave up while waiting was not sent at all.
    const present = members.filter(({ parcel }) => !parcel.signal.aborted)
    const [first] = present
    if (first === undefined) return
    const { single, endpoint, place } = first.parcel
    if (present.length === 1 && single !== undefined) {
      const headers = { ...single.headers, ...(place === undefined ? {} : pair(place.header())) }
      await this.#post(endpoint, { ...single, headers }, first.parcel).then(first.resolve, first.reject)
      return
    }
    try {
      const answer = await this.#post(endpoint, batchOf(present), sharedTrip(present))
      if (present.length > 1 && isRefusedTogether(answer.status)) return await this.#split(present)
      const answers = unpackBatch(answer, present.length)
      for (const [index, member] of present.entries()) member.resolve(answers[index] ?? answer)
    } catch (error) {
      for (const { reject } of present) reject(error)
    }
  }

  /** One of them is at fault, or all are too much: each half by itself, until each error is its own operation's. */
  async #split(members: readonly Member[]): Promise<void> {
    const middle = Math.ceil(members.length / 2)
    await Promise.all([this.#ship(members.slice(0, middle)), this.#ship(members.slice(middle))])
  }
}

/** Takes off the queue what goes into one request. */
function load(waiting: Member[]): readonly Member[] {
  let bytes = 0
  let count = 0
  for (const member of waiting) {
    bytes += member.bytes
    if (count > 0 && (count === operationLimits.operations || bytes > batchBytes)) break
    count += 1
  }
  return waiting.splice(0, count)
}

function isFull(waiting: readonly Member[]): boolean {
  return (
    waiting.length >= operationLimits.operations ||
    waiting.reduce((sum, { bytes }) => sum + bytes, 0) >= batchBytes
  )
}

function batchOf(members: readonly Member[]): HttpRequest {
  const operations = members.map(({ parcel: { operation, place } }) =>
    place?.numbered === undefined ? operation : { ...operation, seq: place.numbered.seq },
  )
  const place = members[0]?.parcel.place
  const header = place === undefined ? {} : pair((place.numbered ?? place).header())
  return {
    method: 'POST',
    path: '/v1/batch',
    headers: { 'Content-Type': msgpackType, Accept: msgpackType, ...header },
    body: pack({ operations } satisfies BatchRequest<MsgpackForm>),
  }
}

function pair([name, value]: readonly [name: string, value: string]): Readonly<Record<string, string>> {
  return { [name]: value }
}

/** Waits as long as the most patient of them, and is given up when all of them have. */
function sharedTrip(members: readonly Member[]): Trip {
  const aborter = new AbortController()
  let present = members.length
  for (const { parcel } of members) {
    const leave = (): void => {
      present -= 1
      if (present === 0) aborter.abort(parcel.signal.reason)
    }
    parcel.signal.addEventListener('abort', leave, { once: true })
  }
  return {
    patience: Math.max(...members.map(({ parcel }) => parcel.patience)),
    signal: aborter.signal,
    onSent: () => {
      for (const { parcel } of members) parcel.onSent()
    },
    onHeaders: () => {
      for (const { parcel } of members) parcel.onHeaders()
    },
  }
}

/** Refused for what it holds, so that nothing has happened; not for who sent it, or when. */
function isRefusedTogether(status: number): boolean {
  return [400, 403, 404, 413, 415, 422].includes(status)
}

function bytesOf(operation: SingleOperation): number {
  const value = operation.op === 'set' ? operation.value.length : 0
  return 100 + operation.key.length * 3 + value
}
