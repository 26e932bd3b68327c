/**
 * The file system as this program wants it: which answers of the kernel are no errors, said by name.
 *
 * Files are 0600 and directories 0700; the caller has set the umask so that these are exact.
 */
import { errorCode } from '../failure.ts'
import type { Entry } from '../system/calls.ts'
import { calls } from '../system/kernel.ts'
import { answered, errno, systemError } from '../system/errno.ts'
import { openFlags } from '../system/open-flags.ts'
import { bytesOf } from '../system/text.ts'

const { ENOENT, ENOTDIR, EEXIST, ENOTEMPTY, ELOOP, ENXIO, EACCES, ESRCH } = errno
const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = openFlags

/** Runs `work`; where it throws one of `codes`, gives `otherwise` instead. */
export function tolerating<T, U>(codes: readonly string[], work: () => T, otherwise: U): T | U {
  try {
    return work()
  } catch (thrown) {
    if (codes.includes(errorCode(thrown) ?? '')) return otherwise
    throw thrown
  }
}

/** What a call says when there is no room or no right to write: a known client is not refused for these. */
export const cannotGrow = ['ENOSPC', 'EDQUOT', 'EROFS']

/** The directory that a path lies in, where the path has no `/` at its end. */
export const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/')) || '/'

/** Makes one directory. @returns false if something stands there already. */
export const makeDirectory = (path: string): boolean => answered(calls.mkdir(path, 0o700), 'mkdir', path, EEXIST) >= 0

/** Removes a directory that is empty. @returns whether it is gone. One call, however many entries it holds. */
export function removeIfEmpty(path: string): boolean {
  const answer = answered(calls.rmdir(path), 'rmdir', path, ENOENT, ENOTDIR, ENOTEMPTY, EEXIST)
  return answer !== -ENOTEMPTY && answer !== -EEXIST
}

/** Removes a name. @returns false if it was not there. */
export const remove = (path: string): boolean => answered(calls.unlink(path), 'unlink', path, ENOENT, ENOTDIR) >= 0

/** Renames. @returns false if `from`, or the directory of `to`, is not there. */
export const move = (from: string, to: string): boolean => answered(calls.rename(from, to), 'rename', from, ENOENT, ENOTDIR) >= 0

/** Renames what is there for sure. @throws if it is not. */
export const replace = (from: string, to: string): void => void answered(calls.rename(from, to), 'rename', from)

/** Makes a symbolic link. @throws EEXIST if the name is taken. */
export const claimLink = (text: string, path: string): void => void answered(calls.symlink(text, path), 'symlink', path)

/** Makes a symbolic link. @returns false if the name is taken. */
export const makeLink = (text: string, path: string): boolean => answered(calls.symlink(text, path), 'symlink', path, EEXIST) >= 0

/** Makes a second name of a file. @returns false if the name is taken, or there is no file. */
export const makeHardLink = (existing: string, path: string): boolean =>
  answered(calls.link(existing, path), 'link', path, EEXIST, ENOENT, ENOTDIR) >= 0

/** @returns a link's text, or undefined if nothing is there. @throws EINVAL for what is no link. */
export function readLink(path: string): string | undefined {
  const text = calls.readlink(path)
  if (typeof text === 'string') return text
  answered(text, 'readlink', path, ENOENT, ENOTDIR)
  return undefined
}

/** When a name, be it a link, was last changed. @throws if it is not there. */
export function changedAt(path: string): Date {
  const status = calls.lstat(path)
  if (typeof status === 'number') throw systemError(status, 'lstat', path)
  return new Date(status.mtime * 1000)
}

/** What the kernel says of a name that is not there. */
export const missing = (path: string): Error => systemError(-ENOENT, 'readlink', path)

/** What stands at a path, links followed. */
export function kindAt(path: string): 'absent' | 'directory' | 'other' {
  const status = calls.stat(path)
  if (typeof status !== 'number') return status.kind === 'directory' ? 'directory' : 'other'
  answered(status, 'stat', path, ENOENT, ENOTDIR)
  return 'absent'
}

/** Whether a path leads to anything, as far as we may see. */
export const exists = (path: string): boolean => typeof calls.stat(path) !== 'number'

/** @returns the names in a directory, or none if it is not there. */
export const namesIn = (path: string): string[] => entriesAt(path).map(({ name }) => name)

/** {@link namesIn}, with what the directory tells of each: one look tells both. */
export function entriesAt(path: string): readonly Entry[] {
  const entries = calls.entries(path)
  if (typeof entries !== 'number') return entries
  answered(entries, 'open', path, ENOENT, ENOTDIR)
  return []
}

export const isLink = (path: string): boolean => typeof calls.readlink(path) === 'string'

/** @returns owner and mode of a directory that is not a link; 'other' for anything else. */
export function directoryAt(path: string): 'absent' | 'other' | { readonly uid: number; readonly mode: number } {
  const status = calls.lstat(path)
  if (typeof status !== 'number') return status.kind === 'directory' ? status : 'other'
  answered(status, 'lstat', path, ENOENT, ENOTDIR)
  return 'absent'
}

export type Small = { readonly kind: 'absent' } | { readonly kind: 'text'; readonly text: string } | { readonly kind: 'other'; readonly why: string }

/**
 * Reads a regular file of ours of at most `limit` bytes, never following a link, never waiting for a pipe's other end.
 * A file that others own, or may write to, says nothing: the state directory itself may belong to another service.
 */
export function readSmallFile(path: string, limit: number): Small {
  const opened = answered(calls.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0), 'open', path, ENOENT, ENOTDIR, ELOOP, ENXIO)
  if (opened < 0) return opened === -ENOENT || opened === -ENOTDIR ? { kind: 'absent' } : { kind: 'other', why: 'not a regular file' }
  try {
    const status = calls.fstat(opened)
    if (typeof status === 'number') throw systemError(status, 'fstat', path)
    if (status.kind !== 'file') return { kind: 'other', why: 'not a regular file' }
    if (status.uid !== process.geteuid?.() || (status.mode & 0o022) !== 0) return { kind: 'other', why: 'not ours alone to write' }
    const text = calls.readText(opened, limit + 1)
    if (typeof text === 'number') throw systemError(text, 'read', path)
    return text.length > limit ? { kind: 'other', why: `longer than ${limit} bytes` } : { kind: 'text', text }
  } finally {
    calls.close(opened)
  }
}

/** The first bytes of a file of the system's, which hold all that is asked for here; undefined if it is not there for us. */
export function beginningOf(path: string): string | undefined {
  const descriptor = answered(calls.open(path, O_RDONLY, 0), 'open', path, ENOENT, ENOTDIR, EACCES)
  if (descriptor < 0) return undefined
  const text = calls.readText(descriptor, 512)
  calls.close(descriptor)
  if (typeof text === 'string') return text
  // A process may end between the two calls.
  answered(text, 'read', path, ESRCH)
  return undefined
}

/**
 * Writes a new file and syncs it: its content is durable, its name is not yet.
 * @returns false if the name is taken.
 */
export function writeSynced(path: string, text: string): boolean {
  const descriptor = answered(calls.open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600), 'open', path, EEXIST)
  if (descriptor < 0) return false
  try {
    for (let rest = bytesOf(text); rest.length > 0; ) rest = rest.subarray(answered(calls.write(descriptor, rest), 'write', path))
    sync(descriptor, path)
  } finally {
    calls.close(descriptor)
  }
  return true
}

/**
 * The barrier: every entry made in, or gone from, this directory before the call is so after a power cut.
 * A directory that is not there has no entries to keep.
 */
export function syncDirectory(path: string): void {
  const descriptor = answered(calls.open(path, O_RDONLY | O_DIRECTORY, 0), 'open', path, ENOENT, ENOTDIR)
  if (descriptor < 0) return
  try {
    sync(descriptor, path)
  } finally {
    calls.close(descriptor)
  }
}

/**
 * One attempt: after a failed fsync the kernel may have dropped what it could not write, and a second one would say 0
 * about nothing.
 */
const sync = (descriptor: number, path: string): void => void answered(calls.fsync(descriptor), 'fsync', path)
