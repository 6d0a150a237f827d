// What a fault is, and how one is aimed.

import { setTimeout as delay } from 'node:timers/promises'
import { Chance } from '../raft/chance.ts'
import type { Ground } from './ground.ts'

/** One fault of a step. Whom it strikes follows from the nodes there are when it begins. */
export type Strike = {
  readonly fault: string
  /** Decides everything that the fault still chooses. */
  readonly seed: number
  /** The leader of that moment is struck first. */
  readonly onLeader: boolean
}

export type Effect = {
  /** For people: `n1 n3 | n2`. */
  readonly what: string
  /** The nodes it is about. */
  readonly nodes: readonly string[]
  /** Takes it back. Resolves once that is done, not when the nodes have recovered. */
  readonly heal: () => Promise<void>
}

export type Fault = {
  readonly name: string
  /** One sentence. */
  readonly about: string
  /** It works through the library that stands between nodes and disks (`disk-control.ts`), which cannot be built everywhere. */
  readonly needsDiskHook: boolean
  /** It harms little enough to come along with others. */
  readonly isWeather: boolean
  /** It takes away what a node had promised to keep: no other fault may come along, and the next waits for the repair. */
  readonly isDamage: boolean
  /** Whether a majority works as ever while it lasts, so that writes must go on. */
  readonly writesGoOn: boolean
  readonly begin: (aim: Aim) => Promise<Effect>
}

/** A strike at the moment it begins. */
export class Aim {
  readonly ground: Ground
  readonly chance: Chance
  /** All nodes, those to be struck first in front. */
  readonly order: readonly string[]

  private constructor(ground: Ground, chance: Chance, order: readonly string[]) {
    this.ground = ground
    this.chance = chance
    this.order = order
  }

  static async take(ground: Ground, strike: Strike): Promise<Aim> {
    const chance = new Chance(strike.seed)
    const order = shuffled(ground.ids, chance)
    const leader = strike.onLeader ? await ground.leader() : undefined
    return new Aim(
      ground,
      chance,
      leader === undefined ? order : [leader, ...order.filter((id) => id !== leader)],
    )
  }

  /** The node to strike. */
  get victim(): string {
    const [first] = this.order
    if (first === undefined) throw new Error('there are no nodes')
    return first
  }

  /** One node to strike, or more, as long as the others are a majority. */
  minority(): readonly string[] {
    const most = Math.max(1, Math.ceil(this.order.length / 2) - 1)
    return this.order.slice(0, 1 + this.chance.below(most))
  }

  /** From `least` up to `most`. */
  between(least: number, most: number): number {
    return least + this.chance.below(most - least + 1)
  }
}

/** Resolves at once: there is nothing to take back. */
export async function nothing(): Promise<void> {}

/** Resolves when it serves, or after a while: the recovery that every fault is followed by has its own bound. */
export async function servesAgain(ground: Ground, id: string): Promise<void> {
  const deadline = performance.now() + 30_000
  while (!(await ground.serves(id)) && performance.now() < deadline) await delay(50)
}

export function shuffled<T>(things: readonly T[], chance: Chance): T[] {
  const left = [...things]
  const order: T[] = []
  while (left.length > 0) order.push(...left.splice(chance.below(left.length), 1))
  return order
}
