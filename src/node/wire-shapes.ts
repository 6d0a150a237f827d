// What the rarer messages must look like: schemas that every message of these kinds is checked against, on both sides.

import Type from 'typebox'

import { errorCodes } from '../errors.ts'
import { maxMembers } from './membership.ts'
import { holderPattern, maxNameLength, maxValueBytes, namePattern, titlePattern } from './names.ts'

const whole = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const clusterId = Type.String({ pattern: '^[0-9a-f]{32}$' })
const peerId = Type.String({ minLength: 1, maxLength: 128 })
const name = Type.String({ pattern: namePattern, maxLength: maxNameLength })
const title = Type.String({ pattern: titlePattern })
const sentence = Type.String({ maxLength: 2_048 })
const errorCode = Type.Union(errorCodes.map((code) => Type.Literal(code)))

export const helloShape = Type.Object({ clusterId: Type.Optional(clusterId), id: name, boot: whole })

export const refusalShape = Type.Object({
  cause: Type.Union([Type.Literal('other-cluster'), Type.Literal('empty'), Type.Literal('stranger')]),
  reason: sentence,
})

export const forwardRefusedShape = Type.Object({
  attempt: whole,
  numbers: Type.Array(whole, { maxItems: 100_000 }),
  code: errorCode,
})

export const statusShape = Type.Object({
  version: Type.String({ maxLength: 128 }),
  role: Type.Union([
    Type.Literal('follower'),
    Type.Literal('preCandidate'),
    Type.Literal('candidate'),
    Type.Literal('leader'),
  ]),
  term: whole,
  commitIndex: whole,
  lastApplied: whole,
  clock: whole,
  freeBytes: whole,
  alarms: Type.Array(sentence, { maxItems: 64 }),
  http: sentence,
  p2p: sentence,
  commandVersion: whole,
  configurationIndex: whole,
  rebuilding: Type.Optional(whole),
  repairing: Type.Boolean(),
  digest: Type.Optional(Type.Object({ index: whole, digest: Type.String({ pattern: '^[0-9a-f]{32}$' }) })),
})

export const transferShape = Type.Object({ to: name })

const member = Type.Object({
  peer: peerId,
  id: name,
  http: sentence,
  p2p: sentence,
  voter: Type.Boolean(),
  since: whole,
  commandVersion: whole,
})

const configuration = Type.Object({ members: Type.Array(member, { minItems: 1, maxItems: maxMembers }) })

export const membersShape = Type.Object({ index: whole, members: configuration.properties.members })

const newcomer = Type.Object({ id: name, http: sentence, p2p: sentence, peer: peerId })

const wish = Type.Union([
  Type.Object({ type: Type.Literal('add'), newcomer }),
  Type.Object({ type: Type.Literal('remove'), id: name, force: Type.Boolean() }),
  Type.Object({ type: Type.Literal('replace'), replaces: name, newcomer, force: Type.Boolean() }),
])

const grant = Type.Object({
  store: name,
  access: Type.Union([Type.Literal('read'), Type.Literal('read-write')]),
  prefix: Type.Optional(Type.String({ maxLength: 4_096 })),
})

const holderId = Type.String({ pattern: holderPattern })

const principal = Type.Union([
  Type.Object({ type: Type.Literal('admin') }),
  Type.Object({ type: Type.Literal('monitor') }),
  Type.Object({
    type: Type.Literal('component'),
    grants: Type.Array(grant, { maxItems: 10_000 }),
    mint: Type.Optional(Type.Literal(true)),
  }),
  Type.Object({
    type: Type.Literal('app'),
    app: holderId,
    holder: Type.Object({
      type: Type.Union([Type.Literal('user'), Type.Literal('bot')]),
      id: holderId,
    }),
  }),
])

const store = Type.Object({
  name,
  ttl: Type.Optional(whole),
  maxValueBytes: Type.Optional(Type.Integer({ minimum: 1, maximum: maxValueBytes })),
})

const token = Type.Object({ name: title, hash: Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' }), principal })

const founding = Type.Object({
  clusterId,
  name: title,
  configuration,
  stores: Type.Array(store, { maxItems: 10_000 }),
  tokens: Type.Array(token, { maxItems: 10_000 }),
  valueBytes: Type.Integer({ minimum: 1, maximum: maxValueBytes }),
  foundedAt: whole,
  commandVersion: whole,
})

export const questionShape = Type.Union([
  Type.Object({ type: Type.Literal('whoAreYou') }),
  Type.Object({ type: Type.Literal('found'), founding }),
  Type.Object({ type: Type.Literal('begin'), clusterId }),
  Type.Object({
    type: Type.Literal('changeMembers'),
    wish,
    again: Type.Boolean(),
    timeoutMs: whole,
  }),
  Type.Object({ type: Type.Literal('drain') }),
  Type.Object({ type: Type.Literal('holdSnapshot') }),
  Type.Object({
    type: Type.Literal('sendChunk'),
    index: whole,
    after: Type.Optional(Type.String({ maxLength: 16_384 })),
  }),
])

export const answerShape = Type.Union([
  Type.Object({
    type: Type.Literal('identity'),
    id: name,
    clusterId: Type.Optional(clusterId),
    begun: Type.Boolean(),
    membership: Type.Optional(Type.Object({ founding, index: whole, configuration, boot: whole })),
  }),
  Type.Object({ type: Type.Literal('changed'), index: whole }),
  Type.Object({
    type: Type.Literal('snapshot'),
    index: whole,
    term: whole,
    configuration,
    digest: Type.String({ pattern: '^[0-9a-f]{32}$' }),
  }),
  Type.Object({
    type: Type.Literal('notChanged'),
    code: errorCode,
    detail: sentence,
    field: Type.Optional(
      Type.Union([Type.Literal('id'), Type.Literal('http'), Type.Literal('p2p'), Type.Literal('peer')]),
    ),
  }),
  Type.Object({ type: Type.Literal('done') }),
  Type.Object({ type: Type.Literal('refused'), reason: sentence }),
])
