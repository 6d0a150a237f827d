// Asks a server exactly what a test says: no path is rewritten, no header added, raw bytes where they are wanted.

import http, { type IncomingHttpHeaders } from 'node:http'
import net from 'node:net'
import type { Logger } from '../../src/api/server.ts'

export type Answered = {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  readonly text: string
  readonly json: Readonly<Record<string, unknown>>
}

export type Asked = {
  readonly token?: string | undefined
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array | undefined
}

/** One request over a connection of the agent's. Fails a test that gets an answer without the headers every answer has. */
export async function ask(url: string, method: string, path: string, asked: Asked = {}): Promise<Answered> {
  const { promise, resolve, reject } = Promise.withResolvers<Answered>()
  const { hostname, port } = new URL(url)
  const headers = {
    ...(asked.token === undefined ? {} : { authorization: `Bearer ${asked.token}` }),
    // Node sends a body with DELETE without saying so.
    ...(asked.body === undefined ? {} : { 'content-length': String(Buffer.byteLength(asked.body)) }),
    ...asked.headers,
  }
  const request = http.request({ hostname, port, method, path, headers }, (response) => {
    const chunks: Buffer[] = []
    response.on('data', (chunk: Buffer) => chunks.push(chunk))
    response.on('error', reject)
    response.on('end', () =>
      resolve(answered(response.statusCode ?? 0, response.headers, Buffer.concat(chunks))),
    )
  })
  request.on('error', reject)
  request.end(asked.body)
  const answer = await promise
  for (const name of ['trivet-node', 'trivet-request', 'trivet-revision', 'cache-control']) {
    if (answer.headers[name] === undefined) throw new Error(`${method} ${path} was answered without ${name}`)
  }
  if (answer.status >= 400 && answer.headers['trivet-error'] === undefined) {
    throw new Error(`${method} ${path} was answered ${answer.status} without trivet-error`)
  }
  return answer
}

function answered(status: number, headers: IncomingHttpHeaders, body: Buffer): Answered {
  const text = body.toString()
  return {
    status,
    headers,
    body,
    text,
    get json() {
      const parsed: unknown = JSON.parse(text)
      if (typeof parsed !== 'object' || parsed === null) throw new Error(`not an object: ${text}`)
      return { ...parsed }
    },
  }
}

/** A socket that says what it is told to, and keeps what it hears. */
export class RawClient {
  readonly socket: net.Socket
  /** Everything heard so far. */
  heard = ''
  closed = false
  #wake: () => void = () => undefined

  private constructor(socket: net.Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.heard += chunk.toString('latin1')
      this.#wake()
    })
    socket.on('end', () => this.#wake())
    socket.on('error', () => this.#wake())
    socket.on('close', () => {
      this.closed = true
      this.#wake()
    })
  }

  static async connect(port: number): Promise<RawClient> {
    const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    const client = new RawClient(socket)
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    return client
  }

  say(text: string | Uint8Array): void {
    this.socket.write(text)
  }

  /** Resolves once the condition holds. Rejects after 5 s, saying what was heard. */
  async until(condition: (client: this) => boolean): Promise<void> {
    const deadline = performance.now() + 5000
    while (!condition(this)) {
      const left = deadline - performance.now()
      if (left <= 0) throw new Error(`waited in vain; heard: ${JSON.stringify(this.heard)}`)
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#wake = resolve
      const timer = setTimeout(resolve, left)
      await promise
      clearTimeout(timer)
    }
  }

  /** The answers heard, cut by their Content-Length. */
  get answers(): readonly Answered[] {
    const list: Answered[] = []
    let rest = this.heard
    for (;;) {
      const end = rest.indexOf('\r\n\r\n')
      if (end === -1) return list
      const [statusLine = '', ...lines] = rest.slice(0, end).split('\r\n')
      const headers = Object.fromEntries(
        lines.map((line) => {
          const colon = line.indexOf(':')
          return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
        }),
      )
      const length = Number(headers['content-length'] ?? 0)
      if (rest.length < end + 4 + length) return list
      list.push(
        answered(
          Number(statusLine.split(' ')[1]),
          headers,
          Buffer.from(rest.slice(end + 4, end + 4 + length), 'latin1'),
        ),
      )
      rest = rest.slice(end + 4 + length)
    }
  }

  close(): void {
    this.socket.destroy()
  }
}

export type Logged = { readonly level: string; readonly fields: object; readonly message: string }

/** A logger that keeps what it is told. */
export function listeningLogger(level: 'debug' | 'info' = 'info'): Logger & { readonly lines: Logged[] } {
  const lines: Logged[] = []
  const isLevelEnabled = (asked?: string) => asked !== 'debug' || level === 'debug'
  const at = (level: string) => (fields: object, message: string) => {
    lines.push({ level, fields, message })
  }
  return { lines, debug: at('debug'), error: at('error'), isLevelEnabled }
}
