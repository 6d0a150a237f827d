// Questions outside of the log's life, one to a stream: the asker writes one message, the answerer one, and both end it.

import { FrameReader, frameMessage } from './framing.ts'
import type { ByteStream, ByteStreamEvents } from './lanes.ts'
import { type PeerConnection, raceSignal } from './peer-link.ts'
import type { Answer, Question } from './transport.ts'
import { decodeAnswer, decodeQuestion, encodeAnswer, encodeQuestion } from './wire.ts'

/** A founding with as many stores and tokens as a configuration file may hold stays below this. */
const maxMessageBytes = 16 * 1_024 * 1_024

/** Times in milliseconds. */
const questionTimeout = 5_000

/** Rejects when no answer comes: the stream ends, brings something else, or the signal aborts. */
export async function askQuestion(
  connection: PeerConnection,
  question: Question,
  options: { readonly signal: AbortSignal; readonly heard: () => void },
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  promise.catch(() => undefined)
  const events = readOne(
    {
      message: (bytes) => resolve(decodeAnswer(bytes)),
      failed: reject,
    },
    options.heard,
  )
  const stream = await connection.openStream('ask', events, options.signal)
  try {
    stream.write(frameMessage(encodeQuestion(question)))
    const answer = await raceSignal(promise, options.signal)
    stream.end()
    return answer
  } catch (error) {
    stream.reset(asError(error))
    throw error
  }
}

/** Serves one stream that a peer opened to ask. */
export function answerQuestion(
  attach: (events: ByteStreamEvents) => ByteStream,
  ports: {
    readonly heard: () => void
    readonly question: (question: Question) => Promise<Answer>
    readonly broken: (error: Error) => void
  },
): void {
  let isAsked = false
  const fail = (error: Error) => {
    clearTimeout(deadline)
    if (isAsked) return
    isAsked = true
    stream.reset(error)
    ports.broken(error)
  }
  const deadline = setTimeout(() => fail(new Error('no question came')), questionTimeout)
  const message = (bytes: Buffer) => {
    const question = decodeQuestion(bytes)
    clearTimeout(deadline)
    isAsked = true
    ports.question(question).then(
      (answer) => {
        stream.write(frameMessage(encodeAnswer(answer)))
        stream.end()
      },
      // The asker sees its stream end without an answer, and asks again when it wants to.
      (error: unknown) => stream.reset(asError(error)),
    )
  }
  const stream = attach(readOne({ message, failed: fail }, ports.heard))
}

/** Reads a stream that carries one message. What comes after it, or what is none, makes it fail. */
function readOne(
  sink: { readonly message: (bytes: Buffer) => void; readonly failed: (error: Error) => void },
  heard: () => void,
): ByteStreamEvents {
  const reader = new FrameReader({ maxMessageBytes })
  let isOver = false
  let isRead = false
  return {
    bytes: (piece) => {
      heard()
      if (isOver) return
      try {
        reader.push(piece, {
          message: (bytes) => {
            if (isRead) throw new Error('the peer sent a second message')
            isRead = true
            sink.message(bytes)
          },
        })
      } catch (error) {
        isOver = true
        sink.failed(asError(error))
      }
    },
    drained: () => undefined,
    closed: () => {
      isOver = true
      sink.failed(new Error('the peer ended the stream without an answer'))
    },
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
