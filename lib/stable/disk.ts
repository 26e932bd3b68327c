/**
 * The one door to the file system, and the tolerances that the rest of this room names instead of catching.
 *
 * Only synchronous calls: each is one point at which a process can die, on one thread, in the order in which it is
 * written. Files are 0600 and directories 0700; the caller has set the umask so that these are exact.
 */
import { fs } from '../fs.ts'
import { errorCode } from '../failure.ts'

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = fs.constants

/** Runs `work`; where it throws one of `codes`, gives `otherwise` instead. */
export function tolerating<T, U>(codes: readonly string[], work: () => T, otherwise: U): T | U {
  try {
    return work()
  } catch (thrown) {
    if (codes.includes(errorCode(thrown) ?? '')) return otherwise
    throw thrown
  }
}

const absent = ['ENOENT', 'ENOTDIR']
/** What a call says when there is no room or no right to write: a known client is not refused for these. */
export const cannotGrow = ['ENOSPC', 'EDQUOT', 'EROFS']

/** Makes one directory. @returns false if something stands there already. */
export const makeDirectory = (path: string): boolean =>
  tolerating(['EEXIST'], () => (fs.mkdirSync(path, 0o700), true), false)

/** Removes a directory that is empty. @returns whether it is gone. One call, however many entries it holds. */
export const removeIfEmpty = (path: string): boolean =>
  tolerating(absent, () => tolerating(['ENOTEMPTY', 'EEXIST'], () => (fs.rmdirSync(path), true), false), true)

/** Removes a name. @returns false if it was not there. */
export const remove = (path: string): boolean => tolerating(absent, () => (fs.unlinkSync(path), true), false)

/** Renames. @returns false if `from`, or the directory of `to`, is not there. */
export const move = (from: string, to: string): boolean =>
  tolerating(absent, () => (fs.renameSync(from, to), true), false)

/** Makes a symbolic link. @returns false if the name is taken. */
export const makeLink = (text: string, path: string): boolean =>
  tolerating(['EEXIST'], () => (fs.symlinkSync(text, path), true), false)

/** Makes a second name of a file. @returns false if the name is taken, or there is no file. */
export const makeHardLink = (existing: string, path: string): boolean =>
  tolerating(['EEXIST', ...absent], () => (fs.linkSync(existing, path), true), false)

export const readLink = (path: string): string | undefined =>
  tolerating(absent, () => fs.readlinkSync(path), undefined)

/** What stands at a path, links followed. */
export const kindAt = (path: string): 'absent' | 'directory' | 'other' =>
  tolerating(absent, () => (fs.statSync(path).isDirectory() ? 'directory' : 'other'), 'absent')

export const exists = (path: string): boolean => fs.existsSync(path)

/** @returns the names in a directory, or none if it is not there. */
export const namesIn = (path: string): string[] => tolerating(absent, () => fs.readdirSync(path), [])

/** {@link namesIn}, each with whether it is a symbolic link: one look at the directory tells both. */
export function entriesIn(path: string): Map<string, boolean> {
  const entries = new Map<string, boolean>()
  const found = tolerating(absent, () => fs.readdirSync(path, { withFileTypes: true }), [])
  for (const entry of found) entries.set(entry.name, entry.isSymbolicLink())
  return entries
}

/** @returns owner and mode of a directory that is not a link; 'other' for anything else. */
export function directoryAt(path: string): 'absent' | 'other' | { readonly uid: number; readonly mode: number } {
  const stats = tolerating(absent, () => fs.lstatSync(path), undefined)
  if (stats === undefined) return 'absent'
  return stats.isDirectory() ? { uid: stats.uid, mode: stats.mode & 0o7777 } : 'other'
}

export type Small = { readonly kind: 'absent' } | { readonly kind: 'text'; readonly text: string } | { readonly kind: 'other'; readonly why: string }

/**
 * Reads a regular file of ours of at most `limit` bytes, never following a link, never waiting for a pipe's other end.
 * A file that others own, or may write to, says nothing: the state directory itself may belong to another service.
 */
export function readSmallFile(path: string, limit: number): Small {
  const opened = tolerating(
    [...absent, 'ELOOP', 'ENXIO'],
    () => fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK),
    undefined,
  )
  if (opened === undefined)
    return tolerating(absent, () => fs.lstatSync(path), undefined) === undefined
      ? { kind: 'absent' }
      : { kind: 'other', why: 'not a regular file' }
  try {
    const stats = fs.fstatSync(opened)
    if (!stats.isFile()) return { kind: 'other', why: 'not a regular file' }
    if (stats.uid !== process.geteuid?.() || (stats.mode & 0o022) !== 0) return { kind: 'other', why: 'not ours alone to write' }
    const buffer = Buffer.allocUnsafe(limit + 1)
    const length = fs.readSync(opened, buffer, 0, limit + 1, null)
    if (length > limit) return { kind: 'other', why: `longer than ${limit} bytes` }
    return { kind: 'text', text: buffer.toString('latin1', 0, length) }
  } finally {
    fs.closeSync(opened)
  }
}

/**
 * Writes a new file and syncs it: its content is durable, its name is not yet.
 * @returns false if the name is taken.
 */
export function writeSynced(path: string, text: string): boolean {
  const descriptor = tolerating(['EEXIST'], () => fs.openSync(path, O_WRONLY | O_CREAT | O_EXCL, 0o600), undefined)
  if (descriptor === undefined) return false
  try {
    const bytes = Buffer.from(text)
    for (let written = 0; written < bytes.length; ) written += fs.writeSync(descriptor, bytes, written)
    sync(descriptor, path)
  } finally {
    fs.closeSync(descriptor)
  }
  return true
}

/**
 * The barrier: every entry made in, or gone from, this directory before the call is so after a power cut.
 * A directory that is not there has no entries to keep.
 */
export function syncDirectory(path: string): void {
  const descriptor = tolerating(absent, () => fs.openSync(path, O_RDONLY | O_DIRECTORY), undefined)
  if (descriptor === undefined) return
  try {
    sync(descriptor, path)
  } finally {
    fs.closeSync(descriptor)
  }
}

/**
 * One attempt: after a failed fsync the kernel may have dropped what it could not write, and a second one would say 0
 * about nothing. fsync(2) knows no path, people need one.
 */
function sync(descriptor: number, path: string): void {
  try {
    fs.fsyncSync(descriptor)
  } catch (thrown) {
    throw Object.assign(new Error('fsync failed'), { code: errorCode(thrown), syscall: 'fsync', path })
  }
}
