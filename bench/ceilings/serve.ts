// A server that does nothing but answer, a process of its own: `node:http` or Fastify, on the port of its second argument.

import { createServer } from 'node:http'
import fastify from 'fastify'

const [, , kind, port] = process.argv
const stored = Buffer.alloc(256, 'v')
const written = '{"revision":1}'

if (kind === 'fastify') {
  const app = fastify()
  app.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_request, body, done) => {
    done(null, body)
  })
  app.put('/keys/*', (_request, reply) => reply.type('application/json').send(written))
  app.get('/keys/*', (_request, reply) => reply.type('application/octet-stream').send(stored))
  await app.listen({ host: '127.0.0.1', port: Number(port) })
} else {
  createServer((request, answer) => {
    if (request.method === 'GET') {
      answer.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': stored.length })
      answer.end(stored)
      return
    }
    request.on('data', () => {})
    request.once('end', () => {
      answer.writeHead(200, { 'content-type': 'application/json', 'content-length': written.length })
      answer.end(written)
    })
  }).listen(Number(port), '127.0.0.1')
}
