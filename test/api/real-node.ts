// A real node for tests of what stands before it: real disk, LevelDB, consensus and libp2p, a cluster of one.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import { openNode } from '../../src/node/open.ts'
import { loadPeerKey } from '../../src/node/peer-key.ts'
import type { Found } from './contract.ts'

/** Resolves once it is ready; closing it removes its data. */
export const foundOne: Found = async ({ stores, tokens, valueBytes }) => {
  const data = await mkdtemp(join(tmpdir(), 'trivet-rest-'))
  const { peer } = await loadPeerKey(data)
  const listen = '/ip4/127.0.0.1/tcp/0'
  const node = await openNode({
    settings: {
      id: 'n1',
      cluster: 'rest',
      nodes: [{ id: 'n1', peer, http: 'http://127.0.0.1:1', p2p: '/ip4/127.0.0.1/tcp/1' }],
      stores,
      tokens,
      valueBytes,
      heartbeatMs: 100,
      electionMs: 1000,
      foundWithout: [],
    },
    data,
    listen,
    logger: pino({ level: 'silent' }),
    onFatal: (error) => {
      throw error
    },
  })
  const deadline = performance.now() + 10_000
  while (node.unreadiness().length > 0) {
    if (performance.now() > deadline) throw new Error(node.unreadiness().join(', '))
    await delay(2)
  }
  return {
    node,
    close: async () => {
      await node.stop()
      await rm(data, { recursive: true })
    },
  }
}
