// Other nodes' commands that wait for this one, while it leads, to propose them. They are proposed or refused, never passed on.

import type { ErrorCode } from '../errors.ts'
import type { MemberId } from '../raft/types.ts'
import { commandVersionOf, decodeCommand, isGrowing } from '../store/commands.ts'
import type { Command, CommandBatch } from '../store/types.ts'

type Forwarded = {
  readonly from: MemberId
  readonly attempt: number
  readonly batch: CommandBatch
  readonly bytes: number
}

/** Tells `to` that of this attempt these commands entered no log here and will not. */
export type Refuse = (to: MemberId, attempt: number, numbers: readonly number[], code: ErrorCode) => void

/** What a leader can take. */
type Leading = { readonly room: number; readonly maxVersion: number; readonly isFull: boolean }

export class ForwardedCommands {
  readonly #refuse: Refuse
  /** The latest attempt of each node that came here, with its boot: a copy of it, or an earlier one, is not looked at. */
  readonly #latest = new Map<MemberId, { readonly boot: number; readonly attempt: number }>()
  #waiting: Forwarded[] = []
  #bytes = 0

  constructor(refuse: Refuse) {
    this.#refuse = refuse
  }

  get bytes(): number {
    return this.#bytes
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0
  }

  /**
   * Takes what a node forwarded. `leading`: this node leads; it keeps `room` bytes at most, commands of no higher version
   * than `maxVersion`, and nothing that grows while `isFull`. Otherwise, or when a command cannot be applied, what was
   * sent is refused.
   */
  receive(
    from: MemberId,
    { attempt, batch }: { readonly attempt: number; readonly batch: CommandBatch },
    leading: Leading | undefined,
  ): void {
    if (!this.#isNews(from, batch.boot, attempt)) return
    if (leading === undefined) {
      this.#refuseAll({ from, attempt, batch }, 'no-leader')
      return
    }
    const codes = batch.commands.map(({ bytes }) => refusalOf(bytes, leading))
    const having = (code: ErrorCode | undefined) => batch.commands.filter((_, at) => codes[at] === code)
    for (const code of ['not-ready', 'storage-full'] as const) {
      const commands = having(code)
      if (commands.length > 0) this.#refuseAll({ from, attempt, batch: { ...batch, commands } }, code)
    }
    const commands = having(undefined)
    if (commands.length > 0) this.#keep({ from, attempt, batch: { ...batch, commands } }, leading.room)
  }

  #isNews(from: MemberId, boot: number, attempt: number): boolean {
    const latest = this.#latest.get(from)
    if (latest !== undefined && (boot < latest.boot || (boot === latest.boot && attempt <= latest.attempt)))
      return false
    this.#latest.set(from, { boot, attempt })
    return true
  }

  #keep(forwarded: Omit<Forwarded, 'bytes'>, room: number): void {
    const { batch } = forwarded
    const bytes = batchBytes(batch)
    // In the log a command that nobody can decode would stop every node that applies it.
    if (!batch.commands.every((command) => decoded(command.bytes) !== undefined))
      this.#refuseAll(forwarded, 'invalid-request')
    else if (bytes > room) this.#refuseAll(forwarded, 'overloaded')
    else {
      this.#waiting.push({ ...forwarded, bytes })
      this.#bytes += bytes
    }
  }

  /** Takes about `maxBytes` of what waits, to be proposed now; at least one batch if `maxBytes` is above zero. */
  take(maxBytes: number): readonly CommandBatch[] {
    let bytes = 0
    let taken = 0
    for (const forwarded of this.#waiting) {
      if (bytes + forwarded.bytes > maxBytes && (taken > 0 || maxBytes <= 0)) break
      bytes += forwarded.bytes
      taken++
    }
    this.#bytes -= bytes
    return this.#waiting.splice(0, taken).map(({ batch }) => batch)
  }

  #refuseAll({ from, attempt, batch }: Omit<Forwarded, 'bytes'>, code: ErrorCode): void {
    const numbers = batch.commands.map((command) => command.number)
    this.#refuse(from, attempt, numbers, code)
  }

  /** This node does not lead any more. */
  refuseAll(): void {
    const waiting = this.#waiting
    this.#waiting = []
    this.#bytes = 0
    for (const forwarded of waiting) this.#refuseAll(forwarded, 'no-leader')
  }
}

/** The bytes of a batch's commands. */
export function batchBytes(batch: CommandBatch): number {
  let bytes = 0
  for (const command of batch.commands) bytes += command.bytes.byteLength
  return bytes
}

/** Why a leader does not take a command, but for its size. */
function refusalOf(bytes: Uint8Array, { maxVersion, isFull }: Leading): ErrorCode | undefined {
  if ((commandVersionOf(bytes) ?? 0) > maxVersion) return 'not-ready'
  const command = isFull ? decoded(bytes) : undefined
  return command !== undefined && isGrowing(command) ? 'storage-full' : undefined
}

/** Undefined for bytes that are no command of this build's. */
function decoded(bytes: Uint8Array): Command | undefined {
  try {
    return decodeCommand(bytes)
  } catch {
    return undefined
  }
}
