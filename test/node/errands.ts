// What a client has a node do: change a key, read one.

import type { Executed, NodeSurface, WaitOptions } from '../../src/node/surface.ts'
import type { Condition, Item, Once } from '../../src/store/types.ts'

/** What a client wants done to a store. */
export type Change = {
  readonly key: string
  readonly conditions?: readonly Condition[]
  readonly once?: Once
} & ({ readonly type: 'set'; readonly value: string } | { readonly type: 'delete' })

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
  return node.execute(
    change.type === 'set'
      ? { ...where, type: 'set', value: Buffer.from(change.value), contentType: 'text/plain' }
      : { ...where, type: 'delete' },
    wait,
  )
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
