// Two cluster ids for tests of nodes that should, and should not, speak to each other.

export const cluster = 'c0ffee'.padEnd(32, '0')
export const otherCluster = 'bad'.padEnd(32, '0')
