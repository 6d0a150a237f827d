// Whether a node has room on its disk, with a gap between the two answers, so that it does not flutter.

const MiB = 1024 * 1024

/** Below the first a node says that it has no room; above the second it has room again (`safety.md`, rule 27). */
export const spaceThresholds = { low: 256 * MiB, clear: 320 * MiB } as const

export class SpaceWatch {
  #isLow = false

  get isLow(): boolean {
    return this.#isLow
  }

  /** Takes what was free just now; says what changed by it. */
  observe(freeBytes: number): 'low' | 'clear' | 'unchanged' {
    if (!this.#isLow && freeBytes < spaceThresholds.low) {
      this.#isLow = true
      return 'low'
    }
    if (this.#isLow && freeBytes > spaceThresholds.clear) {
      this.#isLow = false
      return 'clear'
    }
    return 'unchanged'
  }
}
