// The SDK: what an application imports to talk to a cluster. Runs wherever there is `fetch`, browsers included.

export type {
  ClusterDescription,
  Deleted,
  GrantDescription,
  Me,
  MemberDescription,
  NewMember,
  Written,
} from '../api/protocol.ts'
export { type ErrorCode, TrivetError } from '../errors.ts'
export {
  type CallOptions,
  type ChangeMemberOptions,
  type Client,
  type ConnectOptions,
  connect,
} from './client.ts'
export type { Duration } from './duration.ts'
export type { Fetch, TokenSource } from './requester.ts'
export type { DeleteOptions, Entry, KeysOptions, ReadOptions, SetOptions, Store, Value } from './store.ts'
