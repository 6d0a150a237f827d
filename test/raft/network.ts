// The links between members: what is sent waits on them until somebody delivers, loses or repeats it.

import { assert } from '../../src/raft/assert.ts'
import type { MemberId, Message } from '../../src/raft/types.ts'

export class Network {
  readonly #members: readonly MemberId[]
  /** Messages under way on each directed link, oldest first. */
  readonly #links = new Map<string, Message[]>()
  readonly #cut = new Set<string>()
  readonly #slow = new Set<string>()

  constructor(members: readonly MemberId[]) {
    this.#members = members
    for (const from of members) for (const to of members) if (from !== to) this.#links.set(link(from, to), [])
  }

  /** What is under way from one member to another, oldest first. */
  underWay(from: MemberId, to: MemberId): readonly Message[] {
    return this.#link(from, to)
  }

  /** The oldest message of each link on which messages arrive by themselves. */
  *arriving(): Iterable<Message> {
    for (const messages of this.#links.values()) {
      const message = messages[0]
      if (message !== undefined && this.isOpen(message.from, message.to)) yield message
    }
  }

  /** Whether messages arrive by themselves. */
  isOpen(from: MemberId, to: MemberId): boolean {
    const name = link(from, to)
    return !this.#cut.has(name) && !this.#slow.has(name)
  }

  /** False when the link is cut and the message lost. */
  send(message: Message): boolean {
    if (this.#cut.has(link(message.from, message.to))) return false
    this.#link(message.from, message.to).push(message)
    return true
  }

  /** Takes the message at `at` off the link. */
  take(from: MemberId, to: MemberId, at: number): Message {
    const [message] = this.#link(from, to).splice(at, 1)
    assert(message !== undefined, `a message is under way from ${from} to ${to}`)
    return message
  }

  /** The message at `at` comes once more, later. */
  duplicate(from: MemberId, to: MemberId, at = 0): void {
    const messages = this.#link(from, to)
    const message = messages[at]
    assert(message !== undefined, `a message is under way from ${from} to ${to}`)
    messages.push(message)
  }

  /** From now on what is sent is lost; what is under way already waits. */
  cut(from: MemberId, to: MemberId): void {
    this.#cut.add(link(from, to))
  }

  isolate(id: MemberId): void {
    for (const peer of this.#members) {
      if (peer === id) continue
      this.cut(id, peer)
      this.cut(peer, id)
    }
  }

  /** From now on what is sent waits, and so arrives late. */
  slow(from: MemberId, to: MemberId): void {
    this.#slow.add(link(from, to))
  }

  heal(from: MemberId, to: MemberId): void {
    this.#cut.delete(link(from, to))
    this.#slow.delete(link(from, to))
  }

  healAll(): void {
    this.#cut.clear()
    this.#slow.clear()
  }

  #link(from: MemberId, to: MemberId): Message[] {
    const messages = this.#links.get(link(from, to))
    assert(messages !== undefined, `there is a link from ${from} to ${to}`)
    return messages
  }
}

function link(from: MemberId, to: MemberId): string {
  return `${from}→${to}`
}
