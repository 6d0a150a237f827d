// What a node takes from its machine besides disk and network: the beat of its clock.

import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { expect, it } from 'vitest'
import { every } from '../../src/node/open.ts'

/** Two ends of a connection within this process. */
async function connection(): Promise<{ near: Socket; far: Socket; close: () => void }> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the server listens on a port')
  const accepted = once(server, 'connection')
  const near = connect(address.port, '127.0.0.1')
  const [far] = (await accepted) as [Socket]
  const close = () => {
    near.destroy()
    far.destroy()
    server.close()
  }
  return { near, far, close }
}

it('the beat of a node runs once, however late, after what has arrived', async () => {
  const { near, far, close } = await connection()
  const seen: string[] = []
  far.on('data', () => seen.push('message'))
  const { promise, resolve } = Promise.withResolvers<void>()
  const stop = every(5, () => {
    seen.push('tick')
    if (seen.length >= 2) resolve()
  })
  // The process stands still for many beats, and while it does a message arrives.
  near.write('still here')
  const until = performance.now() + 60
  while (performance.now() < until);
  await promise
  stop()
  close()
  expect(seen.slice(0, 2)).toEqual(['message', 'tick'])
})
