// The driver of Mattermost apps: what it sends, and what it makes of answers, Trivet's and Mattermost's.

import { describe, expect, it } from 'vitest'
import { TrivetError } from '../../src/errors.ts'
import { AppClient, type AppClientOptions, type CallContext } from '../../src/sdk/mattermost.ts'

const context: CallContext = {
  mattermost_site_url: 'https://site.example/',
  bot_access_token: 'of-the-bot',
  acting_user_access_token: 'of-the-user',
}

type Seen = { readonly url: string; readonly init: RequestInit }

/** A client as the bot whose requests are all answered so. */
function answering(
  answer: () => Response | Promise<Response>,
  options: AppClientOptions = {},
): { readonly client: AppClient; readonly seen: Seen[] } {
  const seen: Seen[] = []
  const fetch = async (url: string, init: RequestInit): Promise<Response> => {
    seen.push({ url, init })
    return answer()
  }
  return { client: AppClient.asBot(context, { fetch, ...options }), seen }
}

/** What a call is rejected with; it must be. */
async function errorOf(call: Promise<unknown>): Promise<TrivetError> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (error instanceof TrivetError) return error
  throw new Error(`rejected with ${String(error)}`)
}

const kv = 'https://site.example/plugins/com.mattermost.apps/api/v1/kv'

describe('the driver', () => {
  it('asks below the site URL with the token of whom it stands for', async () => {
    const { client, seen } = answering(() => new Response('{}'))
    await client.kvGet('', 'key')
    await client.kvGet('pre', 'a b?%')
    expect(seen.map(({ url }) => url)).toEqual([`${kv}/key`, `${kv}/pre/a%20b%3F%25`])
    expect(seen[0]?.init).toMatchObject({ method: 'GET', headers: { Authorization: 'Bearer of-the-bot' } })
    const asked: string[] = []
    const fetch = async (_url: string, init: RequestInit) => {
      asked.push(new Headers(init.headers).get('authorization') ?? '')
      return new Response('{}')
    }
    await AppClient.asActingUser(context, { fetch }).kvGet('', 'key')
    expect(asked).toEqual(['Bearer of-the-user'])
  })

  it('refuses a context without the token, naming it', () => {
    const { mattermost_site_url } = context
    expect(() => AppClient.asBot({ mattermost_site_url, bot_access_token: '' })).toThrow(
      /no bot_access_token/,
    )
    expect(() => AppClient.asActingUser({ mattermost_site_url })).toThrow(/no acting_user_access_token/)
  })

  it('gives back any value, nested data included', async () => {
    const value = { list: [1, null, { deep: ['é', true] }], empty: {} }
    const { client } = answering(() => Response.json(value))
    expect(await client.kvGet<typeof value>('', 'key')).toEqual(value)
    expect(await answering(() => new Response('null')).client.kvGet('', 'key')).toBeNull()
  })

  it.each([true, false])('says whether a set has changed the value: %s', async (changed) => {
    const { client, seen } = answering(() => Response.json({ changed }))
    expect(await client.kvSet('', 'key', { a: [1] })).toBe(changed)
    expect(seen[0]?.init).toMatchObject({ method: 'POST', body: '{"a":[1]}' })
  })

  it('deletes', async () => {
    const { client, seen } = answering(() => new Response(''))
    expect(await client.kvDelete('p', 'key')).toBeUndefined()
    expect(seen[0]).toMatchObject({ url: `${kv}/p/key`, init: { method: 'DELETE' } })
  })

  it.each(['', '.', '..', 'a/b', '\ud800'])('sends nothing for the key %j', async (key) => {
    const { client, seen } = answering(() => new Response('{}'))
    expect(await errorOf(client.kvGet('', key))).toMatchObject({ code: 'invalid-key' })
    if (key !== '') expect(await errorOf(client.kvSet(key, 'k', 1))).toMatchObject({ code: 'invalid-key' })
    expect(seen).toEqual([])
  })

  it.each([undefined, () => 1, Symbol('a')])(
    'sends nothing for a value without a form in JSON',
    async (value) => {
      const { client, seen } = answering(() => Response.json({ changed: true }))
      expect(await errorOf(client.kvSet('', 'key', value))).toMatchObject({ code: 'invalid-request' })
      expect(seen).toEqual([])
    },
  )

  it.each([
    [401, 'user ID is required: unauthorized', 'unauthenticated', 'unauthenticated'],
    [401, 'not an app session: unauthorized', 'access-denied', 'access-denied'],
    // As Mattermost itself answers, without a code.
    [401, 'not an app session: unauthorized', '', 'unauthenticated'],
    [400, 'payload is not valid json: invalid input', '', 'invalid-request'],
    [404, '404 page not found', '', 'not-found'],
    [418, 'short and stout', '', 'invalid-request'],
    [500, 'size limit of 8Kb exceeded', 'request-too-large', 'request-too-large'],
    [503, 'No leader is known', 'no-leader', 'no-leader'],
    [500, 'it failed', 'internal', 'outcome-unknown'],
    [502, 'the proxy failed', '', 'outcome-unknown'],
  ])('makes of %i %j with the code %j the error %s', async (status, text, code, expected) => {
    const headers = code === '' ? {} : { 'Trivet-Error': code }
    const { client } = answering(() => new Response(`${text}\n`, { status, headers }))
    const error = await errorOf(client.kvSet('', 'key', 1))
    expect(error.code).toBe(expected)
    expect(error.message).toContain(text)
  })

  it('does not take another answer of 200 for its own', async () => {
    const { client } = answering(() => new Response('<html>'))
    expect(await errorOf(client.kvGet('', 'key'))).toMatchObject({ code: 'internal' })
    expect(await errorOf(client.kvSet('', 'key', 1))).toMatchObject({ code: 'outcome-unknown' })
    const other = answering(() => Response.json({ changed: 'yes' })).client
    expect(await errorOf(other.kvSet('', 'key', 1))).toMatchObject({ code: 'outcome-unknown' })
  })

  it('knows a write that was not answered for one that may have happened', async () => {
    const { client } = answering(() => Promise.reject(new TypeError('socket closed')))
    expect(await errorOf(client.kvSet('', 'key', 1))).toMatchObject({ code: 'outcome-unknown' })
    expect(await errorOf(client.kvDelete('', 'key'))).toMatchObject({ outcome: 'unknown' })
    expect(await errorOf(client.kvGet('', 'key'))).toMatchObject({ code: 'deadline-exceeded' })
  })

  it('knows a write that never left for one that did not happen', async () => {
    const cause = Object.assign(new Error('connect ECONNREFUSED'), {
      code: 'ECONNREFUSED',
      syscall: 'connect',
    })
    const { client } = answering(() => Promise.reject(new TypeError('fetch failed', { cause })))
    expect(await errorOf(client.kvSet('', 'key', 1))).toMatchObject({
      code: 'deadline-exceeded',
      outcome: 'none',
    })
  })

  it('ends when its time is over, or when its caller has enough of it', async () => {
    const fetch = (_url: string, init: RequestInit) =>
      new Promise<Response>((_resolve, reject) => {
        init.signal?.addEventListener('abort', () => reject(init.signal?.reason))
      })
    const client = AppClient.asBot(context, { fetch, timeout: 20 })
    expect(await errorOf(client.kvGet('', 'key'))).toMatchObject({ code: 'deadline-exceeded' })
    const controller = new AbortController()
    const patient = AppClient.asBot(context, { fetch })
    const read = patient.kvGet('', 'key', { signal: controller.signal })
    const write = patient.kvSet('', 'key', 1, { signal: controller.signal })
    const reason = new Error('enough')
    controller.abort(reason)
    await expect(read).rejects.toBe(reason)
    expect(await errorOf(write)).toMatchObject({ code: 'outcome-unknown' })
    await expect(patient.kvGet('', 'key', { signal: controller.signal })).rejects.toBe(reason)
  })
})
