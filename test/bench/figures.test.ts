// What is read off the machine and the load generator, and the few figures that stand for many.

import { describe, expect, it } from 'vitest'
import { exchangesIn, exchangeText, figuresIn, requestBytes } from '../../bench/loads/http-load.ts'
import { prepare } from '../../bench/loads/keys.ts'
import { inTurn } from '../../bench/scenarios/turns.ts'
import { percentile, spreadOf } from '../../bench/statistics.ts'
import type { Exchange, Layout } from '../../bench/systems/engine.ts'
import { cpuSecondsIn, residentMegabytesIn } from '../../bench/systems/proc.ts'

const put: Exchange = {
  method: 'PUT',
  path: '/k/a',
  headers: { authorization: 'Bearer x' },
  body: Buffer.from('äb'),
}
const get: Exchange = { method: 'GET', path: '/k/b', headers: {} }

describe('statistics', () => {
  it('takes the middle of an odd number of values, and the middle between two of an even number', () => {
    expect(spreadOf([30, 10, 20])).toEqual({ median: 20, least: 10, most: 30 })
    expect(spreadOf([4, 1, 2, 3])).toEqual({ median: 2.5, least: 1, most: 4 })
    expect(spreadOf([7])).toEqual({ median: 7, least: 7, most: 7 })
  })

  it('does not sort by spelling', () => {
    expect(spreadOf([100, 9, 20]).median).toBe(20)
  })

  it('finds the value that a share of all is not above', () => {
    const hundred = Array.from({ length: 100 }, (_, at) => at + 1)
    expect(percentile(hundred, 0.5)).toBe(50)
    expect(percentile(hundred, 0.99)).toBe(99)
    expect(percentile(hundred, 0.999)).toBe(100)
    expect(percentile([5], 0.01)).toBe(5)
    expect(percentile([], 0.5)).toBeNaN()
  })
})

describe('what Linux tells of a process', () => {
  it('adds the time in the program to that in the kernel, whatever the name of the program', () => {
    const stat = '42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 7 7 20 0 11 0 1 2 3'
    expect(cpuSecondsIn(stat)).toBe(3)
  })

  it('reads resident memory in megabytes', () => {
    expect(residentMegabytesIn('VmPeak:\t  9 kB\nVmRSS:\t   1000 kB\nVmSwap:\t 5 kB\n')).toBeCloseTo(1.024)
  })
})

describe('a load over HTTP', () => {
  it('is made of whole requests, each behind its length', () => {
    const bytes = requestBytes([put, get], '127.0.0.1:1').toString()
    const first =
      'PUT /k/a HTTP/1.1\r\nhost: 127.0.0.1:1\r\nauthorization: Bearer x\r\ncontent-length: 3\r\n\r\näb'
    const second = 'GET /k/b HTTP/1.1\r\nhost: 127.0.0.1:1\r\n\r\n'
    const length = (text: string) => String(Buffer.byteLength(text)).padStart(10, '0')
    expect(bytes).toBe(`${length(first)}\n${first}${length(second)}\n${second}`)
  })

  it('reaches another process as it was', () => {
    expect(exchangesIn(exchangeText([put, get]))).toEqual([put, get])
  })

  it('is told by the last line in braces of what the generator prints', () => {
    const printed =
      'Running 1s test\n  Latency {x}\n{"requests":7,"seconds":1.5,"p50":1,"p99":2,"p999":3,"failed":0}\n\n'
    expect(figuresIn(printed)).toEqual({ requests: 7, seconds: 1.5, p50: 1, p99: 2, p999: 3, failed: 0 })
    expect(() => figuresIn('unable to connect')).toThrow('The load told no figures: unable to connect')
  })

  it('writes values of the size asked for, on the keys asked for, and reads the share asked for', () => {
    const puts: [key: string, bytes: number][] = []
    let gets = 0
    const layout: Pick<Layout, 'put' | 'get'> = {
      put: (key, value) => {
        puts.push([key, value.length])
        return put
      },
      get: () => {
        gets += 1
        return get
      },
    }
    const all = prepare(layout, { reads: 0.95, keys: 100, valueBytes: 16 })
    expect(gets / all.length).toBeGreaterThan(0.93)
    expect(gets / all.length).toBeLessThan(0.97)
    expect(new Set(puts.map(([, bytes]) => bytes))).toEqual(new Set([16]))
    const [least, most] = [
      puts.map(([key]) => key).toSorted()[0] ?? '',
      puts
        .map(([key]) => key)
        .toSorted()
        .at(-1) ?? '',
    ]
    expect(least >= 'bench/00000000').toBe(true)
    expect(most <= 'bench/00000099').toBe(true)
  })

  it('keeps what it prepares of large values within bounds', () => {
    const layout = { put: () => put, get: () => get }
    const all = prepare(layout, { reads: 0, keys: 10_000, valueBytes: 2 ** 20 })
    expect(all.length).toBeLessThan(64)
  })
})

describe('turns', () => {
  it('lets another begin in every second round', () => {
    expect([0, 1, 2].map((round) => inTurn(['a', 'b'], round).join(''))).toEqual(['ab', 'ba', 'ab'])
  })
})
