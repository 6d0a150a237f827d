// A batch at work: operations that know nothing of each other, but that those on one key keep their order.

import type { FastifyRequest } from 'fastify'
import { TrivetError } from '../errors.ts'
import type { NodeSurface, WriteTiming } from '../node/surface.ts'
import type { KeyCommand, Outcome } from '../store/types.ts'
import type { AnswerShare } from './answer-room.ts'
import type { ApiLimits } from './app.ts'
import { noSuchKey, successOf } from './decided.ts'
import { type Call, type Gate, placeOfCall, storeCallOf } from './gate.ts'
import { type BatchRepeat, repeatable, repeatInBatch } from './once.ts'
import { failedAnswer, foundAnswer, writtenAnswer } from './operation-answers.ts'
import { type BodyForm, encodePart } from './operation-bodies.ts'
import {
  atOperation,
  type BatchEntry,
  type BatchOperation,
  readBatchEntry,
  targetOfRaw,
} from './operations.ts'

/** Reads of one batch that are under way at a time: each has its value in memory. */
const readsAtOnce = 16

export type BatchOptions = {
  readonly node: NodeSurface
  readonly gate: Gate
  readonly limits: ApiLimits
  readonly request: FastifyRequest
  readonly call: Call
  readonly form: BodyForm
  readonly repeat: BatchRepeat | undefined
  /** Reads answer from this node's own state. */
  readonly stale: boolean
  readonly share: AnswerShare
}

/** What one key of a batch waits for: the operations that go side by side now, and what went before them. */
type Lane = { kind: LaneKind; group: Promise<Buffer>[]; before: Promise<unknown> | undefined }

/** Reads go side by side, and increments without conditions, whose order nobody can tell. Writes go one by one. */
type LaneKind = 'read' | 'increment' | 'write'

/** The writes of a key by what their success is called. */
const successes = {
  set: 'set',
  delete: 'deleted',
  increment: 'incremented',
  touch: 'touched',
} as const satisfies Record<KeyCommand['type'], Outcome['type']>

type Read = Extract<BatchOperation, { type: 'get' | 'head' | 'exists' }>

/** An operation as it was sent: read, or what is wrong with it. */
type Reading = { readonly entry: BatchEntry } | { readonly fault: TrivetError }

export class Batch {
  readonly #options: BatchOptions
  readonly #lanes = new Map<string, Lane>()
  readonly #reads = new Turns(readsAtOnce)
  #barrier: Promise<void> | undefined
  #timing: WriteTiming | undefined
  #writes = 0
  #replayed = 0

  constructor(options: BatchOptions) {
    this.#options = options
  }

  /** Where the time of the writes went, each phase as in the write that was longest in it; undefined without any. */
  get timing(): WriteTiming | undefined {
    return this.#timing
  }

  /** Whether all its writes were decided before. */
  get replayed(): boolean {
    return this.#writes > 0 && this.#replayed === this.#writes
  }

  /**
   * Carries them all out. Resolves with their answers, encoded, in order: whatever one of them fails for is its answer. Rejects
   * only when the client has gone, or with what nobody foresaw.
   */
  run(raws: readonly unknown[]): Promise<readonly Buffer[]> {
    return Promise.all(raws.map((raw, at) => this.#start(raw, at)))
  }

  #start(raw: unknown, at: number): Promise<Buffer> {
    const { form, limits } = this.#options
    const reading = read(() => readBatchEntry(raw, { form, keyBytes: limits.keyBytes }))
    const work = (): Promise<Buffer> => this.#answer(raw, reading, at)
    if ('fault' in reading) return work()
    const { operation } = reading.entry
    const name = `${operation.store}/${Buffer.from(operation.key).toString('latin1')}`
    const kind = kindOf(reading.entry)
    const lane = this.#lanes.get(name)
    if (lane === undefined) {
      const done = work()
      this.#lanes.set(name, { kind, group: [done], before: undefined })
      return done
    }
    if (lane.kind !== kind || kind === 'write') {
      lane.before = Promise.all(lane.group)
      lane.kind = kind
      lane.group = []
    }
    const done = lane.before === undefined ? work() : lane.before.then(work)
    lane.group.push(done)
    return done
  }

  async #answer(raw: unknown, reading: Reading, at: number): Promise<Buffer> {
    const { form } = this.#options
    try {
      const call = await this.#admit(raw)
      if ('fault' in reading) throw reading.fault
      const { operation } = reading.entry
      if (isRead(operation)) return await this.#reads.take(() => this.#read(operation, call))
      return await this.#write({ ...reading.entry, operation }, call, at)
    } catch (error) {
      if (!(error instanceof TrivetError)) throw error
      return encodePart(form, failedAnswer(atOperation(error, at)))
    }
  }

  /** Judges it as if it came alone: a read after the barrier, a write at once, and refused only after the barrier. */
  async #admit(raw: unknown): Promise<Call> {
    const { gate, request, call, stale } = this.#options
    const target = targetOfRaw(raw)
    if (target === undefined) return call
    if (target.access === 'read' && !stale) {
      await this.#afterBarrier()
      return gate.judge(request, target)
    }
    try {
      return gate.judge(request, target)
    } catch (refusal) {
      if (!(refusal instanceof TrivetError)) throw refusal
      await this.#afterBarrier()
      return gate.judge(request, target)
    }
  }

  #afterBarrier(): Promise<void> {
    this.#barrier ??= this.#options.node.barrier(this.#options.call)
    return this.#barrier
  }

  async #read(operation: Read, call: Call): Promise<Buffer> {
    const { node, form, share } = this.#options
    const item = await node.state.get(placeOfCall(call), operation.key)
    if (operation.type === 'exists') return encodePart(form, { status: 200, exists: item !== undefined })
    if (item === undefined) throw noSuchKey()
    const { value, ...head } = item
    const found = operation.type === 'get' ? item : { ...head, size: value.length }
    const part = encodePart(form, { status: 200, ...foundAnswer(found, form) })
    share.take(part.length)
    return part
  }

  async #write(
    { operation, conditions, seq }: BatchEntry & { readonly operation: Exclude<BatchOperation, Read> },
    call: Call,
    at: number,
  ): Promise<Buffer> {
    const { node, form, limits, repeat } = this.#options
    refuseLargeValue(operation, storeCallOf(call).maxValueBytes ?? limits.valueBytes)
    const command: KeyCommand = { ...operation, token: call.tokenHash, conditions }
    const named = repeatable(command, repeatInBatch(repeat, { at, seq }))
    const { outcome, timing } = await node.execute(named, call)
    this.#timing = this.#timing === undefined ? timing : longest(this.#timing, timing)
    this.#writes += 1
    const replayed = outcome.replayed === true
    if (replayed) this.#replayed += 1
    try {
      const success = successOf(outcome, { token: call.token, store: call.store }, successes[operation.type])
      return encodePart(form, writtenAnswer(success, form))
    } catch (error) {
      if (!(error instanceof TrivetError) || !replayed) throw error
      return encodePart(form, failedAnswer(atOperation(error, at), { replayed }))
    }
  }
}

/** Throws `value-too-large` for what its store does not take: it would travel to the log to be refused there. */
export function refuseLargeValue(
  operation: { readonly type: string; readonly value?: Uint8Array },
  limit: number,
) {
  const actual = operation.value?.length ?? 0
  if (actual <= limit) return
  throw new TrivetError('value-too-large', `A value here has at most ${limit} bytes`, { limit, actual })
}

function read(parse: () => BatchEntry): Reading {
  try {
    return { entry: parse() }
  } catch (fault) {
    if (!(fault instanceof TrivetError)) throw fault
    return { fault }
  }
}

function isRead(operation: BatchOperation): operation is Read {
  return operation.type === 'get' || operation.type === 'head' || operation.type === 'exists'
}

function kindOf({ operation, conditions }: BatchEntry): LaneKind {
  if (isRead(operation)) return 'read'
  return operation.type === 'increment' && conditions.length === 0 ? 'increment' : 'write'
}

function longest(one: WriteTiming, other: WriteTiming): WriteTiming {
  return {
    forward: Math.max(one.forward, other.forward),
    queue: Math.max(one.queue, other.queue),
    fsync: Math.max(one.fsync, other.fsync),
    quorum: Math.max(one.quorum, other.quorum),
    apply: Math.max(one.apply, other.apply),
  }
}

/** Lets so many go at a time, in the order in which they come. */
class Turns {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(free: number) {
    this.#free = free
  }

  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free += 1
      else next()
    }
  }
}
