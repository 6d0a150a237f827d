// What clients did and saw, in the order in which it happened: recorded, kept as JSON lines, and made into calls to judge.

import type { Operation, Result } from './key-value.ts'
import type { Call } from './model.ts'

/** Times are in milliseconds since the recording began. The order of the events is exact, the times are for people. */
export type HistoryEvent = { readonly call: number; readonly time: number } & (
  | {
      readonly type: 'invoke'
      readonly client: string
      readonly node: string
      readonly operation: Operation
    }
  | { readonly type: 'ok'; readonly result: Result }
  /** It has had no effect and will have none. */
  | { readonly type: 'fail'; readonly reason: string }
  /** Nobody knows: it may have had its effect, may have it later, or never. */
  | { readonly type: 'info'; readonly reason: string }
)

/** One call under way. It ends once, or never if its client ended first, which counts as `info`. */
export type Invocation = {
  ok(result: Result): void
  fail(reason: string): void
  info(reason: string): void
}

/** Records one process's clients. */
export class History {
  readonly #events: HistoryEvent[] = []
  readonly #now: () => number
  readonly #begun: number
  #calls = 0

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
    this.#begun = now()
  }

  get events(): readonly HistoryEvent[] {
    return this.#events
  }

  /** To be called before the request is made; its end, after the answer has come. */
  invoke(what: {
    readonly client: string
    readonly node: string
    readonly operation: Operation
  }): Invocation {
    const call = this.#calls++
    this.#events.push({ type: 'invoke', call, time: this.#time(), ...what })
    let ended = false
    const end = (event: HistoryEvent) => {
      if (ended) throw new Error(`call ${call} ends twice`)
      ended = true
      this.#events.push(event)
    }
    return {
      ok: (result) => end({ type: 'ok', call, time: this.#time(), result }),
      fail: (reason) => end({ type: 'fail', call, time: this.#time(), reason }),
      info: (reason) => end({ type: 'info', call, time: this.#time(), reason }),
    }
  }

  #time(): number {
    return Math.round((this.#now() - this.#begun) * 1000) / 1000
  }
}

/** The calls of a history, for `check`. Those that failed are left out: they are as if never made. */
export function callsOf(events: readonly HistoryEvent[]): Call<Operation, Result>[] {
  const ends = new Map<number, { readonly at: number; readonly event: HistoryEvent }>()
  for (const [at, event] of events.entries()) {
    if (event.type !== 'invoke') ends.set(event.call, { at, event })
  }
  const calls: Call<Operation, Result>[] = []
  for (const [at, event] of events.entries()) {
    if (event.type !== 'invoke') continue
    const end = ends.get(event.call)
    if (end?.event.type === 'fail') continue
    const { operation, client, node, time } = event
    const until = end === undefined ? '' : end.event.time.toFixed(1)
    const note = `${client} at ${node}, ${time.toFixed(1)}–${until} ms`
    const result = end?.event.type === 'ok' ? end.event.result : undefined
    const returned = end === undefined || result === undefined ? Number.POSITIVE_INFINITY : end.at
    calls.push({ operation, result, invoked: at, returned, note })
  }
  return calls
}

const format = 1

/** One line each, after a line that names the format. */
export function toLines(events: readonly HistoryEvent[]): string {
  return [{ history: format }, ...events].map((line) => `${JSON.stringify(line)}\n`).join('')
}

/** Throws, with the number of the line, for what `toLines` has not written. */
export function fromLines(text: string): HistoryEvent[] {
  const [head, ...lines] = text.split('\n')
  if (head !== JSON.stringify({ history: format }))
    throw new Error(`Line 1 does not begin a history of format ${format}.`)
  if (lines.pop() !== '') throw new Error(`Line ${lines.length + 2} is cut short.`)
  const begun = new Set<number>()
  const ended = new Set<number>()
  return lines.map((line, at) => {
    const event = parse(line, at + 2)
    const isInvoke = event.type === 'invoke'
    const known = isInvoke ? begun : ended
    if (known.has(event.call) || (!isInvoke && !begun.has(event.call)))
      throw new Error(`Line ${at + 2}: call ${event.call} ${isInvoke ? 'begins twice' : 'cannot end here'}.`)
    known.add(event.call)
    return event
  })
}

const required = { invoke: 'operation', ok: 'result', fail: 'reason', info: 'reason' } as const

function parse(line: string, number: number): HistoryEvent {
  try {
    const event: unknown = JSON.parse(line)
    if (isEvent(event)) return event
  } catch (cause) {
    throw new Error(`Line ${number} is not JSON.`, { cause })
  }
  throw new Error(`Line ${number} is not an event of a history.`)
}

/** Written by this file: looked at as far as a mix-up would show. */
function isEvent(event: unknown): event is HistoryEvent {
  if (typeof event !== 'object' || event === null) return false
  if (!('type' in event && 'call' in event && 'time' in event)) return false
  if (typeof event.call !== 'number' || typeof event.time !== 'number') return false
  const { type } = event
  if (type !== 'invoke' && type !== 'ok' && type !== 'fail' && type !== 'info') return false
  return required[type] in event
}
