// The numbers of a client's writes: who gets one, what is acknowledged with it, and who has to wait.

import { expect, it } from 'vitest'
import { TrivetError } from '../../src/errors.ts'
import { KeyPerWrite, type Place, WriteSession } from '../../src/sdk/session.ts'

function soon(milliseconds = 5000): { readonly deadline: number } {
  return { deadline: performance.now() + milliseconds }
}

/** Sessions `s1`, `s2` and so on, at once. */
function sessions(): { readonly session: WriteSession; readonly opened: () => number } {
  let opened = 0
  const session = new WriteSession(async () => {
    opened += 1
    return `s${opened}`
  })
  return { session, opened: () => opened }
}

function take(session: WriteSession, count: number): Promise<Place[]> {
  return Promise.all(Array.from({ length: count }, () => session.take(soon())))
}

it('asks for one session, however many writes begin at once', async () => {
  const { session, opened } = sessions()
  const places = await take(session, 3)
  expect(opened()).toBe(1)
  expect(places.map((place) => place.header()[1])).toEqual([
    's1; seq=1; acked=0',
    's1; seq=2; acked=0',
    's1; seq=3; acked=0',
  ])
})

it('acknowledges up to the lowest number that is not answered, at each try anew', async () => {
  const { session } = sessions()
  const [first, second, third] = await take(session, 3)
  second?.end()
  expect(third?.header()[1]).toBe('s1; seq=3; acked=0')
  first?.end()
  expect(third?.header()[1]).toBe('s1; seq=3; acked=2')
  third?.end()
  expect((await session.take(soon())).header()[1]).toBe('s1; seq=4; acked=3')
})

it('gives out 1,024 numbers above the last one acknowledged, and the next in turn as they are answered', async () => {
  const { session } = sessions()
  const open = await take(session, 1024)
  const order: number[] = []
  const waiting = [1, 2, 3].map(async (n) => {
    const place = await session.take(soon())
    order.push(n)
    return place
  })
  open[1]?.end()
  open[2]?.end()
  // The lowest is still open: the window has not moved.
  await expect(session.take(soon(20))).rejects.toMatchObject({ code: 'deadline-exceeded', outcome: 'none' })
  open[0]?.end()
  const last = await Promise.all(waiting)
  expect(order).toEqual([1, 2, 3])
  expect(last.map((place) => place.header()[1])).toEqual(
    [1025, 1026, 1027].map((seq) => `s1; seq=${seq}; acked=3`),
  )
})

it('lets go of a write that is aborted while it waits, and gives its turn to the next', async () => {
  const { session } = sessions()
  const [lowest] = await take(session, 1024)
  const aborter = new AbortController()
  const aborted = session.take({ ...soon(), signal: aborter.signal })
  const next = session.take(soon())
  aborter.abort('enough')
  await expect(aborted).rejects.toBe('enough')
  lowest?.end()
  expect((await next).header()[1]).toBe('s1; seq=1025; acked=1')
})

it('takes a new session once the one it has is expired, and only once', async () => {
  const { session, opened } = sessions()
  const [first, second] = await take(session, 2)
  first?.expired()
  second?.expired()
  const place = await session.take(soon())
  first?.expired()
  expect(place.header()[1]).toBe('s2; seq=1; acked=0')
  expect((await session.take(soon())).header()[1]).toBe('s2; seq=2; acked=0')
  expect(opened()).toBe(2)
})

it('asks again for those who still have time when a session could not be opened', async () => {
  const refusals = [new TrivetError('no-leader', 'none yet'), new TrivetError('no-leader', 'none yet')]
  const session = new WriteSession(async () => {
    const refusal = refusals.pop()
    if (refusal !== undefined) throw refusal
    return 's3'
  })
  expect((await session.take(soon())).header()[1]).toBe('s3; seq=1; acked=0')
})

it('says why there is no session when time is over, and at once when none will ever be', async () => {
  const codes = ['no-leader', 'access-denied'] as const
  for (const code of codes) {
    let asked = 0
    const session = new WriteSession(() => {
      asked += 1
      return asked === 1 ? Promise.reject(new TrivetError(code, 'no')) : new Promise(() => {})
    })
    await expect(session.take(soon(30))).rejects.toMatchObject({ code })
    expect(asked).toBe(code === 'no-leader' ? 2 : 1)
  }
})

it('gives each write a key of its own where a session is not worth it, the same at each try', async () => {
  const keys = new KeyPerWrite()
  const [one, other] = [await keys.take(), await keys.take()]
  expect(one.header()).toEqual(['Idempotency-Key', expect.stringMatching(/^[0-9a-f]{32}$/)])
  expect(one.header()).toEqual(one.header())
  expect(other.header()).not.toEqual(one.header())
})
