// What a node in memory keeps of clients' writes: maps, and a time that only tests move.

import type { Once, Outcome } from '../../src/store/types.ts'
import { remembered } from './memory-keys.ts'

const lifeMs = 10 * 60_000

type Session = {
  readonly owner: string
  used: number
  floor: number
  readonly outcomes: Map<number, Outcome>
}

export class MemoryRepeats {
  /** Log time, in milliseconds. */
  time = 0
  /** How many keys a principal may have. */
  keyLimit = 100_000
  readonly #sessions = new Map<string, Session>()
  readonly #keys = new Map<
    string,
    { readonly at: number; readonly digest: string; readonly outcome: Outcome }
  >()

  open(owner: string, session: string): Outcome {
    this.#sessions.set(session, { owner, used: this.time, floor: 0, outcomes: new Map() })
    return { type: 'sessionOpened' }
  }

  /** Has a write decided, unless it was before. */
  once(owner: string, { once }: { readonly once?: Once }, decide: () => Outcome): Outcome {
    if (once === undefined) return decide()
    if (once.type === 'key') return this.#underKey(owner, once, decide)
    const session = this.#sessions.get(once.session)
    if (session === undefined || session.owner !== owner || session.used + lifeMs <= this.time) {
      return { type: 'refused', code: 'session-expired' }
    }
    session.used = this.time
    session.floor = Math.max(session.floor, once.acked)
    if (once.seq <= session.floor)
      return { type: 'refused', code: 'invalid-request', field: 'trivet-session' }
    if (once.seq > session.floor + 1024) {
      return { type: 'refused', code: 'overloaded', limit: 1024, field: 'open writes of a session' }
    }
    const known = session.outcomes.get(once.seq)
    if (known !== undefined) return { ...known, replayed: true }
    const outcome = decide()
    session.outcomes.set(once.seq, remembered(outcome))
    return outcome
  }

  #underKey(
    owner: string,
    { key, digest }: { readonly key: string; readonly digest: Uint8Array },
    decide: () => Outcome,
  ): Outcome {
    const name = `${owner} ${key}`
    const asked = Buffer.from(digest).toString('hex')
    const known = this.#keys.get(name)
    if (known !== undefined && known.at + lifeMs > this.time) {
      if (known.digest !== asked) return { type: 'refused', code: 'idempotency-key-reused' }
      return { ...known.outcome, replayed: true }
    }
    if ([...this.#keys.keys()].filter((one) => one.startsWith(`${owner} `)).length >= this.keyLimit) {
      const limit = this.keyLimit
      return { type: 'refused', code: 'overloaded', limit, field: 'idempotency keys of a principal' }
    }
    const outcome = decide()
    const kept = outcome.type !== 'refused' || outcome.code === 'condition-failed'
    if (kept) this.#keys.set(name, { at: this.time, digest: asked, outcome: remembered(outcome) })
    return outcome
  }
}
