// The schemas that serve and the shapes that the SDK reads are one: the compiler holds them together.

import type { Static } from 'typebox'
import { expectTypeOf, test } from 'vitest'
import type * as protocol from '../../src/api/protocol.ts'
import type * as schemas from '../../src/api/schemas.ts'
import type * as admin from '../../src/api/schemas-admin.ts'

/** What the schemas make, as it is read. */
type Frozen<Shape> = Shape extends object ? { readonly [Field in keyof Shape]: Frozen<Shape[Field]> } : Shape

test('every schema of an answer makes the shape of the protocol', () => {
  expectTypeOf<Frozen<Static<typeof schemas.Written>>>().toEqualTypeOf<protocol.Written>()
  expectTypeOf<Frozen<Static<typeof schemas.Deleted>>>().toEqualTypeOf<protocol.Deleted>()
  expectTypeOf<Frozen<Static<typeof schemas.Incremented>>>().toEqualTypeOf<protocol.Incremented>()
  expectTypeOf<Frozen<Static<typeof schemas.Touched>>>().toEqualTypeOf<protocol.Touched>()
  expectTypeOf<Frozen<Static<typeof schemas.RangeDeleted>>>().toEqualTypeOf<protocol.RangeDeleted>()
  expectTypeOf<Frozen<Static<typeof schemas.KeyPage>>>().toEqualTypeOf<protocol.KeyPage>()
  expectTypeOf<Frozen<Static<typeof schemas.StoreList>>>().toEqualTypeOf<protocol.StoreList>()
  expectTypeOf<Frozen<Static<typeof admin.Me>>>().toEqualTypeOf<protocol.Me>()
  expectTypeOf<Frozen<Static<typeof admin.TokenList>>>().toEqualTypeOf<protocol.TokenList>()
  expectTypeOf<Frozen<Static<typeof admin.Minted>>>().toEqualTypeOf<protocol.Minted>()
  expectTypeOf<Frozen<Static<typeof admin.Rotated>>>().toEqualTypeOf<protocol.Rotated>()
  expectTypeOf<Frozen<Static<typeof admin.AppList>>>().toEqualTypeOf<protocol.AppList>()
  expectTypeOf<
    Frozen<Static<typeof schemas.ClusterDescription>>
  >().toEqualTypeOf<protocol.ClusterDescription>()
  expectTypeOf<Frozen<Static<typeof schemas.Handover>>>().toEqualTypeOf<protocol.Handover>()
  expectTypeOf<Frozen<Static<typeof schemas.Health>>>().toEqualTypeOf<protocol.Health>()
  expectTypeOf<keyof Static<typeof schemas.Problem>>().toEqualTypeOf<keyof protocol.Problem>()
})
