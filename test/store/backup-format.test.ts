// A backup as bytes: what was written is read again, however it arrives, and nothing that is not whole passes for one.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { TrivetError } from '../../src/errors.ts'
import {
  BackupDigest,
  type BackupHeader,
  type BackupRow,
  chunkBytes,
  decodeBackup,
  decodeHeader,
  decodeRows,
  encodeBackup,
  placeOfRow,
} from '../../src/store/backup-format.ts'
import type { Token } from '../../src/store/types.ts'

const hash = 'h'.repeat(43)
const tokens: readonly Token[] = [
  { name: 'admin', hash, principal: { type: 'admin' } },
  { name: 'metrics', hash, principal: { type: 'monitor' }, expires: 7 },
  {
    name: 'cart',
    hash,
    principal: { type: 'component', grants: [{ store: 'carts', access: 'read', prefix: 'a/' }], mint: true },
    replaced: true,
  },
  {
    name: 'bot',
    hash,
    principal: { type: 'app', app: 'todo', holder: { type: 'bot', id: 'b1' } },
    mintedBy: 'cart',
  },
]

const header: BackupHeader = {
  cluster: 'dev',
  clusterId: '0'.repeat(32),
  revision: 9,
  time: 1_700_000_000_000,
  stores: [
    { name: 'default', keys: 2, bytes: 30 },
    { name: 'carts', ttl: 1000, maxValueBytes: 64, keys: 0, bytes: 0 },
  ],
  tokens,
}

const rowArbitrary: fc.Arbitrary<BackupRow> = fc.record({
  store: fc.nat(3),
  key: fc.uint8Array({ minLength: 1, maxLength: 40 }),
  value: fc.uint8Array({ maxLength: 300 }),
  contentType: fc.constantFrom('text/plain', 'application/octet-stream'),
  revision: fc.maxSafeNat().map((one) => one % 2 ** 48),
  createdRevision: fc.nat(),
  expires: fc.option(fc.integer({ min: 1, max: 2 ** 48 - 1 }), { nil: undefined }),
})

async function* rowsOf(rows: readonly BackupRow[]): AsyncGenerator<BackupRow> {
  yield* rows
}

async function written(rows: readonly BackupRow[]): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of encodeBackup(header, rowsOf(rows))) chunks.push(chunk)
  return Buffer.concat(chunks)
}

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function read(chunks: AsyncIterable<Uint8Array>) {
  const rows: BackupRow[] = []
  let digest = new BackupDigest(undefined)
  let found: BackupHeader | undefined
  for await (const part of decodeBackup(chunks)) {
    if (part.type === 'header') {
      found = decodeHeader(part.bytes)
      digest = BackupDigest.begin(part.bytes)
    } else if (part.type === 'rows') {
      for (const { row, bytes } of decodeRows(part.bytes)) {
        digest.add(placeOfRow(row), bytes)
        rows.push(row)
      }
    } else {
      return { header: found, rows, agrees: part.digest === digest.hex && part.rows === rows.length }
    }
  }
  throw new Error('a backup without an end was read to its end')
}

function plain(row: BackupRow) {
  return { ...row, key: Buffer.from(row.key).toString('hex'), value: Buffer.from(row.value).toString('hex') }
}

describe('a backup', () => {
  it('is read as it was written, in whatever pieces it arrives', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(rowArbitrary, { maxLength: 20 }),
        fc.integer({ min: 1, max: 4096 }),
        async (rows, size) => {
          const found = await read(inPieces(await written(rows), size))
          expect(found.header).toEqual(header)
          expect(found.rows.map(plain)).toEqual(rows.map(plain))
          expect(found.agrees).toBe(true)
        },
      ),
      { numRuns: 60 },
    )
  })

  it('travels in chunks of at most 1 MiB, but for a row that is larger', async () => {
    const row = { store: 0, contentType: 'a/b', revision: 1, createdRevision: 1, expires: undefined }
    const sizes = [600_000, 600_000, 3_000_000, 10, 400_000]
    const rows = sizes.map((size, at) => ({
      ...row,
      key: Buffer.from(`k${at}`),
      value: Buffer.alloc(size, at),
    }))
    const lengths: number[] = []
    for await (const part of decodeBackup(inPieces(await written(rows), 64 * 1024))) {
      if (part.type === 'rows') lengths.push([...decodeRows(part.bytes)].length)
      if (part.type === 'rows' && part.bytes.length > chunkBytes) expect(lengths.at(-1)).toBe(1)
    }
    expect(lengths).toEqual([1, 1, 1, 2])
  })

  it('is refused when it is cut anywhere, or any bit of it is flipped', async () => {
    const rows = fc.sample(rowArbitrary, { numRuns: 3, seed: 4 })
    const bytes = await written(rows)
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.option(fc.nat(7)), async (at, bit) => {
        const broken = Buffer.from(bit === null ? bytes.subarray(0, at) : bytes)
        if (bit !== null) broken.writeUInt8(broken.readUInt8(at) ^ (1 << bit), at)
        const error = await read(inPieces(broken, 1000)).then(
          () => undefined,
          (reason: unknown) => reason,
        )
        expect(error).toBeInstanceOf(TrivetError)
        expect(error).toMatchObject({ code: 'invalid-request' })
      }),
      { numRuns: 300 },
    )
  })

  it('is refused when something follows its end', async () => {
    const more = Buffer.concat([await written([]), Buffer.of(0)])
    await expect(read(inPieces(more, 100))).rejects.toThrow(/something follows its end/)
  })
})
