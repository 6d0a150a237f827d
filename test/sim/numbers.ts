// Numbers that nodes give, each for one thing: commands in the log and questions to a leader.

import type { Entry } from '../../src/raft/types.ts'
import { decodeEntryData } from '../../src/store/commands.ts'

export class Numbers {
  readonly #commands = new Set<string>()
  /** `member/read id` → the run of its node that asked under it. */
  readonly #questions = new Map<string, object | undefined>()
  #repeats = 0

  /** Commands that came into the log once more. */
  get repeats(): number {
    return this.#repeats
  }

  /** An entry is committed. */
  logged(entry: Entry): void {
    if (entry.type !== 'commands') return
    for (const { peer, boot, commands } of decodeEntryData(entry.data).batches) {
      for (const { number } of commands) {
        const id = `${peer}/${boot}/${number}`
        if (this.#commands.has(id)) this.#repeats += 1
        this.#commands.add(id)
      }
    }
  }

  /** A run of a member's node asks. False when an earlier run asked under this id. */
  asked(member: string, id: number, run: object | undefined): boolean {
    const question = `${member}/${id}`
    const isFresh = !this.#questions.has(question) || this.#questions.get(question) === run
    this.#questions.set(question, run)
    return isFresh
  }
}
