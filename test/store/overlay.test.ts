// The overlay alone: what waits, what is on its way, and what is remembered of what LevelDB has.

import { describe, expect, it } from 'vitest'
import { Overlay, rowName } from '../../src/store/overlay.ts'
import { bytes } from './state-fixtures.ts'

function put(overlay: Overlay, key: string, value: string | undefined, lasts = true): void {
  overlay.put(rowName(bytes(key)), value === undefined ? undefined : bytes(value), undefined, lasts)
}

const text = (value: Uint8Array | undefined) =>
  value === undefined ? undefined : Buffer.from(value).toString()
const get = (overlay: Overlay, key: string) => text(overlay.get(rowName(bytes(key)))?.value)
const write = (overlay: Overlay) => {
  const rows = overlay.take().map(({ key, value }) => `${text(key)}=${text(value)}`)
  overlay.settle()
  return rows
}

describe('the overlay', () => {
  it('gives each batch what was put since the last, once and as it was when the batch was cut', () => {
    const overlay = new Overlay()
    put(overlay, 'a', '1')
    put(overlay, 'a', '2')
    const rows = overlay.take()
    put(overlay, 'a', '3')
    expect(rows.map(({ value }) => text(value))).toEqual(['2'])
    expect(get(overlay, 'a')).toBe('3')
    overlay.settle()
    expect(get(overlay, 'a')).toBe('3')
    expect(write(overlay)).toEqual(['a=3'])
    expect(write(overlay)).toEqual([])
  })

  it('has what was written again while it was on its way, also of rows that it does not remember', () => {
    const overlay = new Overlay()
    put(overlay, 'a', '1', false)
    overlay.take()
    put(overlay, 'a', '2', false)
    overlay.settle()
    expect(get(overlay, 'a')).toBe('2')
    expect(write(overlay)).toEqual(['a=2'])
    expect(get(overlay, 'a')).toBeUndefined()
  })

  it('counts what waits or is on its way, and not what it remembers', () => {
    const overlay = new Overlay()
    put(overlay, 'a', '1')
    const one = overlay.bytes
    put(overlay, 'a', '2')
    expect(overlay.bytes).toBe(one)
    overlay.take()
    put(overlay, 'a', '3')
    expect(overlay.bytes).toBe(2 * one)
    overlay.settle()
    expect(overlay.bytes).toBe(one)
    write(overlay)
    expect(overlay.bytes).toBe(0)
    put(overlay, 'a', '4')
    expect(overlay.bytes).toBe(one)
  })

  it('remembers what LevelDB was given, that it is gone too, and lists it no more', () => {
    const overlay = new Overlay()
    put(overlay, 'a', '1')
    put(overlay, 'b', undefined)
    put(overlay, 'c', '1', false)
    write(overlay)
    put(overlay, 'd', '1')
    overlay.take()
    put(overlay, 'e', '1')
    put(overlay, 'd', '2')
    expect(get(overlay, 'a')).toBe('1')
    expect(overlay.get('b')).toEqual({ value: undefined })
    expect(overlay.get('c')).toBeUndefined()
    expect(overlay.within('a', 'e').map(({ key, value }) => `${text(key)}${text(value)}`)).toEqual(['d2'])
  })

  it('forgets the rows that were written longest ago, by their bytes', () => {
    const overlay = new Overlay()
    const large = 'x'.repeat(500 * 1024)
    put(overlay, 'first', large)
    put(overlay, 'gone', undefined)
    write(overlay)
    put(overlay, 'again', large)
    write(overlay)
    for (let n = 0; n < 11; n++) {
      put(overlay, `key ${n}`, `${n}${large}`)
      put(overlay, 'again', `${n}${large}`)
      expect(get(overlay, 'first')).toBe(large)
      write(overlay)
    }
    put(overlay, 'key 11', large)
    write(overlay)
    expect(get(overlay, 'first')).toBeUndefined()
    expect(overlay.get('gone')).toBeUndefined()
    expect(get(overlay, 'again')).toBe(`10${large}`)
    for (let n = 0; n < 11; n++) expect(get(overlay, `key ${n}`)).toBe(`${n}${large}`)
    expect(get(overlay, 'key 11')).toBe(large)
  })

  it('remembers no row that is very large, nor any of a batch that is more than it remembers at all', () => {
    const overlay = new Overlay()
    put(overlay, 'huge', 'x'.repeat(513 * 1024))
    put(overlay, 'small', '1')
    write(overlay)
    expect(overlay.get('huge')).toBeUndefined()
    expect(get(overlay, 'small')).toBe('1')
    for (let n = 0; n < 30; n++) put(overlay, `key ${n}`, 'x'.repeat(500 * 1024))
    write(overlay)
    expect(overlay.get('small')).toBeUndefined()
    for (let n = 0; n < 30; n++) expect(overlay.get(`key ${n}`)).toBeUndefined()
  })

  it('hands out bytes that stay as they were when others take their place', () => {
    const overlay = new Overlay()
    put(overlay, 'a', 'first')
    write(overlay)
    const found = overlay.get('a')?.value
    for (let n = 0; n < 30; n++) {
      put(overlay, `key ${n}`, 'x'.repeat(500 * 1024))
      write(overlay)
    }
    expect(text(found)).toBe('first')
  })

  it('forgets by their number too, however small they are or often written', () => {
    const overlay = new Overlay()
    put(overlay, 'first', '1')
    write(overlay)
    for (let n = 0; n < 64 * 1024; n++) {
      expect(get(overlay, 'first')).toBe('1')
      put(overlay, 'again', '1')
      write(overlay)
    }
    expect(get(overlay, 'first')).toBeUndefined()
  })
})
