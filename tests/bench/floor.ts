/**
 * Lower limits: an executable that is built like ours, whose script only exits; and a program in C that does the least
 * work of a create. No change of our code can make it faster than the first, and no other language faster than the
 * second.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { root } from '../support/artefacts.ts'
import { run } from './tools.ts'

const floors = {
  'the engine alone': 'host.calls.exit(0)',
} as const
export type Floor = keyof typeof floors

/** Builds them in `room`, as `npm run build` does. @returns their paths. */
export function compileFloors(room: string): Record<Floor, string> {
  const made = Object.entries(floors).map(([name, source], index) => {
    const file = join(room, `floor-${index}`)
    writeFileSync(`${file}.js`, source)
    run(process.execPath, ['--import', 'tsx', join(root, 'lib/build/main.ts'), `--script=${file}.js`, `--into=${file}`])
    return [name, file]
  })
  return Object.fromEntries(made) as Record<Floor, string>
}

/** Builds create-floor.c in `room`. @returns its path. */
export function compileCreateFloor(room: string): string {
  const file = join(room, 'create-floor')
  run('cc', ['-O2', '-static', '-o', file, fileURLToPath(new URL('create-floor.c', import.meta.url))])
  return file
}
