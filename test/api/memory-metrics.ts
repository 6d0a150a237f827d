// The figures of a node in memory: it leads, has appended three times, and holds something in one queue.

import type { NodeMetrics } from '../../src/node/surface.ts'

export const memoryMetrics: NodeMetrics = {
  raft: {
    role: 'leader',
    hasLeader: true,
    term: 3,
    lastIndex: 12,
    commitIndex: 11,
    lastApplied: 10,
    elections: 1,
    leaderChanges: 2,
    voters: 3,
    learners: 1,
  },
  log: {
    appends: { bounds: [0.5, 10], counts: [1, 2], count: 3, sum: 1040 },
    writtenBytes: 4096,
    retainedBytes: 2048,
    segments: 2,
  },
  network: {
    sentBytes: 100,
    receivedBytes: 200,
    droppedMessages: 1,
    refusedConnections: 2,
    refusedStreams: 3,
    connectedPeers: 2,
  },
  snapshots: { sentBytes: 5, receivedBytes: 6, installed: 7 },
  repairs: { log: 0, state: 1 },
  queues: [
    { queue: 'proposals', unit: 'bytes', size: 17, bound: 33_554_432 },
    { queue: 'outbox bulk', peer: 'n2', unit: 'bytes', size: 9, bound: 16_777_216 },
  ],
  freeBytes: 1_000_000,
}
