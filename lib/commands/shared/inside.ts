/**
 * Works on files of a system below a root. That may be the image of another system, made by an attacker.
 *
 * No path leads out of the root. Absolute links and `..` mean what they would mean in the system below the root:
 * openat2(2) calls that RESOLVE_IN_ROOT. Node has no openat2. So each component is opened through the descriptor of the
 * directory that contains it. A link is never followed: its text is read, and its components are opened in turn. A
 * directory stays open while work is done in it, so nobody can replace it by a link meanwhile.
 */
import fs from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { errorCode, Failed, storageFailure } from '../../failure.ts'
import { tolerating } from '../../syscalls/files.ts'
import { nodePath } from './print.ts'

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = fs.constants

/** The root. It stays open as long as the program runs. */
export interface Root {
  /** The path as it was given. */
  readonly path: string
  readonly descriptor: number
}

/**
 * An open directory below a root. Paths and names are bytes, as everywhere in this program; the root's path is as it
 * was typed.
 */
export interface Directory {
  readonly descriptor: number
  /** Its path in the system below the root, without links. */
  readonly path: string
  /**
   * The path by which calls reach an entry of this very directory. The entry may be a link, so the path must not be
   * followed.
   */
  readonly entry: (name: string) => Buffer
}

/** The kernel's own limit (ELOOP). */
const mostLinks = 40

export function openRoot(path: string): Root {
  const descriptor = opened(path, 'follow')
  if (typeof descriptor === 'string')
    throw new Failed({ kind: 'bad-argument', why: 'there is no such directory to be the root of a system', word: path })
  if (!fs.existsSync(byDescriptor(descriptor)))
    throw storageFailure('directories are held by /proc/self/fd, and there is none: mount /proc')
  return { path, descriptor }
}

/** `make`: missing directories are made, readable for all. */
type Missing = 'make' | 'leave'

/**
 * Runs `work` in the directory at `path` of the system below the root.
 * @returns what `work` returns; undefined, if there is no such directory
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
  /** Called with each directory on the way, the root and the last one included. */
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

/** @returns the open directory of that name, or the text of the link; undefined, if it is neither */
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

/** Whether a path of the system below the root leads to anything, with links followed. */
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
 * Opens an entry of a directory for reading, and runs `work` on it. It neither follows a link nor waits for the other
 * end of a pipe.
 * @returns undefined, if nothing is there; 'other' for a link, a socket, and anything else that can't be opened this
 * way
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

/** The content of a regular file; 'other' for anything else. */
export const bytesIn = (directory: Directory, name: string): Buffer | 'other' | undefined =>
  inEntry(directory, name, (descriptor) => (fs.fstatSync(descriptor).isFile() ? fs.readFileSync(descriptor) : 'other'))

/**
 * The directories that decide where a path leads, from `/` down to the path itself, if it is a directory; each with its
 * owner and mode.
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

/** Opens a directory. A link is refused, unless it is the root's own name. */
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

/** The text of a link; undefined for anything else, or if nothing is there. */
const linkText = (path: Buffer): string | undefined =>
  tolerating(['EINVAL', 'ENOENT'], () => fs.readlinkSync(path, 'buffer').toString('latin1'), undefined)

/** Readable for all: the caller has set the umask. Another process may have made it first. */
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

/** Makes an error name the path that a person knows, and not a descriptor. */
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
