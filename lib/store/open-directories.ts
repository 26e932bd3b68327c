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
  /** `v4clients`, if it is open: every request asks for it several times. */
  clients: Opened | undefined
  readonly instances: Map<Start, Opened>
  /**
   * No longer used here, but still open: a caller may still use their descriptors, which must not become another
   * file's.
   */
  readonly left: Opened[]
  /** The number of the current piece of work. */
  work: number
}

export interface Opened {
  readonly name: string
  readonly directory: Directory
  /** What its name led to when only we could write to it; undefined until the name is looked up a second time. */
  identity: string | undefined
  /** The last piece of work in which its name was looked up and only we could write to it. */
  lookedAtIn: number
}

/**
 * `v4clients`, open; undefined if it does not exist. @throws Failed, if it is no directory, or others can write to it.
 */
export function openClients(all: OpenDirectories): Directory | undefined {
  const { clients, anywhere } = all
  if (clients !== undefined) {
    if (isStillAt(all, clients, anywhere)) return clients.directory
    all.clients = undefined
    all.left.push(clients)
  }
  const opened = open(all.clientsPath, anywhere)
  if (opened === 'other') throw notADirectory(files.kindAt(all.path, anywhere) === 'other' ? all.path : all.clientsPath)
  all.clients = opened
  return opened && checked(all, opened)
}

/** An instance's directory, open; undefined if it does not exist. @throws Failed, if others can write to it. */
export function directoryOf(all: OpenDirectories, start: Start): Directory | undefined {
  const known = all.instances.get(start)
  if (known?.lookedAtIn === all.work) return known.directory
  const clients = openClients(all)
  if (clients === undefined) return undefined
  if (known !== undefined) {
    if (isStillAt(all, known, clients)) return known.directory
    all.instances.delete(start)
    all.left.push(known)
  }
  const opened = open(String(start), clients)
  if (opened === 'other') throw notADirectory(pathOf(all, start))
  if (opened === undefined) return undefined
  all.instances.set(start, opened)
  return checked(all, opened)
}

/** An instance's directory, for messages. */
export const pathOf = ({ clientsPath }: OpenDirectories, start: Start): string => `${clientsPath}/${String(start)}`

function open(name: string, within: Directory): Opened | 'other' | undefined {
  const directory = files.openDirectory(name, within)
  if (typeof directory !== 'object') return directory === 'absent' ? undefined : directory
  return { name, directory, identity: undefined, lookedAtIn: -1 }
}

function checked(all: OpenDirectories, opened: Opened): Directory {
  assertOurs(opened.directory)
  opened.lookedAtIn = all.work
  return opened.directory
}

function isStillAt(all: OpenDirectories, opened: Opened, within: Directory): boolean {
  if (opened.lookedAtIn === all.work) return true
  opened.identity ??= identityOf(opened.directory)
  // Whatever is wrong with the name, opening it anew says so.
  if (within.calls.identityAt(within.descriptor, opened.name) !== opened.identity) return false
  opened.lookedAtIn = all.work
  return true
}

function identityOf(directory: Directory): string | undefined {
  const identity = files.identityAt('.', directory)
  // Its owner or mode may have changed since it was opened.
  assertOurs(directory)
  return identity
}

/** To be called after directories were made or removed: each is opened again when it is next needed. */
export function openAnew(all: OpenDirectories): void {
  all.left.push(...(all.clients === undefined ? [] : [all.clients]), ...all.instances.values())
  all.clients = undefined
  all.instances.clear()
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
