// REST in front of every node of a town: what goes through one node is to be seen through every other.

import { type Api, type ApiOptions, createApi } from '../../src/api/server.ts'
import { Town, type TownOptions } from '../node/town.ts'
import { listeningLogger } from './client.ts'

export type Neighbourhood = AsyncDisposable & {
  readonly town: Town
  readonly apis: readonly Api[]
  /** The URL of the next node in turn. */
  readonly next: () => string
}

/** Starts a town with a server listening for each node. `api`: how each of them answers. */
export async function startNeighbourhood(
  options: TownOptions & { readonly api?: Partial<ApiOptions> },
): Promise<Neighbourhood> {
  const { api: settings, ...rest } = options
  const town = await Town.start(rest)
  const apis: Api[] = []
  const valueBytes = rest.founding?.valueBytes ?? 1024
  for (const id of town.ids) {
    const node = town.node(id)
    const limits = { keyBytes: 4096, valueBytes }
    const api = await createApi({ node, limits, logger: listeningLogger(), closeTimeout: 200, ...settings })
    await api.listen({ host: '127.0.0.1', port: 0 })
    apis.push(api)
  }
  let turn = 0
  return {
    town,
    apis,
    next: () => {
      const api = apis[turn++ % apis.length]
      if (api === undefined) throw new Error('a town has nodes')
      return api.address.url
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all(apis.map((api) => api.close()))
      await town[Symbol.asyncDispose]()
    },
  }
}
