// What `trivet dev` plans, writes and refuses, without a process.

import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { parse } from 'yaml'

import { checkPorts, filesIn, findPlan, makeFiles } from '../../src/cli/dev-files.ts'
import {
  clusterFile,
  type DevOptions,
  environmentOf,
  planCluster,
  portsOf,
  readPlan,
} from '../../src/cli/dev-plan.ts'
import { runningPid } from '../../src/cli/pid-file.ts'
import { curlLines, shellWord } from '../../src/cli/shell.ts'
import { temporaryDirectory } from './run.ts'

let data: string

beforeEach(async () => {
  data = join(await temporaryDirectory(), 'data')
})

function options(changes: Partial<DevOptions> & { readonly flags?: readonly string[] } = {}): DevOptions {
  const { flags = [], ...rest } = changes
  return { nodes: 3, data, httpPort: 7001, p2pPort: 7101, host: '127.0.0.1', given: new Set(flags), ...rest }
}

/** How a configuration file names a variable of the environment. */
function reference(name: string): string {
  return `\${${name}}`
}

describe('the plan of a first start', () => {
  it('numbers nodes and ports', () => {
    expect(planCluster(options({ data: 'data' }))).toEqual({
      listensApart: false,
      nodes: [1, 2, 3].map((number) => ({
        id: `n${number}`,
        http: `http://127.0.0.1:${7000 + number}`,
        p2p: `/ip4/127.0.0.1/tcp/${7100 + number}`,
        data: `data/n${number}`,
      })),
    })
  })

  it('refuses ports that overlap or do not exist', () => {
    expect(() => planCluster(options({ p2pPort: 7003 }))).toThrow(
      /--http-port 7001 and --p2p-port 7003 overlap/,
    )
    expect(() => planCluster(options({ httpPort: 65_534 }))).toThrow(/ports up to 65536/)
  })

  it('listens everywhere for containers, yet tells clients an address they can use', () => {
    const wide = options({ host: '0.0.0.0' })
    const plan = planCluster(wide)
    const [first] = plan.nodes
    if (first === undefined) throw new Error('no nodes')
    expect(first.http).toBe('http://127.0.0.1:7001')
    expect(environmentOf(plan, first, wide.host, 's')).toEqual({
      TRIVET_ADMIN_TOKEN: 's',
      TRIVET_HTTP_LISTEN: '0.0.0.0:7001',
    })
    const file: unknown = parse(clusterFile(plan, wide, ['a', 'b', 'c']))
    expect(file).toMatchObject({
      listen: { http: reference('TRIVET_HTTP_LISTEN') },
      http: { insecureBeyondLoopback: true, openToLoopback: true },
    })
    expect(portsOf(plan, wide.host).map(({ host }) => host)).toEqual(
      Array(3).fill(['0.0.0.0', '127.0.0.1']).flat(),
    )
    expect(planCluster(options({ host: '::1' })).nodes[0]?.http).toBe('http://[::1]:7001')
  })
})

describe('the files of a first start', () => {
  it('hold the secret in one place, readable by its owner alone', async () => {
    const { plan, exists } = await findPlan(options())
    expect(exists).toBe(false)
    const secret = await makeFiles(plan, exists, options())
    expect(secret).toMatch(/^trv_[\w-]{43}$/)
    const { configPath, tokenPath } = filesIn(data)
    expect(await readFile(tokenPath, 'utf8')).toBe(`${secret}\n`)
    expect((await stat(tokenPath)).mode & 0o777).toBe(0o600)
    const text = await readFile(configPath, 'utf8')
    expect(text).not.toContain(secret)
    const file = parse(text) as { nodes: Record<string, { peer: string }>; tokens: unknown; http?: unknown }
    expect(file.tokens).toEqual([{ name: 'admin', admin: true, secret: reference('TRIVET_ADMIN_TOKEN') }])
    expect(file.http).toEqual({ openToLoopback: true })
    const peers = Object.values(file.nodes).map((node) => node.peer)
    expect(new Set(peers).size).toBe(3)
    for (const [index, peer] of peers.entries()) {
      expect(peer).toMatch(/^12D3KooW/)
      expect(await readFile(join(data, `n${index + 1}`, 'peer.key'), 'utf8')).toContain(peer)
    }
  })

  it('are used as they are by every later start', async () => {
    const first = await findPlan(options())
    const secret = await makeFiles(first.plan, first.exists, options())
    const { configPath, tokenPath } = filesIn(data)
    const before = await readFile(configPath, 'utf8')
    const second = await findPlan(options())
    expect(second).toEqual({ plan: first.plan, exists: true })
    expect(await makeFiles(second.plan, second.exists, options())).toBe(secret)
    expect(await readFile(configPath, 'utf8')).toBe(before)
    await writeFile(tokenPath, '')
    await expect(makeFiles(second.plan, second.exists, options())).rejects.toThrow(/admin\.token is missing/)
  })

  it('are completed after a first start that was interrupted', async () => {
    const { plan } = await findPlan(options())
    await mkdir(data)
    await writeFile(filesIn(data).tokenPath, 'trv_kept\n')
    expect(await makeFiles(plan, false, options())).toBe('trv_kept')
    expect((await findPlan(options())).exists).toBe(true)
  })
})

describe('a later start', () => {
  it('refuses flags that say otherwise than the cluster it finds', async () => {
    const { plan } = await findPlan(options({ nodes: 5 }))
    await makeFiles(plan, false, options({ nodes: 5 }))
    expect((await findPlan(options())).plan.nodes).toHaveLength(5)
    for (const [flags, change, sentence] of [
      ['nodes', { nodes: 3 }, /made for 5 nodes, so --nodes cannot change it/],
      ['httpPort', { httpPort: 8001 }, /HTTP ports from 7001 on, so --http-port/],
      ['p2pPort', { p2pPort: 8101 }, /libp2p ports from 7101 on, so --p2p-port/],
      ['host', { host: '0.0.0.0' }, /for the host 127\.0\.0\.1, so --host/],
    ] as const) {
      await expect(findPlan(options({ ...change, flags: [flags] }))).rejects.toThrow(sentence)
    }
    const same = { nodes: 5, httpPort: 7001, flags: ['nodes', 'httpPort', 'p2pPort', 'host'] }
    expect((await findPlan(options(same))).plan).toEqual(plan)
  })

  it('refuses a file that is none of its own', () => {
    expect(() => readPlan('nodes: {}', 'x.yml', options())).toThrow(/x\.yml names no nodes/)
    expect(() => readPlan('nodes: { n1: { http: 5 } }', 'x.yml', options())).toThrow(
      /no http and p2p address for the node n1/,
    )
  })
})

describe('the ports', () => {
  it('are looked at before anything is touched', async () => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    try {
      const taken = options({ nodes: 1, httpPort: port, p2pPort: port > 2000 ? port - 1000 : port + 1000 })
      const { plan } = await findPlan(taken)
      await expect(checkPorts(plan, false, taken)).rejects.toThrow(
        `Port ${port} on 127.0.0.1 is in use, and the HTTP of n1 needs it: stop what listens there, or choose others with --http-port.`,
      )
      await expect(checkPorts(plan, true, taken)).rejects.toThrow(/change it in .*cluster\.yml/)
      await expect(stat(data)).rejects.toThrow('ENOENT')
    } finally {
      server.close()
    }
  })

  it('name the host that is not of this machine', async () => {
    const away = options({ nodes: 1, host: '192.0.2.1' })
    await expect(checkPorts(planCluster(away), false, away)).rejects.toThrow(
      /192\.0\.2\.1 is no address of this machine/,
    )
  })
})

describe('a pid file', () => {
  it('names a process that is alive, and not one that is gone or this one', async () => {
    await mkdir(data)
    const path = join(data, 'x.pid')
    expect(await runningPid(path)).toBeUndefined()
    for (const [text, running] of [
      [`${process.ppid}\n`, process.ppid],
      [`${process.pid}\n`, undefined],
      ['999999999\n', undefined],
      ['', undefined],
      ['-1', undefined],
    ] as const) {
      await writeFile(path, text)
      expect(await runningPid(path)).toBe(running)
    }
  })
})

describe('lines to paste', () => {
  it('are quoted where a shell would stumble', () => {
    expect(shellWord('./data/n1')).toBe('./data/n1')
    expect(shellWord("it's here")).toBe(`'it'\\''s here'`)
  })

  it('go through one node after another and read the token from its file', () => {
    const lines = curlLines(['http://a', 'http://b'], 'my data/admin.token')
    expect(lines).toHaveLength(3)
    for (const line of lines)
      expect(line).toContain(`-H "Authorization: Bearer $(cat 'my data/admin.token')"`)
    expect(lines.map((line) => /http:\/\/\w/.exec(line)?.[0])).toEqual(['http://a', 'http://b', 'http://a'])
  })
})
