import { main } from '../lib/main.ts'
import { nodeCalls } from '../lib/syscalls/node.ts'

/** Words are bytes, each character one of them; Node has read them as UTF-8. */
const asBytes = (word: string): string => Buffer.from(word).toString('latin1')
const environment = Object.fromEntries(Object.entries(process.env).map(([name, value]) => [name, asBytes(value ?? '')]))

const calls = nodeCalls()
const status = main(calls, process.argv.slice(2).map(asBytes), environment)
// An upcall is done when it has its status: nothing is left for an event loop, whose last turn would cost a
// millisecond.
if (status !== undefined) calls.exit(status)

// A module of its own. Not by a literal name: esbuild would melt the two into one, which every upcall would carry.
const people = './people.cjs'
// eslint-disable-next-line @typescript-eslint/no-require-imports -- the bundle is CommonJS
require(people)
