// What may happen to a cluster in a walk: each action does something if it is possible now.

import { assert } from '../../src/raft/assert.ts'
import type { Configuration, Member, MemberId } from '../../src/raft/types.ts'
import type { Chance } from './chance.ts'
import type { Ensemble } from './ensemble.ts'
import type { Seat } from './seat.ts'

export type Action = {
  readonly name: string
  readonly weight: number
  /** Does it if it is possible now. Returns what was done, for the trace. */
  readonly act: () => string | undefined
}

/** What a walk came across, so that a test can tell that it looked into the corners. */
export type Sights = {
  leaders: number
  committed: number
  readsAnswered: number
  crashes: number
  fetches: number
  truncations: number
  transfers: number
  compactions: number
  installs: number
  changes: number
  statesLost: number
  logsLost: number
  /** Members that lost their log and may answer for themselves again. */
  rebuilt: number
  /** Election timeouts from the healing to everything committed everywhere. */
  recovery: number
}

export class Mischief {
  readonly #ensemble: Ensemble
  readonly #chance: Chance
  readonly #sights: Sights
  /** Whether somebody will read what was done. */
  readonly #traced: boolean
  /** How often a message overtakes those sent before it. */
  readonly #disorder: number

  constructor(ensemble: Ensemble, options: { chance: Chance; sights: Sights; traced: boolean }) {
    this.#ensemble = ensemble
    this.#chance = options.chance
    this.#sights = options.sights
    this.#traced = options.traced
    this.#disorder = options.chance.pick([0, 0.1, 0.1, 0.5])
  }

  /** Everything that may happen, with how often it does. */
  actions(): readonly Action[] {
    return [
      { name: 'deliver', weight: 40, act: () => this.#deliver() },
      { name: 'run through', weight: 2, act: () => this.#runThrough() },
      {
        name: 'lose',
        weight: 2,
        act: () => this.#onLink((from, to, at) => this.#ensemble.lose(from, to, at)),
      },
      {
        name: 'repeat',
        weight: 1,
        act: () => this.#onLink((from, to, at) => this.#ensemble.network.duplicate(from, to, at)),
      },
      { name: 'tick', weight: 12, act: () => this.#onSeat((seat) => this.#ensemble.tick(seat.id)) },
      { name: 'tick all', weight: 3, act: () => this.#tickAll() },
      { name: 'finish', weight: 25, act: () => this.#finish() },
      { name: 'propose', weight: 8, act: () => this.#propose() },
      { name: 'read', weight: 4, act: () => this.#read() },
      { name: 'transfer', weight: 1.5, act: () => this.#transfer() },
      { name: 'disconnect', weight: 1, act: () => this.#disconnect() },
      { name: 'hear', weight: 0.3, act: () => this.#hear() },
      { name: 'live', weight: 2.5, act: () => this.#live() },
      { name: 'kill', weight: 0.6, act: () => this.#kill() },
      { name: 'cut', weight: 1, act: () => this.#cut() },
      { name: 'part', weight: 0.5, act: () => this.#part() },
      { name: 'slow', weight: 1.5, act: () => this.#slow() },
      { name: 'hang', weight: 0.5, act: () => this.#hang() },
      { name: 'heal', weight: 1, act: () => this.#heal() },
      { name: 'crash', weight: 1, act: () => this.#crash() },
      { name: 'restart', weight: 3, act: () => this.#restart() },
      { name: 'compact', weight: 1.5, act: () => this.#compact() },
      { name: 'lose state', weight: 0.4, act: () => this.#loseState() },
      { name: 'lose log', weight: 0.4, act: () => this.#loseLog() },
      { name: 'change', weight: 1.5, act: () => this.#change() },
      { name: 'mend', weight: 3, act: () => this.#mend() },
    ]
  }

  #onSeat(act: (seat: Seat) => void): string | undefined {
    const seat = this.#ensemble.seat(this.#chance.pick(this.#ensemble.members))
    if (seat.raft === undefined) return undefined
    act(seat)
    return seat.id
  }

  /** A message under way, mostly the oldest of a link: connections keep the order, their successors do not. */
  #onLink(act: (from: MemberId, to: MemberId, at: number) => void): string | undefined {
    const { members } = this.#ensemble
    if (members.length < 2) return undefined
    const offset = this.#chance.below(members.length * (members.length - 1))
    const size = members.length * (members.length - 1)
    for (let step = 0; step < size; step++) {
      const number = (offset + step) % size
      const from = members[Math.floor(number / (members.length - 1))]
      const to = members.filter((member) => member !== from)[number % (members.length - 1)]
      assert(from !== undefined && to !== undefined, 'links join members')
      const messages = this.#ensemble.network.underWay(from, to)
      if (messages.length === 0 || !this.#ensemble.network.isOpen(from, to)) continue
      const at = !this.#chance.happens(this.#disorder) ? 0 : this.#chance.below(messages.length)
      const what = messages[at]
      act(from, to, at)
      return this.#traced ? `${from}→${to} ${JSON.stringify(what)}` : ''
    }
    return undefined
  }

  #deliver(): string | undefined {
    return this.#onLink((from, to, at) => this.#ensemble.deliver(from, to, at))
  }

  /** A whole stretch of progress for one pair, or for all. */
  #runThrough(): string {
    if (this.#chance.happens(0.3)) {
      this.#ensemble.settle()
      return 'everything'
    }
    const count = this.#chance.below(20)
    for (let step = 0; step < count; step++) {
      this.#deliver()
      this.#finish()
    }
    return `${count}`
  }

  #tickAll(): string {
    for (const id of this.#ensemble.members) if (this.#ensemble.isUp(id)) this.#ensemble.tick(id)
    return ''
  }

  #finish(): string | undefined {
    const seat = this.#ensemble.seat(this.#chance.pick(this.#ensemble.members))
    if (seat.saving !== undefined && this.#chance.happens(0.7)) {
      this.#ensemble.finishSave(seat.id)
      return `save ${seat.id}`
    }
    if (seat.applying !== undefined && this.#chance.happens(0.7)) {
      this.#ensemble.finishApply(seat.id)
      return `apply ${seat.id}`
    }
    if (seat.installing !== undefined && this.#chance.happens(0.7)) {
      this.#ensemble.finishInstall(seat.id)
      return `install ${seat.id}`
    }
    if (this.#chance.happens(0.3) && this.#ensemble.serveSnapshot(seat.id)) return `snapshot for ${seat.id}`
    if (seat.fetching.length === 0) return undefined
    this.#ensemble.finishFetch(seat.id)
    return `fetch ${seat.id}`
  }

  #propose(): string | undefined {
    const leaders = this.#ensemble.members.filter((id) => this.#ensemble.seat(id).raft?.role === 'leader')
    if (leaders.length === 0) return undefined
    const id = this.#chance.pick(leaders)
    const size = this.#chance.pick([0, 1, 10, 40, 150])
    const proposed = this.#ensemble.propose(id, new Uint8Array(size))
    return `${id} ${JSON.stringify(proposed)}`
  }

  /** Mostly at somebody who thinks to lead: an old leader is who might answer too soon. */
  #read(): string | undefined {
    const leaders = this.#ensemble.members.filter((id) => this.#ensemble.seat(id).raft?.role === 'leader')
    if (leaders.length === 0 || this.#chance.happens(0.4))
      return this.#onSeat((seat) => void this.#ensemble.read(seat.id))
    const id = this.#chance.pick(leaders)
    return `${id} ${this.#ensemble.read(id)}`
  }

  #transfer(): string | undefined {
    const leader = this.#ensemble.leader()
    if (leader === undefined) return undefined
    const to = this.#chance.pick(this.#ensemble.members)
    if (this.#ensemble.transfer(leader, to)) this.#sights.transfers++
    return `${leader} to ${to}`
  }

  #disconnect(): string | undefined {
    return this.#onSeat((seat) => {
      const others = this.#ensemble.members.filter((id) => id !== seat.id)
      if (others.length === 0) return
      // Mostly the leader's connection, at everybody: that is what a killed process looks like.
      const leader = seat.raft?.leader
      const peer =
        leader !== undefined && leader !== seat.id && this.#chance.happens(0.7)
          ? leader
          : this.#chance.pick(others)
      const why = { byUs: this.#chance.happens(0.1) }
      this.#ensemble.disconnect(seat.id, peer, why)
      if (!this.#chance.happens(0.5)) return
      for (const other of others) if (other !== peer) this.#ensemble.disconnect(other, peer, why)
    })
  }

  #hear(): string | undefined {
    return this.#onSeat((seat) => {
      const peer = this.#chance.pick(this.#ensemble.members)
      if (peer !== seat.id) this.#ensemble.heard(seat.id, peer)
    })
  }

  #cut(): string {
    const from = this.#chance.pick(this.#ensemble.members)
    const to = this.#chance.pick(this.#ensemble.members)
    if (from === to) this.#ensemble.network.isolate(from)
    else {
      this.#ensemble.network.cut(from, to)
      if (this.#chance.happens(0.5)) this.#ensemble.network.cut(to, from)
    }
    return `${from}→${to}`
  }

  /**
   * Members live on undisturbed for a while, as far as the network lets them: elections end, and terms grow. Some may
   * stand still meanwhile, as a stopped process does; they wake to everything that was sent to them, and believe
   * what they believed before.
   */
  #live(): string {
    const { members } = this.#ensemble
    const leader = this.#ensemble.leader()
    const asleep = members.filter((id) => this.#chance.happens(id === leader ? 0.5 : 0.15))
    const opened: [MemberId, MemberId][] = []
    const stopped = asleep.map((id) => this.#ensemble.seat(id)).filter((seat) => !seat.savesHeld)
    for (const seat of stopped) seat.savesHeld = true
    for (const id of asleep) {
      for (const peer of members) {
        if (peer === id || !this.#ensemble.network.isOpen(peer, id)) continue
        opened.push([peer, id])
        this.#ensemble.network.slow(peer, id)
      }
    }
    const ticks = 1 + this.#chance.below(this.#ensemble.tuning.electionTicks * 2)
    const awake = members.filter((id) => !asleep.includes(id))
    for (let tick = 0; tick < ticks; tick++) {
      this.#ensemble.run(1, awake)
      if (this.#chance.happens(0.3)) this.#propose()
    }
    for (const [peer, id] of opened) this.#ensemble.network.heal(peer, id)
    for (const seat of stopped) seat.savesHeld = false
    return `${ticks} ticks, asleep: ${asleep.join('')}`
  }

  /** The leader's process is killed: its peers notice, some of them sooner. */
  #kill(): string | undefined {
    const leader = this.#ensemble.leader()
    if (leader === undefined) return undefined
    this.#sights.crashes++
    this.#ensemble.crash(leader, { kept: this.#chance.happens(0.5), appliedIndex: 0 })
    for (const id of this.#ensemble.members) {
      if (id === leader || this.#chance.happens(0.2)) continue
      this.#ensemble.disconnect(id, leader)
    }
    return leader
  }

  /** What a member sends to another, or to anybody, arrives late from now on. */
  #slow(): string {
    const from = this.#chance.pick(this.#ensemble.members)
    const to = this.#chance.pick(this.#ensemble.members)
    for (const peer of this.#ensemble.members) {
      if (peer !== from && (from === to || peer === to)) this.#ensemble.network.slow(from, peer)
    }
    return `${from}→${to}`
  }

  /** A disk hangs, or is itself again. */
  #hang(): string | undefined {
    return this.#onSeat((seat) => {
      seat.savesHeld = !seat.savesHeld
    })
  }

  /** Members fall apart into two groups. */
  #part(): string {
    const left = this.#ensemble.members.filter(() => this.#chance.happens(0.5))
    const right = this.#ensemble.members.filter((id) => !left.includes(id))
    for (const one of left) {
      for (const other of right) {
        this.#ensemble.network.cut(one, other)
        this.#ensemble.network.cut(other, one)
      }
    }
    return `${left.join('')} from ${right.join('')}`
  }

  #heal(): string {
    if (this.#chance.happens(0.5)) this.#ensemble.network.healAll()
    else
      this.#ensemble.network.heal(
        this.#chance.pick(this.#ensemble.members),
        this.#chance.pick(this.#ensemble.members),
      )
    return ''
  }

  #crash(): string | undefined {
    return this.#onSeat((seat) => {
      this.#sights.crashes++
      const { disk, raft } = seat
      const ahead = (raft?.log.appliedIndex ?? 0) - disk.appliedIndex
      const appliedIndex = disk.appliedIndex + this.#chance.below(ahead + 1)
      this.#ensemble.crash(seat.id, { kept: this.#chance.happens(0.5), appliedIndex })
      if (this.#chance.happens(0.3)) this.#ensemble.restart(seat.id)
    })
  }

  #restart(): string | undefined {
    const down = this.#ensemble.members.filter((id) => !this.#ensemble.isUp(id))
    if (down.length === 0) return undefined
    const id = this.#chance.pick(down)
    this.#ensemble.restart(id)
    return id
  }

  // ── disks that lose something, members that come and go ──────────────────────────────────────────────────────

  #compact(): string | undefined {
    return this.#onSeat(({ id, raft }) => {
      const { base, appliedIndex } = raft?.log ?? { base: { index: 0 }, appliedIndex: 0 }
      const index = base.index + this.#chance.below(appliedIndex - base.index + 1)
      if (index > base.index) this.#sights.compactions++
      this.#ensemble.compact(id, index)
    })
  }

  /** Whether no member has lost anything it has not got back: damage stays within a minority. */
  get #isWhole(): boolean {
    return [...this.#ensemble.seats.values()].every(
      ({ disk }) => !disk.stateless && disk.rebuilding === undefined,
    )
  }

  #canSpare(id: MemberId): boolean {
    return this.#ensemble.members.every((member) => {
      const configuration = this.#ensemble.configurationOf(member)
      const voters = configuration.members.filter(({ voter }) => voter)
      return voters.length > 2 || voters.every(({ peer }) => peer !== id)
    })
  }

  #loseState(): string | undefined {
    const seat = this.#ensemble.seat(this.#chance.pick(this.#ensemble.members))
    if (!this.#isWhole || !this.#canSpare(seat.id) || seat.installing !== undefined) return undefined
    this.#sights.statesLost++
    this.#ensemble.loseState(seat.id)
    return seat.id
  }

  /** Only a minority of every configuration that anybody goes by, or nobody could tell what was promised. */
  #loseLog(): string | undefined {
    const seat = this.#ensemble.seat(this.#chance.pick(this.#ensemble.members))
    if (!this.#isWhole || !this.#canSpare(seat.id)) return undefined
    this.#sights.logsLost++
    this.#ensemble.crash(seat.id, { kept: this.#chance.happens(0.5) })
    this.#ensemble.loseLog(seat.id, { keepsState: this.#chance.happens(0.5) })
    if (this.#chance.happens(0.7)) this.#ensemble.restart(seat.id)
    return seat.id
  }

  /** The leader adds, removes, promotes or demotes somebody, or exchanges one for another. */
  #change(): string | undefined {
    const leader = this.#ensemble.leader()
    if (leader === undefined || !this.#isWhole) return undefined
    const { members } = this.#ensemble.raft(leader).log.configuration.configuration
    const outside = this.#ensemble.members.filter((id) => members.every(({ peer }) => peer !== id))
    const voters = members.filter(({ voter }) => voter)
    const gone = voters.length > 1 || this.#chance.happens(0.5) ? this.#chance.pick(members) : undefined
    const stays = members.filter((member) => member !== gone)
    const come = outside.length > 0 ? [learnerOf(this.#chance.pick(outside))] : []
    const wish = this.#chance.pick(['add', 'remove', 'replace', 'demote', 'promote', 'promote'])
    if (wish === 'add') return this.#reconfigure(leader, [...members, ...come])
    if (wish === 'promote') return this.#promote(leader)
    if (gone === undefined || (gone.voter && voters.length === 1)) return undefined
    if (wish === 'remove') return this.#reconfigure(leader, stays)
    if (wish === 'replace') return this.#reconfigure(leader, [...stays, ...come])
    return this.#reconfigure(leader, [...stays, { ...gone, voter: false }])
  }

  #reconfigure(leader: MemberId, members: readonly Member[]): string {
    const changed = this.#ensemble.change(leader, { members })
    if (changed.type === 'appended') this.#sights.changes++
    return `${leader} to ${describe({ members })}: ${changed.type}`
  }

  /** What the shell of a leader does by itself: one that lost its log is demoted, a learner that has caught up promoted. */
  #mend(): string | undefined {
    const leader = this.#ensemble.leader()
    return leader === undefined ? undefined : (demote(this.#ensemble, leader) ?? this.#promote(leader))
  }

  #promote(leader: MemberId): string | undefined {
    return promote(this.#ensemble, leader)
  }
}

/** One that lost its log becomes a learner that counts from its present boot on. */
export function demote(ensemble: Ensemble, leader: MemberId): string | undefined {
  const { members } = ensemble.raft(leader).log.configuration.configuration
  const lost = members.find(({ peer, since }) => (ensemble.seat(peer).disk.rebuilding ?? 0) > since)
  if (lost === undefined || lost.peer === leader) return undefined
  if (members.every(({ peer, voter }) => peer === lost.peer || !voter)) return undefined
  const { disk } = ensemble.seat(lost.peer)
  const demoted = { ...lost, voter: false, since: disk.rebuilding ?? 0 }
  const configuration = { members: members.map((member) => (member === lost ? demoted : member)) }
  return `${leader} demotes ${lost.peer}: ${ensemble.change(leader, configuration).type}`
}

/** A learner that is there and has what is committed becomes a voter. */
export function promote(ensemble: Ensemble, leader: MemberId): string | undefined {
  const raft = ensemble.raft(leader)
  const { members } = raft.log.configuration.configuration
  const ready = members.find(({ peer, voter }) => {
    const progress = raft.progress?.get(peer)
    const isThere = ensemble.isUp(peer) && progress !== undefined
    return !voter && isThere && progress.matchIndex >= raft.log.commitIndex
  })
  if (ready === undefined) return undefined
  const configuration = {
    members: members.map((member) => (member === ready ? { ...member, voter: true } : member)),
  }
  return `${leader} promotes ${ready.peer}: ${ensemble.change(leader, configuration).type}`
}

function learnerOf(peer: MemberId): Member {
  return { peer, id: peer, http: '', p2p: '', voter: false, since: 0, commandVersion: 1 }
}

function describe({ members }: Configuration): string {
  return members.map(({ peer, voter }) => (voter ? peer : `(${peer})`)).join('')
}
