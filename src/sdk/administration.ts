// What admins do to a cluster through a client: its stores, tokens, apps and members.

import type { NewMember, StoreDescription, TokenDescription } from '../api/protocol.ts'
import { formatDuration } from '../duration.ts'
import {
  boolean,
  type Fields,
  fields,
  list,
  number,
  optional,
  read,
  readGrant,
  readPrincipal,
  string,
} from './answers.ts'
import { type Duration, toMilliseconds } from './duration.ts'
import { ttlText } from './operations.ts'
import { queryString, storePath } from './paths.ts'
import type { ApiRequest } from './requester.ts'
import { expiryOf } from './results.ts'
import type { CallOptions, Ttl } from './types.ts'
import type { Answer } from './verdict.ts'

export type NewStore = {
  readonly name: string
  /** How long its keys live unless a write says otherwise. */
  readonly ttl?: Duration | undefined
  readonly maxValueBytes?: number | undefined
}

/** A store that a token may open: by its name alone for reading and writing all of it. */
export type NewGrant =
  | string
  | {
      readonly store: string
      readonly access?: 'read' | 'read-write' | undefined
      readonly prefix?: string | undefined
    }

/** Whom a new token speaks for. */
export type NewPrincipal =
  | { readonly admin: true }
  | { readonly monitor: true }
  /** `mint`: it may mint tokens within its own grants and lifetime. */
  | { readonly stores: readonly NewGrant[]; readonly mint?: boolean | undefined }
  | { readonly app: string; readonly user: string }
  | { readonly app: string; readonly bot: string }

export type NewToken = NewPrincipal & {
  readonly name: string
  readonly ttl?: Ttl | undefined
  /** One that exists already, of 20 characters or more; a random one is drawn here unless given. */
  readonly secret?: string | undefined
}

/** The secret is shown here and never again. */
export type MintedToken = { readonly name: string; readonly secret: string }

/** A new secret; `expires` tells until when the one before holds, where it does. */
export type RotatedToken = MintedToken & { readonly expires?: Date }

export type AppDescription = { readonly id: string; readonly keys: number; readonly bytes: number }

/** `force`: also when the voters left are not known to make a quorum. */
export type ChangeMemberOptions = CallOptions & { readonly force?: boolean | undefined }

type Send = (request: ApiRequest) => Promise<Answer>

export class Administration {
  readonly #send: Send

  constructor(send: Send) {
    this.#send = send
  }

  async stores({ signal }: CallOptions): Promise<readonly StoreDescription[]> {
    const answer = await this.#send({ method: 'GET', path: '/v1/stores', effect: 'none', signal })
    return read(answer, false, (body) => list(body, 'stores').map(readStore))
  }

  async createStore({ name, ttl, maxValueBytes }: NewStore, { signal }: CallOptions): Promise<void> {
    const duration = ttl === undefined ? undefined : formatDuration(toMilliseconds(ttl, 'ttl'))
    const body = { name, ttl: duration, maxValueBytes }
    await this.#send({ ...posted('/v1/stores', body), effect: 'once', signal })
  }

  async dropStore(name: string, { signal }: CallOptions): Promise<void> {
    await this.#send({ method: 'DELETE', path: storePath(name), effect: 'once', signal })
  }

  async tokens({ signal }: CallOptions): Promise<readonly TokenDescription[]> {
    const answer = await this.#send({ method: 'GET', path: '/v1/tokens', effect: 'none', signal })
    return read(answer, false, (body) => list(body, 'tokens').map(readToken))
  }

  async mintToken(token: NewToken, { signal }: CallOptions): Promise<MintedToken> {
    // Drawn here, so that a repeat after a lost answer still knows it: the server shows a secret once.
    const secret = token.secret ?? drawSecret()
    const ttl = token.ttl === undefined || token.ttl === 'none' ? undefined : ttlText(token.ttl)
    await this.#send({ ...posted('/v1/tokens', { ...token, ttl, secret }), effect: 'once', signal })
    return { name: token.name, secret }
  }

  async revokeToken(name: string, { signal }: CallOptions): Promise<void> {
    const path = `/v1/tokens/${encodeURIComponent(name)}`
    await this.#send({ method: 'DELETE', path, effect: 'once', signal })
  }

  async rotateToken(
    name: string,
    { overlap, signal }: CallOptions & { readonly overlap?: Duration | undefined },
  ): Promise<RotatedToken> {
    const path = `/v1/tokens/${encodeURIComponent(name)}/rotate`
    const body = overlap === undefined ? {} : { overlap: ttlText(overlap) }
    // Never repeated where it may have happened: the secret is in the first answer alone.
    const answer = await this.#send({ ...posted(path, body), effect: 'unguarded', signal })
    return read(answer, true, (row) => ({
      name: string(row, 'name'),
      secret: string(row, 'secret'),
      ...expiryOf(row),
    }))
  }

  async apps({ signal }: CallOptions): Promise<readonly AppDescription[]> {
    const answer = await this.#send({ method: 'GET', path: '/v1/apps', effect: 'none', signal })
    return read(answer, false, (body) =>
      list(body, 'apps').map((row) => ({
        id: string(row, 'id'),
        keys: number(row, 'keys'),
        bytes: number(row, 'bytes'),
      })),
    )
  }

  async removeApp(id: string, { signal }: CallOptions): Promise<void> {
    const path = `/v1/apps/${encodeURIComponent(id)}`
    await this.#send({ method: 'DELETE', path, effect: 'once', signal })
  }

  async transferLeadership(to: string, { signal }: CallOptions): Promise<void> {
    await this.#send({ ...posted('/v1/cluster/leader', { to }), effect: 'unguarded', signal })
  }

  async addMember(member: NewMember, { force, signal }: ChangeMemberOptions): Promise<void> {
    const path = `/v1/cluster/members${forced(force)}`
    await this.#send({ ...posted(path, member), effect: 'unguarded', signal })
  }

  async removeMember(id: string, { force, signal }: ChangeMemberOptions): Promise<void> {
    const path = `/v1/cluster/members/${encodeURIComponent(id)}${forced(force)}`
    await this.#send({ method: 'DELETE', path, effect: 'unguarded', signal })
  }
}

function posted(
  path: string,
  body: unknown,
): {
  readonly method: 'POST'
  readonly path: string
  readonly headers: Record<string, string>
  readonly body: string
} {
  return { method: 'POST', path, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }
}

function forced(force: boolean | undefined): string {
  return queryString({ force: force === true ? 'true' : undefined })
}

/** 256 random bits, as the server draws them itself. */
function drawSecret(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(32))
  const base64 = btoa(String.fromCharCode(...bytes))
  return `trv_${base64.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')}`
}

function readStore(row: Fields): StoreDescription {
  return {
    name: string(row, 'name'),
    ...optional(row, 'ttl', string),
    maxValueBytes: number(row, 'maxValueBytes'),
    ...optional(row, 'keys', number),
    ...optional(row, 'bytes', number),
  }
}

function readToken(row: Fields): TokenDescription {
  return {
    name: string(row, 'name'),
    principal: readPrincipal(fields(row['principal'])),
    grants: list(row, 'grants').map(readGrant),
    ...optional(row, 'expires', string),
    ...optional(row, 'mintedBy', string),
    ...optional(row, 'replaced', boolean),
  }
}
