// A node in a process of its own, for tests that kill or stop one. Says its peer id and address in a line of JSON, and answers what it gets.

import { Libp2pTransport } from '../../src/node/libp2p.ts'
import { generatePeerKey } from '../../src/node/peer-key.ts'
import { freePort } from './free-port.ts'
import { cluster } from './names-of-clusters.ts'

const [, , other, otherAddress] = process.argv
if (other === undefined || otherAddress === undefined) throw new Error('usage: libp2p-child PEER ADDRESS')
const key = await generatePeerKey()
const listen = `/ip4/127.0.0.1/tcp/${await freePort()}`
const transport = new Libp2pTransport({ key, listen, hello: { clusterId: cluster, id: 'child', boot: 1 } })
transport.setPeers([{ peer: other, id: 'parent', addresses: [otherAddress] }])
const say = (what: unknown) => process.stdout.write(`${JSON.stringify(what)}\n`)
let appends = 0
await transport.start({
  message: (from, message) => {
    if (message.type !== 'raft') return
    const head = { from: key.peer, to: from, term: 1 }
    const asked = message.message
    if (asked.type === 'heartbeat') {
      transport.send(from, {
        type: 'raft',
        message: { type: 'heartbeatAnswer', ...head, round: asked.round },
      })
    }
    if (asked.type === 'append') {
      appends += 1
      transport.send(from, { type: 'raft', message: { type: 'appended', ...head, matchIndex: appends } })
    }
  },
  progress: () => undefined,
  connected: () => undefined,
  disconnected: () => undefined,
  question: async () => ({ type: 'done' }),
  refused: () => undefined,
  turnedAway: () => undefined,
})
say({ peer: key.peer, address: listen })
