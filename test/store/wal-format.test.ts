// The codec of entries and batches, against anything that may be written or read.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Entry } from '../../src/raft/types.ts'
import {
  batchBytes,
  batchHeaderBytes,
  encodedSize,
  isBodySound,
  MalformedEntryError,
  openBatch,
  readBatchHeader,
  readEntry,
  sealBatch,
  sectorBytes,
  writeEntry,
} from '../../src/store/wal-format.ts'
import { configurationOf, plain } from './wal-harness.ts'

const natural = fc.oneof(
  fc.maxSafeNat(),
  fc.nat(300),
  fc.constantFrom(127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER),
)
const entry: fc.Arbitrary<Entry> = fc.oneof(
  fc.record({ type: fc.constant('noop' as const), index: natural, term: natural }),
  fc.record({
    type: fc.constant('commands' as const),
    index: natural,
    term: natural,
    data: fc.uint8Array({ maxLength: 300 }),
  }),
  fc.record({
    type: fc.constant('configuration' as const),
    index: natural,
    term: natural,
    configuration: fc.array(fc.string()).map((names) => configurationOf(...names)),
  }),
)

describe('the codec of entries', () => {
  it('reads back any entry at any offset, from just the bytes it said it would take', () => {
    fc.assert(
      fc.property(entry, fc.nat(20), (entry, offset) => {
        const size = encodedSize(entry)
        const buffer = new Uint8Array(offset + size)
        expect(writeEntry(buffer, offset, entry)).toBe(offset + size)
        const back = readEntry(buffer, offset)
        expect(back.end).toBe(offset + size)
        expect(plain([back.entry])).toEqual(plain([entry]))
      }),
    )
  })

  it('refuses an entry cut short anywhere', () => {
    fc.assert(
      fc.property(entry, fc.nat(), (entry, cut) => {
        const buffer = new Uint8Array(encodedSize(entry))
        writeEntry(buffer, 0, entry)
        const short = buffer.subarray(0, cut % buffer.length)
        expect(() => readEntry(short, 0)).toThrow(MalformedEntryError)
      }),
    )
  })

  it('reads garbage as an entry or refuses it, and never throws anything else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 60 }), (garbage) => {
        garbage[0] = (garbage[0] ?? 0) % 5
        try {
          const { end } = readEntry(garbage, 0)
          expect(end).toBeLessThanOrEqual(garbage.length)
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedEntryError)
        }
      }),
    )
  })

  it('hands out data as a view, not a copy', () => {
    const entry: Entry = { type: 'commands', index: 1, term: 1, data: new Uint8Array(100) }
    const buffer = new Uint8Array(encodedSize(entry))
    writeEntry(buffer, 0, entry)
    const back = readEntry(buffer, 0).entry
    expect(back.type === 'commands' && back.data.buffer).toBe(buffer.buffer)
  })
})

describe('batches', () => {
  const seat = { segment: 3, offset: 1024, salt: 0xcafe }
  const durable = { segment: 3, offset: 512 }

  function batchOf(body: Uint8Array): Buffer {
    const buffer = Buffer.alloc(batchBytes(body.length))
    buffer.set(body, batchHeaderBytes)
    sealBatch(buffer, 0, seat, { bodyBytes: body.length, durable, firstIndex: 7, count: 2 })
    return buffer
  }

  it('read back what they hold, and only at their own seat', () => {
    const body = Buffer.from('hello'.repeat(300))
    const buffer = batchOf(body)
    const header = readBatchHeader(buffer, 0, seat)
    expect(header).toMatchObject({ bodyBytes: 1500, durable, firstIndex: 7, count: 2 })
    if (header === undefined) return
    expect(isBodySound(buffer, 0, seat, header)).toBe(true)
    expect(openBatch(buffer, 0, header)).toEqual(body)
    expect(readBatchHeader(buffer, 0, { ...seat, segment: 4 })).toBeUndefined()
    expect(readBatchHeader(buffer, 0, { ...seat, offset: 1536 })).toBeUndefined()
    expect(readBatchHeader(buffer, 0, { ...seat, salt: 1 })).toBeUndefined()
  })

  it('show every flipped bit, in header, body and padding', () => {
    const sound = batchOf(Buffer.from('hello'.repeat(150)))
    for (let bit = 0; bit < sound.length * 8; bit++) {
      const buffer = Buffer.from(sound)
      buffer[bit >>> 3] = (buffer[bit >>> 3] ?? 0) ^ (1 << (bit & 7))
      const header = readBatchHeader(buffer, 0, seat)
      expect(header !== undefined && isBodySound(buffer, 0, seat, header)).toBe(false)
    }
  })

  it('have no sector inside that is a header, even of values made from headers for just that place', () => {
    // 40 copies, so that one stands wherever a sector of the body begins.
    const body = Buffer.alloc(40 * sectorBytes)
    for (let sector = 1; sector <= 40; sector++) {
      const forged = Buffer.alloc(sectorBytes)
      const place = { ...seat, offset: seat.offset + sector * sectorBytes }
      sealBatch(forged, 0, place, { bodyBytes: 0, durable: place, firstIndex: 0, count: 0 })
      forged.copy(body, sector * sectorBytes - batchHeaderBytes)
    }
    const buffer = batchOf(body)
    for (let at = sectorBytes; at < buffer.length; at += sectorBytes) {
      expect(readBatchHeader(buffer, at, { ...seat, offset: seat.offset + at })).toBeUndefined()
    }
    const header = readBatchHeader(buffer, 0, seat)
    if (header === undefined) throw new Error('the batch itself has a header')
    expect(openBatch(buffer, 0, header)).toEqual(body)
  })
})
