// Recording a history, keeping it as lines, and what calls come of it.

import { describe, expect, it } from 'vitest'
import { callsOf, fromLines, History, toLines } from './history.ts'
import type { Operation } from './key-value.ts'

const operation: Operation = { type: 'set', key: 'k', value: 'v' }

function recorded(): History {
  let time = 0
  const history = new History(() => ++time)
  const first = history.invoke({ client: 'c1', node: 'n1', operation })
  const second = history.invoke({ client: 'c2', node: 'n2', operation: { type: 'get', key: 'k' } })
  first.ok({ type: 'written', version: 1, created: true })
  second.fail('no-leader')
  history.invoke({ client: 'c1', node: 'n3', operation }).info('outcome-unknown')
  history.invoke({ client: 'c2', node: 'n3', operation })
  return history
}

describe('a history', () => {
  it('comes to its calls: by the order of events, without those that failed, unending where nobody knows', () => {
    const calls = callsOf(recorded().events)
    expect(calls.map(({ note, operation: _, ...rest }) => rest)).toEqual([
      { result: { type: 'written', version: 1, created: true }, invoked: 0, returned: 2 },
      { result: undefined, invoked: 4, returned: Number.POSITIVE_INFINITY },
      { result: undefined, invoked: 6, returned: Number.POSITIVE_INFINITY },
    ])
    expect(calls[0]?.note).toBe('c1 at n1, 1.0–3.0 ms')
  })

  it('is the same after being written and read', () => {
    const { events } = recorded()
    expect(fromLines(toLines(events))).toEqual(events)
  })

  it('lets a call end once', () => {
    const invocation = new History().invoke({ client: 'c', node: 'n', operation })
    invocation.ok({ type: 'written' })
    expect(() => invocation.info('late')).toThrow(/ends twice/)
  })

  it.each([
    ['another format', (text: string) => text.replace('1', '2'), /Line 1/],
    ['a line cut short', (text: string) => text.slice(0, -5), /cut short/],
    ['a line that is not JSON', (text: string) => text.replace('{"type":"ok"', '{'), /Line 4 is not JSON/],
    ['a line that is no event', (text: string) => text.replace('"ok"', '"okay"'), /Line 4 is not an event/],
    [
      'an end without a begin',
      (text: string) => text.replace('"ok","call":0', '"ok","call":9'),
      /Line 4: call 9/,
    ],
  ])('is refused with %s', (_, damage, message) => {
    expect(() => fromLines(damage(toLines(recorded().events)))).toThrow(message)
  })
})
