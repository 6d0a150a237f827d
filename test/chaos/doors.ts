// The two ways in, REST and the SDK, each held to what it promises about how a call ended.

import { TrivetError } from '../../src/errors.ts'
import { type Client, check, connect, op, type Store } from '../../src/sdk/index.ts'
import type { KeyResult, Operation, Result, Step, Transaction } from '../linear/key-value.ts'
import type { Ground } from './ground.ts'
import { openValue, sealValue } from './values.ts'

/** How a call ended, in the words of a history. */
export type Ending =
  | { readonly type: 'ok'; readonly result: Result }
  /** It has had no effect and will have none. */
  | { readonly type: 'fail'; readonly reason: string }
  | { readonly type: 'info'; readonly reason: string }

/** How long one call may take, in milliseconds. */
const callMs = 2500
/** The server is told to answer a little before its client leaves. */
const serverTimeout = '2300ms'

/** What a node says when a command entered no log, or nothing was read. */
const withoutEffect: ReadonlySet<string> = new Set([
  'no-leader',
  'not-ready',
  'overloaded',
  'shutting-down',
  'deadline-exceeded',
  'storage-full',
])

/** What clients here do to a key. */
export type Use = Extract<Operation, { type: 'get' | 'set' | 'delete' | 'increment' }>

/** One call by REST. Rejects for an answer that the contract does not know. `key`: the Idempotency-Key of a write. */
export async function useRest(ground: Ground, node: string, operation: Use, key?: string): Promise<Ending> {
  let answer: Response
  let text: string
  try {
    answer = await send(ground, node, operation, key)
    text = await answer.text()
  } catch (error) {
    const reason = reasonOf(error)
    const isWithout = operation.type === 'get' || reason === 'ECONNREFUSED'
    return { type: isWithout ? 'fail' : 'info', reason }
  }
  const code = answer.headers.get('trivet-error')
  if (answer.ok) return { type: 'ok', result: resultOf(operation, answer, text) }
  if (code === 'no-such-key' && operation.type === 'get') return { type: 'ok', result: { type: 'absent' } }
  if (code === 'condition-failed' && operation.type !== 'get') {
    return { type: 'ok', result: { type: 'refused', version: Number(field(text, 'revision')) } }
  }
  if (code !== null && withoutEffect.has(code)) return { type: 'fail', reason: code }
  if (code === 'outcome-unknown' && operation.type !== 'get') return { type: 'info', reason: code }
  throw new Error(`${answer.status} ${code ?? 'without a code'}: ${text.slice(0, 300)}`)
}

/**
 * A write by REST that is sent again, under its Idempotency-Key and through other nodes, while nobody knows what became of it: it
 * takes effect once, and the answer is that of the try that did.
 */
export async function useRestAgain(
  ground: Ground,
  nodes: readonly string[],
  operation: Exclude<Use, { type: 'get' }>,
  key: string,
): Promise<Ending> {
  let known: Ending = { type: 'fail', reason: 'there are no nodes' }
  for (const node of nodes) {
    const ending = await useRest(ground, node, operation, key)
    // A later try that came to nothing says nothing of an earlier one.
    known = known.type === 'info' && ending.type === 'fail' ? known : ending
    if (known.type !== 'info') break
  }
  return known
}

function send(ground: Ground, node: string, operation: Use, key: string | undefined): Promise<Response> {
  const path = `/v1/stores/default/keys/${operation.key}`
  const headers: Record<string, string> = { 'trivet-timeout': serverTimeout }
  if (operation.type === 'get') return ground.fetch(node, path, { headers, ms: callMs })
  if (key !== undefined) headers['idempotency-key'] = key
  if (operation.type === 'increment') {
    headers['content-type'] = 'application/json'
    const body = JSON.stringify({ delta: operation.by })
    return ground.fetch(node, `${path}/increment`, { method: 'POST', headers, body, ms: callMs })
  }
  const { condition } = operation
  if (condition?.type === 'absent') headers['if-none-match'] = '*'
  if (condition?.type === 'exists') headers['if-match'] = '*'
  if (condition?.type === 'version') headers['if-match'] = `"${condition.version}"`
  if (operation.type === 'delete') return ground.fetch(node, path, { method: 'DELETE', headers, ms: callMs })
  headers['content-type'] = 'text/plain'
  return ground.fetch(node, path, { method: 'PUT', headers, body: sealValue(operation.value), ms: callMs })
}

function resultOf(operation: Use, answer: Response, text: string): Result {
  if (operation.type === 'get') {
    const version = Number(/^"(\d+)"$/.exec(answer.headers.get('etag') ?? '')?.[1])
    return { type: 'found', value: openValue(text), version: positive(version) }
  }
  const version = positive(Number(field(text, 'revision')))
  if (operation.type === 'increment') {
    return { type: 'counted', value: positive(Number(field(text, 'value'))), version }
  }
  return operation.type === 'set'
    ? { type: 'written', version, created: field(text, 'created') === true }
    : { type: 'deleted', version, existed: field(text, 'deleted') === true }
}

/** Revisions begin at 1, and counters are only counted up. */
function positive(number: number): number {
  if (Number.isSafeInteger(number) && number > 0) return number
  throw new Error(`an answer with the revision or number ${number}`)
}

function field(json: string, name: string): unknown {
  const body: unknown = JSON.parse(json)
  return typeof body === 'object' && body !== null ? Reflect.get(body, name) : undefined
}

/** The code of what broke a connection, or its name. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { cause } = error
  if (cause instanceof Error && 'code' in cause && typeof cause.code === 'string') return cause.code
  return error.name
}

/** A client of the SDK that knows all nodes; made anew when they change. */
export class SdkDoor {
  readonly #ground: Ground
  #known = ''
  #client: Client | undefined
  #store: Store | undefined

  constructor(ground: Ground) {
    this.#ground = ground
  }

  /** One call. Rejects for what the contract does not know. */
  async use(operation: Use | Transaction): Promise<Ending> {
    try {
      const store = await this.#opened()
      if (store === undefined || this.#client === undefined) {
        return { type: 'fail', reason: 'the store could not be opened' }
      }
      const result =
        operation.type === 'transaction'
          ? await transact(this.#client, operation)
          : await useStore(store, operation)
      return { type: 'ok', result }
    } catch (error) {
      if (!(error instanceof TrivetError)) throw error
      if (error.code === 'condition-failed' && error.revision !== undefined && operation.type !== 'get') {
        return { type: 'ok', result: { type: 'refused', version: error.revision } }
      }
      if (error.outcome === 'unknown' && operation.type !== 'get') return { type: 'info', reason: error.code }
      if (withoutEffect.has(error.code)) return { type: 'fail', reason: error.code }
      throw new Error(`${error.code}: ${error.detail}`, { cause: error })
    }
  }

  async close(): Promise<void> {
    await this.#client?.close()
  }

  /** Undefined when no node could say that the store is there, before anything was asked of it. */
  async #opened(): Promise<Store | undefined> {
    const endpoints = this.#ground.ids.map((id) => this.#ground.seat(id).http)
    if (endpoints.join(' ') !== this.#known) {
      await this.#client?.close()
      this.#known = endpoints.join(' ')
      this.#client = connect({ endpoints, token: this.#ground.token, timeout: callMs })
      this.#store = undefined
    }
    try {
      this.#store ??= await this.#client?.open('default')
      return this.#store
    } catch (error) {
      if (error instanceof TrivetError && withoutEffect.has(error.code)) return undefined
      throw error
    }
  }
}

async function useStore(store: Store, operation: Use): Promise<Result> {
  if (operation.type === 'get') {
    const entry = await store.getEntry(operation.key)
    if (entry === undefined) return { type: 'absent' }
    return { type: 'found', value: openValue(Buffer.from(entry.value).toString()), version: entry.revision }
  }
  if (operation.type === 'increment') {
    return { type: 'counted', value: Number(await store.increment(operation.key, operation.by)) }
  }
  const { condition } = operation
  const conditions = {
    ...(condition?.type === 'version' ? { ifRevision: condition.version } : {}),
    ...(condition?.type === 'absent' ? { ifAbsent: true } : {}),
  }
  if (operation.type === 'set') {
    const { revision, created } = await store.set(operation.key, sealValue(operation.value), conditions)
    return { type: 'written', version: revision, created }
  }
  const { revision, deleted } = await store.delete(operation.key, conditions)
  return { type: 'deleted', version: revision, existed: deleted }
}

async function transact(client: Client, { steps, when }: Transaction): Promise<Result> {
  const conditions = when === undefined ? [] : [guardOf(when)]
  const outcome = await client
    .transaction()
    .if(...conditions)
    .onSuccess(...steps.map(operationOf))
    .commit()
  if (!outcome.succeeded) return { type: 'declined' }
  const { revision: version } = outcome
  const results = outcome.results.map((result): KeyResult => {
    switch (result.op) {
      case 'get': {
        const { entry } = result
        if (entry === undefined) return { type: 'absent' }
        return {
          type: 'found',
          value: openValue(Buffer.from(entry.value).toString()),
          version: entry.revision,
        }
      }
      case 'set':
        return { type: 'written', version, created: result.created }
      case 'delete':
        return { type: 'deleted', version, existed: result.deleted }
      default:
        return result satisfies never
    }
  })
  return { type: 'done', results }
}

function guardOf({ key, condition }: NonNullable<Transaction['when']>) {
  if (condition.type === 'version') return check.revision('default', key, condition.version)
  return condition.type === 'absent' ? check.absent('default', key) : check.exists('default', key)
}

function operationOf(step: Step) {
  switch (step.type) {
    case 'get':
      return op.get('default', step.key)
    case 'set':
      return op.set('default', step.key, sealValue(step.value))
    case 'delete':
      return op.delete('default', step.key)
    default:
      throw new Error(`no client here has a transaction ${step.type}`)
  }
}
