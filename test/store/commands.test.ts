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
const ttl = fc.oneof(fc.integer({ min: 1, max: 3650 * 86_400_000 }), fc.constant('none' as const))
const delta = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
const place = { store: fc.string({ maxLength: 63 }), key: bytes }
const transactionCondition = fc.oneof(
  fc.record({ type: fc.constant('revision' as const), ...place, revision }),
  fc.record({ type: fc.constant('exists' as const), ...place, exists: fc.boolean() }),
  fc.record({ type: fc.constant('value' as const), ...place, value: bytes }),
)
const content = { value: bytes, contentType: fc.string() }
const operation = fc.oneof(
  fc.record({ type: fc.constantFrom('get' as const, 'head' as const, 'exists' as const), ...place }),
  fc.record({ type: fc.constant('set' as const), ...place, ...content }),
  fc.record({ type: fc.constant('set' as const), ...place, ...content, ttl }),
  fc.record({ type: fc.constant('set' as const), ...place, ...content, ttl: fc.record({ until: fc.nat() }) }),
  fc.record({ type: fc.constant('delete' as const), ...place }),
  fc.record({ type: fc.constant('increment' as const), ...place, delta }),
  fc.record({ type: fc.constant('increment' as const), ...place, delta, ttl }),
  fc.record({ type: fc.constant('touch' as const), ...place, ttl }),
  fc.record({ type: fc.constant('deletePrefix' as const), store: fc.string(), prefix: bytes }),
)
const operations = fc.array(operation, { maxLength: 4 })
const grant = fc.record(
  {
    store: fc.string(),
    access: fc.constantFrom('read' as const, 'read-write' as const),
    prefix: fc.string(),
  },
  { requiredKeys: ['store', 'access'] },
)
const holder = fc.record({ type: fc.constantFrom('user' as const, 'bot' as const), id: fc.string() })
const principal = fc.oneof(
  fc.record({ type: fc.constantFrom('admin' as const, 'monitor' as const) }),
  fc.record(
    { type: fc.constant('component' as const), grants: fc.array(grant), mint: fc.constant(true as const) },
    { requiredKeys: ['type', 'grants'] },
  ),
  fc.record({ type: fc.constant('app' as const), app: fc.string(), holder }),
)
const definition = fc.record(
  { name: fc.string(), ttl: count, maxValueBytes: count },
  { requiredKeys: ['name'] },
)
const minted = fc.record(
  { name: fc.string(), hash: fc.string(), principal, ttl: count },
  { requiredKeys: ['name', 'hash', 'principal'] },
)
const due = fc.record({ store: fc.nat(), key: bytes, revision })

/** Commands of the third version. */
function later<Type extends Command['type'], Fields extends object>(
  type: Type,
  fields: { [Name in keyof Fields]: fc.Arbitrary<Fields[Name]> },
) {
  const head = fc.record({ type: fc.constant(type), token: fc.string() })
  const rest: fc.Arbitrary<Fields> = fc.record<Fields>(fields)
  const repeat = fc.oneof(fc.constant({}), fc.record({ once }))
  return fc.tuple(head, rest, repeat).map(([one, two, three]) => ({ ...one, ...two, ...three }))
}

const command: fc.Arbitrary<Command> = fc.oneof(
  fc.record({ ...setFields, ttl }),
  fc.record({ ...setFields, ttl: fc.record({ until: count }) }),
  fc.record({ ...setFields, ttl, once }),
  later('increment', { ...common, delta }),
  later('increment', { ...common, delta, ttl }),
  later('touch', { ...common, ttl }),
  later('deleteRange', { store: fc.string(), prefix: bytes }),
  later('transaction', {
    if: fc.array(transactionCondition, { maxLength: 3 }),
    // biome-ignore lint/suspicious/noThenProperty: the contract's name for it; no array can be called.
    then: operations,
    else: operations,
  }),
  later('createStore', { definition }),
  later('dropStore', { name: fc.string() }),
  later('mintToken', { minted }),
  later('revokeToken', { name: fc.string() }),
  later('rotateToken', { name: fc.string(), hash: fc.string(), overlap: count }),
  later('removeApp', { app: fc.string() }),
  fc.record({
    type: fc.constant('expire' as const),
    records: fc.array(due, { maxLength: 3 }),
    tokens: fc.array(fc.string()),
  }),
  fc.record({ type: fc.constant('collect' as const), store: fc.nat() }),
  fc.record({
    type: fc.constant('restore' as const),
    token: fc.string(),
    restore: fc.string(),
    step: fc.oneof(
      fc.record({ type: fc.constant('begin' as const), header: bytes }),
      fc.record({ type: fc.constant('rows' as const), number: count, rows: bytes }),
      fc.record({ type: fc.constant('link' as const), rows: count, digest: fc.string() }),
      fc.record({ type: fc.constant('drop' as const) }),
    ),
  }),
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
    expect(() => decodeCommand(packr.pack([4, 1, 'whatever']))).toThrow(UnknownCommandError)
    expect(() => decodeCommand(packr.pack([1, 77]))).toThrow(UnknownCommandError)
    expect(() => decodeCommand(packr.pack([2, 77]))).toThrow(UnknownCommandError)
    expect(() => decodeCommand(packr.pack([2, 5, 'token', 'range']))).toThrow(UnknownCommandError)
    expect(() => decodeCommand(packr.pack([3, 2, 'token']))).toThrow(UnknownCommandError)
    expect(() => decodeCommand(packr.pack([1, 3, 'token', 'session']))).toThrow(UnknownCommandError)
  })

  it('is written in the lowest version that has it, so that an older member can apply what it knows', () => {
    const plain = { type: 'delete', token: 't', store: 's', key: Buffer.from('k'), conditions: [] } as const
    const repeated: Command = { ...plain, once: { type: 'session', session: 'x', seq: 1, acked: 0 } }
    const packr = new Packr({ useRecords: false })
    expect(packr.unpack(encodeCommand(plain))[0]).toBe(1)
    expect(packr.unpack(encodeCommand(repeated))[0]).toBe(2)
    expect(packr.unpack(encodeCommand({ type: 'collect', store: 1 }))[0]).toBe(3)
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
      packr.pack([3, 1, 'token', 'store', Buffer.from('k'), [], Buffer.from('v'), 'type', -1, null]),
      packr.pack([3, 4, 'token', 'store', Buffer.from('k'), [], '9223372036854775808', null, null]),
      packr.pack([3, 4, 'token', 'store', Buffer.from('k'), [], '01', null, null]),
      packr.pack([3, 5, 'token', 'store', Buffer.from('k'), [], null, null]),
      packr.pack([3, 6, 'token', 'store', Buffer.from('p')]),
      packr.pack([3, 7, 'token', [], [[9, 'store', Buffer.from('k')]], [], null]),
      packr.pack([3, 7, 'token', [[4, 'store', Buffer.from('k'), true]], [], [], null]),
      packr.pack([3, 7, 'token', [], [], null]),
      packr.pack([3, 10, 'token', 'name', 'hash', [5], null, null]),
      packr.pack([3, 10, 'token', 'name', 'hash', [3, [['store', 3, null]], false], null, null]),
      packr.pack([3, 14, [[1, Buffer.from('k')]], []]),
      packr.pack([3, 15, 'store']),
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
