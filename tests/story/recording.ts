/** The upcalls of a real Linux 6.1 server, as execve() got them: `tests/story/upcalls-linux-6.1.txt`. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root, type Environment } from '../support/artefacts.ts'

export interface Recorded {
  readonly words: readonly string[]
  readonly env: Environment
  /** What the helper answered at that time. */
  readonly status: number
}

/** In order. Upcalls that ran at the same time are together. */
export function recording(): readonly (readonly Recorded[])[] {
  const groups: Recorded[][] = []
  let running: { words: string[]; env: Environment }[] = []
  let ended: Recorded[] = []
  for (const line of readFileSync(join(root, 'tests/story/upcalls-linux-6.1.txt'), 'utf8').split('\n')) {
    const upcall = /^t=\S+ argv0=\S+ (?<words>.*?) \| env: (?<env>.*?) \| fds: none /.exec(line)?.groups
    const exit = /^ {4}(?<verb>\w+) exit=(?<status>\d+)$/.exec(line)?.groups
    if (upcall) {
      const env = Object.fromEntries(
        (upcall['env'] ?? '').split(' ').map((it) => {
          const [name = '', ...value] = it.split('=')
          return [name, value.join('=')]
        }),
      )
      running.push({ words: (upcall['words'] ?? '').split(' '), env })
    } else if (exit) {
      const it = running.find(({ words }) => words[0] === exit['verb'])
      if (!it) throw new Error(`the recording ends a ${exit['verb'] ?? ''} that never began`)
      running = running.filter((other) => other !== it)
      ended.push({ ...it, status: Number(exit['status']) })
      if (running.length === 0) {
        groups.push(ended)
        ended = []
      }
    } else if (line !== '' && !line.startsWith('#')) {
      throw new Error(`the recording has a line that is neither an upcall nor its end: ${line}`)
    }
  }
  return groups
}
