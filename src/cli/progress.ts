// Progress on standard error: a bar that moves on a terminal, a line every few seconds elsewhere.

const lineEveryMs = 3000
const barWidth = 30

export type ProgressOptions = {
  readonly stream: Pick<NodeJS.WriteStream, 'write' | 'isTTY' | 'columns'>
  /** Milliseconds, monotonic. */
  readonly now: () => number
}

export class Progress {
  readonly #options: ProgressOptions
  #saidAt = Number.NEGATIVE_INFINITY
  #said = ''

  constructor(options: ProgressOptions) {
    this.#options = options
  }

  /** `share` from 0 to 1; undefined while it cannot be told. */
  show(sentence: string, share: number | undefined): void {
    const { stream, now } = this.#options
    const percent = share === undefined ? undefined : Math.floor(Math.min(1, Math.max(0, share)) * 100)
    if (stream.isTTY) {
      const filled = Math.round(((percent ?? 0) / 100) * barWidth)
      const bar = `[${'#'.repeat(filled)}${'-'.repeat(barWidth - filled)}]`
      const text = `${bar} ${percent === undefined ? '' : `${percent} % `}${sentence}`
      // One that wrapped could not be taken back. Returns to the line's beginning and clears what stood there.
      stream.write(`\r\u001b[2K${text.slice(0, Math.max(20, (stream.columns ?? 80) - 1))}`)
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
    const { stream } = this.#options
    if (stream.isTTY) stream.write('\r\u001b[2K')
  }
}
