// The log against a model of it, through crashes and losses of power at any disk call: what it acknowledged is there,
// exactly, and what it opened with it keeps.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Entry, HardState, Position } from '../../src/raft/types.ts'
import type { Wal } from '../../src/store/wal.ts'
import { LogError } from '../../src/store/wal.ts'
import { MemoryDisk, seeded } from './memory-disk.ts'
import { configurationOf, createLog, directory, openLog, readAll } from './wal-harness.ts'

const segmentBytes = 20_000

/** One append to come: what it holds is drawn from the seed, its shape from here. */
type AppendPlan = {
  readonly count: number
  readonly back: number
  readonly size: number
  readonly vote: boolean
}

/** One life of the process: it opens the log, appends, and stops at a disk call or after its appends. */
type Life = {
  readonly appends: readonly AppendPlan[]
  /** Counted from the opening; past the last call of this life, the process is stopped between calls, or closes. */
  readonly stopAfter: number
  readonly end: 'crash' | 'power' | 'close'
  readonly keep: number
  /** How far LevelDB has come by then, as a part of what is acknowledged. */
  readonly applied: number
}

const life: fc.Arbitrary<Life> = fc.record({
  appends: fc.array(
    fc.record({
      count: fc.oneof(fc.nat(4), fc.nat(30)),
      back: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat(6)),
      size: fc.oneof({ weight: 8, arbitrary: fc.nat(2000) }, fc.nat(40_000)),
      vote: fc.boolean(),
    }),
    { maxLength: 6 },
  ),
  stopAfter: fc.oneof(fc.nat(16), fc.nat(60), fc.constant(10_000)),
  end: fc.constantFrom('crash', 'power', 'close'),
  keep: fc.constantFrom(0, 0.3, 0.7, 1),
  applied: fc.constantFrom(0, 0.5, 1),
})

type Contents = { readonly entries: readonly Entry[]; readonly hardState: HardState }

/** What the log may hold: what it acknowledged, and of an append that was under way, any number of its entries. */
class Model {
  contents: Contents = { entries: [], hardState: { term: 0, votedFor: undefined } }
  underWay: Contents | undefined
  applied: Position = { index: 0, term: 0 }
  boot = 0

  after({ entries, hardState }: { entries: readonly Entry[]; hardState: HardState | undefined }): Contents {
    const first = entries[0]?.index ?? this.contents.entries.length + 1
    return {
      entries: [...this.contents.entries.slice(0, first - 1), ...entries],
      hardState: hardState ?? this.contents.hardState,
    }
  }

  /** Checks what an opened log holds and takes it as what must be there from now on. */
  settle(found: Contents, firstUnderWay: number): void {
    const is = (wanted: Contents) => isSame(wanted, found)
    const { underWay } = this
    const possible = [this.contents]
    if (underWay !== undefined) {
      possible.push({ ...this.contents, hardState: underWay.hardState })
      for (let length = firstUnderWay; length <= underWay.entries.length; length++) {
        possible.push({ ...underWay, entries: underWay.entries.slice(0, length) })
      }
    }
    if (!possible.some(is)) {
      throw new Error(
        `acknowledged ${describeLog(this.contents)}, under way ${underWay && describeLog(underWay)}, found ${describeLog(found)}`,
      )
    }
    this.contents = found
    this.underWay = undefined
  }
}

function isSame(a: Contents, b: Contents): boolean {
  return (
    a.entries.length === b.entries.length &&
    a.hardState.term === b.hardState.term &&
    a.hardState.votedFor === b.hardState.votedFor &&
    a.entries.every((entry, at) => isSameEntry(entry, b.entries[at]))
  )
}

function isSameEntry(a: Entry, b: Entry | undefined): boolean {
  if (b === undefined || a.index !== b.index || a.term !== b.term) return false
  if (a.type === 'commands') return b.type === 'commands' && Buffer.compare(a.data, b.data) === 0
  return JSON.stringify(a) === JSON.stringify(b)
}

function describeLog({ entries, hardState }: Contents): string {
  return `${entries.map((entry) => `${entry.index}:${entry.term}`).join(' ')} (${JSON.stringify(hardState)})`
}

const stopped = Symbol('stopped')

/** Lives a log through its lives; throws when it breaks a promise. */
async function live(lives: readonly Life[], options: { seed: number; syncs?: boolean }): Promise<void> {
  const disk = new MemoryDisk(options)
  const random = seeded(options.seed + 1)
  await disk.makeDirectory('/data')
  await disk.syncDirectory('/')
  const model = new Model()
  let firstUnderWay = 1
  await (await createLog(disk, { segmentBytes })).close()
  model.boot = 1
  for (const life of lives) {
    const stop = disk.stopAfter(life.stopAfter + 1).then((): typeof stopped => stopped)
    const wal = await Promise.race([stop, openLog(disk, { applied: model.applied, segmentBytes })])
    if (wal !== stopped) {
      expect(wal.recovered.boot).toBeGreaterThan(model.boot)
      model.boot = wal.recovered.boot
      const entries = await Promise.race([stop, readAll(wal, Math.floor(random() * 20_000))])
      // What was opened is promised now, read or not; the next life will tell.
      if (entries !== stopped) model.settle({ entries, hardState: wal.recovered.hardState }, firstUnderWay)
      const under = entries === stopped ? undefined : await use(wal, { life, model, random, stop })
      if (under !== undefined) firstUnderWay = under
      advanceApplied(model, { part: life.applied, below: firstUnderWay })
    }
    if (life.end === 'power') disk.losePower({ keep: life.keep })
    else disk.crash()
  }
  disk.losePower({ keep: 0 })
  const last = await openLog(disk, { applied: model.applied, segmentBytes })
  model.settle({ entries: await readAll(last), hardState: last.recovered.hardState }, firstUnderWay)
  disk.losePower({ keep: 0 })
  const again = await openLog(disk, { applied: model.applied, segmentBytes })
  model.settle({ entries: await readAll(again), hardState: again.recovered.hardState }, 1)
}

/** Appends as planned until the process stops; resolves to the first index of the append it stopped in. */
async function use(
  wal: Wal,
  {
    life,
    model,
    random,
    stop,
  }: { life: Life; model: Model; random: () => number; stop: Promise<typeof stopped> },
): Promise<number | undefined> {
  for (const plan of life.appends) {
    const batch = draw(plan, model, random)
    model.underWay = model.after(batch)
    const first = batch.entries[0]?.index ?? model.underWay.entries.length + 1
    if ((await Promise.race([stop, wal.append(batch)])) === stopped) return first
    model.contents = model.underWay
    model.underWay = undefined
    const length = model.contents.entries.length
    if (length === 0) continue
    const from = 1 + Math.floor(random() * length)
    const read = await Promise.race([stop, wal.read({ from, to: length, maxBytes: 5000 })])
    if (read === stopped) return undefined
    const wanted = model.contents.entries.slice(from - 1, from - 1 + read.length)
    expect(read.length).toBeGreaterThan(0)
    expect(read.every((entry, at) => isSameEntry(entry, wanted[at]))).toBe(true)
  }
  if (life.end === 'close') await Promise.race([stop, wal.close()])
  return undefined
}

function draw(plan: AppendPlan, model: Model, random: () => number) {
  const { entries, hardState } = model.contents
  const back = Math.min(plan.back, entries.length - model.applied.index)
  const start = entries.length + 1 - (plan.count > 0 ? back : 0)
  const isNewTerm = back > 0 || plan.vote
  const term = hardState.term + (isNewTerm ? 1 : 0)
  const batch: Entry[] = []
  for (let index = start; index < start + plan.count; index++) {
    const kind = random()
    if (kind < 0.1) batch.push({ type: 'noop', index, term })
    else if (kind < 0.2)
      batch.push({ type: 'configuration', index, term, configuration: configurationOf(`n${index}`) })
    else
      batch.push({
        type: 'commands',
        index,
        term,
        data: Buffer.alloc(Math.floor(random() * plan.size), index),
      })
  }
  return {
    hardState: isNewTerm ? { term, votedFor: plan.vote ? 'v' : undefined } : undefined,
    entries: batch,
  }
}

/** LevelDB may hold what is acknowledged, and nothing that an append under way is about to replace. */
function advanceApplied(model: Model, { part, below }: { part: number; below: number }): void {
  const { entries } = model.contents
  const safe = model.underWay === undefined ? entries.length : Math.min(entries.length, below - 1)
  const index = Math.max(model.applied.index, Math.floor(safe * part))
  const term = entries[index - 1]?.term
  if (term !== undefined) model.applied = { index, term }
}

const lives = fc.array(life, { minLength: 1, maxLength: 6 })

describe('a log through crashes', () => {
  it('keeps all it acknowledged and all it opened with, through stops at any disk call', async () => {
    await fc.assert(
      fc.asyncProperty(lives, fc.nat(1_000_000), (lives, seed) => live(lives, { seed })),
      { numRuns: 300 },
    )
  })

  it('is found out by this very test when syncs are lies', async () => {
    const outcome = await fc.check(
      fc.asyncProperty(lives, fc.nat(1_000_000), (lives, seed) => live(lives, { seed, syncs: false })),
      { numRuns: 300, endOnFailure: true },
    )
    expect(outcome.failed).toBe(true)
  })
})

describe('a log with a flipped bit', () => {
  /** A log of several lives, and the entries of each append. */
  async function grow(seed: number, sealed: boolean) {
    const disk = new MemoryDisk({ seed })
    const random = seeded(seed)
    await disk.makeDirectory('/data')
    await disk.syncDirectory('/')
    const model = new Model()
    let wal = await createLog(disk, { segmentBytes })
    let before: Contents = model.contents
    for (let append = 0; append < 12; append++) {
      if (append % 5 === 4) {
        disk.crash()
        wal = await openLog(disk, { segmentBytes })
      }
      const plan = {
        count: 1 + Math.floor(random() * 4),
        back: append % 4 === 3 ? 2 : 0,
        size: 3000,
        vote: false,
      }
      const batch = draw(plan, model, random)
      await wal.append(batch)
      before = model.contents
      model.contents = model.after(batch)
    }
    if (sealed) await wal.close()
    disk.crash()
    return { disk, before, contents: model.contents }
  }

  it('opens with all it acknowledged or not at all, except for an unproven last append, which may be cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(1_000_000),
        fc.nat(),
        fc.constantFrom('none', 'closed', 'applied'),
        async (seed, at, proof) => {
          const { disk, before, contents } = await grow(seed, proof === 'closed')
          const names = [...(await disk.list(directory))].sort()
          const path = `${directory}/${names[at % names.length]}`
          disk.flip(path, at % (disk.contents(path).length * 8))
          const last = contents.entries.at(-1)
          const applied = proof === 'applied' && last !== undefined ? last : { index: 0, term: 0 }
          let found: Contents
          try {
            const wal = await openLog(disk, {
              applied: { index: applied.index, term: applied.term },
              segmentBytes,
            })
            found = { entries: await readAll(wal), hardState: wal.recovered.hardState }
          } catch (error) {
            expect(error).toBeInstanceOf(LogError)
            expect(error).toMatchObject({ code: 'damaged' })
            return
          }
          const accepted = proof === 'none' ? [contents, before] : [contents]
          expect(accepted.some((wanted) => isSame(wanted, found))).toBe(true)
        },
      ),
      { numRuns: 300 },
    )
  })

  it('never serves it while it runs', async () => {
    let damaged = 0
    await fc.assert(
      fc.asyncProperty(fc.nat(1_000_000), fc.nat(), async (seed, at) => {
        const { disk, contents } = await grow(seed, true)
        const wal = await openLog(disk, { segmentBytes })
        const names = [...(await disk.list(directory))].sort()
        const path = `${directory}/${names[at % names.length]}`
        disk.flip(path, at % (disk.contents(path).length * 8))
        try {
          const read = await readAll(wal)
          expect(read.every((entry, at) => isSameEntry(entry, contents.entries[at]))).toBe(true)
        } catch (error) {
          if (!(error instanceof LogError)) throw error
          damaged += 1
        }
      }),
      { numRuns: 100 },
    )
    expect(damaged).toBeGreaterThan(10)
  })
})
