// What a server-sent event of a watch tells, checked before it is believed.

import { type Fields, number, string } from './answers.ts'
import type { ServerSentEvent } from './byte-lines.ts'
import { expiryOf, fromBase64 } from './results.ts'
import type { WatchEvent } from './types.ts'

/** Undefined for an event of a kind that is not known here: a newer server may have more. Throws for one that cannot be read. */
export function readWatchEvent({ event, data, id }: ServerSentEvent): WatchEvent | undefined {
  switch (event) {
    case 'set': {
      const body = fieldsOf(data)
      return {
        type: event,
        key: string(body, 'key'),
        value: fromBase64(string(body, 'value')),
        revision: number(body, 'revision'),
        contentType: string(body, 'contentType'),
        ...expiryOf(body),
        ...(id === undefined ? {} : { id }),
      }
    }
    case 'delete':
    case 'expire': {
      const body = fieldsOf(data)
      return {
        type: event,
        key: string(body, 'key'),
        revision: number(body, 'revision'),
        id: ofTail(event, id),
      }
    }
    case 'progress': {
      const place = ofTail(event, id)
      return { type: event, revision: Number.parseInt(place, 10), id: place }
    }
    default:
      return undefined
  }
}

function ofTail(event: string, id: string | undefined): string {
  if (id === undefined) throw new Error(`a ${event} came without an id`)
  return id
}

function fieldsOf(data: string): Fields {
  const parsed: unknown = JSON.parse(data)
  if (typeof parsed !== 'object' || parsed === null) throw new Error('an event has no fields')
  return { ...parsed }
}
