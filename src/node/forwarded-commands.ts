// Other nodes' commands that wait for this one, while it leads, to propose them. They are proposed or refused, never passed on.

import type { ErrorCode } from '../errors.ts'
import type { MemberId } from '../raft/types.ts'
import { decodeCommand } from '../store/commands.ts'
import type { CommandBatch } from '../store/types.ts'

type Forwarded = { readonly from: MemberId; readonly batch: CommandBatch; readonly bytes: number }

export class ForwardedCommands {
  readonly #refuse: (to: MemberId, numbers: readonly number[], code: ErrorCode) => void
  #waiting: Forwarded[] = []
  #bytes = 0

  /** `refuse` tells the sender that these of its commands entered no log here. */
  constructor(refuse: (to: MemberId, numbers: readonly number[], code: ErrorCode) => void) {
    this.#refuse = refuse
  }

  get bytes(): number {
    return this.#bytes
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0
  }

  /** Keeps a batch if at most `room` bytes are asked for and every command in it can be applied. */
  add(from: MemberId, batch: CommandBatch, room: number): void {
    const bytes = batchBytes(batch)
    // In the log a command that nobody can decode would stop every node that applies it.
    if (!batch.commands.every((command) => isCommand(command.bytes)))
      this.refuse(from, batch, 'invalid-request')
    else if (bytes > room) this.refuse(from, batch, 'overloaded')
    else {
      this.#waiting.push({ from, batch, bytes })
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

  refuse(to: MemberId, batch: CommandBatch, code: ErrorCode): void {
    this.#refuse(
      to,
      batch.commands.map((command) => command.number),
      code,
    )
  }

  /** This node does not lead any more. */
  refuseAll(): void {
    const waiting = this.#waiting
    this.#waiting = []
    this.#bytes = 0
    for (const { from, batch } of waiting) this.refuse(from, batch, 'no-leader')
  }
}

/** The bytes of a batch's commands. */
export function batchBytes(batch: CommandBatch): number {
  let bytes = 0
  for (const command of batch.commands) bytes += command.bytes.byteLength
  return bytes
}

function isCommand(bytes: Uint8Array): boolean {
  try {
    decodeCommand(bytes)
    return true
  } catch {
    return false
  }
}
