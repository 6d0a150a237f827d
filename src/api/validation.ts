// Parameters and JSON bodies against their schemas: strict, naming the field, and reading numbers only where one is written.

import type { FastifySchemaCompiler } from 'fastify'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { TrivetError } from '../errors.ts'
import { queryValues } from './url.ts'

const words: Readonly<Record<string, string>> = {
  querystring: 'query parameter',
  params: 'path parameter',
  headers: 'header',
  body: 'field',
}

/** For `setValidatorCompiler`. What it finds wrong is a `TrivetError`, ready to be answered. */
export const compileValidator: FastifySchemaCompiler<TSchema> = ({ schema, httpPart = 'body' }) =>
  compileCheck(schema, httpPart)

type Checked = { readonly value: unknown } | { readonly error: TrivetError }

/** Compiles a schema for that part of a request. */
export function compileCheck(schema: TSchema, httpPart: string): (input: unknown) => Checked {
  const compiled = Compile(schema)
  const typed = httpPart === 'querystring' ? typedParameters(schema) : []
  const word = words[httpPart] ?? 'field'
  return (input: unknown) => {
    // A request without a body: a route whose fields are all optional takes it, any other names the field it misses.
    const given = input === null && httpPart === 'body' ? {} : input
    const value = typed.length === 0 ? given : readTyped(given, typed)
    if (compiled.Check(value)) return { value }
    const [fault] = compiled.Errors(value).toSorted((a, b) => rank(a.keyword) - rank(b.keyword))
    return {
      error:
        fault === undefined
          ? new TrivetError('invalid-request', 'The request is not valid')
          : faultError(fault, word, schema),
    }
  }
}

type Fault = {
  readonly keyword: string
  /** Where the schema lies that is not met: `#/properties/limit`. */
  readonly schemaPath: string
  readonly instancePath: string
  readonly params: object
  readonly message: string
}

/** The faults that name their field best come first. */
function rank(keyword: string): number {
  return keyword === 'additionalProperties' || keyword === 'required' ? 0 : 1
}

function faultError(fault: Fault, word: string, schema: TSchema): TrivetError {
  const path = fault.instancePath.slice(1).replaceAll('/', '.')
  const within = (name: string): string => (path === '' ? name : `${path}.${name}`)
  const [unknown] = names(fault.params, 'additionalProperties')
  if (fault.keyword === 'additionalProperties' && unknown !== undefined) {
    const field = within(unknown)
    return new TrivetError('invalid-request', `This route has no ${word} ${field}`, { field })
  }
  const [missing] = names(fault.params, 'requiredProperties')
  if (fault.keyword === 'required' && missing !== undefined) {
    const field = within(missing)
    return new TrivetError('invalid-request', `The ${word} ${field} is missing`, { field })
  }
  if (path === '') return new TrivetError('invalid-request', `The body ${fault.message}`, { field: 'body' })
  const more = fault.keyword === 'pattern' ? described(schema, fault.schemaPath) : allowed(fault.params)
  return new TrivetError('invalid-request', `The ${word} ${path} ${fault.message}${more}`, {
    field: path,
    limit: limitOf(fault.params),
  })
}

/** The number that a value or its length went beyond. */
function limitOf(params: object): number | undefined {
  return 'limit' in params && typeof params.limit === 'number' ? params.limit : undefined
}

/** What the schema at this place says of itself: few people read patterns. */
function described(schema: object, path: string): string {
  let at: unknown = schema
  for (const step of path.split('/').slice(1)) {
    at = isObject(at) ? Object.entries(at).find(([name]) => name === step)?.[1] : undefined
  }
  return isObject(at) && 'description' in at ? ` (${String(at.description)})` : ''
}

function names(params: object, name: string): readonly string[] {
  const list: unknown = Object.entries(params).find(([key]) => key === name)?.[1]
  return Array.isArray(list) ? list.filter((item) => typeof item === 'string') : []
}

function allowed(params: object): string {
  const list = names(params, 'allowedValues')
  return list.length === 0 ? '' : `: ${list.join(', ')}`
}

type Typed = { readonly name: string; readonly type: 'integer' | 'boolean' | 'array' }

/** The parameters of a query schema that are not text. */
function typedParameters(schema: TSchema): readonly Typed[] {
  const properties: object = 'properties' in schema && isObject(schema.properties) ? schema.properties : {}
  return Object.entries(properties).flatMap(([name, property]: [string, unknown]) => {
    const type = isObject(property) && 'type' in property ? property.type : undefined
    return type === 'integer' || type === 'boolean' || type === 'array' ? [{ name, type }] : []
  })
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

/** A copy of the query with its numbers and truth values read. What is neither stays text, and fails its schema. */
function readTyped(query: unknown, typed: readonly Typed[]): unknown {
  const given = query as Readonly<Record<string, unknown>>
  let read: Record<string, unknown> | undefined
  for (const { name, type } of typed) {
    const text = given[name]
    if (typeof text !== 'string') continue
    read ??= { ...given }
    if (type === 'array') read[name] = queryValues(query, name)
    else if (type === 'boolean') read[name] = text === 'true' ? true : text === 'false' ? false : text
    else read[name] = /^(?:0|[1-9]\d{0,15})$/.test(text) ? Number(text) : text
  }
  return read ?? query
}
