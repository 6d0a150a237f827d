// How a client names its writes, so that each may be sent again until its outcome is known: a number in a session, or a key.

import { headers as fieldNames } from '../api/protocol.ts'
import { TrivetError } from '../errors.ts'

/** How many writes may be open at once: what the server keeps of a session. Others wait for their turn. */
const openWrites = 1024

/** A session idle for so long is given up for a new one: the server ends it after ten minutes. */
const longestIdleMs = 5 * 60_000

/** What a write is sent under. */
export interface Place {
  /** The header's name and value, to be asked for at each try: what is acknowledged grows. */
  header(): readonly [name: string, value: string]
  /** Its number in a session, for one that travels with others of it; undefined where it has a key of its own. */
  readonly numbered: Numbered | undefined
  /** The write is answered, or given up: its outcome need not be kept. */
  end(): void
  /** The server does not know the session any more: other writes get places in a new one. */
  expired(): void
}

interface Numbered {
  readonly session: string
  readonly seq: number
  /** The header of several writes of the session, each of which has its own `seq` beside it. */
  sharedHeader(): readonly [name: string, value: string]
}

/** Gives every write its place. */
export interface Places {
  /** A place at once; undefined where it has to be waited for. */
  now(): Place | undefined
  take(wait: Wait): Promise<Place>
}

/** How long to wait: `deadline` on the clock of `performance.now()`. */
export type Wait = { readonly deadline: number; readonly signal?: AbortSignal | undefined }

/** A key for each write: for a client of a few, whom a session would cost a round trip and the server ten minutes of memory. */
export class KeyPerWrite implements Places {
  async take(): Promise<Place> {
    return this.now()
  }

  now(): Place {
    const bytes = crypto.getRandomValues(new Uint8Array(16))
    const key = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
    return {
      header: () => [fieldNames.idempotencyKey, key],
      numbered: undefined,
      end: () => {},
      expired: () => {},
    }
  }
}

/** One session for all writes: for a client of many. */
export class WriteSession implements Places {
  readonly #open: () => Promise<string>
  #current: Opened | undefined
  readonly #expired = (session: Opened): void => {
    if (this.#current === session) this.#current = undefined
  }

  /** `open` asks the server for a session. Nothing is asked before the first write. */
  constructor(open: () => Promise<string>) {
    this.#open = open
  }

  /** Undefined while there is no session, or no room in it; also while others wait for that, who come first. */
  now(): Place | undefined {
    const session = this.#usable()
    const seq = session.isWaitedFor ? undefined : session.next()
    return seq === undefined ? undefined : this.#place(session, seq)
  }

  /**
   * A place for one write. Rejects as opening a session does, with the signal's reason, or with `deadline-exceeded`;
   * nothing was sent then.
   */
  async take(wait: Wait): Promise<Place> {
    let refused: TrivetError | undefined
    for (;;) {
      const session = this.#usable()
      const seq = session.next()
      if (seq !== undefined) return this.#place(session, seq)
      const turn = await session.turn(wait)
      if (turn === 'late') throw refused ?? tooLate()
      if (turn === 'look') continue
      // The session may have been asked for by a write with less time than this one.
      if (!(turn.error instanceof TrivetError) || !turn.error.retryable) throw turn.error
      refused = turn.error
    }
  }

  #place(session: Opened, seq: number): Place {
    return new SessionPlace(session, seq, this.#expired)
  }

  #usable(): Opened {
    const current = this.#current
    if (current !== undefined && !current.isStale(performance.now())) return current
    const session = new Opened()
    this.#current = session
    this.#open().then(
      (id) => session.opened(id),
      (error: unknown) => {
        if (this.#current === session) this.#current = undefined
        session.failed(error)
      },
    )
    return session
  }
}

/** A number in a session. */
class SessionPlace implements Place, Numbered {
  readonly #session: Opened
  readonly #expired: (session: Opened) => void
  readonly seq: number

  constructor(session: Opened, seq: number, expired: (session: Opened) => void) {
    this.#session = session
    this.#expired = expired
    this.seq = seq
  }

  get numbered(): Numbered {
    return this
  }

  get session(): string {
    return this.#session.id
  }

  header(): readonly [name: string, value: string] {
    return [fieldNames.session, this.#session.header(this.seq)]
  }

  sharedHeader(): readonly [name: string, value: string] {
    return [fieldNames.session, this.#session.sharedHeader()]
  }

  end(): void {
    this.#session.end(this.seq)
  }

  expired(): void {
    this.#expired(this.#session)
  }
}

/** How a wait ends: there may be room, time is over, or the session could not be opened. */
type Turn = 'look' | 'late' | { readonly error: unknown }

/** One session, from being asked for on. */
class Opened {
  #id: string | undefined
  #last = 0
  /** Every number up to this one has ended. */
  #acked = 0
  #usedAt = performance.now()
  /** Numbers given out and not ended. */
  readonly #open = new Set<number>()
  /** Who waits for the session, or for room in it. */
  readonly #waiting = new Set<(turn: Turn) => void>()

  isStale(now: number): boolean {
    return this.#id !== undefined && this.#open.size === 0 && now - this.#usedAt > longestIdleMs
  }

  /** The next number; undefined while there is no session, or no room in it. */
  next(): number | undefined {
    if (this.#id === undefined || this.#room <= 0) return undefined
    this.#last += 1
    this.#open.add(this.#last)
    this.#usedAt = performance.now()
    return this.#last
  }

  /** Whether anybody waits for it to be opened, or for room in it. */
  get isWaitedFor(): boolean {
    return this.#waiting.size > 0
  }

  /** Empty while it is being opened. */
  get id(): string {
    return this.#id ?? ''
  }

  header(seq: number): string {
    return `${this.#id}; seq=${seq}; acked=${this.#acked}`
  }

  sharedHeader(): string {
    return `${this.#id}; acked=${this.#acked}`
  }

  end(seq: number): void {
    this.#open.delete(seq)
    while (this.#acked < this.#last && !this.#open.has(this.#acked + 1)) this.#acked += 1
    if (this.#waiting.size > 0) this.#wake()
  }

  opened(id: string): void {
    this.#id = id
    this.#wake()
  }

  failed(error: unknown): void {
    for (const wake of [...this.#waiting]) wake({ error })
  }

  /** Waits until there is room, or why there will be none. Rejects with the signal's reason. */
  turn({ deadline, signal }: Wait): Promise<Turn> {
    signal?.throwIfAborted()
    return new Promise((resolve, reject) => {
      const settle = (how: () => void): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        this.#waiting.delete(wake)
        how()
      }
      const wake = (turn: Turn): void => settle(() => resolve(turn))
      const onAbort = (): void => settle(() => reject(signal?.reason))
      const timer = setTimeout(() => wake('late'), Math.max(0, deadline - performance.now()))
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiting.add(wake)
    })
  }

  #wake(): void {
    let room = this.#id === undefined ? 0 : this.#room
    for (const wake of this.#waiting) {
      if (room <= 0) return
      room -= 1
      wake('look')
    }
  }

  get #room(): number {
    return openWrites - (this.#last - this.#acked)
  }
}

function tooLate(): TrivetError {
  return new TrivetError(
    'deadline-exceeded',
    `The write was not sent: it waited for a session, or for one of the ${openWrites} open writes to be answered`,
  )
}
