// A batch at work: operations that know nothing of each other, but that those on one key keep their order.

import type { FastifyRequest } from 'fastify'
import { TrivetError } from '../errors.ts'
import type { Executed, NodeSurface, WriteTiming } from '../node/surface.ts'
import type { Target } from '../store/grants.ts'
import type { Item as Found, KeyCommand, Outcome } from '../store/types.ts'
import type { AnswerShare } from './answer-room.ts'
import type { ApiLimits } from './app.ts'
import { noSuchKey, successOf } from './decided.ts'
import { type Call, type Gate, placeOfCall, storeCallOf } from './gate.ts'
import { type BatchRepeat, repeatable, repeatInBatch } from './once.ts'
import { type BatchResult, failedAnswer, foundAnswer, writtenAnswer } from './operation-answers.ts'
import { type BodyForm, carriedSize } from './operation-bodies.ts'
import {
  atOperation,
  type BatchEntry,
  type BatchOperation,
  type ReadingRules,
  readBatchEntry,
  targetOfRaw,
} from './operations.ts'

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

/** Reads go side by side, and increments without conditions, whose order nobody can tell. Writes go one by one. */
type Kind = 'read' | 'increment' | 'write'

/** What of a key came last: how it goes, and in which step of the batch. */
type Latest = { kind: Kind; step: number }

/** The writes of a key by what their success is called. */
const successes = {
  set: 'set',
  delete: 'deleted',
  increment: 'incremented',
  touch: 'touched',
} as const satisfies Record<KeyCommand['type'], Outcome['type']>

type Read = Extract<BatchOperation, { type: 'get' | 'head' | 'exists' }>

/** One of the batch. `fault`: what is wrong with it, to be told once it is known that its sender may be told. */
type Item = {
  readonly at: number
  readonly raw: unknown
  readonly entry: BatchEntry | undefined
  readonly fault: TrivetError | undefined
}

/** One that may be carried out, as far as was judged. */
type Admitted<Operation extends BatchOperation = BatchOperation> = {
  readonly at: number
  readonly entry: BatchEntry & { readonly operation: Operation }
  readonly call: Call
}

type Write = Exclude<BatchOperation, Read>

export class Batch {
  readonly #options: BatchOptions
  readonly #results: BatchResult[] = []
  #missing: BatchResult | undefined
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
   * Carries them all out, in steps: one for all of them, but that those on one key keep their order. Resolves with their answers, in
   * order: whatever one of them fails for is its answer. Rejects only when the client has gone, or with what nobody foresaw.
   */
  async run(raws: readonly unknown[]): Promise<readonly BatchResult[]> {
    const { form, limits } = this.#options
    const rules = { form, keyBytes: limits.keyBytes }
    const items = raws.map((raw, at) => read(raw, at, rules))
    for (const step of stepsOf(items)) await this.#carryOut(step)
    return this.#results
  }

  /** Side by side: writes are judged at once, reads after the barrier, and nothing is refused before that. */
  async #carryOut(items: readonly Item[]): Promise<void> {
    const { stale } = this.#options
    const isAtOnce = (item: Item): boolean => stale || targetOf(item)?.access !== 'read'
    const waiting = items.filter((item) => !isAtOnce(item))
    const atOnce = waiting.length === 0 ? items : items.filter(isAtOnce)
    const { admitted, refused } = this.#admit(atOnce)
    await Promise.all([this.#answer(admitted), this.#answerLater([...waiting, ...refused])])
  }

  async #answerLater(items: readonly Item[]): Promise<void> {
    if (items.length === 0) return
    const { node, call } = this.#options
    try {
      this.#barrier ??= node.barrier(call)
      await this.#barrier
    } catch (error) {
      for (const { at } of items) this.#fail(at, error)
      return
    }
    const { admitted, refused } = this.#admit(items)
    for (const { at, refusal } of refused) this.#fail(at, refusal)
    await this.#answer(admitted)
  }

  /** Judges each as if it came alone. What may be done and is a mistake is answered at once. */
  #admit(items: readonly Item[]): {
    readonly admitted: readonly Admitted[]
    readonly refused: readonly (Item & { readonly refusal: TrivetError })[]
  } {
    const { gate, request, call } = this.#options
    const judge = gate.judging(request)
    const admitted: Admitted[] = []
    const refused: (Item & { readonly refusal: TrivetError })[] = []
    for (const item of items) {
      const { at, entry, fault } = item
      try {
        const target = targetOf(item)
        const judged = target === undefined ? call : judge(target)
        if (entry === undefined) this.#fail(at, fault)
        else admitted.push({ at, entry, call: judged })
      } catch (refusal) {
        if (!(refusal instanceof TrivetError)) throw refusal
        refused.push({ ...item, refusal })
      }
    }
    return { admitted, refused }
  }

  async #answer(admitted: readonly Admitted[]): Promise<void> {
    const reads: Admitted<Read>[] = []
    const writes: Admitted<Write>[] = []
    for (const one of admitted) {
      if (isReading(one)) reads.push(one)
      else if (isWriting(one)) writes.push(one)
    }
    await Promise.all([this.#read(reads), this.#write(writes)])
  }

  async #read(reads: readonly Admitted<Read>[]): Promise<void> {
    const byStore = Map.groupBy(reads, ({ call }) => call)
    for (const [call, some] of byStore) {
      const keys = some.map(({ entry }) => entry.operation.key)
      try {
        await this.#options.node.state.getEach(placeOfCall(call), keys, (item, n) => {
          const one = some[n]
          if (one !== undefined) this.#found(one, item)
        })
      } catch (error) {
        for (const { at } of some) if (this.#results[at] === undefined) this.#fail(at, error)
      }
    }
  }

  #found({ at, entry: { operation } }: Admitted<Read>, item: Found | undefined): void {
    const { form, share } = this.#options
    if (operation.type === 'exists') {
      this.#results[at] = { status: 200, exists: item !== undefined }
    } else if (item === undefined) {
      // Made once for all that are missing: an error costs more than a read.
      this.#missing ??= failedAnswer(noSuchKey())
      this.#results[at] = Object.assign({}, this.#missing, { index: at })
    } else {
      const { value, ...head } = item
      const found = operation.type === 'get' ? item : { ...head, size: value.length }
      const result = { status: 200, ...foundAnswer(found, form) } as const
      try {
        share.take(carriedSize(result))
        this.#results[at] = result
      } catch (error) {
        this.#fail(at, error)
      }
    }
  }

  async #write(writes: readonly Admitted<Write>[]): Promise<void> {
    const taken: Admitted<Write>[] = []
    const commands: KeyCommand[] = []
    for (const one of writes) {
      try {
        commands.push(this.#commandOf(one))
        taken.push(one)
      } catch (error) {
        this.#fail(one.at, error)
      }
    }
    if (commands.length === 0) return
    const { node, call } = this.#options
    const all = await node.executeMany(commands, call)
    for (const [n, came] of all.entries()) {
      const one = taken[n]
      if (one === undefined) continue
      if ('error' in came) this.#fail(one.at, came.error)
      else this.#decided(one, came.value)
    }
  }

  /** Throws `value-too-large`, or `invalid-request` for what it says of its session. */
  #commandOf({ at, entry: { operation, conditions, seq }, call }: Admitted<Write>): KeyCommand {
    const { limits, repeat } = this.#options
    refuseLargeValue(operation, storeCallOf(call).maxValueBytes ?? limits.valueBytes)
    const command: KeyCommand = { ...operation, token: call.tokenHash, conditions }
    return repeatable(command, repeatInBatch(repeat, { at, seq }))
  }

  #decided({ at, entry: { operation }, call }: Admitted<Write>, { outcome, timing }: Executed): void {
    this.#timing = this.#timing === undefined ? timing : longest(this.#timing, timing)
    this.#writes += 1
    const replayed = outcome.replayed === true
    if (replayed) this.#replayed += 1
    try {
      const success = successOf(outcome, { token: call.token, store: call.store }, successes[operation.type])
      this.#results[at] = writtenAnswer(success, this.#options.form)
    } catch (error) {
      this.#fail(at, error, replayed ? { replayed } : {})
    }
  }

  /** Its answer is this error; throws what nobody foresaw. */
  #fail(at: number, error: unknown, options: { readonly replayed?: true } = {}): void {
    if (!(error instanceof TrivetError)) throw error
    this.#results[at] = failedAnswer(atOperation(error, at), options)
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

function read(raw: unknown, at: number, rules: ReadingRules): Item {
  try {
    return { at, raw, entry: readBatchEntry(raw, rules), fault: undefined }
  } catch (fault) {
    if (!(fault instanceof TrivetError)) throw fault
    return { at, raw, entry: undefined, fault }
  }
}

/** What goes side by side, one step after the other: within a key, whatever may not go beside what came before it is a step later. */
function stepsOf(items: readonly Item[]): readonly (readonly Item[])[] {
  const steps: Item[][] = [[]]
  const latest = new Map<string, Latest>()
  for (const item of items) {
    const step = item.entry === undefined ? 0 : stepOf(item.entry, latest)
    const others = steps[step]
    if (others === undefined) steps[step] = [item]
    else others.push(item)
  }
  return steps
}

function stepOf(entry: BatchEntry, latest: Map<string, Latest>): number {
  const { store, key } = entry.operation
  const name = `${store}/${Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1')}`
  const kind = kindOf(entry)
  const before = latest.get(name)
  if (before === undefined) {
    latest.set(name, { kind, step: 0 })
    return 0
  }
  if (before.kind !== kind || kind === 'write') before.step += 1
  before.kind = kind
  return before.step
}

function isRead(operation: BatchOperation): operation is Read {
  return operation.type === 'get' || operation.type === 'head' || operation.type === 'exists'
}

function isReading(one: Admitted): one is Admitted<Read> {
  return isRead(one.entry.operation)
}

function isWriting(one: Admitted): one is Admitted<Write> {
  return !isRead(one.entry.operation)
}

/** What it opens; undefined where it does not say. */
function targetOf({ raw, entry }: Item): Target | undefined {
  if (entry === undefined) return targetOfRaw(raw)
  const { operation } = entry
  return { store: operation.store, access: isRead(operation) ? 'read' : 'read-write', within: operation.key }
}

function kindOf({ operation, conditions }: BatchEntry): Kind {
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
