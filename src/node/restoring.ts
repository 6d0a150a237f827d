// A backup on its way into the cluster: its parts become commands, one after the other; whatever goes wrong takes all back.

import { TrivetError } from '../errors.ts'
import { decodeBackup } from '../store/backup-format.ts'
import { type Command, isOutcome, type Outcome, type RestoreStep } from '../store/types.ts'
import type { Executed, Restored, RestoreOptions, WaitOptions } from './surface.ts'

type RestoringParts = {
  readonly execute: (command: Command, options: WaitOptions) => Promise<Executed>
  /** Milliseconds, monotonic. */
  readonly now: () => number
  readonly sleep: (ms: number) => Promise<void>
}

/** How long one step may take, in all its tries, and how long to wait between them, in milliseconds. */
const stepMs = 60_000
const pauseMs = 100

/**
 * Brings a backup in. Rejects with `condition-failed` for a cluster that has keys, with `change-in-progress` while another
 * restore is under way, with `invalid-request` for bytes that are no whole backup; nothing of it shows then.
 */
export async function restoreBackup(
  chunks: AsyncIterable<Uint8Array>,
  { id: restore, token, signal }: RestoreOptions,
  parts: RestoringParts,
): Promise<Restored> {
  const take = async (step: RestoreStep): Promise<Executed> => {
    signal?.throwIfAborted()
    return takeStep({ type: 'restore', token, restore, step }, parts)
  }
  let number = 0
  let begun = false
  try {
    for await (const part of decodeBackup(chunks)) {
      switch (part.type) {
        case 'header':
          begun = true
          expectOutcome(await take({ type: 'begin', header: part.bytes }), 'done')
          break
        case 'rows':
          number += 1
          expectOutcome(await take({ type: 'rows', number, rows: part.bytes }), 'done')
          break
        case 'end': {
          const executed = await take({ type: 'link', rows: part.rows, digest: part.digest })
          const { revision } = expectOutcome(executed, 'restored')
          return { revision, digest: part.digest }
        }
        default:
          part satisfies never
      }
    }
    throw new Error('a backup without an end was read to its end')
  } catch (error) {
    // Where that fails too, the restore ends by itself once nothing has been heard of it for long.
    if (begun)
      await takeStep({ type: 'restore', token, restore, step: { type: 'drop' } }, parts).catch(() => {})
    throw error
  }
}

/** Has a step decided. Each but the last does no harm when it is taken twice, so that doubt is a reason to try again. */
async function takeStep(
  command: Extract<Command, { type: 'restore' }>,
  { execute, now, sleep }: RestoringParts,
): Promise<Executed> {
  const deadline = now() + stepMs
  for (;;) {
    try {
      return await execute(command, { deadline })
    } catch (error) {
      const passes = error instanceof TrivetError && (error.retryable || isDoubtful(error, command.step))
      if (!passes || now() + pauseMs > deadline) throw error
      await sleep(pauseMs)
    }
  }
}

function isDoubtful({ code }: TrivetError, { type }: RestoreStep): boolean {
  return code === 'outcome-unknown' && type !== 'link'
}

function expectOutcome<Type extends 'done' | 'restored'>(
  { outcome }: Executed,
  type: Type,
): Extract<Outcome, { type: Type }> {
  if (isOutcome(outcome, type)) return outcome
  if (outcome.type === 'refused') throw refusal(outcome)
  throw new Error(`a step of a restore came to ${outcome.type}`)
}

function refusal({ code, limit, field }: Extract<Outcome, { type: 'refused' }>): TrivetError {
  switch (code) {
    case 'unauthenticated':
      return new TrivetError(code, 'This token is not valid any more')
    case 'access-denied':
      return new TrivetError(code, 'Only an admin restores')
    case 'condition-failed':
      return new TrivetError(
        code,
        'A backup is restored only into a cluster without keys, and this one has some',
      )
    case 'change-in-progress':
      return new TrivetError(
        code,
        'Another restore is under way, or this one was given up because nothing came for long',
      )
    case 'invalid-request':
      return new TrivetError(code, 'This is no backup that this cluster can take: its parts do not agree', {
        field: 'body',
      })
    default:
      return new TrivetError(
        code,
        `The backup was refused: ${code}${field === undefined ? '' : `, ${field}`}`,
        {
          limit,
          field,
        },
      )
  }
}
