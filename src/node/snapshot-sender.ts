// Sends this node's state to members that ask for it: one explicit snapshot at a time, held while somebody reads it.

import type { Cursor } from '../store/state-chunk.ts'
import type { StateMachine } from '../store/state-machine.ts'
import type { StateSnapshot } from '../store/state-snapshot.ts'
import type { Answer, Question } from './transport.ts'

export type SnapshotQuestion = Extract<Question, { type: 'holdSnapshot' | 'sendChunk' }>

export type SnapshotSenderOptions = {
  /** The state, while there is one that is known to be whole. */
  readonly machine: () => StateMachine | undefined
  /** The clock of `performance.now()`. */
  readonly now: () => number
  /** How long this node's event loop has been at work since its start, in milliseconds. */
  readonly worked: () => number
  readonly sleep: (ms: number) => Promise<void>
}

/**
 * How large a chunk is at most, in bytes: one synced batch at the receiver, and below the mebibyte that a stream may hold unsent. What
 * a question costs besides, a stream above all, is as much for a small one.
 */
const chunkBytes = 960 * 1024

/** Where rows have to be read a second time, that leaves the processor and the disk to those who are served, in bytes per second. */
const verifyBytesPerSecond = 16 * 1024 * 1024

/**
 * A node that sends is idle for so much of the time that it works, whatever the work is: who is served by it has that, and the more
 * there is to do for them, the longer a chunk waits.
 */
const idleShare = 0.5

/** But no chunk waits for longer than this, in milliseconds: a node that is never idle would send nothing. */
const longestRestMs = 100

/** A snapshot pins old versions in LevelDB: one that nobody reads for so long is let go, in milliseconds. */
const idleMs = 600_000

/** So fresh a snapshot serves another receiver too, in milliseconds. */
const freshMs = 30_000

type Held = {
  readonly machine: StateMachine
  readonly snapshot: StateSnapshot
  readonly heldAt: number
  usedAt: number
  /** Its rows agree with its digest. Asked with the last chunk, which waits for it. */
  verified: Promise<unknown> | undefined
  /** The chunk that is likely to be asked for next, read while the one before it is on its way. */
  ahead: { readonly after: string; readonly chunk: ReturnType<StateSnapshot['chunk']> } | undefined
}

export class SnapshotSender {
  readonly #options: SnapshotSenderOptions
  #held: Held[] = []
  #holding: Promise<Held> | undefined
  /** When the last chunk left, and how long the event loop had worked by then. */
  #sent = { at: 0, worked: 0 }
  /** Of chunks, since the start. */
  sentBytes = 0

  constructor(options: SnapshotSenderOptions) {
    this.#options = options
  }

  /** The lowest index of a snapshot that is being sent: what follows it in the log is needed by its receiver. */
  get lowestIndex(): number | undefined {
    return this.#held.length === 0 ? undefined : Math.min(...this.#held.map(({ snapshot }) => snapshot.index))
  }

  /** Answers a member's question. Whatever goes wrong here is said to it, and it asks another, or again. */
  async answer(question: SnapshotQuestion): Promise<Answer> {
    try {
      if (question.type === 'sendChunk') return await this.#chunk(question)
      const { snapshot } = await this.#hold()
      const { index, term, configuration, digest } = snapshot
      return { type: 'snapshot', index, term, configuration, digest }
    } catch (error) {
      return { type: 'refused', reason: error instanceof Error ? error.message : String(error) }
    }
  }

  /** Lets go of what nobody reads, and of what a state that is gone held. Called now and then. */
  tick(): void {
    const now = this.#options.now()
    const machine = this.#options.machine()
    const isNeeded = (held: Held) => held.machine === machine && now - held.usedAt < idleMs
    for (const held of this.#held) if (!isNeeded(held)) void release(held)
    this.#held = this.#held.filter(isNeeded)
  }

  /** Everything is let go, before the state is closed. */
  async close(): Promise<void> {
    const held = this.#held
    this.#held = []
    await Promise.all(held.map(release))
  }

  async #hold(): Promise<Held> {
    const { machine, now } = this.#options
    const present = machine()
    const fresh = this.#held.find((held) => held.machine === present && now() - held.heldAt < freshMs)
    if (fresh !== undefined) return fresh
    this.#holding ??= this.#take().finally(() => {
      this.#holding = undefined
    })
    return this.#holding
  }

  async #take(): Promise<Held> {
    const { machine, now } = this.#options
    const present = machine()
    if (present === undefined) throw new Error('This node has no whole state to send.')
    const snapshot = await present.snapshot()
    const held: Held = {
      machine: present,
      snapshot,
      heldAt: now(),
      usedAt: now(),
      verified: undefined,
      ahead: undefined,
    }
    this.#held.push(held)
    return held
  }

  async #chunk({ index, after }: Extract<SnapshotQuestion, { type: 'sendChunk' }>): Promise<Answer> {
    const held = this.#held.find(({ snapshot }) => snapshot.index === index)
    if (held === undefined) throw new Error(`A snapshot at ${index} is not held here any more.`)
    held.usedAt = this.#options.now()
    const { bytes, crc, next } = await readChunk(held, after)
    if (next !== undefined) {
      readAhead(held, next)
    } else {
      held.verified ??= held.snapshot.verify({ bytesPerSecond: verifyBytesPerSecond })
      await held.verified
    }
    await this.#rest()
    this.sentBytes += bytes.length
    return { type: 'chunk', bytes, crc }
  }

  /** Until this node has been idle for its share of the time since the last chunk. */
  async #rest(): Promise<void> {
    const { now, worked, sleep } = this.#options
    const passed = now() - this.#sent.at
    const atWork = worked() - this.#sent.worked
    const idle = passed - atWork
    const missing = Math.min(idleShare * atWork - idle, longestRestMs)
    if (missing >= 1) await sleep(missing)
    this.#sent = { at: now(), worked: worked() }
  }
}

function readChunk({ snapshot, ahead }: Held, after: string | undefined) {
  if (after === undefined) return snapshot.chunk(undefined, chunkBytes)
  return ahead?.after === after ? ahead.chunk : snapshot.chunk(Buffer.from(after, 'base64'), chunkBytes)
}

function readAhead(held: Held, next: Cursor): void {
  const after = Buffer.from(next).toString('base64')
  if (held.ahead?.after === after) return
  const chunk = held.snapshot.chunk(next, chunkBytes)
  held.ahead = { after, chunk }
  chunk.catch(() => 'whoever asks for it is told')
}

async function release({ snapshot }: Held): Promise<void> {
  // One that was closed with its state is let go already.
  await snapshot.close().catch(() => 'closed')
}
