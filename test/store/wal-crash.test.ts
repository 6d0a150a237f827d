// The log against a model of it, through crashes and losses of power at any disk call: what it acknowledged is there,
// exactly, and what it opened with it keeps.

import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Configuration, Entry, HardState, Position } from '../../src/raft/types.ts'
import { LogError, Wal } from '../../src/store/wal.ts'
import { MemoryDisk, seeded } from './memory-disk.ts'
import { configurationOf, createLog, directory, founding, openLog, readAll } from './wal-harness.ts'

const segmentBytes = 20_000

const numRuns = Number(process.env['TRIVET_WALKS'] ?? 300)

/** One append to come, and what follows it: what they hold is drawn from the seed, their shape from here. */
type AppendPlan = {
  readonly count: number
  readonly back: number
  readonly size: number
  readonly vote: boolean
  /** An install at an entry of the log, or of a snapshot that the log does not reach or contradicts. */
  readonly next: 'nothing' | 'compact' | 'install here' | 'install elsewhere' | 'prove'
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
      next: fc.oneof(
        { weight: 4, arbitrary: fc.constant('nothing' as const) },
        { weight: 3, arbitrary: fc.constant('compact' as const) },
        fc.constantFrom('install here' as const, 'install elsewhere' as const, 'prove' as const),
      ),
    }),
    { maxLength: 6 },
  ),
  stopAfter: fc.oneof(fc.nat(16), fc.nat(60), fc.constant(10_000)),
  end: fc.constantFrom('crash', 'power', 'close'),
  keep: fc.constantFrom(0, 0.3, 0.7, 1),
  applied: fc.constantFrom(0, 0.5, 1),
})

type Base = Position & { readonly directory: string; readonly configuration: Configuration }

type Contents = {
  readonly base: Base
  /** Those after the base. */
  readonly entries: readonly Entry[]
  readonly hardState: HardState
}

const foundedContents: Contents = {
  base: { index: 0, term: 0, directory: 'state-0', configuration: founding.configuration },
  entries: [],
  hardState: { term: 0, votedFor: undefined },
}

/** What the log may hold: what it acknowledged, and of an append that was under way, any number of its entries. */
class Model {
  contents = foundedContents
  underWay: Contents | undefined
  /** What a compaction was asked up to: the base of any segment that has begun since. */
  compacted: Base | undefined
  applied: Position = { index: 0, term: 0 }
  boot = 0
  directories = 0

  get lastIndex(): number {
    return this.contents.entries.at(-1)?.index ?? this.contents.base.index
  }

  after({ entries, hardState }: { entries: readonly Entry[]; hardState: HardState | undefined }): Contents {
    const first = entries[0]?.index ?? this.lastIndex + 1
    return {
      base: this.contents.base,
      entries: [...this.contents.entries.filter((entry) => entry.index < first), ...entries],
      hardState: hardState ?? this.contents.hardState,
    }
  }

  /** The base of the log at one of its entries. */
  baseAt(entry: Entry): Base {
    const { base, entries } = this.contents
    const { index, term } = entry
    const configuration = entries.findLast((each) => each.type === 'configuration' && each.index <= index)
    const { directory } = base
    return {
      index,
      term,
      directory,
      configuration:
        configuration?.type === 'configuration' ? configuration.configuration : base.configuration,
    }
  }

  /** Checks what an opened log holds and takes it as what must be there from now on. */
  settle(found: Contents, firstUnderWay: number): void {
    const { underWay } = this
    const possible = [this.contents]
    if (underWay !== undefined) {
      possible.push({ ...this.contents, hardState: underWay.hardState })
      const last = underWay.entries.at(-1)?.index ?? underWay.base.index
      for (let to = Math.min(firstUnderWay - 1, last); to <= last; to++) {
        possible.push({ ...underWay, entries: underWay.entries.filter((entry) => entry.index <= to) })
      }
    }
    const isPossible = possible.some((each) => this.#bases(each).some((wanted) => isSame(wanted, found)))
    if (!isPossible) {
      throw new Error(
        `acknowledged ${describeLog(this.contents)}, under way ${underWay && describeLog(underWay)}, ` +
          `compacted to ${this.compacted?.index}, found ${describeLog(found)}`,
      )
    }
    this.contents = found
    this.underWay = undefined
    this.compacted = undefined
  }

  /** The same log, from where it may begin. */
  #bases(contents: Contents): Contents[] {
    const { compacted } = this
    if (compacted === undefined || compacted.index <= contents.base.index) return [contents]
    return [contents, from(compacted, contents)]
  }

  /** Takes it that the log begins here now. */
  rebase(base: Base): void {
    this.contents = from(base, this.contents)
    if (base.index > this.applied.index) this.applied = { index: base.index, term: base.term }
  }
}

function from(base: Base, contents: Contents): Contents {
  return { ...contents, base, entries: contents.entries.filter((entry) => entry.index > base.index) }
}

function isSame(a: Contents, b: Contents): boolean {
  return (
    isDeepStrictEqual(a.base, b.base) &&
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

function describeLog({ base, entries, hardState }: Contents): string {
  const list = entries.map((entry) => `${entry.index}:${entry.term}`).join(' ')
  return `${JSON.stringify(base)} ${list} (${JSON.stringify(hardState)})`
}

/** What a log holds that has just been opened. */
async function contentsOf(wal: Wal, maxBytes?: number): Promise<Contents> {
  const { hardState } = wal.recovered
  return { base: baseOf(wal), entries: await readAll(wal, maxBytes), hardState }
}

function baseOf({ base: { index, term, directory, configuration } }: Wal): Base {
  return { index, term, directory, configuration }
}

const stopped = Symbol('stopped')

/** With the state that its base names, which reaches it, as its owner makes sure of. */
async function reopen(disk: MemoryDisk, model: Model): Promise<Wal> {
  const base = (await Wal.peek({ disk, directory }))?.base
  const isAhead = base !== undefined && base.index > model.applied.index
  const applied = isAhead ? { index: base.index, term: base.term } : model.applied
  const wal = await openLog(disk, { applied, segmentBytes })
  // Not before: until then a loss of power may take the log back to the base before, and to the state which that one names.
  model.applied = applied
  return wal
}

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
    const wal = await Promise.race([stop, reopen(disk, model)])
    if (wal !== stopped) {
      expect(wal.recovered.boot).toBeGreaterThan(model.boot)
      model.boot = wal.recovered.boot
      const contents = await Promise.race([stop, contentsOf(wal, Math.floor(random() * 20_000))])
      // What was opened is promised now, read or not; the next life will tell.
      if (contents !== stopped) model.settle(contents, firstUnderWay)
      const under = contents === stopped ? undefined : await use(wal, { life, model, random, stop })
      if (under !== undefined) firstUnderWay = under
      advanceApplied(model, { part: life.applied, below: firstUnderWay })
    }
    if (life.end === 'power') disk.losePower({ keep: life.keep })
    else disk.crash()
  }
  disk.losePower({ keep: 0 })
  model.settle(await contentsOf(await reopen(disk, model)), firstUnderWay)
  disk.losePower({ keep: 0 })
  model.settle(await contentsOf(await reopen(disk, model)), 1)
}

type Using = { life: Life; model: Model; random: () => number; stop: Promise<typeof stopped> }

/** Appends as planned until the process stops; resolves to the first index of the append it stopped in. */
async function use(wal: Wal, { life, model, random, stop }: Using): Promise<number | undefined> {
  for (const plan of life.appends) {
    const batch = draw(plan, model, random)
    model.underWay = model.after(batch)
    const first = batch.entries[0]?.index ?? model.lastIndex + 1
    if ((await Promise.race([stop, wal.append(batch)])) === stopped) return first
    model.contents = model.underWay
    model.underWay = undefined
    if (wal.base.index !== model.contents.base.index) {
      expect(baseOf(wal)).toEqual(model.compacted)
      model.rebase(baseOf(wal))
    }
    if ((await Promise.race([stop, follow(wal, plan, model, random)])) === stopped) return model.lastIndex + 1
    const { entries } = model.contents
    if (model.lastIndex === wal.base.index) continue
    const from = wal.base.index + 1 + Math.floor(random() * (model.lastIndex - wal.base.index))
    const read = await Promise.race([stop, wal.read({ from, to: model.lastIndex, maxBytes: 5000 })])
    if (read === stopped) return undefined
    const start = entries.findIndex((entry) => entry.index === from)
    const wanted = entries.slice(start, start + read.length)
    expect(read.length).toBeGreaterThan(0)
    expect(read.every((entry, at) => isSameEntry(entry, wanted[at]))).toBe(true)
  }
  if (life.end === 'close') await Promise.race([stop, wal.close()])
  return undefined
}

/** What comes after an append. */
async function follow(wal: Wal, { next }: AppendPlan, model: Model, random: () => number): Promise<void> {
  const { entries, hardState } = model.contents
  const entry = entries[Math.floor(random() * entries.length)]
  switch (next) {
    case 'nothing':
      return
    case 'prove':
      await wal.prove()
      await wal.prove()
      return
    case 'compact':
      if (entry === undefined || entry.index > model.applied.index) return
      wal.compact(entry)
      if (entry.index > (model.compacted?.index ?? 0)) model.compacted = model.baseAt(entry)
      return
    case 'install here':
    case 'install elsewhere': {
      model.directories += 1
      const directory = `state-${model.directories}`
      const elsewhere = { index: model.lastIndex + 1 + Math.floor(random() * 5), term: hardState.term }
      if (next === 'install here' && entry === undefined) return
      const base =
        next === 'install here' && entry !== undefined
          ? { ...model.baseAt(entry), directory }
          : { ...elsewhere, directory, configuration: configurationOf(directory) }
      model.underWay = from(base, model.contents)
      await wal.install(base)
      model.underWay = undefined
      model.compacted = undefined
      model.rebase(base)
      return
    }
    default:
      next satisfies never
  }
}

function draw(plan: Omit<AppendPlan, 'next'>, model: Model, random: () => number) {
  const { hardState } = model.contents
  const { lastIndex } = model
  const settled = Math.max(model.applied.index, model.contents.base.index)
  const back = Math.max(0, Math.min(plan.back, lastIndex - settled))
  const start = lastIndex + 1 - (plan.count > 0 ? back : 0)
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
  const { entries, base } = model.contents
  const safe = model.underWay === undefined ? model.lastIndex : Math.min(model.lastIndex, below - 1)
  const index = Math.max(model.applied.index, base.index, Math.floor(safe * part))
  const term = entries.find((entry) => entry.index === index)?.term
  if (term !== undefined) model.applied = { index, term }
}

const lives = fc.array(life, { minLength: 1, maxLength: 6 })

describe('a log through crashes', () => {
  it('keeps all it acknowledged and all it opened with, through stops at any disk call', async () => {
    await fc.assert(
      fc.asyncProperty(lives, fc.nat(1_000_000), (lives, seed) => live(lives, { seed })),
      { numRuns },
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
  async function grow(seed: number, { sealed, compacted }: { sealed: boolean; compacted: boolean }) {
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
      const settled = model.contents.entries.at(-4)
      if (compacted && settled !== undefined) {
        wal.compact(settled)
        model.applied = { index: settled.index, term: settled.term }
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
      model.contents = from(baseOf(wal), model.after(batch))
    }
    if (sealed) await wal.close()
    disk.crash()
    before = from(model.contents.base, before)
    return { disk, before, contents: model.contents }
  }

  it('opens with all it acknowledged or not at all, except for an unproven last append, which may be cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(1_000_000),
        fc.nat(),
        fc.constantFrom('none', 'closed', 'applied'),
        fc.boolean(),
        async (seed, at, proof, compacted) => {
          const { disk, before, contents } = await grow(seed, { sealed: proof === 'closed', compacted })
          const names = [...(await disk.list(directory))].sort()
          const path = `${directory}/${names[at % names.length]}`
          disk.flip(path, at % (disk.contents(path).length * 8))
          const last = contents.entries.at(-1)
          const applied = proof === 'applied' && last !== undefined ? last : contents.base
          let found: Contents
          try {
            const { index, term } = applied
            found = await contentsOf(await openLog(disk, { applied: { index, term }, segmentBytes }))
          } catch (error) {
            expect(error).toBeInstanceOf(LogError)
            expect(error).toMatchObject({ code: 'damaged' })
            return
          }
          const accepted = proof === 'none' ? [contents, before] : [contents]
          expect(accepted.some((wanted) => isSame(wanted, found))).toBe(true)
        },
      ),
      { numRuns },
    )
  })

  it('never serves it while it runs', async () => {
    let damaged = 0
    await fc.assert(
      fc.asyncProperty(fc.nat(1_000_000), fc.nat(), async (seed, at) => {
        const { disk, contents } = await grow(seed, { sealed: true, compacted: at % 2 === 0 })
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
      { numRuns: Math.ceil(numRuns / 3) },
    )
    expect(damaged).toBeGreaterThan(10)
  })
})
