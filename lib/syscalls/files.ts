/**
 * The file system as this program wants it: which answers of the kernel are no errors, said by name.
 *
 * A name is looked up in an open directory, or is an absolute path. Files are 0600 and directories 0700; the caller has
 * set the umask so that these are exact.
 */
import { bytesOf } from '../bytes.ts'
import { errorCode } from '../failure.ts'
import { atFlags, type Calls, type DirectoryEntry, type Status } from './calls.ts'
import { answered, errno, systemError } from './errno.ts'

const { E2BIG, ENOENT, ENOTDIR, EEXIST, ENOTEMPTY, ELOOP, ENXIO, EACCES, EPERM, ESRCH, EINVAL } = errno
const { AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR } = atFlags

/** An open directory. Whatever becomes of its path, what is done in it is done there. */
export interface Directory extends Open {
  /** Whether its own descriptor has been read: then it is no more at the first name. */
  wasRead: boolean
}

/** What is open, with the system that it is open in: whoever has it needs nothing else. */
interface Open {
  readonly calls: Calls
  readonly descriptor: number
  /** What it was called when it was opened: for messages. */
  readonly path: string
}

/** For absolute paths. */
export const anywhere = (calls: Calls): Directory => ({ calls, descriptor: AT_FDCWD, path: '', wasRead: true })

const pathOf = (name: string, { path }: Directory): string => (path === '' ? name : `${path}/${name}`)

/** {@link answered}, of a call by a name. The path is for the message alone. */
const answeredAt = (
  answer: number,
  syscall: string,
  name: string,
  within: Directory,
  ...tolerated: number[]
): number => (answer >= 0 ? answer : answered(answer, syscall, pathOf(name, within), ...tolerated))

/** Runs `work`; where it throws one of `codes`, gives `otherwise` instead. */
export function tolerating<T, U>(codes: readonly string[], work: () => T, otherwise: U): T | U {
  try {
    return work()
  } catch (thrown) {
    if (codes.includes(errorCode(thrown) ?? '')) return otherwise
    throw thrown
  }
}

/** What a call says when there is no space or no right to write: a known client is not refused for these. */
export const cannotGrow = ['ENOSPC', 'EDQUOT', 'EROFS']

/** The directory that a path lies in, where the path has no `/` at its end. */
export const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/')) || '/'

/**
 * Opens a directory.
 * @param follow whether a link may lead to it.
 * @returns 'other' for what is no directory, or a link.
 */
export function openDirectory(
  name: string,
  within: Directory,
  follow: 'follow' | 'no link' = 'no link',
): Directory | 'absent' | 'other' {
  const { calls } = within
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = calls.flags
  const flags = O_RDONLY | O_DIRECTORY | (follow === 'follow' ? 0 : O_NOFOLLOW)
  const path = pathOf(name, within)
  const descriptor = answered(calls.openat(within.descriptor, name, flags, 0), 'open', path, ENOENT, ENOTDIR, ELOOP)
  if (descriptor >= 0) return { calls, descriptor, path, wasRead: false }
  return descriptor === -ENOENT ? 'absent' : 'other'
}

export const close = ({ calls, descriptor }: Directory): void => void calls.close(descriptor)

/** Owner and mode of an open directory. */
export function statusOf({ calls, descriptor, path }: Directory): Status {
  const status = calls.fstat(descriptor)
  if (typeof status === 'number') throw systemError(status, 'fstat', path)
  return status
}

/** Makes one directory. @returns false if something stands there already. */
export const makeDirectory = (name: string, within: Directory, mode = 0o700): boolean =>
  answeredAt(within.calls.mkdirat(within.descriptor, name, mode), 'mkdir', name, within, EEXIST) >= 0

/** Removes a directory that is empty. @returns whether it is gone. One call, however many entries it holds. */
export function removeIfEmpty(name: string, within: Directory): boolean {
  const answer = answeredAt(
    within.calls.unlinkat(within.descriptor, name, AT_REMOVEDIR),
    'rmdir',
    name,
    within,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    EEXIST,
  )
  return answer !== -ENOTEMPTY && answer !== -EEXIST
}

/** Removes a name. @returns false if it was not there. */
export const remove = (name: string, within: Directory): boolean =>
  answeredAt(within.calls.unlinkat(within.descriptor, name, 0), 'unlink', name, within, ENOENT, ENOTDIR) >= 0

/** Renames. @returns false if `from`, or the directory of `to`, is not there. */
export const move = (from: string, to: string, within: Directory, into = within): boolean =>
  answeredAt(
    within.calls.renameat(within.descriptor, from, into.descriptor, to),
    'rename',
    from,
    within,
    ENOENT,
    ENOTDIR,
  ) >= 0

/** Makes a symbolic link. @throws EEXIST if the name is taken. */
export const claimLink = (text: string, name: string, within: Directory): void =>
  void answeredAt(within.calls.symlinkat(text, within.descriptor, name), 'symlink', name, within)

/** Makes a symbolic link. @returns false if the name is taken. */
export const makeLink = (text: string, name: string, within: Directory): boolean =>
  answeredAt(within.calls.symlinkat(text, within.descriptor, name), 'symlink', name, within, EEXIST) >= 0

/** Makes a second name, of a link as of a file. @returns false if the name is taken, or there is nothing to name. */
export const makeHardLink = (existing: string, name: string, within: Directory, into: Directory): boolean =>
  answeredAt(
    within.calls.linkat(within.descriptor, existing, into.descriptor, name),
    'link',
    existing,
    within,
    EEXIST,
    ENOENT,
    ENOTDIR,
  ) >= 0

/** @returns a link's text; 'no link' for something else. */
export function linkAt(name: string, within: Directory): { readonly text: string } | 'absent' | 'no link' {
  const text = within.calls.readlinkat(within.descriptor, name)
  if (typeof text === 'string') return { text }
  return answeredAt(text, 'readlink', name, within, ENOENT, ENOTDIR, EINVAL) === -EINVAL ? 'no link' : 'absent'
}

/** @returns a link's text, or undefined if there is no link. */
export function readLink(name: string, within: Directory): string | undefined {
  const link = linkAt(name, within)
  return typeof link === 'object' ? link.text : undefined
}

/** What the kernel says of a name that is not there. */
export const missing = (path: string): Error => systemError(-ENOENT, 'readlink', path)

/** Of a name itself, be it a link. @returns undefined if it is not there. */
export function lookAtName(name: string, within: Directory): Status | undefined {
  const status = within.calls.fstatat(within.descriptor, name, AT_SYMLINK_NOFOLLOW)
  if (typeof status !== 'number') return status
  answeredAt(status, 'lstat', name, within, ENOENT, ENOTDIR)
  return undefined
}

/** {@link lookAtName}, as a text to compare. */
export function identityAt(name: string, within: Directory): string | undefined {
  const identity = within.calls.identityAt(within.descriptor, name)
  if (typeof identity === 'string') return identity
  answeredAt(identity, 'lstat', name, within, ENOENT, ENOTDIR)
  return undefined
}

/** What stands at a name, links followed. */
export function kindAt(name: string, within: Directory): 'absent' | 'directory' | 'other' {
  const status = within.calls.fstatat(within.descriptor, name, 0)
  if (typeof status !== 'number') return status.kind === 'directory' ? 'directory' : 'other'
  answeredAt(status, 'stat', name, within, ENOENT, ENOTDIR)
  return 'absent'
}

/** Whether a name leads to anything, as far as we may see. */
export const exists = (name: string, within: Directory): boolean =>
  typeof within.calls.fstatat(within.descriptor, name, 0) !== 'number'

/** @returns owner and mode of a directory that is not a link; 'other' for anything else. */
export function directoryAt(name: string, within: Directory): 'absent' | 'other' | Status {
  const status = lookAtName(name, within)
  return status === undefined ? 'absent' : status.kind === 'directory' ? status : 'other'
}

/**
 * Everything in a directory, as it is read: a directory may hold millions of names. Entries that come or go meanwhile
 * may be told or not; others are told once.
 */
export function* entriesOf(directory: Directory): Generator<DirectoryEntry> {
  for (const batch of batchesOf(directory)) yield* entriesIn(batch)
}

/** {@link entriesOf}, all at once: where few of them are wanted. */
export function allIn(directory: Directory, wanted: (entry: DirectoryEntry) => boolean): DirectoryEntry[] {
  const all: DirectoryEntry[] = []
  for (const batch of batchesOf(directory)) all.push(...entriesIn(batch).filter(wanted))
  return all
}

/** Names as the system's table tells those of a small directory. */
export const textOfNames = (entries: readonly DirectoryEntry[]): string =>
  entries.map(({ kind }) => kind[0] ?? '').join('') + entries.map(({ name }) => `/${name}`).join('')

/** {@link textOfNames} undone, of more than none. */
const entriesIn = (text: string): DirectoryEntry[] =>
  namesOf(text).map((name, at) => ({ name, kind: kinds[text.charAt(at)] ?? 'unknown' }))
const kinds: Readonly<Record<string, DirectoryEntry['kind']>> = { l: 'link', d: 'directory', o: 'other' }

/** The names alone. */
export const namesOf = (text: string): string[] => text.slice(text.indexOf('/') + 1).split('/')

/** All names in a small directory, of one moment; undefined for one that is not small. */
export function namesAtOnce(directory: Directory): string | undefined {
  const names = directory.calls.names(directory.descriptor, directory.wasRead)
  directory.wasRead = true
  if (typeof names === 'string') return names
  if (names === -E2BIG) return undefined
  // Another has removed it meanwhile: there is nothing in it.
  if (names === -ENOENT) return ''
  throw systemError(names, 'getdents', directory.path)
}

/** {@link entriesOf}, as they are read: texts of some at a time. */
export function* batchesOf(directory: Directory): Generator<string> {
  // A descriptor has one position in its directory, so a second reader opens its own. Most upcalls read once.
  const opened = directory.wasRead ? openDirectory('.', directory) : directory
  if (typeof opened !== 'object') return
  directory.wasRead = true
  try {
    for (;;) {
      const entries = opened.calls.entries(opened.descriptor)
      // Another has removed it meanwhile: there is nothing in it.
      if (entries === -ENOENT) return
      if (typeof entries === 'number') throw systemError(entries, 'getdents', directory.path)
      if (entries === '') return
      yield entries
    }
  } finally {
    if (opened !== directory) close(opened)
  }
}

/** The names in a directory by its name, links followed; none if it is not there. */
export function namesIn(name: string, within: Directory): string[] {
  const directory = openDirectory(name, within, 'follow')
  if (typeof directory !== 'object') return []
  try {
    return Array.from(entriesOf(directory), ({ name }) => name)
  } finally {
    close(directory)
  }
}

const othersMayWrite = 'another user owns it, or may write to it'

export type Small =
  | { readonly kind: 'absent' }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'other'; readonly why: string }

/**
 * Reads a regular file of ours of at most `limit` bytes, never following a link, never waiting for a pipe's other end.
 * A file that others own, or may write to, says nothing: the state directory itself may belong to another service.
 */
export function readSmallFile(name: string, limit: number, within: Directory): Small {
  const { calls } = within
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = calls.flags
  const path = pathOf(name, within)
  const opened = calls.openat(within.descriptor, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0)
  // An upcall has no capability to read what others don't let it read (host/confine.c).
  if (opened === -EACCES && lookAtName(name, within)?.uid !== calls.userId())
    return { kind: 'other', why: othersMayWrite }
  answered(opened, 'open', path, ENOENT, ENOTDIR, ELOOP, ENXIO)
  if (opened < 0)
    return opened === -ENOENT || opened === -ENOTDIR ? { kind: 'absent' } : { kind: 'other', why: 'not a regular file' }
  try {
    const status = calls.fstat(opened)
    if (typeof status === 'number') throw systemError(status, 'fstat', path)
    if (status.kind !== 'file') return { kind: 'other', why: 'not a regular file' }
    if (!isOursAlone(status, within)) return { kind: 'other', why: othersMayWrite }
    const text = calls.readText(opened, limit + 1)
    if (typeof text === 'number') throw systemError(text, 'read', path)
    return text.length > limit ? { kind: 'other', why: `longer than ${limit} bytes` } : { kind: 'text', text }
  } finally {
    calls.close(opened)
  }
}

/** Whether nobody else may write to it. */
export const isOursAlone = ({ uid, mode }: Status, { calls }: Directory): boolean =>
  uid === calls.userId() && (mode & 0o022) === 0

/**
 * The first bytes of a file of the system's, which hold all that is asked for here; undefined if it is not there for
 * us.
 */
export function beginningOf(path: string, { calls }: Directory): string | undefined {
  const opened = calls.openat(AT_FDCWD, path, calls.flags.O_RDONLY, 0)
  const descriptor = answered(opened, 'open', path, ENOENT, ENOTDIR, EACCES, EPERM)
  if (descriptor < 0) return undefined
  const text = calls.readText(descriptor, 512)
  calls.close(descriptor)
  if (typeof text === 'string') return text
  // A process may end between the two calls.
  answered(text, 'read', path, ESRCH)
  return undefined
}

/** Writes a new file. @returns false if the name is taken. */
export const writeNew = (name: string, text: string, within: Directory): boolean =>
  written(name, text, within, () => undefined)

/**
 * Writes a new file and syncs it: its content is durable, its name is not yet.
 * @returns false if the name is taken.
 */
export const writeSynced = (name: string, text: string, within: Directory): boolean =>
  written(name, text, within, syncDescriptor)

function written(name: string, text: string, within: Directory, finish: (written: Open) => void): boolean {
  const { calls } = within
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = calls.flags
  const path = pathOf(name, within)
  const descriptor = answered(
    calls.openat(within.descriptor, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600),
    'open',
    path,
    EEXIST,
  )
  if (descriptor < 0) return false
  try {
    writeWhole(calls, descriptor, bytesOf(text, calls.bytesInto), path)
    finish({ calls, descriptor, path })
  } finally {
    calls.close(descriptor)
  }
  return true
}

/** Writes all of it, as write(2) may not at once. */
export function writeWhole(calls: Calls, descriptor: number, bytes: Uint8Array, path: string): void {
  const { length } = bytes
  for (let written = 0; written < length;) {
    // A subarray takes as much as the rest of this.
    const rest = written === 0 ? bytes : bytes.subarray(written)
    const answer = calls.write(descriptor, rest)
    written += answer >= 0 ? answer : answered(answer, 'write', path)
  }
}

/** The barrier: every entry made in, or gone from, this directory before the call is so after a power cut. */
export const sync = (directory: Directory): void => {
  syncDescriptor(directory)
}

/** {@link sync}, by a name. A directory that is not there has no entries to keep. */
export function syncDirectory(name: string, within: Directory): void {
  const directory = openDirectory(name, within, 'follow')
  if (typeof directory !== 'object') return
  try {
    sync(directory)
  } finally {
    close(directory)
  }
}

/**
 * One attempt: after a failed fsync the kernel may have dropped what it could not write, and a second one would say 0
 * about nothing.
 */
const syncDescriptor = ({ calls, descriptor, path }: Open): void =>
  void answered(calls.fsync(descriptor), 'fsync', path)
