// What overseers see: metrics and the page of the API, to whom they are open, and that nothing comes from elsewhere.

import { expect, test } from 'vitest'
import { makeBed, patience } from './bed.ts'
import { ask, listeningLogger } from './client.ts'
import { secrets } from './contract.ts'

const paths = ['/metrics', '/docs', '/docs/static/index.css', '/docs/json', '/docs/yaml']

test('metrics and the page are open to admins and monitors alone', async () => {
  const { as } = await makeBed()
  for (const path of paths) {
    expect(await as('GET', path, { token: undefined }), path).toMatchObject({ status: 401 })
    expect(await as('GET', path, { token: secrets.nobody }), path).toMatchObject({ status: 401 })
    expect(await as('GET', path, { token: secrets.cart }), path).toMatchObject({ status: 403 })
    expect(await as('GET', path, { token: secrets.monitor }), path).toMatchObject({ status: 200 })
    expect(await as('GET', path), path).toMatchObject({ status: 200 })
  }
})

test('where they are open to this machine, it is to straight requests that mean it', async () => {
  const { api } = await makeBed({ openToLoopback: true })
  const get = (path: string, headers: Record<string, string>, token?: string) =>
    ask(api.address.url, 'GET', path, { headers, token })
  for (const path of paths) {
    expect(await get(path, {}), path).toMatchObject({ status: 200 })
    expect(await get(path, { 'x-forwarded-for': '10.0.0.1' }), path).toMatchObject({ status: 401 })
    expect(await get(path, { forwarded: 'for=10.0.0.1' }), path).toMatchObject({ status: 401 })
    // A page of another site whose name was made to lead to this machine.
    expect(await get(path, { host: 'rebound.example:7001' }), path).toMatchObject({ status: 401 })
    expect(await get(path, {}, secrets.nobody), path).toMatchObject({ status: 401 })
  }
  expect(await get('/v1/me', {})).toMatchObject({ status: 401 })
})

test('metrics are told without a leader', async () => {
  const { node, as } = await makeBed()
  node.faults = { noLeader: true }
  expect(await as('GET', '/metrics', { token: secrets.monitor })).toMatchObject({ status: 200 })
})

test('metrics show the figures of the node, its stores, its queues and the process', async () => {
  const { as } = await makeBed()
  await as('PUT', '/v1/stores/carts/keys/ab', { body: 'cde' })
  const { text, headers } = await as('GET', '/metrics')
  expect(headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
  for (const line of [
    'trivet_info{node="n1",version="0.1.0"} 1',
    'trivet_ready 1',
    'trivet_store_keys{store="carts"} 1',
    'trivet_store_bytes{store="carts"} 5',
    'trivet_raft_role{role="leader"} 1',
    'trivet_raft_commit_index 11',
    'trivet_raft_elections_total 1',
    'trivet_wal_append_duration_seconds_bucket{le="0.0005"} 1',
    'trivet_wal_append_duration_seconds_bucket{le="0.01"} 2',
    'trivet_wal_append_duration_seconds_bucket{le="+Inf"} 3',
    'trivet_wal_append_duration_seconds_sum 1.04',
    'trivet_peer_sent_bytes_total 100',
    'trivet_repairs_total{what="state"} 1',
    'trivet_queue_size{queue="outbox bulk",unit="bytes",peer="n2"} 9',
    'trivet_queue_bound{queue="proposals",unit="bytes",peer=""} 33554432',
    'trivet_queue_bound{queue="bodies",unit="bytes",peer=""} 134217728',
    'trivet_queue_bound{queue="answers",unit="bytes",peer=""} 268435456',
    'trivet_http_connections 1',
  ]) {
    expect(text.split('\n')).toContain(line)
  }
  expect(text).toContain('process_resident_memory_bytes')
  expect(text).toContain('nodejs_eventloop_lag_seconds')
})

test('metrics are the text that Prometheus reads: each name once with its help and type, no line of another form', async () => {
  const { as } = await makeBed()
  await as('GET', '/v1/stores/nowhere')
  const { text } = await as('GET', '/metrics')
  const named = [...text.matchAll(/^# TYPE (\S+) (gauge|counter|histogram)$/gm)].map(([, name]) => name)
  expect(new Set(named).size).toBe(named.length)
  const sample =
    /^[a-z_:][a-z0-9_:]*(\{[a-z_]+="(?:[^"\\]|\\.)*"(,[a-z_]+="(?:[^"\\]|\\.)*")*\})? (\+Inf|NaN|-?[\d.e+-]+)$/i
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('# ')) continue
    expect(line).toMatch(sample)
  }
  expect(text.endsWith('\n')).toBe(true)
})

test('requests are counted by their route, not by what was asked of it', async () => {
  const { as } = await makeBed()
  await as('PUT', '/v1/stores/default/keys/a/secret', { body: 'x' })
  await as('GET', '/v1/stores/default/keys/a/riddle')
  await as('GET', '/nowhere/at/all')
  const route = '/v1/stores/{store}/keys/{key}'
  const count = 'trivet_http_request_duration_seconds_count'
  const text = async () => (await as('GET', '/metrics')).text
  await expect.poll(text, patience).toContain(`${count}{method="PUT",route="${route}",status="201"} 1`)
  await expect.poll(text, patience).toContain(`${count}{method="GET",route="${route}",status="404"} 1`)
  await expect.poll(text, patience).toContain(`${count}{method="GET",route="none",status="404"} 1`)
  await as('GET', '/plugins/com.mattermost.apps/api/v1/kv/riddle', { token: undefined }).catch(
    () => undefined,
  )
  const surface = '/plugins/com.mattermost.apps/api/v1/kv/{key}'
  await expect.poll(text, patience).toContain(`${count}{method="GET",route="${surface}",status="401"} 1`)
  expect(await text()).toContain('trivet_http_errors_total{code="no-such-key"} 1')
  expect(await text()).toContain('trivet_http_errors_total{code="not-found"} 1')
  expect(await text()).not.toMatch(/secret|riddle|nowhere/)
})

test('what is no request is counted by its code', async () => {
  const { as, raw } = await makeBed()
  const client = await raw()
  client.say('no HTTP\r\n\r\n')
  await client.until(({ answers }) => answers.length === 1)
  expect((await as('GET', '/metrics')).text).toContain('trivet_http_errors_total{code="invalid-request"} 1')
})

test('the page loads nothing from elsewhere, and may not', async () => {
  const { as } = await makeBed()
  const page = await as('GET', '/docs')
  expect(page.headers['content-security-policy']).toContain("default-src 'none'")
  expect(page.headers['content-security-policy']).not.toMatch(/https?:|validator/)
  const assets = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path ?? '')
  expect(assets.length).toBeGreaterThan(3)
  for (const asset of assets) {
    expect(asset).not.toMatch(/^(?:[a-z]+:)?\/\//)
    const { pathname } = new URL(asset, 'http://x/docs')
    expect(await as('GET', pathname), pathname).toMatchObject({ status: 200 })
  }
  expect(page.text).not.toMatch(/<script>(?!\s*<)/)
  const initializer = await as('GET', '/docs/static/swagger-initializer.js')
  expect(initializer.text).toContain('"validatorUrl":null')
})

test('a trace is passed on to the answer and the log', async () => {
  const logger = listeningLogger('debug')
  const { as } = await makeBed({ logger })
  const traceparent = `00-${'ab'.repeat(16)}-${'cd'.repeat(8)}-01`
  const answer = await as('GET', '/v1/me', { headers: { traceparent } })
  expect(answer.headers['traceparent']).toBe(traceparent)
  expect(logger.lines.at(-1)?.fields).toMatchObject({ traceparent })
  const other = await as('GET', '/v1/me', { headers: { traceparent: 'not one "' } })
  expect(other.headers['traceparent']).toBeUndefined()
  expect(JSON.stringify(logger.lines)).not.toContain('not one')
})
