// What `trivet dev` runs: planned from its flags on the first start, read from its own cluster.yml ever after.

import { basename, join } from 'node:path'
import { Document, isMap, parse } from 'yaml'
import { tcpAddress } from './ports.ts'

export type DevOptions = {
  readonly nodes: number
  readonly data: string
  readonly httpPort: number
  readonly p2pPort: number
  readonly host: string
  /** The flags that were given, as opposed to left at their defaults. */
  readonly given: ReadonlySet<string>
}

export type DevNode = {
  readonly id: string
  /** Where clients reach it. */
  readonly http: string
  readonly p2p: string
  readonly data: string
}

export type DevPlan = {
  readonly nodes: readonly DevNode[]
  /**
   * Whether the nodes listen on another address than the one clients use, as they must for all interfaces: then each
   * child is told where in its environment.
   */
  readonly listensApart: boolean
}

/** The variable that tells a child its HTTP address when it listens apart. */
export const listenVariable = 'TRIVET_HTTP_LISTEN'

/** The variable that holds the admin's secret, so that no configuration file does. */
export const adminVariable = 'TRIVET_ADMIN_TOKEN'

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::'
}

function hostInUrl(host: string): string {
  return host.includes(':') ? `[${host}]` : host
}

/** The plan for a first start. Throws a sentence for flags that cannot work together. */
export function planCluster(options: DevOptions): DevPlan {
  const { nodes: count, httpPort, p2pPort, host } = options
  const last = Math.max(httpPort, p2pPort) + count - 1
  if (last > 65_535) {
    throw new Error(
      `${count} nodes need ports up to ${last}, but there are only 65535: lower --http-port or --p2p-port.`,
    )
  }
  if (Math.abs(httpPort - p2pPort) < count) {
    throw new Error(
      `--http-port ${httpPort} and --p2p-port ${p2pPort} overlap: ${count} nodes take ${count} ports from each on.`,
    )
  }
  const address = isWildcard(host) ? '127.0.0.1' : hostInUrl(host)
  const nodes = Array.from({ length: count }, (_, index) => ({
    id: `n${index + 1}`,
    http: `http://${address}:${httpPort + index}`,
    // Beyond this machine nobody is a peer: all nodes run here.
    p2p: `/ip4/127.0.0.1/tcp/${p2pPort + index}`,
    data: join(options.data, `n${index + 1}`),
  }))
  return { nodes, listensApart: isWildcard(host) }
}

/**
 * The text of cluster.yml for a plan; its paths are relative to itself, so that the directory may move. `peers` are the
 * nodes' peer ids, in the plan's order.
 */
export function clusterFile(plan: DevPlan, options: DevOptions, peers: readonly string[]): string {
  const nodes = plan.nodes.map(({ id, http, p2p, data }, index) => [
    id,
    { http, p2p, peer: peers[index], data: `./${basename(data)}` },
  ])
  const document = new Document({
    cluster: 'dev',
    nodes: Object.fromEntries(nodes),
    ...(plan.listensApart ? { listen: { http: `\${${listenVariable}}` } } : {}),
    http: {
      ...(isLoopback(options.host) ? {} : { insecureBeyondLoopback: true }),
      openToLoopback: true,
    },
    stores: { default: {} },
    tokens: [{ name: 'admin', admin: true, secret: `\${${adminVariable}}` }],
  })
  document.commentBefore = ' Made by `trivet dev`, which uses it as it is when it is started again.'
  const written = document.get('nodes')
  if (isMap(written)) for (const { value } of written.items) if (isMap(value)) value.flow = true
  return document.toString({ lineWidth: 0 })
}

/**
 * The plan in an existing cluster.yml. Throws a sentence when the file is not one that can be run here, or when a flag
 * that was given says otherwise: what was founded is not changed by a flag.
 */
export function readPlan(text: string, path: string, options: DevOptions): DevPlan {
  const file: unknown = parse(text)
  const entries = Object.entries(field(file, 'nodes') ?? {})
  const nodes = entries.map(([id, node]) => {
    const [http, p2p] = [field(node, 'http'), field(node, 'p2p')]
    if (typeof http !== 'string' || typeof p2p !== 'string') {
      throw new Error(`${path} names no http and p2p address for the node ${id}: trivet dev cannot run it.`)
    }
    return { id, http, p2p, data: join(options.data, id) }
  })
  const listensApart = field(field(file, 'listen'), 'http') === `\${${listenVariable}}`
  if (nodes.length === 0) throw new Error(`${path} names no nodes: trivet dev cannot run it.`)
  refuseOtherFlags(nodes, listensApart, path, options)
  return { nodes, listensApart }
}

function refuseOtherFlags(
  nodes: readonly DevNode[],
  listensApart: boolean,
  path: string,
  options: DevOptions,
): void {
  const other = (flag: string, has: string): Error =>
    new Error(
      `${path} was made ${has}, so --${flag} cannot change it: leave the flag out, or choose another --data.`,
    )
  const { given } = options
  const [first] = nodes
  if (given.has('nodes') && options.nodes !== nodes.length) throw other('nodes', `for ${nodes.length} nodes`)
  const url = URL.parse(first?.http ?? '')
  if (given.has('httpPort') && Number(url?.port) !== options.httpPort) {
    throw other('http-port', `with HTTP ports from ${url?.port} on`)
  }
  const p2pPort = tcpAddress(first?.p2p ?? '')?.port
  if (given.has('p2pPort') && p2pPort !== options.p2pPort)
    throw other('p2p-port', `with libp2p ports from ${p2pPort} on`)
  const sameHost = url?.hostname === hostInUrl(options.host)
  const reachable = listensApart && (isWildcard(options.host) || isLoopback(options.host))
  if (given.has('host') && !sameHost && !reachable) throw other('host', `for the host ${url?.hostname}`)
}

/** Every port a plan needs: who needs it, where it is listened on, and the flag that moves it. */
export function portsOf(
  plan: DevPlan,
  host: string,
): readonly { readonly what: string; readonly host: string; readonly port: number; readonly flag: string }[] {
  return plan.nodes.flatMap((node) => {
    const url = URL.parse(node.http)
    const p2p = tcpAddress(node.p2p)
    const listens = plan.listensApart ? host : (url?.hostname ?? '').replace(/^\[|\]$/g, '')
    return [
      { what: `HTTP of ${node.id}`, host: listens, port: Number(url?.port), flag: '--http-port' },
      ...(p2p === undefined ? [] : [{ what: `libp2p of ${node.id}`, ...p2p, flag: '--p2p-port' }]),
    ]
  })
}

/** What a child needs in its environment beside ours. */
export function environmentOf(
  plan: DevPlan,
  node: DevNode,
  host: string,
  secret: string,
): Readonly<Record<string, string>> {
  const port = URL.parse(node.http)?.port ?? ''
  return {
    [adminVariable]: secret,
    ...(plan.listensApart ? { [listenVariable]: `${hostInUrl(host)}:${port}` } : {}),
  }
}

function field(from: unknown, name: string): unknown {
  return typeof from === 'object' && from !== null ? Reflect.get(from, name) : undefined
}
