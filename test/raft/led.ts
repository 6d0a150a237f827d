// An ensemble that has a leader: where most stories about one begin.

import { expect } from 'vitest'
import type { MemberId } from '../../src/raft/types.ts'
import { Ensemble, type EnsembleOptions } from './ensemble.ts'

/** `a` leads term 2, and all have its no-op, entry 1. Members draw their timeouts by their place, so that `a` asks first. */
export function led(
  options: Partial<EnsembleOptions> = {},
  members: readonly MemberId[] = ['a', 'b', 'c'],
): Ensemble {
  const random = (member: MemberId) => Math.max(0, members.indexOf(member)) / members.length
  const ensemble = new Ensemble({ members, random, ...options })
  ensemble.run(12)
  expect(ensemble.leader()).toBe('a')
  return ensemble
}

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

/** The leader appends `count` commands. */
export function proposeSome(ensemble: Ensemble, count: number, leader: MemberId = 'a'): void {
  for (let n = 1; n <= count; n++) {
    expect(ensemble.propose(leader, bytes(`command ${n}`))).toMatchObject({ type: 'appended' })
  }
}
