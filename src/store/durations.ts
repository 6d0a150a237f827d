// A histogram of durations: how many lasted at most so long, kept by whoever measures and read by whoever watches.

/** Counted since the start. Durations are milliseconds. */
export type DurationCounts = {
  /** `counts[i]` lasted at most `bounds[i]`, those of shorter bounds among them. */
  readonly bounds: readonly number[]
  readonly counts: readonly number[]
  /** All there were, also those longer than every bound. */
  readonly count: number
  readonly sum: number
}

/** From what a good disk takes to what makes a leader hand over (`safety.md`, rule 14). */
const bounds = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000]

export class Durations {
  /** Each duration once, under the first bound that it does not pass. */
  readonly #within = bounds.map(() => 0)
  #count = 0
  #sum = 0

  add(milliseconds: number): void {
    const at = bounds.findIndex((bound) => milliseconds <= bound)
    if (at !== -1) this.#within[at] = (this.#within[at] ?? 0) + 1
    this.#count += 1
    this.#sum += milliseconds
  }

  get counts(): DurationCounts {
    let total = 0
    const counts = this.#within.map((within) => {
      total += within
      return total
    })
    return { bounds, counts, count: this.#count, sum: this.#sum }
  }
}
