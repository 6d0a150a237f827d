// The OpenAPI 3.1 document: made of the routes' own schemas, with what HTTP carries outside of JSON written in here.

import swagger from '@fastify/swagger'
import type { TSchema } from 'typebox'
import type { App } from './app.ts'
import { msgpackType, ndjsonType, headers as ourHeaders, problemType } from './protocol.ts'
import { Problem } from './schemas.ts'

const requestHeaders = {
  'if-match': 'Only if the key is at one of these revisions, or with * if it exists: `"17"`',
  'if-none-match':
    'On a write only `*`: only if the key does not exist. On a read: answer 304 if it is at this tag',
  'idempotency-key':
    'A name of your own for this write, 1 to 128 visible ASCII characters: sent again within ten minutes, the same request is answered as it was first (`Idempotency-Replayed: true`) and does nothing more',
  'trivet-session':
    '`<id>; seq=<n>; acked=<m>`: the n-th write of a session. Sent again it is answered as it was first; outcomes up to `acked` are forgotten',
  'last-event-id': 'Begin after this event: its id, as a client sends it that lost its stream',
  'trivet-timeout': 'How long the node may take: a duration from 10ms to 60s, 5s unless given',
} as const

/** What a route says of itself that its validating schemas cannot. */
type Notes = {
  /** The path ends in a key. */
  readonly key?: boolean
  readonly headers?: readonly (keyof typeof requestHeaders)[]
  /** The body is a value: any bytes of any type. */
  readonly takesValue?: boolean
  readonly answersValue?: boolean
  /** Besides its page as JSON it may be asked for a stream of lines, each of this. */
  readonly answersLines?: TSchema
  /** The body and its answer are operations, in JSON or MessagePack. */
  readonly operations?: { readonly takes: TSchema; readonly answers: TSchema }
  /** Answers that are plain text, by status. */
  readonly texts?: Readonly<Record<number, TSchema>>
  /** The answer is a stream of server-sent events. */
  readonly answersEvents?: boolean
}

/** Part of a route's schema: what it answers by status, and notes for the document alone. */
export function documented<Answers extends Readonly<Record<number, TSchema>> = Record<never, never>>(
  options: Notes & { readonly answers?: Answers },
): { readonly response: Answers; readonly notes: Notes } {
  const { answers = {} as Answers, ...notes } = options
  return { response: answers, notes }
}

const eventStream = {
  description:
    'Events: set, delete, expire, progress; at the end lagged, compacted, revoked, store-dropped or closing',
  content: { 'text/event-stream': { schema: { type: 'string' } } },
}

const anyValue = { content: { '*/*': { schema: { description: 'Any bytes' } } } }

/** Adds the generator. Comes before the routes, which it listens for. */
export function addOpenapi(app: App, version: string): void {
  app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Trivet',
        version,
        description: 'A replicated key-value store. Every node serves all of it.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      components: {
        securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } },
        responses: {
          Problem: {
            description: 'A refusal or failure (RFC 9457)',
            headers: {
              [ourHeaders.error]: { description: 'The code', schema: { type: 'string' } },
              [ourHeaders.request]: {
                description: 'The id of the request, also in the log',
                schema: { type: 'string' },
              },
            },
            content: { [problemType]: { schema: Problem } },
          },
        },
      },
      security: [{ bearer: [] }],
    },
    transform: ({ schema, url }) => transformRoute(schema ?? {}, url),
    transformObject: (document) => {
      if (!('openapiObject' in document)) throw new Error('the generator was set up for OpenAPI')
      for (const path of Object.values(document.openapiObject.paths ?? {})) {
        for (const operation of Object.values(path ?? {})) {
          if (typeof operation !== 'object' || !('responses' in operation)) continue
          operation.responses = {
            ...operation.responses,
            default: { $ref: '#/components/responses/Problem' },
          }
        }
      }
      return document.openapiObject
    },
  })
}

/** The route as a client sees it: a key where the router sees what stands in for it, headers, and values as bodies. */
function transformRoute(routeSchema: object, url: string): { schema: object; url: string } {
  const { notes = {}, ...schema } = routeSchema as {
    notes?: Notes
    params?: { properties: object; required: readonly string[] }
    response?: object
  }
  const names = notes.headers ?? []
  return {
    url: notes.key === true ? url.replace(/-$/, ':key') : url,
    schema: {
      ...schema,
      ...(notes.key === true ? { params: withKey(schema.params) } : {}),
      ...(names.length === 0 ? {} : { headers: headerSchema(names) }),
      ...(notes.takesValue === true ? { body: anyValue } : {}),
      ...(notes.texts === undefined ? {} : { response: asTexts(notes.texts) }),
      ...(notes.answersEvents === true ? { response: { 200: eventStream } } : {}),
      ...(notes.answersValue === true
        ? {
            response: {
              200: { description: 'The value, with the Content-Type it was stored with', ...anyValue },
              304: { description: 'The reader has it already', type: 'null' },
            },
          }
        : {}),
      ...(notes.operations === undefined
        ? {}
        : {
            body: inBothForms(notes.operations.takes),
            response: {
              200: { description: 'In the form of the request', ...inBothForms(notes.operations.answers) },
            },
          }),
      ...(notes.answersLines === undefined
        ? {}
        : { response: withLines(schema.response, notes.answersLines) }),
    },
  }
}

function inBothForms(schema: TSchema): { readonly content: object } {
  return { content: { 'application/json': { schema }, [msgpackType]: { schema } } }
}

/** The 200 of a listing, and the same as lines. */
function withLines(response: object | undefined, line: TSchema): object {
  const page = response !== undefined && '200' in response ? response[200] : {}
  return {
    200: {
      description: 'One page, or with `Accept: application/x-ndjson` all of it, one key a line',
      content: { 'application/json': { schema: page }, [ndjsonType]: { schema: line } },
    },
  }
}

function asTexts(texts: Readonly<Record<number, TSchema>>): object {
  return Object.fromEntries(
    Object.entries(texts).map(([status, schema]) => [
      status,
      { description: Reflect.get(schema, 'description'), content: { 'text/plain': { schema } } },
    ]),
  )
}

function withKey(params: { properties: object; required: readonly string[] } | undefined): object {
  const key = {
    type: 'string',
    description: 'Percent-encoded UTF-8; / may stand as it is. No segment . or ..',
  }
  return {
    type: 'object',
    properties: { ...params?.properties, key },
    required: [...(params?.required ?? []), 'key'],
  }
}

function headerSchema(names: readonly (keyof typeof requestHeaders)[]): object {
  const properties = Object.fromEntries(
    names.map((name) => [name, { type: 'string', description: requestHeaders[name] }]),
  )
  return { type: 'object', properties }
}
