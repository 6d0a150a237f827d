// Backups of a node that keeps its state in memory: the same bytes, taken and brought in as a cluster does.

import { TrivetError } from '../../src/errors.ts'
import {
  BackupDigest,
  type BackupHeader,
  type BackupRow,
  damagedBackup,
  decodeBackup,
  decodeHeader,
  decodeRows,
  encodeBackup,
  placeOfRow,
} from '../../src/store/backup-format.ts'
import type { MemoryState } from './memory-node.ts'

export function backupOf(state: MemoryState): AsyncGenerator<Uint8Array, void> {
  const stores = state.stores()
  const header: BackupHeader = {
    cluster: 'dev',
    clusterId: state.clusterId,
    revision: state.revision,
    time: 0,
    stores: stores.map(({ number: _, ...rest }) => rest),
    tokens: state.tokens(),
  }
  async function* rows(): AsyncGenerator<BackupRow> {
    for (const [at, { name }] of stores.entries()) {
      const { items } = await state.list({
        store: name,
        limit: Number.MAX_SAFE_INTEGER,
        maxBytes: Number.MAX_SAFE_INTEGER,
      })
      for (const item of items) yield { store: at, ...item }
    }
  }
  return encodeBackup(header, rows())
}

export async function restoreInto(state: MemoryState, chunks: AsyncIterable<Uint8Array>) {
  if (state.stores().some(({ keys }) => keys > 0)) {
    throw new TrivetError('condition-failed', 'A backup is restored only into a cluster without keys')
  }
  let header: BackupHeader | undefined
  let digest = new BackupDigest(undefined)
  const rows: BackupRow[] = []
  for await (const part of decodeBackup(chunks)) {
    if (part.type === 'header') {
      header = decodeHeader(part.bytes)
      digest = BackupDigest.begin(part.bytes)
    } else if (part.type === 'rows') {
      for (const { row, bytes } of decodeRows(part.bytes)) {
        digest.add(placeOfRow(row), bytes)
        rows.push(row)
      }
    } else if (part.digest !== digest.hex || part.rows !== rows.length)
      throw damagedBackup('it does not agree')
  }
  for (const { name, ttl, maxValueBytes } of header?.stores ?? []) {
    state.addStore({
      name,
      ...(ttl === undefined ? {} : { ttl }),
      ...(maxValueBytes === undefined ? {} : { maxValueBytes }),
    })
  }
  for (const token of header?.tokens ?? []) state.addToken(token)
  for (const { store, ...item } of rows) {
    const { name = '' } = header?.stores[store] ?? {}
    state.keyspaces.get(name)?.items.set(Buffer.from(item.key).toString('latin1'), item)
  }
  state.revision = Math.max(state.revision + 1, header?.revision ?? 0)
  return { revision: state.revision, digest: digest.hex }
}
