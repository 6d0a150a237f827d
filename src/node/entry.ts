// How a node comes to take part: it founds its cluster with the others or joins it, and says meanwhile what it waits for.

import type { Logger } from 'pino'
import type { MemberId } from '../raft/types.ts'
import { answerFounding, type FoundingOptions, type FoundingQuestion, found } from './founding.ts'
import type { Members } from './members.ts'
import { composeFounding, type NodeAddress, type NodeSettings } from './settings.ts'
import type { Storage } from './storage.ts'
import type { Answer, Transport } from './transport.ts'

export type EntryPorts = {
  readonly own: NodeAddress
  readonly settings: NodeSettings
  readonly storage: Storage
  readonly members: Pick<Members, 'membership' | 'peers'>
  readonly transport: Pick<Transport, 'ask' | 'setPeers'>
  /** Tells peers which cluster this node is of, as soon as it knows. */
  readonly introduce: () => void
  /** The clock of `performance.now()`. */
  readonly now: () => number
  /** Milliseconds since the epoch. */
  readonly clock: () => number
  readonly sleep: (ms: number) => Promise<void>
  /** A signal that aborts after so many milliseconds. */
  readonly timeout: (ms: number) => AbortSignal
  readonly drawClusterId: (() => string) | undefined
  readonly onFatal: (error: Error) => void
  readonly logger: Logger
}

/** How long a founding question may take, in milliseconds. */
const askMs = 2000

/** What is waited for so long is worth a warning, in milliseconds: nodes seldom start in the same second. */
const warnAfterMs = 5000

export class Entry {
  readonly #ports: EntryPorts
  readonly #founding: FoundingOptions
  #waitingFor: string | undefined = 'starting'
  #warnAt = 0
  /** It has joined a cluster that others founded, since the start. */
  #joined = false

  constructor(ports: EntryPorts) {
    this.#ports = ports
    const { own, settings, storage, members, transport, sleep, timeout } = ports
    this.#founding = {
      own,
      nodes: settings.nodes,
      without: settings.foundWithout,
      identity: () => storage.identity,
      membership: (joining) => members.membership(joining),
      compose: (ids) =>
        composeFounding(settings, ids, { now: ports.clock(), clusterId: ports.drawClusterId?.() }),
      found: (founding) => this.#found(founding),
      join: (membership) => this.#join(membership),
      begin: () => this.#durably(storage.begin()),
      ask: (peer, question) => transport.ask(peer, question, { signal: timeout(askMs) }),
      waiting: (sentence) => this.#wait(sentence),
      sleep,
    }
  }

  /** What keeps this node from taking part; undefined once it may. */
  get waitingFor(): string | undefined {
    return this.#waitingFor
  }

  /**
   * Resolves once this node may take part, or with undefined when `stopped` came first. `fresh`: nobody can have led its
   * cluster before.
   */
  async pass(stopped: () => boolean): Promise<{ readonly fresh: boolean } | undefined> {
    const { identity } = this.#ports.storage
    const founds = identity.type === 'empty' || (identity.type === 'founded' && !identity.begun)
    await found(this.#founding, stopped)
    if (stopped()) return undefined
    this.#waitingFor = undefined
    return { fresh: founds && !this.#joined }
  }

  /** Answers another node's question about founding and joining. */
  answer(from: MemberId, question: FoundingQuestion): Promise<Answer> {
    return answerFounding(this.#founding, question, from)
  }

  async #found(founding: Parameters<FoundingOptions['found']>[0]): Promise<void> {
    const { storage, members, transport, introduce, logger } = this.#ports
    await this.#durably(storage.found(founding))
    logger.info({ cluster: founding.clusterId }, 'the founding of the cluster is durable here')
    introduce()
    transport.setPeers(members.peers())
  }

  async #join(membership: Parameters<FoundingOptions['join']>[0]): Promise<void> {
    const { storage, introduce, logger } = this.#ports
    this.#joined = true
    await this.#durably(storage.join(membership))
    logger.info({ cluster: membership.founding.clusterId }, 'joined the cluster as a learner')
    introduce()
  }

  /** Says what it waits for once, and once more as a warning when that lasts. */
  #wait(sentence: string): void {
    const { now, logger } = this.#ports
    if (sentence !== this.#waitingFor) {
      this.#waitingFor = sentence
      this.#warnAt = now() + warnAfterMs
      logger.info(sentence)
    } else if (now() >= this.#warnAt) {
      this.#warnAt = Number.POSITIVE_INFINITY
      logger.warn(`still ${sentence}`)
    }
  }

  /** A disk that cannot hold the founding cannot hold anything. */
  async #durably(write: Promise<void>): Promise<void> {
    try {
      await write
    } catch (error) {
      this.#ports.onFatal(error instanceof Error ? error : new Error(String(error)))
      throw error
    }
  }
}
