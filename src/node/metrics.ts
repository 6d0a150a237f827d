// What a node tells of itself for metrics: its parts' own figures in one snapshot, and what happened to its role.

import type { RaftStatus } from '../raft/raft.ts'
import type { Member, MemberId } from '../raft/types.ts'
import { laneBounds } from './lanes.ts'
import type { Replica } from './replica.ts'
import type { StateKeeper } from './state-keeper.ts'
import type { Storage } from './storage.ts'
import type { NodeMetrics, QueueLevel } from './surface.ts'
import type { Transport, TransportCounters } from './transport.ts'

/** Counts elections and leaders from the changes of a replica's status. */
export class RoleMeter {
  #elections = 0
  #leaderChanges = 0
  #role: RaftStatus['role'] = 'follower'
  /** The last one known. */
  #leader: MemberId | undefined

  follow({ role, leader }: RaftStatus): void {
    const isStanding = role === 'preCandidate' || role === 'candidate'
    const stood = this.#role === 'preCandidate' || this.#role === 'candidate'
    // Where this replica is the only voter, it leads in the same step.
    const wonAtOnce = role === 'leader' && this.#role === 'follower'
    if ((isStanding && !stood) || wonAtOnce) this.#elections += 1
    this.#role = role
    if (leader === undefined || leader === this.#leader) return
    this.#leaderChanges += 1
    this.#leader = leader
  }

  get counts(): { readonly elections: number; readonly leaderChanges: number } {
    return { elections: this.#elections, leaderChanges: this.#leaderChanges }
  }
}

/** All figures of a node at this moment. What it does not have yet, or not any more, is missing. */
export function gatherMetrics(parts: {
  readonly transport: Transport
  readonly storage: Storage
  readonly replica: Replica | undefined
  readonly keeper: StateKeeper | undefined
  readonly members: readonly Member[]
  readonly roles: RoleMeter
  readonly watched: { readonly queues: readonly QueueLevel[] }
  readonly freeBytes: number
  readonly name: (peer: MemberId) => string
}): NodeMetrics {
  const { transport, storage, replica, keeper, members, roles, watched, freeBytes, name } = parts
  const { outboxes, ...counters } = transport.counters()
  const repairs = storage.recentRepairs
  return {
    raft: replica === undefined ? undefined : { ...raftFigures(replica, members), ...roles.counts },
    log: logFigures(storage),
    network: {
      ...counters,
      connectedPeers: members.filter(({ peer }) => transport.isConnected(peer)).length,
    },
    snapshots: keeper?.snapshots ?? { sentBytes: 0, receivedBytes: 0, installed: 0 },
    repairs: {
      log: repairs.filter(({ what }) => what === 'log').length,
      state: repairs.filter(({ what }) => what === 'state').length,
    },
    queues: [
      ...(replica?.queues ?? []),
      ...watched.queues,
      ...outboxes.map((outbox) => outboxLevel(outbox, name)),
    ],
    freeBytes,
  }
}

function raftFigures(replica: Replica, members: readonly Member[]) {
  const { role, leader, term, lastIndex, commitIndex, appliedIndex } = replica.status
  const voters = members.filter(({ voter }) => voter).length
  return {
    role,
    hasLeader: leader !== undefined,
    term,
    lastIndex,
    commitIndex,
    lastApplied: appliedIndex,
    voters,
    learners: members.length - voters,
  }
}

function logFigures(storage: Storage): NodeMetrics['log'] {
  const wal = (storage.opened ?? storage.stateless)?.wal
  if (wal === undefined) return undefined
  const { durations, bytes, segments } = wal.counters()
  return {
    appends: durations,
    writtenBytes: bytes,
    retainedBytes: wal.bytesAfter(wal.base.index),
    segments,
  }
}

function outboxLevel(
  { peer, lane, bytes }: TransportCounters['outboxes'][number],
  name: (peer: MemberId) => string,
): QueueLevel {
  return {
    queue: `outbox ${lane}`,
    peer: name(peer),
    unit: 'bytes',
    size: bytes,
    bound: laneBounds[lane].outboxBytes,
  }
}
