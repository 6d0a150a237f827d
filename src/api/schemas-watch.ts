// The parameters of watching keys.

import Type from 'typebox'

/** How many prefixes and keys one stream may name. */
export const watchRanges = 64

/** A position in the order of all changes: `<revision>` or `<revision>.<n>`. */
export const positionPattern = '^(0|[1-9]\\d{0,15})(\\.[1-9]\\d{0,9})?$'

function repeated(description: string) {
  return Type.Optional(Type.Array(Type.String(), { maxItems: watchRanges, description }))
}

export const WatchQuery = Type.Object(
  {
    prefix: repeated('Only keys that begin with this; may be given several times'),
    key: repeated('Only this key; may be given several times'),
    from: Type.Optional(
      Type.String({
        pattern: positionPattern,
        description:
          'Begin after this position: the id of an event, or the revision of a read. Last-Event-ID wins over it',
      }),
    ),
    snapshot: Type.Optional(
      Type.Boolean({ description: 'Begin with every current key, as set events without an id' }),
    ),
    values: Type.Optional(Type.Boolean({ description: 'Events come with their values' })),
  },
  { additionalProperties: false },
)
