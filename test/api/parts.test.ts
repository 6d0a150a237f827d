// The parts that can be held against every input: keys in URLs, queries, tags, types, durations, cursors.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readCondition, writeConditions } from '../../src/api/conditions.ts'
import { openCursor, sealCursor } from '../../src/api/cursor.ts'
import { storedContentType } from '../../src/api/media-type.ts'
import { decodeBody } from '../../src/api/operation-bodies.ts'
import { decodeKey, parseQuery, queryMistake, rawKey, routedTarget } from '../../src/api/url.ts'
import { formatDuration, parseDuration } from '../../src/duration.ts'
import { TrivetError } from '../../src/errors.ts'

function codeOf(run: () => unknown): string | undefined {
  try {
    run()
    return undefined
  } catch (error) {
    if (error instanceof TrivetError) return error.code
    throw error
  }
}

const anyText = fc.string({ unit: 'binary' })

describe('a key in a URL', () => {
  test('comes back as the bytes that went in, unless it has a segment . or ..', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), fc.boolean(), (key, slashes) => {
        const encoded = encodeURIComponent(key)
        const target = `/v1/stores/s/keys/${slashes ? encoded.replaceAll('%2F', '/') : encoded}?a=/keys/`
        const dotted = key.split('/').some((segment) => segment === '.' || segment === '..')
        const raw = rawKey('GET', target) ?? ''
        if (dotted) expect(codeOf(() => decodeKey(raw, 4096))).toBe('invalid-key')
        else expect(Buffer.from(decodeKey(raw, 4096)).toString()).toBe(key)
        expect(routedTarget('GET', target)).toBe('/v1/stores/s/keys/-?a=/keys/')
      }),
    )
  })

  test('never throws anything but invalid-key, whatever stands there', () => {
    fc.assert(
      fc.property(anyText, (raw) => {
        expect([undefined, 'invalid-key']).toContain(codeOf(() => decodeKey(raw, 4096)))
      }),
    )
  })

  test.each([
    ['/v1/stores/s/keys', undefined],
    ['/v1/stores/s/keys/', ''],
    ['/v1/stores/s/keys/a?b', 'a'],
    ['/v1/stores/s?x=/keys/a', undefined],
    ['/v1/stores//keys/a', undefined],
    ['/v1/me', undefined],
    ['http://host:1/v1/stores/s/keys/a/b', 'a/b'],
    ['HTTPS://host/v1/stores/s/keys/a', 'a'],
    ['*', undefined],
    ['', undefined],
  ])('in %j is %j', (target, key) => {
    expect(rawKey('GET', target)).toBe(key)
  })

  test('is not looked for in targets that name none, which are routed as they are', () => {
    expect(routedTarget('GET', '/v1/me?x=1')).toBe('/v1/me?x=1')
    expect(routedTarget('GET', 'http://host/v1/me')).toBe('/v1/me')
  })
})

describe('a verb at the end of a POST', () => {
  test.each([
    ['/v1/stores/s/keys/a/increment', '/v1/stores/s/keys/-/increment', 'a'],
    ['/v1/stores/s/keys/a%2fTouch/touch?ttl=1s', '/v1/stores/s/keys/-/touch?ttl=1s', 'a%2fTouch'],
    ['/v1/stores/s/keys/a%2Ftouch', '/v1/stores/s/keys/-/touch', 'a'],
    ['/v1/stores/s/keys/touch', '/v1/stores/s/keys/-/touch', ''],
    ['/v1/stores/s/keys/atouch', '/v1/stores/s/keys/-', 'atouch'],
    ['/v1/stores/s/keys/a/Touch', '/v1/stores/s/keys/-', 'a/Touch'],
    ['/v1/stores/s/keys/a?x=/touch', '/v1/stores/s/keys/-?x=/touch', 'a'],
  ])('of %s is told from the key', (target, routed, key) => {
    expect(routedTarget('POST', target)).toBe(routed)
    expect(rawKey('POST', target)).toBe(key)
  })

  test('is part of the key for every other method', () => {
    expect(routedTarget('GET', '/v1/stores/s/keys/a/touch')).toBe('/v1/stores/s/keys/-')
    expect(rawKey('GET', '/v1/stores/s/keys/a/touch')).toBe('a/touch')
  })
})

describe('a body of operations', () => {
  const forms = fc.constantFrom('json' as const, 'msgpack' as const)

  test('that is any bytes at all is data or invalid-request', () => {
    fc.assert(
      fc.property(forms, fc.uint8Array({ maxLength: 64 }), (form, bytes) => {
        expect([undefined, 'invalid-request']).toContain(codeOf(() => decodeBody(form, bytes)))
      }),
      { numRuns: 2000 },
    )
  })

  test('has bounds that are looked at before anything is made of it', () => {
    const nested = (depth: number) => Buffer.from('['.repeat(depth) + ']'.repeat(depth))
    expect(decodeBody('json', nested(100))).toBeInstanceOf(Array)
    expect(() => decodeBody('json', nested(101))).toThrow('nested too deeply')
    expect(() => decodeBody('json', Buffer.from(`[${'[],'.repeat(500_000)}[]]`))).toThrow('too many')
    expect(decodeBody('json', Buffer.from(JSON.stringify('[{\\"'.repeat(200))))).toBe('[{\\"'.repeat(200))
    expect(decodeBody('msgpack', Buffer.alloc(101, 0x91).fill(0x90, 100))).toBeInstanceOf(Array)
    expect(() => decodeBody('msgpack', Buffer.alloc(102, 0x91).fill(0x90, 101))).toThrow('nested too deeply')
    const wide = Buffer.concat([Buffer.of(0xdd, 0, 7, 0xa1, 0x21), Buffer.alloc(500_001, 0x80)])
    expect(() => decodeBody('msgpack', wide)).toThrow('too many')
  })

  test('comes through as it was meant', () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        const plain: unknown = JSON.parse(JSON.stringify(value))
        expect(decodeBody('json', Buffer.from(JSON.stringify(value)))).toEqual(plain)
      }),
    )
  })
})

test('a query is read as URLSearchParams writes it', () => {
  const pairs = fc.dictionary(fc.string({ unit: 'grapheme', minLength: 1 }), fc.string({ unit: 'grapheme' }))
  fc.assert(
    fc.property(pairs, (given) => {
      const query = parseQuery(new URLSearchParams(given).toString())
      expect(queryMistake(query)).toBeUndefined()
      expect({ ...query }).toEqual({ ...given })
    }),
  )
  fc.assert(
    fc.property(anyText, (text) => {
      expect(codeOf(() => parseQuery(text))).toBeUndefined()
    }),
  )
})

test('conditions never throw anything but invalid-request', () => {
  const header = fc.oneof(anyText, fc.stringMatching(/^[ ,"W/*0-9a]*$/))
  fc.assert(
    fc.property(header, (text) => {
      expect([undefined, 'invalid-request']).toContain(codeOf(() => writeConditions({ 'if-match': text })))
      expect([undefined, 'invalid-request']).toContain(codeOf(() => readCondition({ 'if-none-match': text })))
    }),
  )
  expect(codeOf(() => writeConditions({ 'if-match': '"1",'.repeat(101) }))).toBe('invalid-request')
  expect(writeConditions({ 'if-match': '"9007199254740993"' })).toEqual([{ type: 'revision', revisions: [] }])
})

test('a stored type can stand in a header, and is judged in linear time', () => {
  fc.assert(
    fc.property(fc.oneof(anyText, fc.stringMatching(/^[a/;= "\\]*$/)), (text) => {
      if (codeOf(() => storedContentType(text)) === undefined) {
        expect(() => new Headers({ 'content-type': storedContentType(text) })).not.toThrow()
        expect(storedContentType(text)).toMatch(/^[ -~]{1,255}$/)
      }
    }),
  )
  const began = performance.now()
  for (const evil of ['; ', ';', ' ;', '; a=b', '; a="\\"']) {
    expect(codeOf(() => storedContentType(`a/b${evil.repeat(Math.floor(250 / evil.length))}\x01`))).toBe(
      'invalid-request',
    )
  }
  expect(performance.now() - began).toBeLessThan(100)
})

test('a duration reads back as it was written', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 315_360_000_000 }), (milliseconds) => {
      expect(parseDuration(formatDuration(milliseconds))).toBe(milliseconds)
    }),
  )
  expect([formatDuration(3_600_000), formatDuration(90_000), formatDuration(1500)]).toEqual([
    '1h',
    '90s',
    '1500ms',
  ])
  for (const wrong of ['', '5', 's', '1.5s', '-1s', '1 s', '1S', '1e3ms', '5ss'])
    expect(parseDuration(wrong)).toBeUndefined()
})

test('a cursor opens for its own query alone, and no forged one opens', () => {
  const query = { clusterId: 'c', storeNumber: 1, prefix: 'p', start: '', end: 'e', reverse: false }
  const others = [
    { ...query, clusterId: 'd' },
    { ...query, storeNumber: 2 },
    { ...query, prefix: '' },
    { ...query, prefix: '', start: 'p' },
    { ...query, end: '' },
    { ...query, reverse: true },
  ]
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), fc.nat(), (key, position) => {
      const cursor = sealCursor(query, key)
      expect([...openCursor(query, cursor)]).toEqual([...key])
      for (const other of others) expect(codeOf(() => openCursor(other, cursor))).toBe('invalid-cursor')
      const at = position % cursor.length
      const forged = `${cursor.slice(0, at)}${cursor[at] === 'A' ? 'B' : 'A'}${cursor.slice(at + 1)}`
      expect(codeOf(() => openCursor(query, forged))).toBe('invalid-cursor')
    }),
  )
  fc.assert(
    fc.property(anyText, (text) => {
      expect(codeOf(() => openCursor(query, text))).toBe('invalid-cursor')
    }),
  )
})
