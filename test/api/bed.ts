// A server over a node in memory that tests can make fail, and its tidy end.

import { onTestFinished } from 'vitest'
import { type Api, type ApiOptions, createApi } from '../../src/api/server.ts'
import type { AdminCommand, Command, Minted, Token } from '../../src/store/types.ts'
import { type Answered, type Asked, ask, listeningLogger, RawClient } from './client.ts'
import { founding, secrets } from './contract.ts'
import { hashOf, MemoryNode } from './memory-node.ts'

/** For `expect.poll`: a busy machine is no failure. */
export const patience = { timeout: 5000, interval: 5 } as const

export type Bed = {
  readonly node: MemoryNode
  readonly api: Api
  readonly logger: ReturnType<typeof listeningLogger>
  /** As the admin, unless told otherwise. */
  readonly as: (method: string, path: string, asked?: Asked) => Promise<Answered>
  readonly raw: () => Promise<RawClient>
}

/** Administers the node behind the back of everybody else, whose tokens may all be taken away. */
const operator: Token = { name: 'operator', hash: hashOf('operator'), principal: { type: 'admin' } }

type Administering = Command extends infer One
  ? One extends AdminCommand
    ? Omit<One, 'token' | 'once'>
    : never
  : never

async function administer(node: MemoryNode, command: Administering): Promise<void> {
  const outcome = await node.apply({ ...command, token: operator.hash })
  if (outcome.type === 'refused') throw new Error(`${command.type} was refused: ${outcome.code}`)
}

export function mint(node: MemoryNode, minted: Minted): Promise<void> {
  return administer(node, { type: 'mintToken', minted })
}

export function revoke(node: MemoryNode, name: string): Promise<void> {
  return administer(node, { type: 'revokeToken', name })
}

export function addStore(node: MemoryNode, name: string): Promise<void> {
  return administer(node, { type: 'createStore', definition: { name } })
}

/** Listens until the test has ended. */
export async function makeBed(options: Partial<ApiOptions> = {}): Promise<Bed> {
  const node = await MemoryNode.start({ ...founding, tokens: [...founding.tokens, operator] })
  const logger = listeningLogger()
  const limits = { keyBytes: 4096, valueBytes: founding.valueBytes }
  const api = await createApi({ node, limits, logger, closeTimeout: 200, ...options })
  await api.listen({ host: '127.0.0.1', port: 0 })
  const { url, port } = api.address
  onTestFinished(async () => {
    await api.close()
    await node.close()
  })
  return {
    node,
    api,
    logger,
    as: (method, path, asked) => ask(url, method, path, { token: secrets.admin, ...asked }),
    raw: async () => {
      const client = await RawClient.connect(port)
      onTestFinished(() => client.close())
      return client
    },
  }
}
