// Progress on standard error: a bar that moves on a terminal, a line every few seconds elsewhere.

import { SingleBar } from 'cli-progress'

const lineEveryMs = 3000
const barWidth = 30

export type ProgressOptions = {
  readonly stream: NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number }
  /** Milliseconds, monotonic. */
  readonly now: () => number
}

/** What the bar says at one moment. */
type Standing = { readonly sentence: string; readonly percent: number | undefined }

export class Progress {
  readonly #options: ProgressOptions
  #bar: SingleBar | undefined
  #saidAt = Number.NEGATIVE_INFINITY
  #said = ''

  constructor(options: ProgressOptions) {
    this.#options = options
  }

  /** `share` from 0 to 1; undefined while it cannot be told. */
  show(sentence: string, share: number | undefined): void {
    const { stream, now } = this.#options
    const percent = share === undefined ? undefined : Math.floor(Math.min(1, Math.max(0, share)) * 100)
    if (stream.isTTY === true) {
      this.#move({ sentence, percent })
      return
    }
    const text = percent === undefined ? sentence : `${sentence}, ${percent} %`
    if (text === this.#said || now() - this.#saidAt < lineEveryMs) return
    this.#said = text
    this.#saidAt = now()
    stream.write(`${text}\n`)
  }

  /** Takes the bar away, so that what comes next has a line of its own. */
  end(): void {
    this.#bar?.stop()
    this.#bar = undefined
  }

  #move(standing: Standing): void {
    if (this.#bar !== undefined) {
      this.#bar.update(standing.percent ?? 0, standing)
      return
    }
    const { stream } = this.#options
    this.#bar = new SingleBar({
      stream,
      format: (_options, _params, payload: Standing) => lineOf(payload, stream.columns ?? 80),
      clearOnComplete: true,
      // It would take the first Ctrl-C for itself, and the command would go on.
      gracefulExit: false,
      linewrap: null,
    })
    this.#bar.start(100, standing.percent ?? 0, standing)
  }
}

/** One that wrapped could not be taken back: it ends before the terminal does. */
function lineOf({ sentence, percent }: Standing, columns: number): string {
  const filled = Math.round(((percent ?? 0) / 100) * barWidth)
  const bar = `[${'#'.repeat(filled)}${'-'.repeat(barWidth - filled)}]`
  const text = `${bar} ${percent === undefined ? '' : `${percent} % `}${sentence}`
  return text.slice(0, Math.max(20, columns - 1))
}

/** The progress of a command, on its standard error. */
export function progressOfCommand(): Progress {
  return new Progress({ stream: process.stderr, now: () => performance.now() })
}

/** A number of keys as people read it. */
export function keysText(count: number): string {
  return count === 1 ? '1 key' : `${count} keys`
}

/** A number of bytes as people read it. */
export function bytesText(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'] as const
  const step = bytes < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10))
  const amount = bytes / 1024 ** step
  return `${step === 0 ? amount : amount.toFixed(1)} ${units[step]}`
}
