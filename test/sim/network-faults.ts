// What a network does: delays, losses, partitions of every shape, connections that end.

import type { Chance } from '../raft/chance.ts'
import type { Cluster } from './cluster.ts'
import { idsOf, peersOf } from './machine.ts'

export function changeWeather({ network }: Cluster, chance: Chance): string {
  const weather = chance.happens(0.3)
    ? { delay: { least: 0, most: 1 }, loss: 0, duplication: 0 }
    : {
        delay: { least: 0, most: chance.pick([1, 5, 20, 60]) },
        loss: chance.pick([0, 0.05, 0.2]),
        duplication: chance.pick([0, 0.1, 0.3]),
      }
  network.change(weather)
  return JSON.stringify(weather)
}

/** What is sent in these milliseconds comes late, and what follows on the same stream after it. */
export function stall({ network, world }: Cluster, chance: Chance): string {
  const most = chance.pick([100, 400])
  const before = network.weather
  network.change({ delay: { least: 0, most } })
  world.after(8, () => network.change({ delay: before.delay ?? { least: 0, most: 1 } }))
  return `up to ${most} ms`
}

export function healLinks({ network }: Cluster): string {
  network.heal()
  return ''
}

export function isolate(cluster: Cluster, chance: Chance): string | undefined {
  const one = cluster.victim(chance)
  if (one === undefined || cluster.machines.length < 2) return undefined
  cluster.network.partition([one.peer], peersOf(cluster.machines.filter((other) => other !== one)))
  return one.id
}

export function split(cluster: Cluster, chance: Chance): string | undefined {
  const { machines, network } = cluster
  if (machines.length < 3) return undefined
  const mixed = chance.shuffled(machines)
  const at = 1 + chance.below(machines.length - 1)
  const [left, right] = [mixed.slice(0, at), mixed.slice(at)]
  network.heal()
  network.partition(peersOf(left), peersOf(right))
  return `${idsOf(left)} | ${idsOf(right)}`
}

/** Two sides that hear each other only through one node between them. */
export function bridge(cluster: Cluster, chance: Chance): string | undefined {
  const [between, ...rest] = chance.shuffled(cluster.machines)
  if (between === undefined || rest.length < 2) return undefined
  const at = 1 + chance.below(rest.length - 1)
  const [left, right] = [rest.slice(0, at), rest.slice(at)]
  cluster.network.heal()
  cluster.network.partition(peersOf(left), peersOf(right))
  return `${idsOf(left)} - ${between.id} - ${idsOf(right)}`
}

export function cutOneWay(cluster: Cluster, chance: Chance): string | undefined {
  const [from, to] = chance.shuffled(cluster.machines)
  if (from === undefined || to === undefined) return undefined
  cluster.network.cutOneWay(from.peer, to.peer)
  return `${from.id} to ${to.id}`
}

export function breakConnection(cluster: Cluster, chance: Chance): string | undefined {
  const [one, other] = chance.shuffled(cluster.machines)
  if (one === undefined || other === undefined) return undefined
  cluster.network.breakConnection(one.peer, other.peer)
  return `${one.id} from ${other.id}`
}
