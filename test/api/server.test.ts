// The server's own life: listening, TLS, draining, closing.

import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import { createApi } from '../../src/api/server.ts'
import { makeBed, patience } from './bed.ts'
import { listeningLogger } from './client.ts'
import { founding, secrets } from './contract.ts'
import { MemoryNode } from './memory-node.ts'

const path = '/v1/stores/default/keys/x'
const limits = { keyBytes: 4096, valueBytes: founding.valueBytes }

async function memoryNode(): Promise<MemoryNode> {
  const node = await MemoryNode.start(founding)
  onTestFinished(() => node.close())
  return node
}

test('a port in use is told in one sentence', async () => {
  const { api } = await makeBed()
  const { port } = api.address
  const second = await createApi({ node: await memoryNode(), limits, logger: listeningLogger() })
  await expect(second.listen({ host: '127.0.0.1', port })).rejects.toThrow(
    `The HTTP address 127.0.0.1:${port} is in use: another process listens there`,
  )
  await second.close()
})

test('an address of another machine is told in one sentence', async () => {
  const api = await createApi({ node: await memoryNode(), limits, logger: listeningLogger() })
  await expect(api.listen({ host: '192.0.2.1', port: 0 })).rejects.toThrow('is none of this machine')
  await api.close()
})

test('requests can be made without a socket', async () => {
  const api = await createApi({ node: await memoryNode(), limits, logger: listeningLogger() })
  const answer = await api.inject({
    method: 'GET',
    url: '/v1/me',
    headers: { authorization: `Bearer ${secrets.cart}` },
  })
  expect(answer.statusCode).toBe(200)
  await api.close()
})

test('a draining server serves, and sends its clients elsewhere', async () => {
  const { api, as } = await makeBed()
  const before = await as('PUT', path, { body: 'x' })
  expect(before.headers['trivet-draining']).toBeUndefined()
  api.drain()
  for (const answer of [
    await as('GET', path),
    await as('GET', '/nope'),
    await as('GET', path, { token: undefined }),
  ]) {
    expect(answer.headers).toMatchObject({ 'trivet-draining': 'true', connection: 'close' })
  }
})

test('close waits for the answers in flight, and not for idle or half-sent requests', async () => {
  const { api, node, as, raw } = await makeBed({ closeTimeout: 10_000 })
  const { promise, resolve } = Promise.withResolvers<void>()
  const idle = await raw()
  const half = await raw()
  half.say('GET /livez HT')
  const kept = await raw()
  kept.say('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n')
  await kept.until(({ answers }) => answers.length === 1)
  node.faults = { barrier: promise }
  const read = as('GET', path)
  await expect.poll(() => node.barriers, patience).toBe(1)
  let closed = false
  const closing = api.close().then(() => {
    closed = true
  })
  await Promise.all([idle, half, kept].map((client) => client.until(({ socket }) => socket.readableEnded)))
  expect(closed).toBe(false)
  resolve()
  expect((await read).status).toBe(404)
  await closing
})

test('close cuts what takes longer than it may', async () => {
  const { api, node, as } = await makeBed({ closeTimeout: 50 })
  node.faults = { barrier: new Promise(() => undefined) }
  const read = as('GET', path).catch((error: unknown) => error)
  await expect.poll(() => node.barriers, patience).toBe(1)
  await api.close()
  expect(await read).toBeInstanceOf(Error)
})

/** A directory with the first certificate, and which one a server presents. */
async function tlsBed() {
  const directory = await mkdtemp(join(tmpdir(), 'trivet-tls-'))
  onTestFinished(() => rm(directory, { recursive: true }))
  const files = { cert: join(directory, 'tls.crt'), key: join(directory, 'tls.key') }
  const use = async (name: string) => {
    await copyFile(new URL(`tls/${name}.crt`, import.meta.url), files.cert)
    await copyFile(new URL(`tls/${name}.key`, import.meta.url), files.key)
  }
  const presented = async (port: number) => {
    const socket = tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false })
    await new Promise<void>((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject))
    const name = socket.getPeerCertificate().subject.CN
    socket.write(
      `GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${secrets.admin}\r\nConnection: close\r\n\r\n`,
    )
    const chunks: Buffer[] = []
    for await (const chunk of socket) chunks.push(chunk)
    return { name, answer: Buffer.concat(chunks).toString() }
  }
  await use('first')
  return { files, use, presented }
}

test('HTTPS is served with the files given, read again when told to', async () => {
  const { files, use, presented } = await tlsBed()
  const api = await createApi({
    node: await memoryNode(),
    limits,
    logger: listeningLogger(),
    tls: files,
  })
  await api.listen({ host: '127.0.0.1', port: 0 })
  onTestFinished(() => api.close())
  const { port, url } = api.address
  expect(url).toBe(`https://127.0.0.1:${port}`)
  const first = await presented(port)
  expect(first.name).toBe('first.trivet.test')
  expect(first.answer).toMatch(/^HTTP\/1.1 200 OK\r\n/)
  await use('second')
  expect((await presented(port)).name).toBe('first.trivet.test')
  await api.reloadTls()
  expect((await presented(port)).name).toBe('second.trivet.test')
})

test('bad TLS files are told by name, and do not replace good ones', async () => {
  const { files, presented } = await tlsBed()
  const options = { node: await memoryNode(), limits, logger: listeningLogger() }
  await expect(createApi({ ...options, tls: { ...files, key: '/nowhere/tls.key' } })).rejects.toThrow(
    'The TLS file /nowhere/tls.key cannot be read',
  )
  const api = await createApi({ ...options, tls: files })
  await api.listen({ host: '127.0.0.1', port: 0 })
  onTestFinished(() => api.close())
  await copyFile(new URL('tls/second.key', import.meta.url), files.key)
  await expect(api.reloadTls()).rejects.toThrow('do not fit together')
  await writeFile(files.cert, 'nonsense')
  await expect(api.reloadTls()).rejects.toThrow('do not fit together')
  expect((await presented(api.address.port)).name).toBe('first.trivet.test')
  await expect(createApi({ ...options, tls: files })).rejects.toThrow('do not fit together')
})

test('what is no TLS is dropped by a TLS port, which serves on', async () => {
  const { files, presented } = await tlsBed()
  const { api, raw } = await makeBed({ tls: files })
  const client = await raw()
  client.say('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
  await client.until(({ socket }) => socket.readableEnded || socket.destroyed)
  expect((await presented(api.address.port)).answer).toMatch(/^HTTP\/1.1 200/)
})
