/** Who makes the calls: the C library where it can be reached, else Node's file system module. They do the same. */
import type { Calls } from './calls.ts'
import { libcCalls } from './libc.ts'
import { nodeCalls } from './node.ts'

export const calls: Calls = libcCalls() ?? nodeCalls()
