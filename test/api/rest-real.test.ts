// The contract over a real node: real disk, LevelDB, consensus and libp2p, a cluster of one.

import { describeRest } from './contract.ts'
import { foundOne } from './real-node.ts'

describeRest('a cluster of one', foundOne)
