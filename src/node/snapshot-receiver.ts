// Gets the state of another member: asks for it chunk by chunk, loads it into a directory of its own, and offers it once proven.

import type { Logger } from 'pino'
import type { Configuration, MemberId, Snapshot } from '../raft/types.ts'
import { type Chunk, ChunkRefusedError, type Cursor, peekNext } from '../store/state-chunk.ts'
import { StateLoader } from '../store/state-loader.ts'
import type { StateTime } from '../store/state-time.ts'
import type { StateLevel } from '../store/state-writer.ts'
import type { Answer, Question } from './transport.ts'

/** A state that is whole, durable and nobody's yet. */
export type Loaded = Snapshot & { readonly directory: string; readonly level: StateLevel }

export type SnapshotReceiverOptions = {
  /** Members that may have what is needed, the best first. */
  readonly sources: () => readonly MemberId[]
  readonly ask: (peer: MemberId, question: Question) => Promise<Answer>
  readonly nextDirectory: () => Promise<string>
  readonly openLevel: (directory: string) => Promise<StateLevel>
  /** Closes and removes what was loaded and is of no use. */
  readonly discard: (directory: string, level: StateLevel | undefined) => Promise<void>
  /** Offers what was loaded to the core. Resolves to false when it is of no use any more. */
  readonly offer: (loaded: Loaded) => Promise<boolean>
  /** Whether a snapshot is still needed, and from which index on it helps. */
  readonly needed: () => number | undefined
  readonly sleep: (ms: number) => Promise<void>
  /** The clock of `performance.now()`. */
  readonly now: () => number
  readonly time: StateTime | undefined
  readonly name: (peer: MemberId) => string
  readonly logger: Logger
}

type Header = Extract<Answer, { type: 'snapshot' }>

type Transfer = {
  readonly source: MemberId
  readonly index: number
  readonly loader: StateLoader
  /** The chunk that is likely to be next. With the one that is checked and the one that is written, three are held at most. */
  ahead: { readonly after: string; readonly answer: Promise<Answer> } | undefined
}

/** Between two tries, in milliseconds. */
const retryMs = 500

/** How often a chunk is asked for again before the source is given up. */
const chunkTries = 5

/** How often it is said how far it is, in milliseconds. */
const progressMs = 10_000

export class SnapshotReceiver {
  readonly #options: SnapshotReceiverOptions
  #running: Promise<void> | undefined
  #stopped = false
  /** Rows received so far, for whoever watches. */
  bytes = 0
  /** The same of all snapshots since the start. */
  receivedBytes = 0

  constructor(options: SnapshotReceiverOptions) {
    this.#options = options
  }

  get isRunning(): boolean {
    return this.#running !== undefined
  }

  /** Begins, unless it is at it: goes from source to source until nothing is needed any more. */
  start(): void {
    if (this.#stopped) return
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
  }

  /** Stops at the next chunk; resolves once nothing is written any more. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#running
  }

  async #run(): Promise<void> {
    const { sources, needed, sleep, name, logger } = this.#options
    while (this.#isWanted()) {
      for (const source of sources()) {
        if (!this.#isWanted()) return
        try {
          if (await this.#from(source)) break
        } catch (error) {
          logger.warn({ peer: name(source), err: error }, 'no snapshot could be had from this member')
        }
      }
      if (needed() !== undefined && !this.#stopped) await sleep(retryMs)
    }
  }

  #isWanted(): boolean {
    return !this.#stopped && this.#options.needed() !== undefined
  }

  /** False when this source has nothing that helps. */
  async #from(source: MemberId): Promise<boolean> {
    const { ask, needed, nextDirectory, discard, offer, name, logger } = this.#options
    const header = await ask(source, { type: 'holdSnapshot' })
    if (header.type !== 'snapshot') throw new Error(reasonOf(header))
    const least = needed()
    if (least === undefined || header.index < least) return false
    logger.info({ peer: name(source), index: header.index }, 'receiving a snapshot')
    const directory = await nextDirectory()
    let level: StateLevel | undefined
    try {
      level = await this.#options.openLevel(directory)
      if (!(await this.#load(source, header, level))) {
        await discard(directory, level)
        return false
      }
    } catch (error) {
      await discard(directory, level)
      throw error
    }
    const { index, term } = header
    const configuration: Configuration = header.configuration
    logger.info({ peer: name(source), index, bytes: this.bytes }, 'the snapshot is whole and durable')
    if (await offer({ index, term, configuration, directory, level })) return true
    await discard(directory, level)
    return false
  }

  /** False when it was stopped or is not needed any more. */
  async #load(source: MemberId, header: Header, level: StateLevel): Promise<boolean> {
    const { now, time, name, logger } = this.#options
    const loader = await StateLoader.open({
      level,
      expected: header,
      ...(time === undefined ? {} : { time }),
    })
    const transfer: Transfer = { source, index: header.index, loader, ahead: undefined }
    this.bytes = 0
    let sayAt = now() + progressMs
    try {
      while (!loader.complete) {
        if (!this.#isWanted()) return false
        if (now() >= sayAt) {
          sayAt = now() + progressMs
          logger.info({ peer: name(source), index: header.index, bytes: this.bytes }, 'still receiving')
        }
        await this.#next(transfer)
      }
      await loader.finish()
      return true
    } finally {
      // Its directory may go now.
      await loader.flush().catch(() => 'whoever asked for the next chunk was told')
    }
  }

  async #next(from: Transfer): Promise<void> {
    const { loader } = from
    for (let tries = 1; ; tries++) {
      try {
        const chunk = await this.#chunk(from)
        this.#askAhead(from, peekNext(chunk))
        await loader.add(chunk)
        this.bytes += chunk.bytes.length
        this.receivedBytes += chunk.bytes.length
        return
      } catch (error) {
        // A connection that ended or a chunk that was damaged on its way costs nothing but the time; what the loader says of its
        // own disk is not to be tried again.
        const mayPass = error instanceof ChunkRefusedError || !isDiskError(error)
        if (!mayPass || tries === chunkTries || !this.#isWanted()) throw error
        await this.#options.sleep(retryMs)
      }
    }
  }

  /** The chunk that is next for the loader. */
  async #chunk(from: Transfer): Promise<Chunk> {
    const { loader, ahead } = from
    const after = placeOf(loader.after)
    const isAsked = ahead !== undefined && ahead.after === after
    if (isAsked) from.ahead = undefined
    const answer = await (isAsked ? ahead.answer : this.#ask(from, after))
    if (answer.type !== 'chunk') throw new Error(reasonOf(answer))
    return answer
  }

  /** So that the next chunk is on its way while this one is checked and written; but one that was asked for is not asked for twice. */
  #askAhead(from: Transfer, next: Cursor | undefined): void {
    const after = placeOf(next)
    if (after === undefined || from.ahead?.after === after) return
    const answer = this.#ask(from, after)
    answer.catch(() => 'whoever needs it is told')
    from.ahead = { after, answer }
  }

  #ask({ source, index }: Transfer, after: string | undefined): Promise<Answer> {
    const place = after === undefined ? {} : { after }
    return this.#options.ask(source, { type: 'sendChunk', index, ...place })
  }
}

function placeOf(cursor: Cursor | undefined): string | undefined {
  return cursor && Buffer.from(cursor).toString('base64')
}

/** For people, in megabytes. */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`
}

function isDiskError(error: unknown): boolean {
  return error instanceof Error && (error.name === 'StateDiskError' || error.name === 'StateDamagedError')
}

function reasonOf(answer: Answer): string {
  return answer.type === 'refused' ? answer.reason : `The answer was ${answer.type}.`
}
