/** A process on a machine in memory: its open files, and hooks that a test may set for each of its calls. */
import { atFlags } from '../../../lib/syscalls/calls.ts'
import { errno } from '../../../lib/syscalls/errno.ts'
import { find, type Found, type Inode, type LastLink, type Reports } from './inodes.ts'

const { ENOENT, EBADF, EEXIST } = errno

export interface Open {
  readonly inode: Inode
  /** Where it is, also after this process has renamed it. */
  path: string
  at: number
  /** What a watch has to report. */
  readonly reports?: Reports
}

/** A call, as it is reported to the model of a disk and to a hook, in strace's terms (tests/support/strace.ts). */
export interface Made {
  readonly name: string
  readonly text: string
  readonly paths: readonly string[]
  /** Whether it makes, changes or syncs something. */
  readonly changes: boolean
}

export const callShown = ({ name, paths }: Made): string => `${name} ${paths.join(' ')}`

export interface Hooks {
  /**
   * Before each call.
   * @returns a negated errno with which the call fails; undefined: it is made. An exception stops the process.
   */
  before: (made: Made) => number | undefined
  /** After each call that has changed something. */
  changed: (made: Made) => void
  /** After each call. */
  answered: (made: Made, answer: unknown) => void
}

export interface Process {
  readonly us: { id: number; now: number; monotonic: number }
  readonly disk: { isWrittenInPlace: boolean }
  opened: Map<number, Open>
  readonly find: (directory: number, name: string, lastLink: LastLink) => Found | number
  /** Where a new name would be. */
  readonly placeFor: (directory: number, name: string) => Found | number
  readonly pathOf: (directory: number, name: string) => string
  /** One call. A hook may let it fail, or stop the process. */
  readonly made: <T>(name: string, paths: readonly string[], work: () => T | number) => T | number
  /** The same, and a change is reported. */
  readonly change: (name: string, text: string, paths: readonly string[], work: () => number) => number
}

/** A file is closed: its locks are released. */
export function unlock(file: Open): void {
  if (file.inode.lockedBy === file) file.inode.lockedBy = undefined
  if (file.inode.heldBy === file) file.inode.heldBy = undefined
}

/** The process that has them open ends. */
export function closeAll(opened: Map<number, Open>): void {
  for (const file of opened.values()) unlock(file)
  opened.clear()
}

export function processOn(root: Inode, hooks: Hooks): Process {
  const process: Process = {
    us: { id: 1000, now: 1_800_000_000_000, monotonic: 0 },
    disk: { isWrittenInPlace: true },
    opened: new Map(),
    find: (directory, name, lastLink) => {
      const isFromRoot = name.startsWith('/') || directory === atFlags.AT_FDCWD
      const base = isFromRoot ? root : process.opened.get(directory)?.inode
      return base === undefined ? -EBADF : find(root, base, name, lastLink)
    },
    placeFor: (directory, name) => {
      const found = process.find(directory, name, 'itself')
      if (typeof found === 'number') return found
      if (found.last !== undefined) return -EEXIST
      return found.within.gone ? -ENOENT : found
    },
    pathOf: (directory, name) =>
      name.startsWith('/')
        ? name
        : `${directory === atFlags.AT_FDCWD ? '' : (process.opened.get(directory)?.path ?? '?')}/${name}`,
    made: (name, paths, work) => {
      const told = { name, text: '', paths, changes: false }
      const answer = hooks.before(told) ?? work()
      hooks.answered(told, answer)
      return answer
    },
    change: (name, text, paths, work) => {
      const told = { name, text, paths, changes: true }
      const failure = hooks.before(told)
      if (failure !== undefined) return failure
      const answer = work()
      if (answer >= 0) hooks.changed(told)
      hooks.answered(told, answer)
      return answer
    },
  }
  return process
}
