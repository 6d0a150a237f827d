// A wish about the members on its way from the node that was asked to whoever leads, until it is committed or refused.

import { TrivetError } from '../errors.ts'
import type { MemberId } from '../raft/types.ts'
import type { Wish } from './membership.ts'
import type { ChangeAnswer } from './membership-keeper.ts'
import type { WaitOptions } from './surface.ts'
import type { Answer, Question } from './transport.ts'

export type MemberRequestPorts = {
  readonly self: MemberId
  readonly now: () => number
  readonly leader: () => MemberId | undefined
  /** Has this node see to the wish, if it leads. */
  readonly change: (
    wish: Wish,
    options: { readonly again: boolean; readonly deadline: number },
  ) => Promise<ChangeAnswer>
  readonly ask: (peer: MemberId, question: Question, signal: AbortSignal) => Promise<Answer>
  /** A signal that aborts after so many milliseconds. */
  readonly timeout: (ms: number) => AbortSignal
  /** Resolves with the next change of role, term or leader, or after `ms`. */
  readonly statusChange: (ms: number) => Promise<void>
}

const retryAfterMs = 50

/**
 * Resolves with the index of the configuration that fulfils the wish, once that is committed. Rejects with the leader's
 * refusal, with `no-leader` when nothing can have been appended, or with `outcome-unknown`.
 */
export async function requestChange(
  wish: Wish,
  options: WaitOptions,
  ports: MemberRequestPorts,
): Promise<number> {
  const { deadline, signal } = options
  let again = false
  while (ports.now() < deadline) {
    signal?.throwIfAborted()
    const left = deadline - ports.now()
    const leader = ports.leader()
    if (leader === undefined) {
      await ports.statusChange(Math.min(100, left))
      continue
    }
    const answer =
      leader === ports.self
        ? await ports.change(wish, { again, deadline })
        : await ask(leader, { wish, again, timeoutMs: Math.floor(left) }, ports, signal)
    if (answer.type === 'changed') return answer.index
    if (answer.code === 'outcome-unknown') again = true
    else if (answer.code !== 'no-leader') throw refusal(answer)
    await ports.statusChange(Math.min(retryAfterMs, left))
  }
  if (again)
    throw new TrivetError('outcome-unknown', 'The change is not known to be committed: it may still be')
  throw new TrivetError('no-leader', 'No leader could be asked for the change: it has not begun')
}

async function ask(
  leader: MemberId,
  request: { readonly wish: Wish; readonly again: boolean; readonly timeoutMs: number },
  ports: MemberRequestPorts,
  signal: AbortSignal | undefined,
): Promise<ChangeAnswer> {
  const timeout = ports.timeout(request.timeoutMs)
  const either = signal === undefined ? timeout : AbortSignal.any([signal, timeout])
  try {
    const answer = await ports.ask(leader, { type: 'changeMembers', ...request }, either)
    if (answer.type === 'changed' || answer.type === 'notChanged') return answer
    return { type: 'notChanged', code: 'no-leader', detail: 'The node that was asked does not take part' }
  } catch (error) {
    signal?.throwIfAborted()
    // It may have been heard all the same.
    return { type: 'notChanged', code: 'outcome-unknown', detail: String(error) }
  }
}

function refusal({ code, detail, field }: Extract<ChangeAnswer, { type: 'notChanged' }>): TrivetError {
  return new TrivetError(code, detail, { field })
}
