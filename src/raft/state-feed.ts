// Feeds the state machine: which entries it applies next, from memory or from disk, and the snapshot that takes its place.
//
// An apply and an install are never under way together, and an install waits until everything appended is durable, so that disk
// and memory keep the same of the log.

import { assert } from './assert.ts'
import type { Log } from './log.ts'
import type { Duty, Entry, Snapshot } from './types.ts'

export type ApplyDuty = Extract<Duty, { type: 'apply' }>
export type InstallDuty = Extract<Duty, { type: 'install' }>
export type FetchDuty = Extract<Duty, { type: 'fetch' }>

export type StateFeedOptions = {
  /** About how many bytes of entries are applied at a time. */
  readonly applyBytes: number
  /** There is no state machine yet that the log could be applied to: as after `lose()`. */
  readonly stateless?: boolean
}

export class StateFeed {
  readonly #log: Log
  readonly #applyBytes: number
  /** Nothing is applied: the state machine is lost, or not there yet. */
  #stateless: boolean
  #applying: ApplyDuty | undefined
  /** Entries being read from disk to be applied, and those that came. */
  #loading: FetchDuty | undefined
  #loaded: readonly Entry[] = []
  /** A leader's log begins at this index, after what is here. */
  #needed: number | undefined
  /** To be installed as soon as what is under way has ended. */
  #offered: Snapshot | undefined
  #installing: InstallDuty | undefined

  constructor(options: StateFeedOptions, log: Log) {
    this.#log = log
    this.#applyBytes = options.applyBytes
    this.#stateless = options.stateless ?? false
  }

  get isStateless(): boolean {
    return this.#stateless
  }

  get isInstalling(): boolean {
    return this.#installing !== undefined
  }

  /** A snapshot is about to take the place of what is here: until then nothing is appended. */
  get isChanging(): boolean {
    return this.#offered !== undefined || this.#installing !== undefined
  }

  /** The state machine is damaged: what it is applying is not handed back. */
  lose(): void {
    this.#stateless = true
    this.#applying = undefined
    this.#loaded = []
  }

  /** The state machine is there again, as it was after the entry at `index`. */
  regain(index: number): void {
    assert(this.#stateless && !this.isChanging, 'only a state that was lost is regained')
    this.#stateless = false
    this.#log.reapplyAfter(index)
  }

  /** Only a snapshot that reaches to `index` helps. */
  need(index: number): void {
    this.#needed = index
  }

  /** Takes a snapshot to be installed. False when the state has come that far by itself. */
  offer(snapshot: Snapshot): boolean {
    if (this.isChanging || !this.#wants(snapshot)) return false
    this.#offered = snapshot
    return true
  }

  #wants({ index }: Snapshot): boolean {
    const { base, appliedIndex } = this.#log
    return this.#stateless ? index >= base.index : index > appliedIndex
  }

  /** `mayInstall`: no save is under way, and this replica follows. */
  next({ mayInstall }: { readonly mayInstall: boolean }): Duty[] {
    const duties: Duty[] = []
    const install = mayInstall ? this.#nextInstall() : undefined
    if (install !== undefined) duties.push(install)
    const apply = this.#nextApply()
    if (apply !== undefined) duties.push(apply)
    if (this.#needed !== undefined) {
      duties.push({ type: 'snapshot', index: this.#needed })
      this.#needed = undefined
    }
    return duties
  }

  applied(duty: ApplyDuty): void {
    assert(this.#applying === duty, 'the apply under way is the one that ends')
    this.#applying = undefined
    const last = duty.entries.at(-1)
    assert(last !== undefined, 'an apply has entries')
    this.#log.applied(last.index)
  }

  installed(duty: InstallDuty): void {
    assert(this.#installing === duty, 'the install under way is the one that ends')
    this.#installing = undefined
    this.#log.install(duty.base)
    this.#stateless = false
  }

  /** Takes entries read from disk. False when they were not read for the state machine. */
  fetched(duty: FetchDuty, entries: readonly Entry[]): boolean {
    if (this.#loading !== duty) return false
    this.#loading = undefined
    this.#loaded = entries
    return true
  }

  #nextInstall(): InstallDuty | undefined {
    const base = this.#offered
    if (base === undefined || this.#applying !== undefined) return undefined
    this.#offered = undefined
    if (!this.#wants(base)) return undefined
    this.#installing = { type: 'install', base, keeps: this.#log.continues(base) }
    return this.#installing
  }

  #nextApply(): Duty | undefined {
    if (this.#stateless || this.#applying !== undefined || this.isChanging) return undefined
    const entries = this.#log.applicable(this.#applyBytes) ?? this.#takeLoaded()
    if (entries === undefined) return this.#load()
    if (entries.length === 0) return undefined
    this.#applying = { type: 'apply', entries }
    return this.#applying
  }

  /** What was read from disk, if it is what comes next. */
  #takeLoaded(): readonly Entry[] | undefined {
    const entries = this.#loaded
    this.#loaded = []
    return entries[0]?.index === this.#log.appliedIndex + 1 ? entries : undefined
  }

  /** What is to be applied next is not in memory, as after a start. */
  #load(): Duty | undefined {
    if (this.#loading !== undefined) return undefined
    const { appliedIndex, applicableIndex } = this.#log
    this.#loading = {
      type: 'fetch',
      from: appliedIndex + 1,
      to: applicableIndex,
      maxBytes: this.#applyBytes,
    }
    return this.#loading
  }
}
