// The promises of Raft (figure 3) and of `safety.md`, held against every node after every event.

import type { Node } from '../../src/node/node.ts'
import type { Replica } from '../../src/node/replica.ts'
import type { PeerMessage } from '../../src/node/transport.ts'
import type { Entry, HardState, Message } from '../../src/raft/types.ts'
import { Numbers } from './numbers.ts'
import type { Transcript } from './transcript.ts'
import type { Witness } from './witness.ts'

type Inside = NonNullable<Node['inside']>
type Core = Replica['raft']

/** What is to be watched: a machine, with the node that runs on it now. */
export type Watched = {
  readonly id: string
  readonly peer: string
  readonly node: Node | undefined
  readonly hasState: boolean
}

/** An entry as first seen anywhere: whoever has (index, term) must have this one, after an entry of this term. */
type Known = { readonly entry: Entry; readonly previousTerm: number }

/** `by`: the term of the leader that committed it; every leader of a later term has it. */
type Committed = { readonly term: number; readonly by: number }

/** What was seen last of one run of a node. */
type Seen = {
  readonly replica: Replica
  term: number
  role: string
  lastIndex: number
  lastTerm: number
  savedIndex: number
  commitIndex: number
  lastApplied: number
}

/** What a node must still know after any crash. */
type Durable = { hardState: HardState; savedIndex: number; savedTerm: number }

/** Who belongs to the cluster, by peer ids. */
export type Membership = {
  readonly members: readonly string[]
  readonly voters: readonly string[]
  /** From which boot on the word of each member counts. */
  readonly since: ReadonlyMap<string, number>
}

export type Violation = { readonly promise: string; readonly facts: string }

export class Observer {
  readonly #transcript: Transcript
  readonly #machines: readonly Watched[]
  readonly #known = new Map<string, Known>()
  readonly #leaders = new Map<number, string>()
  /** `voter/term` → whom it voted for. */
  readonly #votes = new Map<string, string>()
  /** By index. */
  readonly #committed: (Committed | undefined)[] = []
  readonly #seen = new Map<string, Seen>()
  readonly #durable = new Map<string, Durable>()
  /** Machines whose log was harmed and that have not taken part since: what they said before may still be counted. */
  readonly #excused = new Set<string>()
  /** How often each machine's node came back without its log: what it said before may still be counted. */
  readonly #losses = new Map<string, number>()
  /** The boot at which each noticed it last. */
  readonly #lostAt = new Map<string, number>()
  readonly #founders: readonly string[]
  /** By index and term. */
  readonly #configurations = new Map<string, Membership & { readonly index: number; readonly term: number }>()
  readonly #numbers = new Numbers()
  readonly #witness: Witness
  #violation: Violation | undefined

  constructor(
    machines: readonly Watched[],
    options: {
      readonly founders: readonly string[]
      readonly transcript: Transcript
      readonly witness: Witness
    },
  ) {
    const { founders, transcript, witness } = options
    this.#machines = machines
    this.#founders = founders
    this.#witness = witness
    const peers = machines.filter(({ id }) => founders.includes(id)).map(({ peer }) => peer)
    this.#configurations.set('0/0', { index: 0, term: 0, members: peers, voters: peers, since: new Map() })
    this.#transcript = transcript
  }

  /** The first promise that was broken. */
  get violation(): Violation | undefined {
    return this.#violation
  }

  /** Commands that came into the log once more. */
  get repeats(): number {
    return this.#numbers.repeats
  }

  /** How many terms had a leader. */
  get elections(): number {
    return this.#leaders.size
  }

  /** Whether every founding member was seen to take part at some time. */
  get haveFoundersTakenPart(): boolean {
    return this.#founders.every((id) => this.#seen.has(id))
  }

  /** The last one that is known to be committed. */
  get committedConfiguration(): Membership {
    return this.#newestCommitted
  }

  get #newestCommitted(): Membership & { readonly index: number } {
    let newest = {
      index: -1,
      members: [] as readonly string[],
      voters: [] as readonly string[],
      since: new Map() as ReadonlyMap<string, number>,
    }
    for (const configuration of this.#configurations.values()) {
      const { index, term } = configuration
      const isCommitted = index === 0 || this.#committed[index]?.term === term
      if (isCommitted && index > newest.index) newest = configuration
    }
    return newest
  }

  /** That one, and those that were appended somewhere after it and not committed yet. */
  get possibleConfigurations(): readonly Membership[] {
    const committed = this.#newestCommitted
    return [...this.#configurations.values()].filter(({ index }) => index >= committed.index)
  }

  /** Says that a promise is broken, unless another was before. */
  accuse(promise: string, facts: string): void {
    if (this.#violation !== undefined) return
    this.#violation = { promise, facts }
    this.#transcript.write(`BROKEN ${promise}: ${facts}`)
  }

  #must(holds: boolean, promise: string, facts: () => string): void {
    if (!holds) this.accuse(promise, facts())
  }

  /** What is durable on this machine was harmed: it is held to nothing of what it has promised so far. */
  excuse(machine: Watched): void {
    this.#durable.delete(machine.peer)
    this.#excused.add(machine.peer)
  }

  /** After every event. */
  look(): void {
    for (const machine of this.#machines) {
      const inside = machine.node?.inside
      if (inside === undefined) continue
      this.#must(machine.hasState, 'the log names a state that is there (rule 6)', () => machine.id)
      this.#lookAt(machine, inside)
    }
  }

  #lookAt(machine: Watched, inside: Inside): void {
    const { replica } = inside
    const core = replica.raft
    const { log, term, role } = core
    let seen = this.#seen.get(machine.id)
    if (seen?.replica !== replica) seen = this.#begun(machine, inside)
    const { lastIndex, lastTerm, commitIndex, savedIndex } = log
    const lastApplied = inside.machine?.lastApplied ?? seen.lastApplied
    const durableIndex = inside.machine?.durableIndex ?? 0
    const logMoved = seen.lastIndex !== lastIndex || seen.lastTerm !== lastTerm
    const isSame =
      !logMoved &&
      seen.term === term &&
      seen.role === role &&
      seen.commitIndex === commitIndex &&
      seen.savedIndex === savedIndex &&
      seen.lastApplied === lastApplied
    if (isSame) return
    for (const value of [term, lastIndex, commitIndex, savedIndex, lastApplied]) this.#transcript.mix(value)
    this.#must(term >= seen.term, 'terms only grow', () => `${machine.id}: ${seen.term}, then ${term}`)
    this.#must(
      lastApplied <= commitIndex,
      'only what is committed is applied',
      () => `${machine.id} applied ${lastApplied} of ${commitIndex}`,
    )
    this.#must(
      durableIndex <= savedIndex,
      'LevelDB never runs ahead of the own log (rule 5)',
      () => `${machine.id} holds ${durableIndex} there, ${savedIndex} in its log`,
    )
    if (logMoved) {
      this.#matchLog(machine, core, seen.commitIndex + 1)
      this.#lookAtHolding(machine, core)
    }
    if (role === 'leader') this.#lookAtLeader(machine, core, seen)
    const durable = this.#durableOf(machine)
    durable.savedIndex = savedIndex
    durable.savedTerm = log.term(savedIndex) ?? 0
    if (commitIndex !== seen.commitIndex) this.#lookAtCommit(machine, core, seen.commitIndex)
    if (lastApplied !== seen.lastApplied) this.#lookAtState(machine, inside)
    seen.term = term
    seen.role = role
    seen.lastIndex = lastIndex
    seen.lastTerm = lastTerm
    seen.savedIndex = savedIndex
    seen.commitIndex = commitIndex
    seen.lastApplied = lastApplied
  }

  /** A node takes part again: it must know all that it has promised. */
  #begun(machine: Watched, { replica, wal }: Inside): Seen {
    const { recovered } = wal
    const { rebuilding } = replica.status
    if (rebuilding !== undefined) this.#lost(machine, rebuilding)
    if (this.#excused.delete(machine.peer)) this.#durable.delete(machine.peer)
    const durable = this.#durable.get(machine.peer)
    if (durable !== undefined) {
      const { term, votedFor } = recovered.hardState
      const { hardState, savedIndex, savedTerm } = durable
      this.#must(
        term > hardState.term ||
          (term === hardState.term && (hardState.votedFor === undefined || votedFor === hardState.votedFor)),
        'the durable term and vote never go back',
        () =>
          `${machine.id} came back with ${term}/${votedFor} after ${hardState.term}/${hardState.votedFor}`,
      )
      const has = replica.raft.log.term(savedIndex)
      this.#must(
        savedIndex <= recovered.base.index || has === savedTerm,
        'what was saved is there after a restart',
        () => `${machine.id} had ${savedIndex}/${savedTerm}, and came back with ${has} at that index`,
      )
    }
    this.#lookAtBase(machine, replica.raft)
    const seen: Seen = {
      replica,
      term: 0,
      role: 'follower',
      lastIndex: -1,
      lastTerm: -1,
      savedIndex: -1,
      commitIndex: replica.raft.log.commitIndex,
      lastApplied: -1,
    }
    this.#seen.set(machine.id, seen)
    return seen
  }

  /** What a log begins after has the configuration that held there. One that joined has only what it was told: base 0. */
  #lookAtBase(machine: Watched, { log }: Core): void {
    const { index } = log.base
    const held = [...this.#configurations.values()]
      .filter(
        (each) =>
          each.index <= index && (each.index === 0 || this.#committed[each.index]?.term === each.term),
      )
      .reduce((newest, each) => (each.index > newest.index ? each : newest))
    const voters = log.configurations[0]?.configuration.members.flatMap(({ peer, voter }) =>
      voter ? [peer] : [],
    )
    this.#must(
      index === 0 || new Set(voters).symmetricDifference(new Set(held.voters)).size === 0,
      'a log begins with the configuration that held there (rule 4)',
      () => `${machine.id} at ${index}: ${voters?.join(', ')}, not ${held.voters.join(', ')}`,
    )
  }

  /** Its node has noticed that its log was lost, and says so: it is held to nothing of what it promised before. */
  #lost(machine: Watched, boot: number): void {
    if (this.#lostAt.get(machine.peer) === boot) return
    this.#lostAt.set(machine.peer, boot)
    this.#durable.delete(machine.peer)
    this.#losses.set(machine.peer, (this.#losses.get(machine.peer) ?? 0) + 1)
  }

  #durableOf(machine: Watched): Durable {
    let durable = this.#durable.get(machine.peer)
    if (durable === undefined) {
      durable = { hardState: { term: 0, votedFor: undefined }, savedIndex: 0, savedTerm: 0 }
      this.#durable.set(machine.peer, durable)
    }
    return durable
  }

  /** The configuration that holds is that of the newest entry that has one (thesis 4.1). */
  #lookAtHolding(machine: Watched, { log }: Core): void {
    const { index } = log.configuration
    this.#must(
      index <= log.base.index || this.#configurations.has(`${index}/${log.term(index)}`),
      'the configuration that holds is in the log',
      () => `${machine.id} holds that of ${index}, where its log has term ${log.term(index)}`,
    )
  }

  /** Log matching (section 5.3): what stands at an index in a term is the same everywhere, and so is all before it. */
  #matchLog(machine: Watched, core: Core, from: number): void {
    const { log } = core
    const begin = Math.max(from, log.base.index + 1)
    for (const entry of entriesFrom(log, begin)) {
      const key = `${entry.index}/${entry.term}`
      const previousTerm = log.term(entry.index - 1) ?? -1
      const known = this.#known.get(key)
      if (known === undefined) {
        this.#known.set(key, { entry, previousTerm })
        this.#witness.appended(entry)
        this.#lookAtConfiguration(machine, core, entry)
      } else {
        this.#must(
          isSameEntry(known.entry, entry),
          'log matching: one entry for an index and term',
          () => `${key} at ${machine.id}`,
        )
        this.#must(
          known.previousTerm === previousTerm,
          'log matching: one history before an index and term',
          () => `${key} at ${machine.id} follows term ${previousTerm}, elsewhere ${known.previousTerm}`,
        )
      }
    }
  }

  /** Thesis 4.1: majorities of two configurations that follow each other have a member in common. */
  #lookAtConfiguration(machine: Watched, core: Core, entry: Entry): void {
    if (entry.type !== 'configuration') return
    const { index, term, configuration } = entry
    const members = configuration.members.map(({ peer }) => peer)
    const voters = configuration.members.flatMap(({ peer, voter }) => (voter ? [peer] : []))
    const since = new Map(configuration.members.map((member) => [member.peer, member.since]))
    this.#configurations.set(`${index}/${term}`, { index, term, members, voters, since })
    this.#transcript.write(
      `configuration ${index}/${term}: voters ${voters.join(', ')} of ${members.join(', ')}`,
    )
    const last = core.log.configurations.findLast((each) => each.index < index)
    if (last === undefined) return
    // Whoever is seen to have it first is the leader that appended it.
    if (core.role === 'leader' && core.term === term) {
      this.#must(
        last.index <= core.log.commitIndex && core.log.term(core.log.commitIndex) === term,
        'one change of members at a time, after an entry of the own term is committed',
        () => `${index}/${term} at ${machine.id} after ${last.index}, with ${core.log.commitIndex} committed`,
      )
    }
    const before = last.configuration.members
    const differs = new Set(voters).symmetricDifference(
      new Set(before.flatMap(({ peer, voter }) => (voter ? [peer] : []))),
    )
    this.#must(
      differs.size <= 1,
      'one vote more or less from one configuration to the next',
      () => `${index}/${term} at ${machine.id} differs in ${[...differs].join(', ')}`,
    )
  }

  #lookAtLeader(machine: Watched, core: Core, seen: Seen): void {
    const { log, term } = core
    const other = this.#leaders.get(term)
    this.#must(
      other === undefined || other === machine.id,
      'election safety',
      () => `${other} and ${machine.id} lead term ${term}`,
    )
    if (seen.role === 'leader' && seen.term === term) {
      this.#must(
        log.lastIndex >= seen.lastIndex && log.term(seen.lastIndex) === seen.lastTerm,
        'a leader only appends',
        () => `${machine.id} had ${seen.lastIndex}/${seen.lastTerm}`,
      )
      return
    }
    this.#leaders.set(term, machine.id)
    this.#transcript.write(`${machine.id} leads term ${term} from ${log.lastIndex}/${log.lastTerm}`)
    for (const [index, committed] of this.#committed.entries()) {
      if (committed === undefined || committed.by >= term || index <= log.base.index) continue
      this.#must(
        log.term(index) === committed.term,
        'leader completeness',
        () => `${machine.id} leads ${term} without ${index}/${committed.term}`,
      )
    }
  }

  #lookAtCommit(machine: Watched, core: Core, before: number): void {
    const { log, term, role } = core
    this.#must(
      log.commitIndex > before,
      'the commit index only grows',
      () => `${machine.id}: ${before}, then ${log.commitIndex}`,
    )
    for (let index = Math.max(before, log.base.index) + 1; index <= log.commitIndex; index++) {
      const entryTerm = log.term(index) ?? -1
      const committed = this.#committed[index]
      if (committed !== undefined) {
        this.#must(
          committed.term === entryTerm,
          'state-machine safety',
          () => `${machine.id} commits ${index}/${entryTerm}, others ${index}/${committed.term}`,
        )
        continue
      }
      if (role === 'leader') this.#mustBeDurable(core, index, entryTerm)
      this.#committed[index] = { term: entryTerm, by: term }
      const entry = this.#known.get(`${index}/${entryTerm}`)?.entry
      if (entry === undefined) throw new Error(`${index}/${entryTerm} was seen in no log`)
      this.#numbers.logged(entry)
      this.#witness.committed(entry)
    }
  }

  #mustBeDurable(core: Core, index: number, term: number): void {
    const { log } = core
    this.#must(
      log.term(log.commitIndex) === core.term,
      'only an entry of the own term is committed by counting (section 5.4.2)',
      () => `${log.commitIndex} in term ${core.term}`,
    )
    const { voters } = log
    const having = voters.filter((voter) => this.#has(voter, index, term))
    this.#must(
      having.length * 2 > voters.length,
      'what is committed is durable on a quorum',
      () => `${index}/${term} is on ${having.join(', ') || 'no disk'}`,
    )
  }

  /** Whether the core of this node, or what it left when it ended, says that it has an entry durably. */
  #has(peer: string, index: number, term: number): boolean {
    if (this.#excused.has(peer) || this.#losses.has(peer)) return true
    const machine = this.#machines.find((one) => one.peer === peer)
    const log = machine?.node?.inside?.replica.raft.log
    if (log !== undefined) return index <= log.savedIndex && log.term(index) === term
    // What is known of one that does not run is only its last position; with that it had all before it.
    const durable = this.#durable.get(peer)
    return durable !== undefined && durable.savedIndex >= index
  }

  #lookAtState({ id }: Watched, { machine }: Inside): void {
    if (machine === undefined) return
    const { lastApplied, revision } = machine
    const expected = this.#witness.revisionAt(lastApplied)
    this.#must(
      expected === undefined || expected === revision,
      'the log leads every state to what it says',
      () => `${id} has revision ${revision} at ${lastApplied}, where the log comes to ${expected}`,
    )
  }

  /** As a message leaves. */
  sent(from: string, message: PeerMessage): void {
    if (message.type === 'raft') this.#promised(from, message.message)
  }

  #promised(from: string, message: Message): void {
    switch (message.type) {
      case 'vote':
        if (!message.preVote && message.granted) this.#voted(from, message.to, message.askedTerm)
        return
      case 'requestVote':
        this.#voted(from, from, message.term)
        return
      case 'readIndex':
        this.#asked(from, message.id)
        return
      case 'appended': {
        const machine = this.#machines.find((one) => one.peer === from)
        if (machine === undefined) return
        const durable = this.#durableOf(machine)
        if (message.term > durable.hardState.term) {
          durable.hardState = { term: message.term, votedFor: undefined }
        }
        return
      }
      default:
        return
    }
  }

  /** An answer that comes late must not be taken for one to another question. */
  #asked(from: string, id: number): void {
    const asking = this.#machines.find((one) => one.peer === from)?.node?.inside?.replica
    this.#must(
      this.#numbers.asked(from, id, asking),
      'no read id is used again after a restart (rule 19)',
      () => `${from} asks under ${id}`,
    )
  }

  #mayVote(voter: string): boolean {
    const boot = this.#lostAt.get(voter)
    if (boot === undefined) return true
    return [...this.#configurations.values()].some(
      ({ index, term, since }) => this.#committed[index]?.term === term && (since.get(voter) ?? 0) >= boot,
    )
  }

  #voted(voter: string, candidate: string, term: number): void {
    // One that lost its log may vote again in a term in which it voted.
    const key = `${voter}/${term}/${this.#losses.get(voter) ?? 0}`
    const other = this.#votes.get(key)
    this.#must(
      other === undefined || other === candidate,
      'one vote in a term',
      () => `${voter} voted for ${other} and ${candidate} in ${term}`,
    )
    this.#votes.set(key, candidate)
    this.#must(
      this.#mayVote(voter),
      'who lost its log votes only once a committed configuration says that its past counts no more (rule 7)',
      () => `${voter} for ${candidate} in ${term}`,
    )
    const machine = this.#machines.find((one) => one.peer === voter)
    if (machine === undefined) return
    const durable = this.#durableOf(machine)
    if (term >= durable.hardState.term) durable.hardState = { term, votedFor: candidate }
  }
}

/** From `begin` on, as far as they are in memory: what is not was there before, and was seen then. */
function entriesFrom(log: Core['log'], begin: number): readonly Entry[] {
  for (let from = begin; from <= log.lastIndex; from++) {
    const entries = log.slice(from, Number.MAX_SAFE_INTEGER)
    if (entries !== undefined) return entries
  }
  return []
}

function isSameEntry(one: Entry, other: Entry): boolean {
  if (one === other) return true
  if (one.type === 'commands' && other.type === 'commands') {
    return Buffer.from(one.data).equals(other.data)
  }
  return JSON.stringify(one) === JSON.stringify(other)
}
