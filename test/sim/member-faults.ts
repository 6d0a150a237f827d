// What operators do to the membership, at any time and without looking.

import { TrivetError } from '../../src/errors.ts'
import type { Node } from '../../src/node/node.ts'
import type { Chance } from '../raft/chance.ts'
import { addressOf, type Cluster } from './cluster.ts'
import type { Machine } from './machine.ts'

/** A machine that never was a member. */
export function newcomer({ machines, observer }: Cluster, chance: Chance): Machine | undefined {
  const known = new Set(observer.possibleConfigurations.flatMap(({ members }) => members))
  const fresh = machines.filter(
    ({ peer, node }) => !known.has(peer) && node?.inside === undefined && node !== undefined,
  )
  return fresh.length === 0 ? undefined : chance.pick(fresh)
}

/** A member that could go. */
export function leaver(cluster: Cluster, chance: Chance): Machine | undefined {
  const { members, voters } = cluster.observer.committedConfiguration
  const sparable = cluster.machines.filter(
    (machine) => members.includes(machine.peer) && cluster.maySpare(machine),
  )
  return voters.length < 3 || sparable.length === 0 ? undefined : chance.pick(sparable)
}

/** Asks a node for a change, and leaves it at that: it may be refused, and its outcome may stay unknown. */
export function change(
  cluster: Cluster,
  chance: Chance,
  wish: (node: Node, options: { readonly deadline: number }) => Promise<void>,
): string | undefined {
  const asked = cluster.running.filter(({ node }) => node?.inside !== undefined)
  if (asked.length === 0) return undefined
  const through = chance.pick(asked)
  if (through.node === undefined) return undefined
  const { node } = through
  const options = { deadline: cluster.world.now + 2000 }
  cluster.changes += 1
  const over = (error?: unknown) => {
    cluster.changes -= 1
    if (error === undefined) cluster.count('member changes done')
    else if (!(error instanceof TrivetError) && through.process.isAlive) {
      cluster.observer.accuse('a change of members is refused in words', String(error))
    }
  }
  through.process.asked(() => wish(node, options)).then(() => over(), over)
  return `through ${through.id}`
}

export function addMember(cluster: Cluster, chance: Chance): string | undefined {
  const machine = newcomer(cluster, chance)
  if (machine === undefined) return undefined
  const asked = change(cluster, chance, (node, options) => node.addMember(addressOf(machine.id), options))
  return asked === undefined ? undefined : `${machine.id} ${asked}`
}

export function removeMember(cluster: Cluster, chance: Chance): string | undefined {
  const machine = leaver(cluster, chance)
  if (machine === undefined) return undefined
  const asked = change(cluster, chance, (node, options) => node.removeMember(machine.id, options))
  return asked === undefined ? undefined : `${machine.id} ${asked}`
}

export function replaceMember(cluster: Cluster, chance: Chance): string | undefined {
  const [old, young] = [leaver(cluster, chance), newcomer(cluster, chance)]
  if (old === undefined || young === undefined) return undefined
  const asked = change(cluster, chance, (node, options) =>
    node.addMember(addressOf(young.id), { ...options, replaces: old.id }),
  )
  return asked === undefined ? undefined : `${old.id} by ${young.id} ${asked}`
}
