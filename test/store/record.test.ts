import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeRecord, encodeRecord, StateDamagedError, seal } from '../../src/store/record.ts'

const key = Buffer.from('row key')
const record = {
  value: Buffer.from('value'),
  contentType: 'text/plain',
  revision: 7,
  createdRevision: 3,
  expires: 1_700_000_000_000,
}

describe('a record', () => {
  it('comes back as it was', () => {
    const u48 = fc.integer({ min: 1, max: 2 ** 48 - 1 })
    const records = fc.record({
      value: fc.uint8Array().map((array) => Buffer.from(array)),
      contentType: fc.string({ minLength: 1, maxLength: 255 }),
      revision: u48,
      createdRevision: u48,
      expires: fc.option(u48, { nil: undefined }),
    })
    const keys = fc.uint8Array()
    fc.assert(
      fc.property(keys, records, (at, before) => {
        expect(decodeRecord(at, encodeRecord(at, before))).toEqual(before)
      }),
    )
  })

  it('keeps nothing of the buffer its value came in', () => {
    const value = Buffer.from('value')
    const row = encodeRecord(key, { ...record, value })
    value.fill(0)
    expect(decodeRecord(key, row)).toEqual(record)
  })

  it('with any bit flipped is damaged', () => {
    const row = encodeRecord(key, record)
    for (let bit = 0; bit < row.length * 8; bit++) {
      const flipped = Buffer.from(row)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(() => decodeRecord(key, flipped)).toThrow(StateDamagedError)
    }
  })

  it('cut short, or found under another key, is damaged', () => {
    const row = encodeRecord(key, record)
    for (let length = 0; length < row.length; length++) {
      expect(() => decodeRecord(key, row.subarray(0, length))).toThrow(StateDamagedError)
    }
    expect(() => decodeRecord(Buffer.from('another key'), row)).toThrow(StateDamagedError)
  })

  it('of a newer format is named as such, not as damage', () => {
    const row = seal(key, 2, encodeRecord(key, record))
    expect(() => decodeRecord(key, row)).toThrow('format 2')
    expect(() => decodeRecord(key, row)).not.toThrow(StateDamagedError)
  })

  it('keeps to its bytes: this is the lasting format', () => {
    const row = encodeRecord(Buffer.from('k'), { ...record, contentType: 'a/b', value: Buffer.from('v') })
    expect(row.toString('hex').replace(/^(..)......../, '$1--------')).toBe(
      ['01', '--------', '000000000007', '000000000003', '018bcfe56800', '03', '612f62', '76'].join(''),
    )
  })
})
