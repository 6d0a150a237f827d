// Which of the node's figures Prometheus sees, and under which names. `docs/operating.md` says what to watch.

import type { NodeMetrics, NodeSurface, QueueLevel } from '../node/surface.ts'

/** What one scrape sees. */
type Seen = {
  readonly node: NodeSurface
  readonly metrics: NodeMetrics
  readonly server: ServerFigures
}

/** What the server tells of itself. */
export type ServerFigures = {
  /** Clients that are connected. */
  readonly connections: number
  readonly queues: readonly QueueLevel[]
}

type Reading = readonly [value: number, labels?: Readonly<Record<string, string>>]

export type Figure = {
  /** A counter only grows while the process lives. */
  readonly type: 'gauge' | 'counter'
  readonly name: string
  readonly help: string
  readonly labels?: readonly string[]
  readonly read: (seen: Seen) => readonly Reading[]
}

/** A part of the node that may not be there yet shows nothing. */
function raft(read: (raft: NonNullable<NodeMetrics['raft']>) => readonly Reading[]): Figure['read'] {
  return ({ metrics }) => (metrics.raft === undefined ? [] : read(metrics.raft))
}

function log(read: (log: NonNullable<NodeMetrics['log']>) => number): Figure['read'] {
  return ({ metrics }) => (metrics.log === undefined ? [] : [[read(metrics.log)]])
}

function network(read: (network: NodeMetrics['network']) => number): Figure['read'] {
  return ({ metrics }) => [[read(metrics.network)]]
}

function allQueues({ metrics, server }: Seen): readonly QueueLevel[] {
  return [...metrics.queues, ...server.queues]
}

function queueLabels({ queue, unit, peer = '' }: QueueLevel): Readonly<Record<string, string>> {
  return { queue, unit, peer }
}

export const figures: readonly Figure[] = [
  {
    type: 'gauge',
    name: 'trivet_info',
    help: 'Which node this is, and its version',
    labels: ['node', 'version'],
    read: ({ node }) => [[1, { node: node.id, version: node.version }]],
  },
  {
    type: 'gauge',
    name: 'trivet_ready',
    help: 'Whether the node serves, as /readyz tells',
    read: ({ node }) => [[Number(node.unreadiness().length === 0)]],
  },
  {
    type: 'gauge',
    name: 'trivet_revision',
    help: 'The revision of the state as applied here',
    read: ({ node }) => [[node.state.revision]],
  },
  {
    type: 'gauge',
    name: 'trivet_store_keys',
    help: 'Keys of each store',
    labels: ['store'],
    read: ({ node }) => node.state.stores().map(({ name, keys }) => [keys, { store: name }]),
  },
  {
    type: 'gauge',
    name: 'trivet_store_bytes',
    help: 'Keys and values of each store, in bytes',
    labels: ['store'],
    read: ({ node }) => node.state.stores().map(({ name, bytes }) => [bytes, { store: name }]),
  },
  {
    type: 'gauge',
    name: 'trivet_raft_role',
    help: '1 for the role that this node has',
    labels: ['role'],
    read: raft(({ role }) => [[1, { role }]]),
  },
  {
    type: 'gauge',
    name: 'trivet_raft_has_leader',
    help: 'Whether this node knows a leader',
    read: raft(({ hasLeader }) => [[Number(hasLeader)]]),
  },
  {
    type: 'gauge',
    name: 'trivet_raft_term',
    help: 'The current term',
    read: raft(({ term }) => [[term]]),
  },
  {
    type: 'gauge',
    name: 'trivet_raft_last_index',
    help: 'The last entry of the log here',
    read: raft(({ lastIndex }) => [[lastIndex]]),
  },
  {
    type: 'gauge',
    name: 'trivet_raft_commit_index',
    help: 'The last entry known here to be committed',
    read: raft(({ commitIndex }) => [[commitIndex]]),
  },
  {
    type: 'gauge',
    name: 'trivet_raft_applied_index',
    help: 'The last entry applied here',
    read: raft(({ lastApplied }) => [[lastApplied]]),
  },
  {
    type: 'gauge',
    name: 'trivet_raft_members',
    help: 'Members of the cluster, by kind',
    labels: ['kind'],
    read: raft(({ voters, learners }) => [
      [voters, { kind: 'voter' }],
      [learners, { kind: 'learner' }],
    ]),
  },
  {
    type: 'counter',
    name: 'trivet_raft_elections_total',
    help: 'Elections that this node has begun',
    read: raft(({ elections }) => [[elections]]),
  },
  {
    type: 'counter',
    name: 'trivet_raft_leader_changes_total',
    help: 'How often this node came to know another leader',
    read: raft(({ leaderChanges }) => [[leaderChanges]]),
  },
  {
    type: 'counter',
    name: 'trivet_wal_written_bytes_total',
    help: 'Appended to the log, in bytes',
    read: log(({ writtenBytes }) => writtenBytes),
  },
  {
    type: 'gauge',
    name: 'trivet_wal_retained_bytes',
    help: 'What the log holds, in bytes',
    read: log(({ retainedBytes }) => retainedBytes),
  },
  {
    type: 'gauge',
    name: 'trivet_wal_segments',
    help: 'Files of the log',
    read: log(({ segments }) => segments),
  },
  {
    type: 'counter',
    name: 'trivet_peer_sent_bytes_total',
    help: 'Sent to peers over libp2p, in bytes',
    read: network(({ sentBytes }) => sentBytes),
  },
  {
    type: 'counter',
    name: 'trivet_peer_received_bytes_total',
    help: 'Received from peers over libp2p, in bytes',
    read: network(({ receivedBytes }) => receivedBytes),
  },
  {
    type: 'counter',
    name: 'trivet_peer_dropped_messages_total',
    help: 'Messages not sent: the outbox was full, or nobody was connected',
    read: network(({ droppedMessages }) => droppedMessages),
  },
  {
    type: 'counter',
    name: 'trivet_peer_refused_connections_total',
    help: 'Connections of peers whose key is that of no member',
    read: network(({ refusedConnections }) => refusedConnections),
  },
  {
    type: 'counter',
    name: 'trivet_peer_refused_streams_total',
    help: 'Streams of peers ended for what came on them',
    read: network(({ refusedStreams }) => refusedStreams),
  },
  {
    type: 'gauge',
    name: 'trivet_peers_connected',
    help: 'Other members that are connected',
    read: network(({ connectedPeers }) => connectedPeers),
  },
  {
    type: 'counter',
    name: 'trivet_snapshot_sent_bytes_total',
    help: 'Of snapshots sent to members, in bytes',
    read: ({ metrics }) => [[metrics.snapshots.sentBytes]],
  },
  {
    type: 'counter',
    name: 'trivet_snapshot_received_bytes_total',
    help: 'Of snapshots received from members, in bytes',
    read: ({ metrics }) => [[metrics.snapshots.receivedBytes]],
  },
  {
    type: 'counter',
    name: 'trivet_snapshots_installed_total',
    help: 'Snapshots that took the place of the state',
    read: ({ metrics }) => [[metrics.snapshots.installed]],
  },
  {
    type: 'counter',
    name: 'trivet_repairs_total',
    help: 'Damage that was found, and is repaired, by what was damaged',
    labels: ['what'],
    read: ({ metrics }) => [
      [metrics.repairs.log, { what: 'log' }],
      [metrics.repairs.state, { what: 'state' }],
    ],
  },
  {
    type: 'gauge',
    name: 'trivet_disk_free_bytes',
    help: 'Free where the data directory lies, in bytes',
    read: ({ metrics }) => [[metrics.freeBytes]],
  },
  {
    type: 'gauge',
    name: 'trivet_queue_size',
    help: 'What waits, by queue',
    labels: ['queue', 'unit', 'peer'],
    read: (seen) => allQueues(seen).map((level) => [level.size, queueLabels(level)]),
  },
  {
    type: 'gauge',
    name: 'trivet_queue_bound',
    help: 'What may wait at most, by queue',
    labels: ['queue', 'unit', 'peer'],
    read: (seen) => allQueues(seen).map((level) => [level.bound, queueLabels(level)]),
  },
  {
    type: 'gauge',
    name: 'trivet_http_connections',
    help: 'Clients that are connected',
    read: ({ server }) => [[server.connections]],
  },
]
