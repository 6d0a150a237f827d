// What operators do to the membership, at any time and without looking.

import { TrivetError } from '../../src/errors.ts'
import type { Node } from '../../src/node/node.ts'
import type { Chance } from '../raft/chance.ts'
import { addressOf, type Cluster } from './cluster.ts'
import type { Machine } from './machine.ts'

/** A machine that never was a member. */
function newcomer({ machines, observer }: Cluster, chance: Chance): Machine | undefined {
  const known = new Set(observer.possibleConfigurations.flatMap(({ members }) => members))
  const fresh = machines.filter(
    ({ peer, node }) => !known.has(peer) && node?.inside === undefined && node !== undefined,
  )
  return fresh.length === 0 ? undefined : chance.pick(fresh)
}

/** A member that could go. */
function leaver(cluster: Cluster, chance: Chance): Machine | undefined {
  const { members, voters } = cluster.observer.committedConfiguration
  const sparable = cluster.machines.filter(
    (machine) => members.includes(machine.peer) && !cluster.leaving.has(machine) && cluster.maySpare(machine),
  )
  return voters.length - cluster.leaving.size < 3 || sparable.length === 0 ? undefined : chance.pick(sparable)
}

/** How long operators wait for a change, in milliseconds, unless they are in a hurry. */
const patienceMs = 2000

type Wish = (node: Node, options: { readonly deadline: number }) => Promise<void>

type Way = {
  readonly patience: number
  /** The node that is asked; any, unless given. */
  readonly through?: Machine | undefined
  /** Who is to go. */
  readonly leaver?: Machine | undefined
}

/** Asks a node for a change, and leaves it at that: it may be refused, and its outcome may stay unknown. */
function change(cluster: Cluster, chance: Chance, wish: Wish, way: Way): string | undefined {
  const { world, leaving } = cluster
  const asked = cluster.running.filter(({ node }) => node?.inside !== undefined)
  if (asked.length === 0) return undefined
  const through = way.through !== undefined && asked.includes(way.through) ? way.through : chance.pick(asked)
  if (through.node === undefined) return undefined
  const { node } = through
  const { patience, leaver: gone } = way
  cluster.changes += 1
  if (gone !== undefined) leaving.add(gone)
  const over = () => {
    cluster.changes -= 1
    if (gone !== undefined) leaving.delete(gone)
  }
  const failed = (error: unknown) => {
    // Whoever was asked may still be about to do it.
    world.after(patienceMs, over)
    if (!(error instanceof TrivetError) && through.process.isAlive)
      cluster.observer.accuse('a change of members is refused in words', String(error))
  }
  const done = () => {
    over()
    cluster.count('member changes done')
  }
  const deadline = world.now + patience
  through.process.asked(() => wish(node, { deadline })).then(done, failed)
  return `through ${through.id}`
}

export function addMember(
  cluster: Cluster,
  chance: Chance,
  way: Way = { patience: patienceMs },
): string | undefined {
  const machine = newcomer(cluster, chance)
  if (machine === undefined) return undefined
  const address = addressOf(machine.id)
  const asked = change(cluster, chance, (node, options) => node.addMember(address, options), way)
  return asked === undefined ? undefined : `${machine.id} ${asked}`
}

export function removeMember(
  cluster: Cluster,
  chance: Chance,
  way: Way = { patience: patienceMs },
): string | undefined {
  const machine = leaver(cluster, chance)
  if (machine === undefined) return undefined
  const wish: Wish = (node, options) => node.removeMember(machine.id, options)
  const asked = change(cluster, chance, wish, { ...way, leaver: machine })
  return asked === undefined ? undefined : `${machine.id} ${asked}`
}

export function replaceMember(
  cluster: Cluster,
  chance: Chance,
  way: Way = { patience: patienceMs },
): string | undefined {
  const [old, young] = [leaver(cluster, chance), newcomer(cluster, chance)]
  if (old === undefined || young === undefined) return undefined
  const address = addressOf(young.id)
  const wish: Wish = (node, options) => node.addMember(address, { ...options, replaces: old.id })
  const asked = change(cluster, chance, wish, { ...way, leaver: old })
  return asked === undefined ? undefined : `${old.id} by ${young.id} ${asked}`
}
