import { main } from '../lib/main.ts'
import { nodeCalls } from '../lib/syscalls/node.ts'

/** Words are bytes, and each character is one of them. Node has read them as UTF-8. */
const asBytes = (word: string): string => Buffer.from(word).toString('latin1')
const environment = Object.fromEntries(Object.entries(process.env).map(([name, value]) => [name, asBytes(value ?? '')]))

const calls = nodeCalls()
const status = main(calls, process.argv.slice(2).map(asBytes), environment)
// An upcall is complete when it has its status. Nothing is left for the event loop, whose last turn would cost a
// millisecond.
if (status !== undefined) calls.exit(status)

// This is a module of its own, and has no literal name here: esbuild would otherwise include it in this one, and every
// upcall would load it.
const people = './people.cjs'
// eslint-disable-next-line @typescript-eslint/no-require-imports -- the bundle is CommonJS
require(people)
