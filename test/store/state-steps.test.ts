import { describe, expect, it } from 'vitest'
import { stretches } from '../../src/store/state-steps.ts'
import { StoreTable } from '../../src/store/state-stores.ts'
import { TokenTable } from '../../src/store/state-tokens.ts'
import type { Command } from '../../src/store/types.ts'
import { batch, entry, set } from './state-fixtures.ts'

const mebibyte = 1024 * 1024

function knownOf(bytes: number, valueBytes: number) {
  const stores = new StoreTable([{ number: 1, definition: { name: 'default' }, keys: 1, bytes }], 2)
  return { stores, tokens: new TokenTable([]), valueBytes }
}

/** How many commands of 3,000 are in each stretch, in a store that holds so many bytes. */
function sizes(bytes: number, valueBytes: number): readonly number[] {
  const commands = (from: number) =>
    Array.from({ length: 500 }, (_, n) => [from + n, set(`k${n}`, '')] as const)
  const entries = [0, 1, 2, 3, 4, 5].map((n) => entry(n + 1, [batch(commands(n * 500 + 1))]))
  const parts = [...stretches(entries, knownOf(bytes, valueBytes))]
  const steps = parts.flat().map(({ type }) => type)
  expect(steps.filter((type) => type !== 'command')).toEqual(
    entries.flatMap(() => ['begin', 'origin', 'end']),
  )
  return parts.map((part) => part.filter(({ type }) => type === 'command').length)
}

describe('the stretches in which keys are fetched', () => {
  it('go across entries and end at 1,024 keys', () => {
    expect(sizes(0, 4 * mebibyte)).toEqual([1024, 1024, 952])
    expect(sizes(1024 * mebibyte, 1024)).toEqual([1024, 1024, 952])
  })

  it('never fetch more than 128 MiB, whatever the values are', () => {
    const most = Math.max(...sizes(129 * mebibyte, 4 * mebibyte))
    expect(most).toBe(32)
    expect(sizes(1024 * mebibyte, 200 * mebibyte)).toEqual(new Array(3000).fill(1))
  })

  it('have a command that reads many records alone, and end with one that changes stores or tokens', () => {
    const range: Command = { type: 'deleteRange', token: 't', store: 'default', prefix: Buffer.of() }
    const create: Command = { type: 'createStore', token: 't', definition: { name: 'new' } }
    const commands = [set('a', ''), range, set('b', ''), create, set('c', ''), range, range]
    const numbered = commands.map((command, at) => [at + 1, command] as const)
    const parts = [...stretches([entry(1, [batch(numbered)])], knownOf(0, mebibyte))]
    expect(
      parts.map((part) => part.flatMap((step) => (step.type === 'command' ? [step.command.type] : []))),
    ).toEqual([
      ['set'],
      ['deleteRange'],
      ['set', 'createStore'],
      ['set'],
      ['deleteRange'],
      ['deleteRange'],
      [],
    ])
  })
})
