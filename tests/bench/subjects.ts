/**
 * The subjects of the benchmark: our two artefacts, and the program to beat; and one upcall of each, as the launcher
 * starts it.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { removeSync } from 'fs-extra/esm'
import { bundle, executable } from '../support/artefacts.ts'

export const names = ['executable', 'bundle', 'nfsdcltrack'] as const
export type Name = (typeof names)[number]

/** A directory for one piece of work, in which each subject has a state directory of its own. */
export interface Room {
  readonly path: string
  readonly state: (name: Name) => string
  /** Used as the kernel's nfsd file system, in grace. */
  readonly nfsd: string
  /** Our run directory: in memory, as on a server. */
  readonly run: string
}

export function newRoom(path: string): Room {
  const room: Room = {
    path,
    state: (name) => join(path, name),
    nfsd: join(path, 'nfsd'),
    run: mkdtempSync('/dev/shm/nfsd-userland-helper-bench-'),
  }
  for (const directory of [path, room.nfsd, ...names.map(room.state)]) mkdirSync(directory)
  writeFileSync(join(room.nfsd, 'v4_end_grace'), 'N\n')
  return room
}

export function removeRoom({ path, run }: Room): void {
  removeSync(path)
  removeSync(run)
}

/** When the kernel's nfsd started, for both. */
export const graceStart = Math.floor(Date.now() / 1000) - 500
const session = 'NFSDCLTRACK_CLIENT_HAS_SESSION=Y'
const noSession = 'NFSDCLTRACK_CLIENT_HAS_SESSION=N'
const grace = `NFSDCLTRACK_GRACE_START=${graceStart}`

/** A client owner like those of real clients. The launcher inserts the number. */
export const ownerPrefix = 'Linux NFSv4.1 host'
export const numbered = (number: number): string => ownerPrefix + String(number).padStart(7, '0')
/** The launcher replaces this mark by a new number, or by one of the first ten. */
const owner = (mark: '@' | '%' = '@'): string => `${Buffer.from(ownerPrefix).toString('hex')}${mark}`

export interface Upcall {
  readonly environment: readonly string[]
  readonly words: readonly string[]
}

/** Upcalls as a 6.1 kernel makes them. */
export const upcalls = {
  init: { environment: [grace], words: ['init'] },
  create: { environment: [session], words: ['create', owner()] },
  createInGrace: { environment: [session, grace], words: ['create', owner()] },
  check: { environment: [session], words: ['check', owner()] },
  checkOfTen: { environment: [session], words: ['check', owner('%')] },
  promotingCheck: { environment: [noSession], words: ['check', owner()] },
  remove: { environment: [], words: ['remove', owner()] },
  gracedone: { environment: [], words: ['gracedone', String(graceStart)] },
} as const satisfies Record<string, Upcall>

export function commandOf(name: Name, room: Room): readonly string[] {
  if (name === 'nfsdcltrack') return ['/usr/sbin/nfsdcltrack', '-s', room.state(name)]
  const { command } = name === 'executable' ? executable : bundle
  return [...command, '-s', room.state(name), '--nfsd-dir', room.nfsd, '--run-dir', room.run, '--config', '/dev/null']
}

/** Environment and words for the launcher. */
export const asLaunched = (name: Name, room: Room, { environment, words }: Upcall): string[] => [
  ...environment,
  ...commandOf(name, room),
  ...words,
]

/** One upcall that is not measured. */
export function now(name: Name, room: Room, { environment, words }: Upcall): void {
  const [program = '', ...rest] = [...commandOf(name, room), ...words]
  const env = Object.fromEntries(environment.map((word) => word.split('=') as [string, string]))
  const { status, error } = spawnSync(program, rest, { env, cwd: '/', stdio: 'ignore' })
  if (status !== 0)
    throw new Error(`${name} ${words.join(' ')} in preparation: ${error?.message ?? `status ${status ?? '?'}`}`)
}

/** A server with an empty state, out of grace. */
export function steady(name: Name, room: Room): void {
  now(name, room, upcalls.init)
  now(name, room, upcalls.gracedone)
}
