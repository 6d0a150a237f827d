// What differs between the systems that are compared: how a node is started, and how it is spoken to over HTTP.

import type { Command } from './processes.ts'

/** One HTTP request, without the node it goes to. */
export type Exchange = {
  readonly method: 'GET' | 'PUT' | 'POST'
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: Buffer
}

export type NodePlan = {
  readonly id: string
  /** Where its HTTP is reached. */
  readonly url: string
  readonly start: Command
}

/** How the packaged client of a system is told where its cluster is; read by `loads/client-worker.ts`. */
export type ClientTarget =
  | {
      readonly type: 'trivet'
      readonly sdk: string
      readonly endpoints: readonly string[]
      readonly token: string
    }
  | { readonly type: 'etcd3'; readonly endpoints: readonly string[] }

/** A cluster that has been laid out in a directory and not yet started. */
export type Layout = {
  readonly nodes: readonly NodePlan[]
  /** Whether the node serves: asked by nobody but for this. */
  isReady(url: string): Promise<boolean>
  /** The id of the node that leads, as this node sees it. */
  leader(url: string): Promise<string | undefined>
  /** How many snapshots of another node's this one has taken since its process began. */
  snapshotsTaken(url: string): Promise<number>
  put(key: string, value: Buffer): Exchange
  get(key: string): Exchange
  /** A stream of what happens to this key. */
  watch(key: string): Exchange
  /** Many puts in one request, at most 100, to fill a cluster fast. */
  putMany(pairs: readonly (readonly [key: string, value: Buffer])[]): Exchange
  /** How many keys `putMany` may take at a time if 600,000 are to be more than the log is kept for. */
  readonly togetherBeyondLog: number
  /** Whether an answer of `putMany` with status 200 says that all were written. */
  tookAll(body: string): boolean
  client(urls: readonly string[]): ClientTarget
}

export type Engine = {
  /** As the tables name it. */
  readonly name: string
  /** Tells the client that belongs to it apart, as the tables name it. */
  readonly clientName: string
  readonly version: string
  /** Lays out a cluster of so many nodes below the directory, on ports that are free now. */
  layOut(directory: string, nodes: number): Promise<Layout>
}
