// Programs that are broken on purpose, each by a small edit. A simulator that does not catch one of them proves nothing about it.

type Edit = {
  /** Below `src`. */
  readonly file: string
  /** Must be there exactly once. */
  readonly find: string
  readonly replace: string
}

export type Variant = {
  readonly name: string
  readonly edits: readonly Edit[]
  /** A seed that is known to catch it, or one shortly before. */
  readonly seed: number
}

const one = (name: string, file: string, find: string, replace: string, seed = 1): Variant => ({
  name,
  edits: [{ file, find, replace }],
  seed,
})

export const variants: readonly Variant[] = [
  // ── votes ──────────────────────────────────────────────────────────────────────────────────────────────────────
  one(
    'votes twice in a term',
    'raft/raft.ts',
    '(this.#votedFor === undefined || this.#votedFor === message.from) &&',
    '',
    58,
  ),
  one(
    'keeps its vote only in memory',
    'raft/raft.ts',
    'const hardState = { term: this.#term, votedFor: this.#votedFor }',
    'const hardState = { term: this.#term, votedFor: undefined }',
  ),
  one(
    'forgets its vote with its candidacy',
    'raft/raft.ts',
    `    const leadership = this.#leadership
    this.#leadership = undefined
    this.#leader = leader`,
    `    const leadership = this.#leadership
    this.#votedFor = undefined
    this.#leadership = undefined
    this.#leader = leader`,
  ),
  one(
    'votes for whoever asks, whatever its log',
    'raft/log.ts',
    'return last.term > this.lastTerm || (last.term === this.lastTerm && last.index >= this.#lastIndex)',
    'return last.index >= 0',
    7,
  ),
  one(
    'compares logs by their length alone',
    'raft/log.ts',
    'return last.term > this.lastTerm || (last.term === this.lastTerm && last.index >= this.#lastIndex)',
    'return last.index >= this.#lastIndex',
    129,
  ),
  one(
    'lets votes and acknowledgements leave before their save',
    'raft/outbox.ts',
    'this.#promises.push(message)\n  }',
    'this.#messages.push(message)\n  }',
  ),
  // ── the log, between nodes ─────────────────────────────────────────────────────────────────────────────────────
  one(
    'commits an entry of an old term by counting',
    'raft/leadership.ts',
    ' || this.#log.term(index) !== this.#options.term',
    '',
  ),
  one(
    'counts the leader before its own sync',
    'raft/leadership.ts',
    'this.#progress.get(voter)?.matchIndex ?? this.#log.savedIndex',
    'this.#progress.get(voter)?.matchIndex ?? this.#log.lastIndex',
  ),
  one(
    'acknowledges entries before their sync',
    'raft/outbox.ts',
    "if (message.type !== 'appended' || !this.#joined(message)) this.#promises.push(message)",
    "if (message.type === 'appended') this.#messages.push(message)\n    else this.#promises.push(message)",
  ),
  one(
    'tells followers a commit index beyond what they have acknowledged',
    'raft/leadership.ts',
    `      const commitIndex = Math.min(progress.matchIndex, this.#log.commitIndex)
      progress.toldCommit`,
    `      const commitIndex = this.#log.commitIndex
      progress.toldCommit`,
    7,
  ),
  one(
    'lets a late append shorten the log',
    'raft/log.ts',
    'const fresh = entries.findIndex((entry) => this.term(entry.index) !== entry.term)',
    'const fresh = entries.length > 0 ? 0 : -1',
  ),
  one(
    'applies what its own log does not hold',
    'raft/log.ts',
    'return Math.min(this.#commitIndex, this.#savedIndex)',
    'return this.#commitIndex',
  ),
  // ── reads ──────────────────────────────────────────────────────────────────────────────────────────────────────
  one(
    'reads without a round',
    'raft/leadership.ts',
    'else if (this.#committedInTerm) this.#reads.join(read, this.#log.commitIndex)',
    'else if (this.#committedInTerm) this.#options.answerRead(read, this.#log.commitIndex)',
    21,
  ),
  one(
    'reads before the first commit of the term',
    'raft/leadership.ts',
    'else if (this.#committedInTerm) this.#reads.join(read, this.#log.commitIndex)',
    'else if (this.#log.commitIndex > 0) this.#reads.join(read, this.#log.commitIndex)',
    156,
  ),
  one(
    'lets a read join a round that was sent before it came',
    'raft/read-rounds.ts',
    'round: this.#sent + 1 })',
    'round: this.#sent })',
    3114,
  ),
  one(
    'takes an answer to an old round for one to the last',
    'raft/leadership.ts',
    'progress.answeredRound = Math.max(progress.answeredRound, round)',
    'progress.answeredRound = this.#reads.sent',
    34,
  ),
  one(
    'answers the reads that wait as its leadership ends',
    'raft/leadership.ts',
    'for (const read of this.#reads.drain()) this.#options.answerRead(read, undefined)',
    'for (const read of this.#reads.drain()) this.#options.answerRead(read, this.#log.commitIndex)',
    16,
  ),
  one(
    'asks under read ids that repeat after a restart',
    'node/read-barrier.ts',
    'this.#lastId = options.boot * idsPerSecond',
    'this.#lastId = 0',
  ),
  one(
    'serves a read before its index is applied',
    'node/read-barrier.ts',
    'if (confirmed.index > index) {',
    'if (confirmed.index > index + 1) {',
    6,
  ),
  // ── the log, on disk ───────────────────────────────────────────────────────────────────────────────────────────
  one(
    'takes what it can read after a restart for durable',
    'store/wal-recovery.ts',
    'return { proven, end, cutBytes: rest.usedBytes }',
    'return { proven: end, end, cutBytes: rest.usedBytes }',
    6,
  ),
  one(
    'syncs again after a sync that failed',
    'store/wal-writer.ts',
    'await this.#file.write(this.#end, bytes)',
    'await this.#file.write(this.#end, bytes).catch(() => this.#file.sync())',
    6,
  ),
  one(
    'never syncs the log',
    'store/wal-writer.ts',
    "{ access: 'create', durable: true }",
    "{ access: 'create', durable: false }",
  ),
  one(
    'never syncs the directory of the log',
    'store/wal-writer.ts',
    '    await disk.syncDirectory(directory)\n',
    '',
  ),
  one(
    'accepts a torn tail',
    'store/wal-recovery.ts',
    'if (!isBodySound(buffer, start, seat, header)) return undefined',
    '',
    97,
  ),
  {
    name: 'cuts damage like a torn tail',
    edits: [
      {
        file: 'store/wal-recovery.ts',
        find: 'if (Math.max(proven, rest.claimed) > end) {',
        replace: 'if (rest.claimed < 0) {',
      },
      {
        file: 'store/wal-recovery.ts',
        find: `      if (batch === undefined || offset + batch.bytes > to) {
        throw damage(where, 'a batch cannot be read that had been made durable')
      }`,
        replace: '      if (batch === undefined || offset + batch.bytes > to) return',
      },
    ],
    seed: 233,
  },
  one(
    'takes a torn tail for damage',
    'store/wal-recovery.ts',
    'if (Math.max(proven, rest.claimed) > end) {',
    'if (Math.max(proven, rest.claimed) > end || rest.usedBytes > 0) {',
    10,
  ),
  one(
    'starts again under the same boot number',
    'store/wal-options.ts',
    'return Math.max(previous + 1, Math.floor(now / 1000))',
    'return Math.max(previous, 1)',
  ),
  one(
    'loses term and vote with the segment that had them',
    'store/wal.ts',
    'hardState: this.#state.hardState,',
    'hardState: this.recovered.hardState,',
  ),
  one(
    'compacts the log and forgets its configurations',
    'store/wal.ts',
    'const configuration = this.#state.configurationAt(index)',
    'const { configuration } = this.#state.base',
  ),
  one(
    'votes again as soon as it has caught up after the loss of its log',
    'raft/raft.ts',
    `    const boot = this.#rebuilding
    if (boot === undefined) return
`,
    `    const boot = this.#rebuilding
    if (boot === undefined) return
    if (this.#log.commitIndex === this.#log.lastIndex) {
      this.#rebuilding = undefined
      return
    }
`,
    5,
  ),
  // ── the state ──────────────────────────────────────────────────────────────────────────────────────────────────
  one(
    'writes the applied index in a batch of its own',
    'store/state-writer.ts',
    'await writeBatch(this.#level, [...this.#overlay.take(), ...own, meta, mark], this.#time)',
    `await writeBatch(this.#level, this.#overlay.take(), this.#time)
      await writeBatch(this.#level, [...own, meta, mark], this.#time)`,
  ),
  one(
    'writes the state unsynced',
    'store/state-writer.ts',
    'const synced = { sync: true }',
    'const synced = { sync: false }',
  ),
  one(
    'serves a state whose rows nobody has checked',
    'node/state-keeper.ts',
    'void this.#check(machine)',
    'this.#open(machine)',
  ),
  one(
    'lets the old state go before the log names the new one',
    'node/storage.ts',
    `    await wal.install(loaded)
    await this.#opened?.machine.close()
`,
    `    await this.#opened?.machine.close()
    await this.#states.sweep((name) => name === loaded.directory)
    await wal.install(loaded)
`,
  ),
  // ── once only ──────────────────────────────────────────────────────────────────────────────────────────────────
  one(
    'applies a command twice that came twice',
    'store/state-apply.ts',
    "if (recollection.type === 'decided') return",
    "if (recollection.type === 'past') return",
  ),
  {
    name: 'forgets what commands came to when the leader changes',
    edits: [
      {
        file: 'store/state-origins.ts',
        find: '  #heard(peer: string): Origin {\n',
        replace: `  forget(): void {
    for (const origin of this.#origins.values())
      for (const segment of origin.segments.values()) this.#drop(origin, segment)
  }

  #heard(peer: string): Origin {
`,
      },
      {
        file: 'store/state-apply.ts',
        find: '        this.#stamp = Math.max(',
        replace: `        if (step.entry.term !== this.#lastAppliedTerm) this.#origins.forget()
        this.#stamp = Math.max(`,
      },
    ],
    seed: 3,
  },
  one(
    'decides a write of a session again that came again',
    'store/state-sessions.ts',
    'if (outcome !== undefined) return { ...outcome, replayed: true }',
    '',
  ),
  one(
    'decides a write again that came again under its idempotency key',
    'store/state-idempotency.ts',
    'return { ...found.outcome, replayed: true }',
    'return undefined',
    16,
  ),
  {
    name: 'sends snapshots without sessions and idempotency keys',
    edits: [
      {
        file: 'store/row-hash.ts',
        find: 'export function hashRow(key: Uint8Array, value: Uint8Array): RowHash {\n',
        replace: `export function hashRow(key: Uint8Array, value: Uint8Array): RowHash {
  if (key[0] === 0x06 || key[0] === 0x07) return [0, 0, 0, 0]
`,
      },
      {
        file: 'store/state-snapshot.ts',
        find: '      for (const [key, value] of page) {\n',
        replace: `      for (const [key, value] of page) {
        if (key[0] === 0x06 || key[0] === 0x07) continue
`,
      },
    ],
    seed: 1,
  },
  one(
    'takes a refusal by one who does not lead for the last word',
    'node/own-commands.ts',
    "if (code !== 'no-leader' && pending.attempts.length === 0) this.#refuse(pending, code)",
    'if (isLatest) this.#refuse(pending, code)',
    21,
  ),
  one(
    'says of a command that left once that it has no effect',
    'node/own-commands.ts',
    `  return pending.attempts.length > 0
    ? new TrivetError(`,
    `  return pending.attempts.length > 1
    ? new TrivetError(`,
  ),
  // ── what expires ───────────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'expires by the clock of whoever leads',
    edits: [
      {
        file: 'node/node.ts',
        find: 'new ExpiryKeeper({ replica, now: parts.surroundings.now, logger })',
        replace: 'new ExpiryKeeper({ replica, now: parts.surroundings.now, logger, clock: parts.clock })',
      },
      {
        file: 'node/expiry-keeper.ts',
        find: 'const stamp = replica.stamp()',
        replace: 'const stamp = this.#options.clock()',
      },
      {
        file: 'store/state-apply.ts',
        find: 'if (before.expires === undefined || before.expires > this.#stamp) continue',
        replace: 'if (before.expires === undefined) continue',
      },
    ],
    seed: 1,
  },
  {
    name: 'hides what has expired by its own clock',
    edits: [
      {
        file: 'node/node.ts',
        find: '    this.#parts = parts\n',
        replace: '    this.#parts = parts\n    this.#state.clock = parts.clock\n',
      },
      {
        file: 'node/node-state.ts',
        find: '    return this.#shown().get(store, key)',
        replace: `    const item = await this.#shown().get(store, key)
    return item?.expires !== undefined && item.expires <= this.clock() ? undefined : item`,
      },
    ],
    seed: 1,
  },
  one(
    'expires what was renewed after it was found due',
    'store/state-apply.ts',
    'if (before.expires === undefined || before.expires > this.#stamp) continue',
    'if (before.expires === undefined) continue',
  ),
  one(
    'leaves what is renewed to expire when it was to before',
    'store/state-changes.ts',
    'if (before?.expires === after?.expires && before?.revision === after?.revision) return',
    'if (before?.revision === after?.revision) return',
  ),
  // ── members ────────────────────────────────────────────────────────────────────────────────────────────────────
  one(
    'changes its members twice at once',
    'raft/leadership.ts',
    'return this.#committedInTerm && this.#log.configuration.index <= this.#log.commitIndex',
    'return this.#committedInTerm',
  ),
  one(
    'changes its members before it has committed in its term',
    'raft/leadership.ts',
    'return this.#committedInTerm && this.#log.configuration.index <= this.#log.commitIndex',
    'return this.#log.configuration.index <= this.#log.commitIndex',
    3,
  ),
  one(
    'keeps a configuration whose entry was replaced',
    'raft/log.ts',
    'this.#configurations = this.#configurations.filter((at) => at.index < index)',
    '',
    265,
  ),
  // ── founding ───────────────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'founds a cluster on disks that were emptied',
    edits: [
      {
        file: 'node/founding.ts',
        find: 'return answer.clusterId === undefined\n',
        replace: "return answer.clusterId === undefined || options.identity().type === 'empty'\n",
      },
      {
        file: 'node/founding.ts',
        find: "if (known.type === 'knows' && known.clusterId !== clusterId) {",
        replace:
          "if (known.type === 'knows' && known.clusterId !== clusterId) continue\n    if (known.type === 'refuses') {",
      },
      {
        file: 'node/founding.ts',
        find: 'if (missing.length > 0) {',
        replace: 'if (missing.length > 1) {',
      },
    ],
    seed: 1,
  },
]
