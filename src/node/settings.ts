// What an operator decides about a node, and what of it seeds the cluster: once, when it is founded.

import { randomBytes } from 'node:crypto'
import type { Member, MemberId } from '../raft/types.ts'
import { commandVersion } from '../store/commands.ts'
import type { Founding, StateReader, StoreDefinition, Token } from '../store/types.ts'
import type { ClusterConfig, NodeConfig } from './config.ts'

/** One node of the configuration file. */
export type NodeAddress = {
  readonly id: string
  readonly peer: MemberId
  readonly http: string
  readonly p2p: string
}

/** What an operator decides. */
export type NodeSettings = {
  readonly id: string
  /** The cluster's name. */
  readonly cluster: string
  /** All nodes of the file, in its order. */
  readonly nodes: readonly NodeAddress[]
  /** Seeds of the cluster, used once, when it is founded. */
  readonly stores: readonly StoreDefinition[]
  readonly tokens: readonly Token[]
  readonly valueBytes: number
  readonly heartbeatMs: number
  readonly electionMs: number
  /** Nodes of the file to found the cluster without. */
  readonly foundWithout: readonly string[]
}

/** What the file says of the node with this id. Throws an operator's sentence where it has no such node. */
export function settingsOf(
  config: ClusterConfig,
  { id, foundWithout }: { readonly id: string; readonly foundWithout: readonly string[] },
): { readonly own: NodeConfig; readonly settings: NodeSettings } {
  const own = config.nodes.find((node) => node.id === id)
  const ids = config.nodes.map((node) => node.id)
  if (own === undefined) throw new Error(`${config.path} has no node ${id}; its nodes are ${ids.join(', ')}.`)
  for (const absent of foundWithout) {
    if (absent === id)
      throw new Error(`The cluster cannot be founded without ${absent}: that is this very node.`)
    if (!ids.includes(absent)) {
      throw new Error(
        `The cluster cannot be founded without ${absent}: ${config.path} has no such node; its nodes are ${ids.join(', ')}.`,
      )
    }
  }
  const settings = {
    id,
    cluster: config.cluster,
    nodes: config.nodes.map(({ id, peer, http, p2p }) => ({ id, peer, http, p2p })),
    stores: config.stores,
    tokens: config.tokens,
    valueBytes: config.limits.valueBytes,
    heartbeatMs: config.raft.heartbeat,
    electionMs: config.raft.election,
    foundWithout,
  }
  return { own, settings }
}

/** A new founding, for the nodes of the file with these ids. `now`: milliseconds since the epoch; the cluster id is random unless given. */
export function composeFounding(
  settings: NodeSettings,
  ids: readonly string[],
  { now, clusterId }: { readonly now: number; readonly clusterId?: string | undefined },
): Founding {
  const { nodes, cluster, stores, tokens, valueBytes } = settings
  return {
    clusterId: clusterId ?? randomBytes(16).toString('hex'),
    name: cluster,
    configuration: {
      members: nodes
        .filter((node) => ids.includes(node.id))
        .map(({ id, peer, http, p2p }) => ({ id, peer, http, p2p, voter: true, since: 0, commandVersion })),
    },
    stores,
    tokens,
    valueBytes,
    foundedAt: now,
    commandVersion,
  }
}

/** Which parts of the file are not what the cluster's own state says. That state is the truth. */
export function differences(
  { nodes, stores, tokens, foundWithout }: NodeSettings,
  members: readonly Member[],
  state: StateReader,
): readonly string[] {
  const differs: string[] = []
  const known = new Map(members.map((member) => [member.id, member]))
  // Whoever was left out on purpose is no news.
  const expected = nodes.filter((node) => known.has(node.id) || !foundWithout.includes(node.id))
  const sameNodes =
    expected.length === members.length && expected.every((node) => known.get(node.id)?.peer === node.peer)
  if (!sameNodes) differs.push('nodes')
  const names = new Set(state.stores().map((store) => store.name))
  // Stores come and go at run time; only one that the file promises and nobody can open is news.
  if (stores.some((store) => !names.has(store.name))) differs.push('stores')
  if (tokens.some((token) => state.token(token.hash) === undefined)) differs.push('tokens')
  return differs
}
