// Metrics as Prometheus reads them: the node's figures as of the scrape, what HTTP has counted, and the process.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { ErrorCode } from '../errors.ts'
import type { NodeMetrics, NodeSurface } from '../node/surface.ts'
import { type Figure, figures, type ServerFigures } from './figures.ts'
import { templateOf } from './url.ts'

/** In seconds. */
const answerBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60]

/** One registry for one server. */
export class Metrics {
  readonly #node: NodeSurface
  readonly #server: () => ServerFigures
  readonly #registry = new Registry()
  readonly #shown: readonly { readonly figure: Figure; readonly metric: Gauge | Counter }[]
  readonly #durations: Histogram<'method' | 'route' | 'status'>
  readonly #errors: Counter<'code'>

  constructor(node: NodeSurface, server: () => ServerFigures) {
    const registers = [this.#registry]
    this.#node = node
    this.#server = server
    this.#shown = figures.map((figure) => {
      const { type, name, help, labels = [] } = figure
      const options = { name, help, labelNames: labels, registers }
      return { figure, metric: type === 'gauge' ? new Gauge(options) : new Counter(options) }
    })
    this.#durations = new Histogram({
      name: 'trivet_http_request_duration_seconds',
      help: 'From the head of a request to the end of its answer; streams of events are not among them',
      labelNames: ['method', 'route', 'status'],
      buckets: answerBuckets,
      registers,
    })
    this.#errors = new Counter({
      name: 'trivet_http_errors_total',
      help: 'Refusals and failures by code, also of what came to no route',
      labelNames: ['code'],
      registers,
    })
    collectDefaultMetrics({ register: this.#registry })
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  /** Everything as of now. */
  async text(): Promise<string> {
    const seen = { node: this.#node, metrics: this.#node.metrics(), server: this.#server() }
    for (const { figure, metric } of this.#shown) {
      metric.reset()
      for (const [value, labels = {}] of figure.read(seen)) metric.inc(labels, value)
    }
    return (await this.#registry.metrics()) + appendText(seen.metrics.log?.appends)
  }

  /** A request was answered whole, by a route or by none. */
  answered(request: FastifyRequest, reply: FastifyReply): void {
    if (String(reply.getHeader('content-type')).startsWith('text/event-stream')) return
    const { url } = request.routeOptions
    const route = url === undefined || request.is404 ? 'none' : templateOf(url)
    this.took({ method: request.method, route, status: reply.raw.statusCode }, reply.elapsedTime)
  }

  /** A request was answered whole, after so many milliseconds. */
  took(
    labels: { readonly method: string; readonly route: string; readonly status: number },
    milliseconds: number,
  ): void {
    this.#durations.observe(labels, milliseconds / 1000)
  }

  failed(code: ErrorCode): void {
    this.#errors.inc({ code })
  }
}

/** The library's histograms only take observations of their own, and these were made below: written as it would. */
function appendText(appends: NonNullable<NodeMetrics['log']>['appends'] | undefined): string {
  if (appends === undefined) return ''
  const name = 'trivet_wal_append_duration_seconds'
  const { bounds, counts, count, sum } = appends
  const lines = [
    `# HELP ${name} Appends to the log, written and synced`,
    `# TYPE ${name} histogram`,
    ...bounds.map((bound, at) => `${name}_bucket{le="${bound / 1000}"} ${counts[at] ?? 0}`),
    `${name}_bucket{le="+Inf"} ${count}`,
    `${name}_sum ${sum / 1000}`,
    `${name}_count ${count}`,
  ]
  return `\n${lines.join('\n')}\n`
}
