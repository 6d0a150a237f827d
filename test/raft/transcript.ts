// Plays a transcript: lines of commands, and beneath each one what came of it, in plain text.
//
// `# ...` is a remark, `> ...` a command, everything else is recorded. `test/raft/transcripts` has the transcripts,
// `transcripts.test.ts` compares them or records them anew. The commands are the cases of `#play` below.

import { assert } from '../../src/raft/assert.ts'
import type { Entry, HardState, MemberId } from '../../src/raft/types.ts'
import { Ensemble, type Happening, type Tuning } from './ensemble.ts'
import { demote, promote } from './mischief.ts'
import { configurationOf } from './seat.ts'
import { describeEntries, describeHappening, describeMessage, describeStatus } from './transcript-text.ts'

/** What may be shown besides what every transcript shows: roles, reads and answers. */
const topics = ['messages', 'heartbeats', 'commits', 'applies', 'saves'] as const

type Topic = (typeof topics)[number]

export class Transcript {
  #members: readonly MemberId[] = []
  #learners: MemberId[] = []
  #spares: MemberId[] = []
  #tuning: Partial<Tuning> = {}
  readonly #disks = new Map<MemberId, { hardState: HardState; entries: Entry[] }>()
  /** What each member draws for its timeouts, from 0 to 1. By its place unless told otherwise, so that they never collide. */
  readonly #draws = new Map<MemberId, number>()
  readonly #shown = new Set<Topic>()
  #ensemble: Ensemble | undefined
  #output: string[] = []

  /** Plays the text and returns it with what is recorded now. */
  static play(text: string): string {
    const transcript = new Transcript()
    const lines: string[] = []
    for (const line of text.split('\n')) {
      if (line.startsWith('> ')) lines.push(line, ...transcript.#command(line.slice(2)))
      else if (line.startsWith('#') || line.trim() === '') lines.push(line)
    }
    return lines.join('\n')
  }

  #command(line: string): readonly string[] {
    this.#output = []
    const [verb, ...words] = line.split(/\s+/)
    assert(verb !== undefined, 'a command has a verb')
    this.#play(verb, words)
    return this.#output
  }

  #say(line: string): void {
    this.#output.push(line)
  }

  #play(verb: string, words: readonly string[]): void {
    if (this.#ensemble === undefined) this.#prepare(verb, words)
    else if (
      !this.#input(this.#ensemble, verb, words) &&
      !this.#change(this.#ensemble, verb, words) &&
      !this.#surroundings(this.#ensemble, verb, words)
    ) {
      throw new Error(`Unknown command: ${verb}`)
    }
  }

  /** Before the start. */
  #prepare(verb: string, words: readonly string[]): void {
    const [first, ...rest] = words
    switch (verb) {
      // cluster a b c [learner:d] [spare:e] [windowBytes=100 ...]
      case 'cluster':
        this.#learners = words.filter((word) => word.startsWith('learner:')).map((word) => word.slice(8))
        this.#spares = words.filter((word) => word.startsWith('spare:')).map((word) => word.slice(6))
        this.#members = words
          .filter((word) => !word.includes('='))
          .map((word) => word.replace(/^(learner|spare):/, ''))
        this.#tuning = Object.fromEntries(
          words
            .filter((word) => word.includes('='))
            .map((word) => [word.split('=')[0], Number(word.split('=')[1])]),
        )
        return
      // log a 1 1 2 3+abcd: the terms of its entries; the last one here is a configuration of these voters
      case 'log':
        this.#disk(this.#member(first)).entries.push(...rest.map((word, at) => entryOf(word, at + 1)))
        return
      // term a 7 [voted b]
      case 'term':
        this.#disk(this.#member(first)).hardState = { term: Number(rest[0]), votedFor: rest[2] }
        return
      case 'draw':
        this.#draws.set(this.#member(first), Number(rest[0]))
        return
      case 'show':
        this.#show(words)
        return
      case 'start':
        for (const [at, id] of this.#members.entries()) {
          if (!this.#draws.has(id)) this.#draws.set(id, at / this.#members.length)
        }
        this.#ensemble = new Ensemble({
          members: this.#members.filter((id) => !this.#spares.includes(id)),
          learners: this.#learners,
          spares: this.#spares,
          tuning: this.#tuning,
          disks: this.#disks,
          random: (member) => this.#draws.get(member) ?? 0,
          watch: (happening) => this.#watch(happening),
        })
        return
      default:
        throw new Error(`Unknown command before the start: ${verb}`)
    }
  }

  /** What a core is told, and what its disk and state machine do. Returns false for another command. */
  #input(ensemble: Ensemble, verb: string, words: readonly string[]): boolean {
    const [first, second] = words
    switch (verb) {
      case 'propose': {
        const data = new TextEncoder().encode(words.slice(1).join(' '))
        const proposed = ensemble.propose(this.#member(first), data)
        this.#say(
          proposed.type === 'appended'
            ? `appended ${proposed.index}/${proposed.term}`
            : `refused: ${proposed.reason}`,
        )
        return true
      }
      case 'read':
        this.#say(`asked as read ${ensemble.read(this.#member(first))}`)
        return true
      case 'transfer':
        this.#say(ensemble.transfer(this.#member(first), this.#member(second)) ? 'begun' : 'refused')
        return true
      // disconnect a b: a is told that its last connection to b ended; "by-us" says that it closed it itself
      case 'disconnect':
        ensemble.disconnect(this.#member(first), this.#member(second), { byUs: words[2] === 'by-us' })
        return true
      // tick 10 [a b]: everybody, or these; after each tick everything that may move does
      case 'tick':
        this.#tick(ensemble, Number(first), words.slice(1))
        return true
      // tick-only 10 a b: nothing else moves
      case 'tick-only':
        for (let tick = 0; tick < Number(first); tick++) for (const id of words.slice(1)) ensemble.tick(id)
        return true
      case 'settle':
        ensemble.settle()
        return true
      case 'save':
        ensemble.finishSave(this.#member(first))
        return true
      case 'apply':
        ensemble.finishApply(this.#member(first))
        return true
      case 'fetch':
        ensemble.finishFetch(this.#member(first))
        return true
      // crash a [kept]: "kept" says that the save under way reached the disk
      case 'crash':
        ensemble.crash(this.#member(first), { kept: second === 'kept' })
        return true
      case 'restart':
        ensemble.restart(this.#member(first))
        return true
      default:
        return false
    }
  }

  /** Members that come and go, logs that are shortened, disks that lose something. Returns false for another command. */
  #change(ensemble: Ensemble, verb: string, words: readonly string[]): boolean {
    const [first, second] = words
    switch (verb) {
      // change a abc(d): to these voters, and these learners
      case 'change': {
        const [voters = '', learners = ''] = (second ?? '').replace(')', '').split('(')
        const wanted = configurationOf([...voters, ...learners], [...learners])
        const changed = ensemble.change(this.#member(first), wanted)
        this.#say(
          changed.type === 'appended'
            ? `appended ${changed.index}/${changed.term}`
            : `refused: ${changed.reason}`,
        )
        return true
      }
      // demote a, promote a: what the shell of the leader a sees to by itself
      case 'demote':
      case 'promote':
        this.#say((verb === 'demote' ? demote : promote)(ensemble, this.#member(first)) ?? 'nobody')
        return true
      case 'compact':
        ensemble.compact(this.#member(first), Number(second))
        return true
      // lose-log a [state]: of a member that is down; with "state" its state too
      case 'lose-log':
        ensemble.loseLog(this.#member(first), { keepsState: second !== 'state' })
        return true
      case 'lose-state':
        ensemble.loseState(this.#member(first))
        return true
      default:
        return false
    }
  }

  #tick(ensemble: Ensemble, count: number, members: readonly string[]): void {
    for (let tick = 1; tick <= count; tick++) {
      const before = this.#output.length
      ensemble.run(1, members.length > 0 ? members : ensemble.members)
      if (count > 1 && this.#output.length > before) this.#output.splice(before, 0, `tick ${tick}:`)
    }
  }

  /** The network, what is held back, and what can be looked at. Returns false for another command. */
  #surroundings(ensemble: Ensemble, verb: string, words: readonly string[]): boolean {
    const [first, second] = words
    switch (verb) {
      // deliver a→b [2]: that many, oldest first; "last" takes the newest before all others
      case 'deliver': {
        const [from, to] = this.#link(first)
        if (second === 'last') ensemble.deliver(from, to, ensemble.network.underWay(from, to).length - 1)
        else for (let count = Number(second ?? 1); count > 0; count--) ensemble.deliver(from, to)
        return true
      }
      // lose a→b [0]: everything under way, or the one at that place
      case 'lose':
        ensemble.lose(...this.#link(first), second === undefined ? undefined : Number(second))
        return true
      case 'repeat':
        ensemble.network.duplicate(...this.#link(first))
        return true
      case 'cut':
        for (const word of words) ensemble.network.cut(...this.#link(word))
        return true
      case 'slow':
        for (const word of words) ensemble.network.slow(...this.#link(word))
        return true
      case 'isolate':
        for (const word of words) ensemble.network.isolate(this.#member(word))
        return true
      case 'heal':
        if (words.length === 0) ensemble.network.healAll()
        for (const word of words) ensemble.network.heal(...this.#link(word))
        return true
      // hold a saves, release a saves
      case 'hold':
      case 'release':
        assert(
          second === 'saves' || second === 'applies' || second === 'snapshots',
          'saves, applies or snapshots are held',
        )
        ensemble.seat(this.#member(first))[`${second}Held`] = verb === 'hold'
        return true
      case 'draw':
        this.#draws.set(this.#member(first), Number(second))
        return true
      case 'show':
        this.#show(words)
        return true
      case 'status':
        for (const id of words.length > 0 ? words : ensemble.members)
          this.#say(describeStatus(ensemble.seat(id)))
        return true
      case 'log':
        for (const id of words.length > 0 ? words : ensemble.members) {
          this.#say(`${id} has on disk ${describeEntries(ensemble.seat(id).disk.entries)}`)
        }
        return true
      case 'links':
        this.#sayLinks(ensemble)
        return true
      default:
        return false
    }
  }

  #show(words: readonly string[]): void {
    this.#shown.clear()
    for (const word of words) {
      const topic = topics.find((known) => known === word)
      assert(topic !== undefined || word === 'nothing', `${word} can be shown`)
      if (topic !== undefined) this.#shown.add(topic)
    }
  }

  #watch(happening: Happening): void {
    if (this.#isShown(happening)) this.#say(describeHappening(happening))
  }

  #isShown(happening: Happening): boolean {
    switch (happening.type) {
      case 'role':
      case 'read':
      case 'fetched':
      case 'installing':
      case 'installed':
      case 'snapshot':
        return true
      case 'committed':
        return this.#shown.has('commits')
      case 'applied':
        return this.#shown.has('applies')
      case 'saving':
      case 'saved':
        return this.#shown.has('saves')
      case 'sent':
        return false
      case 'delivered':
      case 'lost': {
        const { type } = happening.message
        const beat = type === 'heartbeat' || type === 'heartbeatAnswer'
        return this.#shown.has(beat ? 'heartbeats' : 'messages')
      }
      default:
        return happening satisfies never
    }
  }

  #sayLinks(ensemble: Ensemble): void {
    for (const from of ensemble.members) {
      for (const to of ensemble.members) {
        if (from === to) continue
        for (const message of ensemble.network.underWay(from, to))
          this.#say(`waiting: ${describeMessage(message)}`)
      }
    }
  }

  #disk(id: MemberId): { hardState: HardState; entries: Entry[] } {
    let disk = this.#disks.get(id)
    if (disk === undefined) {
      disk = { hardState: { term: 1, votedFor: undefined }, entries: [] }
      this.#disks.set(id, disk)
    }
    return disk
  }

  #member(word: string | undefined): MemberId {
    assert(word !== undefined && this.#members.includes(word), `${word} is a member`)
    return word
  }

  #link(word: string | undefined): [MemberId, MemberId] {
    const [from, to] = (word ?? '').split('→')
    return [this.#member(from), this.#member(to)]
  }
}

/** Entries of equal index and term are the same entry on every disk. */
const shared = new Map<string, Entry>()

function entryOf(word: string, index: number): Entry {
  const key = `${index}:${word}`
  const known = shared.get(key)
  if (known !== undefined) return known
  const [term, voters] = word.split('+')
  const entry: Entry =
    voters === undefined
      ? { type: 'commands', index, term: Number(term), data: new TextEncoder().encode(`${index}/${term}`) }
      : { type: 'configuration', index, term: Number(term), configuration: configurationOf([...voters]) }
  shared.set(key, entry)
  return entry
}
