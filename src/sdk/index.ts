// The SDK: what an application imports to talk to a cluster. Runs wherever there is `fetch`, browsers included.

export type {
  ClusterDescription,
  Deleted,
  GrantDescription,
  Me,
  MemberDescription,
  NewMember,
  PrincipalDescription,
  StoreDescription,
  TokenDescription,
  Written,
} from '../api/protocol.ts'
export { type ErrorCode, TrivetError } from '../errors.ts'
export type {
  AppDescription,
  ChangeMemberOptions,
  MintedToken,
  NewGrant,
  NewPrincipal,
  NewStore,
  NewToken,
  RotatedToken,
} from './administration.ts'
export type { OperationResult } from './backend.ts'
export type { Cas, SwapOptions, Swapped } from './cas.ts'
export { type Client, type ConnectOptions, connect } from './client.ts'
export type { Duration } from './duration.ts'
export { check, type Operation, op, type StoreName, type TransactionCondition } from './operations.ts'
export type { Fetch, TokenSource } from './requester.ts'
export type { Results, TransactionBuilder, TransactionResult } from './transaction.ts'
export {
  SchemaError,
  type SchemaIssue,
  type StandardSchema,
  type TypedEntry,
  type TypedOptions,
  type TypedStore,
} from './typed.ts'
export type {
  CallOptions,
  DeleteOptions,
  Entry,
  IncrementOptions,
  KeysOptions,
  NewEntry,
  Range,
  ReadOptions,
  SetOptions,
  Store,
  TouchOptions,
  Ttl,
  Value,
  WatchEvent,
  WatchOptions,
} from './types.ts'
