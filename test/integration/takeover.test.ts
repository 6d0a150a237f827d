// Clients of Mattermost's and Spin's stores against three real processes, each request to another one, sent as they send it.

import { connect as dial } from 'node:net'
import { buffer } from 'node:stream/consumers'
import axios from 'axios'
import nodeFetch from 'node-fetch'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect } from '../../src/sdk/index.ts'
import { AppClient } from '../../src/sdk/mattermost.ts'
import { conform } from '../sdk/spin-conformance.ts'
import { examplesOf, Reader } from './documented.ts'
import { RealCluster } from './real-cluster.ts'

const base = '/plugins/com.mattermost.apps/api/v1/kv'
const bot = 'kb8x3o7w1tbt8nk4gd7u3sy5ho-of-the-bot'
const user = 'kb8x3o7w1tbt8nk4gd7u3sy5ho-of-ann'
const component = 'the-secret-of-a-spin-component-0123456789'

let cluster: RealCluster
let turn = 0

/** The URL of the next node in turn. */
function next(): string {
  return cluster.urls[turn++ % cluster.urls.length] ?? ''
}

async function mint(body: Readonly<Record<string, unknown>>): Promise<void> {
  const answer = await cluster.fetch('n1', '/v1/tokens', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  if (answer.status !== 201) throw new Error(`${answer.status}: ${await answer.text()}`)
}

beforeAll(async () => {
  cluster = await RealCluster.start()
  await mint({ name: 'drivers-bot', app: 'todo', bot: 'bot1', secret: bot })
  await mint({ name: 'drivers-ann', app: 'todo', user: 'ann', secret: user })
  await mint({ name: 'spin', stores: ['default'], secret: component })
})
afterAll(() => cluster[Symbol.asyncDispose]())

/** One request as Go's net/http writes it for the Apps driver; the connection ends with the answer. */
async function go(method: string, path: string, body = ''): Promise<string> {
  const { hostname, port, host } = new URL(next())
  const socket = dial({ host: hostname, port: Number(port) })
  // A POST states its length even if that is 0; the others send none, and no request has a Content-Type.
  const length = method === 'POST' ? `Content-Length: ${Buffer.byteLength(body)}\r\n` : ''
  socket.write(
    `${method} ${base}${path} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: Go-http-client/1.1\r\n${length}` +
      `Authorization: BEARER ${bot}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n${body}`,
  )
  return (await buffer(socket)).toString()
}

/** Status and body of a raw answer. */
function heard(answer: string): readonly [status: number, contentType: string | undefined, body: string] {
  const [head = '', ...rest] = answer.split('\r\n\r\n')
  const type = /^content-type: (.*)$/im.exec(head)?.[1]?.trim()
  return [Number(head.split(' ')[1]), type, rest.join('\r\n\r\n')]
}

describe('the drivers of Mattermost', () => {
  it('the Go one sets, gets and deletes, byte for byte', async () => {
    const json = 'application/json'
    const text = 'text/plain; charset=utf-8'
    expect(heard(await go('POST', '/p/go', '{"a":[1,{"b":null}]}'))).toEqual([
      200,
      json,
      '{"changed":true}\n',
    ])
    expect(heard(await go('POST', '/p/go', '{"a":[1,{"b":null}]}'))).toEqual([
      200,
      json,
      '{"changed":false}\n',
    ])
    expect(heard(await go('GET', '/p/go'))).toEqual([200, json, '{"a":[1,{"b":null}]}'])
    expect(heard(await go('DELETE', '/p/go'))).toEqual([200, undefined, ''])
    expect(heard(await go('GET', '/p/go'))).toEqual([200, json, '{}'])
    expect(heard(await go('POST', '/go'))).toEqual([400, text, 'payload is not valid json: invalid input\n'])
    expect(heard(await go('GET', '/a/b/c'))).toEqual([404, text, '404 page not found\n'])
  })

  it('one over axios, which states a JSON type on every request, stores and reads', async () => {
    const headers = { Authorization: `BEARER ${bot}`, 'content-type': 'application/json; charset=UTF-8' }
    const value = { google_drive: { client: 'x', nested: [true, { deep: 'é' }] } }
    const set = await axios.post(`${next()}${base}/config`, value, { headers })
    expect(set.data).toEqual({ changed: true })
    expect((await axios.get(`${next()}${base}/config`, { headers })).data).toEqual(value)
    const removed = await axios.delete(`${next()}${base}/config`, { headers })
    expect([removed.status, removed.data]).toEqual([200, ''])
    expect((await axios.get(`${next()}${base}/config`, { headers })).data).toEqual({})
  })

  it('one over node-fetch, which calls its JSON text/plain, stores and reads', async () => {
    const headers = { Authorization: `BEARER ${bot}` }
    const body = JSON.stringify({ list: [1, 2, { three: 3 }] })
    const set = await nodeFetch(`${next()}${base}/fetched`, { method: 'post', headers, body })
    expect(await set.json()).toEqual({ changed: true })
    const got = await nodeFetch(`${next()}${base}/fetched`, { method: 'get', headers })
    expect(await got.text()).toBe(body)
    const removed = await nodeFetch(`${next()}${base}/fetched`, { method: 'delete', headers })
    expect([removed.status, await removed.text()]).toEqual([200, ''])
  })

  it('ours keeps the bot and the user apart, and says what changed', async () => {
    const context = () => ({
      mattermost_site_url: `${next()}/`,
      bot_access_token: bot,
      acting_user_access_token: user,
    })
    const value = { nested: { list: [1, [2], { three: null }] }, text: '"é"\n' }
    expect(await AppClient.asBot(context()).kvSet('my-app', 'a b?c', value)).toBe(true)
    expect(await AppClient.asBot(context()).kvSet('my-app', 'a b?c', value)).toBe(false)
    expect(await AppClient.asBot(context()).kvGet<typeof value>('my-app', 'a b?c')).toEqual(value)
    expect(await AppClient.asActingUser(context()).kvGet('my-app', 'a b?c')).toEqual({})
    await AppClient.asBot(context()).kvDelete('my-app', 'a b?c')
    expect(await AppClient.asBot(context()).kvGet('my-app', 'a b?c')).toEqual({})
    const stranger = { mattermost_site_url: next(), bot_access_token: cluster.token }
    await expect(AppClient.asBot(stranger).kvGet('', 'key')).rejects.toMatchObject({ code: 'access-denied' })
  })

  it('lose nothing when the node they ask next leads after a kill', async () => {
    const headers = { Authorization: `BEARER ${bot}` }
    const leader = await cluster.leader()
    const others = cluster.urls.filter((url) => url !== cluster.url(leader))
    await axios.post(`${others[0]}${base}/survives`, { n: 1 }, { headers })
    cluster.signal(leader, 'SIGKILL')
    await cluster.ended(leader)
    expect((await axios.get(`${others[1]}${base}/survives`, { headers })).data).toEqual({ n: 1 })
    cluster.spawn(leader)
    await cluster.ready([leader])
    expect((await axios.get(`${cluster.url(leader)}${base}/survives`, { headers })).data).toEqual({ n: 1 })
  })
})

describe('a component of Spin', () => {
  it('passes the sequence that Spin runs against any store', async () => {
    const turning = (url: string, init: RequestInit): Promise<Response> => {
      const { pathname, search } = new URL(url)
      return fetch(`${next()}${pathname}${search}`, init)
    }
    await using client = connect({ endpoints: cluster.urls, token: component, fetch: turning })
    await conform(client)
  })
})

describe('what the pages say', () => {
  it('of Mattermost works as it stands there', async () => {
    await using reader = await Reader.sit(cluster)
    const examples = await examplesOf('mattermost.md')
    expect(examples.length).toBeGreaterThan(5)
    for (const example of examples) {
      const printed = await reader.run(example)
      if (example.prints !== undefined) expect(printed).toBe(example.prints)
    }
  })

  it('of Spin works as it stands there', async () => {
    await using reader = await Reader.sit(cluster)
    const examples = await examplesOf('spin.md')
    // The line of trivet dev is held by its own test, the file by that of configuration files.
    const programs = examples.filter(({ language }) => language === 'ts')
    expect(programs).toHaveLength(1)
    for (const example of programs) expect(await reader.run(example)).toBe(example.prints)
  })
})
