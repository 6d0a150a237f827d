// One run from the founding to the verdict: nodes, clients, faults one after the other, and a look at the end.

import { rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { History, type HistoryEvent } from '../linear/history.ts'
import { buildDiskHook } from './disk-control.ts'
import { Aim, type Effect, type Strike } from './fault.ts'
import { allFaults, faultNamed } from './faults.ts'
import { type Death, Ground } from './ground.ts'
import { Observer, type RoleChange } from './observer.ts'
import { type Replica, replicasOf } from './replicas.ts'
import { type Step, schedule } from './schedule.ts'
import { type Findings, judge, type StepRecord, type Violation } from './verdict.ts'
import { Workload } from './workload.ts'

export type RunOptions = {
  readonly nodes: number
  readonly seconds: number
  readonly seed: number
  /** Names of faults; `all` for those that can be had here and today. */
  readonly faults: readonly string[] | 'all'
  /** Calls a second, all clients together. */
  readonly rate: number
  readonly clients: number
  /** No new fault begins once this aborts; the end is looked at as ever. */
  readonly signal?: AbortSignal
}

/** What is going on, for whoever watches. */
export type Watch = {
  /** Something begins: one line. */
  readonly say: (line: string) => void
  /** The run stands; it can be looked at from now on. */
  readonly begun: (view: View) => void
}

export type View = {
  /** Milliseconds since the run began. */
  readonly now: () => number
  readonly events: readonly HistoryEvent[]
  readonly roles: ReadonlyMap<string, RoleChange>
  readonly steps: readonly StepRecord[]
  /** What lasts at the moment. */
  readonly current: () => string | undefined
}

export type Outcome = {
  readonly options: RunOptions
  readonly faults: readonly string[]
  readonly nodes: readonly string[]
  readonly startedAt: Date
  /** Milliseconds from the begin until the last client had its answer. */
  readonly lasted: number
  readonly events: readonly HistoryEvent[]
  readonly steps: readonly StepRecord[]
  readonly roles: readonly RoleChange[]
  readonly violations: readonly Violation[]
  readonly replicas: readonly Replica[]
  /** Where the nodes' data and logs are; undefined when nothing was wrong, and they are gone. */
  readonly kept: string | undefined
}

/** How long all nodes together may take to serve again once a fault has ended, in seconds. */
const recoverySeconds = 60

/** Runs it all. Rejects only for what no fault can explain, such as a cluster that never comes up. */
export async function runChaos(options: RunOptions, watch: Watch): Promise<Outcome> {
  const { nodes, seed } = options
  await using stack = new AsyncDisposableStack()
  const hook = await hookFor(options, stack, watch)
  const names = options.faults === 'all' ? allFaults(hook !== undefined) : options.faults
  const ground = stack.use(await Ground.create({ nodes, seed, hook }))
  const lastResort = () => {
    ground.killNow()
    // Whoever asked twice wants nothing left.
    if (options.signal?.aborted === true) rmSync(ground.directory, { recursive: true, force: true })
  }
  process.once('exit', lastResort)
  stack.defer(() => void process.off('exit', lastResort))
  const run = new Run(ground, options, watch)
  const { findings, lasted, startedAt } = await run.go(names).catch((error: unknown) => {
    throw new Error(`${sentenceOf(error)}\nData and logs of the nodes: ${ground.directory}`, { cause: error })
  })
  const violations = judge(findings)
  const { events, steps, replicas } = findings
  const keep = violations.length > 0 || process.env['TRIVET_TEST_KEEP'] !== undefined
  await stack.disposeAsync()
  if (!keep) await ground.clear()
  return {
    options,
    faults: names,
    nodes: [...new Set(run.observer.changes.map(({ node }) => node))].toSorted(byNumber),
    startedAt,
    lasted,
    events,
    steps,
    roles: run.observer.changes,
    violations,
    replicas,
    kept: keep ? ground.directory : undefined,
  }
}

/** Only built where a fault needs it: it would stand in every node's way. */
async function hookFor(
  options: RunOptions,
  stack: AsyncDisposableStack,
  watch: Watch,
): Promise<string | undefined> {
  const isWanted = options.faults === 'all' || options.faults.some((name) => faultNamed(name).needsDiskHook)
  if (!isWanted) return undefined
  const hook = await buildDiskHook(stack)
  if (hook.path !== undefined) return hook.path
  if (options.faults !== 'all') throw new Error(`Faults of disks cannot be had here: ${hook.reason}.`)
  watch.say(`without faults of disks: ${hook.reason}`)
  return undefined
}

function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** `n2` before `n10`. */
function byNumber(one: string, other: string): number {
  return one.localeCompare(other, 'en', { numeric: true })
}

class Run {
  readonly observer: Observer
  readonly #ground: Ground
  readonly #options: RunOptions
  readonly #watch: Watch
  /** When clients begin; until then, when this was made. */
  #begun = performance.now()
  readonly #history = new History(() => this.#now())
  readonly #workload: Workload
  readonly #steps: StepRecord[] = []
  readonly #deaths: (Death & { readonly time: number })[] = []
  #current: string | undefined

  constructor(ground: Ground, options: RunOptions, watch: Watch) {
    this.#ground = ground
    this.#options = options
    this.#watch = watch
    const now = () => this.#now()
    this.observer = new Observer(ground, now)
    const { seed, clients, rate } = options
    this.#workload = new Workload(ground, this.#history, { seed, clients, rate, now })
    ground.onDeath = (death) => {
      watch.say(`${death.node} ${death.how}`)
      this.#deaths.push({ ...death, time: this.#now() })
    }
  }

  async go(
    names: readonly string[],
  ): Promise<{ readonly findings: Findings; readonly lasted: number; readonly startedAt: Date }> {
    const ground = this.#ground
    const startedAt = new Date()
    for (const id of ground.ids) ground.start(id)
    await ground.settled(recoverySeconds)
    this.#begun = performance.now()
    this.observer.start()
    this.#workload.start()
    this.#watch.begun({
      now: () => this.#now(),
      events: this.#history.events,
      roles: this.observer.roles,
      steps: this.#steps,
      current: () => this.#current,
    })
    await this.#strike(names)
    await this.#workload.stop()
    const lasted = this.#now()
    this.#watch.say('reading everything through every node')
    const end = await this.#lookAtTheEnd()
    await this.observer.stop()
    const { surprises } = this.#workload
    const { rivals } = this.observer
    const findings: Findings = {
      events: this.#history.events,
      steps: this.#steps,
      surprises,
      deaths: this.#deaths,
      rivals,
      ...end,
    }
    return { findings, lasted, startedAt }
  }

  /** Steps until the time is over. A step that does not recover is the last: there is nothing more to learn after it. */
  async #strike(names: readonly string[]): Promise<void> {
    const { seed, seconds, signal } = this.#options
    for (const step of schedule({ seed, faults: names })) {
      if (this.#now() + step.gapMs + step.holdMs > seconds * 1000) break
      if (!(await this.#wait(step.gapMs))) return
      const record = await this.#step(step)
      this.#steps.push(record)
      if (record.failure !== undefined) return
    }
    if (signal?.aborted !== true) await this.#wait(seconds * 1000 - this.#now())
  }

  async #step(step: Step): Promise<StepRecord> {
    const begun = this.#now()
    const effects: Effect[] = []
    const strikes: StepRecord['strikes'][number][] = []
    let failure: string | undefined
    try {
      for (const strike of step.strikes) {
        this.#current = strike.fault
        const effect = await this.#begin(strike)
        effects.push(effect)
        const { fault } = strike
        strikes.push({
          fault,
          what: effect.what,
          nodes: effect.nodes,
          writesGoOn: faultNamed(fault).writesGoOn,
        })
        this.#current = strikes.map((one) => `${one.fault}: ${one.what}`).join(' with ')
        this.#watch.say(`${step.number}. ${fault}: ${effect.what}`)
      }
      await this.#wait(step.holdMs)
    } catch (error) {
      failure = `${step.strikes.map(({ fault }) => fault).join(' with ')}: ${String(error)}`
    }
    const healed = this.#now()
    this.#current = 'recovering'
    for (const { heal } of effects) {
      try {
        await heal()
      } catch (error) {
        failure ??= `it could not be healed: ${String(error)}`
      }
    }
    const unsettled = await this.#ground.settled(recoverySeconds).then(() => undefined, sentenceOf)
    this.#current = undefined
    failure ??= unsettled
    const recovered = unsettled === undefined ? this.#now() : undefined
    const record = { number: step.number, begun, healed, recovered, strikes }
    return failure === undefined ? record : { ...record, failure }
  }

  async #begin(strike: Strike): Promise<Effect> {
    const aim = await Aim.take(this.#ground, strike)
    return faultNamed(strike.fault).begin(aim)
  }

  async #lookAtTheEnd(): Promise<Pick<Findings, 'replicas' | 'unfinished'>> {
    try {
      // A step that was not recovered from has had its time already.
      const isHopeless = this.#steps.some(({ recovered }) => recovered === undefined)
      await this.#ground.settled(isHopeless ? 5 : recoverySeconds)
      await this.#workload.readAll()
      return { replicas: await replicasOf(this.#ground, 10) }
    } catch (error) {
      return {
        replicas: [],
        unfinished: `In the end: ${sentenceOf(error)}`,
      }
    }
  }

  /** False when the run is to end now. */
  async #wait(ms: number): Promise<boolean> {
    const { signal } = this.#options
    try {
      await delay(Math.max(0, ms), undefined, signal === undefined ? {} : { signal })
      return true
    } catch {
      // Aborted: whoever waits goes on to the end.
      return false
    }
  }

  #now(): number {
    return performance.now() - this.#begun
  }
}
