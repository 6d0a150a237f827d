// The verdict has to turn red for every way in which a run can go wrong, and to stay green for what only looks like it.

import { describe, expect, it } from 'vitest'
import { History } from '../linear/history.ts'
import type { Operation, Result } from '../linear/key-value.ts'
import type { Replica } from './replicas.ts'
import { type Findings, judge, longestGap, type StepRecord } from './verdict.ts'

type Done = readonly [Operation, Result | 'unknown' | 'refused']

/** One call after the other, a millisecond each. */
function historyOf(calls: readonly Done[]): Findings['events'] {
  let now = 0
  const history = new History(() => now++)
  for (const [operation, end] of calls) {
    const invocation = history.invoke({ client: 'c', node: 'n1', operation })
    if (end === 'unknown') invocation.info('outcome-unknown')
    else if (end === 'refused') invocation.fail('no-leader')
    else invocation.ok(end)
  }
  return history.events
}

function replica(
  node: string,
  keys: Readonly<Record<string, readonly [string, number]>>,
  revision = 9,
): Replica {
  const held = Object.entries(keys).map(([key, [value, at]]) => [key, { value, revision: at }] as const)
  return { node, revision, keys: new Map(held), digest: { index: 1024, digest: 'd' } }
}

function typesOf(findings: Partial<Findings>): readonly string[] {
  const empty = { events: [], steps: [], surprises: [], deaths: [], rivals: [], replicas: [] }
  return judge({ ...empty, ...findings }).map(({ type }) => type)
}

const set = (key: string, value: string, version: number): Done => [
  { type: 'set', key, value },
  { type: 'written', version, created: version === 1 },
]

describe('the verdict', () => {
  it('has nothing to say of a run in which all went well', () => {
    const events = historyOf([
      set('a', 'x', 1),
      set('a', 'y', 2),
      [
        { type: 'get', key: 'a' },
        { type: 'found', value: 'y', version: 2 },
      ],
    ])
    const replicas = ['n1', 'n2'].map((node) => replica(node, { a: ['y', 2] }))
    expect(typesOf({ events, replicas })).toEqual([])
  })

  it('is red for a stale read, and names the calls', () => {
    const events = historyOf([
      set('a', 'x', 1),
      set('a', 'y', 2),
      [
        { type: 'get', key: 'a' },
        { type: 'found', value: 'x', version: 1 },
      ],
    ])
    const [violation] = judge({ events, steps: [], surprises: [], deaths: [], rivals: [], replicas: [] })
    expect(violation).toMatchObject({ type: 'not-linearizable' })
    expect(violation?.calls).toContain(2)
  })

  it('is red for an acknowledged write that no replica holds, or an older one does', () => {
    const events = historyOf([set('a', 'x', 1), set('a', 'y', 2)])
    expect(typesOf({ events, replicas: [replica('n1', {})] })).toEqual(['lost-write'])
    expect(typesOf({ events, replicas: [replica('n1', { a: ['x', 1] })] })).toEqual(['lost-write'])
    expect(typesOf({ events, replicas: [replica('n1', { a: ['z', 2] })] })).toEqual(['lost-write'])
  })

  it('is red for a key that was deleted and is back', () => {
    const events = historyOf([
      set('a', 'x', 1),
      [
        { type: 'delete', key: 'a' },
        { type: 'deleted', version: 2, existed: true },
      ],
    ])
    expect(typesOf({ events, replicas: [replica('n1', { a: ['x', 1] })] })).toEqual(['lost-write'])
    expect(typesOf({ events, replicas: [replica('n1', {})] })).toEqual([])
  })

  it('takes a write of unknown outcome for what may have come later', () => {
    const events = historyOf([set('a', 'x', 1), [{ type: 'delete', key: 'a' }, 'unknown']])
    expect(typesOf({ events, replicas: [replica('n1', {})] })).toEqual([])
    const later = historyOf([set('a', 'x', 1), [{ type: 'set', key: 'a', value: 'y' }, 'unknown']])
    expect(typesOf({ events: later, replicas: [replica('n1', { a: ['y', 5] })] })).toEqual([])
    const refused = historyOf([set('a', 'x', 1), [{ type: 'delete', key: 'a' }, 'refused']])
    expect(typesOf({ events: refused, replicas: [replica('n1', {})] })).toEqual(['lost-write'])
  })

  it('is red for a write that took effect twice', () => {
    const events = historyOf([
      set('a', 'x', 1),
      [
        { type: 'get', key: 'a' },
        { type: 'found', value: 'x', version: 3 },
      ],
    ])
    expect(typesOf({ events })).toContain('duplicate')
  })

  it('is red for two writes of one revision', () => {
    expect(typesOf({ events: historyOf([set('a', 'x', 1), set('b', 'y', 1)]) })).toContain('duplicate')
  })

  it('is red for a counter that misses an increment or counted one twice', () => {
    const increment = { type: 'increment', key: 'n', by: 1 } as const
    const counted = (value: number): Done => [increment, { type: 'counted', value, version: value }]
    const events = historyOf([counted(1), counted(2), [increment, 'unknown'], [increment, 'refused']])
    const held = (value: string | undefined) => [replica('n1', value === undefined ? {} : { n: [value, 9] })]
    for (const value of ['2', '3']) expect(typesOf({ events, replicas: held(value) })).toEqual([])
    for (const value of ['1', '4']) expect(typesOf({ events, replicas: held(value) })).toEqual(['miscount'])
    expect(typesOf({ events, replicas: held(undefined) })).toEqual(['lost-write', 'miscount'])
    expect(typesOf({ events: historyOf([counted(1), counted(1)]) })).toContain('not-linearizable')
  })

  it('is red for replicas that differ in a key, a value, a revision or the last revision', () => {
    const one = replica('n1', { a: ['x', 1], b: ['y', 2] })
    for (const other of [
      replica('n2', { a: ['x', 1] }),
      replica('n2', { a: ['x', 1], b: ['z', 2] }),
      replica('n2', { a: ['x', 1], b: ['y', 3] }),
      replica('n2', { a: ['x', 1], b: ['y', 2], c: ['z', 4] }),
      replica('n2', { a: ['x', 1], b: ['y', 2] }, 10),
      { ...replica('n2', { a: ['x', 1], b: ['y', 2] }), digest: { index: 1024, digest: 'e' } },
    ]) {
      expect(typesOf({ replicas: [one, other] })).toEqual(['diverged'])
    }
  })

  it('compares digests of the same entry only', () => {
    const one = replica('n1', { a: ['x', 1] })
    expect(typesOf({ replicas: [one, { ...one, digest: { index: 2048, digest: 'e' } }] })).toEqual([])
    expect(typesOf({ replicas: [one, { ...one, digest: undefined }] })).toEqual([])
  })

  it('is red for an unwanted death, a surprise, two leaders of a term, and an end that could not be seen', () => {
    expect(typesOf({ deaths: [{ node: 'n1', how: 'ended with status 1', output: 'why', time: 1 }] })).toEqual(
      ['death'],
    )
    expect(typesOf({ surprises: [{ time: 1, client: 'c', text: '500 internal' }] })).toEqual(['surprise'])
    expect(typesOf({ rivals: [{ time: 1, term: 3, nodes: ['n1', 'n2'] }] })).toEqual(['two-leaders'])
    expect(typesOf({ unfinished: 'n1 does not serve' })).toEqual(['not-recovered'])
  })

  const step = (
    times: { begun: number; healed: number; recovered?: number },
    writesGoOn = true,
  ): StepRecord => ({
    number: 1,
    recovered: undefined,
    ...times,
    strikes: [{ fault: 'kill', what: 'killed n1', nodes: ['n1'], writesGoOn }],
  })

  it('is red for a step that was not recovered from', () => {
    const failed = { ...step({ begun: 0, healed: 1 }), failure: 'not within 60 s: n1' }
    expect(typesOf({ steps: [failed] })).toEqual(['not-recovered'])
  })

  it('is red for writes that stand still though a majority works, and only then', () => {
    const events = historyOf([set('a', 'x', 1)])
    const long = { begun: 0, healed: 12_000, recovered: 12_100 }
    expect(typesOf({ events, steps: [step(long)] })).toEqual(['unavailable'])
    expect(typesOf({ events, steps: [step(long, false)] })).toEqual([])
    expect(typesOf({ events, steps: [step({ ...long, recovered: 9000, healed: 8000 })] })).toEqual([])
  })

  it('measures the longest time without a write from the begin of a fault to the recovery', () => {
    const events = historyOf([set('a', 'x', 1), set('a', 'y', 2), set('a', 'z', 3)])
    const times = events.filter(({ type }) => type === 'ok').map(({ time }) => time)
    expect(longestGap({ begun: 0, healed: 50, recovered: 100 }, events)).toBe(100 - (times.at(-1) ?? 0))
  })
})
