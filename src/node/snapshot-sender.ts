// Sends this node's state to members that ask for it: one explicit snapshot at a time, held while somebody reads it.

import type { StateMachine } from '../store/state-machine.ts'
import type { StateSnapshot } from '../store/state-snapshot.ts'
import type { Answer, Question } from './transport.ts'

export type SnapshotQuestion = Extract<Question, { type: 'holdSnapshot' | 'sendChunk' }>

export type SnapshotSenderOptions = {
  /** The state, while there is one that is known to be whole. */
  readonly machine: () => StateMachine | undefined
  /** The clock of `performance.now()`. */
  readonly now: () => number
}

/** How large a chunk is at most, in bytes: one synced batch at the receiver, and well below what a stream may hold unsent. */
const chunkBytes = 512 * 1024

/** The check of what is sent leaves the processor and the disk to those who are served, in bytes per second. */
const verifyBytesPerSecond = 16 * 1024 * 1024

/** A snapshot pins old versions in LevelDB: one that nobody reads for so long is let go, in milliseconds. */
const idleMs = 600_000

/** So fresh a snapshot serves another receiver too, in milliseconds. */
const freshMs = 30_000

type Held = {
  readonly machine: StateMachine
  readonly snapshot: StateSnapshot
  readonly heldAt: number
  usedAt: number
  /** Its rows agree with its digest. Begins with the first chunk; the last one waits for it. */
  verified: Promise<void> | undefined
}

export class SnapshotSender {
  readonly #options: SnapshotSenderOptions
  #held: Held[] = []
  #holding: Promise<Held> | undefined
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
    const held: Held = { machine: present, snapshot, heldAt: now(), usedAt: now(), verified: undefined }
    this.#held.push(held)
    return held
  }

  async #chunk({ index, after }: Extract<SnapshotQuestion, { type: 'sendChunk' }>): Promise<Answer> {
    const held = this.#held.find(({ snapshot }) => snapshot.index === index)
    if (held === undefined) throw new Error(`A snapshot at ${index} is not held here any more.`)
    held.usedAt = this.#options.now()
    held.verified ??= held.snapshot.verify({ bytesPerSecond: verifyBytesPerSecond }).then(() => undefined)
    held.verified.catch(() => 'whoever asks for the last chunk is told')
    const cursor = after === undefined ? undefined : Buffer.from(after, 'base64')
    const { bytes, crc, next } = await held.snapshot.chunk(cursor, chunkBytes)
    if (next === undefined) await held.verified
    this.sentBytes += bytes.length
    return { type: 'chunk', bytes, crc }
  }
}

async function release({ snapshot }: Held): Promise<void> {
  // One that was closed with its state is let go already.
  await snapshot.close().catch(() => 'closed')
}
