// A node that serves meets hostile bytes on its HTTP port and rivals for its data directory; one that starts, a damaged log.

import { once } from 'node:events'
import { open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { filesIn } from '../../src/cli/dev-files.ts'
import { environmentOf } from '../../src/cli/dev-plan.ts'
import { trivet } from '../cli/run.ts'
import { eventually, freePorts, RealCluster } from './real-cluster.ts'

/** What a server says to these bytes until it closes the connection, or has said `enough`. */
async function say(port: number, bytes: string | Uint8Array, enough?: RegExp): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  let heard = ''
  socket.setEncoding('latin1').on('data', (text: string) => {
    heard += text
    if (enough?.test(heard) === true) socket.destroy()
  })
  socket.on('error', () => {})
  const closed = once(socket, 'close')
  socket.write(bytes)
  await eventually(`an answer; heard ${JSON.stringify(heard)}`, () => (socket.closed ? true : undefined))
  await closed
  return heard
}

function expectCode(heard: string, status: number, code: string): void {
  expect(heard).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
  expect(heard.toLowerCase()).toContain(`trivet-error: ${code}\r\n`)
}

it('answers hostile bytes by the contract, and goes on as before', async () => {
  await using cluster = await RealCluster.start({ nodes: 1 })
  const port = Number(new URL(cluster.url('n1')).port)
  const path = '/v1/stores/default/keys/k'
  const head = `PUT ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${cluster.token}\r\n`
  expect((await cluster.fetch('n1', path, { method: 'PUT', body: 'before' })).status).toBe(201)

  expectCode(await say(port, '\x16\x03\x01 no HTTP\r\n\r\n'), 400, 'invalid-request')
  expectCode(await say(port, `${head}X: ${'x'.repeat(70_000)}\r\n\r\n`), 431, 'headers-too-large')
  expectCode(await say(port, `${head}Content-Length: 5000000\r\n\r\nx`, /\}$/), 413, 'value-too-large')
  const chunk = `10000\r\n${'x'.repeat(65_536)}\r\n`
  const chunked = `${head}Transfer-Encoding: chunked\r\n\r\n`
  expectCode(await say(port, chunked + chunk.repeat(70), /\}$/), 413, 'value-too-large')
  expectCode(await say(port, `${chunked}zz\r\n`), 400, 'invalid-request')
  expectCode(
    await say(port, `${head}Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx`),
    400,
    'invalid-request',
  )
  expectCode(await say(port, 'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n'), 400, 'invalid-request')

  // Half of a value, then gone: nothing of it may be stored.
  const half = connect(port, '127.0.0.1').resume()
  half.write(`${head}Content-Length: 10\r\n\r\nhalf`)
  await once(half, 'connect')
  half.end()
  await once(half, 'close')

  expect(await (await cluster.fetch('n1', path)).text()).toBe('before')
  expect(await cluster.status(`${cluster.url('n1')}/livez`)).toBe(200)
  expect(cluster.exitCode('n1')).toBeNull()
  expect(await cluster.log('n1')).not.toMatch(/"level":[56]0/)
})

it('keeps a second process off the data of a running one, also when its pid file is gone', async () => {
  await using cluster = await RealCluster.start({ nodes: 1 })
  const { data } = cluster.node('n1')
  const { configPath } = filesIn(cluster.directory)
  const base = await freePorts(2)
  const text = await readFile(configPath, 'utf8')
  const elsewhere = join(cluster.directory, 'elsewhere.yml')
  await writeFile(
    elsewhere,
    text
      .replace(/http:\/\/127\.0\.0\.1:\d+/, `http://127.0.0.1:${base}`)
      .replace(/tcp\/\d+/, `tcp/${base + 1}`),
  )
  const attempt = () =>
    trivet(['start', '--config', elsewhere, '--node', 'n1', '--data', data], {
      env: environmentOf(cluster.plan, cluster.node('n1'), '127.0.0.1', cluster.token),
    })
  const named = await attempt()
  expect(named).toMatchObject({ status: 1, stdout: Buffer.alloc(0) })
  expect(named.stderr).toMatch(/^n1 runs on .* already, as process \d+; .*\n$/)

  await rm(join(data, 'trivet.pid'))
  const locked = await attempt()
  expect(locked).toMatchObject({ status: 1, stdout: Buffer.alloc(0) })
  expect(locked.stderr).toMatch(/^The state in .* is in use by another process\..*\n$/)
  const put = await cluster.fetch('n1', '/v1/stores/default/keys/k', { method: 'PUT', body: 'v' })
  expect(put.status).toBe(201)
})

it('serves nothing from a log with a flipped bit in its middle, says so, and keeps the log for whoever looks into it', async () => {
  await using cluster = await RealCluster.start({ nodes: 1 })
  for (let at = 0; at < 8; at++) {
    const body = 'x'.repeat(2000)
    expect(
      (await cluster.fetch('n1', `/v1/stores/default/keys/k${at}`, { method: 'PUT', body })).status,
    ).toBe(201)
  }
  // So that the log is proven durable by more than its own words.
  cluster.signal('n1', 'SIGTERM')
  await cluster.ended('n1')
  const log = join(cluster.node('n1').data, 'log')
  const sized = await Promise.all(
    (await readdir(log)).map(async (name) => ({ name, size: (await stat(join(log, name))).size })),
  )
  const [largest] = sized.toSorted((a, b) => b.size - a.size)
  if (largest === undefined) throw new Error('there is no log')
  const path = join(log, largest.name)
  const bytes = await readFile(path)
  const middle = bytes.indexOf('x'.repeat(1000), bytes.indexOf('x'.repeat(1000)) + 8000)
  expect(middle).toBeGreaterThan(0)
  {
    await using file = await open(path, 'r+')
    await file.write(Buffer.of((bytes[middle] ?? 0) ^ 4), 0, 1, middle)
  }
  const damaged = await readFile(path)
  cluster.spawn('n1')
  // It is the whole cluster, so nobody is left that could make a learner of it.
  const reasons = await eventually('the node to say what is the matter', async () => {
    const answer = await cluster.fetch('n1', '/readyz').catch(() => undefined)
    const { reasons } =
      answer?.status === 503 ? ((await answer.json()) as { reasons: string[] }) : { reasons: [] }
    return reasons.some((reason) => reason.includes('its log was lost')) ? reasons : undefined
  })
  expect(reasons.length).toBeGreaterThan(0)
  expect(cluster.output('n1')).toContain(`The log is damaged: in ${path} at position`)
  expect((await cluster.fetch('n1', '/v1/stores/default/keys/k0')).status).toBe(503)
  expect(await readFile(join(cluster.node('n1').data, 'log.damaged-1', largest.name))).toEqual(damaged)
})
