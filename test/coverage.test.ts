// The table of `docs/coverage.md` held against the tests: every rule and pitfall has a row, and what a row names is there.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { faults as chaosFaults } from './chaos/faults.ts'
import { faults } from './sim/faults.ts'
import { variants } from './sim/variants.ts'

const text = readFileSync(join(import.meta.dirname, '../docs/coverage.md'), 'utf8')

type Row = { readonly number: number; readonly what: string; readonly parts: readonly string[] }

function rows(section: string): Row[] {
  const [, after = ''] = text.split(`\n## ${section}\n`)
  const [body = ''] = after.split('\n## ')
  return [...body.matchAll(/^\| (\d+) \| (.+?) \| (.+) \|$/gm)].map(([, number, what = '', held = '']) => ({
    number: Number(number),
    what,
    parts: held.split('<br>'),
  }))
}

const all = [...rows('The rules'), ...rows('Faults of others, traps of our libraries')]

const quoted = (part: string): string[] => [...part.matchAll(/“([^”]+)”/g)].map(([, name = '']) => name)
const paths = (part: string): string[] =>
  [...part.matchAll(/`([^`]+\.(?:ts|txt))`/g)].map(([, path = '']) => path)

/** The names of the tests of a file, as they stand in it: the first argument of `it`, `test` and their `each`. */
function namesIn(source: string): Set<string> {
  const calls = source.matchAll(/(?:\b(?:it|test)|\))\(\s*(['"`])((?:\\.|(?!\1)[^\\])*)\1\s*,/g)
  return new Set([...calls].map(([, , name = '']) => name.replace(/\\(['"`])/g, '$1')))
}

/** What the simulator accuses a run of: texts in the files that do so. */
function promises(): Set<string> {
  const files = ['observer.ts', 'run.ts', 'cluster.ts']
  const found = files.flatMap((file) => [
    ...readFileSync(join(import.meta.dirname, 'sim', file), 'utf8').matchAll(/[( ]'([^'\n]+ [^'\n]+)',/g),
  ])
  return new Set(found.map(([, name = '']) => name))
}

/** What a part names that is not there. */
function missing(part: string): string[] {
  const names = quoted(part)
  const without = (known: ReadonlySet<string>) => names.filter((name) => !known.has(name))
  if (part.startsWith('simulator, variant ')) return without(new Set(variants.map(({ name }) => name)))
  if (part.startsWith('simulator, fault ')) return without(new Set(faults.map(({ name }) => name)))
  if (part.startsWith('simulator, promise ')) return without(promises())
  if (part.startsWith('`test/chaos`, fault ')) return without(new Set(chaosFaults.map(({ name }) => name)))
  const files = paths(part).filter((path) => !existsSync(join(import.meta.dirname, path)))
  const [path, ...more] = paths(part)
  if (files.length > 0 || path === undefined || !path.endsWith('.ts')) return files
  if (more.length > 0 || names.length === 0) return [`names of tests in ${path}`]
  return without(namesIn(readFileSync(join(import.meta.dirname, path), 'utf8')))
}

/** Why a rule or pitfall has no test, or only in part. */
const isReason = (part: string): boolean => /^(Not yet|Does not apply): ./.test(part)

describe('the table of what holds the promises', () => {
  it.each([
    ['The rules', 27],
    ['Faults of others, traps of our libraries', 53],
  ])('has every line of "%s" once', (section, count) => {
    const expected = Array.from({ length: count }, (_, at) => at + 1)
    expect(rows(section).map(({ number }) => number)).toEqual(expected)
  })

  it('says of each what holds it, or why nothing does', () => {
    const empty = all.filter(({ parts }) =>
      parts.some((part) => !isReason(part) && quoted(part).length + paths(part).length === 0),
    )
    expect(empty).toEqual([])
  })

  it.each(all)('names for $number, "$what", only what is there', ({ parts }) => {
    expect(parts.flatMap(missing)).toEqual([])
  })

  it('would notice a name that is nowhere', () => {
    expect(missing('`coverage.test.ts` “would notice a name that is nowhere”')).toEqual([])
    expect(missing('`coverage.test.ts` “would not”')).toEqual(['would not'])
    expect(missing('`raft/transcripts/nowhere.txt`')).toEqual(['raft/transcripts/nowhere.txt'])
    expect(missing('`raft/nowhere.test.ts` “votes”')).toEqual(['raft/nowhere.test.ts'])
    expect(missing('`coverage.test.ts`')).toHaveLength(1)
    for (const kind of ['variant', 'fault', 'promise']) {
      expect(missing(`simulator, ${kind} “nonsense”`)).toEqual(['nonsense'])
    }
    expect(missing('`test/chaos`, fault “nonsense”')).toEqual(['nonsense'])
  })
})
