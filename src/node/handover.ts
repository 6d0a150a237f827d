// Who leads next: leadership goes to whom an operator names, and to somebody else before this node stops.

import { TrivetError } from '../errors.ts'
import type { Member } from '../raft/types.ts'
import type { Replica } from './replica.ts'
import type { WaitOptions } from './surface.ts'
import type { Transport } from './transport.ts'

export type HandoverPorts = {
  readonly transport: Pick<Transport, 'self' | 'send'>
  /** The clock of `performance.now()`. */
  readonly now: () => number
  readonly sleep: (ms: number) => Promise<void>
  /** The election timeout, in milliseconds. */
  readonly electionMs: number
}

export class Handover {
  readonly #ports: HandoverPorts
  #waiters: (() => void)[] = []

  constructor(ports: HandoverPorts) {
    this.#ports = ports
  }

  /** The role, term or leader that the replica sees is another. */
  changed(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const wake of waiters) wake()
  }

  /** Resolves with the next such change, or after `ms`. */
  change(ms: number): Promise<void> {
    return Promise.race([new Promise<void>((resolve) => this.#waiters.push(resolve)), this.#ports.sleep(ms)])
  }

  /** Resolves once this member leads. Rejects with `no-leader`, `deadline-exceeded`, and the reason of the signal. */
  async to(target: Member, replica: Replica, { deadline, signal }: WaitOptions): Promise<void> {
    const { now } = this.#ports
    while (replica.raft.leader !== target.peer) {
      signal?.throwIfAborted()
      if (now() >= deadline) {
        if (replica.raft.leader === undefined) throw new TrivetError('no-leader', 'No leader is known')
        throw new TrivetError(
          'deadline-exceeded',
          `${target.id} did not become the leader before the deadline`,
        )
      }
      this.#ask(replica, target)
      await this.change(Math.min(100, Math.max(1, deadline - now())))
    }
  }

  /** A rolling restart costs no election timeout when the leader names its heir before it goes (thesis 3.10). */
  async away(replica: Replica): Promise<void> {
    const { now, electionMs } = this.#ports
    const deadline = now() + electionMs * 2
    while (replica.raft.role === 'leader' && now() < deadline) {
      const heir = replica.heir()
      if (heir === undefined) return
      replica.transferLeadership(heir)
      // The heir may stop too: then another is named, or nobody.
      await this.change(50)
    }
    // The heir's first message shows that it leads; until then this node's own votes and acknowledgements count.
    while (replica.raft.leader === undefined && now() < deadline) await this.change(20)
  }

  #ask(replica: Replica, target: Member): void {
    const { transport } = this.#ports
    const { leader } = replica.raft
    if (leader === transport.self) replica.transferLeadership(target.peer)
    else if (leader !== undefined) transport.send(leader, { type: 'transferLeadership', to: target.id })
  }
}
