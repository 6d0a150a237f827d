// The history of one node, as whoever comes back is told it: without a gap, across cuts, restarts and what is let go.

import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Position } from '../../src/store/state-changes.ts'
import { keptValueBytes } from '../../src/store/state-history.ts'
import { StateLoader } from '../../src/store/state-loader.ts'
import { historyTables } from '../../src/store/state-rows.ts'
import type { Command } from '../../src/store/types.ts'
import { bytes, del, founding, memory, set, transfer, Workshop } from '../store/state-fixtures.ts'
import { type Reader, textOf, told, WatchBed } from './watch-bed.ts'

describe('the history', () => {
  it('is told from any position that is kept, and from before that is refused with the earliest one', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop, { history: { ageMs: 1000, bytes: 1024 * 1024 } })
    for (let n = 1; n <= 20; n++) await bed.machine.runAt(founding.foundedAt + n * 100, set('a', `${n}`))
    await bed.machine.state.flush()
    const early = await bed.watch({ start: { type: 'after', position: { revision: 1 } } }).until(() => false)
    const [end] = early.events
    expect(early.events).toHaveLength(1)
    if (end?.type !== 'compacted') throw new Error('it is kept')
    expect(end.oldest).toBeGreaterThan(5)
    expect(end.oldest).toBeLessThanOrEqual(10)
    const { oldest } = end
    const late = await bed.watch({ start: { type: 'after', position: { revision: oldest } } }).upTo(20)
    expect(told(late)).toEqual([
      ...Array.from({ length: 20 - oldest }, (_, n) => `set a ${oldest + 1 + n}`),
      'progress',
    ])
  })

  it('is bounded by bytes too, in LevelDB as in what it says of itself', async () => {
    await using workshop = new Workshop()
    const limit = 64 * 1024
    const bed = await WatchBed.make(workshop, { history: { ageMs: 1e9, bytes: limit } })
    for (let n = 0; n < 400; n++) await bed.machine.run(set(`a${n % 3}`, Buffer.alloc(900, `${n}`)))
    await bed.machine.state.flush()
    const size = async () => {
      const rows = await bed.level.iterator({ gte: Buffer.of(0, 0x83), lt: Buffer.of(0, 0x86) }).all()
      return rows.reduce((sum, [key, value]) => sum + key.length + value.length, 0)
    }
    await expect.poll(size, { timeout: 5000 }).toBeLessThan(limit * 1.1)
    expect(await size()).toBeGreaterThan(limit / 3)
  })

  it('outlives the process', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    await bed.machine.run(set('a', '1'))
    await bed.restart()
    await bed.machine.run(set('a', '2'))
    const kept = await bed.watch({ start: { type: 'after', position: { revision: 0 } } }).upTo(2)
    expect(told(kept)).toEqual(['set a 1', 'set a 2', 'progress'])
  })

  it('begins anew in a state that came as a snapshot', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    await bed.machine.run(set('a', '1'), set('a', '2'))
    const snapshot = await bed.machine.state.snapshot()
    const { index, term, digest } = snapshot
    const level = await memory()
    const loader = await StateLoader.open({ level, expected: { index, term, digest } })
    await transfer(snapshot, loader, 64 * 1024)
    await loader.finish()
    await snapshot.close()
    const machine = bed.machine.on((await workshop.open(level)).state)
    bed.hub.show(machine.state)
    const reader = bed.watch({ start: { type: 'after', position: { revision: 1 } } })
    expect((await reader.until(() => false)).events).toEqual([{ type: 'compacted', oldest: 2 }])
    await machine.run(set('a', '3'))
    const later = await bed.watch({ start: { type: 'after', position: { revision: 2 } } }).upTo(3)
    expect(told(later)).toEqual(['set a 3', 'progress'])
  })

  it('begins anew where batches were written by a build that keeps none', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    await bed.machine.run(set('a', '1'), set('a', '2'))
    await bed.machine.state.flush()
    const header = Buffer.from(historyTables.header)
    const stale = await bed.level.get(header)
    await bed.machine.run(set('a', '3'))
    await bed.machine.state.flush()
    await bed.level.damage([{ type: 'put', key: header, value: stale ?? Buffer.alloc(0) }])
    await bed.restart()
    const reader = bed.watch({ start: { type: 'after', position: { revision: 1 } } })
    expect((await reader.until(() => false)).events).toEqual([{ type: 'compacted', oldest: 3 }])
  })

  it('is the whole of what happened, to whoever comes and goes as it likes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60 }), fc.nat(), async (steps, seed) => {
        await using workshop = new Workshop()
        const bytesKept = [700, 3000, 1_000_000][seed % 3] ?? 0
        const bed = await WatchBed.make(workshop, {
          founding: { ...founding, valueBytes: 2 * keptValueBytes },
          history: { ageMs: 1e9, bytes: bytesKept },
          flushEveryMs: seed % 2,
        })
        const model = new Model()
        const clients = queries.map((prefix) => new Client(prefix))
        for (const one of steps) {
          switch (one.type) {
            case 'write': {
              model.apply(one.commands)
              // Some read while it is applied.
              const reads = one.readers.map((client) => clients[client]?.read(bed, 1))
              for (let turns = 0; turns < one.turns; turns++) await turn()
              await bed.machine.run(...one.commands)
              bed.tell()
              await Promise.all(reads)
              break
            }
            case 'read': {
              const read = clients[one.client]?.read(bed, one.groups)
              while (await Promise.race([read?.then(() => false), turn(true)])) bed.tell()
              break
            }
            case 'cut':
              await clients[one.client]?.cut()
              break
            case 'restart':
              await bed.restart()
              break
            default:
              one satisfies never
          }
        }
        const { revision } = bed.machine.state
        for (const client of clients) {
          await client.readTo(bed, revision)
          expect(client.mirror).toEqual(model.under(client.prefix))
          client.check(model)
        }
        await Promise.all(clients.map((client) => client.cut()))
        expect(bed.hub.size).toBe(0)
      }),
      { numRuns: 200 },
    )
  }, 60_000)
})

const keyName = fc.constantFrom('a', 'a/1', 'a/2', 'b', 'b/1')
const queries = ['', 'a', 'a/', 'b/1']

type Step =
  | {
      readonly type: 'write'
      readonly commands: readonly Command[]
      readonly readers: readonly number[]
      /** Turns of the event loop by which they are ahead. */
      readonly turns: number
    }
  | { readonly type: 'read'; readonly client: number; readonly groups: number }
  | { readonly type: 'cut'; readonly client: number }
  | { readonly type: 'restart' }

/** Values that events keep, and larger ones that they do not. */
const text = fc.oneof(
  { weight: 3, arbitrary: fc.string({ maxLength: 8 }) },
  { weight: 1, arbitrary: fc.nat(99).map((n) => `${n}`.padEnd(keptValueBytes + 1, '.')) },
)

const command = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.tuple(keyName, text).map(([key, value]) => set(key, value)),
  },
  { weight: 1, arbitrary: keyName.map((key) => del(key)) },
)

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .record({
        commands: fc.array(command, { minLength: 1, maxLength: 4 }),
        readers: fc.uniqueArray(fc.nat(3), { maxLength: 4 }),
        turns: fc.nat(6),
      })
      .map((one): Step => ({ type: 'write', ...one })),
  },
  {
    weight: 6,
    arbitrary: fc
      .record({ client: fc.nat(3), groups: fc.integer({ min: 1, max: 3 }) })
      .map((one): Step => ({ type: 'read', ...one })),
  },
  { weight: 2, arbitrary: fc.nat(3).map((client): Step => ({ type: 'cut', client })) },
  { weight: 1, arbitrary: fc.constant<Step>({ type: 'restart' }) },
)

/** What is under each key, and every change there was. */
class Model {
  readonly #keys = new Map<string, string>()
  readonly changes: { readonly revision: number; readonly key: string; readonly text: string }[] = []
  #revision = 0

  apply(commands: readonly Command[]): void {
    for (const one of commands) {
      this.#revision += 1
      if (one.type !== 'set' && one.type !== 'delete') throw new Error(`no ${one.type} here`)
      const key = Buffer.from(one.key).toString()
      if (one.type === 'set') this.#keys.set(key, Buffer.from(one.value).toString())
      else if (!this.#keys.delete(key)) continue
      const value = one.type === 'set' ? Buffer.from(one.value).toString() : ''
      this.changes.push({ revision: this.#revision, key, text: `${one.type} ${key} ${value}`.trim() })
    }
  }

  under(prefix: string): ReadonlyMap<string, string> {
    return new Map([...this.#keys].filter(([key]) => key.startsWith(prefix)).sort())
  }
}

/** Keeps a mirror of what it watches: takes a snapshot first, and again when what it missed is not kept. */
class Client {
  readonly prefix: string
  #keys = new Map<string, string>()
  #reader: Reader | undefined
  #taken = 0
  #id: Position | undefined
  /** Unbroken runs of changes: the position after which it begins, and what was told. */
  readonly #runs: { readonly from: number; to: number; readonly told: string[] }[] = []

  constructor(prefix: string) {
    this.prefix = prefix
  }

  get mirror(): ReadonlyMap<string, string> {
    return new Map([...this.#keys].sort())
  }

  async read(bed: WatchBed, groups: number): Promise<void> {
    for (let n = 0; n < groups; n++) {
      const reader = this.#open(bed)
      await reader.read()
      await this.#take(reader)
    }
  }

  async readTo(bed: WatchBed, revision: number): Promise<void> {
    while (this.#id === undefined || this.#id.revision < revision) {
      const reader = this.#open(bed)
      if (reader.types.includes('progress')) bed.tell()
      await reader.read()
      await this.#take(reader)
    }
  }

  async cut(): Promise<void> {
    await this.#reader?.close()
    this.#reader = undefined
  }

  check({ changes }: Model): void {
    for (const { from, to, told } of this.#runs) {
      const expected = changes.filter(
        ({ revision, key }) => revision > from && revision <= to && key.startsWith(this.prefix),
      )
      expect(told).toEqual(expected.map(({ text }) => text))
    }
  }

  #open(bed: WatchBed): Reader {
    if (this.#reader === undefined) {
      const start =
        this.#id === undefined
          ? ({ type: 'snapshot' } as const)
          : ({ type: 'after', position: this.#id } as const)
      if (start.type === 'snapshot') this.#keys = new Map()
      this.#reader = bed.watch({ prefixes: this.prefix === '' ? [] : [bytes(this.prefix)], start })
      this.#taken = 0
    }
    return this.#reader
  }

  async #take(reader: Reader): Promise<void> {
    for (const event of reader.events.slice(this.#taken)) {
      this.#taken += 1
      if (event.type === 'set') {
        this.#keys.set(Buffer.from(event.key).toString(), Buffer.from(event.record.value ?? []).toString())
      } else if (event.type === 'delete') {
        this.#keys.delete(Buffer.from(event.key).toString())
      } else if (event.type === 'compacted') {
        this.#id = undefined
        await this.cut()
        return
      }
      if (!('id' in event) || event.id === undefined) continue
      const { revision } = event.id
      if (this.#id === undefined) this.#runs.push({ from: revision, to: revision, told: [] })
      this.#id = event.id
      const run = this.#runs.at(-1)
      if (run === undefined) throw new Error('a run has begun')
      if (event.type !== 'progress') run.told.push(textOf(event))
      run.to = revision
    }
    if (reader.ended) await this.cut()
  }
}
