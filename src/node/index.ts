// `trivet/node`: a node to embed in another program.

export { Node } from './node.ts'
export { type OpenOptions, openNode } from './open.ts'
export type { NodeAddress, NodeSettings } from './settings.ts'
export type {
  ClusterStatus,
  Executed,
  MemberStatus,
  NodeSurface,
  WaitOptions,
  WriteTiming,
} from './surface.ts'
