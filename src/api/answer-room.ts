// How much the values of answers being made may have in memory: one answer, and all together.

import type { ServerResponse } from 'node:http'
import { TrivetError } from '../errors.ts'
import type { QueueLevel } from '../node/surface.ts'
import { resultTooLarge } from './decided.ts'
import { operationLimits } from './protocol.ts'

/** Two of the largest answers there are. In bytes. */
const defaultBound = 2 * operationLimits.answerBytes

/** What all answers being made hold. */
export class AnswerRoom {
  readonly #bound: number
  #held = 0

  constructor(bound = defaultBound) {
    this.#bound = bound
  }

  /** The bytes held now. */
  get held(): number {
    return this.#held
  }

  /** The same, for whoever watches. */
  get level(): QueueLevel {
    return { queue: 'answers', unit: 'bytes', size: this.#held, bound: this.#bound }
  }

  /** The share of one answer: given back when its response has closed, sent or not. */
  shareFor(response: ServerResponse): AnswerShare {
    const share = new AnswerShare((bytes) => this.#take(bytes))
    response.once('close', () => {
      this.#held -= share.end()
    })
    return share
  }

  #take(bytes: number): void {
    if (this.#held + bytes > this.#bound) {
      throw new TrivetError(
        'overloaded',
        `The values of answers being made together exceed ${this.#bound} bytes`,
        { field: 'answers being made', limit: this.#bound, actual: this.#held + bytes },
      )
    }
    this.#held += bytes
  }
}

/** What one answer holds. */
export class AnswerShare {
  readonly #takeOfAll: (bytes: number) => void
  #bytes = 0
  #ended = false

  constructor(takeOfAll: (bytes: number) => void) {
    this.#takeOfAll = takeOfAll
  }

  /** Says what is to be given back. What is still made after that, for nobody, is not counted. */
  end(): number {
    this.#ended = true
    return this.#bytes
  }

  /** Throws `result-too-large` when this answer has had its share, `overloaded` when all together have. */
  take(bytes: number): void {
    if (this.#ended) return
    if (this.#bytes + bytes > operationLimits.answerBytes) throw resultTooLarge()
    this.#takeOfAll(bytes)
    this.#bytes += bytes
  }
}
