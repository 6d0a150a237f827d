// Counters end at what was asked for: every acknowledged increment once, each of unknown outcome once or never.

import type { HistoryEvent } from './history.ts'
import { partsOf } from './key-value.ts'

/** What a counter may stand at in the end, and how many increments were acknowledged. */
export type Tally = { readonly least: number; readonly most: number; readonly acknowledged: number }

const nothing: Tally = { least: 0, most: 0, acknowledged: 0 }

/** By key, for keys that nothing but increments by positive numbers has changed. */
export function talliesOf(events: readonly HistoryEvent[]): ReadonlyMap<string, Tally> {
  const asked = new Map<number, readonly { readonly key: string; readonly by: number }[]>()
  const isChangedOtherwise = new Set<string>()
  const tallies = new Map<string, Tally>()
  const add = (call: number, by: (by: number) => Tally): void => {
    for (const increment of asked.get(call) ?? []) {
      const { least, most, acknowledged } = tallies.get(increment.key) ?? nothing
      const more = by(increment.by)
      tallies.set(increment.key, {
        least: least + more.least,
        most: most + more.most,
        acknowledged: acknowledged + more.acknowledged,
      })
    }
    asked.delete(call)
  }
  for (const event of events) {
    if (event.type === 'invoke') {
      const parts = partsOf(event.operation, undefined).map(([part]) => part)
      asked.set(
        event.call,
        parts.filter((part) => part.type === 'increment'),
      )
      for (const { type, key } of parts)
        if (type !== 'get' && type !== 'increment') isChangedOtherwise.add(key)
    } else if (event.type === 'fail' || (event.type === 'ok' && event.result.type === 'declined')) {
      add(event.call, () => nothing)
    } else if (event.type === 'ok') add(event.call, (by) => ({ least: by, most: by, acknowledged: 1 }))
  }
  for (const call of [...asked.keys()]) add(call, (by) => ({ least: 0, most: by, acknowledged: 0 }))
  for (const key of isChangedOtherwise) tallies.delete(key)
  return tallies
}

/** What is wrong with where a counter stands, `undefined` for one that is absent; undefined when nothing is. */
export function miscount(
  { least, most, acknowledged }: Tally,
  value: string | undefined,
): string | undefined {
  const stands = Number(value ?? 0)
  if (stands >= least && stands <= most) return undefined
  const wanted = least === most ? `${least}` : `${least} to ${most}`
  return `stands at ${value ?? 'nothing'} instead of ${wanted}, after ${acknowledged} acknowledged increments`
}
