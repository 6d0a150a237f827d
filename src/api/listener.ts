// The listening socket: plain or TLS, its limits and clocks, and requests that end before any route.

import { readFile } from 'node:fs/promises'
import type { IncomingMessage, RequestListener, Server, ServerOptions, ServerResponse } from 'node:http'
import https from 'node:https'
import { createSecureContext } from 'node:tls'
import { TrivetError } from '../errors.ts'
import type { Answers } from './answers.ts'
import { noteHesitant, startClock } from './body.ts'
import { Connections } from './connections.ts'
import { http } from './node-http.ts'

/** The request line and all headers together: room for a key of 4,096 bytes, each percent-encoded. In bytes. */
export const maxHeaderBytes = 64 * 1024

/** Paths of PEM files. */
export type TlsFiles = { readonly cert: string; readonly key: string }

/** What those files hold. */
export type TlsPair = { readonly cert: Buffer; readonly key: Buffer }

/** How long a client may take, in milliseconds. */
export type ListenerTimes = {
  /** To send a request's headers. */
  readonly headers: number
  /** To send the body of a request, but for one that is taken in as it comes, such as a restore. */
  readonly request: number
  /** To come with another request on the same connection. */
  readonly idle: number
  /** Without taking anything of an answer, or sending anything of a request, while one is open. */
  readonly stall: number
}

const checkEveryMs = 500

export type Listener = {
  readonly server: Server
  readonly connections: Connections
}

/** Makes the server that hands whole request heads to `routes`. Nothing listens yet. */
export function createListener(options: {
  readonly answers: Answers
  readonly routes: RequestListener
  readonly tls: TlsPair | undefined
  readonly times: ListenerTimes
}): Listener {
  const { answers, routes, tls, times } = options
  const connections = new Connections({
    maxHeaderBytes,
    refusal: (error) => answers.refusalText(error),
  })
  const onRequest = (message: IncomingMessage, response: ServerResponse): void => {
    connections.began(message, response)
    startClock(message, times.request, () => connections.late(message.socket))
    connections.inTurn(message, () => begin(message, response))
  }
  const begin = (message: IncomingMessage, response: ServerResponse): void => {
    if (message.headers.host === undefined && message.httpVersion === '1.1') {
      const error = new TrivetError('invalid-request', 'A request needs a Host header', { field: 'host' })
      answers.refuse(error, message, response)
      return
    }
    routes(message, response)
  }
  const settings: ServerOptions = {
    maxHeaderSize: maxHeaderBytes,
    headersTimeout: times.headers,
    // Node's would end long uploads too: each body has a clock of its own.
    requestTimeout: 0,
    keepAliveTimeout: times.idle,
    connectionsCheckingInterval: Math.min(checkEveryMs, times.headers),
    // A request without a body is over at once and emits nothing: who reads bodies looks at its headers first (`body.ts`). It was a
    // tenth of a GET.
    optimizeEmptyRequests: true,
    // Its own refusal would be an empty one; ours is above.
    requireHostHeader: false,
  }
  const server =
    tls === undefined
      ? http.createServer(settings, onRequest)
      : https.createServer({ ...settings, ...tls, minVersion: 'TLSv1.2' }, onRequest)
  server.setTimeout(times.stall)
  // Node drops headers beyond a number in silence, and a condition with them; their bytes are bounded already.
  server.maxHeadersCount = 0
  server.on(tls === undefined ? 'connection' : 'secureConnection', (socket) => connections.opened(socket))
  server.on('checkContinue', (message, response) => {
    noteHesitant(message, response)
    onRequest(message, response)
  })
  server.on('connect', (_message, socket) => {
    const error = new TrivetError('invalid-request', 'This server is no proxy: it serves no CONNECT')
    socket.on('error', () => socket.destroy())
    socket.end(answers.refusalText(error))
  })
  server.on('checkExpectation', (message, response) => {
    connections.began(message, response)
    const error = new TrivetError('invalid-request', 'The only expectation served is 100-continue', {
      field: 'expect',
    })
    answers.refuse(error, message, response)
  })
  return { server, connections }
}

/** Reads certificate and key. Rejects with one sentence that names the files when they are no use. */
export async function readTls(files: TlsFiles): Promise<TlsPair> {
  const [cert, key] = await Promise.all([readNamed(files.cert), readNamed(files.key)])
  try {
    createSecureContext({ cert, key })
  } catch (cause) {
    throw new Error(`The TLS files ${files.cert} and ${files.key} do not fit together: ${reason(cause)}`, {
      cause,
    })
  }
  return { cert, key }
}

async function readNamed(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (cause) {
    throw new Error(`The TLS file ${path} cannot be read: ${reason(cause)}`, { cause })
  }
}

/** What an operator reads when the address cannot be listened on. */
export function listenFailure(
  address: { readonly host: string; readonly port: number },
  cause: unknown,
): Error {
  const where = `${address.host}:${address.port}`
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  const sentence =
    code === 'EADDRINUSE'
      ? `The HTTP address ${where} is in use: another process listens there`
      : code === 'EACCES'
        ? `The HTTP address ${where} may not be listened on by this user`
        : code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND'
          ? `The HTTP address ${where} is none of this machine`
          : `The HTTP address ${where} cannot be listened on: ${reason(cause)}`
  return new Error(sentence, { cause })
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
