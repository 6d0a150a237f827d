// What a client has a node do: change a key, read one.

import type { Executed, NodeSurface, WaitOptions } from '../../src/node/surface.ts'
import type { Condition, Item, Once, Operation, TransactionCondition } from '../../src/store/types.ts'

/** What a client wants done to a store. */
export type Change = (KeyChange | Several) & { readonly once?: Once }

type KeyChange = Step & { readonly conditions?: readonly Condition[] }

type Several = {
  readonly type: 'transaction'
  /** All of them at one moment, if the condition holds; else none. */
  readonly steps: readonly (Step | { readonly type: 'get'; readonly key: string })[]
  readonly when?: { readonly key: string; readonly condition: Condition }
}

type Step = { readonly key: string } & (
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
  const { once } = change
  const repeat = once === undefined ? {} : { once }
  if (change.type === 'transaction') {
    const { steps, when } = change
    return node.execute(
      {
        type: 'transaction',
        token,
        if: when === undefined ? [] : [conditionAt(store, when)],
        // biome-ignore lint/suspicious/noThenProperty: the contract's name for it; nothing awaits a command.
        then: steps.map((step) => operationAt(store, step)),
        else: [],
        ...repeat,
      },
      wait,
    )
  }
  const { conditions = [] } = change
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

function operationAt(store: string, step: Several['steps'][number]): Operation {
  const key = Buffer.from(step.key)
  switch (step.type) {
    case 'get':
    case 'delete':
      return { type: step.type, store, key }
    case 'set': {
      const lasting = step.ttl === undefined ? {} : { ttl: step.ttl }
      return {
        type: 'set',
        store,
        key,
        value: Buffer.from(step.value),
        contentType: 'text/plain',
        ...lasting,
      }
    }
    case 'increment':
      return { type: 'increment', store, key, delta: BigInt(step.by) }
    case 'touch':
      return { type: 'touch', store, key, ttl: step.ttl }
    default:
      throw new Error(`unknown step ${step satisfies never}`)
  }
}

function conditionAt(
  store: string,
  { key: name, condition }: NonNullable<Several['when']>,
): TransactionCondition {
  const key = Buffer.from(name)
  if (condition.type !== 'revision')
    return { type: 'exists', store, key, exists: condition.type === 'exists' }
  const [revision] = condition.revisions
  if (revision === undefined) throw new Error('a condition on a revision names one')
  return { type: 'revision', store, key, revision }
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
