// What members say of the digests of their states, compared: who is the odd one out, and when nobody can tell (rule 9).

import { describe, expect, it } from 'vitest'
import { DigestBook } from '../../src/node/digest-book.ts'

const abc = ['a', 'b', 'c']

/** The book of `a`, by what each member said: `{ a: { 1024: 'x' } }`. */
function book(told: Readonly<Record<string, Readonly<Record<number, string>>>>): DigestBook {
  const digests = new DigestBook('a')
  for (const [peer, by] of Object.entries(told)) {
    for (const [index, digest] of Object.entries(by)) {
      if (peer === 'a') digests.own({ index: Number(index), digest })
      else digests.heard(peer, { index: Number(index), digest })
    }
  }
  return digests
}

describe('the digests of the members', () => {
  it('agree when all that are known at an index are the same', () => {
    expect(book({ a: { 1024: 'x' }, b: { 1024: 'x' } }).compare(abc)).toEqual({ type: 'agreed', index: 1024 })
  })

  it('are compared at the highest index that this node and another have told of', () => {
    const told = { a: { 1024: 'x', 2048: 'y', 3072: 'z' }, b: { 1024: 'no', 2048: 'y' }, c: { 4096: 'w' } }
    expect(book(told).compare(abc)).toEqual({ type: 'agreed', index: 2048 })
  })

  it('show this node to be the odd one out when a majority agrees on another', () => {
    const told = { a: { 1024: 'x' }, b: { 1024: 'y' }, c: { 1024: 'y' } }
    expect(book(told).compare(abc)).toEqual({ type: 'outvoted', index: 1024 })
  })

  it('do not blame this node for another that is the odd one out', () => {
    const told = { a: { 1024: 'x' }, b: { 1024: 'y' }, c: { 1024: 'x' } }
    expect(book(told).compare(abc)).toEqual({ type: 'agreed', index: 1024 })
  })

  it('blame nobody while none is that of a majority of all voters, heard or not', () => {
    expect(book({ a: { 1024: 'x' }, b: { 1024: 'y' } }).compare(abc)).toEqual({ type: 'torn', index: 1024 })
    const five = { a: { 1024: 'x' }, b: { 1024: 'y' }, c: { 1024: 'y' } }
    expect(book(five).compare([...abc, 'd', 'e'])).toEqual({ type: 'torn', index: 1024 })
  })

  it('of learners and of those who were removed count for nothing', () => {
    const told = { a: { 1024: 'x' }, b: { 1024: 'y' }, c: { 1024: 'y' } }
    expect(book(told).compare(['a'])).toEqual({ type: 'nothing' })
    expect(book(told).compare(['a', 'b'])).toEqual({ type: 'torn', index: 1024 })
  })

  it('of a learner are held against those of the voters', () => {
    const told = { a: { 1024: 'x' }, b: { 1024: 'y' }, c: { 1024: 'y' } }
    expect(book(told).compare(['b', 'c'])).toEqual({ type: 'outvoted', index: 1024 })
  })

  it('of the own state are forgotten when another takes its place', () => {
    const digests = book({ a: { 1024: 'x' }, b: { 1024: 'y' }, c: { 1024: 'y' } })
    digests.forgetOwn()
    expect(digests.compare(abc)).toEqual({ type: 'nothing' })
    digests.own({ index: 1024, digest: 'y' })
    expect(digests.compare(abc)).toEqual({ type: 'agreed', index: 1024 })
  })

  it('are those of the last word: one that was the odd one out has repaired its state', () => {
    const digests = book({ a: { 1024: 'x' }, b: { 1024: 'y' } })
    expect(digests.compare(abc)).toEqual({ type: 'torn', index: 1024 })
    digests.heard('b', { index: 1024, digest: 'x' })
    expect(digests.compare(abc)).toEqual({ type: 'agreed', index: 1024 })
  })

  it('are kept for the last eight indexes', () => {
    const digests = book({ b: { 1024: 'x' } })
    for (let n = 2; n <= 9; n++) digests.heard('b', { index: n * 1024, digest: 'later' })
    digests.own({ index: 1024, digest: 'x' })
    expect(digests.compare(abc)).toEqual({ type: 'nothing' })
  })
})
