// Concurrent operations of a client share requests: those of one moment go together, and what arrives meanwhile goes in the next.

import { type BatchRequest, type MsgpackForm, msgpackType, operationLimits } from '../api/protocol.ts'
import { Alarms } from './alarms.ts'
import { unpackBatch } from './answers.ts'
import { pack } from './codec.ts'
import type { SingleOperation } from './operations.ts'
import type { Place } from './session.ts'
import { type Delivery, type HttpRequest, Member, Shipment, type Trip } from './shipment.ts'
import type { Answer, Effect } from './verdict.ts'

/** An operation above this goes alone: packing would only copy it. */
const largeBytes = 64 * 1024

/** What a batch holds at most: well below what the server takes. */
const batchBytes = 1024 * 1024

/** So many are worth a request of their own while another one is under way: the cost of one is spread thin by then. */
const worthwhile = 256

/** How many requests of a lane are under way at a time while none hangs: client, network and node work side by side then. */
const mostUnderWay = 2

/** So long a request that hangs holds up those behind it. */
const longestWaitMs = 20

/** What goes to one endpoint, and until when it is waited for: moments of `performance.now()`. */
export type Parcel = {
  readonly endpoint: string
  readonly effect: Effect
  readonly place: Place | undefined
  /** The caller's own. */
  readonly signal: AbortSignal | undefined
  /** When it is given up unless an answer has begun. */
  readonly patience: number
  /** When it is given up at any rate. */
  readonly deadline: number
} & Load

/** What is sent: a request, or an operation that may travel with others. */
export type Load =
  | { readonly operation?: never; readonly request: HttpRequest }
  | {
      readonly operation: SingleOperation
      /** The route of its own; undefined where its key fits into no URL, so that it travels in a batch even alone. */
      readonly single: () => HttpRequest | undefined
    }

export type Post = (endpoint: string, request: HttpRequest, trip: Trip) => Promise<Answer>

type Operating = Member<Extract<Parcel, { operation: SingleOperation }>>

/** Whoever may travel together: to one endpoint, reads apart from the writes of one session. */
type Lane = {
  readonly endpoint: string
  readonly effect: Effect
  readonly session: string | undefined
  underWay: number
  waiting: Operating[]
  bytes: number
  /** The keys of writes under way: what comes later for one of them waits for it, so that a key's writes keep their order. */
  readonly keys: Map<string, number>
  /** Whether what waits is about to go. */
  starting: boolean
  timer: ReturnType<typeof setTimeout> | undefined
}

/** Sends operations: alone and by its own route what is alone, in batches what comes together. */
export class Packer {
  readonly #post: Post
  readonly #alarms = new Alarms()
  readonly #lanes = new Set<Lane>()
  #lastLane: Lane | undefined

  constructor(post: Post) {
    this.#post = post
  }

  /** Resolves with what came of it, whether it went alone or in a batch. Never rejects. */
  send(parcel: Parcel): Promise<Delivery> {
    return new Promise((resolve) => {
      if (parcel.operation === undefined) {
        const member = new Member(parcel, 0, resolve, this.#alarms)
        void this.#shipAlone(member, parcel.request)
        return
      }
      const member = new Member(parcel, bytesOf(parcel.operation), resolve, this.#alarms)
      // A write under a key of its own cannot share the request, whose header the key is.
      const apart = parcel.effect === 'once' && parcel.place?.numbered === undefined
      if (apart || member.bytes > largeBytes) void this.#ship([member])
      else this.#queue(this.#lane(parcel), member)
    })
  }

  #queue(lane: Lane, member: Operating): void {
    lane.waiting.push(member)
    lane.bytes += member.bytes
    if (lane.starting) return
    if (lane.underWay < mostUnderWay && (lane.underWay === 0 || isWorthwhile(lane))) {
      // A moment later, so that all that is asked for in this one goes together.
      lane.starting = true
      queueMicrotask(() => this.#go(lane, false))
    } else if (isFull(lane)) {
      this.#go(lane, true)
    } else {
      lane.timer ??= setTimeout(() => this.#go(lane, true), longestWaitMs)
    }
  }

  #lane({ endpoint, effect, place }: Parcel): Lane {
    const session = place?.numbered?.session
    const fits = (lane: Lane | undefined): lane is Lane =>
      lane?.session === session && lane?.endpoint === endpoint && lane.effect === effect
    let lane = this.#lastLane
    if (!fits(lane)) {
      lane = [...this.#lanes].find(fits) ?? newLane({ endpoint, effect, session })
      this.#lanes.add(lane)
      this.#lastLane = lane
    }
    return lane
  }

  /** Sends what waits, in as many requests as may be under way; `overdue` says that one hangs, or that too much waits. */
  #go(lane: Lane, overdue: boolean): void {
    lane.starting = false
    clearTimeout(lane.timer)
    lane.timer = undefined
    for (let hurry = overdue; lane.waiting.length > 0; hurry = false) {
      const may = lane.underWay === 0 || (lane.underWay < mostUnderWay && isWorthwhile(lane))
      if (!hurry && !may) break
      const members = load(lane, hurry)
      if (members.length === 0) break
      this.#depart(lane, members)
    }
    if (lane.waiting.length > 0) lane.timer = setTimeout(() => this.#go(lane, true), longestWaitMs)
    else if (lane.underWay === 0) this.#forget(lane)
  }

  #depart(lane: Lane, members: readonly Operating[]): void {
    lane.underWay += 1
    if (lane.effect !== 'none') for (const { parcel } of members) note(lane.keys, parcel.operation, 1)
    void this.#ship(members).then(() => {
      lane.underWay -= 1
      if (lane.effect !== 'none') for (const { parcel } of members) note(lane.keys, parcel.operation, -1)
      if (!lane.starting) this.#go(lane, false)
    })
  }

  #forget(lane: Lane): void {
    this.#lanes.delete(lane)
    if (this.#lastLane === lane) this.#lastLane = undefined
  }

  /** Settles every member; never rejects. */
  async #ship(members: readonly Operating[]): Promise<void> {
    // Whoever gave up while waiting was not sent at all.
    const present = members.filter(({ settled }) => !settled)
    const [first] = present
    if (first === undefined) return
    try {
      const alone = present.length === 1 ? first.parcel.single() : undefined
      if (alone !== undefined) return await this.#shipAlone(first, alone)
      const answer = await this.#post(first.parcel.endpoint, batchOf(present), new Shipment(present))
      if (present.length > 1 && isRefusedTogether(answer.status)) return await this.#split(present)
      unpackBatch(answer, present.length, (own, at) => present[at]?.answered(own))
    } catch (cause) {
      for (const member of present) member.failed(cause)
    }
  }

  async #shipAlone(member: Member<Parcel>, request: HttpRequest): Promise<void> {
    const { endpoint, place } = member.parcel
    const shipment = new Shipment([member])
    const headers = place === undefined ? request.headers : { ...request.headers, ...pair(place.header()) }
    try {
      member.answered(
        await this.#post(endpoint, headers === undefined ? request : { ...request, headers }, shipment),
      )
    } catch (cause) {
      member.failed(cause)
    }
  }

  /** One of them is at fault, or all are too much: each half by itself, until each error is its own operation's. */
  async #split(members: readonly Operating[]): Promise<void> {
    const middle = Math.ceil(members.length / 2)
    await Promise.all([this.#ship(members.slice(0, middle)), this.#ship(members.slice(middle))])
  }
}

function newLane(whose: Pick<Lane, 'endpoint' | 'effect' | 'session'>): Lane {
  return {
    ...whose,
    underWay: 0,
    waiting: [],
    bytes: 0,
    keys: new Map(),
    starting: false,
    timer: undefined,
  }
}

/**
 * Takes off the queue what goes into one request, in order: all of it, or about as much as makes one worthwhile, with the rest
 * for another one beside it. What has a write of its key under way stays, unless that hangs.
 */
function load(lane: Lane, overdue: boolean): readonly Operating[] {
  const { waiting, keys } = lane
  const most = overdue ? operationLimits.operations : shareOf(lane)
  const taken: Operating[] = []
  const left: Operating[] = []
  let bytes = 0
  for (const member of waiting) {
    const blocked = !overdue && keys.size > 0 && keys.has(nameOf(member.parcel.operation))
    const full = taken.length === most || (taken.length > 0 && bytes + member.bytes > batchBytes)
    if (blocked || full) {
      left.push(member)
      // What comes after one that stays may be of its key: it is not looked at any more.
      if (full) {
        for (let at = taken.length + left.length; at < waiting.length; at += 1)
          left.push(waiting[at] ?? member)
        break
      }
      continue
    }
    taken.push(member)
    bytes += member.bytes
  }
  lane.waiting = left
  lane.bytes -= bytes
  return taken
}

/** All, or its share where each request that may still go is worth it; at most what one takes. */
function shareOf({ waiting, underWay }: Lane): number {
  const requests = Math.min(mostUnderWay - underWay, Math.floor(waiting.length / worthwhile))
  return Math.min(Math.ceil(waiting.length / Math.max(1, requests)), operationLimits.operations)
}

function isWorthwhile({ waiting, bytes }: Lane): boolean {
  return waiting.length >= worthwhile || bytes >= batchBytes
}

function isFull({ waiting, bytes }: Lane): boolean {
  return waiting.length >= operationLimits.operations || bytes >= batchBytes
}

function note(keys: Map<string, number>, operation: SingleOperation, change: 1 | -1): void {
  const name = nameOf(operation)
  const count = (keys.get(name) ?? 0) + change
  if (count === 0) keys.delete(name)
  else keys.set(name, count)
}

/** No name of a store holds a slash. */
function nameOf({ store, key }: SingleOperation): string {
  return `${store}/${key}`
}

function batchOf(members: readonly Operating[]): HttpRequest {
  const operations = members.map(({ parcel: { operation, place } }) =>
    place?.numbered === undefined ? operation : { ...operation, seq: place.numbered.seq },
  )
  const place = members[0]?.parcel.place
  const header = place === undefined ? {} : pair(place.numbered?.sharedHeader() ?? place.header())
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

/** Refused for what it holds, so that nothing has happened; not for who sent it, or when. */
function isRefusedTogether(status: number): boolean {
  return [400, 403, 404, 413, 415, 422].includes(status)
}

function bytesOf(operation: SingleOperation): number {
  const value = operation.op === 'set' ? operation.value.length : 0
  return 100 + operation.key.length * 3 + value
}
