/**
 * Files of a system that lies below a root, which may be another system's image, made by somebody who is not our
 * friend.
 *
 * No path leads out of the root. Absolute links and `..` are taken as the system below the root would take them: what
 * openat2(2) calls RESOLVE_IN_ROOT. Node has no openat2. So each component is opened by the descriptor of the directory
 * that it lies in, and never followed if it is a link: the link's text is read, and walked in turn. A directory that
 * was reached stays open while it is worked in, so nobody can exchange it for a link meanwhile.
 */
import fs from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { errorCode, Failed, storageFailure } from '../../failure.ts'
import { tolerating } from '../../syscalls/files.ts'
import { nodePath } from './print.ts'

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = fs.constants

/** The root, held open for as long as the program runs. */
export interface Root {
  /** As it was named. */
  readonly path: string
  readonly descriptor: number
}

/**
 * A directory below a root, held open. Paths and names are bytes, as everywhere in this program; the root's is as it
 * was typed.
 */
export interface Directory {
  readonly descriptor: number
  /** Where it is in the system below the root, without links. */
  readonly path: string
  /**
   * The path by which calls reach an entry of this very directory. The entry itself may be a link: it must not be
   * followed.
   */
  readonly entry: (name: string) => Buffer
}

/** What the kernel allows (ELOOP). */
const mostLinks = 40

export function openRoot(path: string): Root {
  const descriptor = opened(path, 'follow')
  if (typeof descriptor === 'string')
    throw new Failed({ kind: 'bad-argument', why: 'there is no such directory to be the root of a system', word: path })
  if (!fs.existsSync(byDescriptor(descriptor)))
    throw storageFailure('directories are held by /proc/self/fd, and there is none: mount /proc')
  return { path, descriptor }
}

/** `make`: directories that are missing are made, for all to read. */
type Missing = 'make' | 'leave'

/**
 * Works in the directory at `path` of the system below the root.
 * @returns what `work` returns; undefined where there is no such directory.
 */
export const inDirectory = <T>(
  root: Root,
  path: string,
  missing: Missing,
  work: (directory: Directory) => T,
): T | undefined => walked({ root, path, missing }, work)

interface Way {
  readonly root: Root
  readonly path: string
  readonly missing: Missing
  /** Is told each directory that is passed, the root and the last one included. */
  readonly pass?: (directory: Directory) => void
}

function walked<T>({ root, path, missing, pass }: Way, work: (directory: Directory) => T): T | undefined {
  const top = directoryAt(root.descriptor, '/')
  const below: Directory[] = []
  const close = (directories: readonly Directory[]): void => {
    for (const { descriptor } of directories) fs.closeSync(descriptor)
  }
  let links = 0
  try {
    let here = top
    pass?.(top)
    for (let rest = componentsOf(path); rest.length > 0; here = below.at(-1) ?? top) {
      const [name = '', ...after] = rest
      rest = after
      if (name === '..') {
        // The parent of the root is the root.
        close(below.splice(-1))
        continue
      }
      const found = stepTo(name, here, missing)
      if (found === undefined) return undefined
      if (typeof found === 'object') {
        below.push(found)
        pass?.(found)
        continue
      }
      if (++links > mostLinks) throw systemError('ELOOP', here.entry(name))
      if (found.startsWith('/')) close(below.splice(0))
      rest = [...componentsOf(found), ...rest]
    }
    return work(here)
  } catch (thrown) {
    throw named(thrown, root, [top, ...below])
  } finally {
    close(below)
  }
}

/** @returns the directory of that name, open, or the text of the link; undefined, where it is neither. */
function stepTo(name: string, here: Directory, missing: Missing): Directory | string | undefined {
  const at = here.entry(name)
  let found = opened(at)
  if (found === 'absent' && missing === 'make') {
    makeDirectory(at)
    found = opened(at)
  }
  if (typeof found === 'number') return directoryAt(found, join(here.path, name))
  const text = linkText(at)
  if (text === undefined && missing === 'make') throw systemError('ENOTDIR', at)
  return text
}

/** Whether a path of the system below the root leads to anything there, links followed. */
export function existsBelow(root: Root, path: string, links = 0): boolean {
  const found = inDirectory(root, dirname(path), 'leave', (directory) => {
    const at = directory.entry(basename(path))
    const text = linkText(at)
    if (text === undefined) return fs.existsSync(at)
    return text.startsWith('/') ? text : `${directory.path}/${text}`
  })
  return typeof found === 'string' ? links < mostLinks && existsBelow(root, found, links + 1) : (found ?? false)
}

/**
 * Works on an entry of a directory, opened for reading; a link is not followed, nor the other end of a pipe waited for.
 * @returns undefined if nothing is there; 'other' for a link, a socket, and what can't be opened so.
 */
export function inEntry<T>(
  directory: Directory,
  name: string,
  work: (descriptor: number) => T,
): T | 'other' | undefined {
  const open = (): number => fs.openSync(directory.entry(name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  const descriptor = tolerating(['ENOENT'], () => tolerating(['ELOOP', 'ENXIO'], open, 'other'), undefined)
  if (typeof descriptor !== 'number') return descriptor === undefined ? undefined : 'other'
  try {
    return work(descriptor)
  } finally {
    fs.closeSync(descriptor)
  }
}

/** The content of a regular file; 'other' for anything else that is there. */
export const bytesIn = (directory: Directory, name: string): Buffer | 'other' | undefined =>
  inEntry(directory, name, (descriptor) => (fs.fstatSync(descriptor).isFile() ? fs.readFileSync(descriptor) : 'other'))

/**
 * The directories that decide where a path leads, from `/` down to itself if it is one; each with its owner and mode.
 */
export function directoriesOnTheWay(path: string): { readonly path: string; readonly stats: fs.Stats }[] {
  const seen = new Map<string, fs.Stats>()
  const pass = ({ path: at, descriptor }: Directory): void => {
    seen.set(at, fs.fstatSync(descriptor))
  }
  walked({ root: openRoot('/'), path, missing: 'leave', pass }, () => undefined)
  return [...seen].map(([at, stats]) => ({ path: at, stats }))
}

const componentsOf = (path: string): string[] => path.split('/').filter((name) => name !== '' && name !== '.')

const byDescriptor = (descriptor: number): string => `/proc/self/fd/${descriptor}`

const directoryAt = (descriptor: number, path: string): Directory => ({
  descriptor,
  path,
  entry: (name) => nodePath(`${byDescriptor(descriptor)}/${name}`),
})

/** A directory, opened; not if it is a link, unless it is the root's own name. */
function opened(path: string | Buffer, follow: 'follow' | 'no link' = 'no link'): number | 'absent' | 'no directory' {
  try {
    return fs.openSync(path, O_RDONLY | O_DIRECTORY | (follow === 'follow' ? 0 : O_NOFOLLOW))
  } catch (thrown) {
    const code = errorCode(thrown)
    if (code === 'ENOENT') return 'absent'
    if (code === 'ENOTDIR' || code === 'ELOOP') return 'no directory'
    throw thrown
  }
}

/** The text of a link; undefined for anything else, and for nothing. */
const linkText = (path: Buffer): string | undefined =>
  tolerating(['EINVAL', 'ENOENT'], () => fs.readlinkSync(path, 'buffer').toString('latin1'), undefined)

/** For all to read: the caller has set the umask. Somebody may have been faster. */
const makeDirectory = (path: Buffer): void => {
  tolerating(
    ['EEXIST'],
    () => {
      fs.mkdirSync(path, 0o755)
    },
    undefined,
  )
}

const systemError = (code: string, path: Buffer): Error =>
  Object.assign(new Error(code), { code, syscall: 'open', path: path.toString() })

/** An error speaks of the path that a person knows, not of a descriptor. */
function named(thrown: unknown, root: Root, way: readonly Directory[]): unknown {
  if (!(thrown instanceof Error) || !('path' in thrown) || typeof thrown.path !== 'string') return thrown
  const { path } = thrown
  const directory = way.findLast(({ descriptor }) => path.startsWith(`${byDescriptor(descriptor)}/`))
  return directory === undefined
    ? thrown
    : Object.assign(thrown, {
        path: join(root.path, directory.path, path.slice(byDescriptor(directory.descriptor).length)),
      })
}
