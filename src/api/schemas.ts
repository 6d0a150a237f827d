// The schemas of what comes in and goes out: they validate, they serialize, and `/openapi.json` is made of them.

import Type from 'typebox'
import { pageLimits } from './protocol.ts'

const Revision = Type.Integer({ minimum: 1, description: 'Strictly increasing with every write command' })

/** The largest number JavaScript counts exactly to. */
const maxRevision = Number.MAX_SAFE_INTEGER

export const StoreParams = Type.Object({ store: Type.String({ description: 'The name of a store' }) })

/** The parameters of every read. */
const readParameters = {
  consistency: Type.Optional(
    Type.Enum(['linearizable', 'stale'], {
      description:
        'linearizable (the default) reflects every write acknowledged before; stale answers from this node alone, even without a leader',
    }),
  ),
  minRevision: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: maxRevision,
      description: 'Wait until this node has applied that revision',
    }),
  ),
}

const closed = { additionalProperties: false } as const

export const ReadQuery = Type.Object(readParameters, closed)

export const NoQuery = Type.Object({}, closed)

const Ttl = Type.String({
  description: 'A duration such as 500ms, 30s, 15m, 24h or 7d, from 1ms to 3650d; or none',
})

/** Of a set: without a `ttl` the store's default holds. */
export const SetQuery = Type.Object({ ttl: Type.Optional(Ttl) }, closed)

export const TouchQuery = Type.Object({ ttl: Ttl }, closed)

export const IncrementRequest = Type.Object(
  {
    delta: Type.Optional(
      Type.Union(
        [
          Type.Integer({ minimum: Number.MIN_SAFE_INTEGER, maximum: maxRevision }),
          Type.String({ pattern: '^(0|-?[1-9][0-9]{0,18})$' }),
        ],
        { description: 'What to add, 1 unless given; beyond 2^53 as decimal text. Signed, 64 bits' },
      ),
    ),
    ttl: Type.Optional(Ttl),
  },
  closed,
)

export const RangeQuery = Type.Object(
  {
    prefix: Type.Optional(Type.String({ description: 'All keys that begin with this' })),
    all: Type.Optional(Type.Boolean({ description: 'true, and no prefix: all keys of the store' })),
  },
  closed,
)

export const ListQuery = Type.Object(
  {
    prefix: Type.Optional(Type.String({ description: 'Only keys that begin with this' })),
    start: Type.Optional(Type.String({ description: 'Only keys from this one on, by bytes' })),
    end: Type.Optional(Type.String({ description: 'Only keys before this one, by bytes' })),
    reverse: Type.Optional(Type.Boolean({ description: 'From the last key to the first' })),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: pageLimits.keys,
        description: `How many keys at most; ${pageLimits.defaultKeys} unless given. Pages are bounded by bytes too`,
      }),
    ),
    cursor: Type.Optional(Type.String({ description: 'From the page before, with the same query' })),
    values: Type.Optional(Type.Boolean({ description: 'With the value of each key, in base64' })),
    ...readParameters,
  },
  closed,
)

export const Written = Type.Object(
  { revision: Revision, created: Type.Boolean(), changed: Type.Boolean() },
  { description: 'Stored. `changed` is false when the same bytes and type stood there' },
)

export const Deleted = Type.Object(
  { revision: Revision, deleted: Type.Boolean() },
  { description: 'Absent now. `deleted` tells whether it was there' },
)

export const Incremented = Type.Object(
  { value: Type.String({ description: 'Decimal text' }), revision: Revision },
  { description: 'The sum' },
)

export const Touched = Type.Object(
  { expires: Type.Optional(Type.String({ format: 'date-time' })) },
  { description: 'Until when the key lasts; for ever, without `expires`' },
)

export const RangeDeleted = Type.Object(
  { revision: Revision, deleted: Type.Integer({ minimum: 0 }) },
  { description: 'How many keys are gone' },
)

export const Session = Type.Object(
  { session: Type.String({ description: 'Its id, for the header Trivet-Session' }) },
  { description: 'Opened. It ends when it was not used for ten minutes' },
)

const Timestamp = Type.String({ format: 'date-time' })

export const KeyEntry = Type.Object({
  key: Type.String(),
  revision: Revision,
  size: Type.Integer({ minimum: 0, description: 'Of the value, in bytes' }),
  contentType: Type.String(),
  expires: Type.Optional(Timestamp),
  value: Type.Optional(Type.String({ description: 'Base64; only with values=true' })),
})

export const KeyPage = Type.Object(
  {
    keys: Type.Array(KeyEntry),
    cursor: Type.Optional(Type.String({ description: 'Asks for the next page; absent on the last one' })),
    revision: Type.Integer({ minimum: 0, description: 'Of the state this page is consistent with' }),
  },
  { description: 'One page of keys in the order of their bytes' },
)

export const StoreDescription = Type.Object(
  {
    name: Type.String(),
    ttl: Type.Optional(Type.String({ description: 'Default time to live, a duration' })),
    maxValueBytes: Type.Integer(),
    keys: Type.Optional(Type.Integer({ description: 'Only for admins and grants of the whole store' })),
    bytes: Type.Optional(Type.Integer({ description: 'Of keys and values; shown to the same' })),
  },
  { description: 'A store' },
)

export const StoreList = Type.Object(
  { stores: Type.Array(StoreDescription) },
  { description: 'The stores this token may open' },
)

const Count = Type.Integer({ minimum: 0 })

export const ClusterDescription = Type.Object(
  {
    cluster: Type.String(),
    id: Type.String(),
    leader: Type.Optional(Type.String()),
    term: Count,
    revision: Count,
    members: Type.Array(
      Type.Object({
        id: Type.String(),
        role: Type.Enum(['follower', 'preCandidate', 'candidate', 'leader', 'learner', 'unknown']),
        voter: Type.Boolean(),
        http: Type.String(),
        p2p: Type.String(),
        peer: Type.String(),
        version: Type.Optional(Type.String()),
        term: Type.Optional(Count),
        commitIndex: Type.Optional(Count),
        lastApplied: Type.Optional(Count),
        lag: Type.Optional(Count),
        digest: Type.Optional(Type.Object({ index: Count, digest: Type.String() })),
        healthy: Type.Boolean(),
        alarms: Type.Array(Type.String()),
        self: Type.Boolean(),
      }),
    ),
  },
  { description: 'The cluster as this node sees it' },
)

export const ForceQuery = Type.Object(
  {
    force: Type.Optional(
      Type.Boolean({ description: 'Also when the voters left are not known to make a quorum' }),
    ),
  },
  closed,
)

export const MemberParams = Type.Object({ id: Type.String({ description: 'The id of a member' }) })

export const NewMember = Type.Object(
  {
    id: Type.String({ minLength: 1, description: 'What people call it: `n4`' }),
    http: Type.String({ minLength: 1, description: 'Where clients reach it: `http://10.0.0.4:7001`' }),
    p2p: Type.String({
      minLength: 1,
      description: 'Where peers reach it, a multiaddr: `/ip4/10.0.0.4/tcp/7101`',
    }),
    peer: Type.String({
      pattern: '^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$',
      description: 'Its peer id, as `trivet keygen` prints it',
    }),
    replaces: Type.Optional(
      Type.String({ minLength: 1, description: 'The id of a member that goes in the same change' }),
    ),
  },
  closed,
)

export const MemberAdded = Type.Object(
  { id: Type.String(), peer: Type.String() },
  { description: 'It is a learner now, and votes once it has caught up' },
)

export const MemberRemoved = Type.Object({ id: Type.String() }, { description: 'It is a member no more' })

export const HandoverRequest = Type.Object(
  { to: Type.String({ minLength: 1, description: 'The id of the member that is to lead' }) },
  closed,
)

export const Handover = Type.Object({ leader: Type.String() }, { description: 'Leadership was handed over' })

export const Health = Type.Object({ status: Type.Literal('ok') }, { description: 'It is' })

export const MetricsText = Type.String({ description: 'Prometheus text, version 0.0.4' })

export const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    code: Type.String(),
    retryable: Type.Boolean(),
    field: Type.Optional(Type.String()),
    limit: Type.Optional(Type.Number()),
    actual: Type.Optional(Type.Number()),
    index: Type.Optional(Type.Integer()),
    revision: Type.Optional(Type.Integer()),
    reasons: Type.Optional(Type.Array(Type.String())),
  },
  { description: 'A refusal or failure' },
)
