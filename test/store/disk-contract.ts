// What the log relies on in a disk, as tests that run on every implementation.

import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Disk } from '../../src/store/disk.ts'

/** Runs the contract; `make` resolves to a disk and an empty directory on it. */
export function diskContract(name: string, make: () => Promise<{ disk: Disk; directory: string }>): void {
  const bytes = (text: string) => Buffer.from(text)

  async function contents(disk: Disk, path: string): Promise<string> {
    const file = await disk.open(path, { access: 'read' })
    const into = Buffer.alloc(await file.size())
    const found = await file.read(0, into)
    await file.close()
    return into.subarray(0, found).toString()
  }

  async function put(disk: Disk, path: string, text: string): Promise<void> {
    const file = await disk.open(path, { access: 'create' })
    await file.write(0, bytes(text))
    await file.close()
  }

  describe(`the contract of ${name}`, () => {
    it('reads back what was written, before any sync', async () => {
      const { disk, directory } = await make()
      await put(disk, join(directory, 'a'), 'hello')
      expect(await contents(disk, join(directory, 'a'))).toBe('hello')
    })

    it('writes at a position, over bytes and past the end, with zeros between', async () => {
      const { disk, directory } = await make()
      const file = await disk.open(join(directory, 'a'), { access: 'create' })
      await file.write(0, bytes('abcdef'))
      await file.write(2, bytes('XY'))
      await file.write(8, bytes('z'))
      expect(await file.size()).toBe(9)
      await file.close()
      expect(await contents(disk, join(directory, 'a'))).toBe('abXYef\0\0z')
    })

    it('reads fewer bytes only at the end of the file', async () => {
      const { disk, directory } = await make()
      await put(disk, join(directory, 'a'), 'abcdef')
      const file = await disk.open(join(directory, 'a'), { access: 'read' })
      const into = Buffer.alloc(4)
      expect(await file.read(1, into)).toBe(4)
      expect(into.toString()).toBe('bcde')
      expect(await file.read(4, into)).toBe(2)
      expect(into.subarray(0, 2).toString()).toBe('ef')
      expect(await file.read(100, into)).toBe(0)
      await file.close()
    })

    it('syncs a file, and its durable writes one by one', async () => {
      const { disk, directory } = await make()
      const file = await disk.open(join(directory, 'a'), { access: 'create' })
      await file.write(0, bytes('one '))
      await file.sync()
      await file.close()
      const again = await disk.open(join(directory, 'a'), { access: 'write', durable: true })
      await again.write(4, bytes('two'))
      await again.close()
      await disk.syncDirectory(directory)
      expect(await contents(disk, join(directory, 'a'))).toBe('one two')
    })

    it('takes overlapping calls on one file', async () => {
      const { disk, directory } = await make()
      const file = await disk.open(join(directory, 'a'), { access: 'create', durable: true })
      await Promise.all([0, 1, 2, 3, 4, 5].map((at) => file.write(at * 2, bytes(`${at}.`))))
      await file.close()
      expect(await contents(disk, join(directory, 'a'))).toBe('0.1.2.3.4.5.')
    })

    it('lists names, and makes a directory that may be there already', async () => {
      const { disk, directory } = await make()
      await disk.makeDirectory(join(directory, 'log'))
      await disk.makeDirectory(join(directory, 'log'))
      await put(disk, join(directory, 'log', 'b'), '')
      await put(disk, join(directory, 'a'), '')
      expect([...(await disk.list(directory))].sort()).toEqual(['a', 'log'])
      expect(await disk.list(join(directory, 'log'))).toEqual(['b'])
    })

    it('renames over a file, in place, and keeps its handles', async () => {
      const { disk, directory } = await make()
      await put(disk, join(directory, 'old'), 'old')
      const file = await disk.open(join(directory, 'new'), { access: 'create' })
      await file.write(0, bytes('new'))
      await disk.rename(join(directory, 'new'), join(directory, 'old'))
      await file.write(3, bytes('er'))
      await file.close()
      expect(await disk.list(directory)).toEqual(['old'])
      expect(await contents(disk, join(directory, 'old'))).toBe('newer')
    })

    it('moves a directory with what is in it, and removes one with what is in it', async () => {
      const { disk, directory } = await make()
      const old = join(directory, 'old')
      await disk.makeDirectory(old)
      await disk.makeDirectory(join(old, 'inner'))
      await put(disk, join(old, 'inner', 'a'), 'a')
      await disk.rename(old, join(directory, 'new'))
      expect(await disk.list(directory)).toEqual(['new'])
      expect(await contents(disk, join(directory, 'new', 'inner', 'a'))).toBe('a')
      await disk.removeDirectory(join(directory, 'new'))
      expect(await disk.list(directory)).toEqual([])
      await disk.removeDirectory(join(directory, 'new'))
    })

    it('removes a file', async () => {
      const { disk, directory } = await make()
      await put(disk, join(directory, 'a'), 'a')
      await disk.remove(join(directory, 'a'))
      expect(await disk.list(directory)).toEqual([])
    })

    it('names what is wrong by code', async () => {
      const { disk, directory } = await make()
      const absent = join(directory, 'absent')
      await put(disk, join(directory, 'a'), 'a')
      const code = (code: string) => expect.objectContaining({ code })
      await expect(disk.open(absent, { access: 'read' })).rejects.toEqual(code('ENOENT'))
      await expect(disk.open(absent, { access: 'write' })).rejects.toEqual(code('ENOENT'))
      await expect(disk.open(join(directory, 'a'), { access: 'create' })).rejects.toEqual(code('EEXIST'))
      await expect(disk.list(absent)).rejects.toEqual(code('ENOENT'))
      await expect(disk.remove(absent)).rejects.toEqual(code('ENOENT'))
      await expect(disk.rename(absent, join(directory, 'b'))).rejects.toEqual(code('ENOENT'))
      await expect(disk.syncDirectory(absent)).rejects.toEqual(code('ENOENT'))
      await expect(disk.makeDirectory(join(absent, 'log'))).rejects.toEqual(code('ENOENT'))
      const file = await disk.open(join(directory, 'a'), { access: 'read' })
      await expect(file.write(0, bytes('b'))).rejects.toEqual(code('EBADF'))
      await file.close()
    })
  })
}
