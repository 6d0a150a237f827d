// The OpenAPI document as a source of requests: what each operation takes, an example of it, and what it may answer.

import { Errors } from 'typebox/schema'
import type { Answered } from './client.ts'

/** A JSON Schema, as far as it is looked into here. */
export type JsonSchema = {
  readonly $ref?: string
  readonly type?: string
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly anyOf?: readonly JsonSchema[]
  readonly oneOf?: readonly JsonSchema[]
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: unknown
  readonly items?: JsonSchema
  readonly pattern?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly maxLength?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly examples?: readonly unknown[]
}

export type Parameter = {
  readonly name: string
  readonly in: 'path' | 'query' | 'header'
  readonly required?: boolean
  readonly schema: JsonSchema
}

type Content = Readonly<Record<string, { readonly schema?: JsonSchema; readonly example?: unknown }>>

export type Operation = {
  readonly method: string
  /** `/v1/stores/{store}` */
  readonly path: string
  readonly parameters: readonly Parameter[]
  /** By media type; undefined where it takes no body. */
  readonly body: Content | undefined
  /** By status, and `default`. */
  readonly responses: Readonly<Record<string, Content>>
}

type Raw = Readonly<Record<string, unknown>>

/** Every operation of a document. */
export function operationsOf(document: Raw): readonly Operation[] {
  const resolve = (node: unknown): Raw => {
    const raw = Object(node) as Raw
    const ref = raw['$ref']
    if (typeof ref !== 'string') return raw
    return Object(
      ref
        .slice(2)
        .split('/')
        .reduce<unknown>((at, name) => Object(at)[name], document),
    ) as Raw
  }
  const contentOf = (node: unknown): Content => Object(resolve(node)['content'] ?? {}) as Content
  const paths = Object.entries(Object(document['paths']) as Raw)
  return paths.flatMap(([path, item]) =>
    Object.entries(Object(item) as Raw).map(([method, node]) => {
      const raw = resolve(node)
      const responses = Object.entries(Object(raw['responses'] ?? {}) as Raw)
      return {
        method: method.toUpperCase(),
        path,
        parameters: ((raw['parameters'] ?? []) as readonly unknown[]).map((one) => resolve(one) as Parameter),
        body: raw['requestBody'] === undefined ? undefined : contentOf(raw['requestBody']),
        responses: Object.fromEntries(responses.map(([status, answer]) => [status, contentOf(answer)])),
      }
    }),
  )
}

export function nameOf({ method, path }: Operation): string {
  return `${method} ${path}`
}

/** Texts that some pattern of the document wants. */
const texts = [
  'text',
  'sample',
  '1h',
  'Zm9v',
  '12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2',
  '1',
  'a-secret-of-the-samples-0123456789',
]

/** A value that the schema takes, with every property that is required, or with all of them. */
export function sampleOf(schema: JsonSchema, all = false): unknown {
  const { type, enum: values, const: constant, anyOf, oneOf, examples } = schema
  if (examples?.[0] !== undefined) return examples[0]
  if (constant !== undefined) return constant
  if (values !== undefined) return values[0]
  const [first] = anyOf ?? oneOf ?? []
  if (first !== undefined) return sampleOf(first, all)
  switch (type) {
    case 'integer':
    case 'number':
      return schema.minimum ?? 1
    case 'boolean':
      return true
    case 'array':
      return Array.from({ length: schema.minItems ?? 0 }, () => sampleOf(schema.items ?? {}, all))
    case 'object': {
      const { properties = {}, required = [] } = schema
      const names = Object.keys(properties).filter((name) => all || required.includes(name))
      return Object.fromEntries(names.map((name) => [name, sampleOf(properties[name] ?? {}, all)]))
    }
    case 'string': {
      const pattern = new RegExp(schema.pattern ?? '')
      return texts.find((text) => pattern.test(text)) ?? 'text'
    }
    default:
      return 'text'
  }
}

/** What is wrong with an answer by the document; undefined when nothing is. */
export function departure(operation: Operation, answer: Answered): string | undefined {
  const { responses } = operation
  const type = (answer.headers['content-type'] ?? '').split(';')[0] ?? ''
  const isError = answer.status >= 400
  const content = responses[answer.status] ?? (isError ? responses['default'] : undefined)
  if (content === undefined) return `the status ${answer.status} is not documented`
  if (answer.body.length === 0) {
    // A value may be empty, and of a stream only the head was read.
    const isEmpty =
      Object.keys(content).length === 0 ||
      content['*/*'] !== undefined ||
      (type === 'text/event-stream' && content[type] !== undefined)
    return isEmpty || operation.method === 'HEAD' || answer.status === 304
      ? undefined
      : 'a body is documented and none came'
  }
  const media = content[type] ?? content['*/*']
  if (media === undefined) return `the media type ${type} is not documented for ${answer.status}`
  if (media.schema === undefined || !/json$/.test(type)) return undefined
  const errors = Errors(strict(media.schema), answer.json)[1]
  return errors.length === 0 ? undefined : JSON.stringify(errors.slice(0, 3))
}

/** The same schema, but nothing that it does not name may be there: what is answered is to be documented. */
function strict(schema: JsonSchema): JsonSchema {
  const { properties, items, anyOf } = schema
  return {
    ...schema,
    ...(properties === undefined
      ? {}
      : {
          properties: Object.fromEntries(
            Object.entries(properties).map(([name, one]) => [name, strict(one)]),
          ),
          additionalProperties: schema.additionalProperties ?? false,
        }),
    ...(items === undefined ? {} : { items: strict(items) }),
    ...(anyOf === undefined ? {} : { anyOf: anyOf.map(strict) }),
  }
}
