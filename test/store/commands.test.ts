import { AssertionError } from 'node:assert'
import fc from 'fast-check'
import { Packr } from 'msgpackr'
import { describe, expect, it } from 'vitest'
import {
  batchHeaderSize,
  decodeCommand,
  decodeEntryData,
  encodeCommand,
  encodeEntryData,
  entryDataSize,
  entryHeaderSize,
  numberedCommandSize,
  UnknownCommandError,
} from '../../src/store/commands.ts'
import type { Command, CommandBatch } from '../../src/store/types.ts'

const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array))
const revision = fc.integer({ min: 0, max: 2 ** 48 - 1 })
const condition = fc.oneof(
  fc.record({ type: fc.constant('revision' as const), revisions: fc.array(revision, { maxLength: 4 }) }),
  fc.constant({ type: 'exists' as const }),
  fc.constant({ type: 'absent' as const }),
)
const count = fc.integer({ min: 0, max: 2 ** 48 })
const once = fc.oneof(
  fc
    .tuple(fc.string({ minLength: 22, maxLength: 22 }), count, fc.integer({ min: 1, max: 2000 }))
    .map(([session, acked, above]) => ({ type: 'session' as const, session, seq: acked + above, acked })),
  fc.record({
    type: fc.constant('key' as const),
    key: fc.stringMatching(/^[\x21-\x7e]{1,128}$/),
    digest: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((array) => Buffer.from(array)),
  }),
)
const common = {
  token: fc.string({ maxLength: 43 }),
  store: fc.string({ maxLength: 63, unit: 'binary' }),
  key: bytes,
  conditions: fc.array(condition, { maxLength: 3 }),
}
const setFields = { type: fc.constant('set' as const), ...common, value: bytes, contentType: fc.string() }
const deleteFields = { type: fc.constant('delete' as const), ...common }
const command: fc.Arbitrary<Command> = fc.oneof(
  fc.record(setFields),
  fc.record({ ...setFields, once }),
  fc.record(deleteFields),
  fc.record({ ...deleteFields, once }),
  fc.record({ type: fc.constant('openSession' as const), token: fc.string(), session: fc.string() }),
)
const batches: fc.Arbitrary<readonly CommandBatch[]> = fc.array(
  fc.record({
    peer: fc.string({ maxLength: 60 }),
    boot: revision,
    acked: revision,
    commands: fc.array(fc.record({ number: fc.maxSafeNat(), bytes }), { maxLength: 5 }),
  }),
  { maxLength: 4 },
)

describe('a command as bytes', () => {
  it('comes back as it was', () => {
    fc.assert(
      fc.property(command, (before) => {
        expect(decodeCommand(encodeCommand(before))).toEqual(before)
      }),
    )
  })

  it('comes back from the middle of a larger buffer', () => {
    const before: Command = { type: 'delete', token: 't', store: 's', key: Buffer.from('k'), conditions: [] }
    const inside = Buffer.concat([Buffer.alloc(7, 0xff), encodeCommand(before), Buffer.alloc(9, 0xff)])
    expect(decodeCommand(inside.subarray(7, -9))).toEqual(before)
  })

  it('of a newer version or an unknown type has an error of its own', () => {
    const packr = new Packr({ useRecords: false })
    expect(() => decodeCommand(packr.pack([3, 1, 'whatever']))).toThrow(UnknownCommandError)
    expect(() => decodeCommand(packr.pack([1, 77]))).toThrow(UnknownCommandError)
    expect(() => decodeCommand(packr.pack([2, 77]))).toThrow(UnknownCommandError)
    expect(() => decodeCommand(packr.pack([1, 3, 'token', 'session']))).toThrow(UnknownCommandError)
  })

  it('is written in the lowest version that has it, so that an older member can apply what it knows', () => {
    const plain = { type: 'delete', token: 't', store: 's', key: Buffer.from('k'), conditions: [] } as const
    const repeated: Command = { ...plain, once: { type: 'session', session: 'x', seq: 1, acked: 0 } }
    const packr = new Packr({ useRecords: false })
    expect(packr.unpack(encodeCommand(plain))[0]).toBe(1)
    expect(packr.unpack(encodeCommand(repeated))[0]).toBe(2)
    expect(packr.unpack(encodeCommand({ type: 'openSession', token: 't', session: 'x' }))[0]).toBe(2)
  })

  it('that is damaged or not whole breaks an invariant', () => {
    const whole = encodeCommand({
      type: 'delete',
      token: 't',
      store: 's',
      key: Buffer.from('k'),
      conditions: [],
    })
    const packr = new Packr({ useRecords: false })
    const wrong = [
      whole.subarray(0, -1),
      Buffer.concat([whole, Buffer.from([1])]),
      Buffer.alloc(0),
      packr.pack({ type: 'set' }),
      packr.pack([1, 2, 'token', 'store', 'key as text', []]),
      packr.pack([1, 2, 'token', 'store', Buffer.from('k'), [[4]]]),
      packr.pack([1, 2, 'token', 'store', Buffer.from('k'), [], 'more']),
      packr.pack([1, 1, 'token', 'store', Buffer.from('k'), [], Buffer.from('v')]),
      packr.pack([2, 2, 'token', 'store', Buffer.from('k'), []]),
      packr.pack([2, 2, 'token', 'store', Buffer.from('k'), [], [1, 'session', 1, 1]]),
      packr.pack([2, 2, 'token', 'store', Buffer.from('k'), [], [1, 'session', 0.5, 0]]),
      packr.pack([2, 2, 'token', 'store', Buffer.from('k'), [], [2, 'with space', Buffer.alloc(32)]]),
      packr.pack([2, 2, 'token', 'store', Buffer.from('k'), [], [2, 'key', Buffer.alloc(31)]]),
      packr.pack([2, 2, 'token', 'store', Buffer.from('k'), [], [3, 'key', Buffer.alloc(32)]]),
      packr.pack([2, 3, 'token']),
    ]
    for (const broken of wrong) expect(() => decodeCommand(broken)).toThrow(AssertionError)
  })
})

describe("an entry's data", () => {
  it('comes back as it was, in exactly the size told beforehand', () => {
    fc.assert(
      fc.property(revision, batches, (time, before) => {
        const data = encodeEntryData({ time, batches: before })
        expect(data.length).toBe(entryDataSize(before))
        expect(decodeEntryData(data)).toEqual({ time, batches: before })
      }),
    )
  })

  it('grows by the sizes told for a batch and for a command', () => {
    const commands = [{ number: 200, bytes: Buffer.alloc(1000) }]
    const size =
      entryHeaderSize + batchHeaderSize('peer') + commands.map(numberedCommandSize).reduce((a, b) => a + b)
    expect(entryDataSize([{ peer: 'peer', boot: 1, acked: 0, commands }])).toBe(size)
  })

  it('is read without copying the commands', () => {
    const data = encodeEntryData({
      time: 1,
      batches: [{ peer: 'p', boot: 1, acked: 0, commands: [{ number: 1, bytes: Buffer.from('abc') }] }],
    })
    expect(decodeEntryData(data).batches[0]?.commands[0]?.bytes.buffer).toBe(data.buffer)
  })

  it('keeps to its bytes: this is the lasting format', () => {
    const data = encodeEntryData({
      time: 0x0102_0304_0506,
      batches: [{ peer: 'n1', boot: 7, acked: 9, commands: [{ number: 300, bytes: Buffer.from('ab') }] }],
    })
    expect(Buffer.from(data).toString('hex')).toBe(
      [
        '01',
        '010203040506',
        '00000001',
        '02',
        '6e31',
        '000000000007',
        '000000000009',
        '00000001',
        'ac02',
        '02',
        '6162',
      ].join(''),
    )
  })

  it('that is cut short, too long or of another format breaks an invariant', () => {
    const batch = { peer: 'p', boot: 1, acked: 0, commands: [{ number: 1, bytes: Buffer.from('abc') }] }
    const data = encodeEntryData({ time: 1, batches: [batch] })
    for (let length = 0; length < data.length; length++) {
      expect(() => decodeEntryData(data.subarray(0, length))).toThrow(AssertionError)
    }
    expect(() => decodeEntryData(Buffer.concat([data, Buffer.from([0])]))).toThrow(AssertionError)
    expect(() => decodeEntryData(Buffer.concat([Buffer.from([2]), data.subarray(1)]))).toThrow(AssertionError)
  })
})
