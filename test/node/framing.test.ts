// Frames survive any chunking, and garbage is told.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import {
  FrameReader,
  FramingError,
  framedBytes,
  frameHeaderBytes,
  frameMessage,
  maxFrameBytes,
  maxPayloadBytes,
  signOfLife,
} from '../../src/node/framing.ts'
import { Outbox } from '../../src/node/outbox.ts'

const limit = 1_000_000

function readAll(pieces: readonly Uint8Array[], maxMessageBytes = limit) {
  const reader = new FrameReader({ maxMessageBytes })
  const messages: Buffer[] = []
  let parts = 0
  const sink = {
    message: (bytes: Buffer) => messages.push(bytes),
    part: () => {
      parts += 1
    },
  }
  for (const piece of pieces) reader.push(piece, sink)
  return { messages, parts }
}

/** Cuts `bytes` at these fractions of its length. */
function cutAt(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [0, ...cuts.map((cut) => Math.floor(cut * bytes.length)).sort((a, b) => a - b), bytes.length]
  return places.slice(1).map((end, at) => bytes.subarray(places[at], end))
}

const message = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 300 }),
  fc
    .tuple(fc.integer({ min: 1, max: 200_000 }), fc.integer({ min: 0, max: 255 }))
    .map(([size, fill]) => new Uint8Array(size).fill(fill)),
  fc
    .constantFrom(maxPayloadBytes - 1, maxPayloadBytes, maxPayloadBytes + 1, 2 * maxPayloadBytes)
    .map((size) => new Uint8Array(size).fill(7)),
)

describe('frames', () => {
  test('messages come out as they went in, however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 6 }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 40 }),
        (sent, cuts) => {
          const stream = Buffer.concat(sent.map(frameMessage))
          expect(stream.length).toBe(sent.reduce((sum, { length }) => sum + framedBytes(length), 0))
          const { messages } = readAll(cutAt(stream, cuts))
          expect(messages.length).toBe(sent.length)
          expect(messages.every((bytes, at) => bytes.equals(sent[at] ?? Buffer.alloc(0)))).toBe(true)
        },
      ),
      { numRuns: 150 },
    )
  })

  test('an outbox writes the same frames, in writes of at most 64 KiB, each with whole frames', () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 12 }), (sent) => {
        const outbox = new Outbox({ maxBytes: 10_000_000 })
        for (const bytes of sent) expect(outbox.offer(Buffer.from(bytes))).toBe(true)
        const writes: Buffer[] = []
        for (let write = outbox.take(); write !== undefined; write = outbox.take()) writes.push(write)
        expect(outbox.bytes).toBe(0)
        expect(outbox.empty).toBe(true)
        expect(writes.every(({ length }) => length <= maxFrameBytes)).toBe(true)
        expect(Buffer.concat(writes).equals(Buffer.concat(sent.map(frameMessage)))).toBe(true)
      }),
      { numRuns: 150 },
    )
  })

  test('any bytes at all are read or refused, and never held beyond the bound', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 400 }), { maxLength: 20 }), (pieces) => {
        try {
          readAll(pieces, 1_000)
        } catch (error) {
          expect(error).toBeInstanceOf(FramingError)
        }
      }),
      { numRuns: 500 },
    )
  })

  test('each part of a longer message but the last is announced', () => {
    expect(readAll([frameMessage(new Uint8Array(3 * maxPayloadBytes))]).parts).toBe(2)
    expect(readAll([frameMessage(new Uint8Array(maxPayloadBytes))]).parts).toBe(0)
  })

  test('a sign of life carries no message', () => {
    const stream = Buffer.concat([signOfLife(), frameMessage(Buffer.from('x')), signOfLife()])
    expect(readAll([stream]).messages.map(String)).toEqual(['x'])
  })

  test.each([
    ['a length above a frame', [0xff, 0xff, 0, 0, 0, 0, 0, 0], /65535 bytes/],
    ['an unknown flag', [1, 0, 2, 0, 0, 0, 0, 0], /flags/],
    ['a reserved byte that is set', [1, 0, 0, 1, 0, 0, 0, 0], /flags/],
    ['another group', [1, 0, 0, 0, 1, 0, 0, 0], /group 1/],
    ['an empty frame that goes on', [0, 0, 1, 0, 0, 0, 0, 0], /empty frame/],
  ])('%s is refused', (_, header, expected) => {
    expect(header.length).toBe(frameHeaderBytes)
    expect(() => readAll([Uint8Array.from(header)])).toThrow(expected)
  })

  test('a message beyond the bound is refused before its bytes have come', () => {
    const stream = frameMessage(new Uint8Array(200_000))
    expect(readAll([stream], 200_000).messages.length).toBe(1)
    const upToThirdHeader = stream.subarray(0, 3 * maxFrameBytes + frameHeaderBytes)
    expect(() => readAll([upToThirdHeader], 199_999)).toThrow('more than 199999 bytes')
  })

  test('a message is in memory of its own', () => {
    const stream = frameMessage(Buffer.from('hello'))
    const [read] = readAll([stream]).messages
    stream.fill(0)
    expect(String(read)).toBe('hello')
  })
})

describe('an outbox', () => {
  test('keeps to its bound, but lets one larger message pass when it is alone', () => {
    const outbox = new Outbox({ maxBytes: 100 })
    expect(outbox.offer(Buffer.alloc(500))).toBe(true)
    expect(outbox.offer(Buffer.alloc(1))).toBe(false)
    outbox.take()
    expect(outbox.offer(Buffer.alloc(60))).toBe(true)
    expect(outbox.offer(Buffer.alloc(41))).toBe(false)
    expect(outbox.offer(Buffer.alloc(40))).toBe(true)
    expect(outbox.bytes).toBe(100)
  })

  test('starts a message again whose stream ended in the middle of it', () => {
    const outbox = new Outbox({ maxBytes: 1_000_000 })
    const long = Buffer.alloc(200_000, 'abc')
    outbox.offer(long)
    outbox.take()
    outbox.take()
    expect(outbox.bytes).toBe(200_000)
    outbox.rewind()
    const writes: Buffer[] = []
    for (let write = outbox.take(); write !== undefined; write = outbox.take()) writes.push(write)
    expect(readAll(writes).messages[0]?.equals(long)).toBe(true)
  })
})
