// What runs within the page: the SDK as it is bundled, and the scenarios of every store.

import { connect } from '../../src/sdk/index.ts'
import { scenarios } from '../sdk/scenarios.ts'

export type Asked = {
  readonly endpoints: readonly string[]
  readonly token: string
  /** Which scenario. */
  readonly name: string
}

/** Rejects with what went wrong. */
async function run({ endpoints, token, name }: Asked): Promise<void> {
  const scenario = scenarios[name]
  if (scenario === undefined) throw new Error(`there is no scenario ${name}`)
  await using client = connect({ endpoints, token, timeout: '15s' })
  await using another = connect({ endpoints: endpoints.toReversed(), token, timeout: '15s' })
  const [store, other] = [await client.open('default'), await another.open('default')]
  await store.deleteRange({ all: true })
  await scenario({ store, other, transaction: () => client.transaction() })
}

Object.assign(globalThis, { run })

/** The part of a worker's global object that is used here; Node's types know none. */
type WorkerScope = {
  onmessage: (event: { readonly data: Asked }) => void
  postMessage: (outcome: string) => void
}

// In a worker it is asked by messages.
if (!('document' in globalThis)) {
  const scope = globalThis as unknown as WorkerScope
  scope.onmessage = ({ data }) => {
    run(data).then(
      () => scope.postMessage('done'),
      (error: unknown) => scope.postMessage(String(error)),
    )
  }
}
