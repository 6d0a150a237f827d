// `trivet/node`: a node to embed in another program.

export { type ClusterConfig, ConfigError, loadConfig } from '../node/config.ts'
export type { ClusterStatus, MemberStatus } from '../node/surface.ts'
export { Node, type NodeOptions, type OpenStoreOptions } from './node.ts'
