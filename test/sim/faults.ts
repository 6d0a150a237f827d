// What may happen to a cluster, as a list: each fault does something if it is possible now, and says what.

import { TrivetError } from '../../src/errors.ts'
import type { Node } from '../../src/node/node.ts'
import type { Chance } from '../raft/chance.ts'
import { addressOf, type Cluster } from './cluster.ts'
import { flipLog, flipRow, loseBatch, misdirect } from './damage.ts'
import type { Machine } from './machine.ts'

export type Fault = {
  readonly name: string
  /** How often it comes, against the others. */
  readonly weight: number
  /** Does it, if it is possible now. Returns what was done, for the transcript. */
  readonly act: (cluster: Cluster, chance: Chance) => Promise<string | undefined> | string | undefined
}

export const faults: readonly Fault[] = [
  // ── the network ────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'weather', weight: 6, act: changeWeather },
  { name: 'stall', weight: 3, act: stall },
  { name: 'heal links', weight: 8, act: healLinks },
  { name: 'isolate', weight: 4, act: isolate },
  { name: 'split', weight: 2, act: split },
  { name: 'bridge', weight: 2, act: bridge },
  { name: 'one-way cut', weight: 4, act: cutOneWay },
  { name: 'break connection', weight: 4, act: breakConnection },
  { name: 'depose', weight: 5, act: depose },
  { name: 'usurp', weight: 4, act: usurp },
  { name: 'late answers', weight: 4, act: answerLate },
  { name: 'slow control lane', weight: 4, act: slowControl },
  // ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'crash', weight: 8, act: (cluster, chance) => lose(cluster, chance, 'process') },
  { name: 'power loss', weight: 8, act: (cluster, chance) => lose(cluster, chance, 'power') },
  { name: 'crash within a disk call', weight: 6, act: ambush },
  { name: 'crash of all', weight: 1, act: (cluster) => loseAll(cluster, 'process') },
  { name: 'power loss of all', weight: 2, act: (cluster) => loseAll(cluster, 'power') },
  { name: 'clean restart', weight: 3, act: restartCleanly },
  { name: 'freeze', weight: 4, act: freeze },
  { name: 'freeze in a round', weight: 5, act: freezeInRound },
  { name: 'transfer', weight: 5, act: transfer },
  { name: 'clock jump', weight: 2, act: jumpClock },
  // ── members ────────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'add member', weight: 5, act: addMember },
  { name: 'remove member', weight: 3, act: removeMember },
  { name: 'replace member', weight: 3, act: replaceMember },
  // ── disks ──────────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'slow disk', weight: 3, act: slowDisk },
  { name: 'hung disk', weight: 3, act: hangDisk },
  { name: 'failed sync', weight: 3, act: (cluster, chance) => failDisk(cluster, chance, 'sync') },
  { name: 'failed write', weight: 2, act: (cluster, chance) => failDisk(cluster, chance, 'write') },
  { name: 'full disk', weight: 2, act: fillDisk },
  { name: 'failed LevelDB', weight: 2, act: failLevel },
  // ── damage, of a minority ──────────────────────────────────────────────────────────────────────────────────────
  { name: 'bit flip in log', weight: 3, act: flipLog },
  { name: 'misdirected write', weight: 2, act: misdirect },
  { name: 'bit flip in LevelDB', weight: 2, act: flipRow },
  { name: 'lost LevelDB batch', weight: 2, act: loseBatch },
  { name: 'wiped disk', weight: 1, act: wipe },
]

// ── the network ──────────────────────────────────────────────────────────────────────────────────────────────────

function changeWeather({ network }: Cluster, chance: Chance): string {
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
function stall({ network, world }: Cluster, chance: Chance): string {
  const most = chance.pick([100, 400])
  const before = network.weather
  network.change({ delay: { least: 0, most } })
  world.after(8, () => network.change({ delay: before.delay ?? { least: 0, most: 1 } }))
  return `up to ${most} ms`
}

function healLinks({ network }: Cluster): string {
  network.heal()
  return ''
}

function isolate(cluster: Cluster, chance: Chance): string | undefined {
  const one = cluster.victim(chance)
  if (one === undefined || cluster.machines.length < 2) return undefined
  cluster.network.partition([one.peer], peersOf(cluster.machines.filter((other) => other !== one)))
  return one.id
}

function split(cluster: Cluster, chance: Chance): string | undefined {
  const { machines, network } = cluster
  if (machines.length < 3) return undefined
  const mixed = shuffled(machines, chance)
  const at = 1 + chance.below(machines.length - 1)
  const [left, right] = [mixed.slice(0, at), mixed.slice(at)]
  network.heal()
  network.partition(peersOf(left), peersOf(right))
  return `${idsOf(left)} | ${idsOf(right)}`
}

/** Two sides that hear each other only through one node between them. */
function bridge(cluster: Cluster, chance: Chance): string | undefined {
  const [between, ...rest] = shuffled(cluster.machines, chance)
  if (between === undefined || rest.length < 2) return undefined
  const at = 1 + chance.below(rest.length - 1)
  const [left, right] = [rest.slice(0, at), rest.slice(at)]
  cluster.network.heal()
  cluster.network.partition(peersOf(left), peersOf(right))
  return `${idsOf(left)} - ${between.id} - ${idsOf(right)}`
}

function cutOneWay(cluster: Cluster, chance: Chance): string | undefined {
  const [from, to] = shuffled(cluster.machines, chance)
  if (from === undefined || to === undefined) return undefined
  cluster.network.cutOneWay(from.peer, to.peer)
  return `${from.id} to ${to.id}`
}

function breakConnection(cluster: Cluster, chance: Chance): string | undefined {
  const [one, other] = shuffled(cluster.machines, chance)
  if (one === undefined || other === undefined) return undefined
  cluster.network.breakConnection(one.peer, other.peer)
  return `${one.id} from ${other.id}`
}

/** The leader is cut off and the others notice at once: they elect another while it still believes in itself. */
function depose(cluster: Cluster, chance: Chance): string | undefined {
  const { leader, network, world } = cluster
  if (leader === undefined || cluster.machines.length < 3) return undefined
  const others = cluster.machines.filter((machine) => machine !== leader)
  network.partition([leader.peer], peersOf(others))
  for (const other of others) network.breakConnection(leader.peer, other.peer)
  if (chance.happens(0.5)) world.after(chance.below(200), () => network.heal())
  return leader.id
}

/** A leader comes back from its isolation in the moment in which its successor goes. */
function usurp(cluster: Cluster, chance: Chance): string | undefined {
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
function answerLate(cluster: Cluster, chance: Chance): string | undefined {
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
function slowControl(cluster: Cluster, chance: Chance): string | undefined {
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

// ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────

async function lose(cluster: Cluster, chance: Chance, how: 'process' | 'power'): Promise<string | undefined> {
  const machine = cluster.victim(chance)
  if (machine === undefined) return undefined
  await cluster.crash(machine, how)
  return machine.id
}

/** The end comes while the disk is at work: in the first calls of a start, or in those of a write. */
function ambush(cluster: Cluster, chance: Chance): string | undefined {
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

async function loseAll(cluster: Cluster, how: 'process' | 'power'): Promise<string | undefined> {
  const { running, stoppable } = cluster
  if (stoppable.length < running.length || running.length === 0) return undefined
  for (const machine of running) await cluster.crash(machine, how)
  return idsOf(running)
}

function restartCleanly(cluster: Cluster, chance: Chance): string | undefined {
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
function freeze(cluster: Cluster, chance: Chance): string | undefined {
  const machine = cluster.victim(chance)
  if (machine === undefined) return undefined
  const { process } = machine
  const ms = chance.pick([30, 200, 1000, 3000])
  process.freeze()
  cluster.world.after(ms, () => process.thaw())
  return `${machine.id} for ${ms} ms`
}

/** The leader stands still with a round on its way, for so long that another is elected: the answers wait for it. */
function freezeInRound(cluster: Cluster, chance: Chance): string | undefined {
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

function transfer(cluster: Cluster, chance: Chance): string | undefined {
  const [through, to] = shuffled(cluster.running, chance)
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
function jumpClock(cluster: Cluster, chance: Chance): string {
  const size = chance.pick([1000, 60_000, 86_400_000, 10 * 365 * 86_400_000])
  const offset = chance.happens(0.3) ? 0 : chance.happens(0.5) ? size : -size
  const wrong = chance.happens(0.4) ? cluster.machines : [chance.pick(cluster.machines)]
  for (const machine of wrong) machine.clockOffset = offset
  return `${idsOf(wrong)} by ${offset} ms`
}

// ── members ──────────────────────────────────────────────────────────────────────────────────────────────────────

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
    (machine) => members.includes(machine.peer) && cluster.maySpare(machine),
  )
  return voters.length < 3 || sparable.length === 0 ? undefined : chance.pick(sparable)
}

/** Asks a node for a change, and leaves it at that: it may be refused, and its outcome may stay unknown. */
function change(
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

function addMember(cluster: Cluster, chance: Chance): string | undefined {
  const machine = newcomer(cluster, chance)
  if (machine === undefined) return undefined
  const asked = change(cluster, chance, (node, options) => node.addMember(addressOf(machine.id), options))
  return asked === undefined ? undefined : `${machine.id} ${asked}`
}

function removeMember(cluster: Cluster, chance: Chance): string | undefined {
  const machine = leaver(cluster, chance)
  if (machine === undefined) return undefined
  const asked = change(cluster, chance, (node, options) => node.removeMember(machine.id, options))
  return asked === undefined ? undefined : `${machine.id} ${asked}`
}

function replaceMember(cluster: Cluster, chance: Chance): string | undefined {
  const [old, young] = [leaver(cluster, chance), newcomer(cluster, chance)]
  if (old === undefined || young === undefined) return undefined
  const asked = change(cluster, chance, (node, options) =>
    node.addMember(addressOf(young.id), { ...options, replaces: old.id }),
  )
  return asked === undefined ? undefined : `${old.id} by ${young.id} ${asked}`
}

// ── disks ────────────────────────────────────────────────────────────────────────────────────────────────────────

function slowDisk(cluster: Cluster, chance: Chance): string {
  const machine = chance.pick(cluster.machines)
  machine.slowness = chance.pick([1, 10, 50, 200])
  return `${machine.id} ${machine.slowness}-fold`
}

function hangDisk(cluster: Cluster, chance: Chance): string | undefined {
  const machine = cluster.victim(chance)
  if (machine === undefined) return undefined
  const ms = chance.pick([100, 500, 1500, 4000])
  const release = machine.disk.hold(chance.pick(['write', 'write', 'syncDirectory']))
  cluster.world.after(ms, release)
  return `${machine.id} for ${ms} ms`
}

function failDisk(cluster: Cluster, chance: Chance, call: 'sync' | 'write'): string | undefined {
  const machine = cluster.victim(chance)
  if (machine === undefined || machine.harm !== undefined) return undefined
  machine.isTroubled = true
  machine.disk.fail({ call, code: 'EIO', path: '.wal', skip: chance.below(4) })
  return machine.id
}

/** There is next to no room for a while. */
function fillDisk(cluster: Cluster, chance: Chance): string | undefined {
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

function failLevel(cluster: Cluster, chance: Chance): string | undefined {
  const machine = cluster.victim(chance)
  const state = machine?.liveState?.state
  if (machine === undefined || state === undefined) return undefined
  machine.isTroubled = true
  const code = chance.pick<'ENOSPC' | 'EIO'>(['ENOSPC', 'EIO'])
  state.failWrite(1 + chance.below(4), code)
  return `${machine.id} with ${code}`
}

async function wipe(cluster: Cluster, chance: Chance): Promise<string | undefined> {
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

function peersOf(machines: readonly Machine[]): string[] {
  return machines.map(({ peer }) => peer)
}

function idsOf(machines: readonly Machine[]): string {
  return machines.map(({ id }) => id).join(' ')
}

function shuffled<T>(all: readonly T[], chance: Chance): T[] {
  const left = [...all]
  return all.flatMap(() => left.splice(chance.below(left.length), 1))
}
