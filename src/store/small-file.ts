// Small files of JSON that people can read: replaced as a whole, durable, and known to be what was written.

import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import type { Disk } from './disk.ts'
import { hasCode } from './disk.ts'

/** Replaces the file; old or new is there after a stop at any point, and the new one once it has resolved. */
export async function writeSmallFile(disk: Disk, path: string, value: object): Promise<void> {
  const unnamed = `${path}.new`
  await disk.remove(unnamed).catch((error: unknown) => {
    if (!hasCode(error, 'ENOENT')) throw error
  })
  const file = await disk.open(unnamed, { access: 'create', durable: true })
  try {
    await file.write(
      0,
      Buffer.from(`${JSON.stringify({ ...value, crc32: checksum(value) }, undefined, 2)}\n`),
    )
  } finally {
    await file.close()
  }
  await disk.rename(unnamed, path)
  await disk.syncDirectory(dirname(path))
}

/** `absent` when there is no such file, `damaged` when it is not what was written. */
export async function readSmallFile(disk: Disk, path: string): Promise<object | 'absent' | 'damaged'> {
  let bytes: Buffer
  try {
    const file = await disk.open(path, { access: 'read' })
    try {
      bytes = Buffer.alloc(await file.size())
      await file.read(0, bytes)
    } finally {
      await file.close()
    }
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 'absent'
    throw error
  }
  try {
    const { crc32: sum, ...value } = JSON.parse(bytes.toString())
    return sum === checksum(value) ? value : 'damaged'
  } catch {
    // No JSON, so not what was written.
    return 'damaged'
  }
}

/** Removes the file, durably; none there is fine. */
export async function removeSmallFile(disk: Disk, path: string): Promise<void> {
  await disk.remove(path).catch((error: unknown) => {
    if (!hasCode(error, 'ENOENT')) throw error
  })
  await disk.syncDirectory(dirname(path))
}

function checksum(value: object): string {
  return crc32(JSON.stringify(value)).toString(16).padStart(8, '0')
}
