// Faults that meet: bursts of them in the order and at the moments in which they hurt most.

import type { Chance } from '../raft/chance.ts'
import type { Cluster } from './cluster.ts'
import { type Machine, peersOf } from './machine.ts'
import { addMember, removeMember, replaceMember } from './member-faults.ts'

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
  const forget = cluster.listen((from, { type }) => {
    if (from !== leader.peer || type !== 'heartbeat') return
    forget()
    if (cluster.isHealed) return
    world.after(0, () => process.freeze())
    world.after(ms, () => process.thaw())
  })
  return `${leader.id} for ${ms} ms`
}

/**
 * What the followers say takes longer and longer, each time by less than the leader's patience, so that it never doubts itself.
 * Then they hear no more of it and elect another, while what they said before goes on coming in.
 */
export async function creepingDelay(cluster: Cluster, chance: Chance): Promise<string | undefined> {
  const { leader, network, world, machines, electionMs } = cluster
  if (leader === undefined || machines.length < 3) return undefined
  network.heal()
  const others = machines.filter((machine) => machine !== leader)
  const steps = chance.pick([4, 5, 6])
  const more = 0.6 * electionMs
  for (let step = 1; step <= steps; step++) {
    world.after((step - 1) * electionMs, () => {
      if (cluster.isHealed || cluster.leader !== leader) return
      for (const other of others) network.slowDown(other.peer, leader.peer, step * more)
    })
  }
  const cutAt = (steps + 0.2 + chance.next() / 2) * electionMs
  world.after(cutAt, () => {
    if (cluster.isHealed || cluster.leader !== leader) return
    for (const other of others) network.cutOneWay(leader.peer, other.peer)
  })
  const end = cutAt + steps * more + chance.below(300)
  world.after(end, () => network.heal())
  await play(cluster, chance, end)
  return `to ${leader.id} by ${steps * more} ms in the end`
}

/**
 * A follower goes twice: the second time as the leader has just taken the first questions of its new start, and before a round
 * confirms them. The others acknowledge what they are sent, and hear of no round; so the answers to those questions find a node
 * that has been started again, asks again and lags.
 */
export async function restartInQuestion(cluster: Cluster, chance: Chance): Promise<string | undefined> {
  const { leader, network, world, machines, electionMs } = cluster
  const members = machines.filter((machine) => machine !== leader && machine.node?.inside !== undefined)
  if (leader === undefined || members.length < 2) return undefined
  const follower = chance.pick(members)
  const slow = electionMs * chance.pick([1, 2, 3])
  const again = () => {
    if (cluster.isHealed || !cluster.stoppable.includes(follower)) return false
    void follower.crash().then(() => {
      if (follower.mayStart) follower.start()
    })
    return true
  }
  if (!again()) return undefined
  network.heal()
  const forget = cluster.listen((from, { type, to }) => {
    if (from !== follower.peer || to !== leader.peer || type !== 'readIndex') return
    forget()
    for (const member of members) network.slowDown(leader.peer, member.peer, slow, 'control')
    // Long enough for a few questions: the numbers that the next start uses up before it knows a leader are behind them.
    world.after((0.1 + chance.next() / 2) * slow, () => {
      if (!again()) return
      network.slowDown(leader.peer, follower.peer, 3 * slow, 'bulk')
      network.slowDown(follower.peer, leader.peer, slow / 2, 'control')
    })
    world.after(4 * slow, () => network.heal())
  })
  world.after(1000, forget)
  await play(cluster, chance, 4 * slow + 200)
  return `${follower.id}, which asks ${leader.id}, by ${slow} ms`
}

/** Most scripts are played to their end before anything else comes. */
async function play(cluster: Cluster, chance: Chance, ms: number): Promise<void> {
  if (chance.happens(0.8)) await cluster.world.sleep(ms)
}

/**
 * A member stays away while all others are started anew, so that none remembers it and keeps the log that it lacks. As it comes
 * back it needs a snapshot, and ends again while that takes the place of its state.
 */
export async function endInInstall(cluster: Cluster, chance: Chance): Promise<string | undefined> {
  const { world, machines, network } = cluster
  const members = machines.filter((machine) => machine.node?.inside !== undefined)
  if (members.length < 3) return undefined
  const absent = chance.pick(members)
  if (!cluster.stoppable.includes(absent)) return undefined
  const how = chance.pick<'process' | 'power'>(['process', 'power'])
  const forget = cluster.hear((machine, sentence) => {
    if (machine !== absent || sentence !== 'the snapshot is whole and durable') return
    forget()
    machine.ambush(chance.below(24), () => {
      if (!cluster.isHealed && cluster.stoppable.includes(machine)) void cluster.crash(machine, how)
    })
  })
  const start = (machine: Machine) => {
    if (machine.mayStart) machine.start()
  }
  network.heal()
  await absent.crash()
  for (const machine of members) {
    if (machine === absent || cluster.isHealed || !cluster.stoppable.includes(machine)) continue
    await machine.crash()
    start(machine)
    await world.sleep(2 * cluster.electionMs)
  }
  await world.sleep(500 + chance.below(2000))
  start(absent)
  world.after(2000, forget)
  await play(cluster, chance, 500)
  return `${absent.id}, by ${how}`
}

/** Operators in a hurry: one change after another, each soon given up, while the followers acknowledge slowly. */
export async function hurriedChanges(cluster: Cluster, chance: Chance): Promise<string | undefined> {
  const { leader, network, world, machines, electionMs } = cluster
  if (leader === undefined) return undefined
  const slow = electionMs * (0.2 + chance.next() * 0.4)
  for (const other of machines) {
    if (other !== leader) network.slowDown(other.peer, leader.peer, slow)
  }
  const count = 2 + chance.below(4)
  for (let at = 0; at < count; at++) {
    world.after((at * slow) / 3, () => {
      if (cluster.isHealed) return
      const through = chance.happens(0.7) ? leader : undefined
      const ask = chance.pick([addMember, removeMember, replaceMember])
      const asked = ask(cluster, chance, { patience: slow / 4, through })
      if (asked !== undefined) world.transcript.write(`asks in a hurry: ${asked}`)
    })
  }
  world.after(slow * (count + 3), () => network.heal())
  await play(cluster, chance, slow * (count + 3))
  return `${count} through ${leader.id}, slow by ${Math.round(slow)} ms`
}
