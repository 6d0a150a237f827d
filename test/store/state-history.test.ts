// The history of changes on the disk: what it reads back, how much at a time, and what damage in it comes to.

import { describe, expect, it } from 'vitest'
import { StateDamagedError } from '../../src/store/record.ts'
import { keptValueBytes } from '../../src/store/state-history.ts'
import type { HistoryPage } from '../../src/store/state-history-read.ts'
import { rangeOf } from '../../src/store/state-history-rows.ts'
import { historyTables } from '../../src/store/state-rows.ts'
import { backends, del, founding, type Machine, memory, set, Workshop } from './state-fixtures.ts'

const withLargeValues = { ...founding, valueBytes: 4 * 1024 * 1024 }

async function all<T>(pages: AsyncIterable<T>): Promise<readonly T[]> {
  const found: T[] = []
  for await (const page of pages) found.push(page)
  return found
}

async function read({ state }: Machine, { after = 0, values = true } = {}): Promise<readonly HistoryPage[]> {
  const history = await state.openHistory()
  try {
    const query = { after: { revision: after }, store: 1, matches: () => true, values }
    return await all(history.pages(query))
  } finally {
    await history.close()
  }
}

const text = ({ events }: HistoryPage) =>
  events.map(({ type, key, record }) =>
    `${type} ${Buffer.from(key)} ${Buffer.from(record?.value ?? [])}`.trim(),
  )

describe.each(backends)('the history on $name', ({ make }) => {
  it('has what was written, whether it stands or not', async () => {
    await using workshop = new Workshop()
    const machine = await workshop.open(await (await make(workshop)).open())
    await machine.run(set('a', '1'), set('b', '1'))
    await machine.run(set('a', '2'), del('b'), set('b', '3'))
    expect((await read(machine)).flatMap(text)).toEqual([
      'set a 1',
      'set b 1',
      'set a 2',
      'delete b',
      'set b 3',
    ])
    expect((await read(machine, { after: 3 })).flatMap(text)).toEqual(['delete b', 'set b 3'])
    expect((await read(machine, { after: 3, values: false })).flatMap(text)).toEqual(['delete b', 'set b'])
  })

  it('has large values too, whether they stand or not, and many events in few rows', async () => {
    await using workshop = new Workshop()
    const level = await (await make(workshop)).open()
    const machine = await workshop.open(level, { founding: withLargeValues })
    const large = (digit: string) => digit.repeat(keptValueBytes + 1)
    const names = Array.from({ length: 100 }, (_, n) => `key ${n}`)
    await machine.run(set('a', large('1')), set('b', large('2')), ...names.map((name) => set(name, 'small')))
    await machine.run(set('a', large('3')), del('b'), ...names.map((name) => set(name, large('4'))))
    expect((await read(machine)).flatMap(text)).toEqual([
      `set a ${large('1')}`,
      `set b ${large('2')}`,
      ...names.map((name) => `set ${name} small`),
      `set a ${large('3')}`,
      'delete b',
      ...names.map((name) => `set ${name} ${large('4')}`),
    ])
    const rows = await level.values(rangeOf(historyTables.events, 0, machine.state.revision)).all()
    expect(rows.length).toBeLessThan(5)
    expect(rows.reduce((sum, row) => sum + row.length, 0)).toBeLessThan(20 * keptValueBytes)
  })

  it('lets go of what is old, and clears it, while it is read as it was', async () => {
    await using workshop = new Workshop()
    const level = await (await make(workshop)).open()
    const history = { ageMs: 1000, bytes: 1024 * 1024 }
    const machine = await workshop.open(level, { history, flushEveryMs: 0 })
    const at = founding.foundedAt
    await machine.runAt(at, set('a', '1'))
    await machine.runAt(at, set('a', '2'))
    const reader = await machine.state.openHistory()
    await machine.runAt(at + 5000, set('a', '3'))
    await machine.runAt(at + 10_000, set('a', '4'))
    await machine.state.flush()
    const rows = () => level.keys({ gte: Buffer.of(0, 0x83), lt: Buffer.of(0, 0x85) }).all()
    await expect.poll(async () => (await rows()).length, { timeout: 5000 }).toBe(1)
    const later = await machine.state.openHistory()
    expect([later.since, later.through]).toEqual([3, 4])
    await later.close()
    const query = { after: { revision: 0 }, store: 1, matches: () => true, values: true }
    expect((await all(reader.pages(query))).flatMap(text)).toEqual(['set a 1', 'set a 2'])
    await reader.close()
  })
})

it('reads values a mebibyte at a time, and says how far each part goes', async () => {
  await using workshop = new Workshop()
  const machine = await workshop.open(await memory(), { founding: withLargeValues })
  const value = Buffer.alloc(700 * 1024, 'v')
  await machine.run(...['a', 'b', 'c'].map((key) => set(key, value)))
  const read3 = await read(machine)
  expect(read3.map(({ events, through }) => [events.length, through])).toEqual([
    [1, 1],
    [1, 2],
    [1, 3],
    [0, 3],
  ])
})

it.each([
  ['an event', historyTables.events],
  ['a record that was replaced', historyTables.replaced],
])('finds damage to %s when it is read, and ends the state with it', async (_, table) => {
  await using workshop = new Workshop()
  const level = await memory()
  const machine = await workshop.open(level, { founding: withLargeValues })
  await machine.run(set('a', Buffer.alloc(keptValueBytes + 1)), set('a', '2'))
  await machine.state.flush()
  const [row] = await level.iterator({ ...rangeOf(table, 0, 2), limit: 1 }).all()
  if (row === undefined) throw new Error('there is none')
  const [key, value] = row
  const flipped = Buffer.from(value)
  flipped[flipped.length - 1] = (flipped.at(-1) ?? 0) ^ 1
  await level.damage([{ type: 'put', key, value: flipped }])
  await expect(read(machine)).rejects.toThrow(StateDamagedError)
  expect(workshop.failures.map(({ type }) => type)).toEqual(['damaged'])
})

it('is no part of the digest, nor of what a scrub reads', async () => {
  await using workshop = new Workshop()
  const level = await memory()
  const machine = await workshop.open(level)
  await machine.run(set('a', '1'), set('a', '2'))
  await machine.state.flush()
  for await (const key of level.keys({ gte: Buffer.of(0, 0x83), lt: Buffer.of(0, 0x86) })) {
    await level.damage([{ type: 'del', key }])
  }
  await machine.state.recompute()
  expect(await machine.text('a')).toBe('2')
})
