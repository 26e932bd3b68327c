/**
 * Where the floor is: executables made as ours is, which do nothing of ours. What they take is what no change of our code
 * can save.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../artefacts.ts'
import { run } from './tools.ts'

/** A CommonJS module, as ours is: bun starts that sooner than what it must take for an ES module. */
const floors = {
  'the runtime alone': 'module.exports = {}\nprocess.exit(0)',
  'the runtime, ended by the C library': "module.exports = {}\nBun.FFI.dlopen('libc.so.6', { _exit: { args: ['i32'], returns: 'void' } }).symbols._exit(0)",
  'the runtime and its file system module': "module.exports = {}\nrequire('node:fs').existsSync('/')\nprocess.exit(0)",
} as const
export type Floor = keyof typeof floors

/** Compiles them into `room`, with the flags of `npm run build`. @returns their paths. */
export function compileFloors(room: string): Record<Floor, string> {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> }
  const flags = (scripts['build:executable'] ?? '').split(' ').filter((word) => word.startsWith('--') && !word.startsWith('--outfile'))
  const made = Object.entries(floors).map(([name, source], index) => {
    const file = join(room, `floor-${index}`)
    writeFileSync(`${file}.cjs`, source)
    run(join(root, 'node_modules/.bin/bun'), ['build', `${file}.cjs`, ...flags, `--outfile=${file}`])
    return [name, file]
  })
  return Object.fromEntries(made) as Record<Floor, string>
}
