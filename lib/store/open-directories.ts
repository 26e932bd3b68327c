/**
 * The open directories: `v4clients` and those of instances. Only we may write to them, because a record in one of them
 * lets a client reclaim.
 *
 * `serve` keeps them open from one piece of work to the next. It uses one again if its name still leads to it. An open
 * directory keeps its inode number, so another directory can't be mistaken for it.
 */
import { storageFailure, type Failed } from '../failure.ts'
import type { Start } from '../rules/instance.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { quote } from '../text.ts'

/** Data without methods: every upcall would have to create them. Ten of them were 4 % of a check. */
export interface OpenDirectories {
  /** For absolute paths, in the system that the state directory is in. */
  readonly anywhere: Directory
  readonly path: string
  /** `v4clients`. */
  readonly clientsPath: string
  readonly opened: Map<Which, Opened>
  /**
   * No longer used here, but still open: a caller may still use their descriptors, which must not become another
   * file's.
   */
  readonly left: Opened[]
  /** The number of the current piece of work. */
  work: number
}

type Which = 'v4clients' | Start

interface Opened {
  readonly directory: Directory
  /** What its name led to when only we could write to it; undefined until the name is looked up a second time. */
  identity: string | undefined
  /** The last piece of work in which its name was looked up and only we could write to it. */
  lookedAtIn: number
}

/**
 * `v4clients`, open; undefined if it does not exist. @throws Failed, if it is no directory, or others can write to it.
 */
export const openClients = (all: OpenDirectories): Directory | undefined => open(all, 'v4clients', all.anywhere)

/** An instance's directory, open; undefined if it does not exist. @throws Failed, if others can write to it. */
export function directoryOf(all: OpenDirectories, start: Start): Directory | undefined {
  const known = all.opened.get(start)
  if (known?.lookedAtIn === all.work) return known.directory
  const clients = openClients(all)
  return clients === undefined ? undefined : open(all, start, clients)
}

/** An instance's directory, for messages. */
export const pathOf = ({ clientsPath }: OpenDirectories, start: Start): string => `${clientsPath}/${String(start)}`

function open(all: OpenDirectories, which: Which, within: Directory): Directory | undefined {
  const known = all.opened.get(which)
  if (known?.lookedAtIn === all.work) return known.directory
  const name = which === 'v4clients' ? all.clientsPath : String(which)
  if (known !== undefined) {
    if (isStillAt(name, within, known)) {
      known.lookedAtIn = all.work
      return known.directory
    }
    leave(all, which, known)
  }
  const directory = files.openDirectory(name, within)
  if (directory === 'absent') return undefined
  if (directory === 'other')
    throw notADirectory(
      which !== 'v4clients'
        ? pathOf(all, which)
        : files.kindAt(all.path, within) === 'other'
          ? all.path
          : all.clientsPath,
    )
  const opened: Opened = { directory, identity: undefined, lookedAtIn: -1 }
  all.opened.set(which, opened)
  assertOurs(directory)
  opened.lookedAtIn = all.work
  return directory
}

function isStillAt(name: string, within: Directory, opened: Opened): boolean {
  if (opened.identity === undefined) {
    const identity = files.identityAt('.', opened.directory)
    // Its owner or mode may have changed since it was opened.
    assertOurs(opened.directory)
    opened.identity = identity
  }
  const now = files.identityAt(name, within)
  return now !== undefined && now === opened.identity
}

function leave({ opened, left }: OpenDirectories, which: Which, directory: Opened): void {
  opened.delete(which)
  left.push(directory)
}

/** To be called after directories were made or removed: each is opened again when it is next needed. */
export function openAnew(all: OpenDirectories): void {
  for (const [which, directory] of all.opened) leave(all, which, directory)
}

/** `serve` calls this between two pieces of work: each directory that stays open is checked again before it is used. */
export function lookAgain(all: OpenDirectories): void {
  all.work++
  if (all.left.length > 0) closeLeft(all)
}

/** `serve` calls this to close every directory. */
export function closeAll(all: OpenDirectories): void {
  openAnew(all)
  closeLeft(all)
}

function closeLeft({ left }: OpenDirectories): void {
  for (const { directory } of left.splice(0)) files.close(directory)
}

function assertOurs(directory: Directory): void {
  const why = files.whyNotOurs(directory.path, files.statusOf(directory), directory)
  if (why !== undefined) throw storageFailure(why)
}

export const notADirectory = (path: string): Failed => storageFailure(`${quote(path)} is not a directory`)
