// Server-sent events of the server in memory: a snapshot if it is asked for, then the history, then what happens.

import type { ServerResponse } from 'node:http'
import type { Change, MemoryKeys, Stored } from './memory-keys.ts'

/** What a test does to streams. */
export type WatchControl = {
  /** The oldest revision that history still has; those who begin before it are `compacted`. */
  oldest: number
  /** How often an idle stream says how far it is, in milliseconds. */
  progressMs: number
  /** How many keys of the next snapshot are sent before its stream breaks; undefined for all. */
  snapshotBreaksAfter: number | undefined
  /** The streams that are open, with the query each was asked with, and how to end them. */
  readonly streams: Set<{ readonly query: URLSearchParams; readonly end: (event?: string) => void }>
}

export function serveWatch(
  response: ServerResponse,
  asked: { readonly keys: MemoryKeys; readonly store: string; readonly query: URLSearchParams },
  control: WatchControl,
): void {
  const { keys, store, query } = asked
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Trivet-Revision': String(keys.revision) })
  response.write('retry: 1000\n\n')
  const send = (event: string, id: string | undefined, data: unknown): void => {
    response.write(
      `event: ${event}\n${id === undefined ? '' : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`,
    )
  }
  const matches = (key: string): boolean => {
    const [prefixes, names] = [query.getAll('prefix'), query.getAll('key')]
    if (prefixes.length + names.length === 0) return true
    return names.includes(key) || prefixes.some((prefix) => key.startsWith(prefix))
  }
  let position = place(query.get('from') ?? String(keys.revision))
  if (position[0] < control.oldest - 1) {
    send('compacted', undefined, { oldest: control.oldest })
    response.end()
    return
  }
  const progress = (): void => send('progress', String(keys.revision), {})
  if (query.get('snapshot') === 'true') {
    const breaksAfter = control.snapshotBreaksAfter
    control.snapshotBreaksAfter = undefined
    let sent = 0
    for (const [key, stored] of keys.stores.get(store) ?? []) {
      if (sent++ === breaksAfter) {
        response.end()
        return
      }
      if (matches(key)) send('set', undefined, { key, revision: stored.revision, ...described(stored) })
    }
    progress()
  }
  const tell = (change: Change): void => {
    if (change.store !== store || !matches(change.key) || !isAfter(place(change.id), position)) return
    const { type, id, key, revision, stored } = change
    send(type, id, { key, revision, ...(stored === undefined ? {} : described(stored)) })
  }
  const catchUp = (): void => {
    for (const change of keys.history) tell(change)
    position = place(String(keys.revision))
  }
  catchUp()
  progress()
  keys.watchers.add(catchUp)
  const timer = setInterval(progress, control.progressMs)
  const stream = {
    query,
    end: (event?: string): void => {
      if (event === undefined) response.destroy()
      else {
        send(event, undefined, {})
        response.end()
      }
    },
  }
  control.streams.add(stream)
  response.on('close', () => {
    clearInterval(timer)
    keys.watchers.delete(catchUp)
    control.streams.delete(stream)
  })
}

function described({ value, contentType, expires }: Stored): object {
  return { value: value.toString('base64'), contentType, ...(expires === undefined ? {} : { expires }) }
}

type Place = readonly [revision: number, n: number]

function place(id: string): Place {
  const [revision, n] = id.split('.')
  return [Number(revision), n === undefined ? Number.POSITIVE_INFINITY : Number(n)]
}

function isAfter(one: Place, other: Place): boolean {
  return one[0] > other[0] || (one[0] === other[0] && one[1] > other[1])
}
