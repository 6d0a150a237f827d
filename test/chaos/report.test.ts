// A small sanity test of the report: whole, self-contained, escaped, and with what an operator looks for in it.

import { describe, expect, it } from 'vitest'
import { History } from '../linear/history.ts'
import { reportPage } from './report.ts'
import { chart, niceCeiling } from './report-chart.ts'
import { seriesOf } from './report-series.ts'
import type { Outcome } from './run.ts'
import { judge, type StepRecord } from './verdict.ts'

const steps: readonly StepRecord[] = [
  {
    number: 1,
    begun: 2000,
    healed: 5000,
    recovered: 6500,
    strikes: [{ fault: 'kill', what: 'killed n1', nodes: ['n1'], writesGoOn: true }],
  },
  {
    number: 2,
    begun: 5200,
    healed: 9000,
    recovered: undefined,
    failure: 'not within 60 s: <n2>',
    strikes: [{ fault: 'partition', what: 'n1 | n2 n3, held', nodes: ['n1'], writesGoOn: true }],
  },
]

function outcome(): Outcome {
  let now = 0
  const history = new History(() => now)
  const put = (value: string, version: number) => {
    const operation = { type: 'set', key: 'a', value } as const
    const invocation = history.invoke({ client: '<b>', node: 'n1', operation })
    now += 20
    invocation.ok({ type: 'written', version })
    now += 480
  }
  for (let at = 1; at <= 20; at++) put(`v${at}`, at)
  const stale = history.invoke({ client: 'late', node: 'n2', operation: { type: 'get', key: 'a' } })
  now += 10
  stale.ok({ type: 'found', value: 'v3', version: 3 })
  const { events } = history
  return {
    options: { nodes: 3, seconds: 10, seed: 4, faults: 'all', rate: 10, clients: 2 },
    faults: ['kill', 'partition'],
    nodes: ['n1', 'n2', 'n3'],
    startedAt: new Date(0),
    lasted: now,
    events,
    steps,
    roles: [
      { time: 0, node: 'n1', role: 'leader', term: 2 },
      { time: 2000, node: 'n1', role: 'down' },
      { time: 0, node: 'n2', role: 'follower', term: 2 },
    ],
    violations: judge({ events, steps: [], surprises: [], deaths: [], rivals: [], replicas: [] }),
    replicas: [],
    kept: '/tmp/kept',
  }
}

describe('the report', () => {
  it('needs nothing but itself', () => {
    const page = reportPage(outcome())
    expect(page).not.toMatch(/\b(src|href|url)\s*[=(]|@import|https?:\/\//)
    expect(page.match(/<script>/g)).toHaveLength(1)
  })

  it('is well-formed where it is drawn: every element that opens closes, and no number is missing', () => {
    const { svg } = chart(outcome(), seriesOf(outcome().events, outcome().lasted))
    const open: string[] = []
    for (const [, slash, name, closed] of svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g)) {
      if (closed === '/' || name === undefined) continue
      if (slash === '/') expect(open.pop()).toBe(name)
      else open.push(name)
    }
    expect(open).toEqual([])
    expect(svg).not.toMatch(/NaN|undefined|Infinity/)
    const lengths = [...svg.matchAll(/(?:width|height)="([^"]+)"/g)].map(([, length]) => Number(length))
    expect(lengths.every((length) => length >= 0)).toBe(true)
  })

  it('draws a fault from its begin to its end, on the axis of the load', () => {
    const { svg, frame } = chart(outcome(), seriesOf(outcome().events, outcome().lasted))
    const at = (time: number) => frame.left + (time / frame.lasted) * (frame.width - frame.left - frame.right)
    const [, x = '', wide = ''] = /class="held" x="([^"]+)" y="[^"]+" width="([^"]+)"/.exec(svg) ?? []
    expect(Number(x)).toBeCloseTo(at(2000), 0)
    expect(Number(x) + Number(wide)).toBeCloseTo(at(5000), 0)
  })

  it('names the offending calls, who made them and how to run it again, and escapes what is not ours', () => {
    const page = reportPage(outcome())
    expect(page).toContain('not-linearizable')
    expect(page).toMatch(/<td>late<\/td><td>n2<\/td>.*get a → &quot;v3&quot; at version 3/s)
    expect(page).toContain('class="offence"')
    expect(page).toContain('--seed 4')
    expect(page).toContain('/tmp/kept')
    expect(page).toContain('not within 60 s: &lt;n2&gt;')
    expect(page).not.toContain('<td><b></td>')
  })

  it('says so when all was well', () => {
    const page = reportPage({ ...outcome(), violations: [], steps: [], kept: undefined })
    expect(page).toContain('<h1>No violation</h1>')
    expect(page).not.toContain('<h2>Violations</h2>')
  })

  it('counts calls where they ended, and the clients that only look at the end not at all', () => {
    const { events } = outcome()
    const { buckets } = seriesOf(events, 2000)
    expect(buckets.map(({ answered }) => answered)).toEqual([1, 1, 1, 1])
    expect(buckets[0]?.p50).toBeCloseTo(20)
  })

  it('ends its scales at round numbers', () => {
    expect([1, 3, 7, 11, 99, 150, 1200].map(niceCeiling)).toEqual([1, 5, 10, 20, 100, 200, 2000])
  })
})
