// The configuration file: what it becomes, and how every mistake in it is named.

import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

import { type ClusterConfig, ConfigError, loadConfig } from '../../src/node/config.ts'
import { generatePeerKey } from '../../src/node/peer-key.ts'

const peers = await Promise.all(Array.from({ length: 3 }, async () => (await generatePeerKey()).peer))
const secret = 'correct-horse-battery-staple-0123456789'

let directory = ''
let path = ''

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'trivet-config-'))
  path = join(directory, 'cluster.yml')
})

afterEach(() => rmSync(directory, { recursive: true }))

function load(text: string, env: Record<string, string> = {}): ClusterConfig {
  writeFileSync(path, text)
  return loadConfig(path, env)
}

/** The mistakes in a file; it must have some. */
function mistakes(text: string, env: Record<string, string> = {}): readonly string[] {
  try {
    load(text, env)
  } catch (error) {
    if (error instanceof ConfigError) {
      expect(error.message).toBe(error.mistakes.join('\n'))
      for (const mistake of error.mistakes) expect(mistake).not.toContain('\n')
      return error.mistakes
    }
    throw error
  }
  throw new Error('the file has no mistake')
}

/** A file of one node, lines 1 to 3, with more below. */
function minimal(more = ''): string {
  return `cluster: dev\nnodes:\n  n1: { http: "http://127.0.0.1:7001", p2p: /ip4/127.0.0.1/tcp/7101, peer: ${peers[0]}, data: ./data/n1 }\n${more}`
}

describe('a configuration without mistakes', () => {
  test('is filled in with every default', () => {
    expect(load(minimal())).toEqual({
      path,
      cluster: 'dev',
      nodes: [
        {
          id: 'n1',
          http: 'http://127.0.0.1:7001',
          p2p: '/ip4/127.0.0.1/tcp/7101',
          peer: peers[0],
          data: join(directory, 'data/n1'),
          listen: { http: { host: '127.0.0.1', port: 7001 }, p2p: '/ip4/127.0.0.1/tcp/7101' },
        },
      ],
      tls: undefined,
      http: {
        insecureBeyondLoopback: false,
        trustProxy: false,
        shutdownDelay: 1_000,
        cors: { origins: [] },
        openToLoopback: false,
      },
      stores: [{ name: 'default' }],
      tokens: [],
      limits: { keyBytes: 4_096, valueBytes: 4_194_304, bodyBytes: 8_388_608 },
      raft: { heartbeat: 100, election: 1_000 },
      mattermost: { strict: false, valueBytes: 8_192 },
    })
  })

  test('lets the store of Mattermost apps follow its documentation, its code, or a limit of its own', () => {
    const section = (more: string) => load(minimal(more)).mattermost
    expect(section('mattermost: { strict: true }')).toEqual({ strict: true, valueBytes: 8_192 })
    expect(section('mattermost: { valueBytes: 65536 }')).toEqual({ strict: false, valueBytes: 65_536 })
    expect(section('limits: { valueBytes: 1000 }')).toEqual({ strict: false, valueBytes: 1_000 })
  })

  test('may say everything there is, and may take it from the environment', () => {
    writeFileSync(join(directory, 'tls.crt'), 'cert')
    writeFileSync(join(directory, 'tls.key'), 'key')
    const config = load(
      `cluster: "\${NAME} east"
nodes:
  n1: { http: "https://n1.example:7001", p2p: "/dns4/n1.example/tcp/\${P2P_PORT}", peer: ${peers[0]}, data: /data }
  n2: { http: "https://[2001:db8::2]:7001", p2p: /ip6/2001:db8::2/tcp/7101, peer: ${peers[1]}, data: /data }
listen: { http: "0.0.0.0:7001", p2p: /ip4/0.0.0.0/tcp/7101 }
tls: { cert: tls.crt, key: ./tls.key }
http:
  trustProxy: true
  shutdownDelay: 250ms
  cors: { origins: ["https://app.example.com", "http://localhost:5173"] }
  openToLoopback: true
stores:
  carts: { ttl: 1h, maxValueBytes: 65536 }
  eu-sessions:
tokens:
  - { name: admin, admin: true, secret: "\${ADMIN}" }
  - { name: prometheus, monitor: true, secret: "\${MONITOR}" }
  - name: cart
    stores: [default, { store: carts, access: read, prefix: "a/" }, { store: carts, prefix: "b/" }]
    secret: "\${CART}"
  - { name: minter, stores: [default], mint: true, secret: "\${MINTER}" }
  - { name: todo-bot, app: com.example.todo, bot: todo, secret: "\${BOT}" }
  - { name: todo-ann, app: com.example.todo, user: ann, secret: "\${ANN}" }
limits: { keyBytes: 256, valueBytes: "\${BYTES}", bodyBytes: 1000000 }
raft: { heartbeat: 50ms, election: 1m }
`,
      {
        NAME: 'shop',
        P2P_PORT: '7102',
        ADMIN: `a${secret}`,
        MONITOR: `m${secret}`,
        CART: `c${secret}`,
        BYTES: '100000',
        MINTER: `i${secret}`,
        BOT: `b${secret}`,
        ANN: `n${secret}`,
      },
    )
    expect(config.cluster).toBe('shop east')
    expect(config.nodes.map(({ http, p2p, listen }) => ({ http, p2p, listen }))).toEqual([
      {
        http: 'https://n1.example:7001',
        p2p: '/dns4/n1.example/tcp/7102',
        listen: { http: { host: '0.0.0.0', port: 7001 }, p2p: '/ip4/0.0.0.0/tcp/7101' },
      },
      {
        http: 'https://[2001:db8::2]:7001',
        p2p: '/ip6/2001:db8::2/tcp/7101',
        listen: { http: { host: '0.0.0.0', port: 7001 }, p2p: '/ip4/0.0.0.0/tcp/7101' },
      },
    ])
    expect(config.tls).toEqual({ cert: join(directory, 'tls.crt'), key: join(directory, 'tls.key') })
    expect(config.http).toEqual({
      insecureBeyondLoopback: false,
      trustProxy: true,
      shutdownDelay: 250,
      cors: { origins: ['https://app.example.com', 'http://localhost:5173'] },
      openToLoopback: true,
    })
    expect(config.stores).toEqual([
      { name: 'default' },
      { name: 'carts', ttl: 3_600_000, maxValueBytes: 65_536 },
      { name: 'eu-sessions' },
    ])
    expect(config.tokens.map(({ name, principal }) => ({ name, principal }))).toEqual([
      { name: 'admin', principal: { type: 'admin' } },
      { name: 'prometheus', principal: { type: 'monitor' } },
      {
        name: 'cart',
        principal: {
          type: 'component',
          grants: [
            { store: 'default', access: 'read-write' },
            { store: 'carts', access: 'read', prefix: 'a/' },
            { store: 'carts', access: 'read-write', prefix: 'b/' },
          ],
        },
      },
      {
        name: 'minter',
        principal: { type: 'component', grants: [{ store: 'default', access: 'read-write' }], mint: true },
      },
      {
        name: 'todo-bot',
        principal: { type: 'app', app: 'com.example.todo', holder: { type: 'bot', id: 'todo' } },
      },
      {
        name: 'todo-ann',
        principal: { type: 'app', app: 'com.example.todo', holder: { type: 'user', id: 'ann' } },
      },
    ])
    expect(config.tokens[2]?.hash).toBe(createHash('sha256').update(`c${secret}`).digest('base64url'))
    expect(JSON.stringify(config)).not.toContain(secret)
    expect(config.limits).toEqual({ keyBytes: 256, valueBytes: 100_000, bodyBytes: 1_000_000 })
    expect(config.raft).toEqual({ heartbeat: 50, election: 60_000 })
  })

  test('takes a text as it is written, though YAML would make a number of it', () => {
    const digits = '00000000001111111111222222222233'
    const config = load(minimal(`tokens: [{ name: 007, admin: true, secret: ${digits} }]\n`))
    expect(config.tokens[0]?.name).toBe('007')
    expect(config.tokens[0]?.hash).toBe(createHash('sha256').update(digits).digest('base64url'))
  })

  test('may use anchors and aliases', () => {
    const config = load(minimal('stores:\n  a: &small { maxValueBytes: 10 }\n  b: *small\n'))
    expect(config.stores.slice(1)).toEqual([
      { name: 'a', maxValueBytes: 10 },
      { name: 'b', maxValueBytes: 10 },
    ])
  })

  test('listens for plain HTTP beyond loopback when told to', () => {
    const config = load(minimal('listen: { http: "0.0.0.0:80" }\nhttp: { insecureBeyondLoopback: true }\n'))
    expect(config.nodes[0]?.listen.http).toEqual({ host: '0.0.0.0', port: 80 })
  })
})

describe('mistakes in a configuration', () => {
  test('are reported all at once, each with its path, what was expected, what was found, and its line', () => {
    const found = mistakes(`cluster: ""
nodes:
  n1: { http: "http://127.0.0.1:7001/x", p2p: foo, peer: QmFoo, data: ./n1 }
  N2:
    http: http://127.0.0.1:7002
    p2p: /ip4/127.0.0.1/tcp/70000
    peer: ${peers[1]}
    dta: ./n2
raft: { heartbeat: 300ms, election: 1s, electoin: 2s }
limits: { keyBytes: 5000 }
colour: red
`)
    expect(found).toEqual([
      'colour: unknown; known here: cluster, nodes, listen, tls, http, stores, tokens, limits, raft, mattermost (cluster.yml:11)',
      'cluster: expected a name of 1 to 63 printable characters, found "" (cluster.yml:1)',
      'nodes.n1.http: expected an address like http://127.0.0.1:7001, without a path, found "http://127.0.0.1:7001/x" (cluster.yml:3)',
      'nodes.n1.p2p: expected a multiaddr like /ip4/127.0.0.1/tcp/7101, found "foo" (cluster.yml:3)',
      'nodes.n1.peer: expected a peer id like 12D3KooW..., of an Ed25519 key, found "QmFoo" (cluster.yml:3)',
      'nodes.N2: expected a node id of lower-case letters, digits, - and _, found "N2" (cluster.yml:4)',
      'nodes.N2.dta: unknown; did you mean data? (cluster.yml:8)',
      'nodes.N2.p2p: expected a multiaddr like /ip4/127.0.0.1/tcp/7101, found "/ip4/127.0.0.1/tcp/70000" (cluster.yml:6)',
      'nodes.N2.data: expected the path of a directory, found nothing (cluster.yml:4)',
      'limits.keyBytes: expected a whole number from 1 to 4096, found "5000" (cluster.yml:10)',
      'raft.electoin: unknown; did you mean election? (cluster.yml:9)',
      'raft.election: expected an election timeout of at least 5 heartbeats, found 1000ms with a heartbeat of 300ms (cluster.yml:9)',
    ])
  })

  test.each<[string, string, string]>([
    [
      'an unset variable',
      `tokens: [{ name: a, admin: true, secret: "\${NOPE}" }]`,
      'tokens[0].secret: the environment variable NOPE is not set (cluster.yml:4)',
    ],
    [
      'a short secret',
      'tokens: [{ name: a, admin: true, secret: hunter2 }]',
      'tokens[0].secret: expected a secret of at least 32 characters, found one of 7 characters (cluster.yml:4)',
    ],
    [
      'a token that is two things',
      `tokens: [{ name: a, admin: true, monitor: true, secret: ${secret} }]`,
      'tokens[0]: expected one of admin: true, monitor: true, stores and app, found admin and monitor (cluster.yml:4)',
    ],
    [
      'a token that is nothing',
      `tokens: [{ name: a, secret: ${secret} }]`,
      'tokens[0]: expected one of admin: true, monitor: true, stores and app, found none (cluster.yml:4)',
    ],
    [
      'a token that is not an admin',
      `tokens: [{ name: a, admin: false, secret: ${secret} }]`,
      'tokens[0].admin: expected true, found "false" (cluster.yml:4)',
    ],
    [
      'a grant of an undefined store',
      `tokens: [{ name: cart, stores: [sesions], secret: ${secret} }]`,
      'tokens[0].stores[0]: component "cart" is granted the store "sesions", which is not defined under stores (cluster.yml:4)',
    ],
    [
      'a grant of another access',
      `tokens: [{ name: a, stores: [{ store: default, access: write }], secret: ${secret} }]`,
      'tokens[0].stores[0].access: expected read or read-write, found "write" (cluster.yml:4)',
    ],
    [
      'a store granted twice',
      `tokens: [{ name: a, stores: [default, default], secret: ${secret} }]`,
      'tokens[0].stores[1]: expected a store or prefix of its own, found that of tokens[0].stores[0] (cluster.yml:4)',
    ],
    [
      'a time to live',
      'stores: { default: { ttl: 3651d } }',
      'stores.default.ttl: expected a duration from 1ms to 3650d, written like 100ms, 1s or 5m, found "3651d" (cluster.yml:4)',
    ],
    [
      'an origin with a path',
      'http: { cors: { origins: ["https://app.example.com/"] } }',
      'http.cors.origins[0]: expected an origin as browsers send it, like https://app.example.com, without a path, found "https://app.example.com/" (cluster.yml:4)',
    ],
    [
      'an origin of any kind',
      'http: { cors: { origins: ["*"] } }',
      'http.cors.origins[0]: expected an origin as browsers send it, like https://app.example.com, without a path, found "*" (cluster.yml:4)',
    ],
    [
      'an app without a holder',
      `tokens: [{ name: a, app: com.x, secret: ${secret} }]`,
      'tokens[0]: expected one of user and bot beside app, found none (cluster.yml:4)',
    ],
    [
      'an app with two holders',
      `tokens: [{ name: a, app: com.x, user: u, bot: b, secret: ${secret} }]`,
      'tokens[0]: expected one of user and bot beside app, found both (cluster.yml:4)',
    ],
    [
      'an admin that may mint',
      `tokens: [{ name: a, admin: true, mint: true, secret: ${secret} }]`,
      'tokens[0].mint: expected only beside stores (cluster.yml:4)',
    ],
    [
      'a store name of another form',
      'stores: { My_Store: {} }',
      'stores.My_Store: expected a store name of lower-case letters, digits, - and _, at most 63 characters, found "My_Store" (cluster.yml:4)',
    ],
    [
      'a store above the limit',
      'stores: { a: { maxValueBytes: 5000000 } }',
      'stores.a.maxValueBytes: expected at most limits.valueBytes, 4194304, found 5000000 (cluster.yml:4)',
    ],
    [
      'a section of a later version',
      'http: { http2: true }',
      'http.http2: unknown; known here: insecureBeyondLoopback, trustProxy, shutdownDelay, cors, openToLoopback (cluster.yml:4)',
    ],
    [
      'plain HTTP beyond loopback',
      'listen: { http: "0.0.0.0:7001" }',
      'listen.http: expected tls, or http.insecureBeyondLoopback: true, to listen for HTTP beyond loopback, found neither for 0.0.0.0 (cluster.yml:4)',
    ],
    [
      'a port that is none',
      'listen: { http: "127.0.0.1:0" }',
      'listen.http: expected host and port, like 0.0.0.0:7001, found "127.0.0.1:0" (cluster.yml:4)',
    ],
    [
      'a flag that is none',
      'http: { trustProxy: yes }',
      'http.trustProxy: expected true or false, found "yes" (cluster.yml:4)',
    ],
    [
      'a duration without a unit',
      'raft: { election: 1000 }',
      'raft.election: expected a duration from 50ms to 1m, written like 100ms, 1s or 5m, found "1000" (cluster.yml:4)',
    ],
    [
      'a size beside strict, which fixes it',
      'mattermost: { strict: true, valueBytes: 9000 }',
      'mattermost.valueBytes: strict takes values of 8192 bytes as Mattermost does: leave this out (cluster.yml:4)',
    ],
    [
      'strict where values may not be as large as it takes them',
      'mattermost: { strict: true }\nlimits: { valueBytes: 4096 }',
      'mattermost.strict: strict takes values of 8192 bytes, but limits.valueBytes is 4096 (cluster.yml:4)',
    ],
    ['a list where a map belongs', 'limits: [1]', 'limits: expected a map, found a list (cluster.yml:4)'],
    [
      'a map where a list belongs',
      'tokens: { a: 1 }',
      'tokens: expected a list, found a map (cluster.yml:4)',
    ],
    ['a key that stands twice', 'raft: {}\nraft: {}', 'the key "raft" stands here twice (cluster.yml:5)'],
  ])('%s is one', (_, more, expected) => {
    expect(mistakes(minimal(`${more}\n`))).toEqual([expected])
  })

  test('what two nodes or tokens share is named where it stands again', () => {
    const node = `{ http: "http://127.0.0.1:7001", p2p: /ip4/127.0.0.1/tcp/7101, peer: ${peers[0]}, data: ./n }`
    const token = `{ name: a, admin: true, secret: ${secret} }`
    const text = `cluster: dev\nnodes:\n  n1: ${node}\n  n2: ${node}\ntokens:\n  - ${token}\n  - ${token}\n`
    expect(mistakes(text)).toEqual([
      'nodes.n2.p2p: expected one of its own, found that of nodes.n1.p2p: "/ip4/127.0.0.1/tcp/7101" (cluster.yml:4)',
      `nodes.n2.peer: expected one of its own, found that of nodes.n1.peer: ${JSON.stringify(peers[0])} (cluster.yml:4)`,
      'nodes.n2.http: expected one of its own, found that of nodes.n1.http: "http://127.0.0.1:7001" (cluster.yml:4)',
      'tokens[1].name: expected a name of its own, found that of tokens[0] (cluster.yml:7)',
      'tokens[1].secret: expected a secret of its own, found that of tokens[0] (cluster.yml:7)',
    ])
  })

  test('TLS and addresses must agree, and its files be there', () => {
    expect(mistakes(minimal('tls: { cert: a.crt, key: a.key }\n'))).toEqual([
      `tls.cert: expected a file that can be read, found none at ${join(directory, 'a.crt')} (cluster.yml:4)`,
      `tls.key: expected a file that can be read, found none at ${join(directory, 'a.key')} (cluster.yml:4)`,
      'nodes.n1.http: expected an https:// address because tls is set, found http:// (cluster.yml:3)',
    ])
    expect(mistakes(minimal().replace('http://', 'https://')).join()).toContain('this address is https://')
  })

  test('a file that is missing, empty or no YAML is said to be so', () => {
    expect(() => loadConfig(join(directory, 'nope.yml'), {})).toThrow(
      `${join(directory, 'nope.yml')} does not exist`,
    )
    expect(() => loadConfig(directory, {})).toThrow('cannot be read')
    expect(mistakes('')).toEqual([`${path} is empty`])
    expect(mistakes('# only words\n')).toEqual([`${path} is empty`])
    expect(mistakes('just some text')).toEqual(['expected a map, found "just some text" (cluster.yml:1)'])
    expect(mistakes('cluster: dev\nnodes: { n1: [')[0]).toMatch(/^this is no YAML: .* \(cluster\.yml:\d\)$/)
    expect(mistakes('cluster: "a"b\n')[0]).toMatch(/^this is no YAML: /)
    expect(mistakes('cluster: dev\nnodes: {}\n')).toEqual([
      'nodes: expected 1 to 100 nodes, found 0 (cluster.yml:2)',
    ])
    expect(mistakes('cluster: dev\n')).toEqual(['nodes: expected a map, found nothing (cluster.yml:1)'])
    expect(mistakes(`cluster: ${'x'.repeat(1_100_000)}`)[0]).toContain('larger than')
  })

  test('a slip in the YAML is told once, with a way out where a brace cut a variable off', () => {
    const [only, ...more] = mistakes(
      `cluster: dev\nnodes:\n  n1: { peer: \${PEER}, data: ./n1 }\nstores: {}\n`,
    )
    expect(only).toMatch(/^this is no YAML: .*put quotes around "\$\{PEER\}" \(cluster\.yml:3\)$/)
    expect(more).toEqual([])
    expect(mistakes('cluster: a\n---\ncluster: b\n')).toEqual([
      'expected one YAML document, found another after it (cluster.yml:2)',
    ])
  })

  test('bytes that are no text are said to be so, and a file without end is not read to it', () => {
    writeFileSync(path, Buffer.from([0xff, 0xfe, 0x00]))
    expect(() => loadConfig(path, {})).toThrow(`${path} is no text in UTF-8`)
    expect(() => loadConfig('/dev/zero', {})).toThrow('/dev/zero is larger than 1048576 bytes')
  })

  test('one port for two purposes is named where it stands again', () => {
    expect(mistakes(minimal().replace('tcp/7101', 'tcp/7001'))).toEqual([
      'nodes.n1.http: expected one of its own, found that of nodes.n1.p2p: "http://127.0.0.1:7001" (cluster.yml:3)',
    ])
  })

  test('a secret in the wrong place is not shown either', () => {
    const found = mistakes(minimal(`tokens: ["${secret}", { name: a, admin: "\${S}", secret: "\${S}" }]\n`), {
      S: secret,
    })
    expect(found).toEqual([
      'tokens[0]: expected a map, found a text of 39 characters (cluster.yml:4)',
      `tokens[1].admin: expected true, found "\${S}" (cluster.yml:4)`,
    ])
    expect(mistakes(minimal(`tokens: ${secret}\n`)).join()).not.toContain(secret)
  })

  test('a secret is never shown, whatever is wrong with it', () => {
    const env = { SHORT: 'shhh-too-short', NAME: 'UPPER-CASE' }
    const text = minimal(
      `tokens: [{ name: a, admin: true, secret: "\${SHORT}" }, { name: b, monitor: true, secret: [x] }]\n`,
    )
    const found = mistakes(text, env)
    expect(found.length).toBe(2)
    expect(found.join()).not.toContain('shhh')
  })
})
