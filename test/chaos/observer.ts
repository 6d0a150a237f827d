// Watches the nodes from outside while a run goes on: who leads, who follows, who is down.

import { setTimeout as delay } from 'node:timers/promises'
import type { Ground } from './ground.ts'

export type SeenRole =
  | 'leader'
  | 'follower'
  | 'candidate'
  | 'learner'
  | 'silent'
  | 'paused'
  | 'down'
  /** Not one of the cluster's nodes any more. */
  | 'gone'

/** From `time` on, milliseconds since the run began, until the next one of the same node. */
export type RoleChange = {
  readonly time: number
  readonly node: string
  readonly role: SeenRole
  readonly term?: number
}

/** Two nodes that said of themselves that they lead the same term. */
export type Rivals = { readonly time: number; readonly term: number; readonly nodes: readonly string[] }

const intervalMs = 250

export class Observer {
  readonly changes: RoleChange[] = []
  readonly rivals: Rivals[] = []
  readonly #ground: Ground
  readonly #now: () => number
  readonly #last = new Map<string, RoleChange>()
  /** Term → who has been seen to lead it. */
  readonly #leaders = new Map<number, string>()
  #running: Promise<void> | undefined
  #isStopping = false

  /** `now`: milliseconds since the run began. */
  constructor(ground: Ground, now: () => number) {
    this.#ground = ground
    this.#now = now
  }

  start(): void {
    this.#running = this.#watch()
    this.#running.catch(() => {})
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#running
  }

  /** How each node was seen last. */
  get roles(): ReadonlyMap<string, RoleChange> {
    return this.#last
  }

  async #watch(): Promise<void> {
    while (!this.#isStopping) {
      const { ids } = this.#ground
      await Promise.all([delay(intervalMs), ...ids.map((id) => this.#look(id))])
      for (const node of [...this.#last.keys()]) {
        if (this.#ground.ids.includes(node)) continue
        this.#note(node, 'gone', undefined)
        this.#last.delete(node)
      }
    }
  }

  async #look(node: string): Promise<void> {
    const state = this.#ground.state(node)
    if (state !== 'up') {
      this.#note(node, state, undefined)
      return
    }
    const self = (await this.#ground.cluster(node))?.members.find((member) => member.self)
    // What it said before it was killed or frozen is past.
    const after = this.#ground.state(node)
    if (after !== 'up') this.#note(node, after, undefined)
    else this.#note(node, roleOf(self?.role), self?.term)
    if (self?.role === 'leader' && self.term !== undefined) this.#leads(node, self.term)
  }

  #note(node: string, role: SeenRole, term: number | undefined): void {
    const last = this.#last.get(node)
    if (last?.role === role && last.term === term) return
    const change = { time: this.#now(), node, role, ...(term === undefined ? {} : { term }) }
    this.#last.set(node, change)
    this.changes.push(change)
  }

  #leads(node: string, term: number): void {
    const other = this.#leaders.get(term) ?? node
    this.#leaders.set(term, other)
    if (other !== node) this.rivals.push({ time: this.#now(), term, nodes: [other, node] })
  }
}

function roleOf(role: string | undefined): SeenRole {
  switch (role) {
    case 'leader':
    case 'follower':
    case 'learner':
      return role
    case 'candidate':
    case 'preCandidate':
      return 'candidate'
    default:
      return 'silent'
  }
}
