// Random logs of every command there is, few names and numbers so that they meet, with what the model makes of them.

import fc from 'fast-check'
import type { Entry } from '../../src/raft/types.ts'
import type {
  Command,
  CommandBatch,
  Condition,
  Minted,
  Once,
  Operation,
  Principal,
  TransactionCondition,
  Ttl,
} from '../../src/store/types.ts'
import { batch, bytes, entry, founding, inSession, openSession, tokens, underKey } from './state-fixtures.ts'
import { lifeMs, Model } from './state-model.ts'

const keys = ['a', 'b', 'é', 'cart/1', 'cart/2', '\uff5e', '\u{1f600}', '\u007f\u{10ffff}']
const store = fc.oneof(
  { weight: 12, arbitrary: fc.constant('default') },
  { weight: 4, arbitrary: fc.constant('sessions') },
  { weight: 2, arbitrary: fc.constant('new') },
  { weight: 1, arbitrary: fc.constantFrom('gone', 'self') },
)

/** A name's hash for its n-th secret. */
function hashOf(name: string, n: number): string {
  return `${name}-${n}`.padEnd(43, '_')
}

const names = ['m1', 'm2', 'm3']
const apps = ['one', 'two']

const condition: fc.Arbitrary<Condition> = fc.oneof(
  fc.constant({ type: 'exists' as const }),
  fc.constant({ type: 'absent' as const }),
  fc.record({ type: fc.constant('revision' as const), revisions: fc.array(fc.nat(12), { maxLength: 4 }) }),
)

/** A few sessions, numbers and keys, so that they meet again. */
const once: fc.Arbitrary<{ readonly once?: Once }> = fc.oneof(
  { weight: 16, arbitrary: fc.constant({}) },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 6 }), fc.nat(3))
      .map(([n, seq, acked]) => inSession(n, seq, Math.min(acked, seq - 1))),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(fc.constantFrom('x', 'y', 'z'), fc.nat(1))
      .map(([key, request]) => underKey(key, request)),
  },
)

const token = fc.oneof(
  { weight: 24, arbitrary: fc.constant(tokens.admin.hash) },
  { weight: 2, arbitrary: fc.constantFrom(tokens.cart.hash, tokens.minter.hash) },
  {
    weight: 3,
    arbitrary: fc.tuple(fc.constantFrom(...names), fc.nat(1)).map(([name, n]) => hashOf(name, n)),
  },
  { weight: 1, arbitrary: fc.constantFrom(tokens.monitor.hash, 'unknown') },
)

const ttl: fc.Arbitrary<Ttl> = fc.constantFrom<Ttl>('none', 1, 50, 100, lifeMs)
const maybeTtl = fc.oneof(fc.constant({}), fc.record({ ttl }))
const delta = fc.constantFrom(1n, -1n, 41n, 2n ** 63n - 1n, -(2n ** 63n))
const value = fc.constantFrom('', '1', '-7', '9223372036854775807', 'x'.repeat(16), 'x'.repeat(17)).map(bytes)
const place = fc.record({
  store,
  key: fc.constantFrom(...keys).map(bytes),
})
const contentType = fc.constantFrom('text/plain', 'application/json')
const prefix = fc.constantFrom('', '', 'a', 'cart/', '\u007f', '\u00ef').map(bytes)

function kind<Type extends string>(type: Type): fc.Arbitrary<{ readonly type: Type }> {
  return fc.constant({ type })
}

/** Both parts in one. */
function join<Left, Right>(left: fc.Arbitrary<Left>, right: fc.Arbitrary<Right>): fc.Arbitrary<Left & Right> {
  return fc.tuple(left, right).map(([one, other]) => ({ ...one, ...other }))
}

const setting = join(join(kind('set'), place), join(fc.record({ value, contentType }), maybeTtl))
const deleting = join(kind('delete'), place)
const incrementing = join(join(kind('increment'), place), join(fc.record({ delta }), maybeTtl))
const touching = join(join(kind('touch'), place), fc.record({ ttl }))

const operation: fc.Arbitrary<Operation> = fc.oneof(
  join(
    fc.constantFrom({ type: 'get' as const }, { type: 'head' as const }, { type: 'exists' as const }),
    place,
  ),
  setting,
  setting,
  deleting,
  incrementing,
  touching,
  fc.record({ type: fc.constant('deletePrefix' as const), store, prefix }),
)
const branch = fc.array(operation, { maxLength: 6, size: 'max' })

const transactionCondition: fc.Arbitrary<TransactionCondition> = fc.oneof(
  join(join(kind('revision'), place), fc.record({ revision: fc.nat(12) })),
  join(join(kind('exists'), place), fc.record({ exists: fc.boolean() })),
  join(join(kind('value'), place), fc.record({ value })),
)

const principal: fc.Arbitrary<Principal> = fc.oneof(
  fc.constant({ type: 'admin' as const }),
  fc.constantFrom<Principal>(
    { type: 'component', grants: [{ store: 'default', access: 'read-write', prefix: 'cart/' }] },
    { type: 'component', grants: [{ store: 'new', access: 'read-write' }], mint: true },
    { type: 'component', grants: [{ store: 'default', access: 'read-write', prefix: 'cart/' }], mint: true },
  ),
  fc.record({
    type: fc.constant('app' as const),
    app: fc.constantFrom(...apps),
    holder: fc.record({
      type: fc.constantFrom('user' as const, 'bot' as const),
      id: fc.constantFrom('u1', 'u'),
    }),
  }),
)
const minted: fc.Arbitrary<Minted> = join(
  fc
    .tuple(fc.constantFrom(...names), fc.nat(1), principal)
    .map(([name, n, who]) => ({ name, hash: hashOf(name, n), principal: who })),
  fc.oneof(fc.constant({}), fc.record({ ttl: fc.constantFrom(1, 100, lifeMs) })),
)

const byToken = join(fc.record({ token }), once)
const conditional = join(byToken, fc.record({ conditions: fc.array(condition, { maxLength: 1 }) }))

/** The holders of one app, each with a token that only this mints. */
const holders = ([0, 1] as const).map((n) => ({
  name: `app-${n}`,
  hash: hashOf('app', n),
  principal: { type: 'app', app: 'one', holder: { type: 'user', id: ['u', 'u1'][n] ?? '' } } as const,
}))

const ofApp: fc.Arbitrary<Command> = fc.constantFrom(...holders).chain((one) => {
  const by = { token: one.hash, store: 'self' }
  return fc.oneof(
    {
      weight: 2,
      arbitrary: fc.constant({ type: 'mintToken' as const, token: tokens.admin.hash, minted: one }),
    },
    { weight: 3, arbitrary: setting.map((write) => ({ ...write, ...by, conditions: [] })) },
    { weight: 1, arbitrary: prefix.map((begin) => ({ type: 'deleteRange' as const, prefix: begin, ...by })) },
    {
      weight: 2,
      arbitrary: branch.map((operations) => ({
        ...transaction(
          [],
          operations.map((operation) => ({ ...operation, store: 'self' })),
        ),
        token: one.hash,
      })),
    },
  )
})

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 5, arbitrary: ofApp },
  { weight: 8, arbitrary: join(setting, conditional) },
  { weight: 3, arbitrary: join(deleting, conditional) },
  { weight: 3, arbitrary: join(incrementing, conditional) },
  { weight: 4, arbitrary: join(touching, conditional) },
  {
    weight: 2,
    arbitrary: join(fc.record({ type: fc.constant('deleteRange' as const), store, prefix }), byToken),
  },
  {
    weight: 7,
    arbitrary: join(
      fc
        .tuple(fc.array(transactionCondition, { maxLength: 2 }), branch, branch)
        .map(([conditions, taken, other]) => transaction(conditions, taken, other)),
      byToken,
    ),
  },
  {
    weight: 2,
    arbitrary: join(
      fc.constantFrom(
        { type: 'createStore' as const, definition: { name: 'new', ttl: 100 } },
        { type: 'createStore' as const, definition: { name: 'gone' } },
        { type: 'dropStore' as const, name: 'new' },
        { type: 'dropStore' as const, name: 'sessions' },
        { type: 'dropStore' as const, name: 'default' },
      ),
      byToken,
    ),
  },
  {
    weight: 3,
    arbitrary: join(
      minted.map((one) => ({ type: 'mintToken' as const, minted: one })),
      byToken,
    ),
  },
  {
    weight: 1,
    arbitrary: join(
      fc.constantFrom(...names, 'admin', 'minter').map((name) => ({ type: 'revokeToken' as const, name })),
      byToken,
    ),
  },
  {
    weight: 1,
    arbitrary: join(
      fc
        .tuple(fc.constantFrom(...names), fc.nat(1), fc.constantFrom(0, 50, lifeMs))
        .map(([name, n, overlap]) => ({
          type: 'rotateToken' as const,
          name,
          hash: hashOf(name, n),
          overlap,
        })),
      byToken,
    ),
  },
  {
    weight: 1,
    arbitrary: join(
      fc.constantFrom(...apps).map((app) => ({ type: 'removeApp' as const, app })),
      byToken,
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.integer({ min: 1, max: 3 }), fc.constantFrom(tokens.admin.hash, tokens.cart.hash))
      .map(([n, by]) => openSession(n, by)),
  },
)

export function transaction(
  conditions: readonly TransactionCondition[],
  taken: readonly Operation[],
  other: readonly Operation[] = [],
) {
  // biome-ignore lint/suspicious/noThenProperty: the contract's name for it; no array can be called.
  return { type: 'transaction' as const, if: conditions, then: taken, else: other }
}

/**
 * The node's own commands name what stood when it looked: `expire` what is due so long after the entry before, found before
 * this one is applied; `collect` the n-th dropped store, or some number.
 */
type Sweep =
  | { readonly type: 'sweep'; readonly ahead: number; readonly limit: number }
  | { readonly type: 'collectAny'; readonly n: number }

const sweep: fc.Arbitrary<Sweep> = fc.oneof(
  fc.record({
    type: fc.constant('sweep' as const),
    ahead: fc.constantFrom(0, 0, 100, 2 * lifeMs),
    limit: fc.constantFrom(2, 1000),
  }),
  fc.record({ type: fc.constant('collectAny' as const), n: fc.nat(3) }),
)

/** After the founding. Some entries come long after those before, some with an earlier stamp. */
const stamp = fc.oneof(
  { weight: 8, arbitrary: fc.nat(200) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      ...[1, 2, 3].flatMap((lives) => [lives * lifeMs - 1, lives * lifeMs, lives * lifeMs + 1]),
    ),
  },
)

type PlannedBatch = {
  readonly commands: readonly (readonly [number, Command | Sweep])[]
  readonly peer: string
  readonly boot: number
  readonly acked: number
}

/** Numbers come in any order and more than once; boots go up and come back late; acknowledgements jump. */
const plannedBatch: fc.Arbitrary<PlannedBatch> = fc.record({
  commands: fc.array(
    fc.tuple(
      fc.integer({ min: 1, max: 300 }),
      fc.oneof({ weight: 6, arbitrary: command }, { weight: 1, arbitrary: sweep }),
    ),
    { minLength: 1, maxLength: 8, size: 'max' },
  ),
  peer: fc.constantFrom('peer-1', 'peer-2'),
  boot: fc.oneof(
    { weight: 12, arbitrary: fc.constant(1) },
    { weight: 1, arbitrary: fc.constantFrom(1, 2, 3) },
  ),
  acked: fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(100) }),
})

type PlannedEntry =
  | { readonly type: 'commands'; readonly batches: readonly PlannedBatch[]; readonly stamp: number }
  | { readonly type: 'noop' }
  | { readonly type: 'configuration'; readonly without: number }

const plannedEntry: fc.Arbitrary<PlannedEntry> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      type: fc.constant('commands' as const),
      batches: fc.array(plannedBatch, { minLength: 1, maxLength: 3, size: 'max' }),
      stamp,
    }),
  },
  { weight: 1, arbitrary: fc.constant({ type: 'noop' as const }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('configuration' as const), without: fc.nat(2) }) },
)

/** A log, what each of its entries comes to, and the model after it. */
export type Written = {
  readonly entries: readonly Entry[]
  readonly answers: readonly ReturnType<Model['hear']>[]
  readonly model: Model
}

function write(plan: readonly PlannedEntry[]): Written {
  const model = new Model()
  const answers: ReturnType<Model['hear']>[] = []
  const entries = plan.map((planned, n): Entry => {
    const position = { index: n + 1, term: 1 + Math.floor(n / 5) }
    if (planned.type !== 'commands') answers.push([])
    if (planned.type === 'noop') return { type: 'noop', ...position }
    if (planned.type === 'configuration') {
      const members = founding.configuration.members.map((one, at) => ({
        ...one,
        voter: at !== planned.without,
      }))
      return { type: 'configuration', ...position, configuration: { members } }
    }
    const time = founding.foundedAt + planned.stamp
    const batches = planned.batches.map((one): CommandBatch => {
      const { commands, ...rest } = one
      return batch(
        commands.map(([number, what]) => [number, swept(what, model, time)] as const),
        rest,
      )
    })
    model.time = Math.max(model.time, time)
    answers.push(batches.flatMap((one) => model.hear(one)))
    return { ...entry(n + 1, batches, time), ...position }
  })
  return { entries, answers, model }
}

function swept(what: Command | Sweep, model: Model, time: number): Command {
  if (what.type === 'sweep') return { type: 'expire', ...model.due(time + what.ahead, what.limit) }
  if (what.type === 'collectAny') return { type: 'collect', store: model.dropped()[what.n] ?? what.n }
  return what
}

export const log: fc.Arbitrary<Written> = fc
  .array(plannedEntry, { minLength: 1, maxLength: 14, size: 'max' })
  .map(write)
