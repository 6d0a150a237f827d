// A cluster of machines in the virtual world: what clients ask of it, what may happen to it, and who starts it again.

import { createHash } from 'node:crypto'
import type { Node } from '../../src/node/node.ts'
import type { NodeAddress, NodeSettings } from '../../src/node/settings.ts'
import type { Executed } from '../../src/node/surface.ts'
import type { Message } from '../../src/raft/types.ts'
import { StateDamagedError } from '../../src/store/record.ts'
import type { Item } from '../../src/store/types.ts'
import type { Served } from '../linear/clients.ts'
import type { History } from '../linear/history.ts'
import { type Change, changeThrough, readThrough } from '../node/errands.ts'
import { MemoryNetwork } from '../node/memory-network.ts'
import type { Chance } from '../raft/chance.ts'
import { Machine } from './machine.ts'
import { Observer } from './observer.ts'
import type { Plan } from './plan.ts'
import { Witness } from './witness.ts'
import type { World } from './world.ts'

const token = createHash('sha256').update('the secret of the simulation').digest('base64url')

/** Where a machine is found, and who it is. */
export function addressOf(id: string): NodeAddress {
  return { id, peer: `peer-${id}`, http: `http://${id}`, p2p: `/dns4/${id}/tcp/1` }
}

/** What no fault of a machine excuses: the program itself is wrong. */
const defects: ReadonlySet<string> = new Set([
  'InvariantError',
  'AssertionError',
  'TypeError',
  'RangeError',
  'ReferenceError',
  'SyntaxError',
])

/** Is told of a message of Raft as it leaves, by the peer id of its sender. */
type Listener = (from: string, message: Message) => void

/** Is told what a node says of itself in its log. */
type Hearer = (machine: Machine, sentence: string) => void

/** What nodes say of themselves that is worth counting. */
const happenings: ReadonlyMap<string, string> = new Map([
  ['a snapshot took the place of the state', 'installs'],
  [
    'the loss of the log is made up for: the cluster has demoted this node, which votes again once promoted',
    'logs rebuilt',
  ],
  ['the state was opened again', 'states opened again'],
])

export class Cluster implements Served {
  readonly world: World
  readonly network: MemoryNetwork
  readonly machines: readonly Machine[]
  readonly observer: Observer
  readonly witness: Witness
  readonly #chance: Chance
  readonly #founders: readonly string[]
  /** How often each thing happened. */
  readonly counts = new Map<string, number>()
  #isHealed = false
  /** Where each machine stood when it was harmed. */
  readonly #harmedAt = new Map<Machine, { readonly starts: number; readonly directory: object | undefined }>()
  readonly #listeners = new Set<Listener>()
  readonly #hearers = new Set<Hearer>()
  /** How long its nodes hear nothing of a leader before they elect another, at least. */
  readonly electionMs: number
  /** Changes of the members that are under way. */
  changes = 0
  /** Machines whose nodes were to be removed, as long as nobody knows what came of it. */
  readonly leaving = new Set<Machine>()

  /** `history`: what its clients do and see. */
  constructor(world: World, plan: Plan, history: History) {
    this.world = world
    this.#chance = world.chance()
    this.electionMs = plan.electionMs
    this.network = new MemoryNetwork({
      seed: this.#chance.below(2 ** 31),
      scheduler: { now: () => world.now, after: (ms, run) => world.after(ms, run) },
      delay: plan.delay,
      reconnectDelay: plan.reconnectDelay,
      tap: (from, to, message) => {
        this.observer.sent(from, message)
        if (message.type === 'raft') for (const listener of this.#listeners) listener(from, message.message)
        world.transcript.detail(() => `${from} → ${to} ${JSON.stringify(message)}`)
      },
    })
    const names = Array.from({ length: plan.nodes + plan.spares }, (_, at) => `n${at + 1}`)
    const founders = names.slice(0, plan.nodes)
    const stores = [{ name: 'default' }]
    const tokens = [{ name: 'admin', hash: token, principal: { type: 'admin' } }] as const
    const valueBytes = 4096
    const settingsOf = (id: string): Omit<NodeSettings, 'id'> => ({
      cluster: 'simulated',
      // A node that comes later has itself in its file, and the founders never heard of it.
      nodes: [...new Set([...founders, id])].map(addressOf),
      stores,
      tokens,
      valueBytes,
      heartbeatMs: plan.heartbeatMs,
      electionMs: plan.electionMs,
      foundWithout: [],
    })
    const onEnd = (machine: Machine, error: Error) => this.#ended(machine, error)
    this.#founders = founders
    const { network } = this
    const onSentence = (machine: Machine, sentence: string) => {
      if (/ is damaged( and |[:.])|^the log was lost/.test(sentence) && !machine.wasHarmed) {
        this.observer.accuse('damage is found only where there is some', `${machine.id}: ${sentence}`)
      }
      for (const hearer of this.#hearers) hearer(machine, sentence)
      const happening = happenings.get(sentence)
      if (happening !== undefined) this.count(happening)
    }
    this.machines = names.map(
      (id) => new Machine({ world, network, id, settings: settingsOf(id), onSentence, onEnd }),
    )
    const moment = () => history.events.length - 0.5
    const { transcript } = world
    this.witness = new Witness({ stores, tokens, valueBytes, moment })
    this.observer = new Observer(this.machines, { founders, transcript, witness: this.witness })
  }

  /** The nodes that clients may turn to: those that take part, while any does. */
  get ids(): readonly string[] {
    const partaking = this.running.filter(({ node }) => node?.inside !== undefined)
    return (partaking.length > 0 ? partaking : this.machines).map(({ id }) => id)
  }

  /** Those whose file names each other. */
  get founders(): readonly Machine[] {
    return this.machines.filter(({ id }) => this.#founders.includes(id))
  }

  get running(): readonly Machine[] {
    return this.machines.filter(({ isRunning }) => isRunning)
  }

  /** Members, by the newest configuration that is committed, that may be believed, or will be. */
  get sound(): readonly Machine[] {
    const members = new Set(this.observer.committedConfiguration.members)
    // When all faults are over, what can be repaired has to be.
    const isSound = ({ harm }: Machine) => harm === undefined || (this.#isHealed && harm !== 'lost log')
    return this.machines.filter((machine) => isSound(machine) && members.has(machine.peer))
  }

  /** Whether this one may be harmed: every configuration that may hold keeps a majority that never was. A founding waits for all. */
  mayHarm(harmed: Machine): boolean {
    this.#noteRepairs()
    if (
      harmed.harm !== undefined ||
      harmed.wasHarmed ||
      !this.observer.haveFoundersTakenPart ||
      this.changes > 0
    )
      return false
    return this.#keepsMajority((machine) => machine !== harmed)
  }

  /** Whether the sound ones of those for which `stays` are a majority of them, in every configuration that may hold. */
  #keepsMajority(
    stays: (machine: Machine) => boolean,
    isMember: (peer: string) => boolean = () => true,
  ): boolean {
    const isMajority = (peers: readonly string[]): boolean => {
      const counted = peers.filter(isMember)
      const sound = this.machines.filter(
        (machine) => machine.harm === undefined && stays(machine) && counted.includes(machine.peer),
      )
      return sound.length * 2 > counted.length
    }
    // A learner may be promoted before anybody notices its damage.
    return this.observer.possibleConfigurations.every(
      ({ voters, members }) => isMajority(voters) && isMajority(members),
    )
  }

  /** Whether the cluster can do without the vote of this one, and of those that may be leaving. */
  maySpare(machine: Machine): boolean {
    const gone = new Set([machine, ...this.leaving])
    const without = (some: ReadonlySet<Machine>) =>
      this.#keepsMajority(
        (other) => !some.has(other),
        (peer) => ![...some].some((other) => other.peer === peer),
      )
    return without(new Set([machine])) && without(gone)
  }

  /** Hears what nodes say until the returned function is called. */
  hear(hearer: Hearer): () => void {
    this.#hearers.add(hearer)
    return () => this.#hearers.delete(hearer)
  }

  /** Listens until the returned function is called. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  get leader(): Machine | undefined {
    return this.running.find(({ node }) => node?.status?.role === 'leader')
  }

  /** Those that run and may be stopped: not while a write that went astray could be taken for one never made. */
  get stoppable(): readonly Machine[] {
    return this.running.filter(({ disk }) => !disk.isAstray)
  }

  /** A machine drawn among those that may be stopped; rather the leader than one of the others. */
  victim(chance: Chance): Machine | undefined {
    const { stoppable, leader } = this
    if (stoppable.length === 0) return undefined
    const isOpen = leader !== undefined && !leader.disk.isAstray
    return isOpen && chance.happens(0.4) ? leader : chance.pick(stoppable)
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1)
  }

  /** No fault comes any more, not even one that began before. */
  get isHealed(): boolean {
    return this.#isHealed
  }

  /** Formats all disks and starts all nodes. */
  async begin(): Promise<void> {
    for (const machine of this.machines) {
      await machine.format()
      machine.start()
    }
  }

  /** Everything that is sound runs from now on, undisturbed. */
  async heal(): Promise<void> {
    this.#isHealed = true
    for (const machine of this.machines) {
      machine.slowness = 1
      machine.disk.heal()
      machine.disarm()
      for (const state of machine.states.values()) state.heal()
      machine.process.thaw()
    }
    this.network.heal()
    // Harm that nobody has noticed shows when the process was not stopped in order.
    const harmed = this.machines.filter(({ harm }) => harm === 'damaged log' || harm === 'state')
    for (const machine of harmed) if (machine.isRunning) await this.crash(machine, 'process')
    // All of them run before anything else is done to them.
    await this.world.sleep(1)
  }

  async crash(machine: Machine, how: 'process' | 'power'): Promise<void> {
    if (how === 'process') await machine.crash()
    else await machine.losePower()
    this.startLater(machine)
  }

  /**
   * What this machine has durable is not what it was. `how` it was harmed tells what its node may still be held to: damage it has
   * to notice, so it never comes back with less than it had; of a log that is gone it knows nothing; and a state that was harmed
   * leaves log and vote sound.
   */
  harm(machine: Machine, how: 'damaged log' | 'lost log' | 'state'): void {
    machine.harm = how
    machine.wasHarmed = true
    this.#harmedAt.set(machine, { starts: machine.starts, directory: machine.liveState?.directory })
    if (how === 'lost log') this.observer.excuse(machine)
  }

  /**
   * Who was harmed is whole again when a later start of it serves. A state of which only rows were changed may be closed and opened
   * without anybody looking at them, so that one counts once another has taken its place, or a stop that was none had it checked.
   */
  #noteRepairs(): void {
    for (const machine of this.machines) {
      const at = this.#harmedAt.get(machine)
      if (machine.harm === undefined || machine.harm === 'lost log' || at === undefined) continue
      // A write that goes astray harms when it comes, not when it was ordered.
      if (machine.disk.isAstray) this.#harmedAt.set(machine, { ...at, starts: machine.starts })
      const { node, liveState } = machine
      if (machine.disk.isAstray || node === undefined || node.unreadiness().length > 0) continue
      const isLater = machine.starts > at.starts
      const isReplaced = liveState?.directory !== at.directory
      const isWhole = machine.harm === 'state' ? isReplaced || (isLater && machine.isChecked) : isLater
      if (!isWhole) continue
      this.world.transcript.write(`${machine.id} is whole again`)
      machine.harm = undefined
    }
  }

  /** Somebody sees to it that the process runs again, after so many milliseconds at least. */
  startLater(machine: Machine, least = 0): void {
    const delay = least + (this.#chance.happens(0.5) ? this.#chance.below(50) : this.#chance.below(1500))
    this.world.after(this.#isHealed ? 0 : delay, () => {
      if (!machine.mayStart) return
      this.world.transcript.write(`${machine.id} starts`)
      machine.start()
    })
  }

  /** A process ended by itself: its supervisor starts it again, unless its data may not be used any more. */
  #ended(machine: Machine, error: Error): void {
    const { id, harm, isTroubled } = machine
    this.world.transcript.write(`${id} ends by itself: ${error.name}: ${error.message}`)
    const isDefect = defects.has(error.name)
    const isExcused = isTroubled || harm !== undefined
    if (isDefect || !isExcused) {
      this.observer.accuse('a node ends only for a reason', `${id}: ${error.stack ?? error.message}`)
      return
    }
    this.count('ends by itself')
    // Who has repaired itself within the hour waits for an operator.
    const isAlarm = error.message.startsWith('ALARM')
    if (isAlarm) this.count('alarms')
    void (isAlarm ? machine.crash() : this.crash(machine, 'process'))
  }

  node(id: string): Node {
    const { node } = this.#machine(id)
    if (node === undefined) throw new Error(`${id} does not run`)
    return node
  }

  change(id: string, change: Change, deadlineMs: number): Promise<Executed> {
    const deadline = this.world.now + deadlineMs
    const node = this.node(id)
    return this.#asked(id, () => changeThrough(node, change, { token, store: 'default', deadline }))
  }

  read(id: string, key: string, deadlineMs: number): Promise<Item | undefined> {
    const deadline = this.world.now + deadlineMs
    const node = this.node(id)
    return this.#asked(id, () => readThrough(node, key, { store: 'default', deadline }))
  }

  openSession(id: string, session: string, deadlineMs: number): Promise<Executed> {
    const deadline = this.world.now + deadlineMs
    const node = this.node(id)
    return this.#asked(id, () => node.execute({ type: 'openSession', token, session }, { deadline }))
  }

  /** What a machine that was harmed says of its damage is the last that it says. */
  #asked<T>(id: string, call: () => Promise<T>): Promise<T> {
    const machine = this.#machine(id)
    return machine.process.asked(call).catch((error: unknown) => {
      const isDamage = error instanceof StateDamagedError && machine.harm !== undefined
      throw isDamage ? new Error('the process has ended', { cause: error }) : error
    })
  }

  #machine(id: string): Machine {
    const machine = this.machines.find((one) => one.id === id)
    if (machine === undefined) throw new Error(`no machine ${id}`)
    return machine
  }
}
