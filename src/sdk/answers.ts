// What the server's JSON means to the client. It came over a network, so every shape is checked before it is believed.

import {
  type ClusterDescription,
  type Deleted,
  type GrantDescription,
  type KeyPage,
  type Me,
  type MemberDescription,
  msgpackType,
  type PrincipalDescription,
  type Written,
} from '../api/protocol.ts'
import { TrivetError } from '../errors.ts'
import { unpack } from './codec.ts'
import { type Answer, unknownOutcome } from './verdict.ts'

export type Fields = Readonly<Record<string, unknown>>

export function readSet(answer: Answer): Written {
  return read(answer, true, (body) => ({
    revision: number(body, 'revision'),
    created: boolean(body, 'created'),
    changed: boolean(body, 'changed'),
  }))
}

export function readDelete(answer: Answer): Deleted {
  return read(answer, true, (body) => ({
    revision: number(body, 'revision'),
    deleted: boolean(body, 'deleted'),
  }))
}

export function readSession(answer: Answer): string {
  return read(answer, false, (body) => string(body, 'session'))
}

export function readListing(answer: Answer): KeyPage {
  return read(answer, false, (body) => ({
    keys: list(body, 'keys').map((row) => ({
      key: string(row, 'key'),
      revision: number(row, 'revision'),
      size: number(row, 'size'),
      contentType: string(row, 'contentType'),
      ...optional(row, 'expires', string),
    })),
    ...optional(body, 'cursor', string),
    revision: number(body, 'revision'),
  }))
}

export function readMe(answer: Answer): Me {
  return read(answer, false, (body) => {
    const principal = fields(body['principal'])
    return {
      principal: { ...readPrincipal(principal), name: string(principal, 'name') },
      grants: list(body, 'grants').map(readGrant),
      ...optional(body, 'expires', string),
    }
  })
}

/** Whom a token speaks for. */
export function readPrincipal(row: Fields): PrincipalDescription {
  const holder = row['holder'] === undefined ? undefined : fields(row['holder'])
  return {
    type: oneOf(row, 'type', ['admin', 'monitor', 'component', 'app']),
    ...optional(row, 'mint', boolean),
    ...optional(row, 'app', string),
    ...(holder === undefined
      ? {}
      : { holder: { type: oneOf(holder, 'type', ['user', 'bot']), id: string(holder, 'id') } }),
  }
}

export function readGrant(row: Fields): GrantDescription {
  return {
    store: string(row, 'store'),
    access: oneOf(row, 'access', ['read', 'read-write']),
    ...optional(row, 'prefix', string),
  }
}

export function readCluster(answer: Answer): ClusterDescription {
  return read(answer, false, (body) => ({
    cluster: string(body, 'cluster'),
    id: string(body, 'id'),
    ...optional(body, 'leader', string),
    term: number(body, 'term'),
    revision: number(body, 'revision'),
    members: list(body, 'members').map(readMember),
  }))
}

const roles = ['follower', 'preCandidate', 'candidate', 'leader', 'learner', 'unknown'] as const

function readMember(row: Fields): MemberDescription {
  const alarms = row['alarms']
  return {
    id: string(row, 'id'),
    role: oneOf(row, 'role', roles),
    voter: boolean(row, 'voter'),
    http: string(row, 'http'),
    p2p: string(row, 'p2p'),
    peer: string(row, 'peer'),
    ...optional(row, 'version', string),
    ...optional(row, 'term', number),
    ...optional(row, 'commitIndex', number),
    ...optional(row, 'lastApplied', number),
    ...optional(row, 'lag', number),
    ...optional(row, 'digest', readDigest),
    healthy: boolean(row, 'healthy'),
    alarms: Array.isArray(alarms) ? alarms.map(String) : [],
    self: boolean(row, 'self'),
  }
}

function readDigest(from: Fields, name: string): { readonly index: number; readonly digest: string } {
  const row = fields(from[name])
  return { index: number(row, 'index'), digest: string(row, 'digest') }
}

/** The field when it is there. JSON has no `undefined`, so that a server may write null for it. */
export function optional<Name extends string, T>(
  from: Fields,
  name: Name,
  parse: (from: Fields, name: string) => T,
): { readonly [K in Name]?: T } {
  if (from[name] === undefined || from[name] === null) return {}
  // A computed name widens to string, so that the compiler has to be told what stands there.
  return { [name]: parse(from, name) } as { readonly [K in Name]?: T }
}

/** Runs `parse` over the body as JSON. What cannot be read leaves the outcome of a write unknown. */
export function read<T>(answer: Answer, write: boolean, parse: (body: Fields) => T): T {
  try {
    return parse(answer.result ?? fields(bodyOf(answer)))
  } catch (cause) {
    throw malformed(answer, write, cause)
  }
}

function bodyOf(answer: Answer): unknown {
  if (isPacked(answer)) return unpack(answer.body)
  const parsed: unknown = JSON.parse(new TextDecoder().decode(answer.body))
  return parsed
}

function isPacked({ headers }: Answer): boolean {
  return headers.get('Content-Type')?.toLowerCase().startsWith(msgpackType) === true
}

/**
 * Hands out the answers of a batch, one for each of its operations. An answer that is none of a batch stands for each of them;
 * one that cannot be read throws, before anything is handed out.
 */
export function unpackBatch(answer: Answer, count: number, each: (own: Answer, at: number) => void): void {
  if (answer.status !== 200) {
    for (let at = 0; at < count; at += 1) each(answer, at)
    return
  }
  const { headers, body, draining, endpoint } = answer
  const results = list(fields(bodyOf(answer)), 'results')
  if (results.length !== count)
    throw new Error(`a batch of ${count} was answered with ${results.length} results`)
  const statuses = results.map((result) => number(result, 'status'))
  for (const [at, result] of results.entries()) {
    each({ status: statuses[at] ?? 0, headers, body, draining, endpoint, result }, at)
  }
}

/** The revision in an ETag. Compressing proxies put `W/` before it, which means nothing here. */
export function readRevision(answer: Answer): number {
  const match = /^(?:W\/)?"(\d+)"$/.exec(answer.headers.get('ETag') ?? '')
  const revision = Number(match?.[1])
  // Anything else was not written by a Trivet node, whatever its status says.
  if (!Number.isSafeInteger(revision)) throw malformed(answer, false, new Error('its ETag is not a revision'))
  return revision
}

export function fields(value: unknown): Fields {
  if (!isFields(value)) throw new Error('an object was expected')
  return value
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null
}

export function list(from: Fields, name: string): readonly Fields[] {
  const value = from[name]
  if (!Array.isArray(value)) throw new Error(`${name} should be a list`)
  return value.map(fields)
}

export function string(from: Fields, name: string): string {
  const value = from[name]
  if (typeof value !== 'string') throw new Error(`${name} should be a string`)
  return value
}

function oneOf<T extends string>(from: Fields, name: string, allowed: readonly T[]): T {
  const value = allowed.find((one) => one === from[name])
  if (value === undefined) throw new Error(`${name} should be one of ${allowed.join(', ')}`)
  return value
}

export function number(from: Fields, name: string): number {
  const given = from[name]
  const value = typeof given === 'bigint' ? Number(given) : given
  if (typeof value !== 'number' || !Number.isSafeInteger(value))
    throw new Error(`${name} should be an integer`)
  return value
}

export function boolean(from: Fields, name: string): boolean {
  const value = from[name]
  if (typeof value !== 'boolean') throw new Error(`${name} should be true or false`)
  return value
}

function malformed(answer: Answer, write: boolean, cause: unknown): TrivetError {
  const why = cause instanceof Error ? cause.message : String(cause)
  const sentence = `${answer.endpoint} answered ${answer.status} with a body that no Trivet node writes: ${why}`
  return write ? unknownOutcome(sentence, cause) : new TrivetError('internal', sentence, { cause })
}
