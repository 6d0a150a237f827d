// Ports are looked at before anything starts, so that one in use is a sentence and not half a start.

import { once } from 'node:events'
import { createServer } from 'node:net'

/** What the operator can do when a port cannot be had, and when the host is none of this machine. */
export type Ways = { readonly port: string; readonly host: string }

/** Rejects with a sentence when this address cannot be listened on. `what` needs it. Touches nothing. */
export async function checkListening(
  { host, port }: { readonly host: string; readonly port: number },
  what: string,
  ways: Ways,
): Promise<void> {
  const why = await whyNotListening(host, port)
  if (why === undefined) return
  if (why === 'EADDRINUSE') {
    throw new Error(
      `Port ${port} on ${host} is in use, and the ${what} needs it: stop what listens there, or ${ways.port}.`,
    )
  }
  if (why === 'EADDRNOTAVAIL' || why === 'ENOTFOUND') {
    throw new Error(
      `${host} is no address of this machine, so that the ${what} cannot listen on it: ${ways.host}.`,
    )
  }
  throw new Error(
    `Port ${port} on ${host}, which the ${what} needs, cannot be opened (${why}): ${ways.port}.`,
  )
}

async function whyNotListening(host: string, port: number): Promise<string | undefined> {
  const server = createServer()
  try {
    server.listen({ host, port, exclusive: true })
    await once(server, 'listening')
    server.close()
    await once(server, 'close')
    return undefined
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error)
  }
}

/** Host and port of a multiaddr over TCP; undefined for any other. */
export function tcpAddress(multiaddr: string): { readonly host: string; readonly port: number } | undefined {
  const match = /^\/(?:ip4|ip6|dns|dns4|dns6)\/([^/]+)\/tcp\/(\d+)/.exec(multiaddr)
  return match === null ? undefined : { host: match[1] ?? '', port: Number(match[2]) }
}
