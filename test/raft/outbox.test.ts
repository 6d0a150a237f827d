// The one rule of the outbox: nothing is promised before it is durable.

import { expect, it } from 'vitest'
import { Log } from '../../src/raft/log.ts'
import { Outbox, type SaveDuty } from '../../src/raft/outbox.ts'
import type { HardState, Message } from '../../src/raft/types.ts'
import { configurationOf, SeatDisk } from './seat.ts'

const start: HardState = { term: 1, votedFor: undefined }

function boxOf(): { box: Outbox; log: Log } {
  const disk = new SeatDisk(configurationOf(['a', 'b', 'c']), [], start)
  const log = new Log(disk.recover(), { cacheBytes: 1000 })
  return { box: new Outbox({ self: 'a', hardState: start, saveStallTicks: 3 }, log), log }
}

const vote = (to: string): Message => ({
  type: 'vote',
  from: 'a',
  to,
  term: 2,
  preVote: false,
  askedTerm: 2,
  granted: true,
})

const appended = (matchIndex: number, more: { to?: string; term?: number } = {}): Message => ({
  type: 'appended',
  from: 'a',
  to: 'b',
  term: 1,
  matchIndex,
  ...more,
})

function begin(box: Outbox, hardState: HardState = start): SaveDuty {
  const duty = box.nextSave(hardState)
  if (duty === undefined) throw new Error('There is something to save')
  return duty
}

it('lets a message leave while a save is under way, and a promise only after it', () => {
  const { box } = boxOf()
  box.promise(vote('b'))
  box.send(vote('c'))
  const duty = begin(box, { term: 2, votedFor: 'b' })
  expect(duty.hardState).toEqual({ term: 2, votedFor: 'b' })
  expect(box.takeMessages()).toEqual([vote('c')])
  expect(box.saved(duty)).toEqual([])
  expect(box.takeMessages()).toEqual([vote('b')])
})

it('keeps a promise made during a save for the next one, were it the last', () => {
  const { box, log } = boxOf()
  log.append([{ type: 'noop', index: 1, term: 1 }])
  const first = begin(box)
  log.append([{ type: 'noop', index: 2, term: 1 }])
  box.promise(appended(2))
  expect(box.nextSave(start)).toBeUndefined()
  box.saved(first)
  expect(box.takeMessages()).toEqual([])
  expect(log.savedIndex).toBe(1)
  box.saved(begin(box))
  expect(box.takeMessages()).toEqual([appended(2)])
  expect(log.savedIndex).toBe(2)
})

it('lets promises leave at once when all that they rest on is durable', () => {
  const { box } = boxOf()
  box.promise(appended(0))
  expect(box.nextSave(start)).toBeUndefined()
  expect(box.takeMessages()).toEqual([appended(0)])
})

it('hands a vote for itself back with the save, and sends it to nobody', () => {
  const { box } = boxOf()
  box.promise(vote('a'))
  expect(box.saved(begin(box, { term: 2, votedFor: 'a' }))).toEqual([vote('a')])
  expect(box.takeMessages()).toEqual([])
})

it('joins the acknowledgements of one term to one leader, and never lowers them', () => {
  const { box } = boxOf()
  box.promise(appended(4))
  box.promise(appended(7))
  box.promise(appended(5))
  box.promise(appended(9, { to: 'c' }))
  box.promise(appended(2, { term: 2 }))
  box.nextSave(start)
  expect(box.takeMessages()).toEqual([appended(7), appended(9, { to: 'c' }), appended(2, { term: 2 })])
})

it('says that the disk is stalled from the bound on, until a save succeeds', () => {
  const { box } = boxOf()
  for (let tick = 0; tick < 9; tick++) box.tick()
  expect(box.stalled).toBe(false)
  const duty = begin(box, { term: 2, votedFor: undefined })
  box.tick()
  box.tick()
  expect(box.stalled).toBe(false)
  box.tick()
  expect(box.stalled).toBe(true)
  box.saved(duty)
  expect(box.stalled).toBe(false)
})
