// Reading YAML by its schema while remembering where everything stood: every mistake is noted with path and line, and reading goes on.

import { basename } from 'node:path'

import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type Scalar,
  type YAMLParseError,
} from 'yaml'
import { formatDuration, parseDuration } from '../duration.ts'

/** A value of the file, present or not. */
export type Place = {
  /** As people write it: `nodes.n2.p2p`, `tokens[1].stores[0]`; empty for the whole file. */
  readonly path: string
  readonly node: Node | undefined
  /** Its line, or that of what should contain it. */
  readonly line: number
}

/** A place that must hold a text, and what that text must be. */
export type TextRule = {
  readonly expected: string
  readonly test: (text: string) => boolean
  /** The value is never shown, not even in a mistake. */
  readonly secret?: boolean
}

/** How much of a wrong text is shown, in characters. */
const maxShown = 120

export class ConfigReader {
  readonly mistakes: string[] = []
  readonly root: Place
  readonly #file: string
  readonly #env: Readonly<Record<string, string | undefined>>
  readonly #lines = new LineCounter()
  readonly #document: Document.Parsed

  constructor(path: string, source: string, env: Readonly<Record<string, string | undefined>>) {
    this.#file = basename(path)
    this.#env = env
    this.#document = parseDocument(source, { lineCounter: this.#lines, prettyErrors: false, version: '1.2' })
    for (const { code, pos } of this.#document.errors) {
      if (code !== 'DUPLICATE_KEY') continue
      const { line } = this.#lines.linePos(pos[0])
      this.mistakes.push(`the key "${this.#keyAt(source, pos)}" stands here twice (${this.#file}:${line})`)
    }
    this.#noteSyntax(source)
    this.root = { path: '', node: this.#document.contents ?? undefined, line: 1 }
  }

  /** Only the first slip in the YAML itself: what follows it is read out of step. */
  #noteSyntax(source: string): void {
    const [first] = this.#document.errors.filter(({ code }) => code !== 'DUPLICATE_KEY')
    if (first === undefined) return
    const { line } = this.#lines.linePos(first.pos[0])
    this.mistakes.push(`${syntaxSentence(first, source.split('\n')[line - 1] ?? '')} (${this.#file}:${line})`)
  }

  /** Whether the bytes are YAML at all: otherwise nothing else is worth reading. */
  get isYaml(): boolean {
    return this.#document.errors.every(({ code }) => code === 'DUPLICATE_KEY')
  }

  mistake(place: Place, text: string): void {
    const where = place.path === '' ? '' : `${place.path}: `
    this.mistakes.push(`${where}${text} (${this.#file}:${place.line})`)
  }

  isPresent(place: Place): boolean {
    return place.node !== undefined && !(isScalar(place.node) && place.node.value === null)
  }

  /** The fields of a map that may have `known` ones only. Each is there, present or not; undefined when it is no map. */
  fields<K extends string>(place: Place, known: readonly K[]): Readonly<Record<K, Place>> | undefined {
    const entries = this.entries(place)
    if (entries === undefined) return undefined
    const found = new Map(entries)
    for (const [key, at] of found) {
      if ((known as readonly string[]).includes(key)) continue
      const near = nearest(key, known)
      this.mistake(
        at,
        near === undefined ? `unknown; known here: ${known.join(', ')}` : `unknown; did you mean ${near}?`,
      )
    }
    const absent = (key: K): Place => ({ path: this.#join(place, key), node: undefined, line: place.line })
    return Object.fromEntries(known.map((key) => [key, found.get(key) ?? absent(key)])) as Record<K, Place>
  }

  /** All keys of a map with their places; undefined, with a mistake, when it is none. */
  entries(place: Place): readonly (readonly [string, Place])[] | undefined {
    const node = this.#resolve(place.node)
    if (!isMap(node)) {
      this.expected(place, 'a map')
      return undefined
    }
    return node.items.map((pair) => {
      const key = isScalar(pair.key) ? String(pair.key.source ?? pair.key.value) : String(pair.key)
      const value = pair.value as Node | null
      const line = this.#line(pair.key as Node, place.line)
      return [key, { path: this.#join(place, key), node: value ?? undefined, line }] as const
    })
  }

  /** The items of a list; undefined, with a mistake, when it is none. */
  items(place: Place): readonly Place[] | undefined {
    const node = this.#resolve(place.node)
    if (!isSeq(node)) {
      this.expected(place, 'a list')
      return undefined
    }
    return node.items.map((item, at) => {
      const value = item as Node | null
      return { path: `${place.path}[${at}]`, node: value ?? undefined, line: this.#line(value, place.line) }
    })
  }

  isMap(place: Place): boolean {
    return isMap(this.#resolve(place.node))
  }

  text(place: Place, rule: TextRule): string | undefined {
    const text = this.#scalarText(place)
    if (text.type === 'broken') return undefined
    if (text.type === 'text' && rule.test(text.text)) return text.text
    this.expected(
      place,
      rule.expected,
      rule.secret === true && text.type === 'text' ? hidden(text.text) : undefined,
    )
    return undefined
  }

  whole(place: Place, bounds: { readonly least: number; readonly most: number }, fallback: number): number {
    if (!this.isPresent(place)) return fallback
    const { least, most } = bounds
    const isWithin = (text: string) =>
      /^\d{1,15}$/.test(text) && Number(text) >= least && Number(text) <= most
    const text = this.text(place, { expected: `a whole number from ${least} to ${most}`, test: isWithin })
    return text === undefined ? fallback : Number(text)
  }

  flag(place: Place, fallback: boolean): boolean {
    if (!this.isPresent(place)) return fallback
    const text = this.text(place, {
      expected: 'true or false',
      test: (value) => /^(true|false)$/.test(value),
    })
    return text === undefined ? fallback : text === 'true'
  }

  /** In milliseconds. */
  duration(
    place: Place,
    bounds: { readonly least: number; readonly most: number },
    fallback: number,
  ): number {
    if (!this.isPresent(place)) return fallback
    const { least, most } = bounds
    const text = this.text(place, {
      expected: `a duration from ${formatDuration(least)} to ${formatDuration(most)}, written like 100ms, 1s or 5m`,
      test: (value) => {
        const milliseconds = parseDuration(value)
        return milliseconds !== undefined && milliseconds >= least && milliseconds <= most
      },
    })
    return text === undefined ? fallback : (parseDuration(text) ?? fallback)
  }

  /** Notes that something else stands here than what was expected. */
  expected(place: Place, expected: string, shown?: string): void {
    this.mistake(place, `expected ${expected}, found ${shown ?? this.#found(place)}`)
  }

  #found(place: Place): string {
    const node = this.#resolve(place.node)
    if (isMap(node)) return 'a map'
    if (isSeq(node)) return 'a list'
    const text = this.#scalarText(place, { silent: true })
    if (text.type !== 'text') return 'nothing'
    // Where tokens are told, a text in the wrong place may be a secret.
    if (/^tokens(\[\d+\])?$/.test(place.path)) return `a text of ${[...text.text].length} characters`
    const raw = isScalar(node) ? (node.source ?? '') : ''
    const shown = place.path.startsWith('tokens[') && raw.includes('${') ? raw : text.text
    return JSON.stringify(shown.length > maxShown ? `${shown.slice(0, maxShown)}...` : shown)
  }

  /** The text of a scalar as it stands in the file, so that `1.0` and `007` stay what they are, with variables filled in. */
  #scalarText(
    place: Place,
    options: { readonly silent?: boolean } = {},
  ): { readonly type: 'text'; readonly text: string } | { readonly type: 'absent' | 'broken' } {
    const node = this.#resolve(place.node)
    if (!isScalar(node) || node.value === null) return { type: 'absent' }
    const { value, source, type } = node as Scalar
    const raw = type === 'PLAIN' && source !== undefined ? source : String(value)
    let isBroken = false
    const text = raw.replace(/\$\{([^}]*)\}/g, (whole, name: string) => {
      const set = this.#env[name]
      if (set !== undefined) return set
      isBroken = true
      if (options.silent !== true) this.mistake(place, `the environment variable ${name || whole} is not set`)
      return ''
    })
    return isBroken ? { type: 'broken' } : { type: 'text', text }
  }

  #resolve(node: Node | undefined): Node | undefined {
    return isAlias(node) ? (node.resolve(this.#document) ?? undefined) : node
  }

  #line(node: Node | null | undefined, fallback: number): number {
    const offset = node?.range?.[0]
    return offset === undefined ? fallback : this.#lines.linePos(offset).line
  }

  #join(place: Place, key: string): string {
    return place.path === '' ? key : `${place.path}.${key}`
  }

  #keyAt(source: string, [start]: readonly [number, number]): string {
    return /^[^\s:,}]+/.exec(source.slice(start))?.[0] ?? '?'
  }
}

function hidden(text: string): string {
  return `one of ${[...text].length} characters`
}

function syntaxSentence({ code, message }: YAMLParseError, line: string): string {
  if (code === 'MULTIPLE_DOCS') return 'expected one YAML document, found another after it'
  const variable = /[{,[].*?[^"'](\$\{\w+\})/.exec(line)?.[1]
  // A brace ends the map it stands in, whatever stood before it.
  const hint = variable === undefined ? '' : `; within { } and [ ], put quotes around "${variable}"`
  return `this is no YAML: ${message.split('\n')[0] ?? message}${hint}`
}

/** The known key that a slip of two letters at most would turn into this one. */
function nearest(key: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(key.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)
  const [best] = ranked
  const isNear = best !== undefined && best.distance <= Math.min(2, Math.floor(best.candidate.length / 2))
  return isNear ? best.candidate : undefined
}

/** Levenshtein's, row by row. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const swapped = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(swapped, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
