// What the committed log comes to, by the plain model of the state: which revision stands where, which keys the log has expired.

import type { Entry } from '../../src/raft/types.ts'
import { decodeEntryData } from '../../src/store/commands.ts'
import type { Item, StoreDefinition, Token } from '../../src/store/types.ts'
import type { Operation, Result } from '../linear/key-value.ts'
import type { Call } from '../linear/model.ts'
import { Model, text } from '../store/state-model.ts'

export type WitnessOptions = {
  readonly stores: readonly StoreDefinition[]
  readonly tokens: readonly Token[]
  readonly valueBytes: number
  /** A place among the events of the clients' history: after all that have happened, before all that will. */
  readonly moment: () => number
}

export class Witness {
  readonly #model: Model
  readonly #moment: () => number
  /** `index/term` → when it was first seen in a log: nothing of it can show before. */
  readonly #appended = new Map<string, number>()
  /** By index: the revision of a state that has applied this and no more. */
  readonly #revisions: number[] = []
  readonly #expiries: Call<Operation, Result>[] = []

  constructor({ moment, ...founded }: WitnessOptions) {
    // Every stamp is at or above the moment of the founding.
    this.#model = new Model({ ...founded, foundedAt: 0 })
    this.#moment = moment
  }

  /** What the log took away by itself so far, as calls that belong into the clients' history. */
  get expiries(): readonly Call<Operation, Result>[] {
    return this.#expiries
  }

  /** Undefined for an index that is not committed anywhere. */
  revisionAt(index: number): number | undefined {
    return this.#revisions[index]
  }

  /** An entry is seen in a log, and was in none before. */
  appended({ type, index, term }: Entry): void {
    if (type === 'commands') this.#appended.set(`${index}/${term}`, this.#moment())
  }

  /** Entries are committed one after the other. */
  committed(entry: Entry): void {
    const model = this.#model
    if (entry.type === 'commands') {
      const { time, batches } = decodeEntryData(entry.data)
      model.time = Math.max(model.time, time)
      for (const batch of batches) model.hear(batch)
      const invoked = this.#appended.get(`${entry.index}/${entry.term}`) ?? 0
      for (const { type, key, revision } of model.changes.splice(0)) {
        if (type === 'expire') this.#expired(key, { revision, invoked })
      }
    }
    this.#revisions[entry.index] = model.revision
  }

  #expired(
    key: string,
    { revision, invoked }: { readonly revision: number; readonly invoked: number },
  ): void {
    this.#expiries.push({
      operation: { type: 'expire', key },
      result: { type: 'deleted', version: revision },
      invoked,
      returned: this.#moment(),
      note: 'the log',
    })
  }

  /** How a state differs that has applied all that is committed, as people read it; undefined when it is what it should be. */
  difference(items: readonly Item[]): string | undefined {
    const [store] = this.#model.contents()
    const found = items.map(({ key, ...item }) => describe(text(key), { ...item, value: text(item.value) }))
    const expected = (store?.records ?? []).map(([key, record]) => describe(key, record))
    const at = Array.from({ length: Math.max(found.length, expected.length) }).findIndex(
      (_, index) => found[index] !== expected[index],
    )
    return at < 0 ? undefined : `${found[at] ?? 'nothing more'} instead of ${expected[at] ?? 'nothing more'}`
  }
}

function describe(
  key: string,
  item: { readonly value: string; readonly revision: number; readonly createdRevision: number } & {
    readonly expires: number | undefined
  },
): string {
  const { value, revision, createdRevision, expires } = item
  return `${key} = ${JSON.stringify(value)} of ${revision}, created in ${createdRevision}, until ${expires ?? 'ever'}`
}
