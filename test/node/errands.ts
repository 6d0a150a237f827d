// What a client has a node do: change a key, read one.

import type { Executed, NodeSurface, WaitOptions } from '../../src/node/surface.ts'
import type { Condition, Item, Once } from '../../src/store/types.ts'

/** What a client wants done to a store. */
export type Change = {
  readonly key: string
  readonly conditions?: readonly Condition[]
  readonly once?: Once
} & (
  | { readonly type: 'set'; readonly value: string; readonly ttl?: number }
  | { readonly type: 'delete' }
  | { readonly type: 'increment'; readonly by: number }
  | { readonly type: 'touch'; readonly ttl: number }
)

/** Which store, and by whose right. */
export type Errand = { readonly token: string; readonly store: string }

/** Has a change decided through a node. */
export function changeThrough(
  node: NodeSurface,
  change: Change,
  options: Errand & WaitOptions,
): Promise<Executed> {
  const { token, store, ...wait } = options
  const { conditions = [], once } = change
  const repeat = once === undefined ? {} : { once }
  const where = { token, store, key: Buffer.from(change.key), conditions, ...repeat } as const
  switch (change.type) {
    case 'set': {
      const lasting = change.ttl === undefined ? {} : { ttl: change.ttl }
      const value = Buffer.from(change.value)
      return node.execute({ ...where, type: 'set', value, contentType: 'text/plain', ...lasting }, wait)
    }
    case 'delete':
      return node.execute({ ...where, type: 'delete' }, wait)
    case 'increment':
      return node.execute({ ...where, type: 'increment', delta: BigInt(change.by) }, wait)
    case 'touch':
      return node.execute({ ...where, type: 'touch', ttl: change.ttl }, wait)
    default:
      throw new Error(`unknown change ${change satisfies never}`)
  }
}

/** A linearizable read through a node. */
export async function readThrough(
  node: NodeSurface,
  key: string,
  { store, ...wait }: Omit<Errand, 'token'> & WaitOptions,
): Promise<Item | undefined> {
  await node.barrier(wait)
  return node.state.get(store, Buffer.from(key))
}
