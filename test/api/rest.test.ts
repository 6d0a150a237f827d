// The contract over the node in memory.

import { describeRest } from './contract.ts'
import { MemoryNode } from './memory-node.ts'

describeRest('a node in memory', async (founding) => {
  const node = await MemoryNode.start(founding)
  return { node, close: () => node.close() }
})
