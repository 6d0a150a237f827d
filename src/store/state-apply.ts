// Carries out the log: one step after the other, on tables in memory and rows that were fetched. No clock, no await.

import assert from 'node:assert/strict'
import type { Configuration } from '../raft/types.ts'
import type { ChangeFeed } from './change-feed.ts'
import { permits } from './grants.ts'
import { rememberedForm } from './outcome-bytes.ts'
import { placeOf } from './places.ts'
import { type AdminDecision, decideAdmin } from './state-admin.ts'
import { type Alteration, RecordChanges, type Standing } from './state-changes.ts'
import { decide, refuse } from './state-decide.ts'
import type { Ledger } from './state-digest.ts'
import { type Found, rangeBounds, standingOf } from './state-fetch.ts'
import type { State } from './state-open.ts'
import type { Origins } from './state-origins.ts'
import type { Repeatable, Repeats } from './state-repeats.ts'
import { Restore } from './state-restore.ts'
import { checkpointEvery, type Digest, digestOf, type Meta } from './state-rows.ts'
import { type CommandStep, type Known, rowPlace, type Step } from './state-steps.ts'
import { isOpen, StoreTable } from './state-stores.ts'
import { TokenTable } from './state-tokens.ts'
import { decideTransaction, type Transaction } from './state-transaction.ts'
import type {
  AdminCommand,
  Applied,
  Command,
  KeyCommand,
  Outcome,
  RepeatableCommand,
  RestoreCommand,
  Token,
} from './types.ts'

/** What a command would come to. `carryOut` makes it so, and is called at most once; nothing changes where it is absent. */
type Decided = { readonly outcome: Outcome; readonly carryOut: (() => void) | undefined }

type Expire = Extract<Command, { type: 'expire' }>
type DeleteRange = Extract<Command, { type: 'deleteRange' }>

/** The replicated state, as far as memory holds it, and the one way in which the log changes it. */
export class AppliedState {
  readonly stores: StoreTable
  readonly tokens: TokenTable
  readonly #ledger: Ledger
  readonly #founded: Pick<Meta, 'clusterId' | 'cluster' | 'valueBytes' | 'commandVersion'>
  readonly #origins: Origins
  readonly #repeats: Repeats
  readonly #changes: RecordChanges
  readonly #feed: ChangeFeed
  readonly #restore: Restore
  #configuration: Configuration
  #lastApplied: number
  #lastAppliedTerm: number
  #revision: number
  /** The stamp of the last entry that had one. */
  #stamp: number
  #checkpoint: Digest | undefined

  constructor({ meta, ledger, stores, tokens, origins, repeats, restore }: State, feed: ChangeFeed) {
    this.#ledger = ledger
    this.#founded = meta
    this.stores = new StoreTable(stores, meta.nextStore)
    this.tokens = new TokenTable(tokens)
    this.#restore = Restore.load(restore, this.stores)
    this.#origins = origins
    this.#repeats = repeats
    this.#configuration = meta.configuration
    this.#lastApplied = meta.lastApplied
    this.#lastAppliedTerm = meta.lastAppliedTerm
    this.#revision = meta.revision
    this.#stamp = meta.time
    this.#checkpoint = meta.checkpoint
    this.#feed = feed
    this.#changes = new RecordChanges({ ledger, stores: this.stores, feed })
  }

  get lastApplied(): number {
    return this.#lastApplied
  }

  get lastAppliedTerm(): number {
    return this.#lastAppliedTerm
  }

  get revision(): number {
    return this.#revision
  }

  get stamp(): number {
    return this.#stamp
  }

  get configuration(): Configuration {
    return this.#configuration
  }

  get checkpoint(): Digest | undefined {
    return this.#checkpoint
  }

  /** The last boot under which this node's commands were applied; 0 where none were. */
  bootOf(peer: string): number {
    return this.#origins.bootOf(peer)
  }

  get clusterId(): string {
    return this.#founded.clusterId
  }

  /** The stamp at which a restore under way is over, should nothing more come of it. */
  get restoreOverAt(): number | undefined {
    return this.#restore.overAt
  }

  /** What commands are read against. */
  get known(): Known {
    return { stores: this.stores, tokens: this.tokens, valueBytes: this.#founded.valueBytes }
  }

  /** What a step comes to; undefined for one that has no answer. */
  take(step: Step, found: Found): Applied | undefined {
    switch (step.type) {
      case 'begin':
        assert(
          step.entry.index === this.#lastApplied + 1,
          `Entry ${step.entry.index} follows ${this.#lastApplied}`,
        )
        this.#stamp = Math.max(this.#stamp, step.time ?? 0)
        this.#forgetRepeats(step.entry.index, found)
        this.#restore.begin(this.#stamp, this.stores)
        return undefined
      case 'origin':
        this.#origins.hear(step.batch)
        return undefined
      case 'command':
        return this.#decideOnce(step, found)
      case 'end':
        this.#lastApplied = step.entry.index
        this.#lastAppliedTerm = step.entry.term
        if (step.entry.type === 'configuration') this.#configuration = step.entry.configuration
        if (step.entry.index % checkpointEvery === 0) this.#checkpoint = digestOf(this.meta())
        return undefined
      default:
        throw new assert.AssertionError({ message: `Unknown step ${step satisfies never}` })
    }
  }

  /**
   * The first row as it is now; the tables that are kept in memory are written down before, being part of its sum.
   */
  meta(): Meta {
    for (const table of [this.stores, this.tokens, this.#origins, this.#repeats, this.#restore]) {
      for (const row of table.takeRows()) this.#ledger.write(row)
    }
    return {
      ...this.#founded,
      nextStore: this.stores.next,
      lastApplied: this.#lastApplied,
      lastAppliedTerm: this.#lastAppliedTerm,
      revision: this.#revision,
      time: this.#stamp,
      configuration: this.#configuration,
      sum: this.#ledger.sum,
      checkpoint: this.#checkpoint,
    }
  }

  /** Takes away what is remembered of clients' writes and is over. */
  #forgetRepeats(index: number, { rows }: Found): void {
    for (const { name, hash } of this.#repeats.begin({ time: this.#stamp, index })) {
      this.#ledger.remove(name, hash)
      if (rows.has(name)) rows.set(name, undefined)
    }
  }

  /** A command comes: as many times as it comes, it is decided once. */
  #decideOnce(step: CommandStep, found: Found): Applied | undefined {
    const { id, index } = step
    const recollection = this.#origins.recall(id)
    if (recollection.type === 'past') return undefined
    if (recollection.type === 'decided') return { id, index, outcome: recollection.outcome }
    const outcome = this.#carryOut(step, found)
    this.#origins.remember(id, rememberedForm(outcome))
    return { id, index, outcome }
  }

  /** A command that its origin has not had decided before. */
  #carryOut(step: CommandStep, found: Found): Outcome {
    const { command } = step
    switch (command.type) {
      case 'expire':
        return this.#expire(command, found)
      case 'collect':
        return this.#collect(command, found)
      case 'restore':
        return this.#takeRestore(command)
      case 'openSession':
        return this.#openSession(command.token, command.session)
      default:
        return this.#decideForClient(step, command, found)
    }
  }

  #takeRestore(command: RestoreCommand): Outcome {
    const outcome = this.#restore.carryOut(command, {
      token: this.tokens.get(command.token),
      stores: this.stores,
      tokens: this.tokens,
      changes: this.#changes,
      valueBytes: this.#founded.valueBytes,
      revision: this.#revision,
      time: this.#stamp,
    })
    if (outcome.type === 'restored') {
      this.#revision = outcome.revision
      this.#feed.restarted(outcome.revision, this.#stamp)
    }
    return outcome
  }

  #openSession(hash: string, session: string): Outcome {
    const token = this.tokens.get(hash)
    if (token === undefined) return { type: 'refused', code: 'unauthenticated' }
    if (token.principal.type === 'monitor') return { type: 'refused', code: 'access-denied' }
    return this.#repeats.open(token.name, session)
  }

  /** A write that its client may send again. */
  #decideForClient(step: CommandStep, command: RepeatableCommand, found: Found): Outcome {
    const token = this.tokens.get(command.token)
    if (token === undefined) return { type: 'refused', code: 'unauthenticated' }
    const { once } = command
    const { memory } = step
    if (once === undefined) {
      const { outcome, carryOut } = this.#decide(step, command, { token, found })
      carryOut?.()
      return outcome
    }
    const repeatable: Repeatable = {
      principal: token.name,
      once,
      memory: memory && { ...memory, row: found.rows.get(memory.name) },
    }
    const known = this.#repeats.recall(repeatable)
    if (known !== undefined) return known
    const { outcome, carryOut } = this.#decide(step, command, { token, found })
    const refusal = this.#repeats.refuse(repeatable, outcome)
    if (refusal === undefined) carryOut?.()
    const decided = refusal ?? outcome
    const remembered = this.#repeats.remember(repeatable, rememberedForm(decided))
    if (remembered !== undefined && memory !== undefined) {
      this.#ledger.replace(memory.name, remembered, found.rows.get(memory.name))
      found.rows.set(memory.name, remembered.value)
    }
    return decided
  }

  /** What a client's write would come to. Nothing has changed yet. */
  #decide(
    step: CommandStep,
    command: RepeatableCommand,
    by: { readonly token: Token; readonly found: Found },
  ): Decided {
    switch (command.type) {
      case 'set':
      case 'delete':
      case 'increment':
      case 'touch':
        return this.#decideKey(step, command, by)
      case 'deleteRange':
        return this.#decideRange(command, by)
      case 'transaction':
        return this.#decideTransaction(command, by)
      default:
        return this.#decideAdmin(command, by.token)
    }
  }

  #decideKey(
    { row }: CommandStep,
    command: KeyCommand,
    { token, found }: { readonly token: Token; readonly found: Found },
  ): Decided {
    const stands = row === undefined ? undefined : found.rows.get(row.name)
    const before = row === undefined || stands === undefined ? undefined : standingOf(stands)
    const { valueBytes } = this.#founded
    const judged = { token, store: row?.store.definition, valueBytes, present: before }
    const refusal = refuse(command, judged)
    if (refusal !== undefined) return { outcome: refusal, carryOut: undefined }
    assert(row !== undefined, 'Only a store that exists is written to')
    const revision = this.#revision + 1
    const store = row.store.definition
    const decision = decide(command, { store, valueBytes, present: before, revision, time: this.#stamp })
    if (decision.type === 'refused') return { outcome: decision, carryOut: undefined }
    const { result } = decision
    assert(
      result.type !== 'get' && result.type !== 'head' && result.type !== 'exists',
      'A write reads nothing',
    )
    assert(result.type !== 'rangeDeleted' && result.type !== 'recalled', 'A write of one key is none of many')
    const writes = result.type !== 'touched'
    const carryOut = (): void => {
      if (writes) this.#revision = revision
      if (decision.type === 'nothing') return
      const after = decision.type === 'put' ? decision.record : undefined
      this.#alter([{ store: row.store, place: row, before, after }], { revision, found })
    }
    const outcome = result.type === 'touched' || result.type === 'set' ? result : { ...result, revision }
    return { outcome, carryOut }
  }

  #decideRange(
    command: DeleteRange,
    { token, found }: { readonly token: Token; readonly found: Found },
  ): Decided {
    const { store: name, prefix } = command
    const refused = (outcome: Extract<Outcome, { type: 'refused' }>): Decided => ({
      outcome,
      carryOut: undefined,
    })
    if (!permits(token.principal, { store: name, access: 'read-write', within: prefix })) {
      return refused({ type: 'refused', code: 'access-denied' })
    }
    const store = this.#storeOf(token, name)
    if (store === undefined) return refused({ type: 'refused', code: 'no-such-store' })
    const range = found.ranges.get(command)
    assert(range !== undefined, 'The range was read')
    if (!range.whole) return refused({ type: 'refused', code: 'range-too-large', limit: rangeBounds.keys })
    const revision = this.#revision + 1
    const carryOut = (): void => {
      this.#revision = revision
      const gone = range.places.map((place) => ({
        store,
        place,
        before: standing(found, place.name),
        after: undefined,
      }))
      this.#alter(gone, { revision, found })
    }
    return { outcome: { type: 'rangeDeleted', revision, deleted: range.places.length }, carryOut }
  }

  #storeOf(token: Token, name: string) {
    return this.stores.at(placeOf(token.principal, name))
  }

  #decideTransaction(
    command: Transaction,
    { token, found }: { readonly token: Token; readonly found: Found },
  ): Decided {
    const { outcome, alterations, writes } = decideTransaction(command, {
      principal: token.principal,
      known: this.known,
      found,
      revision: this.#revision,
      time: this.#stamp,
    })
    const revision = this.#revision + (writes ? 1 : 0)
    const carryOut = (): void => {
      this.#revision = revision
      this.#alter(alterations, { revision, found })
    }
    return { outcome, carryOut: outcome.type === 'refused' ? undefined : carryOut }
  }

  #decideAdmin(command: AdminCommand, token: Token): AdminDecision {
    const { outcome, carryOut } = decideAdmin(command, {
      token,
      stores: this.stores,
      tokens: this.tokens,
      valueBytes: this.#founded.valueBytes,
      time: this.#stamp,
    })
    if (carryOut === undefined) return { outcome, carryOut }
    // It takes a revision like every write, so that whoever waits for that sees the store or the token.
    const withRevision = (): void => {
      this.#revision += 1
      carryOut()
      this.#feed.authorityChanged()
    }
    return { outcome, carryOut: withRevision }
  }

  /** Only what is as it was found due, and due by the log's own time: it may have been written or renewed since. */
  #expire({ records, tokens }: Expire, found: Found): Outcome {
    const gone = new Map<string, Alteration>()
    let isSeen = false
    for (const { store: number, key, revision } of records) {
      const store = this.stores.numbered(number)
      const place = rowPlace(number, key)
      const before = found.standing.get(place.name)
      if (store === undefined || before === undefined || before.revision !== revision) continue
      if (before.expires === undefined || before.expires > this.#stamp) continue
      gone.set(place.name, { store, place, before, after: undefined })
      isSeen ||= isOpen(store)
    }
    if (isSeen) this.#revision += 1
    this.#alter([...gone.values()], { revision: this.#revision, found, gone: 'expire' })
    for (const hash of tokens) {
      const token = this.tokens.get(hash)
      if (token?.expires !== undefined && token.expires <= this.#stamp) this.tokens.remove(token)
    }
    if (tokens.length > 0) this.#feed.authorityChanged()
    return { type: 'done' }
  }

  #collect(command: Extract<Command, { type: 'collect' }>, found: Found): Outcome {
    const store = this.stores.numbered(command.store)
    const range = found.ranges.get(command)
    assert(range !== undefined, 'The range was read')
    if (store?.dropped !== true) return { type: 'done' }
    const gone = range.places.map((place) => ({
      store,
      place,
      before: standing(found, place.name),
      after: undefined,
    }))
    this.#alter(gone, { revision: this.#revision, found })
    if (range.whole) this.stores.forget(store)
    return { type: 'done' }
  }

  #alter(
    alterations: readonly Alteration[],
    { revision, found, gone }: { readonly revision: number; readonly found: Found; readonly gone?: 'expire' },
  ): void {
    this.#changes.carryOut(alterations, { revision, time: this.#stamp, gone, rows: found.rows })
  }
}

function standing(found: Found, name: string): Standing {
  const stands = found.standing.get(name)
  assert(stands !== undefined, 'What a range holds was read')
  return stands
}
