// HTTP's conditions on revisions: entity tags out and in, and what of them a route can honour.

import type { IncomingHttpHeaders } from 'node:http'
import { TrivetError } from '../errors.ts'
import type { Condition } from '../store/types.ts'

/** The conditional headers HTTP has. A route honours some and refuses the others: none is ever ignored. */
const conditionalHeaders = [
  'if-match',
  'if-none-match',
  'if-modified-since',
  'if-unmodified-since',
  'if-range',
] as const

export type ConditionalHeader = (typeof conditionalHeaders)[number]

/** The most tags one header may list: each travels in the command. */
const maxTags = 100

/** The entity tag of a revision. */
export function formatTag(revision: number): string {
  return `"${revision}"`
}

/** What a list of tags names: any record at all, or those of our revisions in it. Others' tags never match. */
export type Tags =
  | { readonly type: 'any' }
  | { readonly type: 'revisions'; readonly revisions: readonly number[] }

/** Throws `invalid-request` for the first conditional header that is not among `honoured`. */
export function refuseOtherConditions(
  headers: IncomingHttpHeaders,
  honoured: readonly ConditionalHeader[],
): void {
  for (const name of conditionalHeaders) {
    if (headers[name] !== undefined && !honoured.includes(name)) {
      throw new TrivetError('invalid-request', `This route cannot honour the header ${name}`, { field: name })
    }
  }
}

/** The conditions of a write. Throws `invalid-request` for headers that are none. */
export function writeConditions(headers: IncomingHttpHeaders): readonly Condition[] {
  const match = headers['if-match']
  const noneMatch = headers['if-none-match']
  if (match === undefined && noneMatch === undefined) return []
  const conditions: Condition[] = []
  if (match !== undefined) {
    const tags = parseTags(match, 'if-match')
    conditions.push(
      tags.type === 'any' ? { type: 'exists' } : { type: 'revision', revisions: tags.revisions },
    )
  }
  if (noneMatch !== undefined) {
    if (parseTags(noneMatch, 'if-none-match').type !== 'any') {
      throw invalidTags('if-none-match', 'can only be * on a write: the key must not exist')
    }
    conditions.push({ type: 'absent' })
  }
  return conditions
}

/** What a reader has already, if it says so (`If-None-Match`). Throws `invalid-request` for a header that is none. */
export function readCondition(headers: IncomingHttpHeaders): Tags | undefined {
  const noneMatch = headers['if-none-match']
  return noneMatch === undefined ? undefined : parseTags(noneMatch, 'if-none-match')
}

/** Whether the tags name a revision. */
export function names(tags: Tags, revision: number): boolean {
  return tags.type === 'any' || tags.revisions.includes(revision)
}

function parseTags(header: string, field: ConditionalHeader): Tags {
  if (header.trim() === '*') return { type: 'any' }
  const revisions: number[] = []
  // One tag, or none between two commas (RFC 9110, 5.6.1). Weak or strong is not asked: compressing proxies make ours weak.
  const element = /[ \t]*(?:(?:W\/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*)?(,|$)/y
  let count = 0
  while (element.lastIndex < header.length) {
    const found = element.exec(header)
    if (found === null) throw invalidTags(field, 'must be * or a list of tags such as "17", "18"')
    if (found[1] === undefined) continue
    count += 1
    if (count > maxTags) throw invalidTags(field, `lists at most ${maxTags} tags`, maxTags)
    const revision = ourRevision(found[1])
    if (revision !== undefined) revisions.push(revision)
  }
  if (count === 0) throw invalidTags(field, 'must name at least one tag')
  return { type: 'revisions', revisions }
}

function ourRevision(tag: string): number | undefined {
  const revision = /^[1-9]\d{0,15}$/.test(tag) ? Number(tag) : Number.NaN
  return Number.isSafeInteger(revision) ? revision : undefined
}

function invalidTags(field: ConditionalHeader, fault: string, limit?: number): TrivetError {
  return new TrivetError('invalid-request', `The header ${field} ${fault}`, { field, limit })
}
