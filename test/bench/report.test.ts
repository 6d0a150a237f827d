// The report of a run: rounds put together, ratios, targets, charts, and what the README shows of it.

import { describe, expect, it } from 'vitest'
import { readOptions } from '../../bench/options.ts'
import { drawCharts } from '../../bench/report/charts.ts'
import { groupTable } from '../../bench/report/markdown.ts'
import { speedTable, withSpeed } from '../../bench/report/readme.ts'
import { type Sample, summarize } from '../../bench/report/samples.ts'
import { judge } from '../../bench/report/targets.ts'

const scenario = 'PUT, 64 connections, at the leader'

function sample(system: string, figures: Sample['figures'], where: Partial<Sample> = {}): Sample {
  return { group: 'http', scenario, system, figures, ...where }
}

const samples: readonly Sample[] = [
  sample('Trivet', { perSecond: 16_000, p99: 9, cpu: 1, failed: 0 }),
  sample('etcd', { perSecond: 5000, p99: 26, cpu: 3, failed: 2 }),
  sample('etcd', { perSecond: 4000, p99: 30, cpu: 3, failed: 0 }),
  sample('Trivet', { perSecond: 14_000, p99: 11, cpu: 1, failed: 0 }),
]
const measured = summarize(samples)

describe('the table of a group', () => {
  it('has medians with their spread, and the ratio of the medians', () => {
    expect(groupTable(measured)).toEqual([
      '|  |  | per second | p99 ms | CPU s per 10,000, all nodes | failed |',
      '| --- | --- | ---: | ---: | ---: | ---: |',
      `| ${scenario} | Trivet | 15,000 (14,000–16,000) | 10.0 (9.0–11.0) | 1.00 | 0 |`,
      '|  | etcd | 4,500 (4,000–5,000) | 28.0 (26.0–30.0) | 3.00 | **up to 2** |',
      '|  | _Trivet ÷ etcd_ | _3.33_ | _0.36_ | _0.33_ |  |',
    ])
  })

  it('has ratios to every other system, and none without Trivet', () => {
    const three = summarize([...samples, sample('Trivet (other)', { perSecond: 7500 })])
    expect(groupTable(three).filter((line) => line.includes('÷'))).toHaveLength(2)
    expect(groupTable(summarize([sample('node:http', { perSecond: 1 })])).join()).not.toContain('÷')
  })
})

describe('targets', () => {
  const verdict = (what: string, of = measured) => judge(of).find((one) => one.what === what)

  it('are met by ratios of medians', () => {
    expect(verdict('HTTP PUT, 64 connections: throughput')).toMatchObject({
      reached: '3.33 times',
      isMet: true,
    })
    expect(verdict('HTTP PUT, 64 connections: p99')).toMatchObject({ reached: '0.36 times', isMet: true })
    const slow = summarize([
      ...samples,
      sample('etcd', { perSecond: 9000 }),
      sample('etcd', { perSecond: 9000 }),
    ])
    expect(verdict('HTTP PUT, 64 connections: throughput', slow)?.isMet).toBe(false)
  })

  it('are left open where nothing was measured, also when etcd alone was not', () => {
    expect(verdict('HTTP GET, 64 connections: throughput')).toMatchObject({
      reached: undefined,
      isMet: undefined,
    })
    const alone = summarize([sample('Trivet', { perSecond: 1 })])
    expect(verdict('HTTP PUT, 64 connections: throughput', alone)?.isMet).toBeUndefined()
  })

  it('hold the worst of all kills to its bound, not only the median', () => {
    const where = { group: 'failover', scenario: 'the leader killed (SIGKILL)' }
    const kills = (...all: number[]) =>
      summarize(all.map((milliseconds) => sample('Trivet', { milliseconds }, where)))
    const what = 'SIGKILL of the leader to the next acknowledged write'
    expect(verdict(what, kills(100, 120, 399))?.isMet).toBe(true)
    expect(verdict(what, kills(100, 120, 401))?.isMet).toBe(false)
    expect(verdict(what, kills(160, 160, 170))?.isMet).toBe(false)
  })

  it('compare throughput with many keys to that with few', () => {
    const size = (keys: string, perSecond: number) =>
      sample('Trivet', { perSecond }, { group: 'size', scenario: `PUT, 64 connections, ${keys}` })
    const found = verdict(
      'PUT throughput, 1,000,000 keys against 10,000',
      summarize([size('10,000 keys', 100), size('1,000,000 keys', 79)]),
    )
    expect(found).toMatchObject({ reached: '79 %', isMet: false })
  })
})

describe('charts', () => {
  it('draw a bar for each system, as long as its median, and say it', () => {
    const [put] = drawCharts(measured).filter(({ name }) => name === 'put')
    const widths = [...(put?.svg.matchAll(/<rect x="300" y="(?!50)\d+" width="([\d.]+)"/g) ?? [])]
    const [ours = 0, theirs = 0] = widths.map(([, width]) => Number(width))
    expect(ours / theirs).toBeCloseTo(15 / 4.5, 1)
    expect(put?.svg).toContain('>15,000</text>')
    expect(put?.svg).toContain('more is better')
  })

  it('are left out where nothing was measured', () => {
    expect(drawCharts(measured).map(({ name }) => name)).toEqual(['put', 'latency', 'cpu'])
  })

  it('escape what they are told', () => {
    const [chart] = drawCharts(summarize([sample('<b>&', { perSecond: 1 })]))
    expect(chart?.svg).toContain('&lt;b&gt;&amp;')
  })
})

describe("the README's table", () => {
  it('shows ratios and no absolute number', () => {
    const table = speedTable(measured)
    expect(table).toContain('| HTTP PUT, 64 connections | 3.3 × | 0.36 × | 0.33 × |')
    expect(table).not.toMatch(/000/)
  })

  it('takes the place of the one before', () => {
    const mark = '<!-- speed: made by `node bench/readme.ts RESULT.json` -->'
    const readme = `a\n${mark}\n\nold\n\n<!-- /speed -->\nb`
    expect(withSpeed(readme, 'new')).toBe(`a\n${mark}\n\nnew\n\n<!-- /speed -->\nb`)
    expect(() => withSpeed('a', 'new')).toThrow('The README has no line')
  })
})

describe('options', () => {
  const groups = ['http', 'clients', 'failover', 'size']

  it('are short loads of the heart when it shall be quick, and everything otherwise', () => {
    expect(readOptions(['--quick'], groups)).toMatchObject({
      only: ['http', 'clients', 'failover'],
      rounds: 3,
      seconds: 2,
    })
    expect(readOptions([], groups)).toMatchObject({ only: undefined, rounds: 5, seconds: 4, withEtcd: true })
  })

  it('say what is wrong', () => {
    expect(() => readOptions(['--only', 'http,speed'], groups)).toThrow('There is no group "speed"')
    expect(() => readOptions(['--rounds', '0'], groups)).toThrow(
      '--rounds takes a whole number from 1 on, not "0"',
    )
    expect(() => readOptions(['--fast'], groups)).toThrow('--fast')
  })
})
