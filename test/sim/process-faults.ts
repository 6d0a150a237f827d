// What happens to processes: they are killed, lose their power, stand still, restart in order, and their clocks jump.

import { TrivetError } from '../../src/errors.ts'
import type { Chance } from '../raft/chance.ts'
import type { Cluster } from './cluster.ts'
import { idsOf } from './machine.ts'

export async function lose(
  cluster: Cluster,
  chance: Chance,
  how: 'process' | 'power',
): Promise<string | undefined> {
  const machine = cluster.victim(chance)
  if (machine === undefined) return undefined
  await cluster.crash(machine, how)
  return machine.id
}

/** The end comes while the disk is at work: in the first calls of a start, or in those of a write. */
export function ambush(cluster: Cluster, chance: Chance): string | undefined {
  const machine = cluster.victim(chance)
  if (machine === undefined) return undefined
  const how = chance.pick<'process' | 'power'>(['process', 'power'])
  const calls = chance.below(chance.pick([3, 30]))
  const end = () => {
    if (!cluster.isHealed && cluster.stoppable.includes(machine)) void cluster.crash(machine, how)
  }
  const lay = () => machine.ambush(calls, end)
  if (chance.happens(0.5)) lay()
  else {
    // The start that follows is what is disturbed.
    void cluster.crash(machine, how).then(() => {
      if (machine.mayStart) machine.start()
      lay()
    })
  }
  return `${machine.id} by ${how} after ${calls} calls`
}

export async function loseAll(cluster: Cluster, how: 'process' | 'power'): Promise<string | undefined> {
  const { running, stoppable } = cluster
  if (stoppable.length < running.length || running.length === 0) return undefined
  for (const machine of running) await cluster.crash(machine, how)
  return idsOf(running)
}

export function restartCleanly(cluster: Cluster, chance: Chance): string | undefined {
  const machine = cluster.victim(chance)
  const node = machine?.node
  if (machine === undefined || node === undefined) return undefined
  const { process } = machine
  const end = () => {
    if (process.isAlive) void cluster.crash(machine, 'process')
  }
  // However its stop comes out, the process ends then.
  process.asked(() => node.stop()).then(end, end)
  return machine.id
}

/** The process stands still and goes on as if nothing had been. */
export function freeze(cluster: Cluster, chance: Chance): string | undefined {
  const machine = cluster.victim(chance)
  if (machine === undefined) return undefined
  const { process } = machine
  const ms = chance.pick([30, 200, 1000, 3000])
  process.freeze()
  cluster.world.after(ms, () => process.thaw())
  return `${machine.id} for ${ms} ms`
}

export function transfer(cluster: Cluster, chance: Chance): string | undefined {
  const [through, to] = chance.shuffled(cluster.running)
  if (through?.node === undefined || to === undefined) return undefined
  const call = through.node.transferLeadership(to.id, { deadline: cluster.world.now + 100 })
  call.catch((error: unknown) => {
    // It may well be impossible just now.
    if (!(error instanceof TrivetError))
      cluster.observer.accuse('a transfer is refused in words', String(error))
  })
  return `to ${to.id} through ${through.id}`
}

/** The clock of one machine, or of all when it is their common source of time that errs. */
export function jumpClock(cluster: Cluster, chance: Chance): string {
  const size = chance.pick([1000, 60_000, 86_400_000, 10 * 365 * 86_400_000])
  const offset = chance.happens(0.3) ? 0 : chance.happens(0.5) ? size : -size
  const wrong = chance.happens(0.4) ? cluster.machines : [chance.pick(cluster.machines)]
  for (const machine of wrong) machine.clockOffset = offset
  return `${idsOf(wrong)} by ${offset} ms`
}
