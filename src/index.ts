// The public door: errors and the client. Nodes to embed are in `trivet/node`.

export { type ErrorCode, type ErrorDetails, errorCodes, TrivetError } from './errors.ts'
export * from './sdk/index.ts'
