// For whoever oversees the cluster: metrics, and the page of the API's own document.

import swaggerUi from '@fastify/swagger-ui'
import type { App, RouteContext } from '../app.ts'
import type { Gate, Rule } from '../gate.ts'
import { documented } from '../openapi.ts'
import { MetricsText, NoQuery } from '../schemas.ts'

/** Also without a leader: that is when they are wanted most. */
const overseen: Rule = { need: { type: 'overseer' }, judged: 'local' }

export function addMetricsRoute(app: App, { gate, metrics }: RouteContext): void {
  app.route({
    ...gate.route(overseen),
    method: ['GET', 'HEAD'],
    url: '/metrics',
    schema: {
      summary: 'Figures for Prometheus; admins and monitors',
      querystring: NoQuery,
      ...documented({ texts: { 200: MetricsText } }),
    },
    handler: async (_request, reply) => {
      const text = await metrics.text()
      // As bytes, so that the type goes out as it is.
      return reply.header('content-type', metrics.contentType).send(Buffer.from(text))
    },
  })
}

const pagePath = '/docs'

/** Everything comes from this server, and nothing else may be asked for. */
const pagePolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

/** Guards the page's routes, which a plugin adds that knows nothing of gates. Comes before it. */
export function guardPage(app: App, gate: Gate): void {
  app.addHook('onRoute', (route) => {
    if (route.url !== pagePath && !route.url.startsWith(`${pagePath}/`)) return
    Object.assign(route, gate.route(overseen))
  })
}

export function addPage(app: App): void {
  app.register(swaggerUi, {
    routePrefix: pagePath,
    staticCSP: pagePolicy,
    // The page would ask a server of its makers whether the document is valid.
    uiConfig: { validatorUrl: null, persistAuthorization: false },
  })
}
