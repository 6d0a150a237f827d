// Once only for clients: what a client may send again, by session or by key, and when that is forgotten (`safety.md`, rule 18).

import type { Row } from './overlay.ts'
import type { RowPlace } from './state-changes.ts'
import { type GoneRow, type IdempotencyKeys, isKept } from './state-idempotency.ts'
import type { Moment } from './state-moment.ts'
import type { Sessions } from './state-sessions.ts'
import type { Once, Outcome } from './types.ts'

/** At most this many sessions and keys that have ended are taken away with one entry. */
const collectedPerEntry = 1000

/** A write that its client may send again. */
export type Repeatable = {
  /** The name of the token: what a token's secret is replaced by keeps its sessions and keys. */
  readonly principal: string
  readonly once: Once
  /** Where its idempotency key lies, and what stands there; undefined for a write of a session. */
  readonly memory: (RowPlace & { readonly row: Uint8Array | undefined }) | undefined
}

export class Repeats {
  readonly #sessions: Sessions
  readonly #keys: IdempotencyKeys
  #time = 0
  #index = 0
  #position = 0

  constructor(sessions: Sessions, keys: IdempotencyKeys) {
    this.#sessions = sessions
    this.#keys = keys
  }

  /** An entry begins. Returns rows that are to go, a bounded number. */
  begin(entry: { readonly time: number; readonly index: number }): readonly GoneRow[] {
    this.#time = entry.time
    this.#index = entry.index
    this.#position = 0
    this.#sessions.pass(entry.time)
    this.#keys.pass(entry.time)
    return this.#keys.collect(collectedPerEntry - this.#sessions.collect(collectedPerEntry))
  }

  open(principal: string, session: string): Outcome {
    return this.#sessions.open(principal, session, this.#moment())
  }

  /** What a write came to before, or why it is refused; undefined when it is to be decided now. */
  recall({ principal, once, memory }: Repeatable): Outcome | undefined {
    if (once.type === 'session') return this.#sessions.recall(principal, once, this.#moment())
    return memory && this.#keys.recall(memory.key, memory.row, { digest: once.digest, time: this.#time })
  }

  /**
   * Why a write that would come to this cannot be carried out: there is no room to remember it. A session's writes have
   * their room once `recall` has let them through.
   */
  refuse({ principal, once }: Repeatable, outcome: Outcome): Outcome | undefined {
    return once.type === 'key' && isKept(outcome) ? this.#keys.refuse(principal) : undefined
  }

  /** Keeps what a new write came to. Returns the row that says so, if it has one of its own. */
  remember({ principal, once, memory }: Repeatable, outcome: Outcome): Row | undefined {
    if (once.type === 'session') {
      this.#sessions.remember(once, outcome)
      return undefined
    }
    if (memory === undefined || !isKept(outcome)) return undefined
    return this.#keys.remember(memory.key, {
      moment: this.#moment(),
      principal,
      digest: once.digest,
      outcome,
    })
  }

  /** The rows of sessions that changed since it was last asked, for one batch. */
  takeRows(): readonly Row[] {
    return this.#sessions.takeRows()
  }

  #moment(): Moment {
    this.#position += 1
    return { time: this.#time, index: this.#index, position: this.#position }
  }
}
