// Requests that the SDK's client has no method for: one to the cluster, its JSON back; and streams in either direction.

import { setTimeout as delay } from 'node:timers/promises'

import { headers as fieldNames, timeouts } from '../api/protocol.ts'
import { TrivetError } from '../errors.ts'
import { toMilliseconds } from '../sdk/duration.ts'
import { parseEndpoints } from '../sdk/endpoints.ts'
import { Requester } from '../sdk/requester.ts'
import { type Effect, judgeAnswer, judgeFailure, type Verdict } from '../sdk/verdict.ts'
import type { Connection } from './connection.ts'

/** A body of JSON, not yet looked into. */
export type Body = Readonly<Record<string, unknown>>

export type Question = {
  readonly method: 'GET' | 'POST' | 'DELETE'
  /** From `/v1` on, encoded. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: object | undefined
  readonly effect: Effect
}

/** Sends requests one after the other, each until it is answered or its time is over. */
export class Asker implements Disposable {
  readonly #requester: Requester

  constructor({ endpoints, token, timeout }: Connection) {
    this.#requester = new Requester({
      endpoints: parseEndpoints(endpoints),
      token,
      timeoutMs: toMilliseconds(timeout, 'timeout'),
      fetch: (url, init) => globalThis.fetch(url, init),
      random: Math.random,
      discover: false,
      fewWrites: true,
    })
  }

  /** Rejects as every call of the SDK does. */
  async ask({ method, path, headers = {}, body, effect }: Question): Promise<Body> {
    const answer = await this.#requester.send({
      method,
      path,
      effect,
      ...(body === undefined
        ? { headers }
        : { body: JSON.stringify(body), headers: { ...headers, 'Content-Type': 'application/json' } }),
    })
    return bodyOf(new TextDecoder().decode(answer.body), answer.endpoint)
  }

  [Symbol.dispose](): void {
    this.#requester.close()
  }
}

/** The JSON object that an answer brought. */
export function bodyOf(text: string, endpoint: string): Body {
  try {
    const parsed: unknown = JSON.parse(text)
    if (typeof parsed === 'object' && parsed !== null) return { ...parsed }
  } catch {
    // Said below: it is no JSON, and no node of ours wrote it.
  }
  throw new TrivetError('internal', `${endpoint} answered with a body that no Trivet node writes`)
}

/** A request whose body, or the body of its answer, is a stream. */
export type StreamedQuestion = {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  /** Asked for anew with every try. */
  readonly body?: () => AsyncIterable<Uint8Array>
  readonly effect: Effect
}

export type StreamedAnswer = { readonly response: Response; readonly endpoint: string }

/**
 * The beginning of an answer of 2xx, from the first endpoint that gives one within the connection's time; how long the
 * streams take is not bounded. Rejects as every call of the SDK does.
 */
export async function openStream(
  connection: Connection,
  question: StreamedQuestion,
): Promise<StreamedAnswer> {
  const endpoints = parseEndpoints(connection.endpoints)
  const deadline = performance.now() + toMilliseconds(connection.timeout, 'timeout')
  for (let tries = 0; ; tries++) {
    const endpoint = endpoints[tries % endpoints.length] ?? ''
    const verdict = await attempt(connection, question, endpoint)
    if (verdict.type === 'opened') return verdict
    if (verdict.type === 'failed' || verdict.doubt) throw verdict.error
    const pause = Math.max(verdict.pause, tries < endpoints.length - 1 ? 0 : 250)
    if (performance.now() + pause > deadline) throw verdict.error
    await delay(pause)
  }
}

type Refused = Extract<Verdict, { type: 'retry' | 'failed' }>

async function attempt(
  { token, timeout }: Connection,
  { method, path, headers, body, effect }: StreamedQuestion,
  endpoint: string,
): Promise<({ readonly type: 'opened' } & StreamedAnswer) | Refused> {
  let response: Response
  try {
    const init = {
      method,
      headers: { ...headers, Authorization: `Bearer ${token}`, [fieldNames.timeout]: waitOf(timeout) },
      redirect: 'manual',
      ...(body === undefined ? {} : { body: ReadableStream.from(body()), duplex: 'half' }),
    } satisfies RequestInit & { duplex?: 'half' }
    response = await fetch(`${endpoint}${path}`, init)
  } catch (cause) {
    return refused(judgeFailure(cause, effect, endpoint))
  }
  if (response.ok) return { type: 'opened', response, endpoint }
  const { status, headers: fields } = response
  const bytes = new Uint8Array(await response.arrayBuffer())
  return refused(judgeAnswer({ status, headers: fields, body: bytes, endpoint }, effect))
}

/** How long a node may wait for a leader, within what the contract allows. */
function waitOf(timeout: string): string {
  const wait = toMilliseconds(timeout, 'timeout')
  return `${Math.floor(Math.min(timeouts.most, Math.max(timeouts.least, wait)))}ms`
}

function refused(verdict: Verdict): Refused {
  if (verdict.type === 'retry' || verdict.type === 'failed') return verdict
  const error = verdict.type === 'expired' ? verdict.error : undefined
  return { type: 'failed', error, suspect: false, settled: false }
}

/** The chunks of an answer's body. Rejects with a sentence when the connection ends before it. */
export async function* chunksOf({ response, endpoint }: StreamedAnswer): AsyncGenerator<Uint8Array> {
  if (response.body === null) return
  try {
    for await (const chunk of response.body) yield chunk
  } catch (cause) {
    throw new TrivetError('deadline-exceeded', `The connection to ${endpoint} broke in the middle`, { cause })
  }
}
