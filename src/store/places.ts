// What a principal means by the name of a store: the one answer for apply and for every reader.

import type { Holder, Principal } from './types.ts'

/** The store that an app's token opens. */
export const ownStore = 'self'

/** Part of an app's store: the keys of one holder. Readers and writers see keys without `prefix`. */
type AppPlace = { readonly app: string; readonly prefix: Uint8Array }

/** Where keys lie: in the store of this name, or in a part of an app's. */
export type Place = string | AppPlace

/** What this principal means by a store's name. Whether it may open it is for `permits` to say. */
export function placeOf(principal: Principal, store: string): Place {
  if (principal.type !== 'app' || store !== ownStore) return store
  return { app: principal.app, prefix: prefixOf(principal.holder) }
}

const holderTypes = { user: 0x75, bot: 0x62 } as const

/** No holder's prefix is the beginning of another's: the length of the id stands before it. */
function prefixOf({ type, id }: Holder): Buffer {
  const name = Buffer.from(id)
  return Buffer.concat([Buffer.of(holderTypes[type], name.length >> 8, name.length & 255), name])
}

/** As people know it. */
export function nameOf(place: Place): string {
  return typeof place === 'string' ? place : ownStore
}
