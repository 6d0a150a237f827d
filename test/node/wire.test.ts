// Every message comes out as it went in; bytes that are none are told, whatever they are.

import fc from 'fast-check'
import { Packr } from 'msgpackr'
import { describe, expect, test } from 'vitest'

import { errorCodes } from '../../src/errors.ts'
import { laneOf } from '../../src/node/lanes.ts'
import type { Answer, PeerMessage, Question } from '../../src/node/transport.ts'
import {
  decodeAnswer,
  decodeGreeting,
  decodePeerMessage,
  decodeQuestion,
  encodeAnswer,
  encodeGreeting,
  encodePeerMessage,
  encodeQuestion,
  type Greeting,
  leastBytes,
  WireError,
} from '../../src/node/wire.ts'
import type { Entry, Member, Message } from '../../src/raft/types.ts'
import type { Founding } from '../../src/store/types.ts'

const link = { from: '12D3KooWsender', to: '12D3KooWreceiver' }
const clusterId = '0123456789abcdef0123456789abcdef'

const whole = fc.oneof(
  fc.maxSafeNat(),
  fc.nat(300),
  fc.constantFrom(0, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER),
)
const header = fc.record({ from: fc.constant(link.from), to: fc.constant(link.to), term: whole })
const sentence = fc.string({ maxLength: 200 })

function core<T extends object>(body: fc.Arbitrary<T>): fc.Arbitrary<Message> {
  return fc.tuple(header, body).map(([head, rest]) => ({ ...head, ...rest }) as unknown as Message)
}

const append = fc
  .tuple(
    fc.nat(2 ** 40),
    fc.nat(1_000),
    whole,
    fc.array(
      fc.tuple(
        fc.constantFrom('noop', 'commands', 'configuration'),
        fc.nat(2),
        fc.uint8Array({ maxLength: 600 }),
      ),
      {
        maxLength: 12,
      },
    ),
  )
  .map(([prevIndex, prevTerm, commitIndex, kinds]): Message => {
    let term = prevTerm
    const entries = kinds.map(([type, rise, data], at): Entry => {
      term += rise
      const position = { index: prevIndex + 1 + at, term }
      if (type === 'commands') return { type, ...position, data: Buffer.from(data) }
      if (type === 'noop') return { type, ...position }
      const member = {
        peer: link.from,
        id: 'n1',
        http: 'http://127.0.0.1:1',
        p2p: '/ip4/127.0.0.1/tcp/1',
        voter: true,
        since: 0,
        commandVersion: 1,
      }
      return { type: 'configuration', ...position, configuration: { members: [member] } }
    })
    return { ...link, type: 'append', since: 5, term, prevIndex, prevTerm, commitIndex, entries }
  })

const coreMessage: fc.Arbitrary<Message> = fc.oneof(
  append,
  core(fc.record({ type: fc.constant('preVote'), lastIndex: whole, lastTerm: whole })),
  core(
    fc.record({
      type: fc.constant('requestVote'),
      lastIndex: whole,
      lastTerm: whole,
      transfer: fc.boolean(),
    }),
  ),
  core(
    fc.record({ type: fc.constant('vote'), askedTerm: whole, preVote: fc.boolean(), granted: fc.boolean() }),
  ),
  core(fc.record({ type: fc.constant('appended'), matchIndex: whole })),
  core(
    fc.record({ type: fc.constant('appendRejected'), prevIndex: whole, hintIndex: whole, hintTerm: whole }),
  ),
  core(fc.record({ type: fc.constant('commit'), commitIndex: whole })),
  core(fc.record({ type: fc.constant('heartbeat'), since: whole, round: whole, commitIndex: whole })),
  core(fc.record({ type: fc.constant('snapshotNeeded'), since: whole, index: whole })),
  core(fc.record({ type: fc.constant('heartbeatAnswer'), round: whole })),
  core(fc.record({ type: fc.constant('readIndex'), id: whole })),
  core(
    fc.record({
      type: fc.constant('readIndexAnswer'),
      id: whole,
      index: fc.option(whole, { nil: undefined }),
    }),
  ),
  core(fc.record({ type: fc.constant('timeoutNow') })),
)

const member: fc.Arbitrary<Member> = fc.record({
  peer: fc.constantFrom('12D3KooWone', '12D3KooWtwo'),
  id: fc.constantFrom('n1', 'n2'),
  http: sentence,
  p2p: sentence,
  voter: fc.boolean(),
  since: whole,
  commandVersion: whole,
})

/** All but those that are not always there. */
const statusFields = [
  'type',
  'version',
  'role',
  'term',
  'commitIndex',
  'lastApplied',
  'clock',
  'freeBytes',
  'alarms',
  'http',
  'p2p',
  'commandVersion',
  'configurationIndex',
  'repairing',
] as const

const peerMessage: fc.Arbitrary<PeerMessage> = fc.oneof(
  { weight: 4, arbitrary: coreMessage.map((message): PeerMessage => ({ type: 'raft', message })) },
  fc.record({
    type: fc.constant('forward' as const),
    attempt: whole,
    batch: fc.record({
      peer: fc.constant(link.from),
      boot: whole,
      acked: whole,
      commands: fc.array(
        fc.record({
          number: whole,
          bytes: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
        }),
        {
          maxLength: 10,
        },
      ),
    }),
  }),
  fc.record({
    type: fc.constant('forwardRefused' as const),
    attempt: whole,
    numbers: fc.array(whole, { maxLength: 50 }),
    code: fc.constantFrom(...errorCodes),
  }),
  fc.record(
    {
      type: fc.constant('status' as const),
      version: sentence,
      role: fc.constantFrom(
        'follower' as const,
        'preCandidate' as const,
        'candidate' as const,
        'leader' as const,
      ),
      term: whole,
      commitIndex: whole,
      lastApplied: whole,
      clock: whole,
      freeBytes: whole,
      alarms: fc.array(sentence, { maxLength: 5 }),
      http: sentence,
      p2p: sentence,
      commandVersion: whole,
      configurationIndex: whole,
      rebuilding: whole,
      repairing: fc.boolean(),
      digest: fc.record({ index: whole, digest: fc.constantFrom('0'.repeat(32), 'af'.repeat(16)) }),
    },
    { noNullPrototype: true, requiredKeys: [...statusFields] },
  ),
  fc.record({
    type: fc.constant('members' as const),
    index: whole,
    members: fc.array(member, { minLength: 1, maxLength: 5 }),
  }),
  fc.record({ type: fc.constant('transferLeadership' as const), to: fc.constantFrom('n1', 'eu-west_2') }),
)

const founding: Founding = {
  clusterId,
  name: 'dev',
  configuration: {
    members: [
      {
        peer: link.from,
        id: 'n1',
        http: 'http://127.0.0.1:7001',
        p2p: '/ip4/127.0.0.1/tcp/7101',
        voter: true,
        since: 0,
        commandVersion: 1,
      },
    ],
  },
  stores: [{ name: 'default' }, { name: 'carts', maxValueBytes: 65_536 }],
  tokens: [
    { name: 'admin', hash: 'A'.repeat(43), principal: { type: 'admin' } },
    {
      name: 'todo',
      hash: 'c'.repeat(43),
      principal: { type: 'app', app: 'com.example.todo', holder: { type: 'bot', id: 'todo' } },
    },
    {
      name: 'minter',
      hash: 'd'.repeat(43),
      principal: { type: 'component', grants: [{ store: 'default', access: 'read' }], mint: true },
    },
    {
      name: 'cart',
      hash: 'b'.repeat(43),
      principal: {
        type: 'component',
        grants: [
          { store: 'default', access: 'read', prefix: 'ünïcode/' },
          { store: 'carts', access: 'read-write' },
        ],
      },
    },
  ],
  valueBytes: 4_194_304,
  foundedAt: 1_790_000_000_000,
  commandVersion: 1,
}

const newcomer = { id: 'n4', http: 'http://h:1', p2p: '/dns4/h/tcp/2', peer: '12D3KooWfour' }

const questions: readonly Question[] = [
  { type: 'whoAreYou' },
  { type: 'found', founding },
  { type: 'begin', clusterId },
  { type: 'changeMembers', wish: { type: 'add', newcomer }, again: false, timeoutMs: 4_000 },
  { type: 'changeMembers', wish: { type: 'remove', id: 'n2', force: true }, again: true, timeoutMs: 0 },
  {
    type: 'changeMembers',
    wish: { type: 'replace', replaces: 'n2', newcomer, force: false },
    again: false,
    timeoutMs: 1,
  },
  { type: 'drain' },
]

const answers: readonly Answer[] = [
  { type: 'identity', id: 'n1', clusterId, begun: true },
  { type: 'identity', id: 'n1', clusterId: undefined, begun: false },
  {
    type: 'identity',
    id: 'n1',
    clusterId,
    begun: true,
    membership: {
      founding: { ...founding, stores: [], tokens: [] },
      index: 42,
      configuration: founding.configuration,
      boot: 7,
    },
  },
  { type: 'changed', index: 7 },
  { type: 'notChanged', code: 'quorum-at-risk', detail: 'n2 cannot be counted on' },
  { type: 'notChanged', code: 'member-exists', detail: 'n2 is a member', field: 'id' },
  { type: 'done' },
  { type: 'refused', reason: 'not now' },
]

const greetings: readonly Greeting[] = [
  { type: 'hello', hello: { clusterId, id: 'n1', boot: 7 } },
  { type: 'hello', hello: { clusterId: undefined, id: 'n1', boot: 0 } },
  { type: 'refusal', refusal: { cause: 'stranger', reason: 'who are you?' } },
]

describe('messages between members', () => {
  test('come out as they went in', () => {
    fc.assert(
      fc.property(peerMessage, (message) => {
        const bytes = encodePeerMessage(message, link)
        expect(decodePeerMessage(bytes, link)).toEqual(message)
        expect(leastBytes(message)).toBeLessThanOrEqual(bytes.length)
      }),
      { numRuns: 1_000 },
    )
  })

  test('are refused when they are cut short, go on too long or have another format', () => {
    fc.assert(
      fc.property(
        peerMessage,
        fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
        (message, share) => {
          const bytes = encodePeerMessage(message, link)
          const cut = Buffer.from(bytes.subarray(0, Math.floor(share * bytes.length)))
          expect(() => decodePeerMessage(cut, link)).toThrow(WireError)
          expect(() => decodePeerMessage(Buffer.concat([bytes, Buffer.of(0)]), link)).toThrow(WireError)
          expect(() => decodePeerMessage(Buffer.concat([Buffer.of(2), bytes.subarray(1)]), link)).toThrow(
            'message format 2',
          )
        },
      ),
      { numRuns: 300 },
    )
  })

  test('with a flipped bit are another message or none, never another error', () => {
    fc.assert(
      fc.property(peerMessage, fc.nat(), fc.nat(7), (message, place, bit) => {
        const bytes = Buffer.from(encodePeerMessage(message, link))
        const at = place % bytes.length
        bytes[at] = (bytes[at] ?? 0) ^ (1 << bit)
        expectMessageOrWireError(() => decodePeerMessage(bytes, link))
      }),
      { numRuns: 1_000 },
    )
  })

  test('made of any bytes are told from messages', () => {
    const bytes = fc.tuple(fc.integer({ min: 0, max: 90 }), fc.uint8Array({ maxLength: 200 }))
    fc.assert(
      fc.property(bytes, ([type, rest]) => {
        const message = Buffer.concat([Buffer.of(1, type), rest])
        for (const decode of [decodeGreeting, decodeQuestion, decodeAnswer]) {
          expectMessageOrWireError(() => decode(message))
        }
        expectMessageOrWireError(() => decodePeerMessage(message, link))
      }),
      { numRuns: 3_000 },
    )
  })

  test('speak for nobody but their sender', () => {
    const forged: Message = { ...link, from: '12D3KooWother', type: 'timeoutNow', term: 1 }
    expect(() => encodePeerMessage({ type: 'raft', message: forged }, link)).toThrow('names its own sender')
    const batch = { peer: '12D3KooWother', boot: 1, acked: 0, commands: [] }
    expect(() => encodePeerMessage({ type: 'forward', attempt: 1, batch }, link)).toThrow('by their origin')
    const honest = encodePeerMessage(
      { type: 'raft', message: { ...link, type: 'timeoutNow', term: 1 } },
      link,
    )
    const elsewhere = { from: '12D3KooWother', to: link.to }
    expect(decodePeerMessage(honest, elsewhere)).toMatchObject({ message: elsewhere })
  })

  test.each<[string, Partial<Message & { type: 'append' }>]>([
    ['entries with a gap', { entries: [noop(6, 2), noop(8, 2)] }],
    ['entries that do not follow', { entries: [noop(7, 2)] }],
    ['an entry of a term that falls', { entries: [noop(6, 2), noop(7, 1)] }],
    ['an entry of a term to come', { entries: [noop(6, 4)] }],
    ['an entry older than the one before it', { entries: [noop(6, 1)], prevTerm: 2 }],
  ])('are refused with %s', (_, wrong) => {
    const sound: Message = {
      ...link,
      type: 'append',
      since: 0,
      term: 3,
      prevIndex: 5,
      prevTerm: 1,
      commitIndex: 5,
      entries: [noop(6, 2)],
    }
    const decode = (message: Message) =>
      decodePeerMessage(encodePeerMessage({ type: 'raft', message }, link), link)
    expect(decode(sound)).toEqual({ type: 'raft', message: sound })
    expect(() => decode({ ...sound, ...wrong } as Message)).toThrow(WireError)
  })

  test('take the bulk lane when they may be long, and control otherwise', () => {
    fc.assert(
      fc.property(peerMessage, (message) => {
        const isLong =
          message.type === 'forward' || (message.type === 'raft' && message.message.type === 'append')
        expect(laneOf(message)).toBe(isLong ? 'bulk' : 'control')
      }),
    )
  })

  test('cost little: a heartbeat has 34 bytes, an append 46 beside its entries', () => {
    const beat: Message = { ...link, type: 'heartbeat', since: 0, term: 1, round: 2, commitIndex: 3 }
    const empty: Message = {
      ...link,
      type: 'append',
      since: 0,
      term: 1,
      prevIndex: 2,
      prevTerm: 1,
      commitIndex: 3,
      entries: [],
    }
    expect(encodePeerMessage({ type: 'raft', message: beat }, link).length).toBe(34)
    expect(encodePeerMessage({ type: 'raft', message: empty }, link).length).toBe(46)
  })
})

describe('greetings, questions and answers', () => {
  test('come out as they went in', () => {
    for (const greeting of greetings) expect(decodeGreeting(encodeGreeting(greeting))).toEqual(greeting)
    for (const question of questions) expect(decodeQuestion(encodeQuestion(question))).toEqual(question)
    for (const answer of answers) expect(decodeAnswer(encodeAnswer(answer))).toEqual(answer)
  })

  test('are not taken for each other', () => {
    const greeting = encodeGreeting({ type: 'hello', hello: { clusterId, id: 'n1', boot: 7 } })
    expect(() => decodeQuestion(greeting)).toThrow(WireError)
    expect(() => decodeAnswer(greeting)).toThrow(WireError)
    expect(() => decodePeerMessage(greeting, link)).toThrow(WireError)
    expect(() => decodeGreeting(encodeQuestion({ type: 'whoAreYou' }))).toThrow(WireError)
  })

  test('with a flipped bit are another message or none, never another error', () => {
    const encoded = encodeQuestion({ type: 'found', founding })
    for (let at = 0; at < encoded.length * 8; at++) {
      const bytes = Buffer.from(encoded)
      bytes[at >> 3] = (bytes[at >> 3] ?? 0) ^ (1 << (at & 7))
      expectMessageOrWireError(() => decodeQuestion(bytes))
    }
  })
})

test('what a later version has written of a founding is left out when it is told, and not in what is told from', () => {
  const later = { ...founding, stores: [{ name: 'default', colour: 'red' }] }
  const encoded = encodeQuestion({ type: 'found', founding: later })
  expect(decodeQuestion(encoded)).toEqual({
    type: 'found',
    founding: { ...founding, stores: [{ name: 'default' }] },
  })
  expect(later.stores[0]).toHaveProperty('colour')
})

describe('MessagePack from outside', () => {
  const packr = new Packr({ useRecords: false })
  const hello = (fields: unknown) => decodeGreeting(Buffer.concat([Buffer.of(1, 64), packr.pack(fields)]))

  test('may have fields of a later version, which are dropped', () => {
    const fields = { id: 'n1', boot: 1, clusterId, colour: 'red', ['__proto__x']: 1 }
    expect(hello(fields)).toEqual({ type: 'hello', hello: { id: 'n1', boot: 1, clusterId } })
  })

  test.each<[string, unknown]>([
    ['a missing field', { id: 'n1' }],
    ['a field of another type', { id: 'n1', boot: '1' }],
    ['a negative number', { id: 'n1', boot: -1 }],
    ['a fraction', { id: 'n1', boot: 1.5 }],
    ['a number beyond 2^53', { id: 'n1', boot: 2 ** 53 }],
    ['not a number', { id: 'n1', boot: Number.NaN }],
    ['a text that is too long', { id: 'n'.repeat(64), boot: 1 }],
    ['a text of another form', { id: 'N 1', boot: 1 }],
    ['a date', { id: 'n1', boot: new Date() }],
    ['a list', ['n1', 1]],
    ['nothing', null],
  ])('is refused with %s', (_, fields) => {
    expect(() => hello(fields)).toThrow(WireError)
  })

  test.each<[string, number[]]>([
    ['an array that claims four thousand million items', [0xdd, 0xff, 0xff, 0xff, 0xff]],
    ['a map that claims as many', [0xdf, 0xff, 0xff, 0xff, 0xff]],
    ['a text longer than the message', [0xdb, 0x7f, 0xff, 0xff, 0xff, 0x61]],
    ['an extension type', [0xd4, 0x72, 0x40]],
    ['a key that is no text', [0x81, 0x01, 0x01]],
    ['bytes after the value', [0x80, 0x00]],
    ['no bytes', []],
  ])('is refused with %s', (_, bytes) => {
    expect(() => decodeGreeting(Buffer.of(1, 64, ...bytes))).toThrow(WireError)
  })
})

describe('the walk before decoding', () => {
  test('ends before it goes too deep for the stack, and before it counts what cannot be there', () => {
    const deep = Buffer.concat([Buffer.alloc(500_000, 0x91), Buffer.of(0xc0)])
    expect(() => decodeGreeting(Buffer.concat([Buffer.of(1, 64), deep]))).toThrow('nested too deeply')
    expect(() => decodeGreeting(Buffer.of(1, 64, 0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0))).toThrow(
      'more items than bytes',
    )
  })
})

test('a number from 2^53 on is no number of ours', () => {
  const beat: Message = { ...link, type: 'heartbeatAnswer', term: 1, round: Number.MAX_SAFE_INTEGER }
  const bytes = encodePeerMessage({ type: 'raft', message: beat }, link)
  expect(decodePeerMessage(bytes, link)).toMatchObject({ message: beat })
  bytes[bytes.length - 2] = 0x20
  expect(() => decodePeerMessage(bytes, link)).toThrow('above 2^53')
})

function noop(index: number, term: number): Entry {
  return { type: 'noop', index, term }
}

function expectMessageOrWireError(decode: () => unknown): void {
  try {
    decode()
  } catch (error) {
    expect(error).toBeInstanceOf(WireError)
  }
}
