/**
 * Where the floor is: an executable made as ours is, which does nothing of ours. What it takes is what no change of our
 * code can save.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
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
