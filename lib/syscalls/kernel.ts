/** Who makes the calls. */
import type { Calls } from './calls.ts'
import { nodeCalls } from './node.ts'

export const calls: Calls = nodeCalls()
