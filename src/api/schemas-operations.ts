// The schemas of operations, for the document: what `operations.ts` reads one by one, and what comes of it.

import Type, { type TSchema } from 'typebox'
import { operationLimits } from './protocol.ts'
import { Incremented, KeyEntry, Problem, Touched, Written } from './schemas.ts'

const closed = { additionalProperties: false } as const

const Bytes = Type.String({ description: 'Base64; in MessagePack a byte string' })
const Ttl = Type.String({ description: 'A duration such as 30s, or none' })
const Delta = Type.Union([Type.Integer(), Type.String()], {
  description: 'Signed, 64 bits; beyond 2^53 decimal text, or in MessagePack such an integer',
})

const key = {
  store: Type.String({ description: 'The name of a store' }),
  key: Type.String({ minLength: 1, description: 'Up to 4,096 bytes of UTF-8' }),
}

const content = {
  value: Type.Optional(Bytes),
  text: Type.Optional(Type.String({ description: 'Stored as text/plain; charset=utf-8' })),
  json: Type.Optional(Type.Unknown({ description: 'Stored compact, as application/json' })),
  contentType: Type.Optional(Type.String()),
  ttl: Type.Optional(Ttl),
  expires: Type.Optional(
    Type.String({
      description: 'The moment at which it expires, in the place of a ttl: 2027-01-31T12:00:00.000Z',
    }),
  ),
}

/** What each operation has besides what it is done to. Of `value`, `text` and `json` a set has exactly one. */
const writes = {
  set: content,
  delete: {},
  increment: { delta: Type.Optional(Delta), ttl: Type.Optional(Ttl) },
  touch: { ttl: Ttl },
}

const batchOptions = {
  ifRevision: Type.Optional(Type.Integer({ minimum: 1, description: 'Only if the key is at this revision' })),
  ifAbsent: Type.Optional(Type.Boolean({ description: 'true: only if the key does not exist' })),
  seq: Type.Optional(Type.Integer({ minimum: 1, description: 'Its number in the session of the batch' })),
}

function operations(besides: Readonly<Record<string, TSchema>>): TSchema[] {
  const reads = (['get', 'head', 'exists'] as const).map((op) =>
    Type.Object({ op: Type.Literal(op), ...key }, closed),
  )
  const changes = Object.entries(writes).map(([op, fields]) =>
    Type.Object({ op: Type.Literal(op), ...key, ...fields, ...besides }, closed),
  )
  return [...reads, ...changes]
}

const maxItems = operationLimits.operations

export const BatchRequest = Type.Object(
  { operations: Type.Array(Type.Union(operations(batchOptions)), { maxItems }) },
  closed,
)

const DeletePrefix = Type.Object(
  { op: Type.Literal('deletePrefix'), store: key.store, prefix: Type.String({ minLength: 1 }) },
  closed,
)

const Condition = Type.Union([
  Type.Object({ ...key, revision: Type.Integer({ minimum: 0, description: '0: absent' }) }, closed),
  Type.Object({ ...key, exists: Type.Boolean() }, closed),
  Type.Object({ ...key, value: Bytes }, closed),
])

const branch = Type.Optional(Type.Array(Type.Union([...operations({}), DeletePrefix]), { maxItems }))

export const TransactionRequest = Type.Object(
  {
    if: Type.Optional(Type.Array(Condition, { maxItems })),
    // biome-ignore lint/suspicious/noThenProperty: the contract's name for it; a schema is never awaited.
    then: branch,
    else: branch,
  },
  closed,
)

const Found = Type.Object({
  found: Type.Boolean(),
  revision: Type.Optional(Type.Integer({ minimum: 1 })),
  value: Type.Optional(Bytes),
  contentType: Type.Optional(Type.String()),
  expires: Type.Optional(Type.String({ format: 'date-time' })),
})

const results = [
  Found,
  Type.Object({ exists: Type.Boolean() }),
  Written,
  Type.Object({
    revision: Type.Optional(Type.Integer()),
    deleted: Type.Union([Type.Boolean(), Type.Integer()]),
  }),
  Incremented,
  Type.Object({ value: Type.String({ description: 'Decimal text; in MessagePack an integer' }) }),
  Touched,
]

const status = Type.Object({
  status: Type.Integer({ description: 'What the operation would have been answered with alone' }),
  replayed: Type.Optional(Type.Literal(true, { description: 'It was decided before' })),
})

export const BatchAnswer = Type.Object({
  results: Type.Array(Type.Intersect([status, Type.Union([...results, Problem])])),
})

export const TransactionAnswer = Type.Object({
  succeeded: Type.Boolean({ description: 'Whether all of `if` held, and `then` was done' }),
  revision: Type.Integer({ minimum: 0 }),
  results: Type.Array(Type.Union(results)),
})

/** One line of a stream of keys. */
export const KeyLine = Type.Union([
  KeyEntry,
  Type.Object({ end: Type.Literal(true), revision: Type.Integer(), count: Type.Integer() }),
  Type.Object({ error: Problem }),
])
