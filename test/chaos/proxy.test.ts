import { once } from 'node:events'
import { createServer, connect as dial, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { eventually, freePorts } from '../integration/real-cluster.ts'
import { Chance } from '../raft/chance.ts'
import { fairWeather, Mesh } from './proxy.ts'

/** A node that keeps what it hears. */
class Listener {
  readonly server: Server
  readonly sockets: Socket[] = []
  heard = ''
  ended = 0
  failed = 0

  constructor(port: number) {
    this.server = createServer((socket) => {
      this.sockets.push(socket)
      socket.on('error', () => {
        this.failed += 1
      })
      socket.setEncoding('utf8').on('data', (text: string) => {
        this.heard += text
      })
      socket.on('end', () => {
        this.ended += 1
      })
    })
    this.server.listen({ host: '127.0.0.1', port })
  }
}

describe('the wires between nodes', () => {
  let mesh: Mesh
  let listeners: Listener[]
  let base: number

  beforeEach(async () => {
    mesh = new Mesh(new Chance(1))
    base = await freePorts(6)
    listeners = []
    for (const [at, id] of ['a', 'b', 'c'].entries()) {
      const listener = new Listener(base + 2 * at)
      listeners.push(listener)
      await once(listener.server, 'listening')
      await mesh.add({ id, source: `127.0.1.${at + 1}`, target: base + 2 * at, entry: base + 2 * at + 1 })
    }
  })

  afterEach(async () => {
    await mesh[Symbol.asyncDispose]()
    for (const { server, sockets } of listeners) {
      for (const socket of sockets) socket.destroy()
      server.close()
    }
  })

  /** From one node to another, as the preload of a node has it dial. */
  function call(from: number, to: number): Socket & { heard: string; ended: boolean } {
    const socket = dial({ host: '127.0.0.1', port: base + 2 * to + 1, localAddress: `127.0.1.${from + 1}` })
    const caller = Object.assign(socket, { heard: '', ended: false })
    socket.on('error', () => {})
    socket.setEncoding('utf8').on('data', (text: string) => {
      caller.heard += text
    })
    socket.on('close', () => {
      caller.ended = true
    })
    return caller
  }

  function listener(at: number): Listener {
    const found = listeners[at]
    if (found === undefined) throw new Error('no such listener')
    return found
  }

  const hears = (who: { readonly heard: string }, text: string) =>
    eventually(`${text} to be heard, not ${who.heard}`, () => (who.heard === text ? true : undefined), 5)

  it('carry bytes both ways, and count them by direction', async () => {
    const caller = call(0, 1)
    caller.write('to')
    await hears(listener(1), 'to')
    listener(1).sockets[0]?.write('back!')
    await hears(caller, 'back!')
    expect([mesh.carried('a', 'b'), mesh.carried('b', 'a'), mesh.carried('a', 'c')]).toEqual([2, 5, 0])
  })

  it('pass on the end of a connection, and its reset', async () => {
    const caller = call(0, 1)
    caller.write('x')
    await hears(listener(1), 'x')
    caller.end()
    await eventually('the end to arrive', () => (listener(1).ended === 1 ? true : undefined), 5)
    const other = call(0, 1)
    other.write('y')
    await hears(listener(1), 'xy')
    other.resetAndDestroy()
    await eventually('the reset to arrive', () => (listener(1).failed === 1 ? true : undefined), 5)
  })

  it('let nobody in who is none of the nodes', async () => {
    const stranger = dial({ host: '127.0.0.1', port: base + 3 })
    stranger.on('error', () => {})
    await once(stranger, 'close')
    expect(mesh.strangers).toBe(1)
    expect(listener(1).sockets).toEqual([])
  })

  it('hold one direction and leave the other open; what was held arrives when they heal', async () => {
    const caller = call(0, 1)
    caller.write('1')
    await hears(listener(1), '1')
    mesh.cut('a', 'b', 'held')
    caller.write('2')
    listener(1).sockets[0]?.write('still')
    await hears(caller, 'still')
    // What others say to the same node is not held.
    const other = call(2, 1)
    other.write('c')
    await hears(listener(1), '1c')
    mesh.heal()
    await hears(listener(1), '1c2')
  })

  it('hold the end of a connection too', async () => {
    const caller = call(0, 1)
    caller.write('1')
    await hears(listener(1), '1')
    mesh.cut('a', 'b', 'held')
    caller.end('2')
    const witness = call(2, 1)
    witness.write('c')
    await hears(listener(1), '1c')
    expect(listener(1).ended).toBe(0)
    mesh.heal()
    await eventually('the end to arrive', () => (listener(1).ended === 1 ? true : undefined), 5)
    expect(listener(1).heard).toBe('1c2')
  })

  it('let no new connection come about while either direction is held', async () => {
    mesh.cut('b', 'a', 'held')
    const caller = call(0, 1)
    caller.write('early')
    const witness = call(2, 1)
    witness.write('c')
    await hears(listener(1), 'c')
    expect(listener(1).sockets).toHaveLength(1)
    mesh.heal()
    await hears(listener(1), 'cearly')
  })

  it('end what stands between two nodes that refuse each other, and nothing else', async () => {
    const caller = call(0, 1)
    const back = call(1, 0)
    const other = call(2, 1)
    for (const socket of [caller, back, other]) socket.write('x')
    await hears(listener(1), 'xx')
    await hears(listener(0), 'x')
    mesh.cut('a', 'b', 'refused')
    await eventually('both to end', () => (caller.ended && back.ended ? true : undefined), 5)
    const again = call(1, 0)
    await eventually('it to be refused', () => (again.ended ? true : undefined), 5)
    other.write('y')
    await hears(listener(1), 'xxy')
    mesh.heal()
    const healed = call(1, 0)
    healed.write('z')
    await hears(listener(0), 'xz')
  })

  it('take their time where there is latency, keep the order whatever the jitter, and let all go once they heal', async () => {
    mesh.slow('a', 'b', { ...fairWeather, latency: 60, jitter: 40 })
    const caller = call(0, 1)
    const begun = performance.now()
    let sent = ''
    for (let at = 0; at < 50; at++) {
      caller.write(`${at},`)
      sent += `${at},`
    }
    await hears(listener(1), sent)
    expect(performance.now() - begun).toBeGreaterThan(55)
  })

  it('carry no more a second than they are told, over all connections together', async () => {
    mesh.slow('a', 'b', { ...fairWeather, bytesPerSecond: 20_000 })
    const callers = [call(0, 1), call(0, 1)]
    const begun = performance.now()
    for (const caller of callers) caller.write('x'.repeat(5000))
    await eventually('all of it', () => (listener(1).heard.length === 10_000 ? true : undefined), 5)
    expect(performance.now() - begun).toBeGreaterThan(400)
  })
})
