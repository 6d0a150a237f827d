// The nodes of a configuration file: who they are, where others reach them and where they listen.

import { isIP, isIPv4, isIPv6 } from 'node:net'
import { resolve } from 'node:path'

import type { NodeConfig } from './config.ts'
import type { ConfigReader, Place, TextRule } from './config-reader.ts'
import { isName } from './names.ts'
import { isPeerId } from './peer-key.ts'

type HostAndPort = { readonly host: string; readonly port: number }

type NodesInput = {
  readonly nodes: Place
  readonly listen: Place
  readonly directory: string
  readonly hasTls: boolean
  readonly insecureBeyondLoopback: boolean
}

type Listen = {
  readonly http: { readonly place: Place; readonly at: HostAndPort } | undefined
  readonly p2p: string | undefined
}

const maxNodes = 100

const multiaddrRule: TextRule = {
  expected: 'a multiaddr like /ip4/127.0.0.1/tcp/7101',
  test: (text) => multiaddrHost(text) !== undefined,
}

const urlRule: TextRule = {
  expected: 'an address like http://127.0.0.1:7001, without a path',
  test: (text) => parseAddress(text) !== undefined,
}

const hostPortRule: TextRule = {
  expected: 'host and port, like 0.0.0.0:7001',
  test: (text) => parseHostAndPort(text) !== undefined,
}

const peerRule: TextRule = { expected: 'a peer id like 12D3KooW..., of an Ed25519 key', test: isPeerId }

const dataRule: TextRule = { expected: 'the path of a directory', test: (text) => text !== '' }

/** Those nodes that are whole. Every other one has left a mistake. */
export function readNodes(reader: ConfigReader, input: NodesInput): readonly NodeConfig[] {
  const listen = readListen(reader, input.listen)
  const entries = reader.entries(input.nodes)
  if (entries === undefined) return []
  if (entries.length === 0 || entries.length > maxNodes) {
    reader.mistake(input.nodes, `expected 1 to ${maxNodes} nodes, found ${entries.length}`)
  }
  const unique = new UniqueTexts(reader)
  const addresses = new UniqueTexts(reader)
  const nodes: NodeConfig[] = []
  for (const [id, place] of entries) {
    if (!isName(id)) {
      reader.mistake(
        place,
        `expected a node id of lower-case letters, digits, - and _, found ${JSON.stringify(id)}`,
      )
    }
    const node = readNode(reader, id, place, { ...input, parsedListen: listen, unique, addresses })
    if (node !== undefined) nodes.push(node)
  }
  return nodes
}

function readNode(
  reader: ConfigReader,
  id: string,
  place: Place,
  input: NodesInput & {
    readonly parsedListen: Listen
    readonly unique: UniqueTexts
    readonly addresses: UniqueTexts
  },
): NodeConfig | undefined {
  const fields = reader.fields(place, ['http', 'p2p', 'peer', 'data'])
  if (fields === undefined) return undefined
  const url = reader.text(fields.http, urlRule)
  const p2p = reader.text(fields.p2p, multiaddrRule)
  const peer = reader.text(fields.peer, peerRule)
  const data = reader.text(fields.data, dataRule)
  input.addresses.add(fields.p2p, p2p, p2p === undefined ? undefined : multiaddrTarget(p2p))
  input.unique.add(fields.peer, peer)
  const address = url === undefined ? undefined : parseAddress(url)
  if (address === undefined) return undefined
  input.addresses.add(fields.http, address.origin, `${address.host}:${address.port}`)
  checkScheme(reader, fields.http, { ...input, isHttps: address.isHttps })
  const http = input.parsedListen.http?.at ?? address
  checkExposure(reader, input.parsedListen.http?.place ?? fields.http, { ...input, host: http.host })
  if (p2p === undefined || peer === undefined || data === undefined) return undefined
  return {
    id,
    http: address.origin,
    p2p,
    peer,
    data: resolve(input.directory, data),
    listen: { http: { host: http.host, port: http.port }, p2p: input.parsedListen.p2p ?? p2p },
  }
}

/** A node speaks TLS when `tls` is set. An address that says otherwise only works with something in between. */
function checkScheme(
  reader: ConfigReader,
  place: Place,
  input: { readonly isHttps: boolean; readonly hasTls: boolean; readonly parsedListen: Listen },
): void {
  if (input.hasTls && !input.isHttps) {
    reader.mistake(place, 'expected an https:// address because tls is set, found http://')
  }
  if (!input.hasTls && input.isHttps && input.parsedListen.http === undefined) {
    reader.mistake(
      place,
      'expected tls, or listen.http for a proxy that ends it, because this address is https://; found neither',
    )
  }
}

function checkExposure(
  reader: ConfigReader,
  place: Place,
  input: { readonly host: string; readonly hasTls: boolean; readonly insecureBeyondLoopback: boolean },
): void {
  if (input.hasTls || input.insecureBeyondLoopback || isLoopback(input.host)) return
  const text = `${place.path}: expected tls, or http.insecureBeyondLoopback: true, to listen for HTTP beyond loopback, found neither for ${input.host}`
  // One `listen.http` holds for every node, and is one mistake.
  if (!reader.mistakes.some((mistake) => mistake.startsWith(text))) {
    reader.mistake(place, text.slice(place.path.length + 2))
  }
}

function readListen(reader: ConfigReader, place: Place): Listen {
  const nothing = { http: undefined, p2p: undefined }
  if (!reader.isPresent(place)) return nothing
  const fields = reader.fields(place, ['http', 'p2p'])
  if (fields === undefined) return nothing
  const text = reader.isPresent(fields.http) ? reader.text(fields.http, hostPortRule) : undefined
  const at = text === undefined ? undefined : parseHostAndPort(text)
  const p2p = reader.isPresent(fields.p2p) ? reader.text(fields.p2p, multiaddrRule) : undefined
  return { http: at === undefined ? undefined : { place: fields.http, at }, p2p }
}

/** Notes where a text stands a second time. */
class UniqueTexts {
  readonly #reader: ConfigReader
  readonly #places = new Map<string, Place>()

  constructor(reader: ConfigReader) {
    this.#reader = reader
  }

  /** `as` is what must differ, where that is not the text itself. */
  add(place: Place, text: string | undefined, as: string | undefined = text): void {
    if (text === undefined || as === undefined) return
    const first = this.#places.get(as)
    if (first === undefined) this.#places.set(as, place)
    else
      this.#reader.mistake(
        place,
        `expected one of its own, found that of ${first.path}: ${JSON.stringify(text)}`,
      )
  }
}

/** The host of a TCP multiaddr; undefined for anything else. */
function multiaddrHost(text: string): string | undefined {
  const match = /^\/(ip4|ip6|dns|dns4|dns6)\/([^/]+)\/tcp\/(\d{1,5})$/.exec(text)
  if (match === null) return undefined
  const [, protocol, host = '', port] = match
  if (!isPort(Number(port))) return undefined
  if (protocol === 'ip4') return isIPv4(host) ? host : undefined
  if (protocol === 'ip6') return isIPv6(host) ? host : undefined
  return isHostName(host) ? host : undefined
}

/** Host and port of a multiaddr that `multiaddrHost` took. */
function multiaddrTarget(text: string): string {
  const [, , host, , port] = text.split('/')
  return `${host}:${port}`
}

function parseAddress(
  text: string,
): (HostAndPort & { readonly origin: string; readonly isHttps: boolean }) | undefined {
  if (!/^https?:\/\/[^/?#@\s]+\/?$/.test(text) || !URL.canParse(text)) return undefined
  const url = new URL(text)
  const isHttps = url.protocol === 'https:'
  const port = url.port === '' ? (isHttps ? 443 : 80) : Number(url.port)
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  return isPort(port) ? { host, port, origin: url.origin, isHttps } : undefined
}

function parseHostAndPort(text: string): HostAndPort | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text)
  if (match === null) return undefined
  const [, ip6, name, digits] = match
  const port = Number(digits)
  if (!isPort(port)) return undefined
  if (ip6 !== undefined) return isIPv6(ip6) ? { host: ip6, port } : undefined
  return name !== undefined && (isIP(name) === 4 || isHostName(name)) ? { host: name, port } : undefined
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 65_535
}

/** A name that ends in digits alone would be an address with a slip in it. */
function isHostName(text: string): boolean {
  return text.length <= 253 && /^([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]*[A-Za-z][A-Za-z0-9_-]*\.?$/.test(text)
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** Whether clients could be told this address: `http://127.0.0.1:7001`. */
export function isHttpAddress(text: string): boolean {
  return parseAddress(text) !== undefined
}

/** Whether peers could dial this address: `/ip4/127.0.0.1/tcp/7101`. */
export function isPeerAddress(text: string): boolean {
  return multiaddrHost(text) !== undefined
}
