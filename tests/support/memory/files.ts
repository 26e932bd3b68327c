/**
 * A file system in memory, and a process on it that makes the calls of lib/syscalls/calls.ts. Before each call, a test
 * may let it fail, stop the process, or copy the file system. tests/proof/power-loss.ts follows each change and says
 * what a power cut may leave.
 */
import type { Calls } from '../../../lib/syscalls/calls.ts'
import type { Tree } from '../../proof/trees.ts'
import { callsOf } from './calls.ts'
import { copied, inode, plant, put, remove, treeAt } from './inodes.ts'
import { closeAll, processOn, type Hooks } from './process.ts'

export { callShown, type Made } from './process.ts'

export interface MemoryFiles {
  readonly calls: Calls
  readonly hooks: Hooks
  readonly process: { id: number; now: number; monotonic: number }
  /** What `isWrittenInPlace` says of each file: true at first. */
  readonly disk: { isWrittenInPlace: boolean }
  /** The process ends: its files are closed. */
  readonly end: () => void
  /** Another process does some work while this one has stopped. Each has its own open files. */
  readonly meanwhile: <T>(work: () => T) => T
  /** Another process that goes on living. Its files stay open from one piece of work to the next. */
  readonly another: () => <T>(work: () => T) => T
  /** Another machine with a copy of all files, except devices. */
  readonly copy: () => MemoryFiles
  /** The contents of a directory. */
  readonly tree: (path: string) => Tree
  /** Puts a tree at a path, and makes its parents. */
  readonly plant: (tree: Tree, path: string) => void
  /** The same, but replaces what is there. */
  readonly replace: (path: string, tree: Tree) => void
  readonly remove: (path: string) => void
  /** A file whose writes call a function. */
  readonly device: (path: string, text: () => string, written: (text: string) => number) => void
}

/**
 * @param longestLink 4095 on ext4, 1023 on XFS.
 * @param root the contents at first.
 */
export function memoryFiles(longestLink = 4095, root = inode('directory', 0o755)): MemoryFiles {
  const hooks: Hooks = { before: () => undefined, changed: () => undefined, answered: () => undefined }
  const process = processOn(root, hooks)
  return {
    calls: callsOf(process, longestLink),
    hooks,
    process: process.us,
    disk: process.disk,
    end: () => {
      closeAll(process.opened)
    },
    meanwhile: (work) => {
      const { opened } = process
      const { id } = process.us
      process.opened = new Map()
      try {
        return work()
      } finally {
        closeAll(process.opened)
        process.opened = opened
        process.us.id = id
      }
    },
    another: () => {
      let own: typeof process.opened = new Map()
      return (work) => {
        const { opened } = process
        process.opened = own
        try {
          return work()
        } finally {
          own = process.opened
          process.opened = opened
        }
      }
    },
    copy: () => {
      const copy = memoryFiles(longestLink, copied(root))
      Object.assign(copy.process, process.us)
      Object.assign(copy.disk, process.disk)
      return copy
    },
    tree: (path) => treeAt(root, path),
    plant: (tree, path) => {
      plant(root, tree, path)
    },
    replace: (path, tree) => {
      remove(root, path)
      plant(root, tree, path)
    },
    remove: (path) => {
      remove(root, path)
    },
    device: (path, text, written) => {
      const made = inode('file', 0o600, '', written)
      Object.defineProperty(made, 'text', { get: text })
      put(root, path, made)
    },
  }
}
