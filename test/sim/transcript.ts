// What happened in a run: a hash of all of it, and its last lines for people.

const kept = 60

export class Transcript {
  readonly #now: () => number
  readonly #trace: ((line: string) => void) | undefined
  #lines: string[] = []
  #low = 0x811c9dc5
  #high = 0x01000193
  readonly #number = new Float64Array(1)
  readonly #words = new Uint32Array(this.#number.buffer)

  /** `trace` is told every line, also the many that `detail` would make. */
  constructor(now: () => number, trace: ((line: string) => void) | undefined) {
    this.#now = now
    this.#trace = trace
  }

  /** The same for two runs only if the same happened in both, in the same order and at the same times. */
  get hash(): string {
    return [this.#high, this.#low].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('')
  }

  /** The last lines, oldest first. */
  get last(): readonly string[] {
    return this.#lines.slice(-kept)
  }

  /** Takes a number into the hash: a time, an index, a draw. */
  mix(value: number): void {
    this.#number[0] = value
    this.#mixWord(this.#words[0] ?? 0)
    this.#mixWord(this.#words[1] ?? 0)
  }

  write(line: string): void {
    for (let at = 0; at < line.length; at++) this.#mixWord(line.charCodeAt(at))
    const text = `${this.#now().toFixed(3).padStart(10)} ${line}`
    this.#lines.push(text)
    if (this.#lines.length > 4 * kept) this.#lines = this.#lines.slice(-kept)
    this.#trace?.(text)
  }

  /** A line that is too common to be kept, made only when somebody follows the run. */
  detail(line: () => string): void {
    this.#trace?.(`${this.#now().toFixed(3).padStart(10)} ${line()}`)
  }

  #mixWord(word: number): void {
    this.#low = Math.imul(this.#low ^ word, 0x01000193)
    this.#high = Math.imul(this.#high ^ (this.#low >>> 15) ^ word, 0x85ebca6b)
  }
}
