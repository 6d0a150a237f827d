// Faults that meet: bursts of them in the order and at the moments in which they hurt most.

import type { Chance } from '../raft/chance.ts'
import type { Cluster } from './cluster.ts'
import { peersOf } from './machine.ts'

/** The leader is cut off and the others notice at once: they elect another while it still believes in itself. */
export function depose(cluster: Cluster, chance: Chance): string | undefined {
  const { leader, network, world } = cluster
  if (leader === undefined || cluster.machines.length < 3) return undefined
  const others = cluster.machines.filter((machine) => machine !== leader)
  network.partition([leader.peer], peersOf(others))
  for (const other of others) network.breakConnection(leader.peer, other.peer)
  if (chance.happens(0.5)) world.after(chance.below(200), () => network.heal())
  return leader.id
}

/** A leader comes back from its isolation in the moment in which its successor goes. */
export function usurp(cluster: Cluster, chance: Chance): string | undefined {
  const { leader, network, world, machines } = cluster
  if (leader === undefined || machines.length < 3) return undefined
  const others = machines.filter((machine) => machine !== leader)
  network.partition([leader.peer], peersOf(others))
  for (const other of others) network.breakConnection(leader.peer, other.peer)
  world.after(60 + chance.below(400), () => {
    if (cluster.isHealed) return
    const successor = others.find(({ node }) => node?.status?.role === 'leader')
    network.heal()
    if (successor === undefined || !cluster.stoppable.includes(successor)) return
    if (chance.happens(0.5)) void cluster.crash(successor, chance.pick(['process', 'power']))
    else network.partition([successor.peer], peersOf(machines.filter((machine) => machine !== successor)))
  })
  return leader.id
}

/** What the followers have said reaches the leader when they follow it no more. */
export function answerLate(cluster: Cluster, chance: Chance): string | undefined {
  const { leader, network, world, machines } = cluster
  if (leader === undefined || machines.length < 3) return undefined
  const others = machines.filter((machine) => machine !== leader)
  const late = chance.pick([100, 250, 500])
  for (const other of others) network.slowDown(other.peer, leader.peer, late)
  world.after(5 + chance.below(60), () => {
    if (cluster.isHealed) return
    for (const other of others) network.cutOneWay(leader.peer, other.peer)
  })
  world.after(late * 2 + chance.below(500), () => network.heal())
  return `to ${leader.id} by ${late} ms`
}

/** Answers to heartbeats are slow and acknowledgements are not; meanwhile a follower is started anew. */
export function slowControl(cluster: Cluster, chance: Chance): string | undefined {
  const { leader, network, world, machines } = cluster
  if (leader === undefined || machines.length < 3) return undefined
  const others = machines.filter((machine) => machine !== leader)
  const slow = chance.pick([50, 100, 300])
  for (const other of others) network.slowDown(other.peer, leader.peer, slow, 'control')
  world.after(slow * 3 + chance.below(500), () => network.heal())
  const follower = chance.pick(others)
  world.after(slow + chance.below(50), () => {
    if (cluster.isHealed || !cluster.stoppable.includes(follower)) return
    void follower.crash().then(() => {
      if (follower.mayStart) follower.start()
    })
  })
  return `to ${leader.id} by ${slow} ms, and ${follower.id} starts anew`
}

/** The leader stands still with a round on its way, for so long that another is elected: the answers wait for it. */
export function freezeInRound(cluster: Cluster, chance: Chance): string | undefined {
  const { leader, world } = cluster
  if (leader === undefined) return undefined
  const { process } = leader
  const ms = chance.pick([250, 500, 800])
  cluster.onHeartbeat = (from) => {
    if (from !== leader.peer || cluster.isHealed) return
    cluster.onHeartbeat = undefined
    world.after(0, () => process.freeze())
    world.after(ms, () => process.thaw())
  }
  return `${leader.id} for ${ms} ms`
}
