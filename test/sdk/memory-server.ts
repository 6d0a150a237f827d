// A server that keeps the REST contract's subset in memory, counts what reaches it, and fails in the ways a test asks for.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Packr } from 'msgpackr'
import type { NewMember } from '../../src/api/protocol.ts'
import { type Asked, failed, isWrite, type Keyspace, MemoryKeys, type Result } from './memory-keys.ts'
import { serveWatch, type WatchControl } from './memory-watch.ts'

const codec = new Packr({ useRecords: false, int64AsType: 'bigint' })

/** What goes wrong with the next request that `on` (default: any but the opening of a session) lets in. */
export type Fault = { readonly on?: (request: SeenRequest) => boolean } & (
  | { readonly type: 'refuse'; readonly status: number; readonly code: string; readonly retryAfter?: number }
  /** An answer that no node of ours gave: a proxy's. */
  | { readonly type: 'foreign'; readonly status: number; readonly headers?: Readonly<Record<string, string>> }
  | { readonly type: 'cutBefore' }
  | { readonly type: 'cutAfter' }
  | { readonly type: 'cutBody' }
  /** Takes effect, and nobody is ever told. */
  | { readonly type: 'hang' }
  | { readonly type: 'slow'; readonly milliseconds: number }
  | { readonly type: 'held'; readonly until: Promise<unknown> }
  | { readonly type: 'garbage' }
)

export type SeenRequest = {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
}

/** What a session of the server keeps. */
type Session = { floor: number; readonly replies: Map<number, Reply> }

type Reply = { status: number; headers: Record<string, string>; body: Buffer }

/** What several servers share, as the nodes of a cluster do. */
export class MemoryState extends MemoryKeys {
  leader = 'n1'
  /** Who answers, as it sees itself. */
  self = 'n1'
  /** Members by their ids, with what is not made up of those. */
  readonly members = new Map<
    string,
    { readonly peer?: string; readonly http?: string; readonly p2p?: string }
  >([
    ['n1', {}],
    ['n2', {}],
    ['n3', {}],
  ])
  readonly learners = new Set<string>()
  /** Sessions ever opened. */
  opened = 0
  /** By id; a test may take one away, as ten minutes would. */
  readonly sessions = new Map<string, Session>()
  /** What writes under an idempotency key came to. */
  readonly keys = new Map<string, Reply>()
  /** The headers of session that writes came with. */
  readonly numbers: string[] = []
  readonly watch: WatchControl = {
    oldest: 1,
    progressMs: 20,
    snapshotBreaksAfter: undefined,
    streams: new Set(),
  }
  /** Bodies of the administration's writes, in order. */
  readonly administered: { readonly what: string; readonly body: unknown }[] = []
  /** Secrets, and which stores they open; an admin opens all. */
  readonly tokens = new Map<string, 'admin' | readonly string[]>([['secret', 'admin']])
}

/** One endpoint. Its faults are taken in order, each once. */
export class MemoryServer {
  readonly state: MemoryState
  readonly faults: Fault[] = []
  readonly seen: SeenRequest[] = []
  draining = false
  /** The sizes of the batches that came, and the largest that is taken. */
  readonly batches: number[] = []
  largestBatch = 1000
  #server: Server
  #port = 0

  private constructor(state: MemoryState) {
    this.state = state
    this.#server = createServer()
  }

  static async start(state = new MemoryState()): Promise<MemoryServer> {
    const server = new MemoryServer(state)
    await server.listen()
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  /** Listens (again), on the port it had before. */
  async listen(): Promise<void> {
    this.#server = createServer((request, response) => {
      void this.#handle(request, response)
    })
    await new Promise<void>((resolve) => this.#server.listen(this.#port, '127.0.0.1', resolve))
    this.#port = (this.#server.address() as AddressInfo).port
  }

  /** From now on connections are refused. */
  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const seen = { method: request.method ?? '', path: request.url ?? '', headers: request.headers }
    const opens = seen.path === '/v1/sessions'
    if (!opens) this.seen.push(seen)
    const index = this.faults.findIndex((fault) => fault.on?.(seen) ?? !opens)
    const fault = index === -1 ? undefined : this.faults.splice(index, 1)[0]
    if (fault?.type === 'cutBefore') return void request.socket.destroy()
    const body = await bodyOf(request)
    if (fault?.type === 'slow') await new Promise((resolve) => setTimeout(resolve, fault.milliseconds))
    if (fault?.type === 'held') await fault.until
    if (fault === undefined && this.#watches(seen, response)) return
    let reply: Reply
    if (fault?.type === 'foreign') {
      reply = { status: fault.status, headers: { ...fault.headers }, body: Buffer.from('<h1>proxy</h1>') }
    } else if (fault?.type === 'refuse') {
      reply = problem(fault.status, fault.code)
      if (fault.retryAfter !== undefined) reply.headers['Retry-After'] = String(fault.retryAfter)
    } else {
      reply = this.#answer(seen, body)
      if (fault?.type === 'hang') return
      if (fault?.type === 'cutAfter') return void request.socket.destroy()
      if (fault?.type === 'garbage') reply.body = Buffer.from('{"revision": "many"}')
    }
    if (this.draining) reply.headers['Trivet-Draining'] = 'true'
    response.writeHead(reply.status, { ...reply.headers, 'Content-Length': reply.body.length })
    if (fault?.type === 'cutBody') {
      response.write(reply.body.subarray(0, reply.body.length / 2), () => request.socket.destroy())
      return
    }
    response.end(request.method === 'HEAD' ? undefined : reply.body)
  }

  #answer(request: SeenRequest, body: Buffer): Reply {
    const grants = this.state.tokens.get(/^Bearer (.*)$/.exec(request.headers.authorization ?? '')?.[1] ?? '')
    if (grants === undefined) return problem(401, 'unauthenticated')
    const [path = '', search] = request.path.split('?')
    const query = new URLSearchParams(search)
    if (path === '/v1/me') {
      const principal = { type: grants === 'admin' ? 'admin' : 'component', name: 'someone' }
      const stores = grants === 'admin' ? [] : grants
      return json(200, { principal, grants: stores.map((store) => ({ store, access: 'read-write' })) })
    }
    if (path === '/v1/cluster') return json(200, this.#cluster())
    if (path.startsWith('/v1/cluster/members')) return this.#changeMembers(request.method, path, body)
    if (path === '/v1/cluster/leader') {
      const { to } = JSON.parse(body.toString()) as { to: string }
      if (!/^n[123]$/.test(to)) return problem(400, 'invalid-request', { field: 'to' })
      this.state.leader = to
      return json(200, {})
    }
    if (path === '/v1/sessions') {
      this.state.opened += 1
      const session = `session-${this.state.opened}`
      this.state.sessions.set(session, { floor: 0, replies: new Map() })
      return json(201, { session })
    }
    if (/^\/v1\/(tokens|apps|stores$)/.test(path)) return this.#administer(request, path, body)
    if (path === '/v1/batch') return this.#batch(request, body, grants)
    if (path === '/v1/transactions') {
      const asked = decoded(request, body) as Parameters<MemoryKeys['transaction']>[0]
      const write = (): Reply => packed(this.state.transaction(asked))
      return [...asked.then, ...asked.else].some(({ op }) => isWrite(op))
        ? this.#once(request, write)
        : write()
    }
    const [, name = '', rest] = /^\/v1\/stores\/([^/]+)(\/.*)?$/.exec(path) ?? []
    if (grants !== 'admin' && !grants.includes(name)) return problem(403, 'access-denied')
    const store = this.state.stores.get(name)
    if (store === undefined) return problem(404, 'no-such-store')
    if (rest === undefined && request.method === 'DELETE') return this.#administer(request, path, body)
    if (rest === undefined) return json(200, { name, keys: store.size, bytes: 0 })
    if (rest === '/keys' && request.method === 'DELETE') {
      return this.#once(request, () => plain(this.state.deleteRange(name, query.get('prefix') ?? '')))
    }
    if (rest === '/keys') return this.#list(store, query, request.headers.accept ?? '')
    const [, key = '', verb] = /^\/keys\/(.*?)(?:\/(increment|touch))?$/.exec(rest) ?? []
    const asked = { store: name, key: decodeURIComponent(verb === undefined ? rest.slice(6) : key) }
    if (request.method === 'GET' || request.method === 'HEAD')
      return keyAnswer(this.state.single({ op: 'get', ...asked }))
    const ttl = query.get('ttl')
    const operation = { ...asked, ...conditions(request), ...(ttl === null ? {} : { ttl }) }
    return this.#once(request, () => plain(this.state.single(ofRoute(request, { verb, operation, body }))))
  }

  /** Every write is to come with its number, and takes effect once. */
  #once({ headers }: SeenRequest, write: () => Reply): Reply {
    const key = headers['idempotency-key']
    if (key !== undefined) return this.#underKey(String(key), write)
    const header = String(headers['trivet-session'])
    const [, id = '', seq, acked] = /^([\w-]+); seq=(\d+); acked=(\d+)$/.exec(header) ?? []
    return this.#numbered({ header, id, seq: Number(seq), acked: Number(acked) }, write)
  }

  #numbered(
    place: { readonly header: string; readonly id: string; readonly seq: number; readonly acked: number },
    write: () => Reply,
  ): Reply {
    this.state.numbers.push(place.header)
    const session = this.state.sessions.get(place.id)
    if (session === undefined) return problem(410, 'session-expired')
    session.floor = Math.max(session.floor, place.acked)
    for (const old of session.replies.keys()) if (old <= session.floor) session.replies.delete(old)
    if (place.seq <= session.floor) return problem(400, 'invalid-request', { field: 'trivet-session' })
    if (place.seq > session.floor + 1024) return problem(429, 'overloaded')
    const known = session.replies.get(place.seq)
    if (known !== undefined) return replayed(known)
    const reply = write()
    session.replies.set(place.seq, reply)
    return reply
  }

  #batch(request: SeenRequest, body: Buffer, grants: 'admin' | readonly string[]): Reply {
    const { operations } = decoded(request, body) as { operations: readonly Asked[] }
    this.batches.push(operations.length)
    const limit = this.largestBatch
    if (operations.length > limit) return problem(413, 'request-too-large', { limit })
    const key = request.headers['idempotency-key']
    const header = String(request.headers['trivet-session'])
    const [, id = '', acked] = /^([\w-]+); acked=(\d+)$/.exec(header) ?? []
    const results = operations.map((operation, at): Result => {
      if (grants !== 'admin' && !grants.includes(operation.store)) return failed(403, 'access-denied')
      if (!isWrite(operation.op)) return this.state.single(operation)
      const write = (): Reply => packed(this.state.single(operation))
      const { seq } = operation
      const place = {
        header: `${id}; seq=${seq}; acked=${acked}`,
        id,
        seq: Number(seq),
        acked: Number(acked),
      }
      const reply = key === undefined ? this.#numbered(place, write) : this.#underKey(`${key}/${at}`, write)
      return resultOf(reply)
    })
    return packed({ status: 200, results })
  }

  #underKey(key: string, write: () => Reply): Reply {
    const known = this.state.keys.get(key)
    if (known !== undefined) return replayed(known)
    const reply = write()
    this.state.keys.set(key, reply)
    return reply
  }

  #watches(request: SeenRequest, response: ServerResponse): boolean {
    const [, store = '', search] = /^\/v1\/stores\/([^/]+)\/watch\?(.*)$/.exec(request.path) ?? []
    const secret = /^Bearer (.*)$/.exec(request.headers.authorization ?? '')?.[1] ?? ''
    const grants = this.state.tokens.get(secret)
    if (!this.state.stores.has(store) || (grants !== 'admin' && grants?.includes(store) !== true))
      return false
    serveWatch(response, { keys: this.state, store, query: new URLSearchParams(search) }, this.state.watch)
    return true
  }

  /** Takes it down, and answers what the contract says of each. */
  #administer(request: SeenRequest, path: string, body: Buffer): Reply {
    const { administered } = this.state
    if (request.method === 'GET') {
      if (path === '/v1/stores') return json(200, { stores: [{ name: 'default', maxValueBytes: 4 }] })
      if (path === '/v1/apps') return json(200, { apps: [{ id: 'jira', keys: 1, bytes: 2 }] })
      return json(200, { tokens: [{ name: 'cart', principal: { type: 'component' }, grants: [] }] })
    }
    const write = (): Reply => {
      const asked: unknown = body.length === 0 ? undefined : JSON.parse(body.toString())
      administered.push({ what: `${request.method} ${path}`, body: asked })
      if (path.endsWith('/rotate')) return json(201, { name: 'cart', secret: `trv_${'r'.repeat(43)}` })
      return json(request.method === 'POST' ? 201 : 200, asked ?? {})
    }
    return path.endsWith('/rotate') ? write() : this.#once(request, write)
  }

  #list(store: Keyspace, query: URLSearchParams, accept: string): Reply {
    const limit = Number(query.get('limit') ?? 1000)
    const bytes = (name: string): Buffer | undefined => {
      const text = query.get(name)
      return text === null ? undefined : Buffer.from(text)
    }
    const [start, end, after] = [bytes('start'), bytes('end'), bytes('cursor')]
    const sign = query.get('reverse') === 'true' ? -1 : 1
    const rows = [...store]
      .map(([key, stored]) => ({ bytes: Buffer.from(key), key, stored }))
      .filter((row) => row.key.startsWith(query.get('prefix') ?? ''))
      .filter((row) => start === undefined || row.bytes.compare(start) >= 0)
      .filter((row) => end === undefined || row.bytes.compare(end) < 0)
      .sort((a, b) => sign * a.bytes.compare(b.bytes))
      .filter((row) => after === undefined || sign * row.bytes.compare(after) > 0)
    const described = rows.map(({ key, stored: { value, ...rest } }) => ({
      key,
      size: value.length,
      ...rest,
      ...(query.get('values') === 'true' ? { value: value.toString('base64') } : {}),
    }))
    if (accept.includes('ndjson')) {
      const end = { end: true, revision: this.state.revision, count: rows.length }
      const lines = [...described, end].map((line) => `${JSON.stringify(line)}\n`)
      const body = Buffer.from(lines.join(''))
      return { status: 200, headers: { 'Content-Type': 'application/x-ndjson' }, body }
    }
    const keys = described.slice(0, limit)
    const cursor = rows.length > limit ? keys.at(-1)?.key : undefined
    return json(200, { keys, ...(cursor === undefined ? {} : { cursor }), revision: this.state.revision })
  }

  #cluster(): unknown {
    const { leader, revision, members, learners } = this.state
    const describe = (id: string): unknown => {
      const number = Number(id.slice(1))
      const { peer = `12D3KooW${id}`, http, p2p } = members.get(id) ?? {}
      const role =
        leader === id ? 'leader' : learners.has(id) ? 'learner' : id === 'n3' ? 'unknown' : 'follower'
      return {
        id,
        role,
        voter: role !== 'learner',
        http: http ?? `http://127.0.0.1:${7000 + number}`,
        p2p: p2p ?? `/ip4/127.0.0.1/tcp/${7100 + number}`,
        peer,
        ...(id === 'n3'
          ? {}
          : { version: '0.1.0', term: 4, commitIndex: 90, lastApplied: 90 - number, lag: number }),
        ...(id === 'n1' ? { digest: { index: 64, digest: 'abcdef0123456789'.repeat(2) } } : {}),
        healthy: id !== 'n3',
        alarms: [],
        self: id === this.state.self,
      }
    }
    return {
      cluster: 'dev',
      id: '00ff',
      leader,
      term: 4,
      revision,
      members: [...members.keys()].map(describe),
    }
  }

  #changeMembers(method: string, path: string, body: Buffer): Reply {
    const { members, learners } = this.state
    if (method === 'DELETE') {
      const id = path.slice(path.lastIndexOf('/') + 1)
      if (!members.delete(id)) return problem(404, 'not-found')
      return json(200, { id })
    }
    const { replaces, ...member } = JSON.parse(body.toString()) as NewMember
    if (replaces !== undefined) members.delete(replaces)
    if (members.has(member.id)) return problem(409, 'member-exists', { field: 'id' })
    members.set(member.id, member)
    learners.add(member.id)
    // Caught up by the second look.
    setTimeout(() => learners.delete(member.id), 300)
    return json(202, { id: member.id, peer: member.peer })
  }
}

function decoded({ headers }: SeenRequest, body: Buffer): unknown {
  return headers['content-type'] === 'application/msgpack' ? codec.unpack(body) : JSON.parse(body.toString())
}

function packed(result: Result): Reply {
  const { status, ...fields } = result
  if (status >= 400) return plain(result)
  return { status, headers: { 'Content-Type': 'application/msgpack' }, body: codec.pack(fields) }
}

/** A result as the answer of its own route. */
function plain(result: Result): Reply {
  const { status, ...fields } = result
  const text = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? String(value) : value)
  if ('code' in fields) return problem(status, String(fields['code']), fields)
  return {
    status,
    headers: { 'Content-Type': 'application/json' },
    body: Buffer.from(JSON.stringify(fields, text)),
  }
}

/** The answer of its own route as a result of a batch. */
function resultOf({ status, headers, body }: Reply): Result {
  const fields: unknown = headers['Content-Type']?.includes('json')
    ? JSON.parse(body.toString())
    : codec.unpack(body)
  const again = headers['Idempotency-Replayed'] === undefined ? {} : { replayed: true }
  return { ...Object(fields), status, ...again }
}

function keyAnswer(result: Result): Reply {
  if (result.status !== 200) return plain(result)
  const { value, contentType, revision, expires } = result
  const headers: Record<string, string> = { 'Content-Type': String(contentType), ETag: `"${revision}"` }
  if (expires !== undefined) headers['Trivet-Expires'] = String(expires)
  return { status: 200, headers, body: value as Buffer }
}

function conditions({ headers }: SeenRequest): Partial<Asked> {
  const revision = /^"(\d+)"$/.exec(headers['if-match'] ?? '')?.[1]
  return {
    ...(revision === undefined ? {} : { ifRevision: Number(revision) }),
    ...(headers['if-none-match'] === '*' ? { ifAbsent: true } : {}),
  }
}

function ofRoute(
  { method, headers }: SeenRequest,
  asked: { readonly verb: string | undefined; readonly operation: Omit<Asked, 'op'>; readonly body: Buffer },
): Asked {
  const { verb, operation, body } = asked
  if (verb === 'touch') return { op: verb, ...operation }
  if (verb === 'increment') {
    const { delta, ttl } = JSON.parse(body.toString()) as { delta: string; ttl?: string }
    return { op: verb, ...operation, delta: BigInt(delta), ...(ttl === undefined ? {} : { ttl }) }
  }
  if (method === 'DELETE') return { op: 'delete', ...operation }
  return {
    op: 'set',
    ...operation,
    value: body,
    contentType: headers['content-type'] ?? 'application/octet-stream',
  }
}

function replayed(reply: Reply): Reply {
  return { ...reply, headers: { ...reply.headers, 'Idempotency-Replayed': 'true' } }
}

function json(status: number, body: unknown): Reply {
  return { status, headers: { 'Content-Type': 'application/json' }, body: Buffer.from(JSON.stringify(body)) }
}

function problem(status: number, code: string, more: Readonly<Record<string, unknown>> = {}): Reply {
  const body = { type: `urn:trivet:${code}`, title: code, status, detail: `because ${code}`, code, ...more }
  const reply = json(status, body)
  reply.headers['Content-Type'] = 'application/problem+json'
  reply.headers['Trivet-Error'] = code
  return reply
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
