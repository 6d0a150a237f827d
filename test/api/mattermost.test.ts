// The table of Mattermost's key-value surface, row by row and byte for byte, over three nodes, each request to another one.

import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { MattermostSettings } from '../../src/api/mattermost/surface.ts'
import type { Command, Principal, Token } from '../../src/store/types.ts'
import { type Answered, type Asked, ask, RawClient } from './client.ts'
import { type Neighbourhood, startNeighbourhood } from './neighbourhood.ts'

const base = '/plugins/com.mattermost.apps/api/v1/kv'

const admin = 'the-secret-of-the-admin-0123456789'
const cart = 'the-secret-of-a-component-01234567'

/** Who the apps' tokens speak for. */
const holders = {
  ann: { app: 'todo', user: 'ann' },
  annAgain: { app: 'todo', user: 'ann' },
  annBriefly: { app: 'todo', user: 'ann' },
  bob: { app: 'todo', user: 'bob' },
  bot: { app: 'todo', bot: 'ann' },
  annElsewhere: { app: 'polls', user: 'ann' },
} as const

type Holder = keyof typeof holders

type Minted = Extract<Command, { type: 'mintToken' }>['minted']

/** Those whose tokens are minted at the beginning; that of another app is in the founding. */
const standing = (Object.keys(holders) as Holder[]).filter(
  (holder) => holder !== 'annBriefly' && holder !== 'annElsewhere',
)

function secretOf(holder: Holder): string {
  return `the-mattermost-token-of-${holder}`
}

function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('base64url')
}

function founded(name: string, secret: string, principal: Principal): Token {
  return { name, hash: hashOf(secret), principal }
}

function principalOf(holder: Holder): Principal {
  const { app, ...who } = holders[holder]
  return {
    type: 'app',
    app,
    holder: 'user' in who ? { type: 'user', id: who.user } : { type: 'bot', id: who.bot },
  }
}

const errorHeaders = {
  'content-type': 'text/plain; charset=utf-8',
  'x-content-type-options': 'nosniff',
} as const

/** Three nodes with all holders' tokens, and how to ask them in turn. */
class Site {
  readonly nodes: Neighbourhood

  private constructor(nodes: Neighbourhood) {
    this.nodes = nodes
  }

  static async start(seed: number, mattermost?: MattermostSettings): Promise<Site> {
    const site = new Site(
      await startNeighbourhood({
        seed,
        founding: {
          valueBytes: 65_536,
          tokens: [
            founded('admin', admin, { type: 'admin' }),
            founded('cart', cart, {
              type: 'component',
              grants: [{ store: 'default', access: 'read-write' }],
            }),
            founded('ann-elsewhere', secretOf('annElsewhere'), principalOf('annElsewhere')),
          ],
        },
        api: { mattermost },
      }),
    )
    for (const holder of standing) await site.mint(holder)
    return site
  }

  /** `ttl`: how long it stands, in milliseconds; for ever unless given. */
  async mint(holder: Holder, ttl?: number): Promise<void> {
    const principal = principalOf(holder)
    const name = holder.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    const minted = { name, hash: hashOf(secretOf(holder)), principal }
    await this.decide({ type: 'mintToken', minted: ttl === undefined ? minted : { ...minted, ttl } })
  }

  /** Has an administrator's command decided. */
  async decide(
    command:
      | { type: 'mintToken'; minted: Minted }
      | { type: 'revokeToken'; name: string }
      | { type: 'removeApp'; app: string },
  ): Promise<void> {
    const deadline = performance.now() + 10_000
    const { outcome } = await this.nodes.town
      .node('n1')
      .execute({ ...command, token: hashOf(admin) }, { deadline })
    if (outcome.type === 'refused') throw new Error(`${command.type}: ${outcome.code}`)
  }

  /** One request to the next node, below the base path, as the user ann of the app todo unless told otherwise. */
  as(method: string, path: string, asked: Asked = {}): Promise<Answered> {
    return ask(this.nodes.next(), method, base + path, { token: secretOf('ann'), ...asked })
  }

  async set(path: string, body: string | Uint8Array, holder: Holder = 'ann'): Promise<string> {
    const answer = await this.as('POST', path, { body, token: secretOf(holder) })
    expect(answer).toMatchObject({ status: 200, headers: { 'content-type': 'application/json' } })
    expect(answer.headers['server-timing']).toMatch(/^forward;dur=/)
    return answer.text
  }

  async get(path: string, holder: Holder = 'ann'): Promise<string> {
    const answer = await this.as('GET', path, { token: secretOf(holder) })
    expect(answer).toMatchObject({ status: 200, headers: { 'content-type': 'application/json' } })
    return answer.text
  }

  /** A request on `/v1` to the store of the asking app's holder. */
  self(method: string, path: string, asked: Asked = {}): Promise<Answered> {
    return ask(this.nodes.next(), method, `/v1/stores/self${path}`, { token: secretOf('ann'), ...asked })
  }
}

function expectText(answer: Answered, status: number, text: string): void {
  expect(answer).toMatchObject({ status, text: `${text}\n`, headers: errorHeaders })
  expect(answer.headers['content-length']).toBe(String(Buffer.byteLength(text) + 1))
}

function modes(): [string, MattermostSettings | undefined][] {
  return [
    ['by its documentation', undefined],
    ['by its code', { strict: true, valueBytes: 8192 }],
  ]
}

describe.each(modes())('the store of Mattermost apps, %s,', (_, settings) => {
  let site: Site

  beforeAll(async () => {
    site = await Site.start(41, settings)
  })
  afterAll(() => site.nodes[Symbol.asyncDispose]())

  it('gives back the stored bytes exactly', async () => {
    const text = ' {"b" : 1.0,\n"a":[1e2, "\\u00e9é"],"b":2 } '
    await site.set('/exact', text)
    expect(await site.get('/exact')).toBe(text)
    const answer = await site.as('GET', '/exact')
    expect(answer.headers['content-type']).toBe('application/json')
    expect(answer.headers['content-length']).toBe(String(Buffer.byteLength(text)))
  })

  it('answers an empty object for a missing key, never 404', async () => {
    expect(await site.get('/missing')).toBe('{}')
    expect(await site.get('/my/missing')).toBe('{}')
  })

  it.each(['"text"', '""', '0', '-1.5e3', 'true', 'null', '[]', '[[1,{"a":[]}],2]', '{}'])(
    'stores the JSON text %s',
    async (text) => {
      expect(await site.set('/any', text)).toBe('{"changed":true}\n')
      expect(await site.get('/any')).toBe(text)
    },
  )

  it('takes PUT for POST', async () => {
    const put = await site.as('PUT', '/put', { body: '1' })
    expect(put).toMatchObject({ status: 200, text: '{"changed":true}\n' })
    expect(await site.get('/put')).toBe('1')
  })

  it('answers a delete with 200 and nothing, the key present or not', async () => {
    await site.set('/deleted', '1')
    for (let time = 0; time < 2; time += 1) {
      const answer = await site.as('DELETE', '/deleted')
      expect(answer).toMatchObject({ status: 200, text: '', headers: { 'content-length': '0' } })
      expect(answer.headers['content-type']).toBeUndefined()
      expect(await site.get('/deleted')).toBe('{}')
    }
  })

  it('refuses a request without a valid token', async () => {
    for (const [method, body] of [['GET'], ['POST', '1'], ['PUT', '1'], ['DELETE']] as const) {
      for (const token of [undefined, 'a-token-that-nobody-registered']) {
        const answer = await site.as(method, '/key', { token, body })
        expectText(answer, 401, 'user ID is required: unauthorized')
      }
    }
  })

  it('refuses a token that was revoked, on every node at once', async () => {
    await site.set('/revoked', '1', 'annAgain')
    await site.decide({ type: 'revokeToken', name: 'ann-again' })
    try {
      for (const method of ['GET', 'DELETE', 'GET']) {
        const answer = await site.as(method, '/revoked', { token: secretOf('annAgain') })
        expectText(answer, 401, 'user ID is required: unauthorized')
      }
      // The data is not the token's, but its holder's.
      expect(await site.get('/revoked', 'ann')).toBe('1')
    } finally {
      await site.mint('annAgain')
    }
  })

  it('refuses a token that has expired', async () => {
    await site.set('/expiring', '1')
    await site.mint('annBriefly', 300)
    const asked = { token: secretOf('annBriefly') }
    const deadline = performance.now() + 10_000
    let answer = await site.as('GET', '/expiring', asked)
    expect(answer).toMatchObject({ status: 200, text: '1' })
    while (answer.status === 200 && performance.now() < deadline) {
      answer = await site.as('GET', '/expiring', asked)
    }
    expectText(answer, 401, 'user ID is required: unauthorized')
    expectText(await site.as('DELETE', '/expiring', asked), 401, 'user ID is required: unauthorized')
  })

  it("refuses a token that is not an app's", async () => {
    for (const token of [admin, cart]) {
      for (const [method, body] of [['GET'], ['POST', '1'], ['DELETE']] as const) {
        const answer = await site.as(method, '/key', { token, body })
        expectText(answer, 401, 'not an app session: unauthorized')
      }
    }
  })

  it.each([
    ['nothing', ''],
    ['blanks', '  '],
    ['a word', 'hello'],
    ['half of an object', '{"a":1'],
    ['two texts', '1 2'],
    ['a byte order mark', '\ufeff1'],
    ['bytes that are no UTF-8', Buffer.from('"\xff"', 'latin1')],
  ])('refuses %s for a value', async (_what, body) => {
    await site.set('/valid', '1')
    expectText(await site.as('POST', '/valid', { body }), 400, 'payload is not valid json: invalid input')
    expect(await site.get('/valid')).toBe('1')
  })

  it('takes 8192 bytes, and says of more, before it asks for a token, that they are too many', async () => {
    const most = JSON.stringify('x'.repeat(8190))
    expect(await site.set('/large', most)).toBe('{"changed":true}\n')
    expect(await site.get('/large')).toBe(most)
    const body = `${most} `
    expectText(await site.as('POST', '/large', { body }), 500, 'size limit of 8Kb exceeded')
    expectText(await site.as('PUT', '/large', { body, token: undefined }), 500, 'size limit of 8Kb exceeded')
    const raw = await RawClient.connect(Number(new URL(site.nodes.next()).port))
    raw.say(
      `POST ${base}/large HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2001\r\n${body}\r\n0\r\n\r\n`,
    )
    await raw.until(({ answers }) => answers.length === 1)
    expect(raw.answers[0]).toMatchObject({ status: 500, text: 'size limit of 8Kb exceeded\n' })
    raw.close()
    expect(await site.get('/large')).toBe(most)
  })

  it.each(['', '/', '/key/', '//key', '/a/b/c', '/a%2Fb%2Fc', '/%2E', '/%2e%2e', '/a/..'])(
    'has no page at %j',
    async (path) => {
      for (const method of ['GET', 'POST', 'DELETE', 'PATCH']) {
        expectText(await site.as(method, path), 404, '404 page not found')
      }
      const head = await site.as('HEAD', path)
      expect(head).toMatchObject({ status: 404, text: '' })
    },
  )

  it.each(['HEAD', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND'])('does not serve %s', async (method) => {
    const answer = await site.as(method, '/key', { token: undefined })
    expect(answer).toMatchObject({ status: 405, text: '', headers: { allow: 'GET, POST, PUT, DELETE' } })
    expect(answer.headers['content-type']).toBeUndefined()
  })

  it('takes an encoded slash for a slash', async () => {
    await site.set('/ab%2Fkey', '"encoded"')
    expect(await site.get('/ab/key')).toBe('"encoded"')
  })

  it('refuses a path that is no UTF-8', async () => {
    expectText(await site.as('GET', '/%ff'), 400, 'path is not percent-encoded UTF-8: invalid input')
    expectText(await site.as('GET', '/%4'), 400, 'path is not percent-encoded UTF-8: invalid input')
  })

  it('never looks at the Content-Type', async () => {
    const types = [undefined, 'text/plain;charset=UTF-8', 'application/x-www-form-urlencoded', 'nonsense', '']
    for (const [index, type] of types.entries()) {
      const headers = type === undefined ? {} : { 'content-type': type }
      const answer = await site.as('POST', '/typed', { body: `{"n":${index}}`, headers })
      expect(answer).toMatchObject({ status: 200, text: '{"changed":true}\n' })
    }
    const headers = { 'content-type': 'application/json' }
    expect(await site.as('GET', '/typed', { headers })).toMatchObject({ status: 200, text: '{"n":4}' })
    expect(await site.as('DELETE', '/typed', { headers })).toMatchObject({ status: 200, text: '' })
  })

  it('finds the token in four places', async () => {
    const secret = secretOf('ann')
    await site.set('/found', '"ann"')
    const places = [
      { headers: { authorization: `BEARER ${secret}` } },
      { headers: { authorization: `bearer ${secret}` } },
      { headers: { authorization: `token ${secret}` } },
      { headers: { cookie: `a=b; MMAUTHTOKEN=${secret}` } },
      { query: `?access_token=${secret}` },
    ]
    for (const { headers = {}, query = '' } of places) {
      const answer = await site.as('GET', `/found${query}`, { token: undefined, headers })
      expect(answer).toMatchObject({ status: 200, text: '"ann"' })
    }
  })

  it('ignores headers that claim an identity', async () => {
    const headers = {
      'mattermost-user-id': 'bob',
      'mattermost-session-id': 'session',
      'mattermost-plugin-id': 'com.mattermost.apps',
      'mattermost-app-id': 'polls',
    }
    await site.set('/claimed', '"bob"', 'bob')
    expectText(
      await site.as('GET', '/claimed', { token: undefined, headers }),
      401,
      'user ID is required: unauthorized',
    )
    expect(await site.as('GET', '/claimed', { headers })).toMatchObject({ status: 200, text: '{}' })
  })

  it('keeps users, bots and apps apart, and knows a holder by any token', async () => {
    const all = standing.filter((holder) => holder !== 'annAgain')
    for (const holder of all) await site.set('/whose', JSON.stringify(holder), holder)
    for (const holder of all) expect(await site.get('/whose', holder)).toBe(JSON.stringify(holder))
    expect(await site.get('/whose', 'annAgain')).toBe('"ann"')
    await site.as('DELETE', '/whose', { token: secretOf('bob') })
    expect(await site.get('/whose', 'bob')).toBe('{}')
    expect(await site.get('/whose', 'bot')).toBe('"bot"')
  })

  it('keeps prefixes apart, fills them up with blanks, and tells upper from lower case', async () => {
    await site.set('/k', '"none"')
    await site.set('/A/k', '"A"')
    await site.set('/a/k', '"a"')
    await site.set('/AB/k', '"AB"')
    await site.set('/K', '"upper"')
    expect(await site.get('/k')).toBe('"none"')
    expect(await site.get('/A/k')).toBe('"A"')
    expect(await site.get('/A%20/k')).toBe('"A"')
    expect(await site.get('/a/k')).toBe('"a"')
    expect(await site.get('/AB/k')).toBe('"AB"')
    expect(await site.get('/%20%20/k')).toBe('"none"')
    expect(await site.get('/%20/k')).toBe('"none"')
    expect(await site.get('/K')).toBe('"upper"')
    expect(await site.get('/B/k')).toBe('{}')
  })

  it('is the one store self that its tokens may open on /v1', async () => {
    const asked = { token: secretOf('ann') }
    const self = { name: 'self', maxValueBytes: 65_536 }
    expect((await site.self('GET', '')).json).toEqual(self)
    expect((await ask(site.nodes.next(), 'GET', '/v1/stores', asked)).json).toEqual({ stores: [self] })
  })

  it('shares its keys with the store self of /v1', async () => {
    await site.set('/shared', '{"a":1}')
    await site.set('/ns/shared', '2')
    const read = await site.self('GET', '/keys/ns/shared')
    expect(read).toMatchObject({ status: 200, text: '2', headers: { 'content-type': 'application/json' } })
    const listed = await site.self('GET', '/keys?prefix=ns/')
    expect(listed.json['keys']).toMatchObject([{ key: 'ns/shared' }])
    const bytes = Buffer.from([0xff, 0, 1, 0x22])
    await site.self('PUT', '/keys/binary', { body: bytes, headers: { 'content-type': 'text/html' } })
    const answer = await site.as('GET', '/binary')
    expect(answer.body).toEqual(bytes)
    // A page is not to run as one of ours.
    expect(answer.headers).toMatchObject({
      'content-type': 'application/json',
      'x-content-type-options': 'nosniff',
    })
  })

  it('refuses a key beyond what any store takes', async () => {
    const longest = 'k'.repeat(4093)
    await site.set(`/ab/${longest}`, '1')
    expect(await site.get(`/ab/${longest}`)).toBe('1')
    expectText(
      await site.as('GET', `/ab/${longest}k`),
      400,
      'prefix and key have at most 4096 bytes, these have 4097: invalid input',
    )
  })

  it('leaves its connection usable after every answer', async () => {
    const raw = await RawClient.connect(Number(new URL(site.nodes.next()).port))
    const head = (method: string, path: string) =>
      `${method} ${base}${path} HTTP/1.1\r\nHost: x\r\nAuthorization: BEARER ${secretOf('ann')}\r\n`
    const requests = [
      `${head('POST', '/again')}Content-Length: 1\r\n\r\n7`,
      `${head('POST', '/again')}Content-Length: 1\r\n\r\nx`,
      `${head('GET', '/a/b/c')}\r\n`,
      `${head('PATCH', '/again')}Content-Length: 1\r\n\r\n7`,
      `${head('GET', '/again')}\r\n`,
    ]
    for (const [index, request] of requests.entries()) {
      raw.say(request)
      await raw.until(({ answers }) => answers.length === index + 1)
    }
    expect(raw.answers.map(({ status, text }) => [status, text])).toEqual([
      [200, '{"changed":true}\n'],
      [400, 'payload is not valid json: invalid input\n'],
      [404, '404 page not found\n'],
      [405, ''],
      [200, '7'],
    ])
    raw.close()
  })
})

describe('by the documentation of Mattermost', () => {
  let site: Site

  beforeAll(async () => {
    site = await Site.start(42, { strict: false, valueBytes: 10_240 })
  })
  afterAll(() => site.nodes[Symbol.asyncDispose]())

  it('a set of the identical bytes has changed nothing', async () => {
    expect(await site.set('/same', '{"a":1}')).toBe('{"changed":true}\n')
    expect(await site.set('/same', '{"a":1}')).toBe('{"changed":false}\n')
    expect(await site.set('/same', '{"a": 1}')).toBe('{"changed":true}\n')
    await site.as('DELETE', '/same')
    expect(await site.set('/same', '{"a": 1}')).toBe('{"changed":true}\n')
  })

  it('a set of bytes that stood there under another type has changed nothing, and is JSON from then on', async () => {
    await site.self('PUT', '/keys/retyped', { body: '[1]', headers: { 'content-type': 'text/plain' } })
    expect(await site.set('/retyped', '[1]')).toBe('{"changed":false}\n')
    const read = await site.self('GET', '/keys/retyped')
    expect(read.headers['content-type']).toBe('application/json')
  })

  it('a longer prefix is a namespace of its own', async () => {
    await site.set('/my-app/key', '"mine"')
    expect(await site.get('/my-app/key')).toBe('"mine"')
    expect(await site.get('/my/key')).toBe('{}')
    expect(await site.get('/key')).toBe('{}')
  })

  it('the size of values is what was configured', async () => {
    const most = JSON.stringify('x'.repeat(10_238))
    expect(await site.set('/sized', most)).toBe('{"changed":true}\n')
    expectText(await site.as('POST', '/sized', { body: `${most} ` }), 500, 'size limit of 10Kb exceeded')
  })

  it('removing an app takes the keys and tokens of all its users, on every node, and no others', async () => {
    await site.set('/kept', '"polls"', 'annElsewhere')
    for (const holder of ['ann', 'bob', 'bot'] as const) await site.set('/kept', '1', holder)
    await site.decide({ type: 'removeApp', app: 'todo' })
    for (const holder of ['ann', 'bob', 'bot'] as const) {
      const answer = await site.as('GET', '/kept', { token: secretOf(holder) })
      expectText(answer, 401, 'user ID is required: unauthorized')
    }
    expect(await site.get('/kept', 'annElsewhere')).toBe('"polls"')
    // Installed again, it begins with nothing.
    for (const holder of ['ann', 'bob', 'bot'] as const) {
      await site.mint(holder)
      expect(await site.get('/kept', holder)).toBe('{}')
    }
  })

  it('a request waits through an election, and is told 503 in words when none ends in time', async () => {
    const { town } = site.nodes
    const leader = await town.leader()
    const others = town.ids.filter((id) => id !== leader)
    await site.set('/waited', '1')
    town.partition([leader], others)
    const apis = site.nodes.apis.filter((_api, at) => town.ids[at] !== leader)
    for (const api of apis) {
      const answer = await ask(api.address.url, 'POST', `${base}/waited`, {
        token: secretOf('ann'),
        body: '2',
      })
      expect(answer.status).toBe(200)
    }
    const alone = site.nodes.apis[town.ids.indexOf(leader)]?.address.url ?? ''
    const headers = { 'trivet-timeout': '300ms' }
    for (const method of ['GET', 'DELETE']) {
      const answer = await ask(alone, method, `${base}/waited`, { token: secretOf('ann'), headers })
      expect([503, 504]).toContain(answer.status)
      expect(answer.headers).toMatchObject(errorHeaders)
      expect(answer.text).toMatch(/^[A-Z].*[^\n]\n$/)
    }
    town.network.heal()
    await town.ready()
    expect(await site.get('/waited')).toBe('2')
  })
})

describe('by the code of Mattermost', () => {
  let site: Site

  beforeAll(async () => {
    site = await Site.start(43, { strict: true, valueBytes: 8192 })
  })
  afterAll(() => site.nodes[Symbol.asyncDispose]())

  it('every set has changed something', async () => {
    expect(await site.set('/same', '1')).toBe('{"changed":true}\n')
    expect(await site.set('/same', '1')).toBe('{"changed":true}\n')
  })

  it('a prefix has at most two bytes', async () => {
    const sentence = 'prefix "ABC" is longer than the limit of 2 ASCII characters'
    expectText(await site.as('GET', '/ABC/key'), 500, sentence)
    expectText(await site.as('POST', '/ABC/key', { body: '1' }), 500, sentence)
    expectText(await site.as('DELETE', '/ABC/key'), 500, sentence)
    // What is checked before it keeps its own answer.
    expectText(
      await site.as('POST', '/ABC/key', { body: 'x' }),
      400,
      'payload is not valid json: invalid input',
    )
    expectText(await site.as('GET', '/ABC/key', { token: admin }), 401, 'not an app session: unauthorized')
  })
})
