// The table of `docs/architecture.md` held against the source: who may import whom, and which package lives where.

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'

const source = resolve(import.meta.dirname, '../src')

type Import = { readonly file: string; readonly from: string; readonly typeOnly: boolean }

function files(): string[] {
  return readdirSync(source, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .sort()
}

function imports(file: string): Import[] {
  const text = readFileSync(join(source, file), 'utf8')
  const found: Import[] = []
  for (const match of text.matchAll(/^(import|export)( type)?\b[^'"`;]*?\bfrom '([^']+)'/gm)) {
    found.push({ file, from: match[3] ?? '', typeOnly: match[2] !== undefined })
  }
  for (const match of text.matchAll(/(?:^import|\bimport\()\s*'([^']+)'/gm)) {
    found.push({ file, from: match[1] ?? '', typeOnly: false })
  }
  return found
}

const all = files().flatMap(imports)

/** The room of a file within src, or the file itself where it lies at the top. */
function room(file: string): string {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : file
}

function target({ file, from }: Import): string | undefined {
  return from.startsWith('.') ? relative(source, join(source, dirname(file), from)) : undefined
}

/** Room → what it may import of ours: rooms, or single files. */
const mayImport: Record<string, readonly string[]> = {
  raft: [],
  store: ['raft', 'errors.ts'],
  node: ['raft', 'store', 'duration.ts', 'errors.ts', 'msgpack-scan.ts', 'version.ts'],
  api: [
    'node/names.ts',
    'node/surface.ts',
    'store/grants.ts',
    'store/places.ts',
    'store/types.ts',
    'duration.ts',
    'errors.ts',
    'msgpack-scan.ts',
  ],
  sdk: ['api/protocol.ts', 'duration.ts', 'errors.ts'],
  embedded: ['api', 'node', 'sdk', 'store', 'duration.ts', 'errors.ts'],
  cli: ['raft', 'store', 'node', 'api', 'sdk', 'duration.ts', 'errors.ts', 'version.ts'],
  'index.ts': ['node', 'sdk', 'errors.ts'],
  'duration.ts': [],
  'errors.ts': [],
  'msgpack-scan.ts': [],
  'version.ts': [],
}

/** Package → the files that alone may import it. */
const livesIn: Record<string, (file: string) => boolean> = {
  libp2p: (file) => file === 'node/libp2p.ts',
  '@libp2p/': (file) => file.startsWith('node/'),
  msgpackr: (file) =>
    ['node/wire.ts', 'store/commands.ts', 'api/operation-bodies.ts', 'sdk/codec.ts'].includes(file),
  fastify: (file) => file.startsWith('api/'),
  '@fastify/': (file) => file.startsWith('api/'),
  level: (file) => file.startsWith('store/'),
  'abstract-level': (file) => file.startsWith('store/'),
  commander: (file) => file.startsWith('cli/'),
}

describe('the house', () => {
  it('has imports to look at in every room', () => {
    for (const name of ['raft', 'store', 'node', 'api', 'sdk', 'embedded', 'cli']) {
      expect(all.filter(({ file }) => room(file) === name).length, name).toBeGreaterThan(0)
    }
  })

  it('lets imports point one way', () => {
    const wrong = all.filter((one) => {
      const to = target(one)
      if (to === undefined) return false
      const own = room(one.file)
      if (room(to) === own) return false
      const allowed = mayImport[own] ?? []
      return !allowed.includes(room(to)) && !allowed.includes(to)
    })
    expect(wrong.map(({ file, from }) => `${file} imports ${from}`)).toEqual([])
  })

  it('keeps the core pure: nothing but its own files', () => {
    const wrong = all.filter(({ file, from }) => room(file) === 'raft' && !from.startsWith('./'))
    expect(wrong.map(({ file, from }) => `${file} imports ${from}`)).toEqual([])
  })

  it('keeps clocks and chance out of the core', () => {
    for (const file of files().filter((name) => name.startsWith('raft/'))) {
      const text = readFileSync(join(source, file), 'utf8')
      expect(text, file).not.toMatch(
        /\b(Date|performance|setTimeout|setInterval|setImmediate|queueMicrotask|await|async)\b[.( ]/,
      )
      expect(text, file).not.toMatch(/Math\.random|process\./)
    }
  })

  it('keeps each package in its place', () => {
    const wrong = all.filter(({ file, from }) =>
      Object.entries(livesIn).some(
        ([name, allowed]) => (name.endsWith('/') ? from.startsWith(name) : from === name) && !allowed(file),
      ),
    )
    expect(wrong.map(({ file, from }) => `${file} imports ${from}`)).toEqual([])
  })

  it('opens every file with a line that says its idea', () => {
    const silent = files().filter(
      (file) => !/^(#!.*\n)?\/\/ \S/.test(readFileSync(join(source, file), 'utf8')),
    )
    expect(silent).toEqual([])
  })
})
