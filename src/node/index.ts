// `trivet/node`: a node to embed in another program.

export { Node, type NodeAddress, type NodeSettings } from './node.ts'
export { type OpenOptions, openNode } from './open.ts'
export type {
  ClusterStatus,
  Executed,
  MemberStatus,
  NodeSurface,
  WaitOptions,
  WriteTiming,
} from './surface.ts'
