// What a checker must know of a thing to judge its histories: how it behaves when one client uses it alone.

/** The state does not allow this. */
export const illegal = Symbol('illegal')

/** One use of the thing. */
export type Call<O, R> = {
  readonly operation: O
  /** What it came to; undefined when nobody knows: it may take effect at any time after `invoked`, or never. */
  readonly result: R | undefined
  /** When it began and ended, on one clock of any unit. A call that ended before another began comes before it. */
  readonly invoked: number
  /** Infinity when `result` is undefined. */
  readonly returned: number
  /** Who, where and when, for people. */
  readonly note?: string
}

/** `S` is what stands between two operations, `O` an operation, `R` its result. All are values that never change. */
export type Model<S, O, R> = {
  readonly initial: S
  /**
   * What an operation with this result makes of a state, or `illegal` where it cannot come to that. A result of undefined asks for its
   * effect, whatever it answers; where it would have none, `illegal` will do. A state that stays as it is is returned itself.
   */
  step(state: S, operation: O, result: R | undefined): S | typeof illegal
  /** Equal for equal states only. */
  name(state: S): string
  /** What it touches: calls that share no key, directly or through others, are judged apart. */
  keys(operation: O): readonly string[]
  /**
   * The keys that have to be otherwise for it to come to this result, or may have to be for what others see later; without a
   * result, those on which its effect depends. What touches none of them may as well come after it, or does not matter.
   */
  wants(state: S, operation: O, result: R | undefined): readonly string[]
  /** Whether a result shows that the operation changed nothing, wherever it stood in the order. */
  isPure(operation: O, result: R): boolean
  /** Whether it is `illegal` in this state and in all that can follow. False is always right, true prunes the search. */
  isHopeless(state: S, operation: O, result: R): boolean
  /** The same history with fewer different operations in it, as far as any result can tell. */
  simplify(calls: readonly Call<O, R>[]): readonly Call<O, R>[]
  /**
   * A call of unknown outcome that could have had the same effect, and may ask for less; undefined for one that changes nothing. The
   * fewer such calls differ, the better.
   */
  forget(operation: O, result: R): O | undefined
  /** For people: `set a = "1" → version 3`. */
  describe(operation: O, result: R | undefined): string
  /** Whether the first has written what the second has seen: shown beside it when people are told of a violation. */
  isSource(source: O, of: R): boolean
}
