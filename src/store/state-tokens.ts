// The tokens as memory holds them, by hash and by name, and how they come and go.

import assert from 'node:assert/strict'
import type { Row } from './overlay.ts'
import { encodeToken, tokenKey } from './state-rows.ts'
import type { Token } from './types.ts'

/** Secrets at a time, replaced ones included. The same on every member for ever. */
export const mostTokens = 100_000

export class TokenTable {
  readonly #byHash = new Map<string, Token>()
  /** The present secret's token first, then those it has replaced. */
  readonly #byName = new Map<string, readonly Token[]>()
  readonly #changed = new Map<string, Row>()

  constructor(tokens: readonly Token[]) {
    for (const token of tokens) this.#link(token)
  }

  /** How many secrets there are. */
  get size(): number {
    return this.#byHash.size
  }

  get(hash: string): Token | undefined {
    return this.#byHash.get(hash)
  }

  /** The token whose secret is the present one of this name. */
  named(name: string): Token | undefined {
    return this.#byName.get(name)?.find(({ replaced }) => replaced !== true)
  }

  hasName(name: string): boolean {
    return this.#byName.has(name)
  }

  /** By name; after a token come the secrets before it that still stand. */
  list(): readonly Token[] {
    const names = [...this.#byName].map(([name, tokens]) => ({ bytes: Buffer.from(name), tokens }))
    return names
      .sort((left, right) => Buffer.compare(left.bytes, right.bytes))
      .flatMap(({ tokens }) => tokens)
  }

  /** Whether this token, or the one that minted it, and so on, was minted by the one of this name. */
  descends(token: Token, name: string): boolean {
    const seen = new Set<string>()
    let above = token.mintedBy
    while (above !== undefined && !seen.has(above)) {
      if (above === name) return true
      seen.add(above)
      above = this.named(above)?.mintedBy
    }
    return false
  }

  /** Whether nobody could administer the cluster without this token, now or once others have expired. */
  isLastAdmin(token: Token): boolean {
    if (token.principal.type !== 'admin') return false
    let others = 0
    let lasting = 0
    for (const other of this.#byHash.values()) {
      if (other.principal.type !== 'admin' || other.name === token.name || other.replaced === true) continue
      others += 1
      if (other.expires === undefined) lasting += 1
    }
    return others === 0 || (token.expires === undefined && lasting === 0)
  }

  /** What expires at this moment or before. */
  due(time: number): readonly (Token & { readonly expires: number })[] {
    const due: (Token & { readonly expires: number })[] = []
    for (const token of this.#byHash.values()) {
      const { expires } = token
      if (expires !== undefined && expires <= time) due.push({ ...token, expires })
    }
    return due
  }

  add(token: Token): void {
    this.#link(token)
    this.#write(token)
  }

  /** The name's secret is another from now on; the one before stands until `until`, or goes at once without it. */
  rotate(token: Token, hash: string, until: number | undefined): void {
    this.remove(token)
    if (until !== undefined) this.add({ ...token, expires: until, replaced: true })
    this.add({ ...token, hash })
  }

  /** One secret goes. */
  remove(token: Token): void {
    const { name, hash } = token
    assert(this.#byHash.delete(hash), 'Only a token that is there is removed')
    const rest = (this.#byName.get(name) ?? []).filter((other) => other.hash !== hash)
    if (rest.length === 0) this.#byName.delete(name)
    else this.#byName.set(name, rest)
    this.#changed.set(hash, { key: tokenKey(hash), value: undefined })
  }

  /** All secrets of this name go, and with them all tokens that it minted, and those that these minted. */
  revoke(name: string): void {
    const minted = new Map<string, string[]>()
    for (const token of this.#byHash.values()) {
      if (token.mintedBy === undefined || token.replaced === true) continue
      minted.set(token.mintedBy, [...(minted.get(token.mintedBy) ?? []), token.name])
    }
    const names = [name]
    for (let next = names.pop(); next !== undefined; next = names.pop()) {
      for (const token of this.#byName.get(next) ?? []) this.remove(token)
      names.push(...(minted.get(next) ?? []))
      minted.delete(next)
    }
  }

  /** All tokens of an app go. */
  removeApp(app: string): void {
    const all = [...this.#byHash.values()]
    for (const token of all) {
      if (token.principal.type === 'app' && token.principal.app === app) this.remove(token)
    }
  }

  /** Every row is to be written, as for a state that has just been founded. */
  markAll(): void {
    for (const token of this.#byHash.values()) this.#write(token)
  }

  /** The rows that changed since it was last asked, for one batch. */
  takeRows(): readonly Row[] {
    const rows = [...this.#changed.values()]
    this.#changed.clear()
    return rows
  }

  #link(token: Token): void {
    this.#byHash.set(token.hash, token)
    const others = this.#byName.get(token.name) ?? []
    const all = [token, ...others].sort((left, right) => rank(left) - rank(right))
    this.#byName.set(token.name, all)
  }

  #write(token: Token): void {
    this.#changed.set(token.hash, encodeToken(token))
  }
}

/** The present secret's token first, then those that stand longest. */
function rank({ replaced, expires }: Token): number {
  return replaced === true ? -(expires ?? 0) : Number.NEGATIVE_INFINITY
}
