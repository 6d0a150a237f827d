// A server that keeps the REST contract's subset in memory, counts what reaches it, and fails in the ways a test asks for.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { NewMember } from '../../src/api/protocol.ts'

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
  | { readonly type: 'garbage' }
)

export type SeenRequest = {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
}

type Stored = { readonly value: Buffer; readonly contentType: string; readonly revision: number }

/** What a session of the server keeps. */
type Session = { floor: number; readonly replies: Map<number, Reply> }

type Reply = { status: number; headers: Record<string, string>; body: Buffer }

/** What several servers share, as the nodes of a cluster do. */
export class MemoryState {
  revision = 0
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
  readonly stores = new Map<string, Map<string, Stored>>([['default', new Map()]])
  /** Writes that took effect. */
  writes = 0
  /** Sessions ever opened. */
  opened = 0
  /** By id; a test may take one away, as ten minutes would. */
  readonly sessions = new Map<string, Session>()
  /** What writes under an idempotency key came to. */
  readonly keys = new Map<string, Reply>()
  /** The headers of session that writes came with. */
  readonly numbers: string[] = []
  /** Secrets, and which stores they open; an admin opens all. */
  readonly tokens = new Map<string, 'admin' | readonly string[]>([['secret', 'admin']])
}

/** One endpoint. Its faults are taken in order, each once. */
export class MemoryServer {
  readonly state: MemoryState
  readonly faults: Fault[] = []
  readonly seen: SeenRequest[] = []
  draining = false
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
    const [, name = '', rest] = /^\/v1\/stores\/([^/]+)(\/.*)?$/.exec(path) ?? []
    if (grants !== 'admin' && !grants.includes(name)) return problem(403, 'access-denied')
    const store = this.state.stores.get(name)
    if (store === undefined) return problem(404, 'no-such-store')
    if (rest === undefined) return json(200, { name, keys: store.size, bytes: 0 })
    if (rest === '/keys') return this.#list(store, query)
    const key = decodeURIComponent(rest.slice('/keys/'.length))
    if (request.method === 'GET' || request.method === 'HEAD') return this.#key(store, key, request, body)
    return this.#once(request, () => this.#key(store, key, request, body))
  }

  /** Every write is to come with its number, and takes effect once. */
  #once({ headers }: SeenRequest, write: () => Reply): Reply {
    const key = headers['idempotency-key']
    if (key !== undefined) return this.#underKey(String(key), write)
    const header = String(headers['trivet-session'])
    this.state.numbers.push(header)
    const [, id = '', seq, acked] = /^([\w-]+); seq=(\d+); acked=(\d+)$/.exec(header) ?? []
    const session = this.state.sessions.get(id)
    if (session === undefined) return problem(410, 'session-expired')
    session.floor = Math.max(session.floor, Number(acked))
    for (const old of session.replies.keys()) if (old <= session.floor) session.replies.delete(old)
    const number = Number(seq)
    if (number <= session.floor) return problem(400, 'invalid-request', { field: 'trivet-session' })
    if (number > session.floor + 1024) return problem(429, 'overloaded')
    const known = session.replies.get(number)
    if (known !== undefined) return replayed(known)
    const reply = write()
    session.replies.set(number, reply)
    return reply
  }

  #underKey(key: string, write: () => Reply): Reply {
    const known = this.state.keys.get(key)
    if (known !== undefined) return replayed(known)
    const reply = write()
    this.state.keys.set(key, reply)
    return reply
  }

  #key(store: Map<string, Stored>, key: string, { method, headers }: SeenRequest, body: Buffer): Reply {
    const old = store.get(key)
    if (method === 'GET' || method === 'HEAD') {
      if (old === undefined) return problem(404, 'no-such-key')
      return {
        status: 200,
        headers: { 'Content-Type': old.contentType, ETag: `"${old.revision}"` },
        body: old.value,
      }
    }
    const match = headers['if-match']
    const fails =
      match !== undefined && match !== `"${old?.revision}"` && !(match === '*' && old !== undefined)
    if (fails || (headers['if-none-match'] === '*' && old !== undefined)) {
      return problem(412, 'condition-failed', { revision: old?.revision ?? 0 })
    }
    this.state.writes += 1
    this.state.revision += 1
    const { revision } = this.state
    if (method === 'DELETE') return json(200, { revision, deleted: store.delete(key) })
    const contentType = headers['content-type'] ?? 'application/octet-stream'
    const changed = old === undefined || !old.value.equals(body) || old.contentType !== contentType
    store.set(key, { value: body, contentType, revision })
    const reply = json(old === undefined ? 201 : 200, { revision, created: old === undefined, changed })
    reply.headers['ETag'] = `"${revision}"`
    return reply
  }

  #list(store: Map<string, Stored>, query: URLSearchParams): Reply {
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
    const keys = rows.slice(0, limit).map(({ key, stored }) => ({
      key,
      revision: stored.revision,
      size: stored.value.length,
      contentType: stored.contentType,
    }))
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
