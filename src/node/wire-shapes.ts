// What the rarer messages must look like: schemas that every message of these kinds is checked against, on both sides.

import Type from 'typebox'

import { errorCodes } from '../errors.ts'
import { maxMembers } from './membership.ts'
import { holderPattern, maxNameLength, maxValueBytes, namePattern, titlePattern } from './names.ts'

/** Of these fields and no others: what has more is cleaned first (`wire.ts`). */
function object<P extends Type.TProperties>(properties: P) {
  return Type.Object(properties, { additionalProperties: false })
}

const whole = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const clusterId = Type.String({ pattern: '^[0-9a-f]{32}$' })
const peerId = Type.String({ minLength: 1, maxLength: 128 })
const name = Type.String({ pattern: namePattern, maxLength: maxNameLength })
const title = Type.String({ pattern: titlePattern })
const sentence = Type.String({ maxLength: 2_048 })
const errorCode = Type.Union(errorCodes.map((code) => Type.Literal(code)))

export const helloShape = object({ clusterId: Type.Optional(clusterId), id: name, boot: whole })

export const refusalShape = object({
  cause: Type.Union([Type.Literal('other-cluster'), Type.Literal('empty'), Type.Literal('stranger')]),
  reason: sentence,
})

export const forwardRefusedShape = object({
  attempt: whole,
  numbers: Type.Array(whole, { maxItems: 100_000 }),
  code: errorCode,
})

export const statusShape = object({
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
  digest: Type.Optional(object({ index: whole, digest: Type.String({ pattern: '^[0-9a-f]{32}$' }) })),
})

export const transferShape = object({ to: name })

const member = object({
  peer: peerId,
  id: name,
  http: sentence,
  p2p: sentence,
  voter: Type.Boolean(),
  since: whole,
  commandVersion: whole,
})

const configuration = object({ members: Type.Array(member, { minItems: 1, maxItems: maxMembers }) })

export const membersShape = object({ index: whole, members: configuration.properties.members })

const newcomer = object({ id: name, http: sentence, p2p: sentence, peer: peerId })

const wish = Type.Union([
  object({ type: Type.Literal('add'), newcomer }),
  object({ type: Type.Literal('remove'), id: name, force: Type.Boolean() }),
  object({ type: Type.Literal('replace'), replaces: name, newcomer, force: Type.Boolean() }),
])

const grant = object({
  store: name,
  access: Type.Union([Type.Literal('read'), Type.Literal('read-write')]),
  prefix: Type.Optional(Type.String({ maxLength: 4_096 })),
})

const holderId = Type.String({ pattern: holderPattern })

const principal = Type.Union([
  object({ type: Type.Literal('admin') }),
  object({ type: Type.Literal('monitor') }),
  object({
    type: Type.Literal('component'),
    grants: Type.Array(grant, { maxItems: 10_000 }),
    mint: Type.Optional(Type.Literal(true)),
  }),
  object({
    type: Type.Literal('app'),
    app: holderId,
    holder: object({
      type: Type.Union([Type.Literal('user'), Type.Literal('bot')]),
      id: holderId,
    }),
  }),
])

const store = object({
  name,
  ttl: Type.Optional(whole),
  maxValueBytes: Type.Optional(Type.Integer({ minimum: 1, maximum: maxValueBytes })),
})

const token = object({ name: title, hash: Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' }), principal })

const founding = object({
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
  object({ type: Type.Literal('whoAreYou') }),
  object({ type: Type.Literal('found'), founding }),
  object({ type: Type.Literal('begin'), clusterId }),
  object({
    type: Type.Literal('changeMembers'),
    wish,
    again: Type.Boolean(),
    timeoutMs: whole,
  }),
  object({ type: Type.Literal('drain') }),
  object({ type: Type.Literal('holdSnapshot') }),
  object({
    type: Type.Literal('sendChunk'),
    index: whole,
    after: Type.Optional(Type.String({ maxLength: 16_384 })),
  }),
])

export const answerShape = Type.Union([
  object({
    type: Type.Literal('identity'),
    id: name,
    clusterId: Type.Optional(clusterId),
    begun: Type.Boolean(),
    membership: Type.Optional(object({ founding, index: whole, configuration, boot: whole })),
  }),
  object({ type: Type.Literal('changed'), index: whole }),
  object({
    type: Type.Literal('snapshot'),
    index: whole,
    term: whole,
    configuration,
    digest: Type.String({ pattern: '^[0-9a-f]{32}$' }),
  }),
  object({
    type: Type.Literal('notChanged'),
    code: errorCode,
    detail: sentence,
    field: Type.Optional(
      Type.Union([Type.Literal('id'), Type.Literal('http'), Type.Literal('p2p'), Type.Literal('peer')]),
    ),
  }),
  object({ type: Type.Literal('done') }),
  object({ type: Type.Literal('refused'), reason: sentence }),
])
