// The checker against histories whose truth is known: from the literature, by hand, made from one store, and by a second opinion.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { check, type Verdict } from './checker.ts'
import { type Condition, type KeyResult, keyValue, type Operation, type Result } from './key-value.ts'
import { make, mutate, type Plan } from './made-histories.ts'
import { type Call, illegal, type Model } from './model.ts'
import { isLinearizable } from './second-opinion.ts'

type Known = Call<Operation, Result>

/** A call from `invoked` to `returned`. */
function call(invoked: number, returned: number, operation: Operation, result: Result): Known {
  return { operation, result, invoked, returned }
}

/** A call from `invoked` on whose outcome nobody knows. */
function maybe(invoked: number, operation: Operation): Known {
  return { operation, result: undefined, invoked, returned: Number.POSITIVE_INFINITY }
}

const get: Operation = { type: 'get', key: 'k' }
const set = (value: string, condition?: Condition): Operation => ({
  type: 'set',
  key: 'k',
  value,
  ...(condition === undefined ? {} : { condition }),
})
const remove: Operation = { type: 'delete', key: 'k' }
const other: Operation = { type: 'get', key: 'other' }
const both = (value: string, condition?: Condition): Operation => ({
  type: 'transaction',
  steps: [
    { type: 'set', key: 'k', value },
    { type: 'set', key: 'other', value },
  ],
  ...(condition === undefined ? {} : { when: { key: 'k', condition } }),
})
const version = (number: number): Condition => ({ type: 'version', version: number })
const count = (by: number): Operation => ({ type: 'increment', key: 'k', by })
const touch: Operation = { type: 'touch', key: 'k', ttl: 1000 }
const absent: KeyResult = { type: 'absent' }
const written: KeyResult = { type: 'written' }
const deleted: Result = { type: 'deleted' }
const done: Result = { type: 'done', results: [written, written] }
const found = (value: string): KeyResult => ({ type: 'found', value })

function judge(calls: readonly Known[]): Verdict<Operation, Result>['type'] {
  const verdict = check(keyValue, calls)
  expect(isLinearizable(calls), 'the second opinion').toBe(verdict.type === 'linearizable')
  return verdict.type
}

const good: Record<string, readonly Known[]> = {
  'nothing at all': [],
  'a key that was never written is absent': [call(0, 1, get, absent)],
  'concurrent writes may take effect in either order (Herlihy and Wing, 1990, figure 1)': [
    call(0, 5, set('0'), written),
    call(1, 4, set('1'), written),
    call(6, 7, get, found('0')),
  ],
  'a read beside a write may see it or not': [
    call(0, 10, set('1'), written),
    call(1, 2, get, absent),
    call(3, 4, get, found('1')),
  ],
  'a read sees the later of two writes, though it began before it': [
    call(0, 1, set('1'), written),
    call(2, 9, get, found('2')),
    call(3, 4, set('2'), written),
  ],
  'a write whose outcome nobody knows appears late': [
    maybe(0, set('1')),
    call(1, 2, set('2'), written),
    call(3, 4, get, found('2')),
    call(5, 6, get, found('1')),
  ],
  'a write whose outcome nobody knows never appears': [
    maybe(0, set('1')),
    call(1, 2, set('2'), written),
    call(3, 4, get, found('2')),
    call(5, 6, get, found('2')),
  ],
  'a delete whose outcome nobody knows appears late': [
    call(0, 1, set('1'), written),
    maybe(2, remove),
    call(3, 4, get, found('1')),
    call(5, 6, get, absent),
  ],
  'two deletes of unknown outcome empty the key twice': [
    maybe(0, remove),
    maybe(0, remove),
    call(1, 2, set('1'), written),
    call(3, 4, get, absent),
    call(5, 6, set('2'), written),
    call(7, 8, get, absent),
  ],
  'a delete of unknown outcome comes last, though it could have helped earlier': [
    call(0, 5, set('1'), written),
    call(0, 6, set('2', { type: 'absent' }), written),
    maybe(0, remove),
    call(7, 8, get, absent),
  ],
  'a write of unknown outcome builds on another': [
    maybe(0, set('1')),
    maybe(0, set('2', { type: 'exists' })),
    call(1, 2, get, found('2')),
  ],
  'a conditional write builds on a version that only a read has told': [
    maybe(0, set('1')),
    call(1, 2, get, { type: 'found', value: '1', version: 4 }),
    call(3, 4, set('2', version(4)), { type: 'written', version: 5 }),
  ],
  'a conditional write of unknown outcome explains why another is refused': [
    call(0, 1, set('1'), { type: 'written', version: 1 }),
    maybe(2, set('2', version(1))),
    call(3, 4, set('3', version(1)), { type: 'refused', version: 2 }),
  ],
  'increments add up in any order, those of unknown outcome or not': [
    call(0, 9, count(1), { type: 'counted', value: 3 }),
    call(0, 9, count(2), { type: 'counted', value: 2 }),
    maybe(0, count(1)),
    maybe(0, count(1)),
    call(10, 11, get, found('4')),
  ],
  'a key expires, and whoever reads meanwhile may see it or not': [
    call(0, 1, set('1'), { type: 'written', version: 1 }),
    call(2, 9, { type: 'expire', key: 'k' }, { type: 'deleted', version: 2 }),
    call(3, 4, get, found('1')),
    call(5, 6, get, absent),
    call(7, 8, touch, absent),
  ],
  'a key that is renewed is the same as before': [
    call(0, 1, set('1'), { type: 'written', version: 1 }),
    call(2, 3, touch, { type: 'renewed' }),
    maybe(2, touch),
    call(4, 5, get, { type: 'found', value: '1', version: 1 }),
  ],
  'a transaction shows on all of its keys from one moment on': [
    call(0, 9, both('1'), done),
    call(1, 2, other, absent),
    call(3, 4, get, found('1')),
    call(5, 6, other, found('1')),
  ],
  'a transaction is declined where its condition does not hold, and changes nothing': [
    call(0, 1, set('1'), { type: 'written', version: 1 }),
    call(2, 3, both('2', version(9)), { type: 'declined' }),
    call(4, 5, get, found('1')),
    call(6, 7, other, absent),
  ],
  'a transaction of unknown outcome appears late, whole': [
    maybe(0, both('1')),
    call(1, 2, set('2'), written),
    call(3, 4, get, found('2')),
    call(5, 6, other, found('1')),
    call(7, 8, get, found('1')),
  ],
  'two versions of concurrent writes come in the other order than their ends': [
    call(0, 3, set('1'), { type: 'written', version: 2 }),
    call(0, 4, set('2'), { type: 'written', version: 1 }),
    call(5, 6, get, { type: 'found', value: '1', version: 2 }),
  ],
}

const bad: Record<string, readonly Known[]> = {
  'half a transaction': [call(0, 9, both('1'), done), call(1, 2, get, found('1')), call(3, 4, other, absent)],
  'half a transaction of unknown outcome': [
    maybe(0, both('1')),
    call(1, 2, get, found('1')),
    call(3, 4, other, absent),
  ],
  'two transactions in two orders': [
    call(0, 5, both('1'), done),
    call(0, 5, both('2'), done),
    call(6, 7, get, found('1')),
    call(8, 9, other, found('2')),
  ],
  'a transaction whose condition did not hold': [call(0, 1, both('1', { type: 'exists' }), done)],
  'a transaction that is declined though its condition held': [
    call(0, 1, both('1', { type: 'absent' }), { type: 'declined' }),
  ],
  'an increment that is lost': [
    call(0, 5, count(1), { type: 'counted', value: 1 }),
    call(0, 5, count(1), { type: 'counted', value: 1 }),
  ],
  'an increment that is counted twice': [
    call(0, 1, count(1), { type: 'counted', value: 1 }),
    call(2, 3, get, found('2')),
  ],
  'one increment of unknown outcome that is counted twice': [maybe(0, count(1)), call(1, 2, get, found('2'))],
  'a key that is gone before it expires': [
    call(0, 1, set('1'), { type: 'written', version: 1 }),
    call(2, 3, get, absent),
    call(4, 5, { type: 'expire', key: 'k' }, { type: 'deleted', version: 2 }),
  ],
  'a key that is there though it has expired': [
    call(0, 1, set('1'), { type: 'written', version: 1 }),
    call(2, 3, { type: 'expire', key: 'k' }, { type: 'deleted', version: 2 }),
    call(4, 5, get, found('1')),
  ],
  'a key that is renewed though it is gone': [call(0, 1, touch, { type: 'renewed' })],
  'a stale read: the older value after the newer was acknowledged': [
    call(0, 1, set('1'), written),
    call(2, 3, set('2'), written),
    call(4, 5, get, found('1')),
  ],
  'sequential consistency is not enough (Attiya and Welch, 1994)': [
    call(0, 1, set('1'), written),
    call(2, 3, get, absent),
  ],
  'new, then old, while the write is still under way (Lamport, 1986: regular, not atomic)': [
    call(0, 10, set('1'), written),
    call(1, 2, get, found('1')),
    call(3, 4, get, absent),
  ],
  'concurrent writes seen in two orders (Herlihy and Wing, 1990)': [
    call(0, 5, set('0'), written),
    call(0, 5, set('1'), written),
    call(6, 7, get, found('0')),
    call(8, 9, get, found('1')),
  ],
  'a read of the future': [call(0, 1, get, found('1')), call(2, 3, set('1'), written)],
  'a value that nobody wrote': [call(0, 1, set('1'), written), call(2, 3, get, found('9'))],
  'a lost update: two conditional writes on one version': [
    call(0, 1, set('1'), { type: 'written', version: 1 }),
    call(2, 5, set('2', version(1)), { type: 'written', version: 2 }),
    call(2, 5, set('3', version(1)), { type: 'written', version: 3 }),
  ],
  'two who both create the key': [
    call(0, 5, set('1', { type: 'absent' }), written),
    call(0, 5, set('2', { type: 'absent' }), written),
  ],
  'a write of unknown outcome seen, then unseen': [
    call(0, 1, set('1'), written),
    maybe(2, set('2')),
    call(3, 4, get, found('2')),
    call(5, 6, get, found('1')),
  ],
  'a write of unknown outcome seen before it began': [call(0, 1, get, found('1')), maybe(2, set('1'))],
  'a write of unknown outcome that takes effect twice': [
    maybe(0, set('1')),
    call(1, 2, get, found('1')),
    call(3, 4, set('2'), written),
    call(5, 6, get, found('1')),
  ],
  'a delete of unknown outcome that takes effect twice': [
    maybe(0, remove),
    call(1, 2, set('1'), written),
    call(3, 4, get, absent),
    call(5, 6, set('2'), written),
    call(7, 8, get, absent),
  ],
  'a deleted key that is back': [
    call(0, 1, set('1'), written),
    call(2, 3, remove, deleted),
    call(4, 5, get, found('1')),
  ],
  'a refusal though the condition held': [
    call(0, 1, set('1'), { type: 'written', version: 1 }),
    call(2, 3, set('2', version(1)), { type: 'refused', version: 1 }),
  ],
  'a refusal that names a version from the past': [
    call(0, 1, set('1'), { type: 'written', version: 1 }),
    call(2, 3, set('2'), { type: 'written', version: 2 }),
    call(4, 5, set('3', version(9)), { type: 'refused', version: 1 }),
  ],
  'a refused write that is seen': [
    call(0, 1, set('1', { type: 'exists' }), { type: 'refused', version: 0 }),
    call(2, 3, get, found('1')),
  ],
  'a conditional write of unknown outcome seen though its condition never held': [
    call(0, 1, set('1'), { type: 'written', version: 1 }),
    maybe(2, set('2', { type: 'absent' })),
    call(3, 4, get, found('2')),
  ],
  'versions that go back': [
    call(0, 1, set('1'), { type: 'written', version: 2 }),
    call(2, 3, set('2'), { type: 'written', version: 1 }),
  ],
  'one value under two versions': [
    call(0, 1, set('1'), written),
    call(2, 3, get, { type: 'found', value: '1', version: 1 }),
    call(4, 5, get, { type: 'found', value: '1', version: 2 }),
  ],
  'a creation of what was there': [
    call(0, 1, set('1'), written),
    call(2, 3, set('2'), { type: 'written', created: true }),
  ],
}

describe('a history that some order explains', () => {
  it.each(Object.keys(good))('%s', (name) => {
    expect(judge(good[name] ?? [])).toBe('linearizable')
  })
})

describe('a history that no order explains', () => {
  it.each(Object.keys(bad))('%s', (name) => {
    expect(judge(bad[name] ?? [])).toBe('violation')
  })
})

const planOf = (lost: fc.Arbitrary<boolean>): fc.Arbitrary<Plan> =>
  fc.record({
    kind: fc.nat(9),
    key: fc.nat(9),
    condition: fc.nat(14),
    before: fc.double({ min: 0, max: 6, noNaN: true }),
    after: fc.double({ min: 0, max: 6, noNaN: true }),
    lost,
    effect: fc.boolean(),
  })

const plan = planOf(fc.integer({ min: 0, max: 5 }).map((n) => n === 0))
const mostlyLost = planOf(fc.integer({ min: 0, max: 2 }).map((n) => n > 0))

const shape = fc.record({ keys: fc.integer({ min: 1, max: 3 }), versions: fc.boolean() })

describe('a history made from a store that one client uses at a time', () => {
  it('is linearizable, however long its calls take and whichever answers are lost', () => {
    fc.assert(
      fc.property(fc.array(plan, { maxLength: 120 }), shape, (plans, options) => {
        expect(check(keyValue, make(plans, options)).type).toBe('linearizable')
      }),
      { numRuns: 300 },
    )
  })

  it('is judged as the second opinion judges it when one answer is another', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.array(plan, { minLength: 1, maxLength: 7 }),
          fc.array(mostlyLost, { minLength: 1, maxLength: 8 }),
        ),
        shape,
        fc.record({ at: fc.nat(), how: fc.nat() }),
        (plans, options, choice) => {
          const calls = mutate(make(plans, options), choice)
          expect(check(keyValue, calls).type === 'linearizable').toBe(isLinearizable(calls))
        },
      ),
      { numRuns: 1500 },
    )
  })
})

describe('a history of random answers', () => {
  const value = fc.constantFrom('x', '1', '2')
  const number = fc.integer({ min: 1, max: 4 })
  const condition: fc.Arbitrary<Condition | undefined> = fc.oneof(
    { weight: 3, arbitrary: fc.constant(undefined) },
    fc.constantFrom<Condition>({ type: 'absent' }, { type: 'exists' }),
    number.map(version),
  )
  const some = fc.oneof(
    fc.constant({}),
    number.map((version) => ({ version })),
  )
  const refused = fc.nat(4).map((version): Result => ({ type: 'refused', version }))
  const fate = fc.oneof(
    fc.tuple(
      fc.constant(get),
      fc.oneof(
        fc.constant(absent),
        fc.tuple(value, some).map(([value, rest]) => ({ ...found(value), ...rest })),
      ),
    ),
    fc.tuple(
      fc.tuple(value, condition).map(([value, condition]) => set(value, condition)),
      fc.oneof(
        some.map((rest) => ({ ...written, ...rest })),
        refused,
      ),
    ),
    fc.tuple(
      condition.map(
        (condition): Operation => ({ ...remove, ...(condition === undefined ? {} : { condition }) }),
      ),
      fc.oneof(
        some.map((rest) => ({ ...deleted, ...rest })),
        refused,
      ),
    ),
    fc.tuple(
      fc.integer({ min: 1, max: 2 }).map(count),
      fc.tuple(number, some).map(([value, rest]): Result => ({ type: 'counted', value, ...rest })),
    ),
    fc.tuple(fc.constant(touch), fc.constantFrom<Result>({ type: 'renewed' }, absent)),
    fc.tuple(
      fc.constant<Operation>({ type: 'expire', key: 'k' }),
      some.map((rest) => ({ ...deleted, ...rest })),
    ),
  )
  const random = fc
    .tuple(fate, fc.nat(12), fc.nat(6), fc.nat(4))
    .map(([[operation, result], from, length, lost]) =>
      lost === 0 ? maybe(from, operation) : call(from, from + length, operation, result as Result),
    )

  it('is judged as the second opinion judges it', () => {
    const verdicts = { true: 0, false: 0 }
    fc.assert(
      fc.property(fc.array(random, { minLength: 1, maxLength: 6 }), (calls) => {
        const opinion = isLinearizable(calls)
        verdicts[`${opinion}`]++
        expect(check(keyValue, calls).type === 'linearizable').toBe(opinion)
      }),
      { numRuns: 4000 },
    )
    // Otherwise the agreement would say little.
    expect(Math.min(verdicts.true, verdicts.false)).toBeGreaterThan(200)
  })
})

describe('a violation', () => {
  it('is shown by the few calls that prove it, out of many', () => {
    const calls: Known[] = []
    for (let turn = 0; turn < 300; turn++) {
      calls.push({ ...call(turn * 10, turn * 10 + 4, set(`v${turn}`), written), note: `c1 ${turn}` })
      calls.push({ ...call(turn * 10 + 5, turn * 10 + 9, get, found(`v${turn}`)), note: `c2 ${turn}` })
    }
    const stale = { ...call(2005.5, 2008, get, found('v198')), note: 'c3 late' }
    const verdict = check(keyValue, [...calls, stale])
    if (verdict.type !== 'violation') throw new Error(verdict.type)
    expect(verdict.keys).toEqual(['k'])
    // The write of what was read, something after it, and the stale read: without any of them all would be well.
    expect(verdict.calls.length).toBe(3)
    expect(verdict.calls).toContain(stale)
    expect(verdict.text).toContain('c3 late')
    expect(judge(verdict.calls)).toBe('violation')
  })

  it('tells people also who wrote what was seen, though it came too late to matter', () => {
    const verdict = check(keyValue, [
      { ...call(0, 1, get, found('1')), note: 'reader' },
      { ...call(2, 3, set('1'), written), note: 'writer' },
    ])
    if (verdict.type !== 'violation') throw new Error(verdict.type)
    expect(verdict.text).toBe(
      [
        'No order explains these calls on k:',
        '  reader  get k → "1"',
        ' (writer  set k = "1" → written)',
      ].join('\n'),
    )
  })

  it('names its key, and other keys are not part of it', () => {
    const other: Operation = { type: 'set', key: 'other', value: 'x' }
    const verdict = check(keyValue, [call(0, 1, other, written), ...(bad['a read of the future'] ?? [])])
    expect(verdict).toMatchObject({ type: 'violation', keys: ['k'] })
  })
})

describe('the search', () => {
  it('is not slowed by writes of unknown outcome to keys that a transaction joins', () => {
    const keys = ['a', 'b', 'c', 'd', 'e']
    const onKey = (key: string, value: string): Operation => ({ type: 'set', key, value })
    const calls: Known[] = keys.flatMap((key) =>
      Array.from({ length: 20 }, (_, n) => maybe(n, onKey(key, `lost ${n} ${key}`))),
    )
    const all = keys.map((key) => ({ type: 'set', key, value: 'all' }) as const)
    const results = keys.map(() => written)
    calls.push(call(100, 101, { type: 'transaction', steps: all }, { type: 'done', results }))
    // Each of them is seen now and then, so that none is out of the question.
    for (const [at, key] of keys.entries()) {
      for (let n = 0; n < 10; n++) {
        const from = 200 + at * 100 + n * 2
        calls.push(call(from, from + 1, { type: 'get', key }, found(`lost ${n} ${key}`)))
      }
    }
    expect(check(keyValue, calls).type).toBe('linearizable')
    const verdict = check(keyValue, [
      ...calls,
      call(2000, 2001, { type: 'get', key: 'a' }, found('lost 3 a')),
    ])
    expect(verdict.type).toBe('violation')
    expect(verdict.steps).toBeLessThan(1_000_000)
  })

  it('ends undecided when its steps do not suffice', () => {
    const calls = Array.from({ length: 200 }, (_, n) => call(0, 1000, set(`v${n}`), written))
    const verdict = check(keyValue, [...calls, call(2000, 2001, get, absent)], { maxSteps: 10_000 })
    expect(verdict).toMatchObject({ type: 'undecided', keys: ['k'] })
  })

  it('is not slowed by writes of unknown outcome that nobody sees', () => {
    const calls: Known[] = Array.from({ length: 200 }, (_, n) => maybe(n, set(`lost ${n}`)))
    for (let turn = 0; turn < 200; turn++) {
      calls.push(call(1000 + turn * 2, 1001 + turn * 2, set(`v${turn}`), written))
    }
    const verdict = check(keyValue, [...calls, call(2000, 2001, get, found('v7'))])
    expect(verdict.type).toBe('violation')
    expect(verdict.steps).toBeLessThan(100_000)
  })

  it('goes as deep as a history is long', () => {
    const plans = Array.from({ length: 20_000 }, (_, n) => ({
      kind: n,
      key: 0,
      condition: n,
      before: n % 7,
      after: n % 5,
      lost: n % 97 === 0,
      effect: n % 2 === 0,
    }))
    expect(check(keyValue, make(plans, { keys: 1, versions: true })).type).toBe('linearizable')
  })

  it('lets effects of unknown calls add up, for a model where they do', () => {
    // Adding nothing reads.
    const counter: Model<number, number, number> = {
      initial: 0,
      step: (state, added, result) =>
        result === undefined || result === state + added ? state + added : illegal,
      name: (state) => `${state}`,
      keys: () => ['counter'],
      wants: () => ['counter'],
      isPure: (added) => added === 0,
      isHopeless: () => false,
      simplify: (calls) => calls,
      forget: (added) => (added === 0 ? undefined : added),
      describe: (added, result) => `add ${added} → ${result}`,
      isSource: () => false,
    }
    const lost = [1, 2].map((operation) => ({
      operation,
      result: undefined,
      invoked: 0,
      returned: Number.POSITIVE_INFINITY,
    }))
    const read = (result: number) => ({ operation: 0, result, invoked: 1, returned: 2 })
    for (const sum of [0, 1, 2, 3]) expect(check(counter, [...lost, read(sum)]).type).toBe('linearizable')
    expect(check(counter, [...lost, read(4)]).type).toBe('violation')
  })

  it('judges calls on several keys together, for a model that has such calls', () => {
    type Move = { readonly from: string; readonly to: string }
    // One token lies on one of the keys; a move takes it from one to another, and answers whether it was there.
    const token: Model<string, Move, boolean> = {
      initial: 'a',
      step: (state, { from, to }, result) => {
        const moved = state === from
        if (result !== undefined && result !== moved) return illegal
        return moved ? to : state
      },
      name: (state) => state,
      keys: ({ from, to }) => [from, to],
      wants: (_state, { from, to }) => [from, to],
      isPure: (_, result) => !result,
      isHopeless: () => false,
      simplify: (calls) => calls,
      forget: (move, moved) => (moved ? move : undefined),
      describe: ({ from, to }, result) => `${from} to ${to}: ${result}`,
      isSource: () => false,
    }
    const moves = [
      { operation: { from: 'a', to: 'b' }, result: true, invoked: 0, returned: 1 },
      { operation: { from: 'b', to: 'c' }, result: true, invoked: 2, returned: 3 },
    ]
    expect(check(token, moves).type).toBe('linearizable')
    const twice = { operation: { from: 'b', to: 'd' }, result: true, invoked: 4, returned: 5 }
    expect(check(token, [...moves, twice])).toMatchObject({ type: 'violation', keys: ['a', 'b', 'c', 'd'] })
  })
})
