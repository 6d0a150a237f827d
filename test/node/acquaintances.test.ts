// What a node believes of who belongs beyond its own log.

import { describe, expect, it } from 'vitest'
import { Acquaintances } from '../../src/node/acquaintances.ts'
import type { Member } from '../../src/raft/types.ts'

function members(...ids: string[]): Member[] {
  return ids.map((id) => ({
    id,
    peer: id,
    http: '',
    p2p: '',
    voter: true,
    since: 0,
    commandVersion: 1,
  }))
}

const own = { index: 5, members: members('a', 'b', 'self') }

describe('acquaintances', () => {
  it('have older peers told, and only those', () => {
    const known = new Acquaintances('self')
    expect(known.heard(4, 5)).toBe(true)
    expect(known.heard(5, 5)).toBe(false)
    expect(known.heard(6, 5)).toBe(false)
  })

  it('are those whom peers name, until the own log has come as far', () => {
    const known = new Acquaintances('self')
    expect(known.told('a', { index: 7, members: members('a', 'c', 'self') })).toBe(true)
    expect(known.told('a', { index: 7, members: members('a', 'c', 'self') })).toBe(false)
    expect(known.named.map(({ id }) => id)).toEqual(['a', 'c', 'self'])
    expect(known.newest(own).index).toBe(7)
    known.retain({ index: 7, members: members('a', 'c', 'self') }, new Set(['a', 'c']))
    expect(known.named).toEqual([])
  })

  it('are forgotten with the peer that named them', () => {
    const known = new Acquaintances('self')
    known.told('x', { index: 7, members: members('x', 'y') })
    known.retain(own, new Set(['a', 'b']))
    expect(known.named).toEqual([])
    expect(known.newest(own)).toBe(own)
  })

  it('tell a node that was removed from one that only lags', () => {
    const known = new Acquaintances('self')
    const without = { index: 5, members: members('a', 'b') }
    expect(known.isRemoved(without), 'nobody has said anything').toBe(false)
    known.heard(9, 5)
    expect(known.isRemoved(without), 'others know of more').toBe(false)
    known.told('a', { index: 9, members: members('a', 'self') })
    expect(known.isRemoved(without)).toBe(false)
    known.told('b', { index: 12, members: members('a') })
    expect(known.isRemoved(own)).toBe(true)
  })

  it('deny a node until they take it', () => {
    const known = new Acquaintances('self')
    known.denied('a')
    known.denied('b')
    known.accepted('b')
    expect(known.deniers).toEqual(['a'])
  })
})
