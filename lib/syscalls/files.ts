/**
 * The file operations of this program, each named by what it tolerates: an errno that is expected is a return value,
 * every other one is thrown.
 *
 * A name is looked up in an open directory, or is an absolute path. Files are made with mode 0600 and directories with
 * 0700. The caller must have set a umask that changes neither.
 */
import { bytesOf, type Spelled } from '../bytes.ts'
import { errorCode } from '../failure.ts'
import { quote } from '../text.ts'
import { atFlags, type Calls, type DirectoryEntry, type Status } from './calls.ts'
import { answered, errno, systemError } from './errno.ts'

const { E2BIG, ENOENT, ENOTDIR, EEXIST, ENOTEMPTY, ELOOP, ENXIO, EACCES, EPERM, ESRCH, EINVAL } = errno
const { AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR } = atFlags

/** An open directory. It stays the same directory, even if its path is renamed or replaced. */
export interface Directory extends Open {
  /** Whether its descriptor was read: then its position is no longer at the first name. */
  wasRead: boolean
}

/** An open file or directory, together with the table of calls. */
interface Open {
  readonly calls: Calls
  readonly descriptor: number
  /** The path by which it was opened, for messages. */
  readonly path: string
}

/** For absolute paths. */
export const anywhere = (calls: Calls): Directory => ({ calls, descriptor: AT_FDCWD, path: '', wasRead: true })

const pathOf = (name: string, { path }: Directory): string => (path === '' ? name : `${path}/${name}`)

/** {@link answered}, for a call that takes a name. The path is made only for the error. */
function answeredAt(answer: number, syscall: string, name: string, within: Directory, ...tolerated: number[]): number {
  if (answer < 0 && !tolerated.includes(-answer)) throw systemError(answer, syscall, pathOf(name, within))
  return answer
}

/** Returns what `work` returns, or `otherwise` if it throws one of `codes`. */
export function tolerating<T, U>(codes: readonly string[], work: () => T, otherwise: U): T | U {
  try {
    return work()
  } catch (thrown) {
    if (codes.includes(errorCode(thrown) ?? '')) return otherwise
    throw thrown
  }
}

/** The errors of a full or read-only disk. A known client must not be refused because of them. */
export const cannotGrow = ['ENOSPC', 'EDQUOT', 'EROFS']

/** The parent directory of a path, which must not end with `/`. */
export const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/')) || '/'

/**
 * Opens a directory.
 * @param follow whether a symbolic link is followed.
 * @returns 'other' for anything but a directory, such as a link that is not followed.
 */
export function openDirectory(
  name: string,
  within: Directory,
  follow: 'follow' | 'no link' = 'no link',
): Directory | 'absent' | 'other' {
  const { calls } = within
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = calls.flags
  const flags = O_RDONLY | O_DIRECTORY | (follow === 'follow' ? 0 : O_NOFOLLOW)
  const descriptor = calls.openat(within.descriptor, name, flags, 0)
  if (descriptor >= 0) return { calls, descriptor, path: pathOf(name, within), wasRead: false }
  return answeredAt(descriptor, 'open', name, within, ENOENT, ENOTDIR, ELOOP) === -ENOENT ? 'absent' : 'other'
}

export const close = ({ calls, descriptor }: Directory): void => void calls.close(descriptor)

/** Owner and mode of an open directory. */
export function statusOf({ calls, descriptor, path }: Directory): Status {
  const status = calls.fstat(descriptor)
  if (typeof status === 'number') throw systemError(status, 'fstat', path)
  return status
}

/** Makes one directory. @returns false if the name is taken. */
export const makeDirectory = (name: string, within: Directory, mode = 0o700): boolean =>
  answeredAt(within.calls.mkdirat(within.descriptor, name, mode), 'mkdir', name, within, EEXIST) >= 0

/** Removes a directory if it is empty: one call, however many entries it holds. @returns whether it is gone. */
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

/** Renames. @returns false if `from`, or the directory of `to`, does not exist. */
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

/**
 * Replaces a symbolic link in one step: a process that is killed never leaves less than was there.
 * @param staged a temporary name
 */
export function replaceLink(text: string, name: string, staged: string, within: Directory): void {
  remove(staged, within)
  makeLink(text, staged, within)
  move(staged, name, within)
}

/**
 * Makes a hard link to a file or a symbolic link. @returns false if the name is taken, or `existing` does not exist.
 */
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

/** @returns the text of a symbolic link; 'no link' for anything else. */
export function linkAt(name: string, within: Directory): { readonly text: string } | 'absent' | 'no link' {
  const text = within.calls.readlinkat(within.descriptor, name)
  if (typeof text === 'string') return { text }
  return answeredAt(text, 'readlink', name, within, ENOENT, ENOTDIR, EINVAL) === -EINVAL ? 'no link' : 'absent'
}

/** @returns the text of a symbolic link, or undefined for anything else. */
export function readLink(name: string, within: Directory): string | undefined {
  const link = linkAt(name, within)
  return typeof link === 'object' ? link.text : undefined
}

/** The error for a name that does not exist. */
export const missing = (path: string): Error => systemError(-ENOENT, 'readlink', path)

/** The status of a name, links not followed. @returns undefined if it does not exist. */
export function lookAtName(name: string, within: Directory): Status | undefined {
  const status = within.calls.fstatat(within.descriptor, name, AT_SYMLINK_NOFOLLOW)
  if (typeof status !== 'number') return status
  answeredAt(status, 'lstat', name, within, ENOENT, ENOTDIR)
  return undefined
}

/** The same as a text to compare: see `identityAt` in calls.ts. */
export function identityAt(name: string, within: Directory): string | undefined {
  const identity = within.calls.identityAt(within.descriptor, name)
  if (typeof identity === 'string') return identity
  answeredAt(identity, 'lstat', name, within, ENOENT, ENOTDIR)
  return undefined
}

/** What a name leads to, links followed. */
export function kindAt(name: string, within: Directory): 'absent' | 'directory' | 'other' {
  const status = within.calls.fstatat(within.descriptor, name, 0)
  if (typeof status !== 'number') return status.kind === 'directory' ? 'directory' : 'other'
  answeredAt(status, 'stat', name, within, ENOENT, ENOTDIR)
  return 'absent'
}

/** Whether a name leads to anything that we have the right to see. */
export const exists = (name: string, within: Directory): boolean =>
  typeof within.calls.fstatat(within.descriptor, name, 0) !== 'number'

/** @returns the status of a directory; 'other' for anything else, such as a link to one. */
export function directoryAt(name: string, within: Directory): 'absent' | 'other' | Status {
  const status = lookAtName(name, within)
  return status === undefined ? 'absent' : status.kind === 'directory' ? status : 'other'
}

/**
 * Every entry of a directory, one batch in memory at a time: a directory may hold millions. Entries that are made or
 * removed meanwhile may be missing; every other one comes once.
 */
export function* entriesOf(directory: Directory): Generator<DirectoryEntry> {
  for (const batch of batchesOf(directory)) yield* entriesIn(batch)
}

/** The entries of a directory that are wanted, which must be few. */
export function allIn(directory: Directory, wanted: (entry: DirectoryEntry) => boolean): DirectoryEntry[] {
  const all: DirectoryEntry[] = []
  for (const batch of batchesOf(directory)) all.push(...entriesIn(batch).filter(wanted))
  return all
}

/** Entries as one text, in the format of `names` in calls.ts. */
export const textOfNames = (entries: readonly DirectoryEntry[]): string =>
  entries.map(({ kind }) => kind[0] ?? '').join('') + entries.map(({ name }) => `/${name}`).join('')

/** Reverses {@link textOfNames}. There must be at least one entry. */
const entriesIn = (text: string): DirectoryEntry[] =>
  namesOf(text).map((name, at) => ({ name, kind: kinds[text.charAt(at)] ?? 'unknown' }))
const kinds: Readonly<Record<string, DirectoryEntry['kind']>> = { l: 'link', d: 'directory', o: 'other' }

/** The names in such a text. */
export const namesOf = (text: string): string[] => text.slice(text.indexOf('/') + 1).split('/')

/** A consistent snapshot of all names but one in a small directory; undefined for a directory that is not small. */
export function namesAtOnce(directory: Directory, except: string): string | undefined {
  const names = directory.calls.names(directory.descriptor, directory.wasRead, except)
  directory.wasRead = true
  if (typeof names === 'string') return names
  if (names === -E2BIG) return undefined
  // Another has removed it meanwhile: there is nothing in it.
  if (names === -ENOENT) return ''
  throw systemError(names, 'getdents', directory.path)
}

/** Every entry of a directory, as texts in the format of `names`, one batch a text. */
const batchesOf = (directory: Directory): Generator<string> => {
  const { calls } = directory
  return readBy((descriptor) => {
    const text = calls.entries(descriptor)
    return text === '' ? undefined : text
  }, directory)
}

/**
 * Every entry of a directory, one batch at a time, and what `links` of the table of calls finds of it. It is read by a
 * descriptor of its own: that is closed even if the caller wants no more, and then nothing is read ahead.
 * @param links that call, or another that does more.
 */
export const linksOf = (
  directory: Directory,
  patterns: string,
  mark: string,
  links: Calls['links'],
): Generator<Spelled> => readBy((descriptor) => links(descriptor, patterns, mark), { ...directory, wasRead: true })

/** @param next returns undefined at the end. */
function* readBy<Batch extends string | Spelled>(
  next: (descriptor: number) => Batch | number | undefined,
  directory: Directory,
): Generator<Batch> {
  // A descriptor has one position in its directory, so a second reader opens its own. Most upcalls read once.
  const opened = directory.wasRead ? openDirectory('.', directory) : directory
  if (typeof opened !== 'object') return
  directory.wasRead = true
  try {
    for (;;) {
      const entries = next(opened.descriptor)
      // Another has removed it meanwhile: there is nothing in it.
      if (entries === -ENOENT) return
      if (typeof entries === 'number') throw systemError(entries, 'getdents', directory.path)
      if (entries === undefined) return
      yield entries
    }
  } finally {
    if (opened !== directory) close(opened)
  }
}

/** The names in the directory that `name` leads to, links followed; none if there is no such directory. */
export function namesIn(name: string, within: Directory): string[] {
  const directory = openDirectory(name, within, 'follow')
  if (typeof directory !== 'object') return []
  try {
    const names: string[] = []
    for (const batch of batchesOf(directory)) names.push(...namesOf(batch))
    return names
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
 * Reads a regular file that only we can write, of at most `limit` bytes. It follows no link, and never waits for the
 * other end of a pipe. A file that others can write is not read, because the state directory itself may belong to
 * another service.
 */
export function readSmallFile(name: string, limit: number, within: Directory): Small {
  const { calls } = within
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = calls.flags
  const path = pathOf(name, within)
  const opened = calls.openat(within.descriptor, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0)
  // An upcall has dropped the capability to read files that their owner does not let it read (host/confine.c).
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

/** Whether only we can write to it. */
export const isOursAlone = ({ uid, mode }: Status, { calls }: Directory): boolean =>
  uid === calls.userId() && (mode & 0o022) === 0

/**
 * Opens a regular file that only we can write.
 * @param how O_RDONLY or O_RDWR
 * @returns -EPERM for any other file; or as open(2)
 */
export function openOurs(path: string, within: Directory, how = within.calls.flags.O_RDONLY): number {
  const { calls } = within
  const { O_NOFOLLOW, O_NONBLOCK } = calls.flags
  const descriptor = calls.openat(within.descriptor, path, how | O_NOFOLLOW | O_NONBLOCK, 0)
  if (descriptor < 0) return descriptor
  const status = calls.fstat(descriptor)
  if (typeof status === 'object' && status.kind === 'file' && isOursAlone(status, within)) return descriptor
  calls.close(descriptor)
  return -EPERM
}

/** Why nothing in a directory counts; undefined if only we can write to it. */
export function whyNotOurs(path: string, status: Status, within: Directory): string | undefined {
  if (isOursAlone(status, within)) return undefined
  return (status.mode & 0o022) === 0
    ? `${quote(path)} belongs to another user (${status.uid}), so nothing in it counts`
    : `${quote(path)} is writable by others, so nothing in it counts`
}

/** {@link whyNotOurs} by name, links not followed; undefined if it does not exist. */
export function whyNotOursAt(path: string, within: Directory): string | undefined {
  const status = lookAtName(path, within)
  if (status === undefined) return undefined
  return status.kind === 'directory' ? whyNotOurs(path, status, within) : `${quote(path)} is not a directory`
}

/** The first 512 bytes of a file such as /proc/PID/stat; undefined if it does not exist, or we must not read it. */
export function beginningOf(path: string, { calls }: Directory): string | undefined {
  const descriptor = calls.openat(AT_FDCWD, path, calls.flags.O_RDONLY, 0)
  if (descriptor < 0) {
    answered(descriptor, 'open', path, ENOENT, ENOTDIR, EACCES, EPERM, ESRCH)
    return undefined
  }
  const text = calls.readText(descriptor, 512)
  calls.close(descriptor)
  if (typeof text === 'string') return text
  // Between the two calls a process may end, and close the descriptor of which an entry in fdinfo tells (proc(5)).
  answered(text, 'read', path, ESRCH, ENOENT)
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

/** Writes all bytes, by more than one write(2) if one does not take them all. */
export function writeWhole(calls: Calls, descriptor: number, bytes: Uint8Array, path: string): void {
  const { length } = bytes
  for (let written = 0; written < length;) {
    // Most often one write is enough. Making a subarray would double the work of this function.
    const rest = written === 0 ? bytes : bytes.subarray(written)
    const answer = calls.write(descriptor, rest)
    written += answer >= 0 ? answer : answered(answer, 'write', path)
  }
}

/**
 * The barrier: every entry that was made in this directory, or removed from it, before the call stays so after a power
 * cut.
 */
export const sync = (directory: Directory): void => {
  syncDescriptor(directory)
}

/** {@link sync} by name. It does nothing if there is no such directory. */
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
 * Tried once only: after a failed fsync the kernel may have dropped the data that it could not write, so a second fsync
 * could return 0 although they are lost.
 */
function syncDescriptor({ calls, descriptor, path }: Open): void {
  const answer = calls.fsync(descriptor)
  if (answer < 0) throw systemError(answer, 'fsync', path)
}
