import { people } from '../lib/cli.ts'

// The executable is made for upcalls, which end before compiling anything would pay; a command may go through many records.
const runtime = globalThis as { Bun?: { unsafe?: { setJITPolicy?: (scale: number) => void } } }
runtime.Bun?.unsafe?.setJITPolicy?.(1)

void people(process.argv.slice(2)).then((status) => (process.exitCode = status))
