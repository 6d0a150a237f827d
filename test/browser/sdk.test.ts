// The SDK in a real browser, against real nodes of another origin: every scenario in a page, and in a worker.

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type Browser, chromium, type Page } from 'playwright-core'
import { rolldown } from 'rolldown'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Neighbourhood, startNeighbourhood } from '../api/neighbourhood.ts'
import { scenarios } from '../sdk/scenarios.ts'
import type { Asked } from './page.ts'

/** Where Debian's package puts it. */
const executablePath = process.env['TRIVET_CHROMIUM'] ?? '/usr/bin/chromium'

const token = 'the-secret-of-the-admin-0123456789'

let site: Server
let nodes: Neighbourhood
let browser: Browser
let page: Page

beforeAll(async () => {
  const script = await bundled()
  // No script of a text, as a careful page has it: the codec must do without.
  const policy = "default-src 'self'; connect-src *"
  site = createServer((request, response) => {
    const isScript = request.url === '/page.js'
    response.writeHead(200, {
      'Content-Type': isScript ? 'text/javascript' : 'text/html',
      'Content-Security-Policy': policy,
    })
    response.end(isScript ? script : '<!doctype html><script src="/page.js" type="module"></script>')
  })
  site.listen(0, '127.0.0.1')
  await once(site, 'listening')
  const origin = `http://127.0.0.1:${(site.address() as AddressInfo).port}`
  nodes = await startNeighbourhood({
    seed: 11,
    api: { origins: [origin] },
    founding: {
      valueBytes: 1024 * 1024,
      stores: [{ name: 'default' }],
      tokens: [
        {
          name: 'admin',
          hash: createHash('sha256').update(token).digest('base64url'),
          principal: { type: 'admin' },
        },
      ],
    },
  })
  browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
  page = await browser.newPage()
  await page.goto(origin)
  await page.waitForFunction(() => 'run' in globalThis)
}, 60_000)

afterAll(async () => {
  await browser.close()
  await nodes[Symbol.asyncDispose]()
  site.close()
})

async function bundled(): Promise<string> {
  const input = join(import.meta.dirname, 'page.ts')
  const bundle = await rolldown({ input, platform: 'browser' })
  const { output } = await bundle.generate({ format: 'esm' })
  return output[0].code
}

function asked(name: string): Asked {
  return { endpoints: nodes.apis.map(({ address }) => address.url), token, name }
}

describe('a store in a page', () => {
  for (const name of Object.keys(scenarios)) {
    it(`does what every store does: ${name}`, async () => {
      await page.evaluate(
        (task) => (globalThis as unknown as { run(task: unknown): Promise<void> }).run(task),
        asked(name),
      )
    })
  }
})

describe('a store in a worker', () => {
  for (const name of Object.keys(scenarios)) {
    it(`does what every store does: ${name}`, async () => {
      const outcome = await page.evaluate(inWorker, asked(name))
      expect(outcome).toBe('done')
    })
  }
})

/** Runs within the page. */
function inWorker(task: Asked): Promise<unknown> {
  // Named by its text, because Node's types know neither.
  const { Worker } = globalThis as unknown as {
    Worker: new (
      url: string,
      options: { type: 'module' },
    ) => {
      onmessage: (event: { data: unknown }) => void
      onerror: (event: { message: string }) => void
      postMessage: (task: unknown) => void
      terminate: () => void
    }
  }
  const worker = new Worker('/page.js', { type: 'module' })
  return new Promise((resolve) => {
    worker.onmessage = ({ data }) => resolve(data)
    worker.onerror = ({ message }) => resolve(message)
    worker.postMessage(task)
  }).finally(() => worker.terminate())
}
