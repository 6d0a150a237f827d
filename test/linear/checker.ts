// Judges whether a history is linearizable, and shows the few calls that prove it when it is not.

import type { Call, Model } from './model.ts'
import { type Budget, search } from './search.ts'

export type Verdict<O, R> =
  | { readonly type: 'linearizable'; readonly steps: number }
  | {
      readonly type: 'violation'
      readonly steps: number
      /** What the calls touch. */
      readonly keys: readonly string[]
      /** Few calls that no order explains, by their begins; left out are only calls that could not have helped. */
      readonly calls: readonly Call<O, R>[]
      /** They, and who wrote what they saw, as people read it. */
      readonly text: string
    }
  /** The steps did not suffice, for these keys. No other key has a violation. */
  | { readonly type: 'undecided'; readonly steps: number; readonly keys: readonly string[] }

export type CheckOptions = {
  /** How often the model may be used in all, and a fifth of that again to make a violation small. */
  readonly maxSteps?: number
}

/** Always ends. Keys that no call joins are judged one by one; the first violation found is the answer. */
export function check<S, O, R>(
  model: Model<S, O, R>,
  calls: readonly Call<O, R>[],
  { maxSteps = 50_000_000 }: CheckOptions = {},
): Verdict<O, R> {
  const budget: Budget = { steps: maxSteps }
  const undecided: string[] = []
  for (const part of partsOf(model, calls)) {
    const found = search(model, part, budget)
    if (found.type === 'undecided') undecided.push(...keysOf(model, part))
    if (found.type !== 'none') continue
    const core = shrink(model, upTo(part, found.until), { steps: maxSteps / 5 })
    const steps = maxSteps - budget.steps
    const text = render(model, part, core)
    return { type: 'violation', steps, keys: keysOf(model, part), calls: core, text }
  }
  const steps = maxSteps - budget.steps
  return undecided.length > 0
    ? { type: 'undecided', steps, keys: undecided }
    : { type: 'linearizable', steps }
}

/** Calls that touch the same keys, directly or through others, together. */
function partsOf<S, O, R>(model: Model<S, O, R>, calls: readonly Call<O, R>[]): Call<O, R>[][] {
  const parents = new Map<string, string>()
  const root = (key: string): string => {
    let top = key
    for (let parent = parents.get(top); parent !== undefined; parent = parents.get(top)) top = parent
    if (top !== key) parents.set(key, top)
    return top
  }
  for (const { operation } of calls) {
    const [first, ...others] = model.keys(operation)
    if (first === undefined) throw new Error('an operation touches something')
    for (const key of others) if (root(key) !== root(first)) parents.set(root(key), root(first))
  }
  const parts = new Map<string, Call<O, R>[]>()
  for (const call of calls) {
    const name = root(model.keys(call.operation)[0] ?? '')
    const part = parts.get(name) ?? []
    parts.set(name, part)
    part.push(call)
  }
  return [...parts.values()]
}

function keysOf<S, O, R>(model: Model<S, O, R>, calls: readonly Call<O, R>[]): string[] {
  return [...new Set(calls.flatMap(({ operation }) => model.keys(operation)))]
}

function upTo<O, R>(calls: readonly Call<O, R>[], end: number): Call<O, R>[] {
  return calls.filter(({ invoked }) => invoked <= end)
}

/**
 * Forgets what calls came to, many at once and then one by one, as long as no order explains the rest. Forgetting allows
 * more orders and never fewer, so what is left is a violation of the whole history too. Returns the calls not forgotten.
 */
function shrink<S, O, R>(model: Model<S, O, R>, calls: readonly Call<O, R>[], budget: Budget): Call<O, R>[] {
  let left = [...calls].sort((first, second) => first.invoked - second.invoked)
  const proves = (weaker: readonly Call<O, R>[]): boolean => {
    // No single attempt may take all: the next, with other calls forgotten, may be easy.
    const own = { steps: Math.min(budget.steps, 1_000_000) }
    const given = own.steps
    const found = search(model, weaker, own)
    budget.steps -= given - own.steps
    if (found.type === 'none') left = upTo(weaker, found.until)
    return found.type === 'none'
  }
  const without = (forgotten: ReadonlySet<Call<O, R>>) =>
    left.flatMap((call) => (forgotten.has(call) ? forget(model, call) : [call]))
  // Most violations show within the last few calls, and few are quickly searched.
  for (let keep = 8; keep < left.length; keep *= 4) {
    if (proves(without(new Set(left.filter(isKnown).slice(0, -keep))))) break
  }
  let size = Math.ceil(left.length / 2)
  for (let smaller = true; smaller && budget.steps > 0; size = Math.ceil(size / 2)) {
    smaller = size > 1
    let from = 0
    while (budget.steps > 0) {
      const chunk = new Set(left.filter(isKnown).slice(from, from + size))
      if (chunk.size === 0) break
      if (proves(without(chunk))) smaller = true
      else from += size
    }
  }
  return left.filter(isKnown)
}

function isKnown<O, R>({ result }: Call<O, R>): boolean {
  return result !== undefined
}

function forget<S, O, R>(model: Model<S, O, R>, call: Call<O, R>): Call<O, R>[] {
  if (call.result === undefined) return [call]
  const operation = model.forget(call.operation, call.result)
  if (operation === undefined) return []
  return [{ ...call, operation, result: undefined, returned: Number.POSITIVE_INFINITY }]
}

function render<S, O, R>(
  model: Model<S, O, R>,
  all: readonly Call<O, R>[],
  core: readonly Call<O, R>[],
): string {
  const isSource = ({ operation }: Call<O, R>) =>
    core.some(({ result }) => result !== undefined && model.isSource(operation, result))
  const related = all.filter((call) => !core.includes(call) && isSource(call))
  const lines = [...core, ...related].sort((left, right) => left.invoked - right.invoked)
  const width = Math.max(...lines.map(({ note }) => note?.length ?? 0))
  const rendered = lines.map((call) => {
    const mark = core.includes(call) ? '  ' : ' ('
    const text = model.describe(call.operation, call.result)
    return `${mark}${(call.note ?? '').padEnd(width)}  ${text}${core.includes(call) ? '' : ')'}`
  })
  const keys = keysOf(model, all).join(', ')
  return [`No order explains these calls on ${keys}:`, ...rendered].join('\n')
}
