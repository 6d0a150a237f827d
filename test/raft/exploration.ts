// A seeded walk through what may happen to a cluster: everything in any order, then a healed phase in which it must recover.

import type { MemberId } from '../../src/raft/types.ts'
import { Chance } from './chance.ts'
import { Ensemble, type Tuning } from './ensemble.ts'
import { type Action, demote, Mischief, promote, type Sights } from './mischief.ts'

/** Small everywhere, so that every bound is met often. */
const tight: Tuning = {
  electionTicks: 8,
  heartbeatTicks: 2,
  failoverTicks: 3,
  holdTicks: 3,
  saveStallTicks: 7,
  appendBytes: 100,
  windowBytes: 200,
  applyBytes: 150,
  cacheBytes: 200,
  maxUnappliedBytes: 400,
  maxReads: 8,
}

/** A healed cluster has a leader, and everything committed, within this many election timeouts. */
const recoveryTimeouts = 30

export type Walk = { readonly seed: number; readonly steps: number; readonly trace?: (line: string) => void }

/** Walks once. Throws when a promise is broken; the same seed takes the same way. */
export function walk({ seed, steps, trace }: Walk): Sights {
  return new Walker(seed, trace).walk(steps)
}

class Walker {
  readonly #chance: Chance
  readonly #trace: ((line: string) => void) | undefined
  readonly #ensemble: Ensemble
  readonly #learners: readonly MemberId[]
  readonly #actions: readonly Action[]
  readonly #weight: number
  readonly #sights: Sights = {
    leaders: 0,
    committed: 0,
    readsAnswered: 0,
    crashes: 0,
    fetches: 0,
    truncations: 0,
    transfers: 0,
    compactions: 0,
    installs: 0,
    changes: 0,
    statesLost: 0,
    logsLost: 0,
    rebuilt: 0,
    recovery: 0,
  }

  constructor(seed: number, trace: ((line: string) => void) | undefined) {
    this.#chance = new Chance(seed)
    this.#trace = trace
    const members = ['a', 'b', 'c', 'd', 'e'].slice(0, this.#chance.pick([1, 2, 2, 3, 3, 3, 3, 4, 5, 5]))
    this.#learners = members.length > 3 && this.#chance.happens(0.3) ? members.slice(-1) : []
    this.#ensemble = new Ensemble({
      members,
      learners: this.#learners,
      spares: members.length > 1 ? ['x', 'y'].slice(0, this.#chance.below(3)) : [],
      tuning: { ...tight, cacheBytes: this.#chance.pick([200, 600]) },
      random: this.#chance.next,
      watch: (happening) => {
        if (happening.type === 'role' && happening.role === 'leader') this.#sights.leaders++
        else if (happening.type === 'read' && happening.index !== undefined) this.#sights.readsAnswered++
        else if (happening.type === 'fetched') this.#sights.fetches++
        else if (happening.type === 'installed') this.#sights.installs++
        else if (happening.type === 'saving') {
          const first = happening.duty.entries[0]
          if (first && first.index <= this.#ensemble.seat(happening.member).disk.lastIndex)
            this.#sights.truncations++
        }
      },
    })
    const mischief = new Mischief(this.#ensemble, {
      chance: this.#chance,
      sights: this.#sights,
      traced: trace !== undefined,
    })
    // Each walk has its own mix, so that some are all elections and others all crashes.
    this.#actions = mischief.actions().map((action) => ({
      ...action,
      weight: action.weight * this.#chance.pick([0, 0.3, 1, 1, 1, 3]),
    }))
    this.#weight = this.#actions.reduce((sum, { weight }) => sum + weight, 0)
  }

  walk(steps: number): Sights {
    this.#act('beginning', this.#quietBeginning())
    for (let step = 0; step < steps; step++) {
      const action = this.#draw()
      const done = action.act()
      if (done !== undefined) this.#act(action.name, done)
    }
    this.#recover()
    this.#sights.committed = this.#ensemble.observer.commitIndex
    return this.#sights
  }

  #draw(): Action {
    let left = this.#chance.next() * this.#weight
    for (const action of this.#actions) {
      left -= action.weight
      if (left < 0) return action
    }
    return this.#chance.pick(this.#actions)
  }

  #act(name: string, done: string): void {
    this.#trace?.(`${name} ${done}`)
  }

  /** Half of the walks begin with an elected leader: what follows an election is worth as much as the way to it. */
  #quietBeginning(): string {
    if (this.#chance.happens(0.5)) return 'from nothing'
    this.#ensemble.run(tight.electionTicks * 3)
    return `led by ${this.#ensemble.leader() ?? 'nobody'}`
  }

  /**
   * The network is whole and some majority is up, often no more than that: one leader, a new entry committed, and the
   * same log on all who are up, within the bound.
   */
  #recover(): void {
    const ensemble = this.#ensemble
    ensemble.network.healAll()
    for (const seat of ensemble.seats.values()) seat.savesHeld = false
    // Who had to be told to be a member, or lost something, needs more than the barest majority to be well again.
    const up = this.#isAsFounded() ? this.#survivors() : ensemble.members
    for (const id of ensemble.members) {
      if (!up.includes(id)) ensemble.crash(id)
      else if (!ensemble.isUp(id)) ensemble.restart(id)
    }
    ensemble.settle()
    this.#act('healed', this.#standing())
    let proposed = false
    for (let tick = 0; tick < recoveryTimeouts * tight.electionTicks; tick++) {
      ensemble.run(1)
      const leader = ensemble.leader()
      if (leader === undefined) continue
      if (demote(ensemble, leader) ?? promote(ensemble, leader)) continue
      if (!proposed) proposed = ensemble.propose(leader, new Uint8Array(1), []).type === 'appended'
      const { lastIndex, configuration } = ensemble.raft(leader).log
      const belong = up.filter((id) => configuration.configuration.members.some(({ peer }) => peer === id))
      const even = belong.every((id) => {
        const { log, leader: followed } = ensemble.raft(id)
        const { stateless, rebuilding } = ensemble.raft(id).status
        const isWhole = !stateless && rebuilding === undefined
        return isWhole && followed === leader && log.appliedIndex === lastIndex && log.lastIndex === lastIndex
      })
      if (!proposed || !even) continue
      this.#sights.rebuilt = ensemble.observer.rebuilt
      this.#sights.recovery = (tick + 1) / tight.electionTicks
      return
    }
    throw new Error(`Not recovered after ${recoveryTimeouts} election timeouts: ${this.#standing()}`)
  }

  #isAsFounded(): boolean {
    const { statesLost, logsLost } = this.#sights
    const isChanged = [...this.#ensemble.seats.keys()].some(
      (id) => this.#ensemble.configurationOf(id) !== this.#ensemble.founding,
    )
    return statesLost + logsLost === 0 && !isChanged
  }

  #survivors(): readonly MemberId[] {
    const members = this.#ensemble.founders
    if (this.#chance.happens(0.3)) return members
    const voters = members.filter((id) => !this.#learners.includes(id))
    const order = voters
      .map((id) => ({ id, at: this.#chance.next() }))
      .sort((one, other) => one.at - other.at)
    return order.slice(0, Math.floor(voters.length / 2) + 1).map(({ id }) => id)
  }

  #standing(): string {
    return this.#ensemble.members
      .map((id) => `${id} ${JSON.stringify(this.#ensemble.seat(id).raft?.status)}`)
      .join('; ')
  }
}
