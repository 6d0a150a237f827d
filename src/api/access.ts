// Who a request speaks for: from the secret it carries to a token of the state as it is here, never waiting.

import { hash, randomBytes, timingSafeEqual } from 'node:crypto'
import { TrivetError } from '../errors.ts'
import type { StateReader, Token } from '../store/types.ts'

/** How many secrets' hashes are kept, so that a client's every request need not be hashed anew. */
const maxKnown = 1024

type Known = {
  readonly hash: string
  /** The token last found for it, already compared. */
  token: Token
}

/** Finds tokens by the secrets that requests carry. */
export class Tokens {
  readonly #state: StateReader
  /** By the whole header, oldest first. Only of tokens that existed, so that guessing evicts nobody. */
  readonly #known = new Map<string, Known>()

  constructor(state: StateReader) {
    this.#state = state
  }

  /** The hash of the secret in an Authorization header. Throws `unauthenticated` when there is none. */
  hashOf(authorization: string | undefined): string {
    const known = authorization === undefined ? undefined : this.#known.get(authorization)
    if (known !== undefined) return known.hash
    const secret = /^bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
    if (secret === undefined) {
      throw new TrivetError('unauthenticated', 'The request needs a header "Authorization: Bearer <token>"')
    }
    return hashSecret(secret)
  }

  /** The token of this hash in the state as it is now here; undefined when it is not known, or no more. */
  find(authorization: string, secretHash: string): Token | undefined {
    const token = this.#state.token(secretHash)
    const known = this.#known.get(authorization)
    if (token === undefined) {
      if (known !== undefined) this.#known.delete(authorization)
      return undefined
    }
    if (known?.token === token) return token
    if (!equalHashes(secretHash, token.hash)) return undefined
    if (known !== undefined) {
      known.token = token
      return token
    }
    if (this.#known.size >= maxKnown) {
      const [oldest] = this.#known.keys()
      if (oldest !== undefined) this.#known.delete(oldest)
    }
    this.#known.set(authorization, { hash: secretHash, token })
    return token
  }
}

/** What a token is kept by: its secret is never stored. */
export function hashSecret(secret: string): string {
  return hash('sha256', secret, 'base64url')
}

/** A secret that nobody guesses: 256 random bits. */
export function newSecret(): string {
  return `trv_${randomBytes(32).toString('base64url')}`
}

/** In constant time: the state may find tokens by means that tell something of what lies beside them. */
function equalHashes(one: string, other: string): boolean {
  const a = Buffer.from(one, 'latin1')
  const b = Buffer.from(other, 'latin1')
  return a.length === b.length && timingSafeEqual(a, b)
}
