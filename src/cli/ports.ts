// Ports are looked at before anything starts, so that one in use is a sentence and not half a start.

import { once } from 'node:events'
import { createServer } from 'node:net'

/**
 * Rejects with a sentence when this address cannot be listened on. `what` needs it; `way` is what the operator can do.
 * Touches nothing.
 */
export async function checkListening(
  { host, port }: { readonly host: string; readonly port: number },
  what: string,
  way: string,
): Promise<void> {
  const why = await whyNotListening(host, port)
  if (why === undefined) return
  if (why === 'EADDRINUSE') {
    throw new Error(
      `Port ${port} on ${host} is in use, and the ${what} needs it: stop what listens there, or ${way}.`,
    )
  }
  if (why === 'EADDRNOTAVAIL' || why === 'ENOTFOUND') {
    throw new Error(`${host} is no address of this machine, so that the ${what} cannot listen on it: ${way}.`)
  }
  throw new Error(`Port ${port} on ${host}, which the ${what} needs, cannot be opened (${why}): ${way}.`)
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
