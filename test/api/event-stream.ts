// A stream of server-sent events as a client hears it: parsed by the rules of the standard, over a plain connection.

import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import { secrets } from './contract.ts'

export type HeardEvent = {
  readonly type: string
  readonly id: string | undefined
  readonly data: Readonly<Record<string, unknown>>
}

export class EventStream implements AsyncDisposable {
  readonly #message: IncomingMessage
  readonly events: HeardEvent[] = []
  /** All bytes, as text. */
  text = ''
  ended = false
  #wake: () => void = () => undefined

  private constructor(message: IncomingMessage) {
    this.#message = message
    let rest = ''
    message.setEncoding('utf8')
    message.on('data', (chunk: string) => {
      this.text += chunk
      rest += chunk
      for (let end = rest.indexOf('\n\n'); end !== -1; end = rest.indexOf('\n\n')) {
        this.#hear(rest.slice(0, end))
        rest = rest.slice(end + 2)
      }
      this.#wake()
    })
    message.on('error', () => this.#wake())
    message.on('close', () => {
      this.ended = true
      this.#wake()
    })
  }

  /** Resolves with the headers. Rejects for an answer that is no stream. */
  static async open(
    url: string,
    path: string,
    { token = secrets.admin, headers = {} }: { token?: string; headers?: Record<string, string> } = {},
  ): Promise<EventStream> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const request = http.get(`${url}${path}`, {
      agent: false,
      headers: { authorization: `Bearer ${token}`, ...headers },
    })
    request.once('response', resolve).on('error', reject)
    const message = await promise
    if (message.statusCode !== 200) throw new Error(`${path} was answered ${message.statusCode}`)
    return new EventStream(message)
  }

  get headers(): IncomingHttpHeaders {
    return this.#message.headers
  }

  /** The changes heard so far. */
  get changes(): readonly HeardEvent[] {
    return this.events.filter(({ type }) => ['set', 'delete', 'expire'].includes(type))
  }

  /** Resolves once the condition holds. Rejects after 5 s, saying what was heard. */
  async until(condition: (stream: this) => boolean, seconds = 5): Promise<void> {
    const deadline = performance.now() + seconds * 1000
    while (!condition(this)) {
      const left = deadline - performance.now()
      if (left <= 0) throw new Error(`waited in vain; heard: ${this.text.slice(-2000)}`)
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#wake = resolve
      const timer = setTimeout(resolve, left)
      await promise
      clearTimeout(timer)
    }
  }

  /** Resolves once everything up to now was told. */
  caughtUp(): Promise<void> {
    return this.until(({ events }) => events.some(({ type }) => type === 'progress'))
  }

  /** Ends the connection, as a network does. */
  cut(): void {
    this.#message.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut()
  }

  #hear(block: string): void {
    let type = 'message'
    let id: string | undefined
    let data: string | undefined
    for (const line of block.split('\n')) {
      const colon = line.indexOf(':')
      const value = line.slice(colon + 1).replace(/^ /, '')
      if (line.startsWith('event:')) type = value
      else if (line.startsWith('id:')) id = value
      else if (line.startsWith('data:')) data = value
    }
    if (data !== undefined) this.events.push({ type, id, data: JSON.parse(data) as HeardEvent['data'] })
  }
}
