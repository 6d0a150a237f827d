// A node's disk under a run's control: how much room is left on it, and how slow its syncs are.

import { execFile } from 'node:child_process'
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** The two numbers that `fixtures/disk-hook.c` has mapped into the node's memory. */
export class DiskControl {
  readonly path: string

  private constructor(path: string) {
    this.path = path
  }

  static async create(path: string): Promise<DiskControl> {
    const control = new DiskControl(path)
    await using file = await open(path, 'w+')
    await write(file, 0, -1)
    await write(file, 8, 0)
    return control
  }

  /** From now on this many bytes more can be written; undefined lifts that. */
  async setRoom(bytes: number | undefined): Promise<void> {
    await using file = await open(this.path, 'r+')
    await write(file, 0, bytes ?? -1)
  }

  /** Every sync takes this much longer from now on. */
  async setSyncDelay(ms: number): Promise<void> {
    await using file = await open(this.path, 'r+')
    await write(file, 8, ms * 1000)
  }
}

async function write(file: FileHandle, position: number, value: number): Promise<void> {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64LE(BigInt(Math.round(value)))
  await file.write(bytes, 0, 8, position)
}

export type DiskHook = { readonly path: string } | { readonly path: undefined; readonly reason: string }

/** Builds the library that stands between nodes and disks, in a directory of its own that goes with `stack`. */
export async function buildDiskHook(stack: AsyncDisposableStack): Promise<DiskHook> {
  if (process.platform !== 'linux') return { path: undefined, reason: 'they need Linux' }
  const directory = await mkdtemp(join(tmpdir(), 'trivet-chaos-hook-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  const path = join(directory, 'disk-hook.so')
  const source = join(import.meta.dirname, 'fixtures/disk-hook.c')
  try {
    await promisify(execFile)('cc', ['-shared', '-fPIC', '-O2', '-o', path, source, '-ldl'])
    return { path }
  } catch (error) {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    return {
      path: undefined,
      reason: isMissing ? 'there is no C compiler (cc)' : `cc failed: ${String(error)}`,
    }
  }
}
