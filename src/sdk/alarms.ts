// One timer for all that end about the same time: a timer for each of many calls costs more than most calls do.

/** What ends at some time. */
export interface Ringing {
  /** The time has come. */
  ring(): void
}

/** Those that ring together. Handed back to `clear`. */
export type Slot = {
  readonly due: number
  readonly ringing: Set<Ringing>
  timer: ReturnType<typeof setTimeout>
}

/** What is due sooner than this rings to the millisecond, anything else up to `roughMs` late. */
const exactBelowMs = 500
const roughMs = 16

/** Rings once for everything that is given a time, unless it is cleared before. */
export class Alarms {
  readonly #slots = new Map<number, Slot>()

  /** `at` is on the clock of `performance.now()`, which says `now`. Never rings early. */
  set(ringing: Ringing, { at, now }: { readonly at: number; readonly now: number }): Slot {
    const width = at - now < exactBelowMs ? 1 : roughMs
    const due = Math.ceil(at / width) * width
    const slot = this.#slots.get(due) ?? this.#begin(due, now)
    slot.ringing.add(ringing)
    return slot
  }

  clear(slot: Slot, ringing: Ringing): void {
    slot.ringing.delete(ringing)
    if (slot.ringing.size > 0) return
    clearTimeout(slot.timer)
    // Unless it has rung already, and another stands in its place.
    if (this.#slots.get(slot.due) === slot) this.#slots.delete(slot.due)
  }

  #begin(due: number, now: number): Slot {
    const slot: Slot = { due, ringing: new Set(), timer: this.#wait(due, now) }
    this.#slots.set(due, slot)
    return slot
  }

  #wait(due: number, now: number): ReturnType<typeof setTimeout> {
    // Rounded up, because a fraction of a millisecond is cut off.
    return setTimeout(() => this.#ring(due), Math.ceil(due - now))
  }

  #ring(due: number): void {
    const slot = this.#slots.get(due)
    if (slot === undefined) return
    const now = performance.now()
    // Timers count from the beginning of a turn of the event loop, which may lie a little back.
    if (now < due) {
      slot.timer = this.#wait(due, now)
      return
    }
    this.#slots.delete(due)
    for (const one of slot.ringing) one.ring()
  }
}
