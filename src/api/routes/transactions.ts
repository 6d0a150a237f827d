// Transactions: operations on any of the token's stores, all or none, under conditions.

import type { FastifyRequest } from 'fastify'
import { TrivetError } from '../../errors.ts'
import type { Target } from '../../store/grants.ts'
import type { Operation } from '../../store/types.ts'
import type { App, RouteContext } from '../app.ts'
import { refuseLargeValue } from '../batch.ts'
import { decided } from '../decided.ts'
import { callOf, storeCallOf } from '../gate.ts'
import { readRepeat, repeatable } from '../once.ts'
import { documented } from '../openapi.ts'
import { resultAnswer } from '../operation-answers.ts'
import { listOf, type OperationBody, readOperationBody, sendResults } from '../operation-requests.ts'
import {
  atOperation,
  readOperation,
  readTransactionCondition,
  targetOfRaw,
  targetOfRawCondition,
} from '../operations.ts'
import { NoQuery } from '../schemas.ts'
import { TransactionAnswer, TransactionRequest } from '../schemas-operations.ts'

const lists = ['if', 'then', 'else'] as const

export function addTransactionRoute(app: App, context: RouteContext): void {
  const { node, gate } = context
  const rule = gate.route({ need: { type: 'holder' }, judged: 'write', repeatable: true })
  app.route({
    ...rule,
    config: { ...rule.config, readsBody: true },
    method: 'POST',
    url: '/v1/transactions',
    schema: {
      summary: 'Operations on any of the stores granted, all or none, under conditions',
      querystring: NoQuery,
      ...documented({
        headers: ['idempotency-key', 'trivet-session', 'trivet-timeout'],
        operations: { takes: TransactionRequest, answers: TransactionAnswer },
      }),
    },
    handler: async (request, reply) => {
      const repeat = readRepeat(request.headers)
      const body = await readOperationBody(request, context, lists)
      const call = callOf(request)
      const parts = await readParts(request, body, context)
      const command = { type: 'transaction', token: call.tokenHash, ...parts } as const
      const executed = await node.execute(repeatable(command, repeat), call)
      const outcome = decided(reply, executed, { token: call.token, store: '' }, 'transaction')
      const { succeeded, revision, results } = outcome
      const { form } = body
      return sendResults(reply, form, {
        fields: { succeeded, revision },
        results: results.map((result) => resultAnswer(result, form)),
      })
    },
  })
}

/** The command without who sends it. Who may not do all of it is told that first, then what is wrong with it, then what is too large. */
async function readParts(request: FastifyRequest, body: OperationBody, { node, gate, limits }: RouteContext) {
  const [conditions = [], onSuccess = [], onFailure = []] = lists.map((name) => listOf(body, name))
  const branches = [
    ['then', onSuccess],
    ['else', onFailure],
  ] as const
  const bounds = new Map<string, number>()
  const judge = (target: Target | undefined): void => {
    if (target === undefined) return
    const { maxValueBytes } = storeCallOf(gate.judge(request, target))
    bounds.set(target.store, maxValueBytes ?? limits.valueBytes)
  }
  const judgeAll = (): void => {
    each('if', conditions, (raw) => judge(targetOfRawCondition(raw)))
    for (const [name, raws] of branches) each(name, raws, (raw) => judge(targetOfRaw(raw)))
  }
  try {
    judgeAll()
  } catch (refusal) {
    if (!(refusal instanceof TrivetError)) throw refusal
    // The grants may be older here than elsewhere.
    await node.barrier(callOf(request))
    judgeAll()
  }
  const rules = { form: body.form, keyBytes: limits.keyBytes }
  const read = {
    if: each('if', conditions, (raw) => readTransactionCondition(raw, rules)),
    // biome-ignore lint/suspicious/noThenProperty: the contract's name for it; a command is never awaited.
    then: each('then', onSuccess, (raw) => readOperation(raw, rules)),
    else: each('else', onFailure, (raw) => readOperation(raw, rules)),
  }
  const refuseLarge = (one: Operation): void =>
    refuseLargeValue(one, bounds.get(one.store) ?? limits.valueBytes)
  each('then', read.then, refuseLarge)
  each('else', read.else, refuseLarge)
  return read
}

/** Does the same with each of a list. What it throws says which it was. */
function each<From, To>(
  name: (typeof lists)[number],
  list: readonly From[],
  work: (one: From) => To,
): readonly To[] {
  return list.map((one, at) => {
    try {
      return work(one)
    } catch (error) {
      throw error instanceof TrivetError ? atOperation(error, at, name) : error
    }
  })
}
