// What may happen to a town while it is used: links cut or stalled, weather, broken connections, leaders deposed or
// handing over, crashes, lost power.

import { setTimeout as delay } from 'node:timers/promises'
import { TrivetError } from '../../src/errors.ts'
import type { Town } from '../node/town.ts'
import { Chance } from '../raft/chance.ts'

type Weather = {
  readonly delay: { readonly least: number; readonly most: number }
  readonly loss: number
  readonly duplication: number
}

const calm: Weather = { delay: { least: 0, most: 1 }, loss: 0, duplication: 0 }

/** One seed decides what it does, in which order and how long it waits in between. */
export class Mischief {
  readonly #town: Town
  readonly #chance: Chance
  readonly #down = new Set<string>()
  #weather: Weather = calm
  /** What it did, for people. */
  readonly deeds: string[] = []

  constructor(town: Town, seed: number) {
    this.#town = town
    this.#chance = new Chance(seed)
  }

  async run(deeds: number): Promise<void> {
    for (let turn = 0; turn < deeds; turn++) {
      await this.#deed()
      // Now and then long enough for a leader to be elected and used.
      await delay(this.#chance.happens(0.25) ? 250 : 5 + this.#chance.below(60))
    }
  }

  /** Heals all links, calms the weather, starts who is down, and resolves when all are ready. */
  async end(): Promise<void> {
    this.#town.network.heal()
    this.#town.network.change(calm)
    for (const id of [...this.#down]) await this.#start(id)
    await this.#town.ready()
  }

  async #deed(): Promise<void> {
    const draw = this.#chance.next()
    if (draw < 0.1) this.#cut()
    else if (draw < 0.22) await this.#depose()
    else if (draw < 0.32) this.#heal()
    else if (draw < 0.42) this.#changeWeather()
    else if (draw < 0.47) await this.#stall()
    else if (draw < 0.53) this.#breakConnection()
    else if (draw < 0.63) this.#transfer()
    else if (draw < 0.66) await this.#loseAllPower()
    else if (this.#down.size > 0 && draw < 0.84) await this.#start(this.#chance.pick([...this.#down]))
    else await this.#lose()
  }

  #cut(): void {
    const [from, to, ...rest] = this.#shuffled()
    if (from === undefined || to === undefined) return
    if (this.#chance.happens(0.4)) {
      this.#town.cutOneWay(from, to)
      this.#did(`cut ${from} to ${to}`)
    } else {
      const others = [to, ...rest]
      this.#town.partition([from], others)
      this.#did(`cut ${from} off`)
    }
  }

  /** The leader is cut off and the others notice at once: they elect another while it still believes in itself. */
  async #depose(): Promise<void> {
    const leader = this.#leader()
    if (leader === undefined) return
    const others = this.#town.ids.filter((id) => id !== leader)
    this.#did(`depose ${leader}`)
    this.#town.partition([leader], others)
    for (const other of others) this.#town.breakConnection(leader, other)
    await delay(this.#chance.below(200))
    if (this.#chance.happens(0.5)) this.#heal()
  }

  /** What is sent in these milliseconds comes late, and what follows on the same stream after it. */
  async #stall(): Promise<void> {
    this.#did('stall')
    this.#town.network.change({ ...this.#weather, delay: { least: 0, most: 400 } })
    await delay(8)
    this.#town.network.change(this.#weather)
  }

  #heal(): void {
    this.#town.network.heal()
    this.#did('heal')
  }

  #changeWeather(): void {
    const bad = {
      delay: { least: 0, most: this.#chance.pick([1, 5, 20]) },
      loss: this.#chance.pick([0, 0.05, 0.2]),
      duplication: this.#chance.pick([0, 0.1, 0.3]),
    }
    const weather: Weather = this.#chance.happens(0.3) ? calm : bad
    this.#weather = weather
    this.#town.network.change(weather)
    this.#did(`weather ${JSON.stringify(weather)}`)
  }

  #breakConnection(): void {
    const [one, other] = this.#shuffled()
    if (one === undefined || other === undefined) return
    this.#town.breakConnection(one, other)
    this.#did(`break ${one} from ${other}`)
  }

  #transfer(): void {
    const [through, to] = this.#shuffled()
    if (through === undefined || to === undefined || this.#down.has(through)) return
    this.#did(`transfer to ${to} through ${through}`)
    const transfer = async () => {
      await this.#town.node(through).transferLeadership(to, { deadline: performance.now() + 100 })
    }
    // It may well be impossible just now.
    transfer().catch((error: unknown) => {
      if (!(error instanceof TrivetError)) throw error
    })
  }

  async #loseAllPower(): Promise<void> {
    const running = this.#town.ids.filter((id) => !this.#down.has(id))
    this.#did('power lost everywhere')
    await this.#town.losePower(...running)
    for (const id of this.#town.ids) {
      this.#down.add(id)
      await this.#start(id)
    }
  }

  /** One more node goes, if it leaves a majority. */
  async #lose(): Promise<void> {
    const { ids } = this.#town
    if ((this.#down.size + 1) * 2 >= ids.length) return
    const running = ids.filter((id) => !this.#down.has(id))
    const leader = this.#leader()
    const id = leader !== undefined && this.#chance.happens(0.5) ? leader : this.#chance.pick(running)
    this.#down.add(id)
    if (this.#chance.happens(0.5)) {
      this.#did(`crash ${id}`)
      await this.#town.crash(id)
    } else {
      this.#did(`power lost at ${id}`)
      await this.#town.losePower(id)
    }
  }

  async #start(id: string): Promise<void> {
    this.#did(`start ${id}`)
    await this.#town.start(id)
    this.#down.delete(id)
  }

  #leader(): string | undefined {
    const { ids } = this.#town
    return ids.find((id) => !this.#down.has(id) && this.#town.node(id).status?.role === 'leader')
  }

  #shuffled(): string[] {
    const left = [...this.#town.ids]
    return this.#town.ids.map(() => left.splice(this.#chance.below(left.length), 1)[0] ?? '')
  }

  #did(deed: string): void {
    this.deeds.push(deed)
  }
}
