// A lane writes as its stream drains, and starts a message again when its stream was lost in the middle of it.

import { expect, test } from 'vitest'

import { FrameReader } from '../../src/node/framing.ts'
import { type ByteStream, OutgoingLane } from '../../src/node/lanes.ts'

/** A stream that takes so many writes and is full then. */
class NarrowStream implements ByteStream {
  readonly written: Buffer[] = []
  isEnded = false
  room: number

  constructor(room: number) {
    this.room = room
  }

  get ready(): boolean {
    return this.room > this.written.length
  }

  write(bytes: Uint8Array): void {
    expect(this.ready).toBe(true)
    this.written.push(Buffer.from(bytes))
  }

  end(): void {
    this.isEnded = true
  }

  reset(): void {
    this.isEnded = true
  }

  /** What its far end makes of it. */
  messages(): Buffer[] {
    const messages: Buffer[] = []
    const reader = new FrameReader({ maxMessageBytes: 1_000_000 })
    for (const write of this.written) reader.push(write, { message: (bytes) => messages.push(bytes) })
    return messages
  }
}

test('what is offered in one turn leaves in one write', async () => {
  const lane = new OutgoingLane('control')
  const stream = new NarrowStream(10)
  lane.attach(stream)
  for (const text of ['a', 'b', 'c']) expect(lane.offer(Buffer.from(text))).toBe(true)
  expect(stream.written.length).toBe(0)
  await Promise.resolve()
  expect(stream.written.length).toBe(1)
  expect(stream.messages().map(String)).toEqual(['a', 'b', 'c'])
})

test('what a full stream does not take stays in the lane until it drains', async () => {
  const lane = new OutgoingLane('bulk')
  const stream = new NarrowStream(2)
  lane.attach(stream)
  const long = Buffer.alloc(300_000, 'x')
  lane.offer(long)
  await Promise.resolve()
  expect(stream.written.length).toBe(2)
  expect(lane.empty).toBe(false)
  stream.room = 100
  lane.pump()
  expect(lane.empty).toBe(true)
  expect(stream.messages()[0]?.equals(long)).toBe(true)
})

test('a message cut short by the end of its stream goes whole over the next one', async () => {
  const lane = new OutgoingLane('bulk')
  const first = new NarrowStream(2)
  lane.attach(first)
  const long = Buffer.alloc(300_000, 'x')
  lane.offer(long)
  lane.offer(Buffer.from('after'))
  await Promise.resolve()
  lane.detach()
  expect(first.isEnded).toBe(true)
  const second = new NarrowStream(100)
  lane.attach(second)
  expect(second.messages().map(({ length }) => length)).toEqual([300_000, 5])
})
