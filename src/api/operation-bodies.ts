// The bodies of batches and transactions, JSON or MessagePack: bounded before anything is made of them, and answered in kind.

import { Packr, Unpackr } from 'msgpackr'
import { TrivetError } from '../errors.ts'
import { type ScanRules, scanPlainData } from '../msgpack-scan.ts'
import { msgpackType } from './protocol.ts'

/** In what form a body travels. */
export type BodyForm = 'json' | 'msgpack'

/** How deep values may lie in each other: a body's own four levels, and room for what people store as JSON. */
const maxDepth = 100
/** Maps and arrays in all. A few bytes make one, and each costs a decoder some fifty: 8 MiB of them would be 400. */
const maxContainers = 500_000

const scanRules: ScanRules = {
  maxDepth,
  maxContainers,
  strictText: true,
  refuse: (fault) => malformed('msgpack', fault),
}

// Records are an extension of msgpackr's own. Of both only plain data is asked.
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true })
const packr = new Packr({ useRecords: false, variableMapSize: true, copyBuffers: true })

/** The form of a Content-Type; JSON where none is given. Throws `unsupported-media-type` for any other. */
export function formOf(contentType: string | undefined): BodyForm {
  const type = contentType?.split(';', 1)[0]?.trim().toLowerCase()
  if (type === undefined || type === 'application/json') return 'json'
  if (type === msgpackType) return 'msgpack'
  throw new TrivetError(
    'unsupported-media-type',
    `This route takes application/json and ${msgpackType}, not this`,
    { field: 'content-type' },
  )
}

/** What a body says, as plain data. Throws `invalid-request`, with nothing large made of a body that only claims to be. */
export function decodeBody(form: BodyForm, body: Uint8Array): unknown {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
  if (form === 'json') return decodeJson(bytes)
  scanPlainData(bytes, 0, scanRules)
  try {
    const value: unknown = unpackr.unpack(bytes)
    return value
  } catch (cause) {
    throw malformed(form, 'what is there cannot be read', cause)
  }
}

function decodeJson(bytes: Buffer): unknown {
  boundJson(bytes)
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    return value
  } catch (cause) {
    throw malformed('json', 'it is not well-formed', cause)
  }
}

const quote = 0x22
const backslash = 0x5c

/** Counts brackets outside of text, so that a body of brackets never reaches the parser. */
function boundJson(bytes: Buffer): void {
  let depth = 0
  let containers = 0
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]
    if (byte === quote) {
      at = endOfText(bytes, at)
    } else if (byte === 0x7b || byte === 0x5b) {
      depth += 1
      containers += 1
      if (depth > maxDepth) throw malformed('json', 'nested too deeply')
      if (containers > maxContainers) throw malformed('json', 'too many objects and arrays')
    } else if (byte === 0x7d || byte === 0x5d) {
      depth -= 1
    }
  }
}

/** Where the text ends that begins here: at its closing quote, found without looking at every byte. */
function endOfText(bytes: Buffer, start: number): number {
  let end = bytes.indexOf(quote, start + 1)
  while (end !== -1) {
    let escapes = 0
    while (bytes[end - 1 - escapes] === backslash) escapes += 1
    if (escapes % 2 === 0) return end
    end = bytes.indexOf(quote, end + 1)
  }
  return bytes.length
}

function malformed(form: BodyForm, fault: string, cause?: unknown): TrivetError {
  const name = form === 'json' ? 'JSON' : 'MessagePack'
  return new TrivetError('invalid-request', `The body is not ${name} that this route takes: ${fault}`, {
    field: 'body',
    cause,
  })
}

/** Bytes as the form carries them. */
export function carriedBytes(form: BodyForm, bytes: Uint8Array): string | Uint8Array {
  if (form === 'msgpack') return bytes
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** A 64-bit number as the form carries it. */
export function carriedCount(form: BodyForm, count: bigint): string | bigint {
  return form === 'msgpack' ? count : String(count)
}

/** About so much is encoded at a time. In bytes. */
const pieceBytes = 256 * 1024

/**
 * A whole answer of some fields and a list, `results`: what to send, one piece after another. Many results are encoded at once, which
 * costs a fraction of as many by themselves; few enough that no piece is much larger than its largest result.
 */
export function encodeAnswer(
  form: BodyForm,
  fields: Readonly<Record<string, unknown>>,
  results: readonly object[],
): readonly Buffer[] {
  const pieces: Buffer[] = []
  let start = 0
  let bytes = 0
  for (const [at, result] of results.entries()) {
    bytes += carriedSize(result)
    if (bytes < pieceBytes && at + 1 < results.length) continue
    pieces.push(encodeItems(form, results.slice(start, at + 1)))
    start = at + 1
    bytes = 0
  }
  if (form === 'msgpack') return [openMap(fields, results.length), ...pieces]
  const text = JSON.stringify(fields)
  const opening = text === '{}' ? '{' : `${text.slice(0, -1)},`
  const comma = Buffer.from(',')
  return [
    Buffer.from(`${opening}"results":[`),
    ...pieces.flatMap((piece, at) => (at === 0 ? [piece] : [comma, piece])),
    Buffer.from(']}'),
  ]
}

/** About what one result comes to, in bytes. */
export function carriedSize(result: object): number {
  const value: unknown = 'value' in result ? result.value : undefined
  return 100 + (typeof value === 'string' || value instanceof Uint8Array ? value.length : 0)
}

/** The items of a list, without what makes them one. */
function encodeItems(form: BodyForm, items: readonly object[]): Buffer {
  if (form === 'json') return Buffer.from(JSON.stringify(items).slice(1, -1))
  const list = packr.pack(items)
  return list.subarray(items.length < 16 ? 1 : items.length < 65_536 ? 3 : 5)
}

/** A map of the fields and of `results`, up to where the parts of that follow. */
function openMap(fields: Readonly<Record<string, unknown>>, count: number): Buffer {
  const entries = Object.entries(fields)
  const list = Buffer.alloc(5)
  list.writeUInt8(0xdd)
  list.writeUInt32BE(count, 1)
  return Buffer.concat([
    Buffer.of(0x80 | (entries.length + 1)),
    ...entries.flatMap(([name, value]) => [packr.pack(name), packr.pack(value)]),
    packr.pack('results'),
    list,
  ])
}
