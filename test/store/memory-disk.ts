// The disk's twin in memory: keeps, tears and loses what a real disk may, by a seed, and fails, fills and hangs on demand.
//
// A file has two contents: what reads return (the page cache) and what the platter holds. A write changes the first
// and a sync brings it to the second. Names are kept likewise: changes wait until their directory is synced.

import { dirname } from 'node:path'
import type { Disk, DiskFile, FileAccess } from '../../src/store/disk.ts'
import { isZero, MemoryFile } from './memory-file.ts'

export type DiskCall =
  | 'list'
  | 'makeDirectory'
  | 'open'
  | 'rename'
  | 'remove'
  | 'syncDirectory'
  | 'size'
  | 'read'
  | 'write'
  | 'sync'
  | 'close'

/** A file or a directory, whatever its name. */
type Node = { readonly type: 'directory' } | MemoryFile

/** One change to the names: a rename is one, so that it happens whole or not at all. */
type NameChange = readonly { readonly path: string; readonly node: Node | undefined }[]

type MemoryDiskOptions = {
  /** Decides what a loss of power takes, where writes tear, and in which order calls finish. */
  readonly seed: number
  /** Bytes that all files together may take. */
  readonly capacity?: number
  /** False makes every sync a lie: it resolves and nothing is durable. */
  readonly syncs?: boolean
  /** How long a call takes before it does anything; without it, a few turns. A write that is under way when all ends tears. */
  readonly pause?: (call: DiskCall, path: string) => Promise<void>
}

/** What changes the disk. A stop at any other call is the same as one at the change before it. */
const changes: ReadonlySet<DiskCall> = new Set([
  'makeDirectory',
  'open',
  'rename',
  'remove',
  'syncDirectory',
  'write',
  'sync',
])

type Hold = { readonly call: DiskCall; readonly released: Promise<void>; skip: number; count: number }

type Fault = { readonly call: DiskCall; readonly code: string; readonly path: string; skip: number }

export class MemoryDisk implements Disk {
  /** Calls begun since the start that change something, or open a file. */
  calls = 0
  capacity: number
  readonly #random: () => number
  readonly #syncs: boolean
  readonly #pause: MemoryDiskOptions['pause']
  /** What is left of the writes that have begun, should they go no further. */
  readonly #underWay = new Set<() => void>()
  #names = new Map<string, Node>([['/', { type: 'directory' }]])
  #durableNames = new Map(this.#names)
  #pendingNames: NameChange[] = []
  #faults: Fault[] = []
  #holds: Hold[] = []
  readonly #releases = new Set<() => void>()
  #astray: { readonly path: string; readonly state: 'ordered' | 'fresh' } | undefined
  #stopAt = Number.POSITIVE_INFINITY
  #stopped = false
  #onStop: () => void = () => {}
  /** Raised by every restart: handles and calls of an earlier life never come back. */
  #life = 0

  constructor(options: MemoryDiskOptions) {
    this.#random = seeded(options.seed)
    this.#syncs = options.syncs ?? true
    this.#pause = options.pause
    this.capacity = options.capacity ?? Number.POSITIVE_INFINITY
  }

  /**
   * Stops the process at a call, counted from now on as in `calls`: a write that is under way tears, nothing later happens, and no
   * call returns any more. Resolves when it has come to that.
   */
  stopAfter(calls: number): Promise<void> {
    this.#stopAt = this.calls + calls
    return new Promise((resolve) => {
      this.#onStop = resolve
    })
  }

  /** The process has been killed and begins anew: what it wrote is there, synced or not, if the cache has kept it. */
  crash(): void {
    this.#begin()
    for (const file of this.#files()) file.evict(() => this.#random() < 0.5)
  }

  /**
   * The machine has lost its power: of what was not synced, any sectors and any names may be missing. `keep` is the
   * chance for each; 0 loses all of it.
   */
  losePower(options: { readonly keep?: number } = {}): void {
    const keep = options.keep ?? this.#random()
    this.#begin()
    for (const change of this.#pendingNames) {
      if (this.#random() < keep) apply(this.#durableNames, change)
    }
    this.#pendingNames = []
    for (const path of [...this.#durableNames.keys()].sort()) {
      if (path !== '/' && !this.#durableNames.has(dirname(path))) this.#durableNames.delete(path)
    }
    this.#names = new Map(this.#durableNames)
    for (const file of this.#files()) file.losePower(() => this.#random() < keep)
  }

  /** The next such call on a path that contains `path` fails, after `skip` others. A failed sync gives up what was dirty. */
  fail(fault: { call: DiskCall; code: string; path?: string; skip?: number }): void {
    this.#faults.push({ call: fault.call, code: fault.code, path: fault.path ?? '', skip: fault.skip ?? 0 })
  }

  /** The next such calls, after `skip` others, hang before they do anything, until the returned function is called. */
  hold(call: DiskCall, options: { skip?: number; count?: number } = {}): () => void {
    const { promise, resolve } = Promise.withResolvers<void>()
    const { skip = 0, count = Number.POSITIVE_INFINITY } = options
    const hold = { call, released: promise, skip, count }
    this.#holds.push(hold)
    const release = () => {
      this.#holds = this.#holds.filter((other) => other !== hold)
      this.#releases.delete(release)
      resolve()
    }
    this.#releases.add(release)
    return release
  }

  /** From now on nothing fails or hangs that was to, and there is room for everything. */
  heal(): void {
    this.#faults = []
    for (const release of this.#releases) release()
    this.#releases.clear()
    this.capacity = Number.POSITIVE_INFINITY
  }

  /** Flips one bit of a file, on the platter and in the cache. */
  flip(path: string, bit: number): void {
    this.#file(path).flip(bit)
  }

  /** The files below a directory, by name. */
  filesBelow(directory: string): readonly string[] {
    const found = [...this.#names].filter(
      ([path, node]) => node.type === 'file' && path.startsWith(`${directory}/`),
    )
    return found.map(([path]) => path).sort()
  }

  /** Bytes that all files together take. */
  get used(): number {
    return this.#files().reduce((sum, file) => sum + file.length, 0)
  }

  /** Where the last durable write of anything but zeros began: what lies before it was acknowledged, and more after it. */
  lastDurable(path: string): number {
    return this.#file(path).lastDurable
  }

  /** The next write of anything but zeros to a path that contains `path` lands further to the front of the file, and succeeds. */
  misdirect(path: string): void {
    this.#astray = { path, state: 'ordered' }
  }

  /** A write is to go astray, or has and no other has followed it: a reader could not tell that it is missing. */
  get isAstray(): boolean {
    return this.#astray !== undefined
  }

  /** What a read would return of the whole file. */
  contents(path: string): Uint8Array {
    return this.#file(path).contents.slice()
  }

  list(directory: string): Promise<readonly string[]> {
    return this.#call('list', directory, () => {
      this.#expectDirectory(directory, 'list')
      const prefix = directory === '/' ? '/' : `${directory}/`
      const below = [...this.#names.keys()].filter((path) => path !== '/' && path.startsWith(prefix))
      return below.map((path) => path.slice(prefix.length)).filter((name) => !name.includes('/'))
    })
  }

  makeDirectory(directory: string): Promise<void> {
    return this.#call('makeDirectory', directory, () => {
      if (this.#names.get(directory)?.type === 'directory') return
      if (this.#names.has(directory)) throw failure('EEXIST', 'makeDirectory', directory)
      this.#change('makeDirectory', [{ path: directory, node: { type: 'directory' } }])
    })
  }

  open(path: string, how: FileAccess): Promise<DiskFile> {
    return this.#call('open', path, () => {
      const there = this.#names.get(path)
      if (how.access === 'create') {
        if (there !== undefined) throw failure('EEXIST', 'open', path)
        const node = new MemoryFile()
        this.#change('open', [{ path, node }])
        return this.#handle(path, node, how)
      }
      if (there === undefined) throw failure('ENOENT', 'open', path)
      if (there.type === 'directory') throw failure('EISDIR', 'open', path)
      return this.#handle(path, there, how)
    })
  }

  rename(from: string, to: string): Promise<void> {
    return this.#call('rename', from, () => {
      const node = this.#names.get(from)
      if (node === undefined) throw failure('ENOENT', 'rename', from)
      if (node.type === 'directory' && this.#names.has(to)) throw failure('ENOTEMPTY', 'rename', to)
      // What is in a directory goes with it.
      const children = node.type === 'directory' ? this.#below(from) : []
      this.#change('rename', [
        { path: from, node: undefined },
        { path: to, node },
        ...children.map((path) => ({ path, node: undefined })),
        ...children.map((path) => ({ path: to + path.slice(from.length), node: this.#names.get(path) })),
      ])
    })
  }

  remove(path: string): Promise<void> {
    return this.#call('remove', path, () => {
      this.#file(path)
      this.#change('remove', [{ path, node: undefined }])
    })
  }

  removeDirectory(directory: string): Promise<void> {
    return this.#call('remove', directory, () => {
      for (const path of [...this.#below(directory), directory].sort().reverse()) {
        if (this.#names.has(path)) this.#change('remove', [{ path, node: undefined }])
      }
    })
  }

  hasDirectory(path: string): boolean {
    return this.#names.get(path)?.type === 'directory'
  }

  /** Stands for the directory under a path: another object once it has been removed and made again. */
  directoryAt(path: string): object {
    const node = this.#names.get(path)
    if (node?.type !== 'directory') throw failure('ENOENT', 'list', path)
    return node
  }

  syncDirectory(directory: string): Promise<void> {
    return this.#call('syncDirectory', directory, () => {
      this.#expectDirectory(directory, 'syncDirectory')
      if (!this.#syncs) return
      const pending = this.#pendingNames
      // Those after the second are in a directory that moved: they are durable with its name.
      const settles = (change: NameChange) =>
        change.slice(0, 2).some(({ path }) => dirname(path) === directory)
      this.#pendingNames = pending.filter((change, at) => {
        if (!settles(change)) {
          // What became of names in a directory before it moved is part of the move.
          return !pending.slice(at + 1).some((later) => settles(later) && hasMoved(later, change))
        }
        apply(this.#durableNames, change)
        return false
      })
    })
  }

  #handle(path: string, node: MemoryFile, how: FileAccess): DiskFile {
    const life = this.#life
    let open = true
    const call = <T>(name: DiskCall, run: () => T, torn?: () => void): Promise<T> => {
      if (life !== this.#life) return new Promise(() => {})
      if (!open) return Promise.reject(failure('EBADF', name, path))
      return this.#call(name, path, run, torn)
    }
    return {
      size: () => call('size', () => node.length),
      read: (position, into) =>
        call('read', () => {
          const bytes = node.contents.subarray(position, position + into.length)
          into.set(bytes)
          return bytes.length
        }),
      write: (position, bytes) => {
        if (how.access === 'read') return Promise.reject(failure('EBADF', 'write', path))
        const torn = () => this.#tear(node, position, bytes)
        return call('write', () => this.#write(path, node, { position, bytes, durable: how.durable }), torn)
      },
      sync: () =>
        call('sync', () => {
          this.#failSync('sync', path, node)
          if (this.#syncs) node.sync()
        }),
      close: () =>
        call('close', () => {
          open = false
        }),
    }
  }

  /** Runs a call after what may come before it: a hold, a while, a fault, the end of the process. */
  async #call<T>(call: DiskCall, path: string, run: () => T, torn = () => {}): Promise<T> {
    const life = this.#life
    if (changes.has(call)) this.calls += 1
    if (this.#stopped) return new Promise<never>(() => {})
    if (changes.has(call) && this.calls >= this.#stopAt) {
      this.#stopped = true
      torn()
      this.#onStop()
      return new Promise<never>(() => {})
    }
    if (this.#pause !== undefined) this.#underWay.add(torn)
    await this.#held(call)
    if (this.#pause !== undefined) await this.#pause(call, path)
    else for (let turns = Math.floor(this.#random() * 3); turns > 0; turns--) await undefined
    this.#underWay.delete(torn)
    if (this.#stopped || life !== this.#life) return new Promise<never>(() => {})
    // A sync fails where it is carried out, for some are part of a write.
    const code = call === 'sync' ? undefined : this.#takeFault(call, path)
    if (code !== undefined) {
      torn()
      throw failure(code, call, path)
    }
    const result = run()
    await undefined
    if (this.#stopped || life !== this.#life) return new Promise<never>(() => {})
    return result
  }

  #held(call: DiskCall): Promise<void> | undefined {
    for (const hold of this.#holds) {
      if (hold.call !== call || hold.count === 0) continue
      if (hold.skip === 0) {
        hold.count -= 1
        return hold.released
      }
      hold.skip -= 1
    }
    return undefined
  }

  #takeFault(call: DiskCall, path: string): string | undefined {
    for (const fault of this.#faults) {
      if (fault.call !== call || !path.includes(fault.path)) continue
      if (fault.skip > 0) {
        fault.skip -= 1
        continue
      }
      this.#faults = this.#faults.filter((other) => other !== fault)
      return fault.code
    }
    return undefined
  }

  #write(
    path: string,
    node: MemoryFile,
    { position, bytes, durable }: { position: number; bytes: Uint8Array; durable: boolean | undefined },
  ): void {
    const growth = Math.max(0, position + bytes.length - node.length)
    const room = this.capacity === Number.POSITIVE_INFINITY ? growth : Math.max(0, this.capacity - this.used)
    if (growth > room) {
      node.write(position, bytes.subarray(0, Math.max(0, bytes.length - (growth - room))))
      throw failure('ENOSPC', 'write', path)
    }
    const at = this.#astray === undefined ? position : this.#whereTo(path, { position, bytes })
    node.write(at, bytes)
    if (durable !== true) return
    this.#failSync('write', path, node)
    if (this.#syncs) node.syncRange(at, bytes.length)
  }

  #whereTo(path: string, { position, bytes }: { position: number; bytes: Uint8Array }): number {
    if (isZero(bytes)) return position
    if (this.#astray?.path === path && this.#astray.state === 'fresh') this.#astray = undefined
    if (this.#astray?.state !== 'ordered' || position === 0 || !path.includes(this.#astray.path))
      return position
    this.#astray = { path, state: 'fresh' }
    return Math.floor((this.#random() * position) / 512) * 512
  }

  #failSync(call: DiskCall, path: string, node: MemoryFile): void {
    const code = this.#takeFault('sync', path)
    if (code === undefined) return
    node.giveUp()
    throw failure(code, call, path)
  }

  /** A write that the end of the process met, or an error: any part from its front on is in the cache. */
  #tear(node: MemoryFile, position: number, bytes: Uint8Array): void {
    const end = this.#random() < 0.3 ? bytes.length : Math.floor(this.#random() * (bytes.length + 1))
    node.write(position, bytes.subarray(0, end))
  }

  #begin(): void {
    this.#life += 1
    for (const torn of this.#underWay) if (this.#random() < 0.5) torn()
    this.#underWay.clear()
    this.#stopped = false
    this.#stopAt = Number.POSITIVE_INFINITY
    this.#faults = []
    this.#holds = []
    this.#astray = undefined
  }

  #change(call: DiskCall, change: NameChange): void {
    for (const { path } of change.slice(0, 2)) this.#expectDirectory(dirname(path), call)
    apply(this.#names, change)
    this.#pendingNames.push(change)
  }

  #expectDirectory(path: string, call: DiskCall): void {
    if (this.#names.get(path)?.type !== 'directory') throw failure('ENOENT', call, path)
  }

  #below(directory: string): string[] {
    return [...this.#names.keys()].filter((path) => path.startsWith(`${directory}/`))
  }

  #file(path: string): MemoryFile {
    const node = this.#names.get(path)
    if (node?.type !== 'file') throw failure('ENOENT', 'open', path)
    return node
  }

  #files(): MemoryFile[] {
    const nodes = new Set([...this.#names.values(), ...this.#durableNames.values()])
    return [...nodes].filter((node) => node.type === 'file')
  }
}

function apply(names: Map<string, Node>, change: NameChange): void {
  for (const { path, node } of change) {
    if (node === undefined) names.delete(path)
    else names.set(path, node)
  }
}

/** Whether one change is about a name in a directory that the other moved. */
function hasMoved([from, to]: NameChange, change: NameChange): boolean {
  if (from === undefined || from.node !== undefined || to?.node?.type !== 'directory') return false
  return change.some(({ path }) => path.startsWith(`${from.path}/`))
}

function failure(code: string, call: DiskCall, path: string): Error {
  return Object.assign(new Error(`${code}: ${call} ${path}`), { code })
}

/** A small generator of numbers from 0 to 1 that a seed fixes (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
