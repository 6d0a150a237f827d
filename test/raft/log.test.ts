// The log against a naive one, on histories that Raft can have: each leader continues a part of an earlier leader's log.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { entryBytes, Log } from '../../src/raft/log.ts'
import type { Entry } from '../../src/raft/types.ts'
import { configurationOf, SeatDisk } from './seat.ts'

type History = readonly Entry[]

const founding = configurationOf(['a', 'b', 'c'])

function emptyLog(cacheBytes = 1_000_000): Log {
  const recovered = new SeatDisk(founding, [], { term: 0, votedFor: undefined }).recover()
  return new Log(recovered, { cacheBytes })
}

function makeEntry(index: number, term: number, kind: number): Entry {
  if (kind === 0) return { type: 'noop', index, term }
  if (kind === 1)
    return { type: 'configuration', index, term, configuration: configurationOf([`m${index}`, `t${term}`]) }
  return { type: 'commands', index, term, data: new Uint8Array(kind) }
}

/** The logs of the leaders of terms 1, 2, ...: each keeps a prefix of an earlier one's and adds its own entries. */
const histories: fc.Arbitrary<History[]> = fc
  .array(
    fc.record({ from: fc.nat(), keep: fc.nat(), kinds: fc.array(fc.nat(6), { minLength: 1, maxLength: 5 }) }),
    { minLength: 1, maxLength: 7 },
  )
  .map((recipes) => {
    const leaders: History[] = []
    for (const [at, { from, keep, kinds }] of recipes.entries()) {
      const parent = at === 0 ? [] : (leaders[from % at] ?? [])
      const kept = parent.slice(0, keep % (parent.length + 1))
      leaders.push([...kept, ...kinds.map((kind, place) => makeEntry(kept.length + place + 1, at + 1, kind))])
    }
    return leaders
  })

const termAt = (history: History, index: number): number | undefined =>
  index === 0 ? 0 : history[index - 1]?.term

/** Where two histories part. */
function shared(one: History, other: History): number {
  let index = 0
  while (index < one.length && one[index] === other[index]) index++
  return index
}

/** Figure 2, AppendEntries 2 to 4, word by word. */
function naiveTake(
  history: History,
  prevIndex: number,
  prevTerm: number,
  entries: History,
): History | undefined {
  if (termAt(history, prevIndex) !== prevTerm) return undefined
  let result = history
  for (const entry of entries) {
    const present = termAt(result, entry.index)
    if (present !== undefined && present !== entry.term) result = result.slice(0, entry.index - 1)
    if (termAt(result, entry.index) === undefined) result = [...result, entry]
  }
  return result
}

/** The last position at or below both whose term is at or below `term`. */
function naiveHint(history: History, index: number, term: number): { index: number; term: number } {
  for (let at = Math.min(index, history.length); at > 0; at--) {
    const found = termAt(history, at) ?? 0
    if (found <= term) return { index: at, term: found }
  }
  return { index: 0, term: 0 }
}

function mustEqual(log: Log, history: History): void {
  expect(log.lastIndex).toBe(history.length)
  expect(log.lastTerm).toBe(termAt(history, history.length))
  for (let index = 0; index <= history.length + 1; index++)
    expect(log.term(index)).toBe(termAt(history, index))
  const configurations = history.filter((entry) => entry.type === 'configuration').map(({ index }) => index)
  expect(log.configurations.map(({ index }) => index)).toEqual([0, ...configurations])
  const inMemory = history.slice(log.appliedIndex).filter(({ index }) => log.slice(index, 1) !== undefined)
  expect(log.unappliedBytes).toBe(inMemory.reduce((sum, entry) => sum + entryBytes(entry), 0))
}

/** What a leader sends, and what the disk and the state machine do, between two leaders' messages. */
const messages = fc.array(
  fc.record({
    advance: fc.boolean(),
    prev: fc.nat(),
    count: fc.nat(6),
    save: fc.boolean(),
    saved: fc.boolean(),
    apply: fc.boolean(),
    commit: fc.nat(),
  }),
  { maxLength: 40 },
)

describe('the log', () => {
  it('takes, refuses, truncates, saves, commits and applies as a naive one does', () => {
    fc.assert(
      fc.property(histories, messages, fc.constantFrom(0, 100, 1_000_000), (leaders, steps, cacheBytes) => {
        const log = emptyLog(cacheBytes)
        const disk = new SeatDisk(founding, [], { term: 0, votedFor: undefined })
        let history: History = []
        let saving: History = []
        let leading = 0
        for (const step of steps) {
          if (step.advance) leading = Math.min(leading + 1, leaders.length - 1)
          const leader = leaders[leading] ?? []
          const prevIndex = step.prev % (leader.length + 1)
          const prevTerm = termAt(leader, prevIndex) ?? 0
          const entries = leader.slice(prevIndex, prevIndex + step.count)
          const expected = naiveTake(history, prevIndex, prevTerm, entries)
          const hint = log.take(prevIndex, prevTerm, entries)
          if (expected === undefined) expect(hint).toEqual(naiveHint(history, prevIndex, prevTerm))
          else {
            expect(hint).toBeUndefined()
            history = expected
          }
          // Committed is at most what every later leader has, too.
          const safe = leaders
            .slice(leading)
            .reduce((least, other) => Math.min(least, shared(history, other)), history.length)
          log.commit(step.commit % (safe + 1))
          if (step.save && saving.length === 0) saving = log.takeUnsaved()
          const last = saving.at(-1)
          if (step.saved && last !== undefined) {
            disk.write({ type: 'save', hardState: undefined, entries: saving })
            log.saved(last)
            saving = []
          }
          if (step.apply) {
            const onDisk = disk.entries.slice(log.appliedIndex, log.applicableIndex).slice(0, 1)
            const applicable = log.applicable(60) ?? onDisk
            expect(applicable).toEqual(history.slice(log.appliedIndex, log.appliedIndex + applicable.length))
            const end = applicable.at(-1)
            if (end !== undefined) log.applied(end.index)
          }
          mustEqual(log, history)
          expect(disk.term(log.savedIndex)).toBe(log.term(log.savedIndex))
          expect(log.appliedIndex).toBeLessThanOrEqual(Math.min(log.commitIndex, log.savedIndex))
        }
      }),
    )
  })

  it('hands every entry to a save once, and replaced ones again', () => {
    const log = emptyLog()
    const first = [makeEntry(1, 1, 3), makeEntry(2, 1, 3)]
    log.take(0, 0, first)
    expect(log.takeUnsaved()).toEqual(first)
    expect(log.takeUnsaved()).toEqual([])
    const replacement = [makeEntry(2, 2, 3)]
    log.take(1, 1, replacement)
    expect(log.takeUnsaved()).toEqual(replacement)
    log.saved({ index: 2, term: 1 })
    expect(log.savedIndex).toBe(0)
    log.saved({ index: 2, term: 2 })
    expect(log.savedIndex).toBe(2)
  })

  it('finds where two logs part in one round trip per term, and never looks below', () => {
    fc.assert(
      fc.property(histories, fc.nat(), fc.nat(), (leaders, one, other) => {
        const mine = leaders[one % leaders.length] ?? []
        const theirs = leaders[other % leaders.length] ?? []
        const leader = emptyLog()
        leader.append(mine)
        const follower = emptyLog()
        follower.append(theirs)
        const common = shared(mine, theirs)
        const terms = (history: History) => new Set(history.slice(common).map(({ term }) => term)).size
        let prevIndex = mine.length
        let rejections = 0
        for (;;) {
          expect(prevIndex).toBeGreaterThanOrEqual(common)
          const hint = follower.take(prevIndex, leader.term(prevIndex) ?? 0, [])
          if (hint === undefined) break
          rejections++
          const next = leader.sharedWith(hint)
          expect(next).toBeLessThan(prevIndex)
          prevIndex = next
        }
        expect(prevIndex).toBe(common)
        expect(rejections).toBeLessThanOrEqual(Math.min(terms(mine), terms(theirs)) + 1)
      }),
    )
  })

  it('slices about as many bytes as asked, at least one entry, and nothing that is no longer in memory', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(90), { minLength: 1, maxLength: 30 }),
        fc.nat(200),
        fc.nat(300),
        (sizes, bound, cacheBytes) => {
          const log = emptyLog(cacheBytes)
          const entries = sizes.map(
            (size, at): Entry => ({ type: 'commands', index: at + 1, term: 1, data: new Uint8Array(size) }),
          )
          log.append(entries)
          log.takeUnsaved()
          log.saved({ index: entries.length, term: 1 })
          log.commit(entries.length)
          while (log.appliedIndex < log.applicableIndex) {
            log.applied(log.applicable(bound)?.at(-1)?.index ?? log.appliedIndex + 1)
          }
          expect(log.cachedBytes).toBeLessThanOrEqual(cacheBytes)
          for (const [at, entry] of entries.entries()) {
            const slice = log.slice(at + 1, bound)
            if (slice === undefined) continue
            expect(slice[0]).toBe(entry)
            expect(slice).toEqual(entries.slice(at, at + slice.length))
            const bytes = (some: History) => some.reduce((sum, each) => sum + entryBytes(each), 0)
            if (slice.length > 1) expect(bytes(slice)).toBeLessThanOrEqual(bound)
            if (at + slice.length < entries.length)
              expect(bytes(entries.slice(at, at + slice.length + 1))).toBeGreaterThan(bound)
          }
        },
      ),
    )
  })

  it('refuses to replace what is committed', () => {
    const log = emptyLog()
    log.take(0, 0, [makeEntry(1, 1, 3)])
    log.commit(1)
    expect(() => log.take(0, 0, [makeEntry(1, 2, 3)])).toThrow('committed entries are never replaced')
  })

  it('is the same after a restart as before', () => {
    fc.assert(
      fc.property(histories, (leaders) => {
        const history = leaders.at(-1) ?? []
        const disk = new SeatDisk(founding, history, { term: 9, votedFor: undefined })
        const log = new Log(disk.recover(), { cacheBytes: 100 })
        mustEqual(log, history)
        expect([log.savedIndex, log.commitIndex, log.takeUnsaved()]).toEqual([history.length, 0, []])
      }),
    )
  })
})
