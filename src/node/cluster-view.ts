// What this node knows of the others from what they say of themselves: for `/v1/cluster`, readiness and the cluster's time.

import { majority } from '../raft/quorum.ts'
import type { Member, MemberId } from '../raft/types.ts'
import type { MemberStatus } from './surface.ts'
import type { PeerMessage } from './transport.ts'

type Status = Extract<PeerMessage, { type: 'status' }>

/** `commitIndex` is the highest one known here at that moment: what its sender lagged behind, if it lagged. */
type Heard = { readonly status: Status; readonly at: number; readonly commitIndex: number }

/** A member silent for longer than this is shown as unknown; its clock no longer counts. */
const freshMs = 3000

/** A member heard of within this may come back soon: the log it lacks is kept for it (rule 26). */
const latelyMs = 60_000

export class ClusterView {
  readonly #self: MemberId
  /** The clock of `performance.now()`. */
  readonly #now: () => number
  /** Milliseconds since the epoch. */
  readonly #clock: () => number
  readonly #heard = new Map<MemberId, Heard>()

  constructor(options: { self: MemberId; now: () => number; clock: () => number }) {
    this.#self = options.self
    this.#now = options.now
    this.#clock = options.clock
  }

  /** `commitIndex` is this node's own. */
  heard(peer: MemberId, status: Status, commitIndex: number): void {
    this.#heard.set(peer, { status, at: this.#now(), commitIndex: Math.max(commitIndex, status.commitIndex) })
  }

  /** What a member said of itself lately. */
  status(peer: MemberId): Status | undefined {
    return this.#fresh(peer)?.status
  }

  /** How far the members heard of within the last minute had come, also those that are away. */
  get lastApplied(): readonly number[] {
    const now = this.#now()
    return [...this.#heard.values()].flatMap(({ status, at }) =>
      now - at <= latelyMs ? [status.lastApplied] : [],
    )
  }

  /** Keeps only these members. */
  retain(members: readonly Member[]): void {
    const peers = new Set(members.map((member) => member.peer))
    for (const peer of this.#heard.keys()) if (!peers.has(peer)) this.#heard.delete(peer)
  }

  /**
   * The median of the voters' clocks as last heard, moved on by the time since, so that one wrong clock neither
   * expires everything nor holds time back (`safety.md`, rule 23). With an even number, the lower of the middle two. Undefined
   * while fewer than a majority were heard of, as by one that leads since a moment: time can wait.
   */
  time(members: readonly Member[]): number | undefined {
    const now = this.#now()
    const clocks: number[] = []
    const voters = members.filter(({ voter }) => voter)
    for (const { peer } of voters) {
      if (peer === this.#self) clocks.push(this.#clock())
      else {
        const heard = this.#fresh(peer)
        if (heard !== undefined) clocks.push(heard.status.clock + Math.round(now - heard.at))
      }
    }
    if (clocks.length < majority(voters.length)) return undefined
    clocks.sort((a, b) => a - b)
    return clocks[(clocks.length - 1) >> 1]
  }

  /** The members as `/v1/cluster` shows them; `own` is what this node says of itself. */
  members(options: {
    readonly members: readonly Member[]
    readonly own: Status
    readonly connected: (peer: MemberId) => boolean
  }): MemberStatus[] {
    return options.members.map((member) => {
      const self = member.peer === this.#self
      const heard = self
        ? { status: options.own, commitIndex: options.own.commitIndex }
        : this.#fresh(member.peer)
      const status = heard?.status
      return {
        id: member.id,
        peer: member.peer,
        http: member.http,
        p2p: member.p2p,
        role: roleOf(member, status, options.own.term),
        voter: member.voter,
        version: status?.version,
        term: status?.term,
        commitIndex: status?.commitIndex,
        lastApplied: status?.lastApplied,
        lag: heard === undefined ? undefined : Math.max(0, heard.commitIndex - heard.status.lastApplied),
        healthy:
          status !== undefined && status.alarms.length === 0 && (self || options.connected(member.peer)),
        alarms: status?.alarms ?? [],
        digest: status?.digest,
        self,
      }
    })
  }

  #fresh(peer: MemberId): Heard | undefined {
    const heard = this.#heard.get(peer)
    return heard !== undefined && this.#now() - heard.at <= freshMs ? heard : undefined
  }
}

/** Who led in a term before this node's does so no more, and has not said yet what it is now. */
function roleOf({ voter }: Member, status: Status | undefined, ownTerm: number): MemberStatus['role'] {
  if (status === undefined || (status.role === 'leader' && status.term < ownTerm)) return 'unknown'
  return voter ? status.role : 'learner'
}
