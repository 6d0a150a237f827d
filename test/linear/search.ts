// The search for an order that explains one history: Wing and Gong's, remembering where it was as Lowe does.
//
// A call takes effect at one moment between its begin and its end. The search places calls one after the other; next may come
// any that began before the first end among those not placed. Where it stands is the state, and which calls are placed. Sorted by their
// ends, those are all up to some position and a few beyond, never more than clients: that makes the memory of it small.
//
// Calls of unknown outcome never end. They are counted by kind, the earliest of a kind is placed first, and a place reached with some
// of them unused is as good as the same place with more of them used. So a hundred of them do not cost 2^100.

import { type Call, illegal, type Model } from './model.ts'

export type Found =
  | { readonly type: 'order' }
  /** None. Calls that began at or before `until` suffice to show it. */
  | { readonly type: 'none'; readonly until: number }
  | { readonly type: 'undecided' }

/** What a search may still do: uses of the model. */
export type Budget = { steps: number }

type Certain<O, R> = Call<O, R> & { readonly result: R }

/** Calls of unknown outcome that do the same, by when they began. */
type Kind<O> = { readonly operation: O; readonly invoked: readonly number[] }

type Place<S> = {
  readonly state: S
  /** The first call that is not placed, in the order of their ends. */
  readonly first: number
  /** Those placed beyond it, in that order. */
  readonly beyond: readonly number[]
  /** How many of each kind are placed. */
  readonly used: readonly number[]
  /** Where a call of unknown outcome was the last that was placed: the state before it. */
  readonly unseen?: { readonly state: S }
}

type Frame<S> = { readonly place: Place<S>; tried: number }

/** Finds out whether the calls, simplified by their model, have an order that explains them. */
export function search<S, O, R>(model: Model<S, O, R>, calls: readonly Call<O, R>[], budget: Budget): Found {
  return new Search(model, model.simplify(calls), budget).run()
}

class Search<S, O, R> {
  readonly #model: Model<S, O, R>
  readonly #budget: Budget
  /** By their ends. */
  readonly #certain: readonly Certain<O, R>[]
  readonly #kinds: readonly Kind<O>[]
  /** For each of `certain`: those that end no earlier and began no later than its end. */
  readonly #open: readonly (readonly number[])[]
  /** Where it was: position, calls beyond and state, with the smallest counts of unknown calls it came there with. */
  readonly #seen = new Map<string, (readonly number[])[]>()
  /** Calls share keys without touching the same: then one of unknown outcome is placed only where it is of use. */
  readonly #isSplit: boolean
  /** What unknown calls on several keys touch. */
  readonly #bridges: readonly (readonly string[])[]
  /** The keys on which the effect of those depends. */
  readonly #delicate: ReadonlySet<string>
  #furthest = 0

  constructor(model: Model<S, O, R>, calls: readonly Call<O, R>[], budget: Budget) {
    this.#model = model
    this.#budget = budget
    this.#certain = calls.filter(isCertain).sort((left, right) => left.returned - right.returned)
    this.#kinds = kindsOf(calls)
    this.#open = openAtEnds(this.#certain)
    this.#isSplit = new Set(calls.flatMap(({ operation }) => model.keys(operation))).size > 1
    const bridging = this.#kinds.filter(({ operation }) => model.keys(operation).length > 1)
    this.#bridges = bridging.map(({ operation }) => model.keys(operation))
    this.#delicate = new Set(
      bridging.flatMap(({ operation }) => model.wants(model.initial, operation, undefined)),
    )
  }

  run(): Found {
    const start: Place<S> = {
      state: this.#model.initial,
      first: 0,
      beyond: [],
      used: this.#kinds.map(() => 0),
    }
    const stack: Frame<S>[] = []
    for (let next: Place<S> | undefined = start; ; ) {
      if (next !== undefined) {
        const place = this.#settle(next)
        this.#furthest = Math.max(this.#furthest, place.first)
        if (place.first === this.#certain.length) return { type: 'order' }
        if (!this.#isDead(place) && this.#isNew(place)) stack.push({ place, tried: 0 })
      }
      if (this.#budget.steps <= 0) return { type: 'undecided' }
      const frame = stack.at(-1)
      if (frame === undefined) return { type: 'none', until: this.#endOf(this.#furthest) }
      next = this.#advance(frame)
      if (next === undefined) stack.pop()
    }
  }

  /** Places whatever changes nothing and fits here: put off, it could only stop fitting. */
  #settle(from: Place<S>): Place<S> {
    let place = from
    for (let moved = true; moved && place.first < this.#certain.length; ) {
      moved = false
      for (const at of this.#openTo(place)) {
        if (at < place.first || place.beyond.includes(at)) continue
        const { operation, result } = this.#call(at)
        if (!this.#model.isPure(operation, result)) continue
        if (this.#step(place.state, operation, result) !== place.state) continue
        place = this.#with(place, at, place.state)
        moved = true
        if (place.first === this.#certain.length) break
      }
    }
    return place
  }

  #isDead(place: Place<S>): boolean {
    for (const at of this.#openTo(place)) {
      if (place.beyond.includes(at)) continue
      const { operation, result } = this.#call(at)
      this.#budget.steps--
      if (this.#model.isHopeless(place.state, operation, result)) return true
    }
    return false
  }

  #isNew({ state, first, beyond, used }: Place<S>): boolean {
    const name = `${first};${beyond.join()};${this.#model.name(state)}`
    const seen = this.#seen.get(name)
    if (seen === undefined) {
      this.#seen.set(name, [used])
      return true
    }
    if (seen.some((fewer) => isWithin(fewer, used))) return false
    const rest = seen.filter((more) => !isWithin(used, more))
    this.#seen.set(name, [...rest, used])
    return true
  }

  /** The next place after this one that was not tried: by calls of known outcome first, the earliest end first. */
  #advance(frame: Frame<S>): Place<S> | undefined {
    const { place } = frame
    const open = this.#openTo(place)
    while (frame.tried < open.length + this.#kinds.length) {
      const tried = frame.tried++
      const at = open[tried]
      const next = at === undefined ? this.#placeUnknown(place, tried - open.length) : this.#place(place, at)
      if (next !== undefined) return next
    }
    return undefined
  }

  #place(place: Place<S>, at: number): Place<S> | undefined {
    if (place.beyond.includes(at)) return undefined
    const { operation, result } = this.#call(at)
    const state = this.#step(place.state, operation, result)
    return state === illegal ? undefined : this.#with(place, at, state)
  }

  #placeUnknown(place: Place<S>, which: number): Place<S> | undefined {
    const kind = this.#kinds[which]
    const count = place.used[which] ?? 0
    const invoked = kind?.invoked[count]
    if (kind === undefined || invoked === undefined || invoked > this.#endOf(place.first)) return undefined
    if (this.#isSplit && !this.#isOfUse(place, kind.operation)) return undefined
    const state = this.#step(place.state, kind.operation, undefined)
    // Without an effect it is as if it never happened.
    if (state === illegal || state === place.state) return undefined
    // And so is one before it whose effect is gone before anybody saw it.
    if (place.unseen !== undefined) {
      const without = this.#step(place.unseen.state, kind.operation, undefined)
      if (without !== illegal && this.#model.name(without) === this.#model.name(state)) return undefined
    }
    return { ...place, state, used: place.used.with(which, count + 1), unseen: place }
  }

  /**
   * A call of unknown outcome can be put off until just before the next that touches what it does. On one key, that one has to
   * want it: otherwise it comes to the same without it. On several keys it may be of use to others later, where the next one writes over some.
   */
  #isOfUse(place: Place<S>, operation: O): boolean {
    const keys = this.#model.keys(operation)
    if (keys.length === 1 && keys.some((key) => this.#delicate.has(key))) return true
    return this.#openTo(place).some((at) => {
      if (at < place.first || place.beyond.includes(at)) return false
      const { operation: next, result } = this.#call(at)
      this.#budget.steps--
      const wanted =
        keys.length > 1 ? this.#reachable(next) : new Set(this.#model.wants(place.state, next, result))
      return keys.some((key) => wanted.has(key))
    })
  }

  /** What it touches, and what calls of unknown outcome touch that it may need, one by another. */
  #reachable(operation: O): ReadonlySet<string> {
    const keys = new Set(this.#model.keys(operation))
    for (let size = 0; size !== keys.size; ) {
      size = keys.size
      for (const bridge of this.#bridges) {
        if (bridge.some((key) => keys.has(key))) for (const key of bridge) keys.add(key)
      }
    }
    return keys
  }

  #with(place: Place<S>, at: number, state: S): Place<S> {
    const { first, beyond, used } = place
    if (at > first) {
      const before = beyond.filter((other) => other < at)
      return { state, first, used, beyond: [...before, at, ...beyond.slice(before.length)] }
    }
    let passed = 0
    while (beyond[passed] === first + 1 + passed) passed++
    return { state, first: first + 1 + passed, used, beyond: beyond.slice(passed) }
  }

  #step(state: S, operation: O, result: R | undefined): S | typeof illegal {
    this.#budget.steps--
    return this.#model.step(state, operation, result)
  }

  #openTo({ first }: Place<S>): readonly number[] {
    return this.#open[first] ?? []
  }

  #call(at: number): Certain<O, R> {
    const call = this.#certain[at]
    if (call === undefined) throw new Error(`no call ${at}`)
    return call
  }

  #endOf(at: number): number {
    return this.#call(at).returned
  }
}

function isCertain<O, R>(call: Call<O, R>): call is Certain<O, R> {
  return call.result !== undefined
}

function kindsOf<O, R>(calls: readonly Call<O, R>[]): Kind<O>[] {
  const kinds = new Map<string, { readonly operation: O; readonly invoked: number[] }>()
  for (const { operation, result, invoked } of calls) {
    if (result !== undefined) continue
    const name = JSON.stringify(operation)
    const kind = kinds.get(name) ?? { operation, invoked: [] }
    kinds.set(name, kind)
    kind.invoked.push(invoked)
  }
  for (const { invoked } of kinds.values()) invoked.sort((left, right) => left - right)
  return [...kinds.values()]
}

/** `calls` are sorted by their ends. */
function openAtEnds(calls: readonly Call<unknown, unknown>[]): number[][] {
  const byBegin = calls.map(({ invoked }, at) => ({ invoked, at }))
  byBegin.sort((left, right) => left.invoked - right.invoked)
  let begun = 0
  let open: number[] = []
  return calls.map(({ returned }, end) => {
    const joining: number[] = []
    for (let next = byBegin[begun]; next !== undefined && next.invoked <= returned; next = byBegin[begun]) {
      joining.push(next.at)
      begun++
    }
    open = [...open, ...joining].sort((left, right) => left - right)
    const openNow = open
    open = open.filter((at) => at > end)
    return openNow
  })
}

/** Whether none of `fewer` is above its counterpart. */
function isWithin(fewer: readonly number[], more: readonly number[]): boolean {
  return fewer === more || fewer.every((count, kind) => count <= (more[kind] ?? 0))
}
