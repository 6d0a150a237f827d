// The shape of what a restore came to, as it is validated and documented.

import Type from 'typebox'

export const Restored = Type.Object({
  revision: Type.Integer({ minimum: 0 }),
  /** Of the backup: 32 hex digits. */
  digest: Type.String(),
})
