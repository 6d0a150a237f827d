// What a principal may open: the one judgement behind every door and in apply, so that they never differ.

import { ownStore } from './places.ts'
import type { Grant, Operation, Principal } from './types.ts'

/** What is about to be opened. `within`: the key, or the prefix of a range; absent when the store as such is meant. */
export type Target = {
  readonly store: string
  readonly access: 'read' | 'read-write'
  readonly within?: Uint8Array | undefined
}

/** Whether a principal may do this. Whether the store exists is not asked: a grant says nothing of that. */
export function permits(principal: Principal, target: Target): boolean {
  switch (principal.type) {
    case 'admin':
      return true
    case 'monitor':
      return false
    case 'component':
      return principal.grants.some((grant) => opens(grant, target))
    case 'app':
      return target.store === ownStore
    default:
      return principal satisfies never
  }
}

/** Whether a principal may have an operation of a transaction done. */
export function permitsOperation(principal: Principal, operation: Operation): boolean {
  const { type, store } = operation
  const access = type === 'get' || type === 'head' || type === 'exists' ? 'read' : 'read-write'
  const within = type === 'deletePrefix' ? operation.prefix : operation.key
  return permits(principal, { store, access, within })
}

/** Whether a principal may see a store as a whole: its counts, not only keys under a prefix. */
export function seesWhole(principal: Principal, store: string): boolean {
  if (principal.type !== 'component') return principal.type === 'admin'
  return principal.grants.some((grant) => grant.store === store && isWhole(grant))
}

function opens(grant: Grant, target: Target): boolean {
  if (grant.store !== target.store) return false
  if (target.access === 'read-write' && grant.access !== 'read-write') return false
  return target.within === undefined || isWhole(grant) || beginsWith(target.within, prefixBytes(grant))
}

/** Whether whatever the second grant opens, the first opens too. */
export function covers(grant: Grant, { store, access, prefix }: Grant): boolean {
  return opens(grant, { store, access, within: Buffer.from(prefix ?? '') })
}

function isWhole(grant: Grant): boolean {
  return grant.prefix === undefined || grant.prefix === ''
}

const prefixes = new WeakMap<Grant, Buffer>()

function prefixBytes(grant: Grant): Buffer {
  let bytes = prefixes.get(grant)
  if (bytes === undefined) {
    bytes = Buffer.from(grant.prefix ?? '')
    prefixes.set(grant, bytes)
  }
  return bytes
}

function beginsWith(key: Uint8Array, prefix: Buffer): boolean {
  return key.length >= prefix.length && prefix.equals(key.subarray(0, prefix.length))
}
