// What disks do to the calls of a node: they are slow, hang, fail and fill up, and some come back empty.

import type { Chance } from '../raft/chance.ts'
import type { Cluster } from './cluster.ts'
import { idsOf } from './machine.ts'

export function slowDisk(cluster: Cluster, chance: Chance): string {
  const machine = chance.pick(cluster.machines)
  machine.slowness = chance.pick([1, 10, 50, 200])
  return `${machine.id} ${machine.slowness}-fold`
}

export function hangDisk(cluster: Cluster, chance: Chance): string | undefined {
  const machine = cluster.victim(chance)
  if (machine === undefined) return undefined
  const ms = chance.pick([100, 500, 1500, 4000])
  const release = machine.disk.hold(chance.pick(['write', 'write', 'syncDirectory']))
  cluster.world.after(ms, release)
  return `${machine.id} for ${ms} ms`
}

export function failDisk(cluster: Cluster, chance: Chance, call: 'sync' | 'write'): string | undefined {
  const machine = cluster.victim(chance)
  if (machine === undefined || machine.harm !== undefined) return undefined
  machine.isTroubled = true
  machine.disk.fail({ call, code: 'EIO', path: '.wal', skip: chance.below(4) })
  return machine.id
}

/** There is next to no room for a while. */
export function fillDisk(cluster: Cluster, chance: Chance): string | undefined {
  const machine = cluster.victim(chance)
  if (machine === undefined || machine.harm !== undefined) return undefined
  const { disk } = machine
  machine.isTroubled = true
  disk.capacity = disk.used + chance.below(4096)
  cluster.world.after(chance.pick([50, 500, 2000]), () => {
    disk.capacity = Number.POSITIVE_INFINITY
  })
  return machine.id
}

export function failLevel(cluster: Cluster, chance: Chance): string | undefined {
  const machine = cluster.victim(chance)
  const state = machine?.liveState?.state
  if (machine === undefined || state === undefined) return undefined
  machine.isTroubled = true
  const code = chance.pick<'ENOSPC' | 'EIO'>(['ENOSPC', 'EIO'])
  state.failWrite(1 + chance.below(4), code)
  return `${machine.id} with ${code}`
}

export async function wipe(cluster: Cluster, chance: Chance): Promise<string | undefined> {
  const machine = cluster.victim(chance)
  if (machine === undefined || !cluster.mayHarm(machine)) return undefined
  await machine.crash()
  await machine.format()
  cluster.harm(machine, 'lost log')
  cluster.startLater(machine)
  return machine.id
}

/**
 * All nodes that founded the cluster but one lose their disks, the first among them, while that one cannot be asked. No cluster can
 * come back from that, and none may be made up: see `Plan.isDoomed`.
 */
export async function wipeMost(cluster: Cluster): Promise<string | undefined> {
  const { founders, world } = cluster
  const spared = founders.findLast(({ harm }) => harm === undefined)
  if (spared === undefined) return undefined
  for (const machine of cluster.running) await machine.crash()
  const wiped = founders.filter((machine) => machine !== spared)
  for (const machine of wiped) {
    // Somebody may have started it while another's disk was being emptied.
    if (machine.isRunning) await machine.crash()
    await machine.format()
    cluster.harm(machine, 'lost log')
    cluster.startLater(machine)
  }
  world.after(1500, () => cluster.startLater(spared))
  return idsOf(wiped)
}
