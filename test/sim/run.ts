// One run of one seed: a cluster is founded and used while faults come, then all is healed, and what was promised is looked at.

import { check } from '../linear/checker.ts'
import { runClients, use } from '../linear/clients.ts'
import { callsOf, History } from '../linear/history.ts'
import { keyValue } from '../linear/key-value.ts'
import { runStubborn, type Stubborn } from '../linear/stubborn.ts'
import { miscount, talliesOf } from '../linear/tally.ts'
import type { Chance } from '../raft/chance.ts'
import { Cluster } from './cluster.ts'
import { wipeMost } from './disk-faults.ts'
import { type Fault, faults } from './faults.ts'
import { type Plan, planOf } from './plan.ts'
import { differences } from './rows.ts'
import { forbidRealTime, World } from './world.ts'

export type RunOptions = {
  readonly seed: number
  /** Is told every line, also those that are too many to keep. */
  readonly trace?: ((line: string) => void) | undefined
}

export type Report = {
  readonly seed: number
  /** What was broken; undefined when every promise was kept. */
  readonly violation: string | undefined
  /** The same for every run of this seed with this program. */
  readonly hash: string
  readonly lastLines: readonly string[]
  /** How often each fault came, and what else is counted. */
  readonly counts: ReadonlyMap<string, number>
  readonly virtualMs: number
  readonly events: number
}

/** A healed cluster must serve at every node within this many milliseconds, and so must one that was just founded. */
const recoveryMs = 30_000

/** What the search through one history may cost: the seldom one that takes more is left alone. */
const maxSteps = 5_000_000

/** What is counted of histories whose search was given up. */
export const unjudged = 'histories too hard to judge'

/** After so many tries a stubborn client leaves a write alone. */
const tries = 30

/** No run lasts longer, in milliseconds of its world. */
const longestMs = 120_000

/** Must not be called from within a promise's continuation: see `World.run`. */
export function run({ seed, trace }: RunOptions): Report {
  const world = new World(seed, { trace })
  const plan = planOf(seed)
  const history = new History(() => world.now)
  const cluster = new Cluster(world, plan, history)
  const { observer } = cluster
  let over = false
  new Story(world, plan, { cluster, history }).tell().then(
    () => {
      over = true
    },
    (error: unknown) => observer.accuse('the story comes to its end', textOf(error)),
  )
  const onRejection = (error: unknown) => observer.accuse('no rejection is left alone', textOf(error))
  process.on('unhandledRejection', onRejection)
  const restore = forbidRealTime((what) =>
    observer.accuse('nothing asks the real machine', textOf(new Error(what))),
  )
  const inTime = world.run({
    until: longestMs,
    done: () => over || observer.violation !== undefined,
    look: () => observer.look(),
  })
  restore()
  process.off('unhandledRejection', onRejection)
  if (!inTime) observer.accuse('progress', 'the story stands still')
  const { violation } = observer
  cluster.counts.set('elections', observer.elections)
  cluster.counts.set('commands logged twice', observer.repeats)
  return {
    seed,
    violation: violation === undefined ? undefined : `${violation.promise}: ${violation.facts}`,
    hash: world.transcript.hash,
    lastLines: world.transcript.last,
    counts: cluster.counts,
    virtualMs: world.now,
    events: world.events,
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

class Story {
  readonly #world: World
  readonly #plan: Plan
  readonly #cluster: Cluster
  readonly #chance: Chance
  readonly #history: History
  #faulty = true

  constructor(
    world: World,
    plan: Plan,
    { cluster, history }: { readonly cluster: Cluster; readonly history: History },
  ) {
    this.#world = world
    this.#plan = plan
    this.#cluster = cluster
    this.#chance = world.chance()
    this.#history = history
  }

  async tell(): Promise<void> {
    const { seed, transcript } = this.#world
    const { nodes, electionMs, clients, roughStart, faultyMs } = this.#plan
    transcript.write(`seed ${seed}: ${nodes} nodes, elections after ${electionMs} ms, ${clients} clients`)
    await this.#cluster.begin()
    if (!roughStart) await this.#allReady('a cluster that nothing disturbs is founded')
    const used = this.#haveClients()
    const faulty = this.#haveFaults()
    await this.#world.sleep(faultyMs)
    this.#faulty = false
    await faulty
    if (this.#plan.isDoomed && nodes > 2) return this.#tellOfDoom(used)
    await this.#heal()
    await this.#allReady('a healed majority serves again')
    await used.stop()
    await this.#readEverywhere()
    await this.#compare()
    this.#judge()
  }

  #haveClients(): { readonly stop: () => Promise<void> } {
    const { keys, counters, ttls, transactions, patience, thinkingMs, clients, stubborn, appetite } =
      this.#plan
    const place = { town: this.#cluster, history: this.#history }
    const sleep = (ms: number) => this.#world.sleep(ms)
    const seed = this.#chance.below(2 ** 31)
    const habits = { seed, keys, counters, ttls, patience, thinkingMs, sleep }
    const plain = runClients(place, { ...habits, clients })
    const clocksJump = appetite('clock jump') > 0
    // Only of those who ask again until they know: histories with many transactions of unknown outcome are too hard to judge.
    const repeated = { ...habits, transactions, tries }
    const inSession = runStubborn(place, { ...repeated, clients: stubborn.session, by: 'session' })
    // A key is forgotten by log time, and what is sent again after that is another write: that can be told from no history.
    const byKey = runStubborn(place, { ...repeated, clients: clocksJump ? 0 : stubborn.key, by: 'key' })
    const stop = async () => {
      await Promise.all([plain.stop(), inSession.stop(), byKey.stop()])
      this.#lookAtSessions(inSession, clocksJump)
      this.#cluster.counts.set('answered from memory: by session', inSession.replays())
      this.#cluster.counts.set('answered from memory: by key', byKey.replays())
    }
    return { stop }
  }

  /** No run lasts as long as a session, unless the clocks say otherwise. */
  #lookAtSessions({ ended }: Stubborn, clocksJump: boolean): void {
    this.#cluster.counts.set('sessions ended', ended())
    if (ended() > 0 && !clocksJump) {
      this.#cluster.observer.accuse('a session ends only by log time', `${ended()} ended before`)
    }
  }

  /** What was founded is gone. Clients may learn nothing any more, but nothing untrue. */
  async #tellOfDoom(used: { readonly stop: () => Promise<void> }): Promise<void> {
    await this.#heal()
    await this.#have({ name: 'most disks wiped', weight: 0, act: wipeMost })
    await this.#world.sleep(4000)
    await used.stop()
    this.#judge()
  }

  /** Faults come, one after another, until the faulty time is over. */
  async #haveFaults(): Promise<void> {
    const { appetite, betweenFaultsMs } = this.#plan
    const wanted = faults.map((fault) => ({ fault, weight: fault.weight * appetite(fault.name) }))
    const total = wanted.reduce((sum, { weight }) => sum + weight, 0)
    while (this.#faulty && total > 0) {
      await this.#world.sleep(this.#chance.next() * 2 * betweenFaultsMs)
      if (!this.#faulty) return
      let left = this.#chance.next() * total
      const drawn = wanted.find(({ weight }) => {
        left -= weight
        return left < 0
      })
      if (drawn !== undefined) await this.#have(drawn.fault)
    }
  }

  async #have({ name, act }: Fault): Promise<void> {
    this.#world.transcript.detail(() => `tries ${name}`)
    const what = await act(this.#cluster, this.#chance)
    if (what === undefined) return
    this.#cluster.count(name)
    this.#world.transcript.write(`${name}: ${what}`)
  }

  async #heal(): Promise<void> {
    this.#world.transcript.write('all is healed')
    this.#cluster.network.change({ delay: { least: 0, most: 1 }, loss: 0, duplication: 0 })
    await this.#cluster.heal()
  }

  /** Every node that may be believed serves, in time. */
  async #allReady(promise: string): Promise<void> {
    const deadline = this.#world.now + recoveryMs
    for (;;) {
      // Who has to be ready follows from the last change.
      const waiting = this.#cluster.sound.flatMap(({ id, node }) => {
        const reasons = node === undefined ? ['it does not run'] : node.unreadiness()
        return reasons.length === 0 ? [] : [`${id}: ${reasons.join(', ')}`]
      })
      if (waiting.length === 0 && this.#cluster.changes === 0) return
      if (this.#world.now > deadline) {
        this.#cluster.observer.accuse(`progress: ${promise}`, waiting.join('; '))
        return
      }
      await this.#world.sleep(10)
    }
  }

  /** A last read of every key at every node: what was written late shows, and every node answers. */
  async #readEverywhere(): Promise<void> {
    const place = { town: this.#cluster, history: this.#history }
    const { observer } = this.#cluster
    const tallies = talliesOf(this.#history.events)
    for (const { id } of this.#cluster.sound) {
      for (const key of [...this.#plan.keys, ...this.#plan.counters]) {
        const operation = { type: 'get', key } as const
        const result = await use(place, { client: 'last', node: id, operation }, recoveryMs)
        if (result === undefined) observer.accuse('progress: every node answers a read', id)
        const tally = tallies.get(key)
        if (tally === undefined) continue
        const wrong = miscount(tally, result?.type === 'found' ? result.value : undefined)
        if (wrong !== undefined) observer.accuse('counters count every increment once', `${key} ${wrong}`)
      }
    }
    const counted = [...tallies.values()].reduce((sum, { acknowledged }) => sum + acknowledged, 0)
    this.#cluster.counts.set('increments', counted)
  }

  /** All replicas come to hold the same, in every replicated row. */
  async #compare(): Promise<void> {
    const deadline = this.#world.now + recoveryMs
    const applied = () => this.#cluster.sound.map(({ node }) => node?.inside?.machine?.lastApplied ?? -1)
    while (new Set(applied()).size > 1) {
      if (this.#world.now > deadline) {
        this.#cluster.observer.accuse('progress: all replicas apply all entries', applied().join(', '))
        return
      }
      await this.#world.sleep(10)
    }
    const insides = this.#cluster.sound.flatMap(({ id, node }) => {
      const machine = node?.inside?.machine
      return machine === undefined ? [] : [{ id, machine }]
    })
    for (const { machine } of insides) await machine.flush()
    const levels = this.#cluster.sound.flatMap(({ id, liveState }) => {
      return liveState === undefined ? [] : [{ id, level: liveState.state }]
    })
    const found = await differences(levels)
    if (found !== undefined) this.#cluster.observer.accuse('all replicas hold the same', found)
    const [first] = insides
    if (first === undefined) return
    const { items } = await first.machine.list({ store: 'default', limit: 1000, maxBytes: 2 ** 20 })
    const wrong = this.#cluster.witness.difference(items)
    if (wrong !== undefined) this.#cluster.observer.accuse('the log leads every state to what it says', wrong)
  }

  #judge(): void {
    const { expiries } = this.#cluster.witness
    const calls = [...callsOf(this.#history.events), ...expiries]
    this.#cluster.counts.set('expired keys', expiries.length)
    this.#cluster.counts.set('operations', calls.length)
    this.#cluster.counts.set('unknown outcomes', calls.filter(({ result }) => result === undefined).length)
    const several = calls.filter(({ operation }) => operation.type === 'transaction')
    this.#cluster.counts.set('transactions', several.length)
    const verdict = check(keyValue, calls, { maxSteps })
    if (verdict.type === 'violation')
      this.#cluster.observer.accuse('every history is linearizable', verdict.text)
    // It proves nothing either way, so it is counted: whoever runs seeds may not have many of them.
    if (verdict.type === 'undecided') this.#cluster.count(unjudged)
  }
}
