// The fast reader of commands against msgpackr: whatever it reads, it reads the same.

import fc from 'fast-check'
import { Packr } from 'msgpackr'
import { expect, it } from 'vitest'
import { readFields } from '../../src/store/command-fields.ts'
import { encodeCommand } from '../../src/store/commands.ts'
import { bytes, inSession, set, underKey } from './state-fixtures.ts'

const packr = new Packr({ useRecords: false, moreTypes: false, int64AsType: 'number' })

function theirs(data: Buffer): unknown {
  try {
    return packr.unpack(data)
  } catch (error) {
    return error
  }
}

const plain = fc.letrec((tie) => ({
  field: fc.oneof(
    { depthSize: 'small' },
    fc.nat(2 ** 32 - 1),
    fc.string({ maxLength: 300, unit: 'binary-ascii' }),
    fc.uint8Array({ maxLength: 70_000, size: 'medium' }).map((data) => Buffer.from(data)),
    fc.constantFrom(null, true, false),
    fc.array(tie('field'), { maxLength: 20 }),
  ),
})).field

it('reads what commands are made of', () => {
  const commands = [
    set('key', Buffer.alloc(70_000)),
    set('key', Buffer.alloc(300), { conditions: [{ type: 'revision', revisions: [1, 70_000] }] }),
    set('key', 'value', inSession(1, 70_000, 3)),
    set('key', 'value', underKey('again')),
  ]
  for (const command of commands) {
    const data = Buffer.from(encodeCommand(command))
    expect(readFields(data)).toEqual(theirs(data))
    expect(readFields(data)).toBeDefined()
  }
})

it('reads plain fields as msgpackr does, or leaves them to it', () => {
  fc.assert(
    fc.property(fc.array(plain, { maxLength: 20 }), (fields) => {
      const data = Buffer.from(packr.pack(fields))
      const read = readFields(data)
      if (read !== undefined) expect(read).toEqual(theirs(data))
    }),
  )
})

it('never reads anything else than msgpackr does, whatever the bytes', () => {
  const damaged = fc
    .tuple(fc.array(plain, { minLength: 1, maxLength: 8 }), fc.nat(), fc.integer({ min: 1, max: 255 }))
    .map(([fields, at, flip]) => {
      const data = Buffer.from(packr.pack(fields))
      data[at % data.length] = (data[at % data.length] ?? 0) ^ flip
      return data
    })
  const any = fc.uint8Array({ minLength: 1, maxLength: 40 }).map((data) => Buffer.from(data))
  fc.assert(
    fc.property(fc.oneof(damaged, any), (data) => {
      const read = readFields(data)
      if (read !== undefined) expect(read).toEqual(theirs(data))
    }),
    { numRuns: 1000 },
  )
})

it('leaves text beyond ASCII, other numbers and other shapes alone', () => {
  for (const fields of [['é'], [-1], [1.5], [2 ** 40], [{ a: 1 }], 'text', ['x'.repeat(300)]]) {
    expect(readFields(Buffer.from(packr.pack(fields)))).toBeUndefined()
  }
  expect(readFields(Buffer.from([0x92, 1]))).toBeUndefined()
  expect(readFields(Buffer.from([0x91, 1, 1]))).toBeUndefined()
  expect(readFields(bytes(''))).toBeUndefined()
})

it('tells texts apart that lie in one place', () => {
  const read = (text: string) => readFields(Buffer.from(packr.pack([text])))
  for (const text of ['aXcXd', 'aYcYd', 'aXcXd', 'aXcZd']) expect(read(text)).toEqual([text])
})
