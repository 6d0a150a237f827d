// Shows a run while it goes on: one line that changes on a terminal, one line every few seconds elsewhere.

import type { View, Watch } from './run.ts'

const everyMs = { terminal: 250, elsewhere: 5000 }
/** What a second's worth of calls is counted over. */
const windowMs = 2000

export class Progress implements Watch {
  readonly #seconds: number
  readonly #isTerminal = process.stdout.isTTY === true
  #view: View | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(options: { readonly seconds: number; readonly nodes: number; readonly seed: number }) {
    this.#seconds = options.seconds
    process.stdout.write(`chaos: ${options.nodes} nodes, ${options.seconds} s, seed ${options.seed}\n`)
  }

  say(line: string): void {
    this.#clear()
    const at = this.#view === undefined ? '' : `${(this.#view.now() / 1000).toFixed(1).padStart(6)} s  `
    process.stdout.write(`${at}${line}\n`)
  }

  begun(view: View): void {
    this.#view = view
    this.#timer = setInterval(() => this.#show(view), this.#isTerminal ? everyMs.terminal : everyMs.elsewhere)
  }

  end(): void {
    clearInterval(this.#timer)
    this.#clear()
  }

  #clear(): void {
    if (this.#isTerminal) process.stdout.write('\r\u001b[2K')
  }

  #show(view: View): void {
    const line = statusLine(view, this.#seconds)
    this.#clear()
    process.stdout.write(this.#isTerminal ? line.slice(0, (process.stdout.columns ?? 80) - 1) : `${line}\n`)
  }
}

/** `[ 45/300 s] 148/s, slowest 14 ms · n3 leads term 7 · 5/5 up · 12 faults · partition: n1 | n2 n3` */
function statusLine(view: View, seconds: number): string {
  const now = view.now()
  const { count, slowest } = recent(view, now)
  const roles = [...view.roles.values()]
  const leaders = roles
    .filter(({ role }) => role === 'leader')
    .toSorted((a, b) => (b.term ?? 0) - (a.term ?? 0))
  const leader = leaders[0] === undefined ? 'no leader' : `${leaders[0].node} leads term ${leaders[0].term}`
  const up = roles.filter(({ role }) => !/^(down|paused|silent)$/.test(role)).length
  const parts = [
    `[${String(Math.round(now / 1000)).padStart(4)}/${seconds} s] ${Math.round(count / (windowMs / 1000))}/s, slowest ${Math.round(slowest)} ms`,
    leader,
    `${up}/${roles.length} up`,
    `${view.steps.length} steps`,
    view.current() ?? 'in peace',
  ]
  return parts.join(' · ')
}

/** How many calls were answered lately, and how long the slowest of them took. */
function recent({ events }: View, now: number): { readonly count: number; readonly slowest: number } {
  const ends = new Map<number, number>()
  let count = 0
  let slowest = 0
  for (let at = events.length - 1; at >= 0; at--) {
    const event = events[at]
    // No call takes longer than a few windows.
    if (event === undefined || event.time < now - 3 * windowMs) break
    if (event.type === 'ok' && event.time > now - windowMs) {
      count += 1
      ends.set(event.call, event.time)
    } else if (event.type === 'invoke') {
      slowest = Math.max(slowest, (ends.get(event.call) ?? event.time) - event.time)
    }
  }
  return { count, slowest }
}
