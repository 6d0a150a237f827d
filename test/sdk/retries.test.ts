// When a request is sent again, and above all when it is not: the servers count what reached them.

import { describe, expect, it } from 'vitest'
import { TrivetError } from '../../src/errors.ts'
import { connect } from '../../src/sdk/index.ts'
import { memoryCluster } from './memory-cluster.ts'
import type { Fault, MemoryServer } from './memory-server.ts'

function puts(...all: readonly MemoryServer[]): number {
  return all.flatMap((server) => server.seen).filter((request) => request.method === 'PUT').length
}

async function failure(promise: Promise<unknown>): Promise<TrivetError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(TrivetError)
  return error as TrivetError
}

describe('a write that may have had its effect', () => {
  const ambiguous: readonly (readonly [string, Fault])[] = [
    ['is cut before it is read', { type: 'cutBefore' }],
    ['is cut after it took effect', { type: 'cutAfter' }],
    ['gets half of an answer', { type: 'cutBody' }],
    ['is never answered', { type: 'hang' }],
    ['meets an internal error', { type: 'refuse', status: 500, code: 'internal' }],
    ['is reported unknown by the node', { type: 'refuse', status: 504, code: 'outcome-unknown' }],
    ['gets a 502 from a proxy', { type: 'foreign', status: 502 }],
    ['gets a 503 from a proxy', { type: 'foreign', status: 503, headers: { 'Retry-After': '0' } }],
    ['gets a 408 from a proxy', { type: 'foreign', status: 408 }],
  ]
  for (const [what, fault] of ambiguous) {
    it(`is sent again elsewhere when it ${what}, and takes effect once`, async () => {
      const { store, state, first, others } = await memoryCluster(2, { timeout: '2s' })
      first.faults.push(fault)
      expect(await store.set('k', 'v', { ifAbsent: true })).toEqual({
        revision: 1,
        created: true,
        changed: true,
      })
      expect([puts(first), puts(...others)]).toEqual([1, 1])
      expect(state.writes).toBe(1)
      expect(new Set(state.numbers)).toEqual(new Set(['session-1; seq=1; acked=0']))
    })

    it(`has an unknown outcome when it ${what}, and nobody can tell before time is over`, async () => {
      const { store, state, first, others } = await memoryCluster(2, { timeout: '400ms' })
      first.faults.push(fault)
      const refuse: Fault = { type: 'refuse', status: 503, code: 'no-leader' }
      for (const server of [first, ...others]) server.faults.push(...new Array(100).fill(refuse))
      const error = await failure(store.set('k', 'v'))
      expect(error).toMatchObject({ code: 'outcome-unknown', outcome: 'unknown', retryable: false })
      expect(error.detail).toMatch(/^The write may or may not take effect|because outcome-unknown/)
      expect(state.writes).toBeLessThanOrEqual(1)
    })
  }

  it('of a delete is sent again too', async () => {
    const { store, state, first } = await memoryCluster(2)
    await store.set('k', 'v')
    first.faults.push({ type: 'cutAfter' })
    expect(await store.delete('k')).toEqual({ revision: 2, deleted: true })
    expect(state.writes).toBe(2)
  })

  it('learns of the condition that failed when it came first', async () => {
    const { store, first } = await memoryCluster(2)
    await store.set('k', 'v')
    first.faults.push({ type: 'cutAfter' })
    expect(await failure(store.set('k', 'w', { ifAbsent: true }))).toMatchObject({
      code: 'condition-failed',
      revision: 1,
    })
  })

  it('is not called refused for what a later try alone was refused for', async () => {
    const { store, first, others } = await memoryCluster(2)
    first.faults.push({ type: 'cutAfter' })
    others[0]?.faults.push({ type: 'refuse', status: 403, code: 'access-denied' })
    const error = await failure(store.set('k', 'v'))
    expect(error).toMatchObject({ code: 'outcome-unknown', cause: { code: 'access-denied' } })
  })

  it('is not repeated in a new session, where nobody would know it', async () => {
    const { store, state, first, others } = await memoryCluster(2)
    await store.set('other', 'v')
    first.faults.push({ type: 'cutAfter' })
    others[0]?.faults.push({ type: 'slow', milliseconds: 300 })
    const write = failure(store.set('k', 'v'))
    await expect.poll(() => puts(...others)).toBe(1)
    state.sessions.clear()
    expect(await write).toMatchObject({ code: 'outcome-unknown', cause: { code: 'session-expired' } })
    expect(state.writes).toBe(2)
    expect(puts(first, ...others)).toBe(3)
  })

  it('is over when it is aborted under way, with the reason as the cause', async () => {
    const { store, first, others } = await memoryCluster(2)
    first.faults.push({ type: 'hang' })
    const aborter = new AbortController()
    const write = failure(store.set('k', 'v', { signal: aborter.signal }))
    await expect.poll(() => puts(first)).toBe(1)
    aborter.abort(new Error('the user left'))
    expect(await write).toMatchObject({ code: 'outcome-unknown', cause: new Error('the user left') })
    expect(puts(first, ...others)).toBe(1)
  })

  it('is over when it is aborted between two tries', async () => {
    const { store, first } = await memoryCluster(1, { timeout: '20s' })
    first.faults.push({ type: 'foreign', status: 502, headers: { 'Retry-After': '10' } })
    const aborter = new AbortController()
    const write = failure(store.set('k', 'v', { signal: aborter.signal }))
    await expect.poll(() => puts(first)).toBe(1)
    aborter.abort('enough')
    expect(await write).toMatchObject({ code: 'outcome-unknown', cause: 'enough' })
  })

  it('has an unknown outcome when the answer makes no sense', async () => {
    const { store, first, others } = await memoryCluster(2)
    first.faults.push({ type: 'garbage' })
    expect((await failure(store.set('k', 'v'))).code).toBe('outcome-unknown')
    expect(puts(first, ...others)).toBe(1)
  })
})

describe('the session of a client', () => {
  it('is opened by its first write, and only then', async () => {
    const { store, state } = await memoryCluster(1)
    await store.get('k')
    expect(state.sessions.size).toBe(0)
    await Promise.all(['a', 'b', 'c'].map((key) => store.set(key, '')))
    expect(state.sessions.size).toBe(1)
    await store.delete('a')
    expect(state.numbers).toEqual([
      'session-1; seq=1; acked=0',
      'session-1; seq=2; acked=0',
      'session-1; seq=3; acked=0',
      'session-1; seq=4; acked=3',
    ])
  })

  it('acknowledges up to the lowest write unanswered', async () => {
    const { store, state, first } = await memoryCluster(1)
    await store.set('a', '')
    first.faults.push({ type: 'hang', on: ({ path }) => path.endsWith('/slow') })
    const aborter = new AbortController()
    const slow = store.set('slow', '', { signal: aborter.signal }).catch(() => undefined)
    await expect.poll(() => state.writes).toBe(2)
    await store.set('b', '')
    await store.set('b', '')
    expect(state.numbers.slice(-2)).toEqual(['session-1; seq=3; acked=1', 'session-1; seq=4; acked=1'])
    aborter.abort()
    await slow
    await store.set('b', '')
    expect(state.numbers.at(-1)).toBe('session-1; seq=5; acked=4')
  })

  it('that has ended is replaced, and the write goes into the new one', async () => {
    const { store, state } = await memoryCluster(2)
    await store.set('a', '')
    state.sessions.clear()
    await Promise.all(['a', 'b', 'c'].map((key) => store.set(key, 'again')))
    expect(state.writes).toBe(4)
    expect(state.opened).toBe(2)
    expect(state.numbers.at(-1)).toMatch(/^session-2; /)
  })

  it('that cannot be opened keeps the write from being sent', async () => {
    const { store, first } = await memoryCluster(1, { timeout: '300ms' })
    const on = ({ path }: { readonly path: string }): boolean => path === '/v1/sessions'
    const refuse: Fault = { type: 'refuse', status: 503, code: 'no-leader', on }
    first.faults.push(...new Array(100).fill(refuse))
    expect(await failure(store.set('k', 'v'))).toMatchObject({ code: 'no-leader', outcome: 'none' })
    expect(puts(first)).toBe(0)
    first.faults.length = 0
    await store.set('k', 'v')
  })
})

describe('a write that entered no log', () => {
  for (const [status, code] of [
    [503, 'no-leader'],
    [503, 'not-ready'],
    [503, 'shutting-down'],
    [429, 'overloaded'],
    [507, 'storage-full'],
  ] as const) {
    it(`is sent again after ${status} ${code}, and takes effect once`, async () => {
      const { store, state, first, others } = await memoryCluster(2)
      first.faults.push({ type: 'refuse', status, code })
      expect(await store.set('k', 'v')).toEqual({ revision: 1, created: true, changed: true })
      expect(state.writes).toBe(1)
      expect([puts(first), puts(...others)]).toEqual([1, 1])
    })
  }

  it('goes to another endpoint when the connection is refused', async () => {
    const { store, state, first, others } = await memoryCluster(2)
    await first.stop()
    await store.set('k', 'v')
    expect(state.writes).toBe(1)
    expect(puts(...others)).toBe(1)
  })

  it('waits for an endpoint to come back', async () => {
    const { store, state, first } = await memoryCluster(1)
    await first.stop()
    const write = store.set('k', 'v')
    await first.listen()
    await write
    expect(state.writes).toBe(1)
  })

  it('is refused in the words of the node when time is over', async () => {
    const { store, state, first } = await memoryCluster(1, { timeout: '300ms' })
    first.faults.push(
      ...Array.from({ length: 100 }, (): Fault => ({ type: 'refuse', status: 503, code: 'no-leader' })),
    )
    const error = await failure(store.set('k', 'v'))
    expect(error).toMatchObject({
      code: 'no-leader',
      detail: 'because no-leader',
      outcome: 'none',
      retryable: true,
    })
    expect(puts(first)).toBeGreaterThan(1)
    expect(state.writes).toBe(0)
  })
})

describe('a refusal', () => {
  for (const [status, code] of [
    [400, 'invalid-request'],
    [403, 'access-denied'],
    [408, 'request-timeout'],
    [412, 'condition-failed'],
    [413, 'value-too-large'],
  ] as const) {
    it(`of a write with ${status} is final`, async () => {
      const { store, first, others } = await memoryCluster(2)
      first.faults.push({ type: 'refuse', status, code })
      expect(await failure(store.set('k', 'v'))).toMatchObject({ code, status, outcome: 'none' })
      expect(puts(first, ...others)).toBe(1)
    })
  }

  it('of a read that no retry can mend is final', async () => {
    const { store, first, others } = await memoryCluster(2)
    first.faults.push({ type: 'refuse', status: 500, code: 'internal' })
    expect((await failure(store.get('k'))).code).toBe('internal')
    expect(first.seen.length + (others[0]?.seen.length ?? 0)).toBe(1)
  })

  it('of a proxy is told apart from one of a node', async () => {
    const { store, first } = await memoryCluster(1)
    await store.set('k', 'v')
    first.faults.push({ type: 'foreign', status: 404 })
    expect((await failure(store.get('k'))).code).toBe('not-found')
    first.faults.push({ type: 'foreign', status: 200 })
    expect((await failure(store.get('k'))).code).toBe('internal')
    first.faults.push({ type: 'foreign', status: 307, headers: { Location: 'https://elsewhere/' } })
    expect((await failure(store.set('k', 'w'))).detail).toContain('redirects to https://elsewhere/')
  })
})

describe('a read', () => {
  const mendable: readonly Fault[] = [
    { type: 'cutBefore' },
    { type: 'cutBody' },
    { type: 'refuse', status: 503, code: 'no-leader' },
    { type: 'refuse', status: 504, code: 'deadline-exceeded' },
    { type: 'refuse', status: 408, code: 'request-timeout' },
    { type: 'foreign', status: 502 },
  ]
  for (const fault of mendable) {
    it(`is repeated elsewhere after ${JSON.stringify(fault)}`, async () => {
      const { store, first, others } = await memoryCluster(2)
      await store.set('k', 'value')
      first.faults.push(fault)
      expect(await store.getText('k')).toBe('value')
      expect(others.flatMap((server) => server.seen)).toHaveLength(1)
    })
  }

  it('does not spend all of its time on an endpoint that hangs', async () => {
    const { store, first, others } = await memoryCluster(2, { timeout: '2s' })
    await store.set('k', 'value')
    first.faults.push({ type: 'hang' })
    expect(await store.getText('k')).toBe('value')
    expect(others.flatMap((server) => server.seen)).toHaveLength(1)
  })

  it('says what was wrong when no endpoint can be reached in time', async () => {
    const { store, first, others } = await memoryCluster(2, { timeout: '300ms' })
    await Promise.all([first, ...others].map((server) => server.stop()))
    const start = performance.now()
    const error = await failure(store.get('k'))
    expect(performance.now() - start).toBeLessThan(900)
    expect(error).toMatchObject({ code: 'deadline-exceeded', retryable: true, outcome: 'none' })
    expect(error.detail).toMatch(/could not be asked: connect ECONNREFUSED/)
    expect(error.cause).toBeInstanceOf(TypeError)
  })

  it('that is aborted rejects with the reason of the signal', async () => {
    const { store, first } = await memoryCluster(1)
    first.faults.push({ type: 'hang' })
    const reason = new Error('not needed any more')
    const aborter = new AbortController()
    const read = store.get('k', { signal: aborter.signal })
    await expect.poll(() => first.seen.length).toBe(1)
    aborter.abort(reason)
    await expect(read).rejects.toBe(reason)
    await expect(store.get('k', { signal: aborter.signal })).rejects.toBe(reason)
    await expect(store.set('k', 'v', { signal: aborter.signal })).rejects.toBe(reason)
    expect(first.seen).toHaveLength(1)
  })

  it('that is aborted between two tries rejects with the reason, and so does a write', async () => {
    const { store, first } = await memoryCluster(1, { timeout: '20s' })
    for (const call of [
      (signal: AbortSignal) => store.get('k', { signal }),
      (signal: AbortSignal) => store.set('k', 'v', { signal }),
    ]) {
      first.seen.length = 0
      first.faults.push({ type: 'refuse', status: 503, code: 'no-leader', retryAfter: 10 })
      const aborter = new AbortController()
      const result = call(aborter.signal)
      await expect.poll(() => first.seen.length).toBe(1)
      aborter.abort('enough')
      await expect(result).rejects.toBe('enough')
    }
  })
})

describe('waiting', () => {
  it('lasts as long as Retry-After asks, and the server hears how much time is left', async () => {
    const { store, first } = await memoryCluster(1, { timeout: '3s' })
    first.faults.push({ type: 'refuse', status: 429, code: 'overloaded', retryAfter: 1 })
    const start = performance.now()
    await store.set('k', 'v')
    expect(performance.now() - start).toBeGreaterThanOrEqual(1000)
    const [before = 0, after = 0] = first.seen.map((request) =>
      Number.parseInt(String(request.headers['trivet-timeout']), 10),
    )
    expect(before).toBeGreaterThan(2500)
    expect(before).toBeLessThan(3000)
    expect(after).toBeLessThan(before - 900)
  })

  it('is not begun when it would end past the deadline', async () => {
    const { store, first } = await memoryCluster(1, { timeout: '1s' })
    first.faults.push({ type: 'refuse', status: 429, code: 'overloaded', retryAfter: 5 })
    const start = performance.now()
    expect((await failure(store.set('k', 'v'))).code).toBe('overloaded')
    expect(performance.now() - start).toBeLessThan(500)
  })

  it('ends at the deadline even when fetch or the token source never answer', async () => {
    const never = (): Promise<never> => new Promise(() => {})
    const deaf = connect({ endpoints: ['http://127.0.0.1:1'], token: 'x', timeout: '100ms', fetch: never })
    expect((await failure(deaf.me())).code).toBe('deadline-exceeded')
    const tokenless = connect({ endpoints: ['http://127.0.0.1:1'], token: never, timeout: '100ms' })
    expect((await failure(tokenless.transferLeadership('n1'))).outcome).toBe('none')
  })
})

describe('the choice of endpoint', () => {
  it('sticks to the one that answers', async () => {
    const { store, first, others } = await memoryCluster(3)
    for (let i = 0; i < 10; i++) await store.get('k')
    expect(first.seen).toHaveLength(10)
    expect(others.flatMap((server) => server.seen)).toHaveLength(0)
  })

  it('leaves a draining node, whose answer still counts', async () => {
    const { store, state, first, others } = await memoryCluster(2)
    await store.set('k', 'u')
    first.draining = true
    await store.set('k', 'v')
    await store.set('k', 'w')
    await store.set('k', 'x')
    expect(state.writes).toBe(4)
    expect([puts(first), puts(...others)]).toEqual([2, 2])
  })

  it('returns to a refusing one when the others refuse as well', async () => {
    const { store, first, others } = await memoryCluster(2)
    first.faults.push({ type: 'refuse', status: 503, code: 'no-leader' })
    others[0]?.faults.push({ type: 'refuse', status: 503, code: 'no-leader' })
    await store.set('k', 'v')
    expect(puts(first, ...others)).toBe(3)
  })
})

describe('what fetch rejects with', () => {
  const refused = (): Error =>
    Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED', syscall: 'connect' })
  const reset = (): Error =>
    Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read' })
  const cases: readonly (readonly [string, unknown, boolean])[] = [
    ['one refused address', refused(), true],
    ['two refused addresses', new AggregateError([refused(), refused()]), true],
    ['a refused and a reset address', new AggregateError([refused(), reset()]), false],
    ['a reset connection', reset(), false],
    [
      'an unreachable host',
      Object.assign(new Error('x'), { code: 'EHOSTUNREACH', syscall: 'connect' }),
      true,
    ],
    ['an unknown name', Object.assign(new Error('x'), { code: 'ENOTFOUND', syscall: 'getaddrinfo' }), true],
    ['nothing more, as in a browser', undefined, false],
  ]
  for (const [what, cause, again] of cases) {
    it(`${again ? 'allows' : 'forbids'} another try of what has no number: ${what}`, async () => {
      const { state, first } = await memoryCluster(1)
      let calls = 0
      const client = connect({
        endpoints: [first.url],
        token: 'secret',
        fetch: (url, init) => {
          calls += 1
          // The first call opens the store, the second the session, the third is the write.
          return calls === 3 ? Promise.reject(new TypeError('Failed to fetch', { cause })) : fetch(url, init)
        },
      })
      const store = await client.open('default')
      await store.set('k', 'v')
      expect(state.writes).toBe(1)
      expect(calls).toBe(4)
      // Handing over has no number: it is sent again only where its errors prove that nothing was.
      calls = 2
      const handover = client.transferLeadership('n2').catch((error: unknown) => (error as TrivetError).code)
      expect(await handover).toBe(again ? undefined : 'outcome-unknown')
      expect(calls).toBe(again ? 4 : 3)
    })
  }
})
