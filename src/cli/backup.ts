// `trivet backup` and `trivet restore`: all that a cluster holds, as a file that is checked whenever it is touched.

import { createReadStream } from 'node:fs'
import { rename, stat } from 'node:fs/promises'
import type { Command } from 'commander'

import {
  BackupDigest,
  type BackupHeader,
  damagedBackup,
  decodeBackup,
  decodeHeader,
  decodeRows,
  placeOfRow,
} from '../store/backup-format.ts'
import { bodyOf, chunksOf, openStream } from './asking.ts'
import { connectionOf, example, print, withConnection } from './command.ts'
import type { ConnectionOptions } from './connection.ts'
import { FileTarget } from './file-target.ts'
import { bytesText, keysText, type Progress, progressOfCommand } from './progress.ts'

type BackupOptions = ConnectionOptions & { readonly json?: true }

/** Adds `backup` and `restore`. */
export function addBackupCommands(program: Command): void {
  withConnection(program.command('backup'), '60s')
    .argument('<file>', 'where to write')
    .summary('write all that the cluster holds to a file')
    .description(
      'Writes stores, keys with their revisions and expiries, and the hashes of tokens to a file, all as of one revision. The file ' +
        'appears once it is whole and agrees with its digest; until then it is FILE.partial.',
    )
    .addHelpText('after', example('backup trivet-2026-11-22.backup'))
    .action((file: string, options: BackupOptions) =>
      withProgress(async (progress) => {
        const connection = await connectionOf(options)
        const answer = await openStream(connection, { method: 'GET', path: '/v1/backup', effect: 'none' })
        const partial = `${file}.partial`
        await using target = await FileTarget.open(partial, 0)
        const content = await check(keeping(chunksOf(answer), target), { verb: 'saved', progress })
        await target.close()
        await rename(partial, file)
        progress.end()
        const { revision, keys, digest } = content
        print(
          options,
          { revision, keys, digest },
          `${keysText(keys)} as of revision ${revision}, digest ${digest}`,
        )
      }),
    )

  withConnection(program.command('restore'), '60s')
    .argument('<file>', 'what "trivet backup" has written')
    .summary('bring a backup into a cluster that has no keys')
    .description(
      'Checks a backup, sends it to a cluster that has no keys, and brings stores, keys and tokens in, all at once at the end. The ' +
        "cluster's own tokens stay too. Interrupted, it leaves nothing behind.",
    )
    .addHelpText('after', example('restore trivet-2026-11-22.backup --endpoint http://10.0.0.1:7001'))
    .action((file: string, options: BackupOptions) =>
      withProgress(async (progress) => {
        const connection = await connectionOf(options)
        const { keys, digest } = await check(createReadStream(file), { verb: 'checked', progress })
        const { size } = await stat(file)
        const answer = await openStream(connection, {
          method: 'POST',
          path: '/v1/restore',
          headers: { 'Content-Type': 'application/octet-stream' },
          body: () => counting(createReadStream(file), { size, progress }),
          effect: 'unguarded',
        })
        const body = bodyOf(await answer.response.text(), answer.endpoint)
        progress.end()
        if (body['digest'] !== digest) {
          throw new Error(`The cluster says digest ${String(body['digest'])}, and the file has ${digest}.`)
        }
        print(
          options,
          body,
          `restored ${keysText(keys)}, revision ${String(body['revision'])}, digest ${digest}`,
        )
      }),
    )
}

async function withProgress(work: (progress: Progress) => Promise<void>): Promise<void> {
  const progress = progressOfCommand()
  try {
    await work(progress)
  } finally {
    progress.end()
  }
}

async function* keeping(chunks: AsyncIterable<Uint8Array>, target: FileTarget): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    await target.write(chunk)
    yield chunk
  }
}

async function* counting(
  chunks: AsyncIterable<Uint8Array>,
  { size, progress }: { readonly size: number; readonly progress: Progress },
): AsyncGenerator<Uint8Array> {
  let bytes = 0
  for await (const chunk of chunks) {
    yield chunk
    bytes += chunk.length
    progress.show(`sent ${bytesText(bytes)} of ${bytesText(size)}`, bytes / size)
  }
}

type Content = { readonly revision: number; readonly keys: number; readonly digest: string }

/** Reads a whole backup and rejects unless it agrees with its own digest. */
async function check(
  chunks: AsyncIterable<Uint8Array>,
  { verb, progress }: { readonly verb: string; readonly progress: Progress },
): Promise<Content> {
  let header: BackupHeader | undefined
  let digest = new BackupDigest(undefined)
  let keys = 0
  let bytes = 0
  for await (const part of decodeBackup(chunks)) {
    if (part.type === 'header') {
      header = decodeHeader(part.bytes)
      digest = BackupDigest.begin(part.bytes)
    } else if (part.type === 'rows') {
      for (const { row, bytes: own } of decodeRows(part.bytes)) {
        digest.add(placeOfRow(row), own)
        keys += 1
      }
      bytes += part.bytes.length
      const all = header?.stores.reduce((sum, store) => sum + store.keys, 0) ?? 0
      progress.show(`${verb} ${keysText(keys)}, ${bytesText(bytes)}`, all === 0 ? undefined : keys / all)
    } else if (part.rows !== keys || part.digest !== digest.hex) {
      throw damagedBackup(`its ${keys} rows come to ${digest.hex}; it says ${part.rows} and ${part.digest}`)
    }
  }
  return { revision: header?.revision ?? 0, keys, digest: digest.hex }
}
