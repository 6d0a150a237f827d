// What may come in before two ends have agreed on a protocol: names behind their lengths, and nothing that libp2p cannot decode.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { guardNegotiation, Negotiation } from '../../src/node/negotiation.ts'

const said = (name: string): Buffer => {
  const { length } = name
  const size = length > 127 ? [(length & 0x7f) | 0x80, length >> 7] : [length]
  return Buffer.concat([Buffer.from(size), Buffer.from(name, 'latin1')])
}
const header = said('/multistream/1.0.0\n')
const taken = said('/noise\n')

/** The same bytes, in pieces that end anywhere. */
function pieces(bytes: Buffer, ends: readonly number[]): readonly Buffer[] {
  const cuts = [0, ...ends.map((end) => end % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return cuts.slice(1).map((end, at) => bytes.subarray(cuts[at], end))
}

describe('a negotiation', () => {
  it('goes on through any names until one is taken, however its bytes come in', () => {
    const name = fc
      .string({ unit: 'binary-ascii', minLength: 0, maxLength: 1024 })
      .filter((one) => one !== '/noise\n')
    fc.assert(
      fc.property(fc.array(name, { maxLength: 4 }), fc.array(fc.nat(), { maxLength: 6 }), (names, ends) => {
        const negotiation = new Negotiation(['/noise'])
        const before = Buffer.concat([header, ...names.map(said)])
        for (const piece of pieces(before, ends)) expect(negotiation.follow(piece)).toBe('open')
        expect(negotiation.follow(taken.subarray(0, 3))).toBe('open')
        expect(negotiation.follow(Buffer.concat([taken.subarray(3), Buffer.alloc(100, 0xff)]))).toBe('agreed')
      }),
    )
  })

  it.each([
    ['a length of three bytes', [0x80, 0x80, 0x01]],
    ['one of nine, which libp2p does not decode', [...Array.from({ length: 8 }, () => 0xfa), 0x40]],
    ['a longer name than any', [0x81, 0x08]],
  ])('is broken by %s, at its beginning and after a name', (_, bytes) => {
    expect(new Negotiation(['/noise']).follow(bytes)).toBe('broken')
    expect(new Negotiation(['/noise']).follow([...header, ...bytes])).toBe('broken')
  })
})

describe('the guard of a connection or stream', () => {
  /** What libp2p calls with what comes in, and with why it ends. */
  class Source {
    readonly seen: unknown[] = []
    onData(data: unknown): void {
      this.seen.push(data)
    }
    abort(error: Error): void {
      this.seen.push(error.message)
    }
  }

  it('hands on what comes, and is gone once a protocol is agreed on', () => {
    const stream = new Source()
    guardNegotiation(stream, ['/noise'])
    stream.onData(header)
    // As libp2p's lists of pieces are.
    stream.onData([taken.subarray(0, 2), taken.subarray(2)])
    stream.onData('whatever comes then')
    expect(stream.seen).toEqual([header, [taken.subarray(0, 2), taken.subarray(2)], 'whatever comes then'])
    expect(stream.onData).toBe(Source.prototype.onData)
  })

  it('ends it instead of handing on what is no negotiation', () => {
    const stream = new Source()
    guardNegotiation(stream, ['/noise'])
    stream.onData([0x80, 0x80, 0x80])
    expect(stream.seen).toEqual(['what came in is no negotiation of a protocol'])
  })

  it('says so where there is nothing to guard', () => {
    expect(() => guardNegotiation({}, ['/noise'])).toThrow('libp2p has changed')
  })
})
