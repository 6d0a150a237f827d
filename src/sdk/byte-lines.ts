// The lines of a body as they arrive, whatever the pieces they come in; and the events that lines of server-sent events make.

import { TrivetError } from '../errors.ts'

export type ByteStream = ReadableStream<Uint8Array<ArrayBuffer>>

export type StreamWait = {
  /** Between two pieces; whoever is silent for longer is taken for gone. In milliseconds. */
  readonly silence: number
  readonly signal?: AbortSignal | undefined
}

/**
 * Yields the lines of UTF-8 without their ends; what is after the last end is dropped. Rejects as the stream does, with the
 * signal's reason, or with `deadline-exceeded` after a silence. Leaving the loop ends the stream.
 */
export async function* linesOf(
  stream: ByteStream,
  wait: StreamWait,
): AsyncGenerator<string, void, undefined> {
  const reader = stream.getReader()
  const decoder = new TextDecoder()
  // Kept in pieces: a line of many would be copied once for each of them.
  let begun: string[] = []
  try {
    for (;;) {
      const { value, done } = await withinWait(reader, wait)
      if (done) return
      const parts = decoder.decode(value, { stream: true }).split('\n')
      const last = parts.pop() ?? ''
      for (const part of parts) {
        const line = begun.length === 0 ? part : begun.join('') + part
        begun = []
        yield line.endsWith('\r') ? line.slice(0, -1) : line
      }
      if (last !== '') begun.push(last)
    }
  } finally {
    // It may have failed already: whoever reads it has been told, and nobody waits for the end.
    reader.cancel().catch(() => {})
  }
}

export type ServerSentEvent = {
  /** `message` unless the server named it. */
  readonly event: string
  readonly data: string
  /** Undefined where this event has none of its own. */
  readonly id: string | undefined
}

/** Yields the events of a body of type `text/event-stream`. Comments and `retry` are nothing to us. */
export async function* eventsOf(
  stream: ByteStream,
  wait: StreamWait,
): AsyncGenerator<ServerSentEvent, void, undefined> {
  let event = ''
  let id: string | undefined
  let data: string[] = []
  for await (const line of linesOf(stream, wait)) {
    if (line === '') {
      if (event !== '' || data.length > 0)
        yield { event: event === '' ? 'message' : event, data: data.join('\n'), id }
      event = ''
      id = undefined
      data = []
      continue
    }
    const colon = line.indexOf(':')
    const name = colon === -1 ? line : line.slice(0, colon)
    const text = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (name === 'event') event = text
    else if (name === 'data') data.push(text)
    else if (name === 'id') id = text
  }
}

type Piece = Awaited<ReturnType<ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>['read']>>

type Reader = ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>

function withinWait(reader: Reader, { silence, signal }: StreamWait): Promise<Piece> {
  signal?.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers<Piece>()
  const onAbort = (): void => reject(signal?.reason)
  const timer = setTimeout(
    () =>
      reject(
        new TrivetError('deadline-exceeded', `Nothing came for ${silence} ms: the answer has broken off`),
      ),
    silence,
  )
  signal?.addEventListener('abort', onAbort, { once: true })
  reader.read().then(resolve, reject)
  return promise.finally(() => {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  })
}
