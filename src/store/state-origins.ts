// Once only: what every node has had decided, kept until it acknowledges the answer (`safety.md`, rule 16).

import assert from 'node:assert/strict'
import { outcomeSize, readOutcome, writeOutcome } from './outcome-bytes.ts'
import type { Row } from './overlay.ts'
import { StateDamagedError, seal, sealSize, unseal } from './record.ts'
import { decodeOrigin, encodeOrigin, outcomesKey, readOutcomesKey, type SegmentId } from './state-rows.ts'
import type { Outcome } from './types.ts'

/**
 * Outcomes are kept, written and forgotten in segments of 64 consecutive numbers. A row for each would double the
 * writes of every command; one row for all would be rewritten whole while a single old number stays unanswered.
 */
const perSegment = 64

type Segment = {
  readonly id: SegmentId
  readonly outcomes: (Outcome | undefined)[]
  /** Whether LevelDB may hold a row of it, which then has to be deleted. */
  stored: boolean
}

/** One node as the origin of commands. */
type Origin = {
  readonly peer: string
  boot: number
  /** Every number up to it is answered: nothing at or below it may take effect any more. */
  floor: number
  readonly segments: Map<number, Segment>
}

/** What is known of a command: not seen before, decided before, or of a past in which nobody waits any more. */
export type Recollection =
  | { readonly type: 'new' }
  | { readonly type: 'decided'; readonly outcome: Outcome }
  | { readonly type: 'past' }

const unseen: Recollection = { type: 'new' }
const past: Recollection = { type: 'past' }

/**
 * The replicated table of origins, whole in memory: what is unanswered is bounded by what its origin lets wait. Its
 * content is a function of the log alone, so that members agree on every byte, however their batches fell.
 */
export class Origins {
  readonly #origins = new Map<string, Origin>()
  readonly #changed = new Set<Origin>()
  readonly #changedSegments = new Set<Segment>()
  readonly #droppedSegments = new Set<SegmentId>()

  /** Takes in a row of the `origins` table, as stored. All of them come before the first of the `outcomes` table. */
  loadOrigin(key: Uint8Array, value: Uint8Array): void {
    const { peer, boot, floor } = decodeOrigin(key, value)
    this.#origins.set(peer, { peer, boot, floor, segments: new Map() })
  }

  /** Takes in a row of the `outcomes` table, as stored. */
  loadOutcomes(key: Uint8Array, value: Uint8Array): void {
    const id = readOutcomesKey(key)
    const outcomes = decodeOutcomes(key, value)
    const origin = this.#origins.get(id.peer)
    // Outcomes are kept for the present boot of a known origin, and both rows change in one batch.
    if (origin?.boot !== id.boot) {
      throw new StateDamagedError(
        `The state on this disk is damaged: it has outcomes of boot ${id.boot} of ${id.peer}, and ${origin === undefined ? 'no row of that origin' : `the origin's row is of boot ${origin.boot}`}.`,
      )
    }
    origin.segments.set(id.segment, { id, outcomes, stored: true })
  }

  /** The last boot that a command of this origin was applied under; 0 where none was. */
  bootOf(peer: string): number {
    return this.#origins.get(peer)?.boot ?? 0
  }

  /** An origin speaks: of which boot, and up to which number it needs no answer any more. */
  hear({
    peer,
    boot,
    acked,
  }: {
    readonly peer: string
    readonly boot: number
    readonly acked: number
  }): void {
    let origin = this.#origins.get(peer)
    if (origin === undefined) {
      origin = { peer, boot, floor: 0, segments: new Map() }
      this.#origins.set(peer, origin)
      this.#changed.add(origin)
    }
    if (boot < origin.boot) return
    if (boot > origin.boot) {
      for (const segment of origin.segments.values()) this.#drop(origin, segment)
      origin.boot = boot
      origin.floor = 0
      this.#changed.add(origin)
    }
    if (acked > origin.floor) this.#raise(origin, acked)
  }

  /** What is known of a command. Its origin has been heard. */
  recall({
    peer,
    boot,
    number,
  }: {
    readonly peer: string
    readonly boot: number
    readonly number: number
  }): Recollection {
    const origin = this.#heard(peer)
    if (boot < origin.boot || number <= origin.floor) return past
    const outcome = origin.segments.get(Math.floor(number / perSegment))?.outcomes[number % perSegment]
    return outcome === undefined ? unseen : { type: 'decided', outcome }
  }

  /** Keeps the outcome of a command that `recall` called new. */
  remember({ peer, number }: { readonly peer: string; readonly number: number }, outcome: Outcome): void {
    const origin = this.#heard(peer)
    const index = Math.floor(number / perSegment)
    let segment = origin.segments.get(index)
    if (segment === undefined) {
      const id = { peer, boot: origin.boot, segment: index }
      segment = { id, outcomes: new Array(perSegment).fill(undefined), stored: false }
      origin.segments.set(index, segment)
    }
    segment.outcomes[number % perSegment] = outcome
    this.#changedSegments.add(segment)
  }

  /** The rows that changed since it was last asked, for one batch. */
  takeRows(): readonly Row[] {
    const rows: Row[] = []
    for (const origin of this.#changed) rows.push(encodeOrigin(origin))
    for (const id of this.#droppedSegments) rows.push({ key: outcomesKey(id), value: undefined })
    for (const segment of this.#changedSegments) {
      const key = outcomesKey(segment.id)
      rows.push({ key, value: encodeOutcomes(key, segment.outcomes) })
      segment.stored = true
    }
    this.#changed.clear()
    this.#droppedSegments.clear()
    this.#changedSegments.clear()
    return rows
  }

  #heard(peer: string): Origin {
    const origin = this.#origins.get(peer)
    assert(origin !== undefined, 'An origin is heard before its commands are judged')
    return origin
  }

  #raise(origin: Origin, floor: number): void {
    // A segment goes only when all of it is answered: cut at the floor, its bytes would depend on when it was written.
    for (const [index, segment] of origin.segments) {
      if ((index + 1) * perSegment - 1 <= floor) this.#drop(origin, segment)
    }
    origin.floor = floor
    this.#changed.add(origin)
  }

  #drop(origin: Origin, segment: Segment): void {
    origin.segments.delete(segment.id.segment)
    this.#changedSegments.delete(segment)
    if (segment.stored) this.#droppedSegments.add(segment.id)
  }
}

// An outcomes row is a list of: place u8, outcome (`outcome-bytes.ts`).
const outcomesFormat = 2

function encodeOutcomes(key: Uint8Array, outcomes: readonly (Outcome | undefined)[]): Buffer {
  let size = sealSize
  for (const outcome of outcomes) if (outcome !== undefined) size += 1 + outcomeSize(outcome)
  const row = Buffer.allocUnsafe(size)
  let at = sealSize
  for (const [place, outcome] of outcomes.entries()) {
    if (outcome === undefined) continue
    at = row.writeUInt8(place, at)
    at = writeOutcome(row, outcome, at)
  }
  assert(at === size, 'The size of an outcomes row is known beforehand')
  return seal(key, outcomesFormat, row)
}

/** What `encodeOutcomes` wrote, by place in the segment. */
export function decodeOutcomes(key: Uint8Array, value: Uint8Array): (Outcome | undefined)[] {
  const row = unseal(key, outcomesFormat, value)
  const outcomes: (Outcome | undefined)[] = new Array(perSegment).fill(undefined)
  let at = sealSize
  while (at < row.length) {
    const { outcome, end } = readOutcome(row, at + 1)
    outcomes[row.readUInt8(at)] = outcome
    at = end
  }
  return outcomes
}
