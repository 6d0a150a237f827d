// The schemas of administration: stores, tokens and apps, and who one is.

import Type from 'typebox'
import { holderPattern, maxKeyBytes, maxNameLength, maxValueBytes, namePattern } from '../node/names.ts'

const closed = { additionalProperties: false } as const

const StoreName = Type.String({
  pattern: namePattern,
  maxLength: maxNameLength,
  description: 'Lower-case words joined by - or _',
})

/** Printable, begun and ended by something to see; `.` and `..` could not stand in a path. */
const TokenName = Type.String({
  pattern: '^(?!\\.{1,2}$)[!-~](?:[ -~]{0,61}[!-~])?$',
  description: 'What people call it: 1 to 63 printable characters',
})

const HolderId = Type.String({ pattern: holderPattern })

const Duration = Type.String({
  pattern: '^[0-9]{1,12}(?:ms|s|m|h|d)$',
  description: 'A whole number and one unit: `500ms`, `30s`, `15m`, `24h`, `7d`',
})

export const NewStore = Type.Object(
  {
    name: StoreName,
    ttl: Type.Optional(Duration),
    maxValueBytes: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: maxValueBytes,
        description: "The largest value it takes; at most the cluster's limit",
      }),
    ),
  },
  closed,
)

export const StoreCreated = Type.Object(
  { name: Type.String(), ttl: Type.Optional(Type.String()), maxValueBytes: Type.Integer() },
  { description: 'The store is there, empty' },
)

export const StoreDropped = Type.Object(
  { name: Type.String() },
  { description: 'The store is gone, with all its keys' },
)

const Grant = Type.Object({
  store: Type.String(),
  access: Type.Enum(['read', 'read-write']),
  prefix: Type.Optional(Type.String()),
})

const principalFields = {
  type: Type.Enum(['admin', 'monitor', 'component', 'app']),
  mint: Type.Optional(Type.Boolean({ description: 'Of a component: it may mint within its own grants' })),
  app: Type.Optional(Type.String({ description: 'Of an app: its id' })),
  holder: Type.Optional(
    Type.Object(
      { type: Type.Enum(['user', 'bot']), id: Type.String() },
      { description: 'Of an app: whose keys it opens, as the store `self`' },
    ),
  ),
}

const Expires = Type.String({ format: 'date-time', description: 'Absent when it does not expire' })

export const Me = Type.Object(
  {
    principal: Type.Object({ ...principalFields, name: Type.String() }),
    grants: Type.Array(Grant),
    expires: Type.Optional(Expires),
  },
  { description: 'Who the token speaks for. An admin needs no grants' },
)

export const TokenList = Type.Object(
  {
    tokens: Type.Array(
      Type.Object({
        name: Type.String(),
        principal: Type.Object(principalFields),
        grants: Type.Array(Grant),
        expires: Type.Optional(Expires),
        mintedBy: Type.Optional(Type.String({ description: "The component's token that minted it" })),
        replaced: Type.Optional(
          Type.Boolean({ description: 'A secret that a rotation has replaced, until it expires' }),
        ),
      }),
    ),
  },
  { description: 'The tokens, by name. To a component: those it has minted' },
)

/** Which fields go together is checked by the route, which can name the one that does not. */
export const NewToken = Type.Object(
  {
    name: TokenName,
    admin: Type.Optional(Type.Literal(true, { description: 'It may do everything' })),
    monitor: Type.Optional(
      Type.Literal(true, { description: 'It may see /metrics and /v1/cluster, nothing else' }),
    ),
    stores: Type.Optional(
      Type.Array(
        Type.Union([
          StoreName,
          Type.Object(
            {
              store: StoreName,
              access: Type.Optional(Type.Enum(['read', 'read-write'])),
              prefix: Type.Optional(
                Type.String({ maxLength: maxKeyBytes, description: 'Only keys that begin with this' }),
              ),
            },
            closed,
          ),
        ]),
        { minItems: 1, maxItems: 1000, description: 'The stores it may open; `read-write` unless told' },
      ),
    ),
    mint: Type.Optional(
      Type.Boolean({ description: 'With `stores`: it may mint and revoke tokens within its own grants' }),
    ),
    app: Type.Optional(HolderId),
    user: Type.Optional(HolderId),
    bot: Type.Optional(HolderId),
    ttl: Type.Optional(Duration),
    secret: Type.Optional(
      Type.String({
        pattern: '^[!-~]{20,1024}$',
        description: 'One that exists already, 20 visible ASCII characters or more; made unless given',
      }),
    ),
  },
  {
    ...closed,
    examples: [{ name: 'cart', stores: ['carts'], ttl: '90d' }],
    description:
      'One of `admin`, `monitor`, `stores` (with `mint`), or `app` with `user` or `bot`; each with `ttl` and `secret`',
  },
)

const Secret = Type.String({ description: 'Shown this once, and not to a write that is sent again' })

export const Minted = Type.Object(
  { name: Type.String(), secret: Type.Optional(Secret) },
  { description: 'The token is taken by every node from now on' },
)

export const NewRotation = Type.Object(
  { overlap: Type.Optional(Duration) },
  {
    ...closed,
    description: '`overlap`: for how long the secret before is taken too; not at all unless given',
  },
)

export const Rotated = Type.Object(
  {
    name: Type.String(),
    secret: Type.Optional(Secret),
    expires: Type.Optional(
      Type.String({ format: 'date-time', description: 'Until when the secret before is taken' }),
    ),
  },
  { description: 'The token has a new secret' },
)

export const TokenRevoked = Type.Object(
  { name: Type.String() },
  { description: 'No node takes it any more, and its open streams end' },
)

export const TokenParams = Type.Object({
  name: Type.String({ maxLength: 63, description: 'The name of a token' }),
})

export const AppParams = Type.Object({
  id: Type.String({ maxLength: 128, description: 'The id of an app' }),
})

export const AppList = Type.Object(
  {
    apps: Type.Array(
      Type.Object({
        id: Type.String(),
        keys: Type.Integer({ minimum: 0 }),
        bytes: Type.Integer({ minimum: 0, description: 'Of keys and values' }),
      }),
    ),
  },
  { description: 'The Mattermost apps that have tokens, by id' },
)

export const AppRemoved = Type.Object(
  { id: Type.String() },
  { description: 'The app is gone with the keys and tokens of all its users' },
)
