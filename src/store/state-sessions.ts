// Sessions: a client numbers its writes, and what each came to is kept until the client has it (`safety.md`, rule 18).

import assert from 'node:assert/strict'
import { outcomeSize, readOutcome, writeOutcome } from './outcome-bytes.ts'
import type { Row } from './overlay.ts'
import { seal, sealSize, unseal } from './record.ts'
import { compareMoments, type Moment, momentSize, readMoment, writeMoment } from './state-moment.ts'
import { readSessionKey, sessionKey } from './state-rows.ts'
import type { Once, Outcome } from './types.ts'

/** The same on every member for ever: a change is a change of what commands mean. */
export const sessionBounds = {
  /** A session that was not used for so long, in log time, has ended. */
  lifeMs: 10 * 60_000,
  /** How far a number may be above the last one acknowledged. */
  openWrites: 1024,
  /** Sessions of one principal at a time. */
  perPrincipal: 10_000,
  /** Outcomes kept for all sessions of one principal: about 64 MB of memory, should it ever come to that. */
  openWritesPerPrincipal: 1_000_000,
  /** Of outcomes that are kept, in bytes: only transactions of many operations come near. A write more may pass it. */
  bytes: 1024 * 1024,
  bytesPerPrincipal: 64 * 1024 * 1024,
} as const

/** What a principal has in memory here. */
type Holder = { readonly principal: string; sessions: number; openWrites: number; bytes: number }

type Session = {
  readonly id: string
  readonly holder: Holder
  used: Moment
  /** Every number up to it is acknowledged: nothing at or below it may take effect any more. */
  floor: number
  /** By number, all above `floor`, as they came. */
  readonly outcomes: Map<number, Outcome>
  /** Of the outcomes. */
  bytes: number
}

type Write = Extract<Once, { type: 'session' }>

const expired: Outcome = { type: 'refused', code: 'session-expired' }
const past: Outcome = { type: 'refused', code: 'invalid-request', field: 'trivet-session' }

/**
 * The replicated table of sessions, whole in memory: within its bounds it is small. Its content is a function of the log
 * alone, so that members agree on every byte, however their batches fell.
 */
export class Sessions {
  /** Those that have not ended, least recently used first. */
  readonly #live = new Map<string, Session>()
  /** Those that have ended and whose rows still stand, in the order in which they ended. To clients they are unknown. */
  readonly #ended = new Map<string, Session>()
  readonly #holders = new Map<string, Holder>()
  readonly #changed = new Set<Session>()
  readonly #dropped = new Set<string>()
  /** No live session was last used before this: spares a look at the first of them for every entry. */
  #usedSince = 0
  #sorted = true

  /** Takes in a row of its table, as stored, in any order; all of them before the first `pass`. */
  load(key: Uint8Array, value: Uint8Array): void {
    const { principal, ...rest } = decodeSession(key, value)
    const holder = this.#holder(principal)
    holder.sessions += 1
    holder.openWrites += rest.outcomes.size
    const bytes = bytesOf(rest.outcomes)
    holder.bytes += bytes
    this.#live.set(rest.id, { ...rest, holder, bytes })
    this.#sorted = false
  }

  /** Log time goes on: what was not used for too long ends, whenever its row is taken away. */
  pass(time: number): void {
    if (!this.#sorted) this.#sort()
    const since = time - sessionBounds.lifeMs
    if (since < this.#usedSince) return
    for (const session of this.#live.values()) {
      this.#usedSince = session.used.time
      if (session.used.time > since) return
      this.#live.delete(session.id)
      this.#ended.set(session.id, session)
      const { bytes, outcomes } = session
      this.#forget(session.holder, { sessions: 1, openWrites: outcomes.size, bytes })
    }
    this.#usedSince = time
  }

  /** Takes away the rows of at most `limit` sessions that have ended, the earliest first. Returns how many. */
  collect(limit: number): number {
    let count = 0
    for (const session of this.#ended.values()) {
      if (count === limit) break
      this.#ended.delete(session.id)
      this.#changed.delete(session)
      this.#dropped.add(session.id)
      count += 1
    }
    return count
  }

  open(principal: string, id: string, moment: Moment): Outcome {
    const known = this.#live.has(id) || this.#ended.has(id)
    if (known || !/^[\w-]{22}$/.test(id)) return { type: 'refused', code: 'invalid-request' }
    const holder = this.#holder(principal)
    const limit = sessionBounds.perPrincipal
    if (holder.sessions >= limit) return overloaded('sessions of a principal', limit)
    holder.sessions += 1
    const session: Session = { id, holder, used: moment, floor: 0, outcomes: new Map(), bytes: 0 }
    this.#live.set(id, session)
    this.#changed.add(session)
    return { type: 'sessionOpened' }
  }

  /**
   * A write comes: undefined when it is new and is to be decided, else what it came to or why it is refused. Using a
   * session lets it live on. Somebody else's session is refused like one that never was.
   */
  recall(principal: string, { session: id, seq, acked }: Write, moment: Moment): Outcome | undefined {
    const session = this.#live.get(id)
    if (session === undefined || session.holder.principal !== principal) return expired
    this.#live.delete(id)
    this.#live.set(id, session)
    session.used = moment
    this.#changed.add(session)
    if (acked > session.floor) this.#raise(session, acked)
    if (seq <= session.floor) return past
    const { openWrites, openWritesPerPrincipal, bytes, bytesPerPrincipal } = sessionBounds
    if (seq > session.floor + openWrites) return overloaded('open writes of a session', openWrites)
    const outcome = session.outcomes.get(seq)
    if (outcome !== undefined) return { ...outcome, replayed: true }
    const { holder } = session
    if (holder.openWrites >= openWritesPerPrincipal) {
      return overloaded('open writes of a principal', openWritesPerPrincipal)
    }
    if (session.bytes >= bytes) return overloaded('bytes of outcomes of a session', bytes)
    if (holder.bytes < bytesPerPrincipal) return undefined
    return overloaded('bytes of outcomes of a principal', bytesPerPrincipal)
  }

  /** Keeps the outcome of a write that `recall` called new. */
  remember({ session: id, seq }: Write, outcome: Outcome): void {
    const session = this.#live.get(id)
    assert(session !== undefined, 'A write is decided in a session that lives')
    const { outcomes, holder } = session
    outcomes.set(seq, outcome)
    holder.openWrites += 1
    const bytes = outcomeSize(outcome)
    session.bytes += bytes
    holder.bytes += bytes
  }

  /** The rows that changed since it was last asked, for one batch. */
  takeRows(): readonly Row[] {
    const rows: Row[] = []
    for (const id of this.#dropped) rows.push({ key: sessionKey(id), value: undefined })
    for (const session of this.#changed) rows.push(encodeSession(session))
    this.#dropped.clear()
    this.#changed.clear()
    return rows
  }

  #raise(session: Session, floor: number): void {
    const { outcomes, holder } = session
    // Whichever is shorter: a client that was away may come back with a floor far above.
    const answered =
      floor - session.floor < outcomes.size ? numbers(session.floor + 1, floor) : outcomes.keys()
    for (const number of answered) {
      const outcome = outcomes.get(number)
      if (outcome === undefined || number > floor) continue
      outcomes.delete(number)
      const bytes = outcomeSize(outcome)
      holder.openWrites -= 1
      session.bytes -= bytes
      holder.bytes -= bytes
    }
    session.floor = floor
  }

  #sort(): void {
    const loaded = [...this.#live.values()].sort((left, right) => compareMoments(left.used, right.used))
    this.#live.clear()
    for (const session of loaded) this.#live.set(session.id, session)
    this.#sorted = true
  }

  #holder(principal: string): Holder {
    let holder = this.#holders.get(principal)
    if (holder === undefined) {
      holder = { principal, sessions: 0, openWrites: 0, bytes: 0 }
      this.#holders.set(principal, holder)
    }
    return holder
  }

  #forget(holder: Holder, less: Omit<Holder, 'principal'>): void {
    holder.sessions -= less.sessions
    holder.openWrites -= less.openWrites
    holder.bytes -= less.bytes
    if (holder.sessions === 0) this.#holders.delete(holder.principal)
  }
}

function overloaded(field: Extract<Outcome, { type: 'refused' }>['field'] & string, limit: number): Outcome {
  return { type: 'refused', code: 'overloaded', limit, field }
}

function bytesOf(outcomes: ReadonlyMap<number, Outcome>): number {
  let bytes = 0
  for (const outcome of outcomes.values()) bytes += outcomeSize(outcome)
  return bytes
}

function* numbers(first: number, last: number): Generator<number, void> {
  for (let number = first; number <= last; number++) yield number
}

// seal | moment | floor u48 | principal length u16 | principal | list of: number above the floor u16, outcome
const sessionFormat = 2
const fixedSize = sealSize + momentSize + 6 + 2

function encodeSession({ id, holder, used, floor, outcomes }: Session): Row {
  const key = sessionKey(id)
  const principalSize = Buffer.byteLength(holder.principal)
  let size = fixedSize + principalSize
  for (const outcome of outcomes.values()) size += 2 + outcomeSize(outcome)
  const row = Buffer.allocUnsafe(size)
  let at = writeMoment(row, used, sealSize)
  at = row.writeUIntBE(floor, at, 6)
  at = row.writeUInt16BE(principalSize, at)
  at += row.write(holder.principal, at)
  // In the order of their numbers, whatever the order in which they came.
  for (const [number, outcome] of [...outcomes].sort(([left], [right]) => left - right)) {
    at = row.writeUInt16BE(number - floor - 1, at)
    at = writeOutcome(row, outcome, at)
  }
  assert(at === size, "The size of a session's row is known beforehand")
  return { key, value: seal(key, sessionFormat, row) }
}

type SessionRow = Omit<Session, 'holder' | 'bytes'> & { readonly principal: string }

/** What `Sessions.takeRows` wrote. */
export function decodeSession(key: Uint8Array, value: Uint8Array): SessionRow {
  const row = unseal(key, sessionFormat, value)
  const used = readMoment(row, sealSize)
  const floor = row.readUIntBE(sealSize + momentSize, 6)
  let at = fixedSize + row.readUInt16BE(fixedSize - 2)
  const principal = row.toString('utf8', fixedSize, at)
  const outcomes = new Map<number, Outcome>()
  while (at < row.length) {
    const { outcome, end } = readOutcome(row, at + 2)
    outcomes.set(floor + 1 + row.readUInt16BE(at), outcome)
    at = end
  }
  return { id: readSessionKey(key), principal, used, floor, outcomes }
}
